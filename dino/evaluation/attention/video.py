"""Videos in and out, through OpenCV; animated GIFs are written by Pillow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dino.data.decode import CorruptImage, decode
from dino.data.folder import EXTENSIONS
from dino.errors import UserError
from dino.files import atomic_path

VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif")
_CODECS = {".mp4": "mp4v", ".avi": "XVID"}
OUTPUT_EXTENSIONS = (*_CODECS, ".gif")
DEFAULT_FPS = 25.0


class FrameSource:
    """The frames of a video file or of a folder of images in the order of their names, (H, W, 3) RGB each."""

    def __init__(self, path: Path) -> None:
        """Look at ``path``.

        Raises:
            UserError: It is no video that can be decoded here, or a folder without images.
        """
        self.path = path
        self.skipped: list[str] = []
        """Messages on frames that could not be read, complete after the iteration."""
        self.fps = DEFAULT_FPS
        self._files: list[Path] | None = None
        if path.is_dir():
            self._files = image_files(path)
            self.frames = len(self._files)
            return
        capture = _open(path)
        try:
            if not capture.isOpened():
                raise UserError(
                    f"{path}: OpenCV here cannot decode it as a video (damaged, or an unknown codec); give a folder of "
                    "its frames as images instead"
                )
            fps = float(capture.get(cv2.CAP_PROP_FPS))
            self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS
            self.frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            """As far as the file says."""
        finally:
            capture.release()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        if self._files is not None:
            for file in self._files:
                try:
                    yield decode(file)
                except CorruptImage as error:
                    self.skipped.append(str(error))
            return
        capture = _open(self.path)
        decoded = 0
        try:
            while True:
                good, frame = capture.read()
                if not good:
                    if decoded < self.frames:
                        self.skipped.append(f"{self.path}: only {decoded} of its {self.frames} frames can be decoded")
                    return
                decoded += 1
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        finally:
            capture.release()


def _open(path: Path) -> cv2.VideoCapture:
    # What FFmpeg has to say of a broken file is said in our own words.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    return cv2.VideoCapture(str(path))


def image_files(folder: Path) -> list[Path]:
    """The images directly in ``folder``, by name.

    Raises:
        UserError: There are none.
    """
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )
    if not files:
        raise UserError(f"{folder}: no images in it ({', '.join(EXTENSIONS)})")
    return files


def check_output(path: Path) -> None:
    """Refuse a video file that cannot be written.

    Raises:
        UserError: Its extension is none of those known.
    """
    if path.suffix.lower() not in OUTPUT_EXTENSIONS:
        raise UserError(f"--video-output {path}: unknown kind of video; use {', '.join(OUTPUT_EXTENSIONS)}")


class VideoWriter:
    """Frames of one size to a video file, whole or absent. A context manager.

    An MP4 or AVI needs even sides: the last odd row or column is left out.
    """

    def __init__(self, path: Path, *, fps: float) -> None:
        self.path, self.fps = path, fps
        self._stack = contextlib.ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._gif: list[Image.Image] = []
        self.written = 0

    def __enter__(self) -> VideoWriter:
        self._temporary = self._stack.enter_context(atomic_path(self.path))
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.release()
        if self._gif and exception[0] is None:
            first, *rest = self._gif
            milliseconds = max(20, round(1000 / self.fps))  # browsers slow down faster ones
            first.save(self._temporary, save_all=True, append_images=rest, duration=milliseconds, loop=0)
        self._stack.__exit__(*exception)  # type: ignore[arg-type]

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame (h, w, 3) RGB.

        Raises:
            UserError: OpenCV here has no encoder for this kind of file.
        """
        self.written += 1
        if self.path.suffix.lower() == ".gif":
            self._gif.append(Image.fromarray(frame).quantize(128))
            return
        height, width = (side - side % 2 for side in frame.shape[:2])
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*_CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._temporary), codec, self.fps, (width, height))
            if not self._writer.isOpened():
                raise UserError(f"{self.path}: OpenCV here cannot write this kind of video; use a .gif")
        self._writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))

"""Sequences of a folder in DAVIS 2017's layout (paper.md, C.7).

    JPEGImages/480p/<sequence>/00000.jpg     Annotations/480p/<sequence>/00000.png     ImageSets/2017/<split>.txt

Without any list in ``ImageSets/2017`` all sequences of the folder are taken. Frames have any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dino.data.folder import listing_digest
from dino.errors import UserError, suggest
from dino.evaluation.data_folders import find_data_folder
from dino.evaluation.davis.masks import Mask, MaskCode, SequenceDefect, read_mask
from dino.registry import load_registry

RESOLUTION = "480p"


@dataclass(frozen=True)
class Video:
    """The files of one sequence; either may be missing."""

    name: str
    frames: dict[str, Path]
    """Stem (``00000``) -> image, in order."""
    annotations: dict[str, Path]
    """Stem -> mask, in order."""

    @property
    def scored(self) -> list[str]:
        """Stems that count: the annotated ones but the first and the last."""
        return list(self.annotations)[1:-1]

    def first_mask(self) -> tuple[Mask, MaskCode]:
        """The first annotation, (H, W) with object numbers, and what the numbers of all annotations mean.

        Raises:
            SequenceDefect: There are too few annotations, or the first is unreadable or shows no object.
        """
        if len(self.annotations) < 3:
            raise SequenceDefect(
                f"{len(self.annotations)} annotations: the first and the last do not count, so at least 3 are needed"
            )
        path = next(iter(self.annotations.values()))
        raw = read_mask(path)
        code = MaskCode.of(raw)
        if not code.objects:
            raise SequenceDefect(f"{path}: the first annotation shows no object")
        return code.annotation(raw), code

    def check_frames(self) -> None:
        """Refuse a sequence that masks cannot be propagated through.

        Raises:
            SequenceDefect: An annotated frame is missing, or the first frame has no annotation.
        """
        if not self.frames:
            raise SequenceDefect("no frames")
        first = next(iter(self.frames))
        if first not in self.annotations:
            raise SequenceDefect(f"no mask of its first frame {first}")
        missing = [stem for stem in self.annotations if stem not in self.frames]
        if missing:
            raise SequenceDefect(f"{len(missing)} annotated frames are missing (the first: {missing[0]}.jpg)")


@dataclass(frozen=True)
class DavisSet:
    """The sequences of an evaluation."""

    name: str
    root: Path
    version: str
    split: str
    """The list that was read; "" where there are none."""
    videos: list[Video]

    def digest(self, names: Sequence[str]) -> str:
        """Sixteen hex digits of relative path and size of the files of the sequences ``names``."""
        chosen = [video for video in self.videos if video.name in names]
        files = [path for video in chosen for path in (*video.frames.values(), *video.annotations.values())]
        return listing_digest(self.root, sorted(str(path.relative_to(self.root)) for path in files))


def find_videos(data: str, *, split: str = "val", sequences: Sequence[str] | None = None) -> DavisSet:
    """The sequences of a registered set or a folder.

    Args:
        data: A registered name, or a folder.
        split: A list in ``ImageSets/2017``, or what the registry calls it (``test``).
        sequences: Only these, of the whole folder; None is the split.

    Raises:
        UserError: The set, the split or a sequence is not there.
    """
    folder = find_data_folder(data, layout="davis")
    annotations = folder.root / "Annotations" / RESOLUTION
    if not annotations.is_dir():
        raise UserError(f"{folder.root} is not in DAVIS 2017's layout: it has no folder Annotations/{RESOLUTION}")
    spec = load_registry().get(data)
    split = spec.splits.get(split, split) if spec is not None else split
    there = sorted(path.name for path in annotations.iterdir() if path.is_dir())
    if sequences is not None:
        unknown = [name for name in sequences if name not in there]
        if unknown:
            raise UserError(f"{annotations}: no sequence '{unknown[0]}'{suggest(unknown[0], there)}")
        names, read_split = list(dict.fromkeys(sequences)), ""
    else:
        listed = _read_list(folder.root, split)
        names, read_split = (there, "") if listed is None else (listed, split)
    if not names:
        raise UserError(f"{annotations}: no sequences in it")
    return DavisSet(
        name=folder.name,
        root=folder.root,
        version=folder.version,
        split=read_split,
        videos=[_find_video(folder.root, name) for name in names],
    )


def _find_video(root: Path, name: str) -> Video:
    return Video(
        name=name,
        frames=_files(root / "JPEGImages" / RESOLUTION / name, (".jpg", ".jpeg")),
        annotations=_files(root / "Annotations" / RESOLUTION / name, (".png",)),
    )


def _files(folder: Path, extensions: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in extensions)
    return {path.stem: path for path in found if not path.name.startswith(".")}


def _read_list(root: Path, split: str) -> list[str] | None:
    """Names in the split's list; None where the folder has no lists at all."""
    folder = root / "ImageSets" / "2017"
    lists = sorted(path.stem for path in folder.glob("*.txt"))
    if not lists:
        return None
    if split not in lists:
        raise UserError(f"{folder}: no list '{split}.txt'{suggest(split, lists)} (there are: {', '.join(lists)})")
    names = (folder / f"{split}.txt").read_text(encoding="utf-8").split()
    return list(dict.fromkeys(names))

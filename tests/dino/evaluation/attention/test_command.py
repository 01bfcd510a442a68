from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dino.cli import main
from dino.evaluation.attention.video import FrameSource

NETWORK = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "8", "--image-size", "32"]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return small.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def write_image(path: Path, height: int = 40, width: int = 60, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width, seed)).save(path)
    return path


def attention(source: Path, folder: Path, *arguments: str) -> int:
    return main(["attention", *NETWORK, "--input", str(source), "--output-dir", str(folder), *arguments])


def index_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "index.json").read_text())


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_image_gives_maps_masks_montage_and_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, folder = write_image(tmp_path / "cat.png"), tmp_path / "out"
    assert attention(source, folder, "--overlay", "--contours") == 0
    shown = ["head-0", "head-1", "head-2", "head-3", "mean"]
    names = {"input", "overlay", "montage", *shown, *(f"mask-{name}" for name in shown)}
    assert files_in(folder) == {"index.json", *(f"cat/{name}.png" for name in names)}
    for name in names - {"montage"}:
        assert Image.open(folder / "cat" / f"{name}.png").size == (32, 32), name
    index = index_of(folder)
    (entry,) = index["images"]
    assert {Path(name).stem for name in entry["pictures"]} == names
    assert (entry["original"], entry["input"], entry["grid"]) == ([40, 60], [32, 32], [4, 4])
    assert all(0 < row[0] < 1 for row in entry["mass_on_patches"])
    assert index["checkpoint"]["path"] == "random"
    assert index["settings"]["threshold"] == 0.6
    assert "1 images in" in capsys.readouterr().out


def test_some_images_of_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        write_image(tmp_path / "set" / "test" / "ab"[number // 3] / f"{number % 3}.png", seed=number)
    command = ["attention", *NETWORK, "--data", str(tmp_path / "set"), "--images", "2", "--heads", "mean"]
    assert main([*command, "--threshold", "0", "--output-dir", str(tmp_path / "out")]) == 0
    index = index_of(tmp_path / "out")
    assert [entry["folder"] for entry in index["images"]] == ["01-0", "02-0"]  # a/0.png and b/0.png
    shown = [np.asarray(Image.open(tmp_path / "out" / name / "input.png")) for name in ("01-0", "02-0")]
    assert (shown[0] != shown[1]).any()
    assert main([*command, "--video-output", str(tmp_path / "v.gif")]) == 2
    assert "leave out --video-output" in capsys.readouterr().err


def test_heads_and_masks_as_asked_for(tmp_path: Path) -> None:
    source = write_image(tmp_path / "cat.png")
    assert attention(source, tmp_path / "a", "--heads", "2,0", "--threshold", "0", "--keep-aspect") == 0
    assert files_in(tmp_path / "a") == {
        "index.json",
        *(f"cat/{n}.png" for n in ("input", "head-2", "head-0", "montage")),
    }
    assert index_of(tmp_path / "a")["images"][0]["grid"] == [4, 6]
    assert attention(source, tmp_path / "b", "--heads", "mean") == 0
    assert {"cat/mean.png", "cat/mask-mean.png"} < files_in(tmp_path / "b")
    assert "cat/head-0.png" not in files_in(tmp_path / "b")


def test_a_mask_shows_the_image_where_the_attention_is(tmp_path: Path) -> None:
    source, folder = write_image(tmp_path / "cat.png"), tmp_path / "out"
    assert attention(source, folder, "--threshold", "0.5", "--heads", "1", "--cmap", "gray") == 0
    image, heat, mask = (
        np.asarray(Image.open(folder / "cat" / f"{name}.png")).astype(int)
        for name in ("input", "head-1", "mask-head-1")
    )
    dimmed = (np.abs(mask - 0.6 * image) <= 0.5).all(axis=2)[::8, ::8]
    brightness = heat[::8, ::8, 0]
    assert 0 < (~dimmed).sum() <= 8  # at most half of 16 patches hold half of the mass
    assert brightness[~dimmed].min() >= brightness[dimmed].max()


def test_reference_points(tmp_path: Path) -> None:
    source, folder = write_image(tmp_path / "cat.png"), tmp_path / "out"
    assert attention(source, folder, "--points", "10,10", "50%,50%", "--overlay") == 0
    names = {"input", "points", "overlay", "montage"}
    names |= {f"{kind}point-{number}-mean" for kind in ("", "mask-") for number in (1, 2)}
    assert files_in(folder) == {"index.json", *(f"cat/{name}.png" for name in names)}
    assert index_of(folder)["images"][0]["query"] == ["10,10", "50%,50%"]
    maps = [(folder / "cat" / f"point-{number}-mean.png").read_bytes() for number in (1, 2)]
    assert maps[0] != maps[1]
    assert attention(source, tmp_path / "heads", "--points", "10,10", "--heads", "0,1") == 0
    assert {"cat/point-1-head-0.png", "cat/point-1-head-1.png"} < files_in(tmp_path / "heads")


def test_a_folder_counts_what_it_skips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, folder = tmp_path / "images", tmp_path / "out"
    image = Image.open(write_image(source / "plain.png"))
    image.convert("L").save(source / "grey.jpg")
    image.convert("CMYK").save(source / "cmyk.jpg")
    Image.fromarray(noise(40, 60)[..., 0].astype(np.uint16) * 257).save(source / "deep.png")
    image.save(source / "plain.jpg")  # the same stem twice
    write_image(source / "tiny.png", 5, 5)
    cut = write_image(source / "cut.png")
    cut.write_bytes(cut.read_bytes()[:80])
    (source / "none.jpg").write_bytes(b"text")
    assert attention(source, folder, "--heads", "mean") == 0
    index = index_of(folder)
    assert [entry["folder"] for entry in index["images"]] == ["cmyk", "deep", "grey", "plain.jpg", "plain.png"]
    assert len(index["skipped"]) == 3
    assert any("tiny.png: 5x5 pixels, smaller than one patch (8 pixels)" in message for message in index["skipped"])
    assert "5 images in" in (said := capsys.readouterr().out)
    assert "3 skipped" in said


def test_frames_become_a_video_and_a_video_can_be_read(tmp_path: Path) -> None:
    for number in range(5):
        write_image(tmp_path / "frames" / f"{number:05}.png", 40, 60, seed=number)
    (tmp_path / "frames" / "00001.png").write_bytes(b"damaged")
    for name in ("v.mp4", "v.gif", "v.avi"):
        folder = tmp_path / Path(name).suffix[1:]
        assert attention(tmp_path / "frames", folder, "--video-output", str(tmp_path / name), "--fps", "10") == 0
        index = index_of(folder)
        assert (index["video"]["frames"], index["video"]["fps"], len(index["skipped"])) == (4, 10, 1)
        assert files_in(folder) == {"index.json", "frames-frames.png"}
        frames = list(FrameSource(tmp_path / name))
        assert [frame.shape for frame in frames] == [(32, 48, 3)] * 4, name
    assert FrameSource(tmp_path / "v.mp4").fps == pytest.approx(10)
    assert attention(tmp_path / "v.mp4", tmp_path / "again", "--overlay", "--max-frames", "2") == 0
    assert len(list(FrameSource(tmp_path / "again" / "v-attention.mp4"))) == 2


def test_a_video_shows_the_mean_of_the_heads(tmp_path: Path) -> None:
    write_image(tmp_path / "frames" / "0.png", 32, 32)
    assert (
        attention(tmp_path / "frames", tmp_path / "v", "--video-output", str(tmp_path / "v.gif"), "--cmap", "gray") == 0
    )
    assert attention(tmp_path / "frames" / "0.png", tmp_path / "i", "--heads", "mean", "--cmap", "gray") == 0
    still = np.asarray(Image.open(tmp_path / "i" / "0" / "mean.png")).astype(int)
    (frame,) = FrameSource(tmp_path / "v.gif")
    assert np.abs(frame.astype(int) - still).max() <= 4  # a palette of 128 greys


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--heads", "9"], "--heads: no head 9; this network has 4 (0 to 3)"),
        (["--heads", "some"], "write all, mean, or numbers"),
        (["--threshold", "60"], "a share of the attention's mass"),
        (["--cmap", "infreno"], "no colour map 'infreno'; did you mean 'inferno'?"),
        (["--points", "100,10"], "cat.png: the point 100,10 is outside its 60 x 40 pixels"),
        (["--image-size", "4"], "--image-size 4 is smaller than a patch of 8 pixels"),
        (["--fps", "3"], "--fps and --max-frames are for videos"),
        (["--video-output", "v.mp4"], "needs a video or a folder of frames"),
        (["--arch", "resnet_nano"], "is a resnet_nano, which has no attention to draw"),
        (["--arch", "vit_big"], "no architecture"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    source, folder = write_image(tmp_path / "cat.png"), tmp_path / "out"
    assert attention(source, folder, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error or (message == "no architecture" and "vit_big" in error)
    assert len(error.strip().splitlines()) == 1
    assert not folder.exists() or not files_in(folder)


def test_inputs_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    cut = write_image(tmp_path / "cut.png")
    cut.write_bytes(cut.read_bytes()[:80])
    frames = tmp_path / "frames"
    write_image(frames / "tiny.png", 5, 5)
    out = tmp_path / "out"
    for source, message, extra in (
        (tmp_path / "gone.png", "no such image", []),
        (tmp_path / "notes.txt", "neither an image", []),
        (tmp_path / "broken.mp4", "cannot decode it as a video", []),
        (tmp_path / "empty", "no images in it", []),
        (cut, "cut.png", []),
        (frames, "none of its 1 images can be used", []),
        (frames, "no frame of it can be used", ["--video-output", str(tmp_path / "v.mp4")]),
        (frames, "unknown kind of video", ["--video-output", str(tmp_path / "v.wmv")]),
    ):
        assert attention(source, out, *extra) == 2, source
        assert message in capsys.readouterr().err
    assert not out.exists() or not files_in(out)
    assert not list(tmp_path.glob("*v.*"))


def test_frames_of_another_shape_are_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "frames" / "0.png", 40, 60)
    write_image(tmp_path / "frames" / "1.png", 60, 40)
    write_image(tmp_path / "frames" / "2.png", 40, 60)
    assert attention(tmp_path / "frames", tmp_path / "v", "--video-output", str(tmp_path / "v.mp4")) == 0
    index = index_of(tmp_path / "v")
    assert index["video"]["frames"] == 2
    assert index["skipped"] == ["frame 1: (60, 40) pixels, another shape than the first"]


def test_a_video_that_is_cut_short_gives_the_frames_it_has(tmp_path: Path) -> None:
    for number in range(6):
        write_image(tmp_path / "frames" / f"{number}.png", 40, 60, seed=number)
    avi = tmp_path / "v.avi"
    assert attention(tmp_path / "frames", tmp_path / "whole", "--video-output", str(avi)) == 0
    avi.write_bytes(avi.read_bytes()[: avi.stat().st_size * 3 // 4])
    assert attention(avi, tmp_path / "cut") == 0
    index = index_of(tmp_path / "cut")
    assert 0 < index["video"]["frames"] < 6
    assert index["skipped"] == [f"{avi}: only {index['video']['frames']} of its 6 frames can be decoded"]


def test_odd_sides_lose_a_row_in_an_mp4(tmp_path: Path) -> None:
    network = ["--checkpoint", "random", "--arch", "vit_nano", "--patch-size", "5", "--image-size", "25"]
    write_image(tmp_path / "frames" / "0.png", 30, 42)
    command = ["attention", *network, "--input", str(tmp_path / "frames"), "--output-dir", str(tmp_path / "v")]
    assert main([*command, "--video-output", str(tmp_path / "v.mp4")]) == 0
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    good, frame = capture.read()
    capture.release()
    assert good
    assert frame.shape == (24, 34, 3)


@pytest.mark.reference
def test_real_images(reference_data: Path, tmp_path: Path) -> None:
    assert (
        attention(reference_data / "voc" / "JPEGImages", tmp_path / "voc", "--heads", "mean", "--threshold", "0") == 0
    )
    index = index_of(tmp_path / "voc")
    assert len(index["images"]) == 6
    assert index["skipped"] == []

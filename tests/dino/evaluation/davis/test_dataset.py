from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dino.errors import UserError
from dino.evaluation.davis.dataset import find_videos
from dino.evaluation.davis.masks import SequenceDefect, write_mask


def test_the_split_decides_and_its_registered_name_too(davis_folder: Path) -> None:
    davis = find_videos(str(davis_folder))
    assert ([video.name for video in davis.videos], davis.split, davis.name) == (["alpha", "beta"], "val", "davis")
    assert [video.name for video in find_videos(str(davis_folder), split="train").videos] == ["beta"]
    assert davis.videos[0].scored == ["00001", "00002", "00003"]


def test_all_sequences_where_there_is_no_list(davis_folder: Path) -> None:
    shutil.rmtree(davis_folder / "ImageSets")
    davis = find_videos(str(davis_folder), split="val")
    assert ([video.name for video in davis.videos], davis.split) == (["alpha", "beta"], "")


def test_named_sequences_come_from_the_whole_folder(davis_folder: Path) -> None:
    davis = find_videos(str(davis_folder), split="train", sequences=["alpha", "alpha"])
    assert [video.name for video in davis.videos] == ["alpha"]


def test_digest_follows_the_files(davis_folder: Path) -> None:
    davis = find_videos(str(davis_folder))
    both, one = davis.digest(["alpha", "beta"]), davis.digest(["alpha"])
    assert both != one
    write_mask(davis_folder / "Annotations" / "480p" / "alpha" / "00002.png", np.zeros((64, 96), np.uint8))
    assert find_videos(str(davis_folder)).digest(["alpha"]) != one


def test_mistakes_name_the_way_out(davis_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no list 'vla.txt' \(did you mean 'val'\?\)|no list 'vla.txt'.*val"):
        find_videos(str(davis_folder), split="vla")
    with pytest.raises(UserError, match=r"no sequence 'alpa'.*alpha"):
        find_videos(str(davis_folder), sequences=["alpa"])
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="no folder Annotations/480p"):
        find_videos(str(tmp_path / "other"))
    with pytest.raises(UserError, match="neither a registered data set"):
        find_videos(str(tmp_path / "nowhere"))


def test_sequences_that_cannot_be_used_say_why(davis_folder: Path) -> None:
    annotations = davis_folder / "Annotations" / "480p" / "alpha"
    frames = davis_folder / "JPEGImages" / "480p" / "alpha"

    def alpha():  # type: ignore[no-untyped-def]
        return find_videos(str(davis_folder), sequences=["alpha"]).videos[0]

    (frames / "00003.jpg").unlink()
    with pytest.raises(SequenceDefect, match=r"1 annotated frames are missing \(the first: 00003.jpg\)"):
        alpha().check_frames()
    (annotations / "00003.png").unlink()
    alpha().check_frames()
    write_mask(annotations / "00000.png", np.zeros((64, 96), np.uint8))
    with pytest.raises(SequenceDefect, match="00000.png: the first annotation shows no object"):
        alpha().first_mask()
    (annotations / "00000.png").unlink()
    with pytest.raises(SequenceDefect, match="no mask of its first frame 00000"):
        alpha().check_frames()
    (annotations / "00001.png").unlink()
    with pytest.raises(SequenceDefect, match="2 annotations: the first and the last do not count"):
        alpha().first_mask()
    shutil.rmtree(frames)
    with pytest.raises(SequenceDefect, match="no frames"):
        alpha().check_frames()

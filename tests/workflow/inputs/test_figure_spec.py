"""The keys ``figure`` and ``pictures`` of a study: what they may say, and mistakes by line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from dino.errors import UserError
from workflow.inputs.studies import Study, load_study

STUDY = """\
title: A study
paper: Fig. 5
base: vits16_300ep
metrics: [knn.top1, throughput.im_per_s, knn_curve.smallest_gap]
figure: {kind: scatter, x: throughput.im_per_s, y: knn.top1, log_x: true, join: arch}
pictures:
  heads: {title: Heads, paper: Fig. 1, of: small, draw: attention, dataset: voc12, set: {images: 3}}
variants:
  small:
    label: ViT-S/16
  large:
    label: ViT-B/16
    set: {arch: vit_base}
  other:
    label: Other
    quoted: true
    published: {knn.top1: 50}
"""


def read(tmp_path: Path, old: str = "", new: str = "") -> Study:
    assert not old or STUDY.count(old) == 1
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY.replace(old, new) if old else STUDY, encoding="utf-8")
    return load_study(path)


def test_a_scatter_and_a_picture_are_read(tmp_path: Path):
    study = read(tmp_path)
    assert (study.figure.x, study.figure.y, study.figure.join) == ("throughput.im_per_s", ["knn.top1"], "arch")
    assert study.pictures["heads"].set == {"images": 3}


def test_a_word_is_the_kind_and_points_are_the_default(tmp_path: Path, studies: dict[str, Study]):
    line = STUDY.splitlines()[4]
    assert read(tmp_path, line, "figure: bars").figure.kind == "bars"
    assert read(tmp_path, line, "").figure.kind == "points"
    kinds = {name: study.figure.kind for name, study in studies.items()}
    assert set(kinds.values()) == {"points", "bars", "scatter", "curves"}
    assert (kinds["collapse"], kinds["teacher_curves"], kinds["patch_size"]) == ("curves", "curves", "scatter")


def test_curves_are_of_the_journal_or_of_an_evaluation_by_epoch(tmp_path: Path):
    line = STUDY.splitlines()[4]
    assert read(tmp_path, line, "figure: {kind: curves, y: [pretrain.loss, pretrain.kl]}").figure.y
    assert read(tmp_path, line, "figure: {kind: curves, y: knn_curve.teacher_eK}").figure.y == ["knn_curve.teacher_eK"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: scatter", "kind: scater", "line 5: 'figure.kind': "),
        ("x: throughput.im_per_s, ", "", "line 5: 'figure': a scatter needs 'x'"),
        ("x: throughput.im_per_s", "x: throughput.im_per_sec", "did you mean 'throughput.im_per_s'"),
        ("y: knn.top1", "y: knn.top5", "unknown metric 'knn.top5' in figure.y.0"),
        ("kind: scatter", "kind: bars", "line 5: 'figure.x': only a scatter has it"),
        ("join: arch", "join: archi", "unknown configuration field 'archi' in figure.join; did you mean 'arch'"),
        ("log_x: true", "logx: true", "unknown key 'logx' in figure; did you mean 'log_x'"),
        (STUDY.splitlines()[4], "figure: curves", "curves need 'y'"),
        (STUDY.splitlines()[4], "figure: {kind: curves, y: pretrain.los}", "did you mean 'pretrain.loss'"),
        (
            STUDY.splitlines()[4],
            "figure: {kind: curves, y: [pretrain.loss, knn_curve.teacher_eK]}",
            "quantities of one evaluation",
        ),
        ("of: small", "of: smal", "line 7: unknown variant 'smal' in pictures.heads.of; did you mean 'small'"),
        ("of: small", "of: other", "unknown variant 'other'"),
        ("dataset: voc12", "dataset: voc2012", "unknown data set 'voc2012'"),
        ("images: 3", "image: 3", "unknown key 'image' in pictures.heads.set; did you mean 'images'"),
        ("draw: attention", "draw: attentions", "line 7: 'pictures.heads.draw'"),
        ("  heads:", "  Heads:", "a picture's name may hold a-z, 0-9 and _ only"),
    ],
)
def test_mistakes_name_line_and_key(tmp_path: Path, old: str, new: str, message: str):
    with pytest.raises(UserError) as caught:
        read(tmp_path, old, new)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_how_a_figure_is_drawn_makes_its_artefacts_stale(tmp_path: Path):
    assert read(tmp_path).digest() != read(tmp_path, "log_x: true, ", "").digest()

"""Studies: the shipped ones hold the paper's numbers, and every mistake names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from dino.errors import UserError
from workflow.inputs.studies import Study, load_study

STUDY = """\
title: A study
paper: App. D
base: vits16_100ep
metrics: [knn.top1]
variants:
  cold:
    label: "0.02"
    set: {teacher_temp: 0.02, warmup_teacher_temp: null}
    published: {knn.top1: 66.7}
  warm:
    label: warm
claims:
  - {say: warm is better, check: warm.knn.top1 > cold.knn.top1, source: App. D}
"""


def mistake(tmp_path: Path, old: str, new: str) -> str:
    assert STUDY.count(old) == 1
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_study(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(f"{path}, ", "")


def published(study) -> dict[str, float]:
    return {variant.label: variant.published["knn.top1"] for variant in study.variants.values() if variant.published}


def test_shipped_studies_hold_the_published_numbers(studies: dict[str, Study]):
    assert published(studies["teacher"]) == {
        "Student copy": 0.1,
        "Previous iteration": 0.1,
        "Previous epoch": 66.6,
        "Momentum": 72.8,
    }
    assert published(studies["teacher_temperature"]) == {
        "0": 43.9,
        "0.02": 66.7,
        "0.04": 69.6,
        "0.06": 68.7,
        "0.08": 0.1,
        "0.04 → 0.07": 69.7,
    }
    assert published(studies["center_momentum"]) == {"0": 69.1, "0.9": 69.7, "0.99": 69.4, "0.999": 0.1}


def test_constant_temperatures_have_no_warm_up(project_root: Path):
    variants = load_study(project_root / "ablations" / "teacher_temperature.yaml").variants
    assert [name for name, variant in variants.items() if variant.set.get("warmup_teacher_temp", 0) is not None] == [
        "warm",
        "random",
    ]


def test_study_keeps_the_order_of_its_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(STUDY, encoding="utf-8")
    study = load_study(path)
    assert list(study.variants) == ["cold", "warm"]
    assert study.name == "mine"
    assert study.evaluations == ["knn"]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("title:", "titel:", 1, ["'titel'", "did you mean 'title'"]),
        ("label: warm", "lable: warm", 11, ["'lable'", "variants.warm", "did you mean 'label'"]),
        ("teacher_temp: 0.02,", "teacher_tmp: 0.02,", 8, ["'teacher_tmp'", "did you mean 'teacher_temp'"]),
        ("teacher_temp: 0.02,", "teacher_temp: warm,", 8, ["variants.cold.set.teacher_temp", "'warm'"]),
        ("teacher_temp: 0.02,", "epochs: 5,", 8, ["variants.cold.set", "warmup_epochs (10) exceeds epochs (5)"]),
        ("teacher_temp: 0.02,", "seed: 3,", 8, ["variants.cold.set.seed", "--config seeds=N"]),
        ("base: vits16_100ep", "base: vits16_10ep", 3, ["recipe 'vits16_10ep'", "did you mean 'vits16_100ep'"]),
        ("[knn.top1]", "[knn.tpo1]", 4, ["metric 'knn.tpo1'", "did you mean 'knn.top1'"]),
        ("[knn.top1]", "[kmn.top1]", 4, ["metric 'kmn.top1'", "did you mean 'knn.top1'"]),
        ("{knn.top1: 66.7}", "{knn.top5: 66.7}", 9, ["metric 'knn.top5'", "did you mean 'knn.top1'"]),
        ("{knn.top1: 66.7}", "{knn.top1: much}", 9, ["variants.cold.published.knn.top1", "'much'"]),
        ("{knn.top1: 66.7}", "{knn.top1: .nan}", 9, ["variants.cold.published.knn.top1", "finite"]),
        ('label: "0.02"', "label: 0.02", 7, ["variants.cold.label", 'in quotes: "0.02"']),
        ("    label: warm\n", "    {}\n", 10, ["variants.warm", "'label' is missing"]),
        ("  warm:\n", "  cold:\n", 10, ["variants.cold", "twice"]),
        ("  warm:\n", "  off:\n", 10, ["variants.off", "quotes"]),
        ("  warm:\n", "  Warm one:\n", 10, ["Warm one", "a-z"]),
        ("  warm:\n", "  chance:\n", 10, ["chance", "claims"]),
        ("warm.knn.top1 >", "warn.knn.top1 >", 13, ["claims.0.check", "'warn'", "did you mean 'warm'"]),
        ("warm.knn.top1 >", "warm.knn.top5 >", 13, ["claims.0.check", "knn.top5"]),
        ("warm.knn.top1 >", "(warm.knn.top1 >", 13, ["claims.0.check"]),
        ("source: App. D}", "sauce: App. D}", 13, ["'sauce'", "claims.0", "did you mean 'source'"]),
        ("paper: App. D\n", "paper: App. D\nreference: wam\n", 3, ["variant 'wam'", "did you mean 'warm'"]),
        ("paper: App. D\n", "paper: App. D\naxis: teacher_tem\n", 3, ["'teacher_tem'", "did you mean 'teacher_temp'"]),
        ("paper: App. D\n", "paper: App. D\ntolerance: {knn.top: 1}\n", 3, ["'knn.top'", "did you mean 'knn.top1'"]),
        ("paper: App. D\n", "paper: App. D\nname: other\n", 3, ["unknown key 'name'"]),
        ("metrics: [knn.top1]", "metrics: [knn.top1", 5, ["not readable as YAML"]),
    ],
)
def test_mistake_names_line_and_key(tmp_path: Path, old: str, new: str, line: int, words: list[str]):
    message = mistake(tmp_path, old, new)
    assert message.startswith(f"line {line}: "), message
    for word in words:
        assert word in message


def test_misspelling_is_reported_rather_than_the_key_that_it_leaves_missing(tmp_path: Path):
    assert "unknown key 'titel'" in mistake(tmp_path, "title:", "titel:")


def test_study_file_needs_a_name_that_claims_and_paths_can_hold(tmp_path: Path):
    path = tmp_path / "My study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    with pytest.raises(UserError, match=r"My study.*file name"):
        load_study(path)


def test_digest_follows_what_is_shown_and_not_how_it_is_written(tmp_path: Path):
    path = tmp_path / "mine.yaml"

    def digest(text: str) -> str:
        path.write_text(text, encoding="utf-8")
        return load_study(path).digest()

    first = digest(STUDY)
    assert digest("# a comment\n" + STUDY.replace("{knn.top1: 66.7}", "{knn.top1:   66.70}")) == first
    assert digest(STUDY.replace("label: warm", "label: Warm")) != first
    assert digest(STUDY.replace("66.7", "66.8")) != first
    assert digest(STUDY.replace("warm is better", "warm is best")) != first

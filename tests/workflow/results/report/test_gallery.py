from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import fake_metrics
import numpy as np
import pytest
from fake_runs import PROJECT
from PIL import Image

from dino.errors import UserError
from workflow.planning.plan import Plan, make_plan
from workflow.results.report.gallery import WIDEST, study_images
from workflow.results.summary import summarise


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(scale="laptop", studies=["pictures", "architectures"], root=PROJECT, assume_data=True)


@pytest.fixture
def folder(plan: Plan, tmp_path: Path) -> Path:
    """``results/laptop`` with all runs, and figures that stand for drawn ones."""
    fake_metrics.write_metrics(tmp_path, plan)
    folder = tmp_path / "results" / "laptop"
    for name in ("pictures", "pictures-curves", "architectures"):
        write_picture(folder / "figures" / f"{name}.png", 40)
    return folder


def write_picture(path: Path, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (20, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def size_of(image: dict[str, str]) -> tuple[int, int]:
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


def captions(plan: Plan, study: str, folder: Path) -> list[str]:
    return [image["caption"] for image in study_images(summarise(plan, study, results=folder), folder)]


def test_training_curves_stand_only_where_something_is_trained(plan: Plan, folder: Path):
    assert [text.split(":")[0] for text in captions(plan, "architectures", folder)] == ["Networks"]
    assert "training. A teacher entropy of 0" in captions(plan, "pictures", folder)[1]


def test_pictures_that_were_drawn_are_shown_at_the_pages_width(plan: Plan, folder: Path):
    drawn = folder / "pictures" / "pictures"
    for name in ("01-a", "02-b"):
        write_picture(drawn / "heads" / name / "montage.png", 2 * WIDEST)
    entries = [{"image": f"{name}.png", "folder": name} for name in ("01-a", "02-b")]
    (drawn / "heads" / "index.json").write_text(json.dumps({"images": entries}))
    write_picture(drawn / "classes.png", 300)
    images = study_images(summarise(plan, "pictures", results=folder), folder)[2:]
    assert [image["caption"].split(" (")[1] for image in images] == [
        "Figs. 1, 10): 01-a.png.",
        "Figs. 1, 10): 02-b.png.",
        "Fig. 11).",
    ]
    assert [size_of(image) for image in images] == [(WIDEST, 10), (WIDEST, 10), (300, 20)]


def test_an_index_that_cannot_be_read_is_named(plan: Plan, folder: Path):
    path = folder / "pictures" / "pictures" / "heads" / "index.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"images": [{"image": "a.png"}]}')
    with pytest.raises(UserError, match=r"heads/index.json: no index of pictures"):
        captions(plan, "pictures", folder)


def test_figures_that_are_not_there_are_drawn(plan: Plan, folder: Path):
    (folder / "figures" / "pictures-curves.png").unlink()
    (folder / "figures" / "pictures.png").unlink()
    assert len(captions(plan, "pictures", folder)) == 2
    assert (folder / "figures" / "pictures-curves.pdf").is_file()
    assert (folder / "figures" / "pictures.pdf").is_file()

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dino.errors import UserError
from dino.evaluation.copydetect.descriptors import Square, descriptor, gem, learn_whitening
from dino.evaluation.copydetect.protocol import DEPTH, mean_ap
from dino.evaluation.features.whole_images import ImageList, Running, extract_list
from dino.evaluation.scoring.average_precision import average_precision
from dino.models import build_backbone
from tests.golden import make_retrieval

GOLDEN = json.loads(Path(make_retrieval.__file__).with_name("retrieval.json").read_text())
CPU = torch.device("cpu")


@pytest.mark.parametrize("side", make_retrieval.COPY_SIDES)
def test_descriptors_are_the_authors(tmp_path: Path, side: int) -> None:
    maker = make_retrieval.make_backbone()
    backbone = build_backbone(arch="vit_tiny", patch_size=16, img_size=224).eval()
    maker.fill(backbone, seed=0)
    paths = [f"{stem}.jpg" for stem in make_retrieval.write_images(tmp_path / "jpg")]
    images = ImageList(what="x", root=tmp_path / "jpg", paths=paths, prepare=Square(side), prepared="")
    made = extract_list(descriptor(backbone), images, Running(device=CPU, batch_size=4)).features
    assert made.shape == (len(paths), 2 * 192)
    summary = maker.summary(torch.from_numpy(made))
    for kind, numbers in GOLDEN["features"][f"copies {side}"].items():
        assert summary[kind] == pytest.approx(numbers, abs=1e-4), kind


@pytest.mark.parametrize("golden", GOLDEN["whitening"])
def test_whitened_cosines_are_the_authors(golden: dict[str, Any]) -> None:
    learn, apply = make_retrieval.whitening_case(golden["case"])
    whitening = learn_whitening(learn)
    summary = make_retrieval.make_backbone().summary(make_retrieval.cosines(whitening(apply)))
    for kind, numbers in golden["cosines"].items():
        assert summary[kind] == pytest.approx(numbers, abs=1e-4), kind
    # Of 20 images in 48 dimensions the second moment has rank 20.
    assert whitening.raised >= golden["case"]["dim"] - golden["case"]["images"]


def test_average_precision_is_the_authors() -> None:
    ours = [
        average_precision(np.array(ranks, dtype=np.int64), positives=count)
        for ranks, count in make_retrieval.copy_ranks()
    ]
    assert ours == pytest.approx(GOLDEN["copy_ap"], abs=1e-12)


def test_whitening_is_of_the_second_moment_about_zero_and_takes_the_mean_off() -> None:
    learn, apply = make_retrieval.whitening_case({"seed": 4, "images": 500, "dim": 6})
    whitening = learn_whitening(learn)
    moment = whitening.matrix.t() @ (learn.double().t() @ learn.double() / len(learn)) @ whitening.matrix
    torch.testing.assert_close(moment, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(whitening(learn).mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert whitening.raised == 0
    centred = (learn - learn.mean(0)).double()
    covariance = whitening.matrix.t() @ (centred.t() @ centred / len(learn)) @ whitening.matrix
    assert not torch.allclose(covariance, torch.eye(6, dtype=torch.float64), atol=0.05)
    assert whitening(apply).dtype == torch.float32


def test_descriptors_that_are_zero_cannot_be_whitened() -> None:
    with pytest.raises(UserError, match="all zero"):
        learn_whitening(torch.zeros(4, 3))


def test_gem_takes_negative_activations_for_zero() -> None:
    positions = torch.tensor([[[2.0, -3.0], [0.0, -1.0]]])
    torch.testing.assert_close(gem(positions), torch.tensor([[(16 / 2) ** 0.25, 1e-6]]))


def test_a_resnet_has_its_pool_and_gem_of_the_same_map() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(arch="resnet_nano", patch_size=1, img_size=64).eval()
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        made = descriptor(backbone)(images)
        torch.testing.assert_close(made[:, :128], backbone(images))
    assert made.shape == (2, 256)
    assert (made[:, 128:] >= made[:, :128] - 1e-5).all()  # the map is not negative: GeM(4) is at least the mean


def test_a_square_ignores_the_aspect() -> None:
    image = np.zeros((20, 60, 3), dtype=np.uint8)
    image[:, 30:] = 255
    square = Square(32)(image, 0)
    assert square.shape == (32, 32, 3)
    assert (square[:, :14] == 0).all()
    assert (square[:, 18:] == 255).all()


def test_a_positive_beyond_the_depth_counts_as_not_found() -> None:
    database = torch.eye(40)
    query = torch.linspace(1, 0.1, 40)[None]  # ranks the database in its order
    for place, expected in ((0, 1.0), (DEPTH - 1, 1 / (2 * DEPTH)), (DEPTH, 0.0)):
        assert mean_ap(query, database, [[place]]) == pytest.approx(expected)
    assert mean_ap(query, database, [[0, 30]]) == pytest.approx(0.5)


def test_queries_without_positives_are_left_out_of_the_mean() -> None:
    database = torch.eye(5)
    queries = torch.eye(5)[:3]
    assert mean_ap(queries, database, [[0], [], [1]]) == pytest.approx(
        (1 + average_precision(np.array([2]), positives=1)) / 2
    )

"""Regenerate `retrieval.json`: the authors' retrieval and copy detection on seeded images and similarities.

    python tests/golden/make_retrieval.py --reference DIR

DIR is a checkout of facebookresearch/dino. Weights and images are functions of seeds alone, so a test makes the same
ones without the authors' code. Of features, cosines and products with random vectors are stored.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import pickle
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

HERE = Path(__file__).resolve().parent
CASE = "vit_tiny-16"
SIZES = [(300, 200), (200, 300), (640, 410), (150, 97), (1200, 500), (300, 200), (64, 64)]
"""Width and height: some are shrunk, one by more than the factor that Pillow halves at first, some are left alone."""
RETRIEVAL = {"single 224": (224, False), "multi 160": (160, True)}
COPY_SIDES = [224, 80]
WHITENINGS = [{"seed": 0, "images": 3000, "dim": 48}, {"seed": 1, "images": 20, "dim": 48}]
SCORES = [{"seed": 0, "images": 300, "queries": 12}, {"seed": 1, "images": 40, "queries": 9}]


def make_backbone() -> ModuleType:
    """`make_backbone.py`, for the network's weights and for summaries."""
    spec = importlib.util.spec_from_file_location("make_backbone", HERE / "make_backbone.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_images(folder: Path) -> list[str]:
    """Smooth seeded images of `SIZES`, stored without loss; their names without ``.jpg``."""
    generator = np.random.RandomState(5)
    folder.mkdir(parents=True)
    names = []
    for number, size in enumerate(SIZES):
        coarse = Image.fromarray(generator.randint(0, 256, (9, 9, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BILINEAR)).astype(np.int64)
        pixels = np.clip(smooth + generator.randint(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        names.append(f"image_{number}")
        with open(folder / f"{names[-1]}.jpg", "wb") as handle:
            Image.fromarray(pixels).save(handle, format="PNG")
    return names


def scoring_case(case: dict[str, int]) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Similarities (images, queries) and the queries' lists; some queries have no easy or no positive at all."""
    generator = np.random.RandomState(case["seed"])
    similarity = generator.standard_normal((case["images"], case["queries"]))
    truth = []
    for query in range(case["queries"]):
        order = generator.permutation(case["images"])
        easy, hard, junk = (int(count) for count in generator.randint(1, 8, 3))
        easy, hard = (0 if query % 4 == 1 else easy), (0 if query % 5 == 1 else hard)
        lists = np.split(order, np.cumsum([easy, hard, junk]))[:3]
        truth.append(dict(zip(("easy", "hard", "junk"), lists, strict=True)))
        for rows, shift in zip(lists, (2.0, 1.0, 1.5), strict=True):
            similarity[rows, query] += shift
    return similarity, truth


def whitening_case(case: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Descriptors to learn a whitening from, and others to apply it to; far from zero mean, as true ones are."""
    generator = np.random.RandomState(case["seed"])
    mixing = generator.standard_normal((case["dim"], case["dim"])) * np.geomspace(1, 0.1, case["dim"])
    learn, apply = (generator.standard_normal((count, case["dim"])) @ mixing + 0.5 for count in (case["images"], 30))
    return torch.from_numpy(learn.astype(np.float32)), torch.from_numpy(apply.astype(np.float32))


def copy_ranks() -> list[tuple[list[int], int]]:
    """Ranks of the positives within twenty and how many positives there are."""
    return [([0], 1), ([3], 1), ([], 1), ([19], 1), ([0, 1], 2), ([0, 7], 3), ([2, 5, 18], 3)]


def cosines(features: Tensor) -> Tensor:
    """All pairs' cosines: (n, n)."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    return unit @ unit.t()


@contextlib.contextmanager
def one_process_without_cuda() -> Iterator[None]:
    """What the authors' functions expect: a process group, and tensors that can be sent to a GPU."""
    to_gpu = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign,assignment]
    np.in1d = np.isin  # type: ignore[attr-defined]  # noqa: NPY201  # removed in NumPy 2.4
    Image.ANTIALIAS = Image.Resampling.LANCZOS  # type: ignore[attr-defined]  # removed in Pillow 10
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        yield
        torch.distributed.destroy_process_group()
    torch.Tensor.cuda = to_gpu  # type: ignore[method-assign]


def authors_scores(utils: ModuleType) -> list[dict[str, Any]]:
    results = []
    for case in SCORES:
        similarity, truth = scoring_case(case)
        ranks = np.argsort(-similarity, axis=0, kind="stable")
        scores = {}
        for name, (wanted, left_out) in {
            "easy": (["easy"], ["junk", "hard"]),
            "medium": (["easy", "hard"], ["junk"]),
            "hard": (["hard"], ["junk", "easy"]),
        }.items():
            lists = [
                {
                    "ok": np.concatenate([each[part] for part in wanted]),
                    "junk": np.concatenate([each[part] for part in left_out]),
                }
                for each in truth
            ]
            mean, _, precision, _ = utils.compute_map(ranks, lists, [1, 5, 10])
            scores[name] = [float(mean), *map(float, precision)]
        results.append({"case": case, "scores": scores})
    return results


def authors_features(reference: Path, folder: Path, names: list[str]) -> dict[str, list[float]]:
    retrieval = importlib.import_module("eval_image_retrieval")
    copies = importlib.import_module("eval_copy_detection")
    maker = make_backbone()
    network = maker.authors_backbone(reference, CASE)
    with open(folder / "roxford5k" / "gnd_roxford5k.pkl", "wb") as handle:
        pickle.dump({"imlist": names, "qimlist": [], "gnd": []}, handle)
    normalise = retrieval.pth_transforms.Compose(
        [
            retrieval.pth_transforms.ToTensor(),
            retrieval.pth_transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    results = {}
    for name, (longest, multiscale) in RETRIEVAL.items():
        images = retrieval.OxfordParisDataset(str(folder), "roxford5k", "train", transform=normalise, imsize=longest)
        loader = torch.utils.data.DataLoader(images, batch_size=1)
        features = retrieval.extract_features(network, loader, use_cuda=False, multiscale=multiscale)
        results[name] = maker.summary(torch.nn.functional.normalize(features, dim=1))
    files = [str(folder / "roxford5k" / "jpg" / f"{name}.jpg") for name in names]
    for side in COPY_SIDES:
        options = argparse.Namespace(imsize=side, batch_size_per_gpu=4, num_workers=0, use_cuda=False)
        results[f"copies {side}"] = maker.summary(copies.extract_features(files, network, options))
    return results


def authors_whitening(utils: ModuleType) -> list[dict[str, Any]]:
    """Their matrix, learnt and applied in the order of their script: the mean is taken off what is whitened alone."""
    results = []
    for case in WHITENINGS:
        learn, apply = whitening_case(case)
        pca = utils.PCA(dim=apply.shape[-1], whit=0.5)
        pca.train_pca((learn.T @ learn / len(learn)).numpy())
        whitened = pca.apply(apply - learn.mean(dim=0))
        results.append({"case": case, "cosines": make_backbone().summary(cosines(whitened))})
    return results


def main() -> None:
    """Write the golden values beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    reference = parser.parse_args().reference
    sys.path.insert(0, str(reference))
    utils = importlib.import_module("utils")
    copies = importlib.import_module("eval_copy_detection")
    with one_process_without_cuda(), tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        names = write_images(Path(temporary) / "roxford5k" / "jpg")
        golden = {
            "source": "facebookresearch/dino 7c446df: utils.py, eval_image_retrieval.py, eval_copy_detection.py",
            "scores": authors_scores(utils),
            "features": authors_features(reference, Path(temporary), names),
            "whitening": authors_whitening(utils),
            "copy_ap": [copies.score_ap_from_ranks_1(ranks, count) for ranks, count in copy_ranks()],
        }
    text = re.sub(r"\[[^\[\]]*\]", lambda numbers: " ".join(numbers[0].split()), json.dumps(golden, indent=1))
    target = HERE / "retrieval.json"
    target.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()

"""Ranks of features: against singular values in float64, at the ends of their range, and through the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dino.cli import main
from dino.evaluation import rank
from dino.evaluation.rank import exp_entropy, spectra


def reference(values: np.ndarray) -> float:
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_both_ranks_are_those_of_the_singular_values(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(rank, "ROWS", rows)
    features = np.random.default_rng(0).normal(size=(200, 12)) * np.geomspace(1, 1e-3, 12) + 0.5
    singular, variances = spectra(torch.from_numpy(features))
    wanted = np.linalg.svd(features, compute_uv=False)
    centred = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2 / 200
    np.testing.assert_allclose(singular, wanted, rtol=1e-6)
    np.testing.assert_allclose(variances, centred, rtol=1e-6)
    assert exp_entropy(singular) == pytest.approx(reference(wanted), rel=1e-9)
    assert exp_entropy(variances) == pytest.approx(reference(centred), rel=1e-9)


def test_orthogonal_features_use_all_dimensions_and_parallel_ones_a_single_one() -> None:
    assert exp_entropy(spectra(torch.eye(6))[0]) == pytest.approx(6)
    parallel = torch.arange(1, 9, dtype=torch.float32)[:, None] * torch.tensor([1.0, -2.0, 3.0])
    singular, variances = spectra(parallel)
    assert exp_entropy(singular) == pytest.approx(1, abs=1e-6)
    assert exp_entropy(variances) == pytest.approx(1, abs=1e-6)


def test_collapsed_features_have_no_variance_to_share() -> None:
    singular, variances = spectra(torch.full((50, 4), 0.1))
    assert exp_entropy(singular) == pytest.approx(1, abs=1e-6)
    assert float(variances.max()) < 1e-20


def test_command_writes_the_ranks_of_the_training_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    for split, part in (("train", features), ("test", features[:4] + 9)):
        np.savez(tmp_path / f"{split}.npz", features=part, labels=np.arange(len(part)) % 2)
    files = [f"--{split}-features={tmp_path / split}.npz" for split in ("train", "test")]
    assert main(["rank", *files, "--output", str(tmp_path / "rank.json"), "--device", "cpu"]) == 0
    document = json.loads((tmp_path / "rank.json").read_text())
    wanted = np.linalg.svd(features.astype(float), compute_uv=False)
    assert document["metrics"]["rankme"]["value"] == pytest.approx(reference(wanted), rel=1e-6)
    assert document["metrics"]["dim"]["value"] == 5
    assert document["chance"] is None
    shares = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2
    assert document["metrics"]["variance_top2"]["value"] == pytest.approx(
        100 * shares[:2].sum() / shares.sum(), rel=1e-5
    )
    assert "5 dimensions: RankMe" in capsys.readouterr().out

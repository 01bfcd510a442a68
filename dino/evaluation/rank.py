"""``dino rank``: how many dimensions a network's features use, without labels.

With sigma_i the singular values of the N x D training features and lambda_i the eigenvalues of their covariance:

* ``rankme`` is RankMe (Garrido et al., arXiv 2210.02885, eq. 1): exp(-sum_i p_i log p_i) of the features as they are,
  p_i = sigma_i / sum_j sigma_j. That paper adds 1e-7 to each p_i for its logarithm; here 0 log 0 is 0.
* ``effective_rank`` is the same of p_i = lambda_i / sum_j lambda_j: of the shares of variance, so that neither the mean
  of the features nor many directions of next to no variance count.
* ``variance_top2`` is (lambda_1 + lambda_2) / sum_i lambda_i.

All three come from D x D products summed over blocks of images in float64. That squares the singular values: those
below 1e-8 of the largest are lost, which changes no digit that is reported.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from dino.metrics import MetricsFile

ROWS = 65536
"""Images of one block: 200 MB in float64 at 384 dimensions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``dino rank``."""
    from dino.evaluation.runtime import add_pair_arguments, add_runtime_arguments

    add_pair_arguments(parser)
    parser.add_argument("--output", required=True, metavar="O.json", help="the metrics file to write")
    add_runtime_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write the metrics file and print the ranks."""
    import torch

    from dino.evaluation.document import describe_pair
    from dino.evaluation.features.pairs import read_pair
    from dino.evaluation.runtime import set_up_torch
    from dino.metrics import Measure, write_metrics

    device = set_up_torch(options.device, options.threads)
    pair = read_pair(options)
    singular, shares = spectra(torch.from_numpy(pair.train.features), device=device)
    metrics = {
        "rankme": Measure(value=exp_entropy(singular), unit="count"),
        "effective_rank": Measure(value=exp_entropy(shares), unit="count"),
        "variance_top2": Measure(
            value=100.0 * float(shares[:2].sum() / shares.sum()) if shares.sum() else 0.0, unit="%"
        ),
        "dim": Measure(value=pair.train.features.shape[1], unit="count"),
    }
    document = describe_pair("rank", pair, metrics, chance=None, settings={}, device=device, notes=[])
    write_metrics(options.output, document)
    if not options.quiet:
        print(format_line(document))


def spectra(features: torch.Tensor, *, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Singular values of ``features`` (N, D), and eigenvalues of their covariance: (D,) each, float64, falling."""
    import torch

    sums = [block.to(device, torch.float64).sum(0) for block in features.split(ROWS)]
    mean = torch.stack(sums).sum(0) / len(features)
    product, spread = torch.zeros(2, len(mean), len(mean), dtype=torch.float64, device=device)
    for block in features.split(ROWS):
        rows = block.to(device, torch.float64)
        product.addmm_(rows.t(), rows)
        rows = rows - mean  # not E[zz] - E[z]E[z]: of collapsed features that would leave rounding errors as variance
        spread.addmm_(rows.t(), rows)
    squares, variances = torch.linalg.eigvalsh(torch.stack([product, spread])).clamp_(min=0).flip(1).cpu()
    return squares.sqrt(), variances / len(features)


def exp_entropy(values: torch.Tensor) -> float:
    """Exp of the entropy of non-negative ``values`` (D,) divided by their sum: between 1 and D; 0 where all are 0."""
    import torch

    total = values.sum()
    if not total > 0:
        return 0.0
    return float(torch.special.entr(values / total).sum().exp())


def format_line(document: MetricsFile) -> str:
    """The ranks for a person."""
    values = {name: measure.value for name, measure in document.metrics.items()}
    return (
        f"features of {document.data.train} training images, {values['dim']:.0f} dimensions: RankMe "
        f"{values['rankme']:.1f}, effective rank {values['effective_rank']:.1f}, {values['variance_top2']:.1f} % of "
        "the variance in two components"
    )

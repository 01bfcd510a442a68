"""The projection head and its variants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dino.config import RunConfig
from dino.models import build_head
from dino.models.head import ProjectionHead


def head_of(in_dim: int, **fields: Any) -> ProjectionHead:
    return build_head(RunConfig(**fields), in_dim)


@pytest.mark.parametrize(
    ("in_dim", "fields", "mlp", "prototypes"),
    [  # paper.md, A.2
        (384, {}, 5_509_376, 16_777_216 + 65_536),
        (768, {}, 6_295_808, 16_777_216 + 65_536),
        (2048, {"head_bn": True, "out_dim": 60_000}, 8_925_440, 15_360_000 + 60_000),
        (384, {"out_dim": 262_144}, 5_509_376, 262_144 * 257),
    ],
)
def test_parameter_counts_are_the_papers(in_dim: int, fields: dict[str, Any], mlp: int, prototypes: int) -> None:
    with torch.device("meta"):
        head = head_of(in_dim, **fields)
    assert sum(parameter.numel() for parameter in head.mlp.parameters()) == mlp
    assert sum(parameter.numel() for parameter in head.last_layer.parameters()) == prototypes


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_layers_count_the_linears_before_the_prototypes(layers: int) -> None:
    head = ProjectionHead(12, 20, layers=layers, hidden_dim=16, bottleneck_dim=8)
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
    activations = [module for module in head.modules() if isinstance(module, nn.GELU)]
    assert (len(linears), len(activations)) == (layers, layers - 1)
    assert linears[-1].out_features == 8
    assert head(torch.randn(3, 12)).shape == (3, 20)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_without_bottleneck_the_layers_end_in_the_logits(layers: int) -> None:
    head = head_of(12, head_bottleneck=False, head_layers=layers, head_hidden_dim=16, out_dim=20)
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == layers
    assert linears[-1] is head.last_layer
    assert set(head.state_dict()) >= {"last_layer.weight", "last_layer.bias"}
    x = torch.randn(3, 12)
    assert head(x).shape == (3, 20)
    if layers == 1:
        torch.testing.assert_close(head(2 * x), 2 * head(x))  # nothing normalises


def test_options_choose_activation_and_batch_norm() -> None:
    head = head_of(12, head_activation="relu", head_bn=True, head_hidden_dim=16, out_dim=20)
    assert [type(module).__name__ for module in head.mlp] == [
        *("Linear", "BatchNorm1d", "ReLU"),
        *("Linear", "BatchNorm1d", "ReLU"),
        "Linear",
    ]


@pytest.mark.parametrize(("batch_norm", "between"), [(True, ["BatchNorm1d", "ReLU"]), (False, ["ReLU"])])
def test_a_predictor_stands_between_bottleneck_and_prototypes(batch_norm: bool, between: list[str]) -> None:
    fields = {"head_hidden_dim": 16, "head_bottleneck_dim": 8, "out_dim": 20, "head_bn": batch_norm}
    head = head_of(12, predictor=True, predictor_hidden_dim=24, **fields)
    assert [type(module).__name__ for module in head.predictor] == ["Linear", *between, "Linear"]
    assert (head.predictor[0].in_features, head.predictor[-1].out_features) == (8, 8)
    x = torch.randn(3, 12)
    expected = head.last_layer(nn.functional.normalize(head.predictor(head.mlp(x)), dim=-1))
    torch.testing.assert_close(head(x), expected)
    assert head_of(12, **fields).predictor is None
    assert float(head.predictor[0].weight.detach().std()) == pytest.approx(0.02, rel=0.2)


def test_without_prototypes_the_unit_vectors_are_the_output() -> None:
    head = head_of(12, objective="mocov2", head_hidden_dim=16, head_bottleneck_dim=8)
    assert head.last_layer is None
    x = torch.randn(3, 12)
    torch.testing.assert_close(head(x), nn.functional.normalize(head.mlp(x), dim=-1))
    assert not any("last_layer" in name for name in head.state_dict())


def test_a_head_without_bottleneck_has_neither_predictor_nor_vectors() -> None:
    for impossible in ({"predictor_dim": 4}, {"out_dim": None}):
        with pytest.raises(ValueError, match="without bottleneck"):
            ProjectionHead(12, **{"out_dim": 20, "bottleneck_dim": None, **impossible})


def test_logits_of_a_frozen_gain_are_cosines_with_the_prototypes() -> None:
    head = ProjectionHead(12, 50, hidden_dim=16, bottleneck_dim=8, norm_last_layer=True)
    x = torch.randn(6, 12) * 100
    expected = nn.functional.cosine_similarity(head.mlp(x)[:, None], head.last_layer.weight_v[None], dim=-1)
    torch.testing.assert_close(head(x), expected)
    assert [name for name, parameter in head.named_parameters() if not parameter.requires_grad] == [
        "last_layer.weight_g"
    ]


def test_a_gain_scales_its_own_logit_even_when_frozen() -> None:
    head = ProjectionHead(12, 5, hidden_dim=16, bottleneck_dim=8, norm_last_layer=True)
    x = torch.randn(6, 12)
    before = head(x)
    with torch.no_grad():
        head.last_layer.weight_g[2] = 3.0
    torch.testing.assert_close(head(x), before * torch.tensor([1.0, 1, 3, 1, 1]))


def test_initialisation_is_the_papers() -> None:
    torch.manual_seed(0)
    head = head_of(384, out_dim=4096)
    for module in head.mlp:
        if isinstance(module, nn.Linear):
            assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
            assert not module.bias.any()
    v = head.last_layer.weight_v.detach()
    assert float(v.abs().max()) <= 1 / 16
    assert float(v.std()) == pytest.approx(1 / 16 / 3**0.5, rel=0.01)
    assert bool((head.last_layer.weight_g == 1).all())
    assert head.last_layer.weight_g.shape == (4096, 1)


def test_normalisation_is_in_float32_under_autocast() -> None:
    head = ProjectionHead(12, 50, layers=1, bottleneck_dim=8)
    with torch.no_grad():
        head.mlp.weight.mul_(1e4)  # squares beyond fp16's 65504
    x = torch.randn(6, 12)
    with torch.autocast("cpu", dtype=torch.float16):
        logits = head(x)
    torch.testing.assert_close(logits.float(), head(x), atol=5e-3, rtol=0)

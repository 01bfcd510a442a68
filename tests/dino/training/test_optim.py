from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dino.models import build_networks
from dino.running.precision import build_scaler
from dino.training import optim
from tests.dino.objectives.test_dino import load_generator
from tests.dino.training.tiny import run_steps, tiny_config, tiny_step, weights


def test_only_biases_and_one_dimensional_parameters_escape_decay() -> None:
    student, _ = build_networks(tiny_config(norm_last_layer=False))
    decayed, plain = ({id(p) for p in group["params"]} for group in optim.parameter_groups(student))  # type: ignore
    for name, parameter in student.named_parameters():
        expected = plain if name.endswith(".bias") or parameter.ndim == 1 else decayed
        assert id(parameter) in expected, name
    names = {name for name, parameter in student.named_parameters() if id(parameter) in decayed}
    assert {"backbone.cls_token", "backbone.pos_embed", "backbone.patch_embed.proj.weight"} <= names
    assert {"head.last_layer.weight_v", "head.last_layer.weight_g"} <= names
    assert not any("norm" in name for name in names)


def test_a_frozen_gain_is_in_no_group() -> None:
    student, _ = build_networks(tiny_config(norm_last_layer=True))
    ids = {id(p) for group in optim.parameter_groups(student) for p in group["params"]}  # type: ignore
    assert id(student.head.last_layer.weight_g) not in ids
    assert id(student.head.last_layer.weight_v) in ids


def test_optimizer_is_adamw_with_the_paper_settings_and_decays_the_first_group_only() -> None:
    student, _ = build_networks(tiny_config())
    optimizer = optim.build_optimizer(student)
    optim.set_hyperparameters(optimizer, lr=0.5, weight_decay=0.25)
    assert [(g["betas"], g["eps"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ((0.9, 0.999), 1e-8, 0.5, 0.25),
        ((0.9, 0.999), 1e-8, 0.5, 0.0),
    ]


def test_clipping_is_tensor_wise_and_gives_the_authors_norms() -> None:
    golden = json.loads((Path(__file__).parents[2] / "golden" / "training.json").read_text())["clipped_norms"]
    gradients = load_generator().draw_gradients()
    module = nn.ParameterList([nn.Parameter(torch.zeros_like(g)) for g in gradients])
    for parameter, gradient in zip(module, gradients, strict=True):
        parameter.grad = gradient.clone()
    optim.clip_gradients(module, 3.0)
    norms = [float(parameter.grad.norm()) for parameter in module]
    assert norms == pytest.approx(golden, rel=1e-6)
    assert torch.equal(module[0].grad, gradients[0])  # a small one keeps its bits, whatever the others are


def test_clip_zero_is_off() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.full((3,), 100.0)
    optim.clip_gradients(nn.ParameterList([parameter]), 0.0)
    assert parameter.grad.tolist() == [100.0] * 3


def test_gradient_norm_is_over_all_tensors_together() -> None:
    module = nn.ParameterList(
        [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    )
    module[0].grad, module[1].grad = torch.tensor([3.0]), torch.tensor([0.0, 4.0])
    assert float(optim.gradient_norm(module)) == pytest.approx(5.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_found(value: float) -> None:
    student, _ = build_networks(tiny_config())
    assert optim.parameters_are_finite(student)
    with torch.no_grad():
        student.backbone.pos_embed[0, 1, 2] = value
    assert not optim.parameters_are_finite(student)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_prototypes_are_untouched_in_the_first_epoch_even_by_decay(bottleneck: bool) -> None:
    step = tiny_step(tiny_config(freeze_last_layer_epochs=1, weight_decay=0.4, head_bottleneck=bottleneck))
    before = weights(step.student)
    run_steps(step, 4)
    after = weights(step.student)
    frozen = {name for name in before if "last_layer" in name}
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["backbone.pos_embed"], after["backbone.pos_embed"])
    state = {id(parameter) for parameter in step.optimizer.state}
    for name, parameter in step.student.named_parameters():
        assert (id(parameter) in state) == (name not in frozen), name
    run_steps(step, 1, first=4)
    moved = weights(step.student)
    name = "head.last_layer.weight_v" if bottleneck else "head.last_layer.weight"
    assert not torch.equal(after[name], moved[name])


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("sgd", "SGD"), ("lars", "LARS")])
def test_every_optimizer_of_the_schema_is_built_and_decays_the_first_group_only(name: str, kind: str) -> None:
    student, _ = build_networks(tiny_config())
    optimizer = optim.build_optimizer(student, name)
    optim.set_hyperparameters(optimizer, lr=0.5, weight_decay=0.25)
    assert type(optimizer).__name__ == kind
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.5, 0.25), (0.5, 0.0)]
    assert all(group.get("momentum", 0.9) == 0.9 for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["sgd", "lars"])
def test_training_with_another_optimizer_learns_and_moves_the_weights(name: str) -> None:
    config = tiny_config(optimizer=name)
    step = tiny_step(config)
    before = weights(step.student)
    run_steps(step, 3)
    assert any(not torch.equal(before[key], value) for key, value in weights(step.student).items())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fused_sgd_steps_as_the_plain_form_where_prototypes_join_late_and_the_scaler_skips_a_step(
    precision: str,
) -> None:
    tried, expected = (build_networks(tiny_config())[0] for _ in range(2))
    expected.load_state_dict(tried.state_dict())
    fused = optim.build_optimizer(tried, "sgd")
    plain = torch.optim.SGD(optim.parameter_groups(expected), lr=0.0, momentum=optim.MOMENTUM, fused=False)
    scaler = build_scaler(precision, torch.device("cpu"))
    scaler.scale(torch.zeros(()))  # makes the scale
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        overflows = precision == "fp16" and step == 0
        for ours, theirs in zip(tried.parameters(), expected.parameters(), strict=True):
            gradient = torch.randn(ours.shape, generator=generator)
            if ours.requires_grad:
                theirs.grad, ours.grad = gradient, gradient * (torch.inf if overflows else scaler.get_scale())
        scaler.unscale_(fused)
        for network, optimizer in ((tried, fused), (expected, plain)):
            optim.set_hyperparameters(optimizer, lr=0.1, weight_decay=0.01)
            if step < 2:
                optim.drop_last_layer_gradients(network)
        scaler.step(fused)
        scaler.update()
        if not overflows:
            plain.step()
    for name, value in tried.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], msg=name)

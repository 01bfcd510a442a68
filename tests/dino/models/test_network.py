"""Student and teacher, and the forward of multi-crop views."""

from __future__ import annotations

import subprocess
import sys

import torch
from timm.layers import DropPath

from dino.config import RunConfig
from dino.models import build_networks

CONFIG = RunConfig(
    arch="vit_nano",
    patch_size=4,
    global_crop_size=16,
    local_crop_size=8,
    out_dim=40,
    head_hidden_dim=32,
    head_bottleneck_dim=16,
    drop_path_rate=0.2,
)


def test_the_teacher_starts_as_a_copy_without_gradients_or_drop_path() -> None:
    torch.manual_seed(3)
    student, teacher = build_networks(CONFIG)
    ours, theirs = student.state_dict(), teacher.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name])
        assert value.data_ptr() != theirs[name].data_ptr(), name
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert any(module.drop_prob > 0.19 for module in student.modules() if isinstance(module, DropPath))
    assert all(module.drop_prob == 0 for module in teacher.modules() if isinstance(module, DropPath))
    x = [torch.randn(2, 3, 16, 16)]
    torch.testing.assert_close(teacher.train()(x), student.eval()(x))


def test_the_same_seed_gives_the_same_networks() -> None:
    torch.manual_seed(3)
    first, _ = build_networks(CONFIG)
    torch.manual_seed(3)
    second, _ = build_networks(CONFIG)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_logits_come_in_the_order_of_the_views() -> None:
    student, _ = build_networks(CONFIG)
    student.eval()
    views = [torch.randn(2, 3, 16, 16) for _ in range(2)] + [torch.randn(2, 3, 8, 8) for _ in range(3)]
    logits = student([torch.cat(views[:2]), torch.cat(views[2:])])
    torch.testing.assert_close(logits, torch.cat([student([view]) for view in views]))
    assert logits.shape == (10, 40)


def test_the_backbone_runs_once_a_group_and_the_head_once() -> None:
    student, _ = build_networks(CONFIG)
    calls: list[str] = []
    student.backbone.register_forward_hook(lambda *_: calls.append("backbone"))
    student.head.register_forward_hook(lambda *_: calls.append("head"))
    student([torch.randn(4, 3, 16, 16), torch.randn(6, 3, 8, 8)])
    assert calls == ["backbone", "backbone", "head"]


def test_every_trained_parameter_gets_a_gradient() -> None:
    # DDP would wait for one that does not.
    student, _ = build_networks(CONFIG)
    student([torch.randn(4, 3, 16, 16), torch.randn(6, 3, 8, 8)]).square().sum().backward()
    assert [name for name, parameter in student.named_parameters() if parameter.grad is None] == []


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, dino.models; assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

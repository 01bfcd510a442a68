from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dino.running.distributed import find_world, start_process_group, stop_process_group
from dino.training.sync_batch_norm import CpuSyncBatchNorm, synchronise_batch_norm
from tests.dino.running.processes import can_fork, run_ranks
from tests.dino.training.tiny import CPU

pytestmark = can_fork


def test_batch_norm_over_ranks_equals_batch_norm_of_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images, above = torch.randn(8, 5, 3, 3), torch.randn(8, 5, 3, 3)

    def run(norm: nn.Module, rows: slice) -> dict[str, torch.Tensor]:
        x = images[rows].clone().requires_grad_()
        output = norm(x)
        output.backward(above[rows])
        assert x.grad is not None
        gradients = [parameter.grad for parameter in norm.parameters()]
        buffers = {name: value.float() for name, value in norm.named_buffers()}
        return {"output": output.detach(), "input": x.grad, "weight": gradients[0], "bias": gradients[1], **buffers}

    def body(rank: int) -> None:
        start_process_group(find_world(), CPU)
        norm = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(5)), CPU)[0]
        assert isinstance(norm, CpuSyncBatchNorm)
        torch.save(run(norm, slice(4 * rank, 4 * rank + 4)), tmp_path / f"{rank}.pt")
        stop_process_group()

    run_ranks(body, tmp_path)
    expected = run(nn.BatchNorm2d(5), slice(0, 8))
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in ("output", "input"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), expected[name], rtol=1e-4, atol=1e-5)
    for name in ("weight", "bias"):
        torch.testing.assert_close(parts[0][name] + parts[1][name], expected[name], rtol=1e-4, atol=1e-5)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(parts[0][name], expected[name])
        torch.testing.assert_close(parts[1][name], expected[name])

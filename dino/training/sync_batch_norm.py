"""Batch norm over all ranks: torch's own on GPUs, and the same for CPU tensors, which torch's refuses (gloo tests)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class CpuSyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose training statistics are those of all ranks' batches together.

    Mean and variance come from sums (n, sum x, sum x^2) added over the ranks with gradient; running statistics keep the
    unbiased variance, as in `torch.nn.BatchNorm2d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` (N, C, ...) over all axes but C, over all ranks."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        values = input.double()
        count = values.new_full((1,), input.numel() / input.shape[1])
        sums: Tensor = all_reduce(torch.cat([count, values.sum(axes), values.square().sum(axes)]))
        total = sums[0].detach()
        first, second = sums[1:].chunk(2)
        mean = first / total
        variance = second / total - mean.square()
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                unbiased = variance * (total / (total - 1))
                self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        scale = (variance + self.eps).rsqrt()
        output = (values - mean.view(shape)) * scale.view(shape)
        if self.affine:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 axes, got {input.ndim}")


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch norm by its all-ranks form; names, weights and buffers stay."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, _converted(child))
    return network


def _converted(module: nn.modules.batchnorm._BatchNorm) -> CpuSyncBatchNorm:
    new = CpuSyncBatchNorm(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
    new.weight, new.bias = module.weight, module.bias
    new.running_mean, new.running_var = module.running_mean, module.running_var
    new.num_batches_tracked = module.num_batches_tracked
    return new.train(module.training)

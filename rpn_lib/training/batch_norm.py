"""Batch normalisation over the images of all processes.

torch's own `SyncBatchNorm` does it on GPUs only.

Dimension letters: B images of a process; C channels; H, W rows and columns of a map.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rpn_lib.training.processes import sum_over_processes, world_size

aten = torch.ops.aten  # the parts of torch's batch normalisation, each by itself


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the mean and variance of all processes' images.

    With one process it is `nn.BatchNorm2d`.

    >>> norm, x = SharedBatchNorm2d(3), torch.rand(2, 3, 4, 4)
    >>> torch.equal(norm(x), nn.BatchNorm2d(3)(x))
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, C, H, W)`."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        y: Tensor
        y, mean, variance, count = _Normalize.apply(x, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            momentum = self.momentum
            if momentum is None:
                momentum = 1 / float(self.num_batches_tracked)
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(unbiased, momentum)
        return y


class _Normalize(torch.autograd.Function):
    """Forward and backward of batch normalisation; in each the processes meet once."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = x.numel() // x.shape[1]
        exact = x.to(weight.dtype)  # bfloat16 would round the mean as well
        mean, variance = aten.batch_norm_update_stats(exact, None, None, 0.0)
        mean, variance = mean.double(), variance.double()
        sums = torch.cat([mean, variance + mean**2, mean.new_ones(1)]) * count
        sums = sum_over_processes(sums)  # (2 C + 1,)
        total = sums[-1]
        mean, square = (sums[:-1] / total).chunk(2)
        variance = (square - mean**2).clamp(min=0).to(weight.dtype)
        mean = mean.to(weight.dtype)
        y = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, total)
        return y, mean, variance, total

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, *_: Any
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, total = ctx.saved_tensors
        # First as if mean and variance did not depend on x; in the same pass, the sums
        # over this process of grad * normalized (C,) and of grad (C,).
        x_grad, weight_grad, bias_grad = aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
        )
        sums = sum_over_processes(torch.cat([weight_grad, bias_grad]).double())
        by_normalized, by_grad = (sums / total).chunk(2)  # means over all processes
        # They do. What flows through them is, for each channel,
        # (by_grad + by_normalized * normalized) * weight / deviation: a line in x.
        deviation = (variance.double() + ctx.eps).sqrt()
        slope = by_normalized * weight / deviation**2
        start = by_grad * weight / deviation - slope * mean
        x_grad -= start.to(x.dtype)[:, None, None]
        x_grad.addcmul_(x, slope.to(x.dtype)[:, None, None], value=-1)
        return x_grad, weight_grad, bias_grad, None


def share_batch_norm(module: nn.Module) -> None:
    """Let every batch normalisation of a network look at all processes, in place."""
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SharedBatchNorm2d

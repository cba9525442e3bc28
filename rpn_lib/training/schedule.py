"""What moves the weights: the optimiser, the learning rate, mixed precision."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from rpn_lib.training.config import WARMUP, TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of all weights that are learnt.

    Args:
        network: the network; its frozen weights are left out.
        config: `optimizer`, `lr`, `weight_decay`.

    >>> type(make_optimizer(nn.Linear(2, 1), TrainConfig(optimizer="sgd"))).__name__
    'SGD'
    """
    learnt = [weight for weight in network.parameters() if weight.requires_grad]
    how: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD(learnt, momentum=0.9, **how)
    return torch.optim.AdamW(learnt, **how)


def make_schedule(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The course of the learning rate.

    Args:
        optimizer: the optimiser whose rate is set.
        config: `schedule`, `warmup`, `lr`.
        steps: how many steps the whole run has.
    """
    rising = WARMUP[config.schedule] if config.warmup is None else config.warmup
    if config.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=config.lr, total_steps=steps, pct_start=rising
        )
    factor = RiseAndFall(config.schedule, rising, steps)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class RiseAndFall:
    """The learning rate of a step as a share of the highest.

    Args:
        fall: `"cosine"`, `"step"` or `"constant"`.
        rising: share of the steps in which it rises, in a straight line.
        steps: how many steps the whole run has.

    >>> factor = RiseAndFall("step", 0.2, 10)
    >>> [factor(step) for step in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1]
    """

    def __init__(self, fall: str, rising: float, steps: int) -> None:
        self.fall, self.rising, self.steps = fall, rising, steps

    def __call__(self, step: int) -> float:
        """The share at a step, counted from 0."""
        if step < self.rising * self.steps:
            return (step + 1) / math.ceil(self.rising * self.steps)
        done = (step / self.steps - self.rising) / (1 - self.rising)
        if self.fall == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        return 0.1 if self.fall == "step" and done >= 0.75 else 1.0


class MixedPrecision:
    """bfloat16 where it helps, float16 on a GPU without it, and float32 if not on.

    Attributes:
        scaler: keeps small float16 gradients from becoming 0; does nothing otherwise.
    """

    def __init__(self, device: torch.device, on: bool) -> None:
        self.device, self.on, self.dtype = device, on, torch.bfloat16
        if device.type == "cuda" and not _computes_bf16():
            self.dtype = torch.float16
        scaled = on and self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)

    def __call__(self) -> torch.autocast:
        """What the forward pass runs in."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.on)


def _computes_bf16() -> bool:
    """Whether the GPU itself computes in bfloat16.

    torch answers yes for older ones as well, which imitate it slowly in float32. The
    versions of torch that know no `including_emulation` did not count them.
    """
    ask = torch.cuda.is_bf16_supported
    if "including_emulation" in inspect.signature(ask).parameters:
        return bool(ask(including_emulation=False))
    return bool(ask())

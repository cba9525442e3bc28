"""Several processes that train one network, as if they were one.

`torchrun` starts several processes; each takes its share of every batch, and
`DistributedDataParallel` averages their gradients. Three things would still make the
result differ from that of one process, and are put right here: batch normalisation
looks at the whole batch, the losses are divided by the counts of the whole batch, and
metrics are gathered so that each image counts once.

Dimension letters: B images of a process; C channels; H, W rows and columns of a map.
"""

import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from rpn_lib.checkpoint import TrainingError
from rpn_lib.loss import RPNLoss

aten = torch.ops.aten  # the parts of torch's batch normalisation, each by itself

# Seconds spent on communication by this process, and how often. The time counts from a
# call to its result, so it includes waiting for the slowest process.
SPENT = {"seconds": 0.0, "calls": 0.0}

# How long a process waits for the others before it gives up.
PATIENCE = timedelta(minutes=10)


def rank() -> int:
    """The number of this process, from 0.

    >>> rank(), world_size()
    (0, 1)
    """
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def processes(device: str = "cpu") -> Iterator[str]:
    """Join the processes that `torchrun` has started; nothing where it has not.

    Args:
        device: `cpu`, which talks by gloo, or `cuda`, which talks by NCCL; each process
            then takes the GPU of its local number.

    Yields:
        the device of this process.

    Raises:
        TrainingError: another process has ended.

    >>> with processes() as device:
    ...     device
    'cpu'
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    backend = "gloo"
    if device == "cuda":
        backend = "nccl"
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    with _own_cores(device):
        dist.init_process_group(backend, timeout=PATIENCE)
        try:
            yield device
        except RuntimeError as error:
            if isinstance(error, TrainingError) or not _is_lost(error):
                raise
            first = str(error).splitlines()[0][:160]
            raise TrainingError(
                f"Process {rank()} has lost the others: one of them has ended "
                f"({first}). Continue from the last checkpoint with --resume."
            ) from error
        finally:
            dist.destroy_process_group()


@contextmanager
def _own_cores(device: str) -> Iterator[None]:
    """Give each process of a machine cores of its own, where Linux allows it.

    They meet some twenty times a step. A process that wakes up on the core of another
    waits there for its turn, and all others wait with it; so does one whose threads
    take turns on a core. (A GPU's driver has its own threads: they are left alone.)
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    share = len(cores) // processes
    if device != "cpu" or share == 0:
        yield
        return
    first = int(os.environ.get("LOCAL_RANK", "0")) * share
    threads = torch.get_num_threads()
    os.sched_setaffinity(0, cores[first : first + share])
    torch.set_num_threads(min(threads, share))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, cores)


def _is_lost(error: RuntimeError) -> bool:
    """Whether an error means that another process is gone."""
    if isinstance(error, getattr(dist, "DistError", ())):
        return True
    text = str(error).lower()
    signs = ("connection", "gloo", "nccl", "socket", "timed out", "peer")
    return any(sign in text for sign in signs)


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without gradient.

    Args:
        values: any shape, the same in each process.

    >>> mean_over_processes(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    if world_size() == 1:
        return values.detach()
    return _sum_over_processes(values.detach()) / world_size()


def gather(items: list[Any]) -> list[Any]:
    """The lists of all processes joined into one, in every process.

    >>> gather([1, 2])
    [1, 2]
    """
    if world_size() == 1:
        return items
    parts: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def wait_for_all() -> None:
    """Return when every process has come this far."""
    if world_size() > 1:
        dist.barrier()


def parallel(rpn: nn.Module) -> nn.Module:
    """A network to call in training, whose gradients are those of the whole batch.

    Args:
        rpn: changed in place: its batch normalisation and loss look at all processes.

    Returns:
        itself with one process, else wrapped in `DistributedDataParallel`.
    """
    if world_size() == 1:
        return rpn
    share_batch_norm(rpn)
    if isinstance(rpn.loss, RPNLoss):
        rpn.loss = SharedLoss(rpn.loss)
    # The buffers are the same anyway; the option's name differs between versions.
    parameters = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers"
    name = name if name in parameters else "broadcast_buffers"
    options: dict[str, Any] = {name: False, "gradient_as_bucket_view": True}
    wrapped = nn.parallel.DistributedDataParallel(rpn, **options)
    wrapped.register_comm_hook(None, _timed_all_reduce)
    return wrapped


def unshare(rpn: nn.Module) -> None:
    """Undo what `parallel` has changed, so that the network works alone again."""
    for module in rpn.modules():
        if isinstance(module, SharedBatchNorm2d):
            module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
    loss = getattr(rpn, "loss", None)
    if isinstance(loss, SharedLoss):
        rpn.loss = loss.inner


def _sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a small tensor over all processes, without gradient.

    Each sends its own to all and adds up what it gets: an all-reduce takes two rounds,
    which only pays where there is much to send.
    """
    start = time.perf_counter()
    parts = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(parts, values)
    SPENT["seconds"] += time.perf_counter() - start
    SPENT["calls"] += 1
    return torch.stack(parts).sum(dim=0)


def _timed_all_reduce(state, bucket):  # type: ignore[no-untyped-def]
    """Average a bucket of gradients, as DDP does by itself, and note the time."""
    start = time.perf_counter()
    gradients = bucket.buffer().div_(world_size())
    future = dist.all_reduce(gradients, async_op=True).get_future()

    def done(finished: Any) -> Tensor:
        SPENT["seconds"] += time.perf_counter() - start
        SPENT["calls"] += 1
        value: Tensor = finished.value()[0]
        return value

    return future.then(done)


# Batch normalisation over all processes. torch's SyncBatchNorm does it on GPUs only.


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
        sums = _sum_over_processes(sums)  # (2 C + 1,)
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
        sums = _sum_over_processes(torch.cat([weight_grad, bias_grad]).double())
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


class SharedLoss(nn.Module):
    """A loss whose mean over processes is that of the whole batch.

    `RPNLoss` divides sums by numbers of its own batch: anchors sampled, objects among
    them, cells. Here each process multiplies by its number and divides by the mean of
    all, so that the mean over processes is the sum over all images divided by the
    number of all images. In evaluation each process has images of its own, and nothing
    is shared.

    Args:
        inner: the loss.
    """

    def __init__(self, inner: RPNLoss) -> None:
        super().__init__()
        self.inner = inner
        self.box = inner.box

    def forward(
        self,
        scores: Tensor,
        labels: Tensor,
        predicted: Tensor,
        targets: Tensor,
        num_cells: int = 1,
    ) -> dict[str, Tensor]:
        """As `RPNLoss.forward`."""
        losses: dict[str, Tensor] = self.inner(
            scores, labels, predicted, targets, num_cells
        )
        if not self.training:
            return losses
        own = torch.tensor(
            [len(labels), len(targets), num_cells],
            dtype=torch.float64,
            device=scores.device,
        )
        share = (own / mean_over_processes(own).clamp(min=1e-9)).to(scores.dtype)
        box = {"sampled": 0, "positives": 1, "paper": 2}[self.inner.normalizer]
        return {
            "objectness": losses["objectness"] * share[0],
            "box": losses["box"] * share[box],
        }


def only_first(function: Callable[..., None]) -> Callable[..., None]:
    """A function that does something in process 0 and nothing in the others.

    >>> only_first(print)("written once")
    written once
    """

    def call(*args: Any, **options: Any) -> None:
        if rank() == 0:
            function(*args, **options)

    return call

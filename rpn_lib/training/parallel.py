"""A network whose processes train it as one: gradients, batch normalisation, loss.

`DistributedDataParallel` averages the gradients; `parallel` also lets batch
normalisation look at all processes' images and lets the losses be divided by their
counts.
"""

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rpn_lib.loss import RPNLoss
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training.batch_norm import SharedBatchNorm2d, share_batch_norm
from rpn_lib.training.processes import SPENT, mean_over_processes, world_size


@contextmanager
def parallel(rpn: RegionProposalNetwork) -> Iterator[nn.Module]:
    """A network to call in training, whose gradients are those of the whole batch.

    Args:
        rpn: put into training mode. While the context lasts, its batch normalisation
            and loss look at all processes.

    Yields:
        itself with one process, else wrapped in `DistributedDataParallel`.
    """
    # Channels last is the order that convolutions on a processor like best.
    rpn.train().to(memory_format=torch.channels_last)
    if world_size() == 1:
        yield rpn
        return
    try:
        yield _wrapped(rpn)
    finally:
        _unshare(rpn)


def _wrapped(rpn: RegionProposalNetwork) -> nn.Module:
    share_batch_norm(rpn)
    network: Any = rpn  # whose loss may be any that is called like ours
    if isinstance(network.loss, RPNLoss):
        network.loss = SharedLoss(network.loss)
    # The buffers are the same anyway; the option's name differs between versions.
    parameters = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers"
    name = name if name in parameters else "broadcast_buffers"
    options: dict[str, Any] = {name: False, "gradient_as_bucket_view": True}
    wrapped = nn.parallel.DistributedDataParallel(rpn, **options)
    wrapped.register_comm_hook(None, _timed_all_reduce)
    return wrapped


def _unshare(rpn: RegionProposalNetwork) -> None:
    """Undo what `_wrapped` has changed, so that the network works alone again."""
    for module in rpn.modules():
        if isinstance(module, SharedBatchNorm2d):
            module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
    loss: Any = rpn.loss
    if isinstance(loss, SharedLoss):
        rpn.loss = loss.inner


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


class SharedLoss(nn.Module):
    """A loss whose mean over processes is that of the whole batch.

    `RPNLoss` divides sums by numbers of its own batch: anchors sampled, objects among
    them, cells. Here each process divides by the mean of all processes' numbers, so
    that the mean over processes is the sum over all images divided by the number of all
    images. In evaluation each process has images of its own, and nothing is shared.

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
        counts = None
        if self.training:
            own = torch.tensor(
                [len(labels), len(targets), num_cells],
                dtype=torch.float64,
                device=scores.device,
            )
            counts = mean_over_processes(own).float()
        losses: dict[str, Tensor] = self.inner(
            scores, labels, predicted, targets, num_cells, counts
        )
        return losses

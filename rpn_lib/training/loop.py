"""Training: the loop.

What is random in it depends on seed and place alone (`rpn_lib.training.order`), and all
that it needs to go on is in its checkpoints (`rpn_lib.training.state`). `rpn train` is
a command around it.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rpn_lib.data.progress import Bar, bar
from rpn_lib.data.records import Sample, Target
from rpn_lib.errors import arguments_of, refuse_unknown
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training import processes
from rpn_lib.training.checkpoint import Checkpoints
from rpn_lib.training.config import TrainConfig, TrainOptions
from rpn_lib.training.order import Order
from rpn_lib.training.parallel import parallel
from rpn_lib.training.state import TrainingState

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train(
    rpn: RegionProposalNetwork,
    dataset: Dataset[Sample],
    config: TrainConfig | None = None,
    *,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    progress: bool = False,
    after_step: Callable[[dict[str, float]], None] | None = None,
    after_epoch: Callable[[int, dict[str, float]], None] | None = None,
    **changes: "Unpack[TrainOptions]",
) -> list[dict[str, float]]:
    """Train a network, in one process or in several (`torchrun`).

    Args:
        rpn: trained in place, on the device where it is.
        dataset: samples as in `rpn_lib.data`.
        config: how to learn; see `TrainConfig` for its fields and their defaults.
        checkpoints: where to save; a Ctrl-C then stops after a step, and saves.
        resume: continue from the last checkpoint, if there is one.
        progress: show a bar.
        after_step: called with step, epoch, learning rate, losses, norm of the gradient
            and the seconds of the step, those of them spent waiting for data.
        after_epoch: called with the number of the epoch and its mean losses.
        **changes: fields of `config` by name, `epochs=3`.

    Returns:
        for each step its losses, by name, those before an interruption too.

    Raises:
        SettingError: a setting that cannot work, or that there is not.
        TrainingError: a loss that is not finite, fewer images than a batch, a
            checkpoint of a run with other settings or one that cannot be written.
        Interrupted: a signal, where there are checkpoints.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import small_rpn
    >>> history = train(small_rpn(), ShapesDataset(length=2), epochs=1, batch_size=2)
    >>> sorted(history[0])
    ['box', 'objectness']
    """
    refuse_unknown(changes, arguments_of(train, TrainConfig))
    config = replace(config or TrainConfig(), **changes)
    order = Order(dataset, config)
    with parallel(rpn) as network, processes.signals(checkpoints is not None) as asked:
        run = TrainingState(rpn, config, order, checkpoints)
        if resume:
            run.restore()
        with _bar(run, progress) as shown:
            for epoch in range(run.step // order.per_epoch, config.epochs):
                clock = time.perf_counter()
                for images, targets in order.batches(epoch, run.step % order.per_epoch):
                    waited = time.perf_counter() - clock
                    learnt = _step(network, run, order, images, targets)
                    if after_step is not None:
                        row = {"step": run.step, "epoch": epoch, **learnt}
                        seconds = time.perf_counter() - clock
                        after_step(row | {"waiting": waited, "seconds": seconds})
                    shown.update()
                    stop = asked.stop_everywhere()
                    if run.step % order.per_epoch:  # at the end of an epoch see below
                        run.pause(stop, due=run.is_due())
                    clock = time.perf_counter()
                if after_epoch is not None:
                    after_epoch(epoch, _mean_of(run.history[-order.per_epoch :]))
                run.pause(stop, due=True)
    return run.history


def _bar(run: TrainingState, show: bool) -> Bar[object]:
    show = show and processes.rank() == 0
    how: dict[str, Any] = {"initial": run.step, "unit": "step", "smoothing": 0.05}
    return bar(total=run.total, show=show, **how)


def _step(
    network: nn.Module,
    run: TrainingState,
    order: Order,
    images: Sequence[Tensor],
    targets: Sequence[Target],
) -> dict[str, float]:
    """Learn from one batch; its learning rate, losses and norm of the gradient."""
    with run.mixed_precision():
        losses = _losses(network, images, targets, order.generators(run.step))
    values = processes.means([*losses.values()])
    run.require_finite("loss", values, targets)

    scaler = run.mixed_precision.scaler
    run.optimizer.zero_grad()
    total = torch.stack([*losses.values()]).sum()
    scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(run.optimizer)
    limit = math.inf if run.config.clip_norm is None else run.config.clip_norm
    norm = nn.utils.clip_grad_norm_(run.rpn.parameters(), limit).item()
    if not scaler.is_enabled():  # which passes over such steps itself
        run.require_finite("gradient", [norm], targets)

    rate = float(run.schedule.get_last_lr()[0])
    scaler.step(run.optimizer)
    scaler.update()
    run.schedule.step()
    run.history.append(dict(zip(losses, values)))
    return {"lr": rate, **run.history[-1], "grad_norm": norm}


def _losses(
    network: nn.Module,
    images: Sequence[Tensor],
    targets: Sequence[Target],
    generators: Sequence[torch.Generator],
) -> dict[str, Tensor]:
    """The losses of a batch, by name."""
    device = next(network.parameters()).device
    regions = None
    if any(len(target.get("ignore_boxes", ())) for target in targets):
        regions = [target["ignore_boxes"] for target in targets]
    losses: dict[str, Tensor] = network(
        [image.to(device, non_blocking=True) for image in images],
        [target["boxes"] for target in targets],
        propose=False,
        names=[str(target["image_id"]) for target in targets],
        ignore_boxes=regions,
        generator=generators,
    ).losses
    return losses


def _mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}

"""Training: the loop.

Everything that is random depends on the seed and on where in the run it happens: the
order of the images on the epoch, an augmentation on the epoch and the image, the
anchors sampled on the step and the place in the batch. So a run that was interrupted
continues as if it had not been, and several processes do together what one does alone.

`rpn train` is a command around it (`rpn_lib.cli`).
"""

import hashlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm  # not tqdm.auto: it warns in kernels without ipywidgets

from rpn_lib.data.batches import collate
from rpn_lib.data.records import Sample, Target
from rpn_lib.errors import Interrupted, TrainingError
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training import processes
from rpn_lib.training.checkpoint import (
    Checkpoints,
    State,
    random_states,
    restore_random_states,
    size_of,
)
from rpn_lib.training.parallel import parallel, unshare


def train(
    rpn: RegionProposalNetwork,
    dataset: Dataset[Sample],
    *,
    epochs: int = 12,
    batch_size: int = 8,
    lr: float = 2e-3,
    weight_decay: float = 1e-2,
    seed: int = 0,
    optimizer: Literal["adamw", "sgd"] = "adamw",
    schedule: Literal["one-cycle", "cosine", "step", "constant"] = "one-cycle",
    warmup: float | None = None,
    clip_norm: float | None = None,
    amp: bool = False,
    workers: int = 0,
    checkpoints: Checkpoints | None = None,
    save_every: int | None = None,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    progress: bool = False,
    after_step: Callable[[dict[str, float]], None] | None = None,
    after_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train a network, in one process or in several (`torchrun`).

    Args:
        rpn: trained in place, on the device where it is.
        dataset: samples as in `rpn_lib.data`.
        epochs: passes over the data set, 1 or more.
        batch_size: images of a step, over all processes; a last, smaller batch is left
            out.
        lr: highest learning rate.
        weight_decay: of the optimiser.
        seed: of the order of the images, of what `dataset` draws from torch's generator
            and of the sampled anchors.
        optimizer: `"adamw"`, or `"sgd"` with momentum 0.9, as in the paper.
        schedule: of the learning rate after warm-up: `"one-cycle"` (Smith and Topin
            2017) and `"cosine"` fall to almost 0, `"step"` to a tenth at 3/4 of the
            steps, as in the paper.
        warmup: share of the steps in which the rate rises; 0.3 of one cycle, 0.05
            otherwise if not given.
        clip_norm: largest norm of the gradient; longer ones are shortened to it.
        amp: mixed precision: bfloat16 on a CPU, and on a GPU where it has it.
        workers: processes that read images; 0 reads in between steps.
        checkpoints: where to save; a Ctrl-C then stops after a step, and saves.
        save_every: steps between checkpoints besides those at the end of each epoch.
        resume: continue from the last checkpoint, if there is one.
        settings: put into checkpoints, so that `load_checkpoint` can build the network.
        progress: show a bar.
        after_step: called with step, epoch, learning rate, losses, norm of the gradient
            and the seconds of the step, those of them spent waiting for data.
        after_epoch: called with the number of the epoch and its mean losses.

    Returns:
        for each step its losses, by name, those before an interruption too.

    Raises:
        TrainingError: a loss that is not finite, fewer images than a batch, a
            checkpoint of a run with other settings or one that cannot be written.
        Interrupted: a signal, where there are checkpoints.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import small_rpn
    >>> history = train(small_rpn(), ShapesDataset(length=2), epochs=1, batch_size=2)
    >>> sorted(history[0])
    ['box', 'objectness']
    """
    device = next(rpn.parameters()).device
    length = len(dataset)  # type: ignore[arg-type]
    per_epoch = length // batch_size if batch_size > 0 else 0
    total_steps = epochs * per_epoch
    share = batch_size // processes.world_size()
    _check(epochs, batch_size, per_epoch, lr)
    # Channels last is the order that convolutions on a processor like best.
    rpn.train().to(memory_format=torch.channels_last)
    network: Any = parallel(rpn)
    optim = _optimizer(optimizer, rpn, lr, weight_decay)
    rates = _schedule(schedule, optim, lr, warmup, total_steps)
    low = torch.bfloat16
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        low = torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=amp and low == torch.float16)
    run: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}
    run |= {"images": length, "seed": seed, "lr": lr, "weight_decay": weight_decay}
    run |= {"optimizer": optimizer, "schedule": schedule, "amp": amp}
    parts: dict[str, Any] = {"optimizer": optim, "schedule": rates, "scaler": scaler}
    step, history = 0, list[dict[str, float]]()
    if checkpoints is not None:
        checkpoints.prepare(3 * size_of(rpn.state_dict()))
        if resume:
            step, history = _restore(checkpoints, rpn, parts, run, device)

    def save() -> None:
        if checkpoints is not None and processes.rank() == 0:
            state = _state(rpn, parts, run, history, settings)
            checkpoints.save(state, step)
        processes.wait_for_all()

    bar = tqdm(
        total=total_steps,
        initial=step,
        disable=not progress or processes.rank() > 0,
        unit="step",
        smoothing=0.05,
        mininterval=0.1 if sys.stderr.isatty() else 10,  # a log needs few lines
    )
    with _signals(checkpoints is not None) as asked, bar, _as_before(rpn):
        for epoch in range(step // per_epoch, epochs):
            batches = _batches(dataset, batch_size, epoch, seed, workers)
            clock = time.perf_counter()
            for images, targets in batches(step % per_epoch):
                waited = time.perf_counter() - clock
                names = [str(target["image_id"]) for target in targets]
                first = processes.rank() * share
                rpn.generator = [
                    _generator(seed, "anchors", step, first + i) for i in range(share)
                ]
                with torch.autocast(device.type, dtype=low, enabled=amp):
                    losses = _losses(network, images, targets, names, device)
                values = _mean([*losses.values()])
                if not math.isfinite(sum(values)):
                    raise _not_finite("loss", step, names, lr, checkpoints)
                optim.zero_grad()
                total = torch.stack([*losses.values()]).sum()
                scaler.scale(total).backward()  # type: ignore[no-untyped-call]
                scaler.unscale_(optim)
                norm = nn.utils.clip_grad_norm_(
                    rpn.parameters(), math.inf if clip_norm is None else clip_norm
                ).item()
                if not math.isfinite(norm) and not scaler.is_enabled():
                    raise _not_finite("gradient", step, names, lr, checkpoints)
                rate = rates.get_last_lr()[0]
                scaler.step(optim)
                scaler.update()
                rates.step()
                step += 1
                history.append(dict(zip(losses, values)))
                seconds = time.perf_counter() - clock
                if after_step is not None:
                    row = {"step": step, "epoch": epoch, "lr": float(rate)}
                    row |= {**history[-1], "grad_norm": norm}
                    after_step(row | {"seconds": seconds, "waiting": waited})
                bar.update()
                stop = any(_mean([asked["stop"]]))  # all processes, or none
                if step % per_epoch:
                    if stop or (save_every and step % save_every == 0):
                        save()
                    if stop:
                        raise _interrupted(step, total_steps, checkpoints)
                clock = time.perf_counter()
            if after_epoch is not None:
                after_epoch(epoch, _mean_of(history[-per_epoch:]))
            save()
            if stop and step < total_steps:
                raise _interrupted(step, total_steps, checkpoints)
    return history


# What the loop calls


def _check(epochs: int, batch_size: int, per_epoch: int, lr: float) -> None:
    if epochs < 1 or not per_epoch:
        raise TrainingError(
            f"{epochs} epochs of {per_epoch} batches of {batch_size} images: nothing "
            "to train on. Give more epochs, more images or smaller batches."
        )
    if batch_size % processes.world_size():
        raise TrainingError(
            f"A batch of {batch_size} images cannot be shared out evenly among "
            f"{processes.world_size()} processes."
        )
    if not 0 < lr < math.inf:
        raise TrainingError(f"lr={lr} must be a number above 0.")


def _optimizer(
    name: str, rpn: nn.Module, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    learnt = [p for p in rpn.parameters() if p.requires_grad]
    if name == "adamw":
        return torch.optim.AdamW(learnt, lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(learnt, lr=lr, momentum=0.9, weight_decay=weight_decay)
    raise TrainingError(f"optimizer is adamw or sgd, not {name!r}.")


def _schedule(
    name: str,
    optimizer: torch.optim.Optimizer,
    lr: float,
    warmup: float | None,
    steps: int,
) -> torch.optim.lr_scheduler.LRScheduler:
    rising = (0.3 if name == "one-cycle" else 0.05) if warmup is None else warmup
    if not 0 <= rising < 1:
        raise TrainingError(f"warmup={warmup} is a share of the steps, from 0 to 1.")
    if name == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=lr, total_steps=steps, pct_start=rising
        )
    falls: dict[str, Callable[[float], float]] = {
        "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
        "step": lambda x: 1.0 if x < 0.75 else 0.1,
        "constant": lambda x: 1.0,
    }
    if name not in falls:
        raise TrainingError(f"schedule is one-cycle, {', '.join(falls)}, not {name!r}.")

    def factor(step: int) -> float:
        if step < rising * steps:
            return (step + 1) / math.ceil(rising * steps)
        return falls[name]((step / steps - rising) / (1 - rising))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _generator(*place: object) -> torch.Generator:
    """A generator that depends on nothing but the place in the run where it is used."""
    digest = hashlib.sha256(repr(place).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class _Epoch(Dataset[Sample]):
    """A data set whose random transforms depend on the epoch and the image alone."""

    def __init__(self, dataset: Dataset[Sample], seed: int, epoch: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, epoch

    def __getitem__(self, index: int) -> Sample:
        with torch.random.fork_rng(devices=[]):
            own = _generator(self.seed, "image", self.epoch, index)
            torch.random.set_rng_state(own.get_state())
            return self.dataset[index]


def _batches(
    dataset: Dataset[Sample], batch_size: int, epoch: int, seed: int, workers: int
) -> Callable[[int], Iterator[tuple[list[Tensor], list[Target]]]]:
    """This process's share of the batches of an epoch, from a given one on."""
    length = len(dataset)  # type: ignore[arg-type]
    order = torch.randperm(length, generator=_generator(seed, "order", epoch))
    whole = order[: length // batch_size * batch_size].view(-1, batch_size)
    mine = whole.chunk(processes.world_size(), dim=1)[processes.rank()]

    def start_at(start: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
        return iter(
            DataLoader(
                _Epoch(dataset, seed, epoch),
                batch_sampler=mine[start:].tolist(),
                collate_fn=collate,
                num_workers=workers,
                worker_init_fn=_leave_signals,
                generator=_generator(seed, "workers", epoch),
            )
        )

    return start_at


def _leave_signals(worker: int) -> None:
    """A Ctrl-C reaches every process of a terminal; only the trainer shall heed it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _losses(
    network: nn.Module,
    images: Sequence[Tensor],
    targets: Sequence[Target],
    names: Sequence[str],
    device: torch.device,
) -> dict[str, Tensor]:
    boxes = [target["boxes"].as_subclass(Tensor) for target in targets]
    regions = None
    if any(len(target.get("ignore_boxes", ())) for target in targets):
        regions = [target["ignore_boxes"].as_subclass(Tensor) for target in targets]
    images = [image.to(device, non_blocking=True) for image in images]
    losses: dict[str, Tensor] = network(
        images, boxes, propose=False, names=names, ignore_boxes=regions
    ).losses
    return losses


def _mean(values: Sequence[Tensor | float]) -> list[float]:
    """Numbers of a step as means over the processes, in one go."""
    joined = torch.stack([torch.as_tensor(v).detach().double().cpu() for v in values])
    if processes.world_size() > 1 and torch.distributed.get_backend() == "nccl":
        joined = joined.cuda()
    numbers: list[float] = processes.mean_over_processes(joined).tolist()
    return numbers


def _mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def _not_finite(
    what: str,
    step: int,
    names: list[str],
    lr: float,
    checkpoints: Checkpoints | None,
) -> TrainingError:
    every = ", ".join(processes.gather(names))
    saved = "" if checkpoints is None else f" {checkpoints.describe()}"
    return TrainingError(
        f"The {what} of step {step} is not finite. The images were {every}. Look at "
        f"their boxes, lower lr={lr}, or limit the gradient with clip_norm.{saved}"
    )


def _interrupted(
    step: int, total: int, checkpoints: Checkpoints | None
) -> TrainingError:
    saved = "" if checkpoints is None else f" {checkpoints.describe()}"
    return Interrupted(f"Stopped after step {step} of {total}.{saved}")


@contextmanager
def _as_before(rpn: RegionProposalNetwork) -> Iterator[None]:
    """Leave the network's generator, batch normalisation and loss as they were."""
    generator = rpn.generator
    try:
        yield
    finally:
        rpn.generator = generator
        unshare(rpn)


@contextmanager
def _signals(catch: bool) -> Iterator[dict[str, float]]:
    """Ctrl-C and SIGTERM ask the loop to stop; a second Ctrl-C stops at once."""
    asked = {"stop": 0.0}
    if not catch or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        asked["stop"] = 1.0
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {
        kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _state(
    rpn: nn.Module,
    parts: dict[str, Any],
    run: dict[str, Any],
    history: list[dict[str, float]],
    settings: dict[str, Any] | None,
) -> State:
    """All that a run needs to continue; nothing in it belongs to one process."""
    names = list(history[0]) if history else []
    return {
        "settings": settings or {},
        "run": run,
        "model": rpn.state_dict(),
        **{name: part.state_dict() for name, part in parts.items()},
        "random": random_states(),
        "names": names,
        "history": torch.tensor(
            [list(row.values()) for row in history], dtype=torch.float64
        ).reshape(-1, len(names)),
    }


def _restore(
    checkpoints: Checkpoints,
    rpn: nn.Module,
    parts: dict[str, Any],
    run: dict[str, Any],
    device: torch.device,
) -> tuple[int, list[dict[str, float]]]:
    """Continue from the last checkpoint that is whole: its step and history."""
    found = checkpoints.latest()
    if found is None:
        if checkpoints.skipped:
            raise TrainingError(
                f"No checkpoint is whole: {' '.join(checkpoints.skipped)}"
            )
        return 0, []
    path, state = found
    try:
        for key, value in run.items():
            if state["run"].get(key) != value:
                raise TrainingError(
                    f"{path} belongs to a run with {key}={state['run'].get(key)}, not "
                    f"{value}. Continue with the same settings, or start a new run in "
                    "another folder."
                )
        rpn.load_state_dict(state["model"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
        restore_random_states(state["random"])
        rows = state["history"].tolist()
        history = [dict(zip(state["names"], row)) for row in rows]
    except (KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(
            f"{path} does not fit this network or program: {error}"
        ) from error
    return len(history), history

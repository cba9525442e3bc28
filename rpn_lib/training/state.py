"""Where a run stands: all that it needs to go on, in memory and in checkpoints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from rpn_lib.data.records import Target
from rpn_lib.errors import Interrupted, RPNError, TrainingError
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training import processes
from rpn_lib.training.checkpoint import FORMAT, Checkpoints, State, size_of
from rpn_lib.training.config import TrainConfig
from rpn_lib.training.options import options
from rpn_lib.training.order import Order, random_states, restore_random_states
from rpn_lib.training.schedule import MixedPrecision, make_optimizer, make_schedule


class TrainingState:
    """The network, its optimiser and schedule, and what was learnt so far.

    Args:
        rpn: the network, on the device where it is trained.
        config: how it learns.
        order: the batches.
        checkpoints: where to save, if anywhere.

    Attributes:
        history: the losses of each step, by name.
    """

    def __init__(
        self,
        rpn: RegionProposalNetwork,
        config: TrainConfig,
        order: Order,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.rpn, self.config, self.total = rpn, config, order.total
        self.checkpoints = checkpoints
        self.run = {"images": order.images, **asdict(config)}
        self.optimizer = make_optimizer(rpn, config)
        self.schedule = make_schedule(self.optimizer, config, order.total)
        device = next(rpn.parameters()).device
        self.mixed_precision = MixedPrecision(device, config.amp)
        self.history: list[dict[str, float]] = []
        if checkpoints is not None:
            checkpoints.prepare(3 * size_of(rpn.state_dict()))

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.history)

    def _parts(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.mixed_precision.scaler,
        }

    def content(self) -> State:
        """What a checkpoint holds; nothing in it belongs to one process."""
        names = list(self.history[0]) if self.history else []
        rows = [list(row.values()) for row in self.history]
        return {
            "format": FORMAT,
            "settings": {},
            **(self.checkpoints.about if self.checkpoints else {}),
            "run": self.run,
            "model": self.rpn.state_dict(),
            **{name: part.state_dict() for name, part in self._parts().items()},
            "random": random_states(),
            "names": names,
            "history": torch.tensor(rows, dtype=torch.float64).reshape(-1, len(names)),
        }

    def save(self) -> None:
        """Write a checkpoint, in the first process; the others wait for it."""
        if self.checkpoints is not None and processes.rank() == 0:
            self.checkpoints.save(self.content(), self.step)
        processes.wait_for_all()

    def pause(self, stop: bool, due: bool) -> None:
        """Between two steps: save where it is due, and stop where that is asked for.

        Raises:
            Interrupted: there are steps left.
        """
        if stop or due:
            self.save()
        if stop and self.step < self.total:
            raise Interrupted(
                f"Stopped after step {self.step} of {self.total}.{self._saved()}"
            )

    def is_due(self) -> bool:
        """Whether `save_every` wants a checkpoint now."""
        every = self.config.save_every
        return every is not None and self.step % every == 0

    def restore(self) -> None:
        """Continue from the last checkpoint that is whole, if there is one.

        Raises:
            TrainingError: none is whole, or it is one of another run.
        """
        if self.checkpoints is None:
            return
        found = self.checkpoints.latest()
        if found is None:
            if self.checkpoints.skipped:
                every = " ".join(self.checkpoints.skipped)
                raise TrainingError(f"No checkpoint is whole: {every}")
            return
        path, state = found
        needed = {"run", "model", "random", "names", "history", *self._parts()}
        missing = sorted(needed - state.keys())
        if missing:
            raise TrainingError(
                f"{path} is no checkpoint of a run that can be continued: it has no "
                f"{', '.join(missing)}. Remove it to continue from the one before, or "
                "start a new run in another folder."
            )
        try:
            self._check_same(path, state["run"])
            self.rpn.load_state_dict(state["model"])
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            restore_random_states(state["random"])
            rows = state["history"].tolist()
            self.history = [dict(zip(state["names"], row)) for row in rows]
        except RPNError:
            raise
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"{path} does not fit this network or program: {error}"
            ) from error

    def _check_same(self, path: object, run: Mapping[str, Any]) -> None:
        """Refuse to go on with other settings than a run was begun with."""
        free = {one.name for one in options(TrainConfig) if one.more.get("free")}
        for name, value in self.run.items():
            # Older checkpoints do not have all of them.
            if name in run and name not in free and run[name] != value:
                raise TrainingError(
                    f"{path} belongs to a run with {name}={run[name]}, not {value}. "
                    "Continue with the same settings, or start a new run in another "
                    "folder."
                )

    def require_finite(
        self, what: str, values: Sequence[float], targets: Sequence[Target]
    ) -> None:
        """Stop at a number that is none, before it does harm.

        Raises:
            TrainingError: with the images of the step and the last good checkpoint.
        """
        if all(map(math.isfinite, values)):
            return
        names = processes.gather([str(target["image_id"]) for target in targets])
        raise TrainingError(
            f"The {what} of step {self.step} is not finite. The images were "
            f"{', '.join(names)}. Look at their boxes, lower lr={self.config.lr}, or "
            f"limit the gradient with clip_norm.{self._saved()}"
        )

    def _saved(self) -> str:
        return "" if self.checkpoints is None else f" {self.checkpoints.describe()}"

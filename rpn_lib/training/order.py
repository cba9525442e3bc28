"""The order of a run: everything that is random depends on seed and place alone.

The order of the images depends on the epoch, an augmentation on the epoch and the
image, the anchors sampled on the step and the place in the batch. So a run that was
interrupted continues as if it had not been, and several processes do together what one
does alone.
"""

import hashlib
import random
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rpn_lib.data.batches import collate
from rpn_lib.data.records import Sample, Target
from rpn_lib.errors import TrainingError
from rpn_lib.training import processes
from rpn_lib.training.config import TrainConfig


def generator_at(*place: object) -> torch.Generator:
    """A generator that depends on nothing but the place in the run where it is used.

    >>> first, again = generator_at(0, "order", 3), generator_at(0, "order", 3)
    >>> torch.equal(torch.rand(2, generator=first), torch.rand(2, generator=again))
    True
    """
    digest = hashlib.sha256(repr(place).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Order:
    """The batches of a run, this process's share of each.

    Args:
        dataset: samples as in `rpn_lib.data`.
        config: `epochs`, `batch_size`, `seed`, `workers`.

    Attributes:
        images: how many images there are.
        per_epoch: steps of an epoch; a last, smaller batch is left out.
        total: steps of the run.
        share: images of a batch that are this process's.

    Raises:
        TrainingError: fewer images than a batch, or a batch that cannot be shared out.
    """

    def __init__(self, dataset: Dataset[Sample], config: TrainConfig) -> None:
        self.dataset, self.config = dataset, config
        self.images = len(dataset)  # type: ignore[arg-type]
        self.per_epoch = self.images // config.batch_size
        self.total = config.epochs * self.per_epoch
        self.share = config.batch_size // processes.world_size()
        if not self.per_epoch:
            raise TrainingError(
                f"{config.epochs} epochs of 0 batches of {config.batch_size} images: "
                f"nothing to train on. There are {self.images} images: give more of "
                "them, or a smaller batch_size."
            )
        if config.batch_size % processes.world_size():
            raise TrainingError(
                f"A batch of {config.batch_size} images cannot be shared out evenly "
                f"among {processes.world_size()} processes."
            )

    def batches(
        self, epoch: int, start: int = 0
    ) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """The batches of an epoch, from a given one on."""
        seed, size = self.config.seed, self.config.batch_size
        order = torch.randperm(
            self.images, generator=generator_at(seed, "order", epoch)
        )
        whole = order[: self.per_epoch * size].view(-1, size)
        mine = whole.chunk(processes.world_size(), dim=1)[processes.rank()]
        return iter(
            DataLoader(
                _Epoch(self.dataset, seed, epoch),
                batch_sampler=mine[start:].tolist(),
                collate_fn=collate,
                num_workers=self.config.workers,
                worker_init_fn=_leave_signals,
                generator=generator_at(seed, "workers", epoch),
            )
        )

    def generators(self, step: int) -> list[torch.Generator]:
        """For each image of a batch the generator that its anchors are sampled with."""
        first = processes.rank() * self.share
        places = range(first, first + self.share)
        return [generator_at(self.config.seed, "anchors", step, i) for i in places]


class _Epoch(Dataset[Sample]):
    """A data set whose random transforms depend on the epoch and the image alone."""

    def __init__(self, dataset: Dataset[Sample], seed: int, epoch: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, epoch

    def __getitem__(self, index: int) -> Sample:
        with torch.random.fork_rng(devices=[]):
            own = generator_at(self.seed, "image", self.epoch, index)
            torch.random.set_rng_state(own.get_state())
            return self.dataset[index]


def _leave_signals(worker: int) -> None:
    """A Ctrl-C reaches every process of a terminal; only the trainer may heed it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def random_states() -> dict[str, Any]:
    """The states of torch's, NumPy's and Python's global generators.

    >>> states = random_states()
    >>> first = torch.rand(2), np.random.rand(), random.random()
    >>> restore_random_states(states)
    >>> second = torch.rand(2), np.random.rand(), random.random()
    >>> torch.equal(first[0], second[0]), first[1:] == second[1:]
    (True, True)
    """
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (it is what others use)
    return {
        "torch": torch.get_rng_state(),
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo what has been drawn since `random_states`."""
    torch.set_rng_state(states["torch"])
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002

"""Checkpoints: what has been learnt survives a crash, a full disk and a power cut.

A checkpoint is written beside its place and moved there in one step, so a reader sees
the old file or the new one, never half of one. The last two are kept, and the older one
goes only when the newer one is complete. Reading verifies the checksums that torch's
zip format carries, and takes nothing but tensors and plain values (`weights_only`).
"""

import contextlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rpn_lib.errors import TrainingError
from rpn_lib.models import network_of
from rpn_lib.rpn import RegionProposalNetwork

State = dict[str, Any]

# What a checkpoint holds: `format`, this number; `settings`, those of `build_rpn`;
# `data`, how the images were read; `model`, the weights. The checkpoints of a run that
# can go on have more, see `rpn_lib.training.state`. The first format had no number, and
# everything else was as now.
FORMAT = 2


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace a file in one step; where that fails, the old one is untouched.

    Args:
        path: the file; its folder must be there.
        content: all of it.

    Raises:
        OSError: no space, no permission, no folder.

    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_atomically(path, b"new")
    >>> path.read_bytes(), [p.name for p in path.parent.iterdir()]
    (b'new', ['a.txt'])
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the move, or a power cut leaves nothing
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # mkstemp's files are for their owner alone
        Path(name).replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say of which file
        raise
    with contextlib.suppress(OSError):  # folders cannot be opened on every system
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save_state(path: str | Path, state: State) -> None:
    """Write a state with `torch.save`, in one step.

    Args:
        path: the file.
        state: tensors, numbers, texts, lists and dictionaries.

    Raises:
        OSError: as `write_atomically`.

    >>> path = Path(tempfile.mkdtemp()) / "a.pt"
    >>> save_state(path, {"step": 3})
    >>> read_state(path)
    {'step': 3}
    """
    # Into memory first: torch's own writer tells nobody that a disk was full.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def read_state(path: str | Path, device: str = "cpu") -> State:
    """Read what `save_state` wrote, after a look at the checksums.

    Args:
        path: the file.
        device: where its tensors shall live.

    Raises:
        TrainingError: no such file, or one that is damaged or no checkpoint.

    >>> read_state("nowhere.pt")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.errors.TrainingError: nowhere.pt is missing; train first, or name ...
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise TrainingError(
            f"{path} is missing; train first, or name another."
        ) from error
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error}.") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"its part {broken} is damaged")
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a broken file
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise TrainingError(
            f"{path} is no checkpoint of this program, or was damaged: {reason}."
        ) from error
    if not isinstance(state, dict):
        raise TrainingError(f"{path} is no checkpoint of this program.")
    if state.get("format", 1) not in range(1, FORMAT + 1):
        raise TrainingError(
            f"{path} has format {state['format']}, and this version of rpn_lib knows "
            f"those up to {FORMAT}: install the version that has written it."
        )
    return state


def save_network(
    path: str | Path, rpn: RegionProposalNetwork, about: Mapping[str, Any]
) -> None:
    """Write a checkpoint of a network that is trained.

    Args:
        path: the file.
        rpn: the network.
        about: `settings` of `build_rpn`, so that it can be built again; `data`.

    Raises:
        OSError: as `write_atomically`.

    >>> from rpn_lib.models import small_rpn
    >>> path = Path(tempfile.mkdtemp()) / "a.pt"
    >>> save_network(path, small_rpn(sizes=[16]), {"settings": {"sizes": [16]}})
    >>> load_checkpoint(path).anchors.num_anchors
    [3]
    """
    save_state(path, {"format": FORMAT, **about, "model": rpn.state_dict()})


def load_checkpoint(path: str | Path) -> RegionProposalNetwork:
    """Build the network that a checkpoint of the command line holds.

    Args:
        path: the `checkpoint.pt` that a run has written, or one of its
            `checkpoints/step-*.pt`.

    Returns:
        the trained network, in evaluation mode, on the CPU.

    Raises:
        TrainingError: no such file, or one that is no checkpoint.

    >>> load_checkpoint("nowhere.pt")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.errors.TrainingError: nowhere.pt is missing; train first, or name ...
    """
    return network_of(read_state(path), path)


class Checkpoints:
    """The last checkpoints of a run, in a folder of their own.

    Args:
        folder: made when it is needed.
        keep: how many to keep, 2 or more: one of them is whole whatever happens.
        about: what each says besides; with `settings` of `build_rpn`,
            `load_checkpoint` can build the network.

    Attributes:
        skipped: what was wrong with those that `latest` passed over.

    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()))
    >>> for step in (10, 20, 30):
    ...     path = checkpoints.save({"step": step}, step)
    >>> [path.name for path in checkpoints.paths()]
    ['step-00000020.pt', 'step-00000030.pt']
    >>> checkpoints.latest()[1]
    {'step': 30}
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 2,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.keep = max(keep, 2)
        self.about = about or {}
        self.skipped: list[str] = []

    def paths(self) -> list[Path]:
        """The files that are there, the oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def prepare(self, size: int) -> None:
        """Make the folder, and see before hours are spent whether it can be written.

        Args:
            size: bytes of a checkpoint, about.

        Raises:
            TrainingError: a folder that cannot be written, or a disk that is full.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / "write-test", b"x")
            (self.folder / "write-test").unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(
                f"{self.folder} cannot be written ({error}); nothing would be saved. "
                "Choose another folder with --out."
            ) from error
        for left in self.folder.glob(".step-*.pt-*"):  # of a run that was killed
            left.unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < (self.keep + 1) * size:
            raise TrainingError(
                f"{self.folder} has {free / 1e6:,.0f} MB free, and {self.keep + 1} "
                f"checkpoints of {size / 1e6:,.0f} MB must fit. Make room, or choose "
                "another folder with --out."
            )

    def save(self, state: State, step: int) -> Path:
        """Write a checkpoint, then remove the oldest ones beyond `keep`.

        Args:
            state: see `save_state`.
            step: the number of the step that it is written after.

        Returns:
            the file.

        Raises:
            TrainingError: it cannot be written; those before it are still there.
        """
        path = self.folder / f"step-{step:08d}.pt"
        try:
            save_state(path, state)
        except OSError as error:
            raise TrainingError(
                f"The checkpoint of step {step} could not be written: {error}. "
                f"{self.describe()} Make room, then continue with --resume."
            ) from error
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def latest(self) -> tuple[Path, State] | None:
        """The newest checkpoint that is whole, or `None`.

        Those that are damaged are passed over, and noted in `skipped`.
        """
        self.skipped = []
        for path in reversed(self.paths()):
            try:
                return path, read_state(path)
            except TrainingError as error:
                self.skipped.append(str(error))
        return None

    def describe(self) -> str:
        """A sentence that names the last checkpoint."""
        paths = self.paths()
        if not paths:
            return "There is no checkpoint yet."
        return f"The last good checkpoint is {paths[-1]}."


def size_of(tensors: dict[str, Tensor]) -> int:
    """Bytes of the tensors of a `state_dict`.

    >>> size_of({"weight": torch.zeros(10)})
    40
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

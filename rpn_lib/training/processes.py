"""Several processes that train one network, as if they were one.

`torchrun` starts several processes; here they find each other, and what each of them
knows is gathered, so that each image counts once. What a process itself needs while it
trains is here too: cores of its own, signals, memory.

Dimension letters: B images of a process; C channels; H, W rows and columns of a map.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rpn_lib.errors import ProcessLost, RPNError

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
        ProcessLost: another process has ended.

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
            if isinstance(error, RPNError) or not _is_lost(error):
                raise
            first = str(error).splitlines()[0][:160]
            raise ProcessLost(
                f"Process {rank()} has lost the others: one of them has ended "
                f"({first}). Continue from the last checkpoint with --resume."
            ) from error
        finally:
            dist.destroy_process_group()


def cores() -> list[int]:
    """The numbers of the cores that this process may use, in order.

    Where the system does not tell (macOS, Windows), all of the machine.
    """
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return [*range(os.cpu_count() or 1)]


@contextmanager
def _own_cores(device: str) -> Iterator[None]:
    """Give each process of a machine cores of its own, where Linux allows it.

    They meet some twenty times a step. A process that wakes up on the core of another
    waits there for its turn, and all others wait with it; so does one whose threads
    take turns on a core. (A GPU's driver has its own threads: they are left alone.)
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    there = cores() if sys.platform == "linux" else []
    share = len(there) // processes
    if device != "cpu" or share == 0:
        yield
        return
    first = int(os.environ.get("LOCAL_RANK", "0")) * share
    threads = torch.get_num_threads()
    os.sched_setaffinity(0, there[first : first + share])
    torch.set_num_threads(min(threads, share))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, there)


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
    return sum_over_processes(values.detach()) / world_size()


def means(values: Sequence[Tensor | float]) -> list[float]:
    """Numbers of a step as means over the processes, in one go.

    Args:
        values: scalars, on any device.

    >>> means([torch.tensor(0.5), 2.0])
    [0.5, 2.0]
    """
    joined = torch.stack([torch.as_tensor(v).detach().double().cpu() for v in values])
    if world_size() > 1 and dist.get_backend() == "nccl":
        joined = joined.cuda()
    numbers: list[float] = mean_over_processes(joined).tolist()
    return numbers


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


def sum_over_processes(values: Tensor) -> Tensor:
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


class Asked:
    """Whether this process was asked to stop.

    >>> Asked().stop_everywhere()
    False
    """

    def __init__(self) -> None:
        self.stop = False

    def note(self, number: int, frame: object) -> None:
        """A handler of signals; the next Ctrl-C stops at once."""
        self.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop_everywhere(self) -> bool:
        """Whether any process was asked: all of them stop, or none."""
        return any(means([float(self.stop)]))


@contextmanager
def signals(catch: bool = True) -> Iterator[Asked]:
    """Ctrl-C and SIGTERM ask a loop to stop; a second Ctrl-C stops at once.

    Args:
        catch: whether they are caught; if not, they do what they do elsewhere.

    Yields:
        what the loop looks at.
    """
    asked = Asked()
    if not catch or threading.current_thread() is not threading.main_thread():
        yield asked
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, asked.note) for kind in kinds}
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def keep_memory() -> None:
    """Let the C library keep what one step frees for the next one.

    glibc mostly hands large blocks back to the system, which clears them page by page
    for the next step: a tenth of a step on a CPU. Elsewhere nothing changes.
    """
    trim_threshold, mmap_threshold = -1, -3  # their numbers in malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 2**25)  # the most that it takes
        library.mallopt(trim_threshold, 2**30)

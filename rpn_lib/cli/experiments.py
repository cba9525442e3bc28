"""`rpn experiments`: the paper's questions asked of synthetic scenes, or of a folder.

Each run is a file in `runs/`, written when it is finished, so that whatever stops the
command costs no more than the runs in flight. The table of all of them is
`experiments.json`.
"""

import argparse
import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from rpn_lib.cli.console import log
from rpn_lib.cli.images import open_images
from rpn_lib.data.progress import Bar, bar
from rpn_lib.errors import RPNError, SettingError, TrainingError
from rpn_lib.training.config import DataConfig
from rpn_lib.training.experiments import (
    Run,
    Sets,
    Setting,
    do_run,
    scenes,
)
from rpn_lib.training.options import from_values
from rpn_lib.training.processes import cores
from rpn_lib.training.runs import (
    finished,
    save_run,
    write_table,
)


def run(options: argparse.Namespace) -> int:
    """Do the runs that are not done yet, and write the table.

    Args:
        options: what the command line gave.

    Returns:
        the exit code.
    """
    if options.processes is not None and options.processes < 1:
        raise SettingError(f"processes={options.processes} must be 1 or more.")
    setting, opened = _setting(options)
    folder = options.out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    done = finished(folder, setting)
    todo = [one for one in setting.runs() if one not in done]
    log.info(
        f"{len(done)} of {len(setting.runs())} runs are finished, {len(todo)} left"
    )
    count = min(options.processes or len(cores()), len(todo))
    try:
        shown: Bar[object]
        with bar(total=len(todo), unit="run") as shown:
            if count == 1:
                _work(setting, todo, folder, opened, shown.update)
            elif count > 1:
                _share(options, todo, folder, count, shown.update)
    except KeyboardInterrupt:
        log.info("What is finished is kept: the same command goes on.")
        raise
    table = options.out / "experiments.json"
    write_table(table, setting, finished(folder, setting))
    log.info(f"wrote {table}")
    return 0


def _setting(options: argparse.Namespace) -> tuple[Setting, Sets | None]:
    """The setting that the options ask for, and the images where it needed them."""
    given = {
        name: getattr(options, name)
        for name in ("seeds", "epochs")
        if getattr(options, name) is not None
    }
    if options.data is None:
        return Setting(**given), None
    data = from_values(DataConfig, {**vars(options), "data": str(options.data)})
    images = open_images(data)
    boxes = torch.cat([torch.zeros(0, 4), *images.objects.boxes])
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    middle = max(4, round(float(sizes.median())))
    steps = max(1, images.length // Setting.batch_size)
    usual = Setting.train_images // Setting.batch_size * Setting.epochs
    values = {
        "data": options.data.resolve().name,
        "train_images": images.length,
        "val_images": len(images.val_set),  # type: ignore[arg-type]
        "image_size": (images.objects.side,),
        "object_sizes": (round(float(sizes.min())), round(float(sizes.max()))),
        "anchor_sizes": (middle // 2, middle, middle * 2),
        "epochs": math.ceil(usual / steps),
    }
    return Setting(**{**values, **given}), Sets(images.train_set, images.val_set)


def _work(
    setting: Setting,
    runs: Sequence[Run],
    folder: Path,
    opened: Sets | None,
    after_run: Callable[[], object] = lambda: None,
) -> None:
    """Do runs, one after the other."""
    parent = parent_process()
    for one in runs:
        if parent is not None and not parent.is_alive():
            return  # whoever starts the command again does the rest
        sets = opened or scenes(setting, one.seed)
        save_run(folder, one, do_run(setting, one, sets))
        after_run()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start processes that a Ctrl-C leaves alone: the first process ends them.

    A terminal sends it to all of them, and one that is still importing torch would
    answer with a traceback. What is ignored when a process starts, it ignores too.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _process(options: argparse.Namespace, runs: list[Run], folder: Path) -> None:
    """What one of several processes does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Windows it is not passed on
    torch.set_num_threads(1)
    try:
        setting, opened = _setting(options)
        _work(setting, runs, folder, opened)
    except (RPNError, OSError) as error:
        sys.exit(f"error: {error}")


def _share(
    options: argparse.Namespace,
    todo: Sequence[Run],
    folder: Path,
    count: int,
    after_run: Callable[[int], object],
) -> None:
    """Do runs in several processes.

    Raises:
        TrainingError: one of them has failed.
    """
    context = get_context("spawn")  # torch's threads do not survive a fork
    workers: list[BaseProcess] = [
        context.Process(target=_process, args=(options, list(todo[i::count]), folder))
        for i in range(count)
    ]
    known = 0
    try:
        with _interrupts_ignored():
            for worker in workers:
                worker.start()
        while any(worker.is_alive() for worker in workers):
            living = [one.sentinel for one in workers if one.is_alive()]
            connection.wait(living, timeout=1)
            now = sum((folder / f"{one.name}.json").is_file() for one in todo)
            after_run(now - known)
            known = now
            for worker in workers:
                if worker.exitcode:
                    raise TrainingError(
                        f"A process ended with code {worker.exitcode}. What is "
                        "finished is kept: the same command goes on. If memory was "
                        "short, give fewer --processes."
                    )
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()

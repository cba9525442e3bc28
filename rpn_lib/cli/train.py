"""`rpn train`: train, measure, and leave everything in a folder."""

import argparse
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from rpn_lib.cli.anchor_choice import choose_anchors, coverage_line
from rpn_lib.cli.console import log
from rpn_lib.cli.device import usable_device
from rpn_lib.cli.images import Images, open_images
from rpn_lib.cli.options import CHECKPOINT
from rpn_lib.cli.report import Report
from rpn_lib.cli.run_folder import (
    draw_proposals,
    prepare_folder,
    refuse_to_replace,
    write_json,
    write_settings,
)
from rpn_lib.cli.settings import RunSettings, given_settings, read_settings, resumed
from rpn_lib.errors import SettingError
from rpn_lib.models import build_rpn, count_levels
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training import processes
from rpn_lib.training.checkpoint import Checkpoints, save_network
from rpn_lib.training.loop import train
from rpn_lib.training.measure import Measured

# Of a run whose epochs are not given.
MIN_STEPS = 300
MIN_EPOCHS = 12


def run(options: argparse.Namespace) -> int:
    """Train as the options say.

    Args:
        options: what the command line gave.

    Returns:
        the exit code.
    """
    given = given_settings(vars(options))
    out: Path = options.out
    choose_epochs = False
    if options.resume:
        if options.overwrite or options.settings is not None:
            other = "--overwrite" if options.overwrite else "--settings"
            raise SettingError(
                f"--resume and {other} contradict each other: a run that is continued "
                "keeps what it has and its settings. Leave one of them out."
            )
        settings = resumed(read_settings(out / "settings.json"), given, out)
    elif options.settings is not None:
        before = read_settings(options.settings)
        settings = before.changed(given)
        if settings.network.anchors != before.network.anchors:
            log.info("the anchors of the file are fitted anew to the other settings")
    else:
        settings = RunSettings.of(given)
        choose_epochs = "epochs" not in given
    run_training(settings, out, options.resume, options.overwrite, choose_epochs)
    return 0


def run_training(
    settings: RunSettings,
    out: Path,
    resume: bool = False,
    overwrite: bool = False,
    choose_epochs: bool = False,
) -> Measured:
    """Train, measure, and leave everything in a folder.

    Args:
        settings: those that are `None` are chosen here, and written with the others to
            `settings.json`.
        out: the folder.
        resume: continue from the last checkpoint.
        overwrite: replace a run that is there already; if neither, it is refused.
        choose_epochs: train for as many epochs as 300 steps take, and 12 or more.

    Returns:
        what the trained network achieves on the validation images.

    Raises:
        RPNError, OSError: what a user can put right.
    """
    _check_network(settings)
    processes.keep_memory()
    settings = replace(settings, device=usable_device(settings.device))
    assert settings.device is not None
    checkpoints = prepare_folder(out)
    with processes.processes(settings.device) as device:
        if not resume and not overwrite:
            refuse_to_replace(out, checkpoints)
        processes.wait_for_all()
        images = open_images(settings.data)
        torch.manual_seed(settings.training.seed)
        settings = _settled(settings, images, choose_epochs)
        rpn = build_rpn(**settings.network.arguments()).to(device)
        if processes.rank() == 0:
            if not resume:  # not before the data are known to be good
                written = ("checkpoint.pt", "proposals.png", "results.json")
                for path in [*checkpoints.paths(), *(out / name for name in written)]:
                    path.unlink(missing_ok=True)
            write_settings(out, settings)
        side = images.objects.side
        log.info(
            f"{images.length:,} images to train on"
            + (f", shorter side {side} pixels" if side else "")
        )
        log.info(coverage_line(rpn.anchors, images.objects))
        result = _learn(rpn, images, settings, out, checkpoints if resume else None)
        processes.wait_for_all()
        return result


def _check_network(settings: RunSettings) -> None:
    """Find what cannot work before the data are read."""
    config = replace(settings.network, pretrained=False)
    if settings.network.pretrained and config.backbone == "small":
        config = settings.network  # which is refused
    levels = count_levels(config.backbone, config.fpn)
    if config.sizes is None and config.anchors is None:
        config = replace(config, sizes=(32.0,) * levels)
    build_rpn(**config.arguments())


def _settled(settings: RunSettings, images: Images, choose_epochs: bool) -> RunSettings:
    """The settings, with what depends on the images chosen."""
    training = settings.training
    if choose_epochs:
        steps = max(images.length // training.batch_size, 1)
        epochs = max(MIN_EPOCHS, math.ceil(MIN_STEPS / steps))
        training = replace(training, epochs=epochs)
    return replace(
        settings,
        data=replace(settings.data, side=images.objects.side),
        network=choose_anchors(settings.network, images.objects),
        training=training,
    )


def _learn(
    rpn: RegionProposalNetwork,
    images: Images,
    settings: RunSettings,
    out: Path,
    continued: Checkpoints | None,
) -> Measured:
    """Train, measure, and write the results."""
    about = _about(settings, images)
    with Report(rpn, images, settings, out, _start(continued, settings, images)) as to:
        train(
            rpn,
            images.train_set,
            settings.training,
            checkpoints=Checkpoints(out / "checkpoints", about=about),
            resume=continued is not None,
            progress=True,
            after_step=to.after_step,
            after_epoch=to.after_epoch,
        )
        result = to.measure(settings.training.epochs)
    if processes.rank() == 0:
        save_network(out / CHECKPOINT.name, rpn, about)
        draw_proposals(out / "proposals.png", images.val_set, result)
        write_json(
            out / "results.json",
            {**result.numbers(), "images": len(result.gt_boxes), **to.timing()},
        )
    if to.steps:
        log.info(to.time_line())
    log.info(result.summary())
    log.info(f"wrote {out / CHECKPOINT.name} and {out / 'proposals.png'}")
    return result


def _about(settings: RunSettings, images: Images) -> dict[str, Any]:
    """What a checkpoint says of its network and its data."""
    return {
        "settings": settings.network.arguments(),
        "data": {**asdict(settings.data), "classes": list(images.classes)},
    }


def _start(continued: Checkpoints | None, settings: RunSettings, images: Images) -> int:
    """The step after which a run is continued; 0 for a new one."""
    if continued is None:
        return 0
    latest = continued.latest()
    for line in continued.skipped:
        log.info(f"passed over: {line}")
    start = 0 if latest is None else len(latest[1].get("history", ()))
    training = settings.training
    total = training.epochs * (images.length // training.batch_size)
    log.info(f"continues after step {start} of {total}")
    processes.wait_for_all()
    return start

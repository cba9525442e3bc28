"""`rpn evaluate`: measure a trained network, or compare two."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from rpn_lib.cli.console import log
from rpn_lib.cli.device import usable_device
from rpn_lib.cli.images import tell
from rpn_lib.cli.run_folder import save_figure, write_json
from rpn_lib.data.folder import open_folder
from rpn_lib.data.records import Sample
from rpn_lib.data.resize import Resize
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.data.sides import SIDES
from rpn_lib.errors import SettingError
from rpn_lib.models import network_of
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training import processes
from rpn_lib.training.checkpoint import read_state
from rpn_lib.training.config import READING, DataConfig, TrainConfig
from rpn_lib.training.measure import Measured, compare, measure
from rpn_lib.training.options import from_values


def run(options: argparse.Namespace) -> int:
    """Measure what the options name.

    Args:
        options: what the command line gave.

    Returns:
        the exit code.
    """
    if options.compare == options.checkpoint:
        raise SettingError(
            f"--compare {options.compare} is the network that is measured already; "
            "name another one."
        )
    workers = from_values(TrainConfig, vars(options)).workers
    with processes.processes(usable_device(options.device)) as device:
        rpn, trained = load(options.checkpoint)
        dataset = _validation(options, trained)
        networks = {str(options.checkpoint): rpn.to(device)}
        if options.compare is not None:
            networks[str(options.compare)] = load(options.compare)[0].to(device)
        how: dict[str, Any] = {"precision": options.precision, "workers": workers}
        if len(networks) == 2:
            both = compare(networks, dataset, **how)
            log.info(str(both))
            results = {both.names[0]: both.first, both.names[1]: both.second}
        else:
            result = measure(rpn, dataset, **how)
            log.info(str(result))
            results = {str(options.checkpoint): result}
        if processes.rank() == 0:
            _write(options.out, results)
    return 0


def _write(out: Path, results: dict[str, Measured]) -> None:
    from rpn_lib.figures.plots import evaluation_figure  # matplotlib takes a second

    out.mkdir(parents=True, exist_ok=True)
    numbers = {name: result.numbers() for name, result in results.items()}
    write_json(out / "evaluation.json", numbers)
    curves = {name: result.evaluation for name, result in results.items()}
    save_figure(evaluation_figure(curves), out / "evaluation.png")
    log.info(f"wrote evaluation.json and evaluation.png to {out}")


def load(path: Path) -> tuple[RegionProposalNetwork, DataConfig]:
    """The network of a checkpoint, and the data that it was trained with.

    What an older file does not say of them is the default.
    """
    state = read_state(path)
    try:
        trained = from_values(DataConfig, state.get("data", {}))
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error
    return network_of(state, path), trained


def _validation(options: argparse.Namespace, trained: DataConfig) -> Dataset[Sample]:
    folder = options.data or trained.data
    if folder is None:
        return ShapesDataset(100, seed=1)
    # How the files are to be read is known of the training data only.
    known = trained if options.data is None else DataConfig()
    names = {"on_bad_box", *READING} & vars(options).keys()
    config = replace(known, **{name: getattr(options, name) for name in names})
    dataset = open_folder(
        folder,
        options.split or trained.val_split,
        Resize(options.side or trained.side or SIDES[0]),
        config.on_bad_box,
        **config.reading(),
    )
    tell(dataset)
    return dataset

"""The finished runs of `rpn experiments`: a file for each, and the table of all.

What is finished is never done again, and never mixed with runs of another setting or
version.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rpn_lib.errors import SettingError, TrainingError
from rpn_lib.training.checkpoint import write_atomically
from rpn_lib.training.experiments import PAPER_LAMBDA, Run, Setting, versions

# Of a setting, what says which runs there are, and not how they are done.
WHICH = ("seeds", "lambdas")

# What comes with the library.
TABLES = {"scenes": "experiments_scenes.json", "BCCD": "experiments_bccd.json"}


def finished(folder: Path, setting: Setting) -> dict[Run, dict[str, Any]]:
    """The runs of a table that are there already.

    Args:
        folder: holds a file for each.
        setting: what they must have been made with.

    Raises:
        TrainingError: a file that cannot be read, or one of another setting or version.
    """
    expected = {"settings": setting.values(), "versions": versions()}
    done = {}
    for run in setting.runs():
        path = folder / f"{run.name}.json"
        if not path.is_file():
            continue
        content = _read(path)
        for what, value in expected.items():
            theirs = content[what]
            different = [
                key for key in value.keys() - WHICH if theirs.get(key) != value[key]
            ]
            if different:
                key = different[0]
                raise TrainingError(
                    f"{path} was made with {key}={theirs.get(key)}, not {value[key]}. "
                    "Choose another folder with --out, or remove this one."
                )
        done[run] = content
    return done


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        Run(**content["run"]), content["seconds"], content["recall"]["proposals"]
        content["settings"].keys(), content["versions"].keys(), content["date"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path} is no result of a run ({error!r}). Remove it, and it is made anew."
        ) from error
    return content


def read_table(table: Path | str = "scenes") -> dict[str, Any]:
    """A table of runs.

    Args:
        table: the path of what `rpn experiments` wrote, or the name of a table that
            comes with the library: `"scenes"`, or `"BCCD"` for photographs.

    Returns:
        `settings`, `versions`, `date`, `seconds` of all runs, and `runs`: of each its
        `run`, `seconds` and `recall`.

    Raises:
        SettingError: no table of this name.

    >>> read_table()["runs"][0]["run"]
    {'anchors': '3x3', 'lambda_': 10, 'seed': 0}
    >>> read_table("BCCD")["settings"]["val_images"]
    87
    """
    if isinstance(table, Path):
        text = table.read_text("utf-8")
    elif table in TABLES:
        text = (files("rpn_lib") / TABLES[table]).read_text("utf-8")
    else:
        raise SettingError(
            f"The library has the tables {[*TABLES]}, not {table!r}. Give a file as a "
            "pathlib.Path."
        )
    content: dict[str, Any] = json.loads(text)
    return content


def pick(
    table: Mapping[str, Any],
    anchors: str = "3x3",
    lambda_: float = PAPER_LAMBDA,
    part: str = "proposals",
) -> Tensor:
    """Recall of all seeds, from a table.

    Args:
        table: what `read_table` returns.
        anchors, lambda_: see `rpn_lib.training.experiments.Run`.
        part: see `rpn_lib.training.experiments.without_parts`.

    Returns:
        `(seeds, budgets, 10)`: recall at IoU 0.5, 0.55, ... 0.95. The mean over the
        last dimension is AR.

    Raises:
        SettingError: nothing of the kind is in the table.

    >>> recall = pick(read_table(), "1x1")
    >>> recall.shape[1] == len(read_table()["settings"]["budgets"])
    True
    """
    found = [
        [*one["recall"][part].values()]
        for one in table["runs"]
        if (one["run"]["anchors"], one["run"]["lambda_"]) == (anchors, lambda_)
        and part in one["recall"]
    ]
    if not found:
        raise SettingError(
            f"The table has no run with anchors {anchors!r}, lambda {lambda_:g} and "
            f"{part!r}."
        )
    return torch.tensor(found)


def save_run(folder: Path, run: Run, content: Mapping[str, Any]) -> None:
    """Write the file of a finished run, in one step."""
    write_atomically(folder / f"{run.name}.json", json.dumps(content).encode())


def write_table(
    path: Path, setting: Setting, done: Mapping[Run, Mapping[str, Any]]
) -> None:
    """Write the table of all runs, one run a line.

    Args:
        path: the file.
        setting: what the runs have in common.
        done: what `finished` returns, at least one run.
    """
    contents = list(done.values())
    head = {
        "settings": setting.values(),
        "versions": contents[0]["versions"],
        "date": max(content["date"] for content in contents),
        "seconds": round(sum(content["seconds"] for content in contents)),
    }
    parts = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
    lines = [
        json.dumps({name: one[name] for name in ("run", "seconds", "recall")})
        for one in contents
    ]
    text = "{" + ",\n".join([*parts, '"runs": [\n' + ",\n".join(lines) + "]}\n"])
    write_atomically(path, text.encode())

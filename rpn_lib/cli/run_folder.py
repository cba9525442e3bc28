"""The folder of a run: what is written to it, and how.

The folder holds `settings.json`, which repeats the run; `metrics.csv`, a line for each
step; `checkpoints/`, to continue from; and in the end `checkpoint.pt`, `results.json`
and `proposals.png`.
"""

import csv
import io
import json
import math
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from rpn_lib import __version__
from rpn_lib.cli.settings import RunSettings
from rpn_lib.data.records import Sample
from rpn_lib.errors import TrainingError
from rpn_lib.training.checkpoint import Checkpoints, write_atomically
from rpn_lib.training.measure import Measured

COLUMNS = (
    *("step", "epoch", "lr", "objectness", "box", "grad_norm", "seconds", "waiting"),
    *("val_objectness", "val_box", "recall", "AR@100"),
)

# Written into each picture, by which a later `rpn propose` recognises it.
MAKER = "rpn_lib"


class Metrics:
    """`metrics.csv`, and TensorBoard where it is installed.

    Args:
        folder: the folder of the run.
        step: lines of later steps are removed: those steps are done again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "metrics.csv"
        rows: list[dict[str, str]] = []
        if step and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [
                    row
                    for row in csv.DictReader(file)
                    if (row.get("step") or "").isdigit() and int(row["step"]) <= step
                ]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())
        self.file = self.path.open("a", newline="", buffering=1, encoding="utf-8")
        self.writer = csv.DictWriter(self.file, COLUMNS, restval="")
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def add(self, row: dict[str, float]) -> None:
        """A line, with whatever of the columns it has."""
        self.writer.writerow(
            {
                key: value if isinstance(value, int) else f"{value:.6g}"
                for key, value in row.items()
            }
        )
        if self.board is not None:
            for key, value in row.items():
                if key not in ("step", "epoch"):
                    self.board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        """Finish the files."""
        self.file.close()
        if self.board is not None:
            self.board.close()


def write_json(path: Path, content: object) -> None:
    """Write a JSON file in one step; what is no finite number becomes `null`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> write_json(path, {"recall": float("nan"), "sizes": (1, 2.5)})
    >>> json.loads(path.read_text())
    {'recall': None, 'sizes': [1, 2.5]}
    """
    text = json.dumps(_finite(content), indent=1, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def _finite(content: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def write_settings(folder: Path, settings: RunSettings) -> None:
    """`settings.json`: the settings, the versions and the command of a run."""
    versions = {"rpn_lib": __version__, "torch": torch.__version__}
    versions["python"] = platform.python_version()
    content = {
        "settings": settings.values(),
        "versions": versions,
        "command": sys.argv,
    }
    write_json(folder / "settings.json", content)


def prepare_folder(out: Path) -> Checkpoints:
    """Make the folder of a run, and see that it can be written.

    Raises:
        TrainingError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"{out} cannot be made ({error}). Choose another folder with --out."
        ) from error
    checkpoints = Checkpoints(out / "checkpoints")
    checkpoints.prepare(0)
    return checkpoints


def refuse_to_replace(out: Path, checkpoints: Checkpoints) -> None:
    """Stop where a folder holds a run already.

    Raises:
        TrainingError: it does.
    """
    if checkpoints.paths() or (out / "checkpoint.pt").is_file():
        whole = (out / "results.json").is_file()
        raise TrainingError(
            f"{out} holds a run that {'is finished' if whole else 'can go on'}. "
            "Continue it with --resume, choose another folder with --out, or "
            "replace it with --overwrite."
        )


def save_figure(figure: Any, path: Path) -> None:
    """Save a figure of matplotlib as PNG, and write into it who has made it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png", metadata={"Software": MAKER})
    write_atomically(path, buffer.getvalue())


def is_own_picture(path: Path) -> bool:
    """Whether a picture was written by `save_figure`, whatever its name is now.

    >>> is_own_picture(Path("nowhere.png"))
    False
    """
    if path.suffix.lower() != ".png":
        return False
    try:
        with Image.open(path) as image:
            return bool(image.info.get("Software") == MAKER)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def draw_proposals(path: Path, dataset: Dataset[Sample], result: Measured) -> None:
    """A picture of the first six images with objects, and the proposals for them."""
    from rpn_lib.figures.plots import found_figure  # matplotlib takes a second

    some = [i for i, boxes in enumerate(result.gt_boxes) if len(boxes)][:6]
    figure = found_figure(
        [dataset[i][0] for i in some],
        [result.gt_boxes[i] for i in some],
        [result.proposals[i].boxes for i in some],
    )
    save_figure(figure, path)

"""The questions of the Faster R-CNN paper, asked of a small data set.

Which anchors, how much weight for the boxes, how many proposals, and what each part of
the network is good for: the paper answers with mean average precision (mAP) of a whole
detector (Tables 2, 8 and 9, Figure 4; Table 10 of the version in TPAMI). Here the
answer is the recall of the proposals. `rpn experiments` is the command around it.

A run is one training; a table is all runs of a setting (`rpn_lib.training.runs`).

Dimension letters: K boxes.
"""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor
from torch.utils.data import Dataset

from rpn_lib import __version__
from rpn_lib.data.batches import InMemory, collate
from rpn_lib.data.records import Sample
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import SettingError
from rpn_lib.evaluation import evaluate
from rpn_lib.loss import RPNLoss
from rpn_lib.models import build_rpn
from rpn_lib.nms import ProposalSelector
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training.config import TrainConfig
from rpn_lib.training.loop import train
from rpn_lib.training.measure import evaluating

# The paper divides the box loss by N_reg, about 2,400 places, and we by the 256 anchors
# sampled, as torchvision does. So its lambda of 10 is a weight of 1 here.
PAPER_LAMBDA = 10

# Seed of the scenes that are measured on; those learnt from have the seed of the run.
MEASURED = 1000

# What `without_parts` gives.
PARTS = (
    *("proposals", "no NMS", "no regression", "no objectness"),
    *("random anchors", "spread anchors"),
)


@dataclass(frozen=True)
class Setting:
    """What the runs of a table have in common, and which runs there are.

    Attributes:
        data: `"scenes"`, or what to call a folder of photographs.
        train_images, val_images: how many images are learnt from and measured on.
        image_size: `(height, width)` of a scene, `(shorter side,)` of photographs,
            pixels.
        object_sizes: size of the smallest and of the largest object, pixels.
        anchor_sizes: a small, a medium and a large size of anchors, pixels.
        aspect_ratios: width / height; the first is that of the sets with one ratio.
        lambdas: weights of the box loss, as the paper counts them.
        seeds: how many trainings of each kind, with other weights, order, sampled
            anchors and scenes.
        epochs, batch_size: passes over the images, and images of a step.
        budgets: numbers of proposals of an image that recall is noted for.

    Raises:
        SettingError: a value that cannot work.

    >>> len(Setting(seeds=1).runs())  # four sets of anchors, three more lambdas
    7
    """

    data: str = "scenes"
    train_images: int = 96
    val_images: int = 100
    image_size: tuple[int, ...] = (96, 128)
    object_sizes: tuple[float, float] = (16, 64)
    anchor_sizes: tuple[float, float, float] = (20, 40, 80)
    aspect_ratios: tuple[float, float, float] = (1, 2, 0.5)
    lambdas: tuple[float, ...] = (0.1, 1, 10, 100)
    seeds: int = 5
    epochs: int = 10
    batch_size: int = 4
    budgets: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500)

    def __post_init__(self) -> None:
        for name in ("train_images", "val_images", "seeds", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}={getattr(self, name)} must be 1 or more.")
        if self.train_images < self.batch_size:
            raise SettingError(
                f"{self.train_images} images to learn from are fewer than a batch, "
                f"{self.batch_size}."
            )

    def anchors(self, name: str) -> dict[str, list[float]]:
        """Sizes and ratios of a set of anchors, as `build_rpn` takes them.

        Args:
            name: sizes x ratios: `"1x1"`, `"1x3"`, `"3x1"` or `"3x3"`.

        >>> Setting().anchors("1x3")
        {'sizes': [40], 'aspect_ratios': [1, 2, 0.5]}
        """
        sizes, ratios = list(self.anchor_sizes), list(self.aspect_ratios)
        return {
            "sizes": sizes if name.startswith("3") else sizes[1:2],
            "aspect_ratios": ratios if name.endswith("3") else ratios[:1],
        }

    def runs(self) -> "list[Run]":
        """The trainings of the table: all of a seed, then the next seed."""
        kinds: list[tuple[str, float]]
        kinds = [(name, PAPER_LAMBDA) for name in ("3x3", "1x1", "1x3", "3x1")]
        kinds += [("3x3", x) for x in self.lambdas if x != PAPER_LAMBDA]
        return [Run(*kind, seed) for seed in range(self.seeds) for kind in kinds]

    def values(self) -> dict[str, Any]:
        """As a JSON file has them."""
        made: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return made


class Run(NamedTuple):
    """One training.

    Attributes:
        anchors: see `Setting.anchors`.
        lambda_: weight of the box loss, as the paper counts it.
        seed: see `Setting`.
    """

    anchors: str
    lambda_: float
    seed: int

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.anchors}-lambda-{self.lambda_:g}-seed-{self.seed}"

    @property
    def is_default(self) -> bool:
        """Whether it has the paper's anchors and weight: parts are left out of it."""
        return self.anchors == "3x3" and self.lambda_ == PAPER_LAMBDA


class Sets(NamedTuple):
    """The images of a run: what is learnt from, and what is measured on."""

    train_set: Dataset[Sample]
    val_set: Dataset[Sample]


@lru_cache(maxsize=1)  # the runs of a seed follow one another
def scenes(setting: Setting, seed: int) -> Sets:
    """Synthetic scenes: other ones to learn from with each seed, the same to measure.

    >>> sets = scenes(Setting(train_images=8, val_images=2), seed=3)
    >>> len(sets.train_set), len(sets.val_set)
    (8, 2)
    """
    height, width = setting.image_size
    look: dict[str, Any] = {
        "image_size": (height, width),
        "sizes": setting.object_sizes,
    }
    learn = ShapesDataset(setting.train_images, seed=seed, **look)
    look_at = ShapesDataset(setting.val_images, seed=MEASURED, **look)
    return Sets(InMemory(learn), InMemory(look_at))


def train_run(setting: Setting, run: Run, sets: Sets) -> RegionProposalNetwork:
    """Train the network of a run, from random weights.

    Args:
        setting, run: what to train.
        sets: what to learn from.

    Returns:
        the network, in evaluation mode.
    """
    torch.manual_seed(run.seed)
    loss = RPNLoss(run.lambda_ / PAPER_LAMBDA, beta=0.1, normalizer="sampled")
    rpn = build_rpn(**setting.anchors(run.anchors), loss=loss)  # type: ignore[arg-type]
    config = TrainConfig(
        epochs=setting.epochs, batch_size=setting.batch_size, seed=run.seed
    )
    train(rpn, sets.train_set, config)
    return rpn.eval()


@torch.no_grad()
def without_parts(
    rpn: RegionProposalNetwork, image: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Boxes for an image: the network's proposals, and what is left without a part.

    - `"proposals"`: all parts at work.
    - `"no NMS"`: every decoded box that reaches into the image, the best first.
    - `"no regression"`: the anchors themselves in place of the decoded boxes.
    - `"no objectness"`: the decoded boxes in random order, no NMS (as in the paper).
    - `"random anchors"`: a sliding window that looks at nothing, in random order.
    - `"spread anchors"`: the same in a fixed order, so that the first few, however
      many, lie evenly among all.

    Args:
        rpn: a network of one level, in evaluation mode.
        image: `(3, height, width)`, float.
        generator: draws the random orders.

    Returns:
        for each of these boxes `(K, 4)`, xyxy, pixels, best first.

    >>> from rpn_lib.models import small_rpn
    >>> rpn = small_rpn().eval()
    >>> boxes = without_parts(rpn, torch.rand(3, 64, 96), torch.Generator())
    >>> len(boxes["no NMS"]), len(boxes["proposals"]) < 288  # 4 x 6 cells, 12 anchors
    (288, True)
    """
    [feature] = rpn.levels_of(image[None])
    output = rpn.head(feature)
    logits = output.logits.flatten()  # (N,)
    deltas = output.deltas.reshape(-1, 4)
    [anchors] = rpn.anchors([feature.shape[-2:]])
    count = len(anchors)
    everything = ProposalSelector(count, count, iou_threshold=1)  # IoU is never above 1
    chance = torch.rand(count, generator=generator)
    # Multiples of the golden ratio, modulo 1, fill an interval evenly.
    golden = torch.tensor(5.0, dtype=torch.float64).sqrt() / 2 + 0.5
    spread = -(torch.arange(count) * golden % 1)
    still = torch.zeros_like(deltas)
    chosen = {
        "proposals": (rpn.select, logits, deltas),
        "no NMS": (everything, logits, deltas),
        "no regression": (rpn.select, logits, still),
        "no objectness": (everything, chance, deltas),
        "random anchors": (everything, chance, still),
        "spread anchors": (everything, spread, still),
    }
    size = image.shape[-2:]
    return {
        name: select([score], [delta], [anchors], size, rpn.delta_weights).boxes
        for name, (select, score, delta) in chosen.items()
    }


def recalls(
    rpn: RegionProposalNetwork,
    val_set: Dataset[Sample],
    budgets: Sequence[int],
    parts: Sequence[str] = PARTS,
) -> dict[str, dict[int, list[float]]]:
    """Recall of what `without_parts` gives, on a data set.

    Args:
        rpn: a network of one level.
        val_set: samples as in `rpn_lib.data`.
        budgets: numbers of boxes of an image.
        parts: which of them.

    Returns:
        by part left out and number of boxes: recall at the ten IoUs 0.5 to 0.95.
    """
    boxes: dict[str, list[Tensor]] = {}
    gt_boxes = []
    with evaluating(rpn):
        for i in range(len(val_set)):  # type: ignore[arg-type]
            [image], [target] = collate([val_set[i]])
            generator = torch.Generator().manual_seed(i)
            found = without_parts(rpn, image, generator)
            for name in parts:
                boxes.setdefault(name, []).append(found[name])
            gt_boxes.append(target["boxes"])
    results = {name: evaluate(one, gt_boxes, areas={}) for name, one in boxes.items()}
    return {
        name: {k: result.recall(k).recalls.tolist() for k in budgets}
        for name, result in results.items()
    }


def do_run(setting: Setting, run: Run, sets: Sets) -> dict[str, Any]:
    """Train and measure.

    Args:
        setting, run: what to do.
        sets: the images.

    Returns:
        what a file of a run holds: settings, versions, date, seconds and recall.
    """
    start = time.perf_counter()
    rpn = train_run(setting, run, sets)
    parts = PARTS if run.is_default else PARTS[:1]
    found = recalls(rpn, sets.val_set, setting.budgets, parts)
    return {
        "settings": setting.values(),
        "versions": versions(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "run": run._asdict(),
        "seconds": round(time.perf_counter() - start, 3),
        "recall": {
            name: {str(k): [round(x, 3) for x in row] for k, row in rows.items()}
            for name, rows in found.items()
        },
    }


def versions() -> dict[str, str]:
    """What a result hangs on besides its settings."""
    return {
        "rpn_lib": __version__,
        "torch": torch.__version__.partition("+")[0],
        "torchvision": torchvision.__version__.partition("+")[0],
        "python": platform.python_version(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }

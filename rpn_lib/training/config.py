"""The settings of a run: three dataclasses, the one home of defaults and checks.

The options of `rpn`, `settings.json` and what checkpoints say of a run are made from
their fields. Nothing here needs torch, so that `rpn --help` answers at once.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from rpn_lib.data.reading import (
    LEAST_SIDE,
    Difficult,
    Exif,
    FirstPixel,
    OnBadBox,
    Reading,
)
from rpn_lib.errors import SettingError
from rpn_lib.training.options import ChecksValues, option

Optimizer = Literal["adamw", "sgd"]

Schedule = Literal["one-cycle", "cosine", "step", "constant"]

# The names that the data and the backbones know (a test compares them).
AUGMENTATIONS = ("flip", "updown", "scale", "light")
BACKBONES = (
    *("small", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("mobilenet_v3_small", "mobilenet_v3_large"),
)


# Share of the steps in which the learning rate rises, by its course.
WARMUP = {"one-cycle": 0.3, "cosine": 0.05, "step": 0.05, "constant": 0.05}


# The fields of `DataConfig` that say how files are to be understood: a run reads
# objects of all classes.
READING = tuple(one.name for one in fields(Reading) if one.name != "classes")


@dataclass(frozen=True)
class DataConfig(ChecksValues):
    """Which images, and how they are read.

    >>> DataConfig(cache="disk")
    Traceback (most recent call last):
    rpn_lib.errors.SettingError: cache is auto, memory or none, not 'disk'.
    """

    data: str | None = option(
        None,
        "folder of annotated photographs",
        metavar="FOLDER",
        default_text="synthetic scenes",
    )
    train_split: str = option("train", "split to train on")
    val_split: str = option("val", "split to measure on")
    side: int | None = option(
        None,
        "pixels that the shorter side of photographs is resized to",
        least=LEAST_SIDE,
        unit=" pixels",
        default_text="chosen by the size of the objects",
    )
    augment: tuple[Literal["flip", "updown", "scale", "light"], ...] = option(
        ("flip", "updown"),
        f"random changes of the images, any of {', '.join(AUGMENTATIONS)}; nothing "
        "after it for none",
        metavar="KIND",
    )
    cache: Literal["auto", "memory", "none"] = option(
        "auto",
        "whether resized images are kept in memory; auto keeps up to 2 GB of them",
        free=True,
    )
    check: bool = option(
        True,
        "look at every picture before training, where they are not kept in memory",
        free=True,
    )
    on_bad_box: OnBadBox = option(
        "error",
        "error stops at a box that cannot be right, drop leaves it out and says so",
    )
    first_pixel: FirstPixel = option(
        Reading.first_pixel,
        "number of the first pixel in Pascal VOC files: 0 if the tool that wrote them "
        "counts from 0",
    )
    difficult: Difficult = option(
        Reading.difficult,
        "what becomes of objects marked difficult (VOC) or ignore (COCO): ignore makes "
        "them regions to ignore, keep objects like any other, drop background",
    )
    exif: Exif = option(
        Reading.exif,
        "apply turns photographs upright as their camera noted, ignore leaves them as "
        "they are stored",
    )
    max_pixels: int | None = option(
        Reading.max_pixels,
        "allow pictures of up to so many pixels",
        metavar="N",
        default_text="about 179 million",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        Reading(**self.reading())  # refuses what cannot be

    def reading(self) -> dict[str, Any]:
        """How files are to be understood, as `open_folder` takes it.

        >>> DataConfig(first_pixel=0).reading()["first_pixel"]
        0
        """
        return {name: getattr(self, name) for name in READING}


@dataclass(frozen=True)
class NetworkConfig(ChecksValues):
    """Which backbone and which anchors.

    Attributes:
        anchors: `(width, height)` of each anchor shape, pixels, as they were fitted to
            a data set; in place of `sizes`.
    """

    backbone: str = option(
        "small",
        f"network that computes the features, one of {', '.join(BACKBONES)}",
        choices=BACKBONES,
        metavar="NAME",
    )
    fpn: bool = option(False, "add a feature pyramid")
    pretrained: bool = option(
        False, "begin with weights learnt on ImageNet; not for the small backbone"
    )
    sizes: tuple[float, ...] | None = option(
        None,
        "anchor sizes, pixels after resizing; with a pyramid one for each level",
        default_text="shapes fitted to the boxes",
    )
    shapes: int | None = option(
        None,
        "how many anchor shapes are fitted to the boxes",
        least=1,
        default_text="12; with a pyramid 3 for each level",
    )
    anchors: tuple[tuple[float, float], ...] | None = None

    def arguments(self) -> dict[str, Any]:
        """What `rpn_lib.models.build_rpn` takes, in plain values.

        >>> NetworkConfig(sizes=(16, 32)).arguments()
        {'backbone': 'small', 'fpn': False, 'sizes': [16, 32]}
        """
        made: dict[str, Any] = {"backbone": self.backbone, "fpn": self.fpn}
        if self.pretrained:
            made["weights"] = "DEFAULT"
        if self.anchors is not None:
            made["shapes"] = [list(pair) for pair in self.anchors]
        elif self.sizes is not None:
            made["sizes"] = list(self.sizes)
        return made


class TrainOptions(TypedDict, total=False):
    """The fields of `TrainConfig`, as `train` takes them after its own arguments."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    optimizer: Optimizer
    schedule: Schedule
    warmup: float | None
    clip_norm: float | None
    amp: bool
    seed: int
    workers: int
    save_every: int | None
    eval_every: int | None


@dataclass(frozen=True)
class TrainConfig(ChecksValues):
    """How a network learns.

    Attributes:
        epochs: passes over the data set.
        batch_size: images of a step, over all processes; a last, smaller batch is left
            out.
        lr: highest learning rate.
        weight_decay: how strongly the optimiser draws weights to 0.
        optimizer: `"adamw"`, or `"sgd"` with momentum 0.9, as in the paper.
        schedule: course of the learning rate after warm-up: `"one-cycle"` (Smith and
            Topin 2017) and `"cosine"` fall to almost 0, `"step"` to a tenth at 3/4 of
            the steps, as in the paper.
        warmup: share of the steps in which the rate rises; if not given, `WARMUP` of
            the schedule.
        clip_norm: largest norm of the gradient; longer ones are shortened to it.
        amp: mixed precision: bfloat16 on a CPU, and on a GPU where it has it.
        seed: seed of the order of the images, of what the data set draws from torch's
            generator and of the sampled anchors.
        workers: processes that read images; 0 reads in between steps.
        save_every: steps between checkpoints besides those at the end of each epoch.
        eval_every: epochs between looks at the validation images. (`rpn train` looks;
            the loop itself knows no validation images.)

    >>> TrainConfig(lr=-1)
    Traceback (most recent call last):
    rpn_lib.errors.SettingError: lr=-1 must be a number above 0.
    """

    epochs: int = option(
        12,
        "passes over the images",
        least=1,
        default_text="12, or as many as 300 steps take",
    )
    batch_size: int = option(8, "images of a step, over all processes", least=1)
    lr: float = option(2e-3, "highest learning rate")
    weight_decay: float = option(
        1e-2, "how strongly the optimiser draws weights to 0", least=0
    )
    optimizer: Optimizer = option("adamw", "which optimiser; sgd has a momentum of 0.9")
    schedule: Schedule = option("one-cycle", "course of the learning rate")
    warmup: float | None = option(
        None,
        "share of the steps in which the learning rate rises",
        metavar="SHARE",
        default_text=f"{WARMUP['one-cycle']} of one cycle, {WARMUP['step']} otherwise",
    )
    clip_norm: float | None = option(
        None,
        "largest norm of the gradient; longer ones are shortened to it",
        metavar="NORM",
        default_text="no limit",
    )
    amp: bool = option(False, "compute in mixed precision")
    seed: int = option(
        0,
        "seed of the weights, the order of the images, augmentation and sampling",
        least=0,
        most=2**32 - 1,
    )
    workers: int = option(
        0, "processes that read images; 0 reads them between steps", least=0, free=True
    )
    save_every: int | None = option(
        None,
        "steps between checkpoints, besides the one after each epoch",
        least=1,
        metavar="STEPS",
        default_text="no others",
        free=True,
    )
    eval_every: int | None = option(
        None,
        "epochs between looks at the validation images",
        least=1,
        metavar="EPOCHS",
        default_text="four looks in a run",
        free=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.lr < math.inf:
            raise SettingError(f"lr={self.lr} must be a number above 0.")
        if self.warmup is not None and not 0 <= self.warmup < 1:
            raise SettingError(
                f"warmup={self.warmup} is a share of the steps, from 0 to 1."
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise SettingError(f"clip_norm={self.clip_norm} must be above 0.")

"""The settings of a run: three dataclasses, the one home of defaults and checks.

The options of `rpn`, `settings.json` and what checkpoints say of a run are made from
their fields. Nothing here needs torch, so that `rpn --help` answers at once.
"""

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from types import MappingProxyType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from rpn_lib.errors import SettingError

# The names that the data and the backbones know (a test compares them).
AUGMENTATIONS = ("flip", "updown", "scale", "light")
BACKBONES = (
    *("small", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("mobilenet_v3_small", "mobilenet_v3_large"),
)


# The fields of `DataConfig` that say how files are to be understood.
READING = ("first_pixel", "difficult", "exif", "max_pixels")


def option(default: Any, text: str, **more: Any) -> Any:
    """A field of a dataclass, with what the command line says about it.

    Args:
        default: its value where nothing is given.
        text: what it is, a phrase for `--help`.
        **more: `least`, the smallest value, and its `unit`; `choices`; `metavar`, what
            `--help` calls the value; `default_text`, in place of the default in
            `--help`; `free`, whether a run that is resumed may have another value,
            since what is learnt doesn't depend on it.
    """
    return field(default=default, metadata=MappingProxyType({"help": text, **more}))


class Option(NamedTuple):
    """A field as the parser and the checks need it.

    Attributes:
        name: of the field.
        kind: `int`, `float`, `bool` or `str`.
        many: whether it takes several values, as a tuple.
        optional: whether it may be `None`.
        choices: the values that it can have, if they are few.
        default: its value where nothing is given.
        more: what `option` was given besides.
    """

    name: str
    kind: type
    many: bool
    optional: bool
    choices: tuple[Any, ...] | None
    default: Any
    more: Mapping[str, Any]


def options(config: type) -> list[Option]:
    """The fields of a dataclass that have an option.

    >>> [one.name for one in options(NetworkConfig)]
    ['backbone', 'fpn', 'pretrained', 'sizes', 'shapes']
    >>> options(TrainConfig)[1][:4]
    ('batch_size', <class 'int'>, False, False)
    """
    return [_option(one) for one in fields(config) if "help" in one.metadata]


def _option(one: "Field[Any]") -> Option:
    kind: Any = one.type
    optional = get_origin(kind) in (Union, UnionType)
    if optional:
        kind = next(part for part in get_args(kind) if part is not type(None))
    many = get_origin(kind) is tuple
    if many:
        kind = get_args(kind)[0]
    choices = one.metadata.get("choices")
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        kind = type(choices[0])
    return Option(one.name, kind, many, optional, choices, one.default, one.metadata)


_NUMBERS = {int: (Integral, "a whole number"), float: (Real, "a number")}


def _check(one: Option, value: Any) -> None:
    """Refuse a value that is of another kind, none of the choices, or too small."""
    if value is None and one.optional:
        return
    if one.many and not isinstance(value, tuple | list):
        raise SettingError(f"{one.name}={value!r} must be a list.")
    for part in value if one.many else (value,):
        if one.choices is not None:
            if part not in one.choices:
                *names, last = map(str, one.choices)
                listed = f"{', '.join(names)} or {last}"
                raise SettingError(f"{one.name} is {listed}, not {part!r}.")
            continue
        kind, text = _NUMBERS.get(one.kind, (one.kind, f"of type {one.kind.__name__}"))
        if not isinstance(part, kind) or (
            one.kind is not bool and isinstance(part, bool)
        ):
            raise SettingError(f"{one.name}={part!r} must be {text}.")
        least = one.more.get("least")
        if least is not None and not part >= least:
            unit = one.more.get("unit", "")
            raise SettingError(f"{one.name}={part} must be {least}{unit} or more.")


class _Checked:
    """A dataclass whose values are looked at when it is made."""

    def __post_init__(self) -> None:
        for one in options(type(self)):
            _check(one, getattr(self, one.name))


@dataclass(frozen=True)
class DataConfig(_Checked):
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
        least=32,
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
    on_bad_box: Literal["error", "drop"] = option(
        "error", "stop at a box that cannot be right, or leave it out and say so"
    )
    first_pixel: Literal[0, 1] = option(
        1, "number of the first pixel: 0 for VOC files of tools that count from 0"
    )
    difficult: Literal["ignore", "keep", "drop"] = option(
        "ignore",
        "objects marked difficult (VOC) or ignore (COCO): regions to ignore, objects "
        "like any other, or background",
    )
    exif: Literal["apply", "ignore"] = option(
        "apply",
        "turn photographs upright as their camera noted, or leave them as stored",
    )
    max_pixels: int | None = option(
        None,
        "allow pictures of up to so many pixels",
        least=1,
        metavar="N",
        default_text="about 179 million",
    )

    def reading(self) -> dict[str, Any]:
        """How files are to be understood, as `open_folder` takes it.

        >>> DataConfig(first_pixel=0).reading()["first_pixel"]
        0
        """
        return {name: getattr(self, name) for name in READING}


@dataclass(frozen=True)
class NetworkConfig(_Checked):
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


@dataclass(frozen=True)
class TrainConfig(_Checked):
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
        warmup: share of the steps in which the rate rises; 0.3 of one cycle, 0.05
            otherwise if not given.
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
    optimizer: Literal["adamw", "sgd"] = option(
        "adamw", "optimiser; sgd has a momentum of 0.9"
    )
    schedule: Literal["one-cycle", "cosine", "step", "constant"] = option(
        "one-cycle", "course of the learning rate"
    )
    warmup: float | None = option(
        None,
        "share of the steps in which the learning rate rises",
        metavar="SHARE",
        default_text="0.3 of one cycle, 0.05 otherwise",
    )
    clip_norm: float | None = option(
        None,
        "largest norm of the gradient; longer ones are shortened to it",
        metavar="NORM",
    )
    amp: bool = option(False, "compute in mixed precision")
    seed: int = option(
        0, "seed of the weights, the order of the images, augmentation and sampling"
    )
    workers: int = option(0, "processes that read images", least=0, free=True)
    save_every: int | None = option(
        None,
        "steps between checkpoints, besides the one after each epoch",
        least=1,
        metavar="STEPS",
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


Config = TypeVar("Config", DataConfig, NetworkConfig, TrainConfig)


def from_values(config: type[Config], values: Mapping[str, Any]) -> Config:
    """A dataclass from a mapping that may hold other keys too; lists become tuples.

    Args:
        config: the class.
        values: as a JSON file has them.

    Raises:
        SettingError: a value that cannot work.

    >>> from_values(NetworkConfig, {"sizes": [16, 32], "epochs": 3}).sizes
    (16, 32)
    """
    names = {one.name for one in fields(config)}
    return config(
        **{name: _tuples(value) for name, value in values.items() if name in names}
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value

"""Options that several commands have, and those made from the fields of settings.

An option that is not given is not in the result either, so that a command can tell what
was asked for from what is only a default.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rpn_lib.training.options import Option, options

RUN = "runs/rpn"  # where `rpn train` leaves a run
CHECKPOINT = Path(RUN, "checkpoint.pt")  # and the network that it has trained


def add_settings(
    parser: Any, config: type, only: tuple[str, ...] = (), default: str = "{}"
) -> None:
    """Add an option for each field of a dataclass, or for some of them.

    Args:
        parser: a parser, or a group of one.
        config: one of the dataclasses of `rpn_lib.training.config`.
        only: names of the fields; all if not given.
        default: what the help says of a default, with `{}` for its value.
    """
    for one in options(config):
        if not only or one.name in only:
            _add(parser, one, default)


def _add(parser: Any, one: Option, default: str) -> None:
    flag = f"--{one.name.replace('_', '-')}"
    more: dict[str, Any] = {"dest": one.name, "default": argparse.SUPPRESS}
    if one.kind is bool:
        more["action"] = argparse.BooleanOptionalAction
    else:
        more |= {"type": one.kind, "metavar": one.more.get("metavar")}
        if one.choices is not None:
            more["choices"] = one.choices
        if one.many:
            more["nargs"] = "*" if one.default == () or one.choices else "+"
    action = parser.add_argument(flag, **more)
    action.help = f"{one.more['help']}{_default(one, default)}".replace("%", "%%")


def _default(one: Option, default: str) -> str:
    text = one.more.get("default_text")
    if text is None:
        value = one.default
        if value is None or isinstance(value, bool):
            return " (default: yes)" if value else ""
        text = " ".join(value) if isinstance(value, tuple) else value
    return f" (default: {default.format(text)})"


def checkpoint_option(parser: Any) -> None:
    """Add `--checkpoint`, the network to use."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help=f"network that rpn train has written (default: {CHECKPOINT}, or else the "
        "one that comes with the library)",
    )


def data_option(parser: Any, text: str) -> None:
    """Add `--data`, a folder of annotated photographs.

    Args:
        parser: a parser, or a group of one.
        text: what the help says of it besides.
    """
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help=f"folder of annotated photographs{text}",
    )


def out_option(parser: Any, default: str, text: str) -> None:
    """Add `--out`, where the results go."""
    parser.add_argument(
        "--out", type=Path, default=Path(default), help=f"{text} (default: {default})"
    )


def device_option(parser: Any, default: str = "cuda if there is one, else cpu") -> None:
    """Add `--device`; the default is chosen by the command, and given in words."""
    parser.add_argument(
        "--device",
        help=f"where the network is computed: cpu, cuda or mps (default: {default})",
    )


def number_of(
    kind: type[int] | type[float], least: float, most: float = math.inf
) -> Callable[[str], float]:
    """Makes a number of a word of the command line, and refuses it out of range."""

    def number(word: str) -> float:
        value = kind(word)
        if not least <= value <= most:
            limits = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{word} must be {limits}")
        return value

    number.__name__ = kind.__name__  # argparse names it where `kind` refuses a word
    return number

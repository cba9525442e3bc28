"""Everything that the library refuses, as one family.

`except RPNError` catches all of it. Each message says what was given, where it stands
(image, box or file) and what to do about it; what a program should do about an error
hangs on its class, never on its wording.
"""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from inspect import Parameter, signature
from pathlib import Path
from typing import Any


class RPNError(Exception):
    """What all errors of this library have in common."""


class BoxError(RPNError, ValueError):
    """Boxes, images or scores that cannot be used; the message says which and why."""


class SettingError(RPNError, ValueError):
    """A setting that cannot work; the message names it, its value and what can."""


class DataError(RPNError, ValueError):
    """A file of a data set that cannot be used; the message names it and says why."""


class PictureError(DataError):
    """A picture that cannot be read.

    Attributes:
        reason: why, a sentence without the name of the file.
        fix: what to do about it.
    """

    def __init__(self, path: str | Path, reason: str, fix: str = "") -> None:
        super().__init__(f"{path} cannot be read as an image: {reason} {fix}".rstrip())
        self.reason, self.fix = reason, fix


class DownloadError(RPNError, ConnectionError):
    """Weights that cannot be downloaded; the message says where else to get them."""


class UnknownOperator(RPNError, NotImplementedError):
    """A network that the page of `rpn export` cannot execute; the message says why."""


class TrainingError(RPNError, RuntimeError):
    """A training that cannot go on, or a checkpoint that cannot be used."""


class ProcessLost(TrainingError):
    """Another process of a run has ended; each that is left says so."""


class Interrupted(TrainingError):
    """A training was asked to stop; the message says where it was saved."""


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the name of a setting that there is not, and say which one is nearest.

    Args:
        given: names.
        known: those that there are.

    Raises:
        SettingError: a name that is none of them.

    >>> refuse_unknown(["epoch"], ["epochs", "lr"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.errors.SettingError: There is no setting epoch; the nearest is epochs. ...
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise SettingError(
                f"There is no setting {name}{hint}. There are: {', '.join(names)}."
            )


def refuse_other(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse a value that is none of the few that a setting can have.

    Args:
        name: what the setting is called.
        value: what was given.
        choices: two or more.

    Raises:
        SettingError: another value.

    >>> refuse_other("first_pixel", 2, (0, 1))
    Traceback (most recent call last):
    rpn_lib.errors.SettingError: first_pixel is 0 or 1, not 2.
    """
    if value not in choices:
        *others, last = map(str, choices)
        raise SettingError(f"{name} is {', '.join(others)} or {last}, not {value!r}.")


def arguments_of(*functions: Callable[..., Any]) -> set[str]:
    """Names of the arguments of functions or classes, without `*` and `**`.

    >>> sorted(arguments_of(refuse_unknown))
    ['given', 'known']
    """
    return {
        name
        for function in functions
        for name, one in signature(function).parameters.items()
        if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    }

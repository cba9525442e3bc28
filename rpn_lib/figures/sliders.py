"""The sliders of a figure: their values, and what is wrong with them."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from rpn_lib.errors import SettingError


class Sliders(NamedTuple):
    """Checked sliders; `read_sliders` makes them.

    Attributes:
        values: the values that each slider can have, by its name.
        first: where each stands at first, from 0.
        play: the name of the one that plays, if there is one.
    """

    values: dict[str, list[Any]]
    first: list[int]
    play: str | None

    def combinations(self) -> Iterator[tuple[Any, ...]]:
        """All of them, the last slider fastest."""
        return itertools.product(*self.values.values())

    def start(self) -> tuple[Any, ...]:
        """The values at first."""
        return tuple(v[i] for v, i in zip(self.values.values(), self.first))

    def describe(self, chosen: Sequence[Any]) -> str:
        """One combination in words: `size (px) 32, ratio 0.5`."""
        pairs = zip(self.values, chosen)
        return ", ".join(f"{name} {shown(value)}" for name, value in pairs)

    def rows(self) -> list[list[Any]]:
        """For the page: name, values, position, and the kind where it is special."""
        return [
            [name, [shown(v) for v in values], i, *self._kind(name)]
            for (name, values), i in zip(self.values.items(), self.first)
        ]

    def _kind(self, name: str) -> list[str]:
        return ["check"] * _is_check(self.values[name]) or ["play"] * (
            name == self.play
        )


def read_sliders(
    sliders: Mapping[str, Any], start: Mapping[str, Any], play: str | None
) -> Sliders:
    """Check the sliders of a figure.

    Args:
        sliders: the values of each by its name: a list, an array or a tensor.
        start: where sliders stand at first, by name; the first value if not given.
        play: the name of the one that plays.

    Raises:
        SettingError: no sliders; a slider without values, or with one twice; an unknown
            start value; nothing to play.

    >>> sliders = {"size": [8, 16], "on": [True, False]}
    >>> read_sliders(sliders, {"size": 16}, play="size").rows()
    [['size', ['8', '16'], 1, 'play'], ['on', ['on', 'off'], 0, 'check']]
    """
    values = _values(sliders)
    _check_values(values)
    for name, value in start.items():
        if value not in values.get(name, []):
            known = {name: [shown(v) for v in given] for name, given in values.items()}
            raise SettingError(
                f"start has {name!r}: {value!r}; the sliders are {known}."
            )
    if play is not None:
        if play not in values:
            raise SettingError(
                f"play is {play!r}; the sliders are {', '.join(values)}."
            )
        if len(values[play]) == 1 or _is_check(values[play]):
            what = "a slider of one value" if len(values[play]) == 1 else "a check box"
            raise SettingError(f"play is {play!r}, {what}: there is nothing to play.")
    first = [v.index(start[name]) if name in start else 0 for name, v in values.items()]
    return Sliders(values, first, play)


def shown(value: Any) -> str:
    """A value as the page shows it.

    >>> shown(0.30000000000000004), shown(True)
    ('0.3', 'on')
    """
    if isinstance(value, (bool, np.bool_)):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(sliders: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each slider, as a list."""
    if not isinstance(sliders, Mapping):
        raise SettingError(
            f'sliders is {sliders!r}; give {{"size": [32, 64]}}, for example.'
        )
    values = {}
    for name, given in sliders.items():
        if not isinstance(name, str) or not name.strip():
            raise SettingError(f"the name of a slider is {name!r}, not a text.")
        try:
            values[name] = given.tolist() if isinstance(given, Tensor) else list(given)
            hash(tuple(values[name]))
        except TypeError:
            raise SettingError(
                f"slider {name!r} has {given!r}; give a list of numbers or strings."
            ) from None
        if any(isinstance(v, float) and not math.isfinite(v) for v in values[name]):
            raise SettingError(
                f"slider {name!r} has a value that is not finite: {given!r}."
            )
    return values


def _check_values(values: dict[str, list[Any]]) -> None:
    if not values:
        raise SettingError('sliders is empty; give one at least: {"size": [32, 64]}.')
    for name, given in values.items():
        if not given:
            raise SettingError(f"slider {name!r} has no values.")
        texts = [shown(value) for value in given]
        twice = [s for s, v in zip(texts, given) if texts.count(s) + given.count(v) > 2]
        if twice:
            raise SettingError(f"slider {name!r} shows the value {twice[0]} twice.")


def _is_check(given: list[Any]) -> bool:
    return len(given) == 2 and all(isinstance(v, (bool, np.bool_)) for v in given)

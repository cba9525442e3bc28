"""Options: fields of a dataclass with what the command line says about them.

The parser of `rpn` and the checks of the settings are made from the same fields.
Nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import Field, field, fields
from numbers import Integral, Real
from types import MappingProxyType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from rpn_lib.errors import SettingError, refuse_other


def option(default: Any, text: str, **more: Any) -> Any:
    """A field of a dataclass, with what the command line says about it.

    Args:
        default: its value where nothing is given.
        text: what it is, a phrase for `--help`.
        **more: `least` and `most`, the smallest and the largest value, and `unit`;
            `choices`; `metavar`, what `--help` calls the value; `default_text`, in
            place of the default in `--help`; `free`, whether a run that is resumed may
            have another value, since what is learnt doesn't depend on it.
    """
    return field(default=default, metadata=MappingProxyType({"help": text, **more}))


class Option(NamedTuple):
    """A field as the parser and the checks need it.

    Attributes:
        name: what the field is called.
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

    >>> from rpn_lib.training.config import NetworkConfig, TrainConfig
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
    """Refuse a value that is of another kind, none of the choices, or out of range."""
    if value is None and one.optional:
        return
    if one.many and not isinstance(value, tuple | list):
        raise SettingError(f"{one.name}={value!r} must be a list.")
    for part in value if one.many else (value,):
        if one.choices is not None:
            refuse_other(one.name, part, one.choices)
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
        most = one.more.get("most")
        if most is not None and not part <= most:
            raise SettingError(f"{one.name}={part} must be {most} or less.")


class ChecksValues:
    """Looks at the values of a dataclass when one is made.

    >>> from rpn_lib.training.config import DataConfig
    >>> DataConfig(side="large")
    Traceback (most recent call last):
    rpn_lib.errors.SettingError: side='large' must be a whole number.
    """

    def __post_init__(self) -> None:
        for one in options(type(self)):
            _check(one, getattr(self, one.name))


Config = TypeVar("Config", bound=ChecksValues)


def from_values(config: type[Config], values: Mapping[str, Any]) -> Config:
    """A dataclass from a mapping that may hold other keys too; lists become tuples.

    Args:
        config: the class.
        values: as a JSON file has them.

    Raises:
        SettingError: a value that cannot work.

    >>> from rpn_lib.training.config import NetworkConfig
    >>> from_values(NetworkConfig, {"sizes": [16, 32], "epochs": 3}).sizes
    (16, 32)
    """
    names = {one.name for one in fields(config)}  # type: ignore[arg-type]
    return config(
        **{name: _tuples(value) for name, value in values.items() if name in names}
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value

"""All settings of a run: from the command line, from `settings.json`, and back.

Nothing here needs torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rpn_lib.errors import SettingError, TrainingError, refuse_unknown
from rpn_lib.training.config import (
    DataConfig,
    NetworkConfig,
    TrainConfig,
)
from rpn_lib.training.options import Option, from_values, options

CONFIGS = (DataConfig, NetworkConfig, TrainConfig)

# Fitted anchors are right for these alone.
ANCHORS_DEPEND_ON = (
    *("data", "train_split", "side", "on_bad_box", "first_pixel"),
    *("backbone", "fpn", "sizes", "shapes"),
)


@dataclass(frozen=True)
class RunSettings:
    """What a run of `rpn train` is given.

    Attributes:
        data, network, training: see `rpn_lib.training.config`.
        device: where the network is computed; `None` to choose.

    >>> settings = RunSettings.of({"lr": 0.1, "sizes": [16, 32]})
    >>> settings.training.lr, settings.network.sizes
    (0.1, (16, 32))
    >>> RunSettings.of(settings.values()) == settings
    True
    """

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    device: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RunSettings":
        """Settings from their values by name; those that are missing are the defaults.

        Raises:
            SettingError: a name that is none, or a value that cannot work.
        """
        values = dict(values)
        # Files of runs before there were dataclasses: what `build_rpn` was given.
        network = values.pop("network", None)
        if network:
            values |= {"anchors": network.get("shapes"), "sizes": network.get("sizes")}
        names = {one.name for config in CONFIGS for one in fields(config)} | {"device"}
        refuse_unknown(values, names)
        return cls(
            from_values(DataConfig, values),
            from_values(NetworkConfig, values),
            from_values(TrainConfig, values),
            values.get("device"),
        )

    def values(self) -> dict[str, Any]:
        """All of them by name, as `settings.json` has them."""
        parts = (self.data, self.network, self.training)
        joined: dict[str, Any] = {}
        for part in parts:
            joined |= asdict(part)
        return joined | {"device": self.device}

    def changed(self, given: Mapping[str, Any]) -> "RunSettings":
        """Other values in place of some; anchors that no longer fit are dropped.

        >>> old = RunSettings.of({"anchors": [[10, 20]], "epochs": 3})
        >>> old.changed({"epochs": 5}).network.anchors
        ((10, 20),)
        >>> old.changed({"side": 480}).network.anchors is None
        True
        """
        values = self.values()
        different = {
            name for name, value in given.items() if not same(values[name], value)
        }
        made = RunSettings.of({**values, **given})
        if different.isdisjoint(ANCHORS_DEPEND_ON):
            return made
        return replace(made, network=replace(made.network, anchors=None))


def same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are the same, as list or as tuple."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return bool(one == other)


def given_settings(options_given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options on a command line those that are settings.

    Args:
        options_given: what `argparse` read, without the options that were not given.
    """
    names = {one.name for config in CONFIGS for one in options(config)}
    given = {name: value for name, value in options_given.items() if name in names}
    if given.get("data") is not None:
        given["data"] = str(Path(given["data"]))
    if options_given.get("device") is not None:
        given["device"] = options_given["device"]
    return given


def read_settings(path: Path) -> RunSettings:
    """The settings of a run.

    Args:
        path: `settings.json`.

    Raises:
        TrainingError: no such file, or one that is damaged.
        SettingError: a value in it that cannot work.
    """
    try:
        values = json.loads(path.read_text("utf-8"))["settings"]
        return RunSettings.of(values)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise TrainingError(
            f"{path} is missing: there is no run to continue. Start one without "
            "--resume."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise TrainingError(f"{path} cannot be used: {error!r}.") from error


def resumed(settings: RunSettings, given: Mapping[str, Any], out: Path) -> RunSettings:
    """The settings of a run that is continued, with those that may be different.

    Args:
        settings: those that the run was started with.
        given: the settings on the command line.
        out: the folder of the run.

    Raises:
        SettingError: an option that the run contradicts.

    >>> settings = RunSettings.of({"epochs": 12})
    >>> resumed(settings, {"epochs": 50}, Path("runs/a"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.errors.SettingError: --epochs 50 contradicts the run in runs/a, ...
    """
    values = settings.values()
    free = {one.name for one in _all_options() if one.more.get("free")} | {"device"}
    for name, value in given.items():
        if name not in free and not same(values[name], value):
            raise SettingError(
                f"{_shown(name, value)} contradicts the run in {out}, which has "
                f"{_shown(name, values[name])}. Leave it out to continue the run as it "
                f"is, or start another one: rpn train --settings {out}/settings.json "
                f"{_shown(name, value)} --out ANOTHER_FOLDER"
            )
    return RunSettings.of({**values, **given})


def _all_options() -> list[Option]:
    return [one for config in CONFIGS for one in options(config)]


def _shown(name: str, value: Any) -> str:
    """An option as it is typed."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    if value is None:
        return f"no --{flag}"
    if isinstance(value, list | tuple):
        return " ".join([f"--{flag}", *map(str, value)])
    return f"--{flag} {value}"

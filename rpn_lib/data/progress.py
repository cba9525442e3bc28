"""A bar where tqdm is installed, and nothing where it is not."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

Item = TypeVar("Item", covariant=True)


class Bar(Protocol[Item]):
    """What a bar can do."""

    def __enter__(self) -> "Bar[Item]": ...
    def __exit__(self, *error: Any) -> None: ...
    def __iter__(self) -> Iterator[Item]: ...
    def update(self, n: int = 1) -> object:
        """Move on by n."""


class _NoBar(Generic[Item]):
    def __init__(self, items: Iterable[Item]) -> None:
        self.items = items

    def __enter__(self) -> "_NoBar[Item]":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def update(self, n: int = 1) -> object:
        return None


def bar(items: Iterable[Item] = (), *, show: bool = True, **options: Any) -> Bar[Item]:
    """A bar, to loop over or to move on by `update`.

    Args:
        items: what is gone through, if it is a loop.
        show: `False` for none.
        **options: tqdm's: `total`, `unit`, `desc`.

    >>> list(bar([1, 2], show=False))
    [1, 2]
    """
    if show:
        try:
            from tqdm import tqdm  # not tqdm.auto: it warns without ipywidgets
        except ImportError:
            return _NoBar(items)
        # A log needs few lines.
        options = {"mininterval": 0.1 if sys.stderr.isatty() else 10, **options}
        made: Bar[Item] = tqdm(items if "total" not in options else None, **options)
        return made
    return _NoBar(items)

"""Checks for the exercises: what is right or wrong with an answer, in one sentence.

A check says what it found and where, and for a function what it expected. It does not
raise, so that a notebook runs to its end whether its exercises are solved or not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

SOLVED = "Correct."


NOT_YET = "Not yet: "


def check_value(answer: Any, expected: Any, tolerance: float = 1e-3) -> str:
    """Compare a number, a list of numbers or a tensor with what it should be.

    Args:
        answer: what the reader wrote; `None` or `...` counts as not answered.
        expected: the right value; its own numbers are never shown.
        tolerance: how far a number may be off.

    Returns:
        the word "Correct.", or "Not yet" and what is wrong.

    >>> check_value(90.5, 90.5097, tolerance=0.1)
    'Correct.'
    >>> check_value([1.0, 2.0, 3.0], [1.0, 2.0])
    'Not yet: the shape is (3,), but it should be (2,).'
    >>> check_value([1.0, 2.5], [1.0, 2.0])
    'Not yet: the value at [1] is 2.5, which is too large.'
    """
    problem = _difference(answer, expected, tolerance, reveal=False)
    return NOT_YET + problem if problem else SOLVED


def check_function(
    answer: Callable[..., Any],
    reference: Callable[..., Any],
    cases: Sequence[Sequence[Any]],
    tolerance: float = 1e-3,
) -> str:
    """Compare a function that the reader wrote with the library's, case by case.

    Args:
        answer: the reader's function; it may change the tensors that it is given, which
            are copies.
        reference: the function that is right.
        cases: arguments of each call, the simplest first.
        tolerance: how far a number may be off.

    Returns:
        the word "Correct.", or "Not yet" and the first call that differs.

    >>> check_function(abs, lambda x: x * x, [(1,), (-3,)])
    'Not yet: abs(-3): the value is 3, but it should be 9.'
    """
    for case in cases:
        name = getattr(answer, "__name__", repr(answer))
        call = f"{name}({', '.join(map(_short, case))})"
        try:
            result = answer(*map(_copy, case))
        except Exception as error:
            return f"{NOT_YET}{call} raises {type(error).__name__}: {error}"
        if result is None:
            return f"{NOT_YET}{call} returns None."
        problem = _difference(result, reference(*case), tolerance, reveal=True)
        if problem:
            return f"{NOT_YET}{call}: {problem}"
    return SOLVED


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _short(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    if value.numel() >= 9:
        return f"tensor {tuple(value.shape)}"
    if value.is_floating_point():  # 0.3 in float32 would read 0.30000001192092896
        value = value.double().round(decimals=4)
    return str(value.tolist())


def _difference(answer: Any, expected: Any, tolerance: float, reveal: bool) -> str:
    """What is wrong, or an empty string."""
    if answer is None or answer is ...:
        return "there is no answer yet."
    try:
        got = torch.as_tensor(answer, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return f"{type(answer).__name__} {answer!r} is no number, list or tensor."
    want = torch.as_tensor(expected, dtype=torch.float64).detach()
    if got.shape != want.shape:
        return f"the shape is {tuple(got.shape)}, but it should be {tuple(want.shape)}."
    wrong = ~torch.isclose(got, want, rtol=0, atol=tolerance)
    if not wrong.any():
        return ""
    place = wrong.nonzero()[0].tolist()
    value, right = got[tuple(place)].item(), want[tuple(place)].item()
    where = f"the value at {place}" if place else "the value"
    if value != value:
        return f"{where} is nan, which is no number."
    if reveal:
        return f"{where} is {value:g}, but it should be {right:g}."
    return (
        f"{where} is {value:g}, which is too {'large' if value > right else 'small'}."
    )

"""The checks of the exercises say what is wrong."""

import pytest
import torch

from rpn_lib.exercises import check_function, check_value


@pytest.mark.parametrize(
    ("answer", "expected", "verdict"),
    [
        (None, 3, "Not yet: there is no answer yet."),
        (..., 3, "Not yet: there is no answer yet."),
        (3.0001, 3, "Correct."),
        (3.1, 3, "Not yet: the value is 3.1, which is too large."),
        ([1, 1], [1, 2], "Not yet: the value at [1] is 1, which is too small."),
        ("three", 3, "Not yet: str 'three' is no number, list or tensor."),
        ([1, 2], 3, "Not yet: the shape is (2,), but it should be ()."),
        (float("nan"), 3, "Not yet: the value is nan, which is no number."),
        ([10**400], [3], f"Not yet: list [{10**400}] is no number, list or tensor."),
    ],
)
def test_check_value(answer, expected, verdict):
    assert check_value(answer, expected) == verdict


def right(x):
    return x * 2


def no_answer(x):
    return None


def raising(x):
    raise KeyError("lost")


def wrong_for_tensors(x):
    return torch.tensor([2.0, 5.0]) if isinstance(x, torch.Tensor) else 2 * x


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (right, "Correct."),
        (no_answer, "Not yet: no_answer(1) returns None."),
        (raising, "Not yet: raising(1) raises KeyError: 'lost'"),
        (
            wrong_for_tensors,
            "Not yet: wrong_for_tensors([1.0, 2.0]): the value at [1] is 5, but it "
            "should be 4.",
        ),
    ],
)
def test_check_function(answer, verdict):
    cases = [(1,), (torch.tensor([1.0, 2.0]),)]
    assert check_function(answer, right, cases) == verdict


def right_in_place(x):
    return x.mul_(2)


def test_an_answer_that_changes_its_arguments_is_judged_by_what_it_returns():
    x = torch.tensor([1.0, 2.0])
    assert check_function(right_in_place, right, [(x,)]) == "Correct."
    assert x.tolist() == [1, 2]


def test_numbers_of_a_call_are_short_and_keep_their_type():
    def no_answer(*arguments):
        return None

    case = (torch.tensor([0.3, 1.0]), torch.tensor([2]), torch.tensor([True]))
    verdict = check_function(no_answer, right, [case])
    assert verdict == "Not yet: no_answer([0.3, 1.0], [2], [True]) returns None."

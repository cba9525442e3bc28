"""What is wrong with a box: one judgement, three ways to word it."""

import itertools
import math

import pytest

from rpn_lib.box_faults import box_fault
from rpn_lib.boxes import check_boxes
from rpn_lib.data.problems import box_problem
from rpn_lib.errors import BoxError
from rpn_lib.figures.marks import read_box

VALUES = (-1.0, 0.0, 4.0, 8.0, 9.0, math.nan)
SIZE = (8, 8)
# By what words each message says the kind.
WORDS = {
    "not finite": "a coordinate is not a finite number",
    "swapped": "2 < ",
    "zero": " is zero",
    "outside": "reaches outside",
}


@pytest.mark.parametrize("x1", VALUES)
def test_every_message_says_the_same_of_a_box(x1):
    for rest in itertools.product(VALUES, repeat=3):
        box = [x1, *rest]
        fault, problem = box_fault(box, SIZE), box_problem(box, SIZE)
        if fault is None:
            assert problem is None
            assert check_boxes([box], SIZE).tolist() == [box]
            continue
        assert problem.kind == fault.kind
        with pytest.raises(BoxError) as error:
            check_boxes([box], SIZE)
        assert WORDS[fault.kind] in str(error.value)
        if fault.kind in ("zero", "outside"):  # it can be drawn
            assert read_box(box, "box 0") == box
        else:
            with pytest.raises(BoxError):
                read_box(box, "box 0")


def test_of_a_side_turned_round_and_one_of_no_length_the_first_is_told():
    with pytest.raises(BoxError, match="y2 < y1"):
        check_boxes([[5, 9, 5, 1]])
    assert box_problem([5, 9, 5, 1], SIZE).kind == "swapped"

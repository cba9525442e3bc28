import matplotlib.pyplot as plt
import pytest
import torch

from rpn_lib.errors import BoxError
from rpn_lib.figures.boxes import STYLES, draw_line, legend, show_image


@pytest.fixture
def ax():
    yield show_image(torch.zeros(3, 24, 32))
    plt.close()


def test_a_line_has_the_look_of_its_style_and_its_label_at_the_end(ax):
    draw_line(ax, [(4, 4), (20, 4), (20, 12)], "curve 2", "two sides")
    (line,) = ax.lines
    assert line.get_xydata().tolist() == [[4, 4], [20, 4], [20, 12]]
    style = STYLES["curve 2"]
    assert (line.get_color(), line.get_linestyle()) == (style.color, style.linestyle)
    assert [(text.get_text(), text.xy) for text in ax.texts] == [
        ("two sides", (20, 12))
    ]


def test_a_line_of_one_point_is_a_dot(ax):
    draw_line(ax, [(4, 5)], "guide")
    draw_line(ax, [(4, 5), (6, 7)], "guide")
    assert [line.get_marker() for line in ax.lines] == ["o", ""]
    assert not ax.texts


def test_a_line_of_an_unknown_style_is_refused(ax):
    with pytest.raises(BoxError, match="style 'red' is none of gt, anchor"):
        draw_line(ax, [(4, 5)], "red")


def test_a_legend_has_the_names_given_and_leaves_out_what_has_none(ax):
    names = {"gt": "box A", "curve 1": "L1"}
    legend(ax, ["gt", "anchor", "curve 1", "curve 2"], names, loc="lower left")
    shown = ax.get_legend()
    assert [text.get_text() for text in shown.get_texts()] == ["box A", "anchor", "L1"]
    assert [line.get_color() for line in shown.get_lines()] == [
        STYLES[name].color for name in ("gt", "anchor", "curve 1")
    ]


def test_no_two_styles_of_boxes_look_the_same():
    """But those of different steps, which no figure has together."""
    looks = {
        name: (style.color, style.linestyle)
        for name, style in STYLES.items()
        if not name.startswith("curve") and name != "guide"
    }
    del looks["kept"], looks["suppressed"]
    assert len(set(looks.values())) == len(looks)

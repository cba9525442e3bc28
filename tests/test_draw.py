import matplotlib.pyplot as plt
import pytest
import torch

from rpn_lib.errors import SettingError
from rpn_lib.figures.boxes import ORANGE, STYLES, draw_line, legend, show_image


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
    with pytest.raises(SettingError, match="style 'red' is none of gt, anchor"):
        draw_line(ax, [(4, 5)], "red")


def test_a_legend_has_the_names_given_and_leaves_out_what_has_none(ax):
    names = {"gt": "box A", "curve 1": "L1"}
    legend(ax, ["gt", "anchor", "curve 1", "curve 2"], names, loc="lower left")
    shown = ax.get_legend()
    assert [text.get_text() for text in shown.get_texts()] == ["box A", "anchor", "L1"]
    assert [line.get_color() for line in shown.get_lines()] == [
        STYLES[name].color for name in ("gt", "anchor", "curve 1")
    ]


def test_what_is_drawn_as_points_is_a_point_in_the_legend(ax):
    legend(ax, ["gt", "kept"], dots={"kept"})
    box, point = ax.get_legend().legend_handles
    assert (box.get_marker(), box.get_linestyle()) == ("", "-")
    assert (point.get_marker(), point.get_linestyle()) == ("o", "None")
    assert point.get_color() == STYLES["kept"].color == ORANGE


def test_what_is_no_picture_is_refused():
    with pytest.raises(SettingError, match=r"image has shape \(24, 32\); a picture is"):
        show_image(torch.zeros(24, 32))


def test_no_two_styles_of_boxes_look_the_same():
    """But those of different steps, which no figure has together."""
    looks = {
        name: (style.color, style.linestyle)
        for name, style in STYLES.items()
        if not name.startswith("curve") and name != "guide"
    }
    del looks["kept"], looks["suppressed"]
    assert len(set(looks.values())) == len(looks)

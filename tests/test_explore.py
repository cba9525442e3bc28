import base64
import hashlib
import html.parser
import importlib.resources
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from rpn_lib.boxes import BoxError
from rpn_lib.draw import STYLES
from rpn_lib.explore import LIMIT, Box, State, explore

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
            *xyxy, style, label = spec["boxes"][number]
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


def test_the_values_that_sliders_show():
    sliders = {"n": [1, 20], "x": np.array([0.1, 0.30000000000000004]), "s": ["a b"]}
    spec = spec_of(figure(sliders, lambda *v: State([], "")))
    assert spec["sliders"] == [
        ["n", ["1", "20"], 0],
        ["x", ["0.1", "0.3"], 0],
        ["s", ["a b"], 0],
    ]


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
    assert png == explorer.png
    assert png.startswith(b"\x89PNG")
    assert repr(one_box((0, 0, 1, 1))) == "<rpn-explorer: 1 slider, 1 state>"
    data, _ = DisplayFormatter().format(explorer)  # as a notebook asks for it
    assert data == bundle


def noise(dtype=np.uint8):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    return pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)


def test_pictures_of_any_kind_are_embedded_alike():
    tensor = torch.as_tensor(noise()).permute(2, 0, 1)
    images = [noise(), noise(np.float32), tensor, tensor / 255]
    specs = [spec_of(figure(image_size=(300, 400), image=image)) for image in images]
    assert all(spec == specs[0] for spec in specs)
    assert specs[0]["image"].startswith("data:image/jpeg;base64,")
    grey = spec_of(figure(image_size=(8, 9), image=torch.zeros(1, 8, 9)))
    assert grey["image"].startswith("data:image/png;base64,")  # the smaller of the two
    assert spec_of(figure())["image"] == ""


def test_the_picture_without_scripts_is_small_even_over_a_photograph():
    assert len(figure(image_size=(300, 400), image=noise()).png) <= 60_000


PROGRAM = """
import hashlib, numpy as np
from rpn_lib.explore import *
pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
show = lambda size: State([Box((1, 2, size, size), "gt", "it's")], f"{size}")
explorer = explore({"size": [8, 16]}, show, (40, 60), alt="A box.", image=pixels)
print(hashlib.sha256(explorer.html.encode() + explorer.png).hexdigest())
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
            r"image has .* \(40, 60\)",
        ),
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
    with pytest.raises(BoxError, match=message):
        make()


def test_a_heavy_figure_is_refused_before_all_states_are_made():
    calls = itertools.count()

    def show(*chosen):
        next(calls)
        return State([], "x" * 1000)

    with pytest.raises(BoxError, match=r"more than 300 KB .* 'fine' .* values, 2000"):
        figure({"coarse": [1, 2], "fine": range(2000)}, show)
    assert next(calls) < 320


def test_the_weight_is_that_of_the_html():
    length = LIMIT - len(figure({"n": [1]}, lambda n: State([], "")).html)
    # The text stands twice in the page: in the data, and for readers without scripts.
    just = figure({"n": [1]}, lambda n: State([], "x" * (length // 2)))
    assert LIMIT - 1 <= len(just.html) <= LIMIT
    with pytest.raises(BoxError, match="weighs 301 KB of HTML, the limit is 300"):
        figure({"n": [1]}, lambda n: State([], "x" * (length // 2 + 1)))


def test_the_script_comes_with_the_package_and_is_small():
    source = (
        importlib.resources.files("rpn_lib").joinpath("explore.js").read_text("utf-8")
    )
    served = figure().html.split("<script>")[1].removesuffix("</script>")
    assert len(served.encode()) < 8000
    assert "</" not in source  # would end the script, or confuse a reader of HTML
    assert source.startswith("// <rpn-explorer")
    assert served.startswith("(function () {")
    assert served.endswith("})();")
    # Nothing but comments and indentation is gone.
    code = [line.strip() for line in source.splitlines()]
    code = [line for line in code if not line.startswith("//")]
    assert served.splitlines() == code

"""Every figure of the built book: each slider moved, by keyboard and by mouse.

What the page shows is compared with the states in the committed notebook. Python reads
them here on its own, without the script of the page. That the notebook's states are
those which `rpn_lib` computes is what nbval proves: it runs the notebook again and
compares the outputs, these among them.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


class Specs(HTMLParser):
    """The data of the figures in a piece of HTML."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag == "rpn-explorer":
            self.found.append(json.loads(dict(attributes)["spec"]))


def specs_of(path):
    parser = Specs()
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            parser.feed("".join(output.get("data", {}).get("text/html", "")))
    return parser.found


def expected(spec, at):
    """What is seen where the sliders stand at these positions."""
    index = 0
    for position, (_, values, *_) in zip(at, spec["sliders"]):
        index = index * len(values) + position
    text, boxes, *more = spec["states"][index]  # lines and picture may be left out
    lines, picture = more + [[], 0][len(more) :]
    boxes = [spec["boxes"][number] for number in boxes]
    lines = [spec["lines"][number] for number in lines]
    return {
        "values": [values[i] for i, (_, values, *_) in zip(at, spec["sliders"])],
        "text": text,
        "boxes": [[*box[:4], spec["styles"][box[4]][1]] for box in boxes],
        "lines": [[*line[0], spec["styles"][line[1]][1]] for line in lines],
        "labels": [mark[5] for mark in boxes if mark[5]]
        + [mark[2] for mark in lines if mark[2]],
        "picture": [spec["images"][picture]] if spec["images"][picture] else [],
    }


SEEN = """host => {
    const all = (what) => [...host.shadowRoot.querySelectorAll(what)];
    const texts = (what) => all(what).map((e) => e.textContent);
    const shapes = (what) => all(what).map(
        (e) => [e.getAttribute('d'), e.getAttribute('stroke')]);
    return {
        values: texts('output'),
        text: texts('.sentence')[0],
        boxes: shapes('.boxes path:not(.under)'),
        lines: shapes('.lines path:not(.under)'),
        labels: texts('.label'),
        picture: all('image').filter((e) => e.style.display !== 'none')
            .map((e) => e.getAttribute('href')),
    };
}"""


def seen(figure):
    state = figure.evaluate(SEEN)
    for kind in ("boxes", "lines"):
        state[kind] = [
            [*(float(v) for v in re.findall(r"-?[\d.]+", shape)), color]
            for shape, color in state[kind]
        ]
    # An outline is written M x1,y1 H x2 V y2 H x1; a dot ends with h 0.01.
    assert all(box.pop(4) == box[0] for box in state["boxes"])
    for line in state["lines"]:
        if len(line) == 4:
            assert line.pop(2) == 0.01
    return state


def click(slider, position, last):
    """With the mouse, where the thumb would stand; it is 16 pixels wide."""
    box = slider.bounding_box()
    x = 8 + (box["width"] - 16) * position / max(last, 1)
    slider.click(position={"x": x, "y": box["height"] / 2})


def some(last):
    """Both ends and the middle: keys go to every position, the mouse to these."""
    return sorted({0, last // 2, last})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_on_a_phone_in_the_dark_and_every_slider(open_page, path):
    """The page is opened once, for its formulas take more time than its figures."""
    built = ROOT / "_build" / "html" / "notebooks" / f"{path.stem}.html"
    assert built.is_file(), "The book is not built; run `make book` first."
    page = open_page(built, width=360, color_scheme="dark", has_touch=True)
    specs = specs_of(path)
    figures = page.locator("rpn-explorer").all()
    assert len(figures) == len(specs) > 0
    positions = [fits_and_is_tapped(*both) for both in zip(figures, specs)]
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    for figure, spec, at in zip(figures, specs, positions):
        move_every_slider(figure, spec, at)


def fits_and_is_tapped(figure, spec):
    """Where its sliders stand after a tap on the first one."""
    assert figure.bounding_box()["x"] >= 0
    assert figure.bounding_box()["width"] <= 344
    panel = figure.evaluate("e => getComputedStyle(e.parentElement).backgroundColor")
    assert panel == "rgba(0, 0, 0, 0)"  # not the pale one of the theme
    at = [start for _, _, start, *_ in spec["sliders"]]
    assert seen(figure) == expected(spec, at)
    slider = figure.locator("input").first
    _, values, start, *kind = spec["sliders"][0]
    if kind == ["check"]:
        at[0] = 1 - start
        slider.tap()
    else:
        at[0] = len(values) - 1
        box = slider.bounding_box()
        slider.tap(position={"x": box["width"] - 8, "y": box["height"] / 2})
    assert seen(figure) == expected(spec, at)
    return at


def move_every_slider(figure, spec, at):
    """By keyboard and by mouse, one after the other, from where they stand."""
    for i, (slider, (_, values, _, *kind)) in enumerate(
        zip(figure.locator("input").all(), spec["sliders"])
    ):
        last = len(values) - 1
        if kind == ["check"]:
            start = at[i]
            for way in (lambda s: s.press("Space"), lambda s: s.click()):
                for at[i] in (1 - start, start):
                    way(slider)
                    assert seen(figure) == expected(spec, at)
            continue
        slider.press("Home")
        for at[i] in range(last + 1):
            assert seen(figure) == expected(spec, at)
            slider.press("ArrowRight")
        for at[i] in some(last):
            click(slider, at[i], last)
            assert seen(figure) == expected(spec, at)
        if kind == ["play"]:  # from the end to the start, a step at a time
            for at[i] in (0, 1):
                figure.get_by_role("button").click()
                assert seen(figure) == expected(spec, at)
        # The next slider is moved with this one in the middle.
        at[i] = last // 2
        click(slider, at[i], last)

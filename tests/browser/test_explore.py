import itertools
import re

import pytest
import torch

from rpn_lib.draw import STYLES
from rpn_lib.explore import Box, State, explore

SLIDERS = {"size (px)": [16, 64, 200], "aspect ratio": [0.5, 2.0], "kind": ["a", "b"]}
TRUTH = Box((40, 30, 120, 90), "gt", 'it\'s <true> & "quoted"')


def show(size, ratio, kind):
    width, height = size * ratio**0.5, size / ratio**0.5
    anchor = (80 - width / 2, 60 - height / 2, 80 + width / 2, 60 + height / 2)
    boxes = [TRUTH, Box(anchor, "anchor" if kind == "a" else "proposal", f"{size}")]
    return State(boxes, f"{kind}: {width:.1f} x {height:.1f} <pixels>.")


@pytest.fixture(scope="module")
def figure():
    return explore(
        SLIDERS,
        show,
        (120, 160),
        alt="An anchor over a true box.",
        title="Anchor & truth",
        image=torch.linspace(0, 1, 3 * 120 * 160).reshape(3, 120, 160),
        start={"size (px)": 64},
    )


@pytest.fixture
def write(tmp_path):
    def write_page(body, style=":root { color-scheme: light dark; }"):
        path = tmp_path / "page.html"
        path.write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Page</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{style}</style><body>{body}</body></html>",
            encoding="utf-8",
        )
        return path

    return write_page


def drawn(explorer):
    """Corners of the boxes in the picture, and their colours."""
    return [
        (
            [float(v) for v in re.split("[MHVZ,]", path.get_attribute("d")) if v],
            path.get_attribute("stroke"),
        )
        for path in explorer.locator(".boxes path:not(.under)").all()
    ]


def check(explorer, figure, chosen):
    """The page shows what Python computed for these values."""
    state = figure.states[chosen]
    assert explorer.locator(".sentence").text_content() == state.text
    assert explorer.locator("output").all_text_contents() == [f"{v}" for v in chosen]
    for slider, value in zip(explorer.locator("input").all(), chosen):
        assert slider.get_attribute("aria-valuetext") == f"{value}"
    boxes = drawn(explorer)
    assert len(boxes) == len(state.boxes)
    for ((x1, y1, x2, y2, left), color), box in zip(boxes, state.boxes):
        assert left == x1
        assert (x1, y1, x2, y2) == pytest.approx(box.xyxy, abs=0.0501)
        assert color == STYLES[box.style].color
    assert explorer.locator(".label").all_text_contents() == [
        box.label for box in state.boxes
    ]


# The page prints numbers as Python does, but for whole floats.
def shown(chosen):
    return tuple(int(v) if v == 2.0 else v for v in chosen)


def test_every_state_by_keyboard(figure, write, open_page):
    page = open_page(write(figure.html))
    explorer = page.locator("rpn-explorer")
    sliders = [explorer.get_by_label(name) for name in SLIDERS]
    check(explorer, figure, (64, 0.5, "a"))
    at = [1, 0, 0]
    for goal in itertools.product(*(range(len(v)) for v in SLIDERS.values())):
        for i, slider in enumerate(sliders):
            if at[i] != goal[i]:
                slider.press("ArrowRight" if goal[i] == at[i] + 1 else "Home")
                at[i] = goal[i]
        check(explorer, figure, shown(v[i] for v, i in zip(SLIDERS.values(), goal)))
    assert at == [2, 1, 1]
    sliders[0].press("ArrowRight")  # stays at the end
    check(explorer, figure, (200, 2, "b"))


def test_the_page_does_not_see_the_keys_of_the_figure(figure, write, open_page):
    listener = "<script>var seen = []; for (const type of ['keydown', 'mousedown'])"
    listener += "document.addEventListener(type, (e) => seen.push(e.type));</script>"
    page = open_page(write(listener + figure.html + "<input id='other'>"))
    slider = page.get_by_label("size (px)")
    slider.click()
    slider.press("ArrowRight")
    assert page.evaluate("seen") == []
    page.locator("#other").press("ArrowRight")
    assert page.evaluate("seen") == ["keydown"]


def test_pointing_and_stepping_to_a_box_shows_its_corners(figure, write, open_page):
    page = open_page(write(figure.html))
    detail = page.locator(".detail")
    assert detail.text_content().startswith("Point at a box")
    truth = f"true box, {TRUTH.label}: (40, 30, 120, 90)"
    anchor = "anchor, 64: (57.4, 14.7, 102.6, 105.3)"
    page.mouse.move(*middle(page.locator(".hit").nth(1)))  # inside both: the smaller
    assert detail.text_content() == anchor
    page.mouse.move(1, 1)
    assert detail.text_content().startswith("Point at a box")
    page.get_by_label("kind").focus()
    page.keyboard.press("Tab")  # one stop for all boxes, the largest first
    assert detail.text_content() == truth
    page.keyboard.press("ArrowRight")
    assert detail.text_content() == anchor
    page.keyboard.press("ArrowRight")  # no more boxes
    assert detail.text_content() == anchor
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    assert page.locator(".hit title").all_text_contents() == [truth, anchor]


def test_tapping_a_box_shows_its_corners(figure, write, open_page):
    page = open_page(write(figure.html), has_touch=True, width=360)
    page.touchscreen.tap(*middle(page.locator(".hit").nth(1)))
    assert page.locator(".detail").text_content().startswith("anchor, 64: (57.4")


def middle(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_two_copies_on_a_page_and_a_script_run_again(figure, write, open_page):
    page = open_page(write(figure.html + figure.html))
    page.evaluate(  # what a notebook does when its cell is run once more
        """html => {
            const output = document.createElement('div');
            output.innerHTML = html;
            document.body.append(output);
            for (const old of output.querySelectorAll('script')) {
                const script = document.createElement('script');
                script.textContent = old.textContent;
                old.replaceWith(script);
            }
        }""",
        figure.html,
    )
    explorers = page.locator("rpn-explorer")
    assert explorers.count() == 3
    explorers.nth(1).get_by_label("size (px)").press("End")
    explorers.nth(2).get_by_label("size (px)").press("Home")
    for number, size in enumerate((64, 200, 16)):
        check(explorers.nth(number), figure, (size, 0.5, "a"))
    # Moved elsewhere in the page, it is built once, and keeps its state.
    page.evaluate("document.body.append(document.querySelectorAll('rpn-explorer')[1])")
    check(explorers.nth(2), figure, (200, 0.5, "a"))


def check_fallback(page, figure):
    assert page.locator("rpn-explorer > img").is_visible()
    assert page.evaluate("document.querySelector('img').naturalWidth") == 480
    text = page.locator("rpn-explorer > p").inner_text()
    assert figure.states[64, 0.5, "a"].text in text
    assert "This picture has sliders where scripts can run." in text
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_scripts_a_picture_and_a_sentence(figure, write, open_page):
    page = open_page(write(figure.html), width=360, java_script_enabled=False)
    # Playwright's own scripts run all the same.
    check_fallback(page, figure)


@pytest.mark.parametrize("spec", ["", "{", "{}", "null"])
def test_a_broken_spec_leaves_the_picture(figure, write, open_page, spec):
    broken = re.sub("spec='[^']*'", f"spec='{spec}'", figure.html)
    silent = "<script>console.warn = () => {}</script>"
    page = open_page(write(silent + broken), width=360)
    check_fallback(page, figure)


@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_shows_it_all(figure, write, open_page, width):
    page = open_page(write(figure.html, "body { margin: 8px }"), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for slider in page.locator("input").all():
        box = slider.bounding_box()
        assert box["height"] >= 24
        assert box["width"] >= 100
    stage = page.locator(".stage").bounding_box()
    assert stage["width"] >= width - 40
    for label in page.locator(".label").all():
        assert label.bounding_box()["x"] + 30 < stage["x"] + stage["width"]


def test_long_names_and_values_fit_a_phone(write, open_page):
    value = "a value that is much longer than it ought to be"
    long = {"a slider with a very long name (pixels per cell)": [value, "b"]}
    figure = explore(long, lambda v: State([TRUTH], v), (50, 900), alt="x")
    page = open_page(write(figure.html), width=320)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    before = page.locator("input").bounding_box()["width"]
    page.locator("input").press("End")
    assert page.locator("input").bounding_box()["width"] == before >= 50


def contrast(page, inside):
    """Contrast of text against its background, 1 to 21, as WCAG defines it."""
    colors = page.evaluate(
        """inside => {
            const host = document.querySelector('rpn-explorer');
            const of = (node) => getComputedStyle(node);
            return [of(host.shadowRoot.querySelector(inside)).color,
                    of(host).backgroundColor];
        }""",
        inside,
    )
    light = []
    for color in colors:
        assert "rgba" not in color, "a transparent colour"
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in (int(part) / 255 for part in re.findall(r"\d+", color))
        ]
        light.append(sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear)))
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "style",
    [
        "",
        ":root { color-scheme: light dark; }",
        ":root { --pst-color-text-base: #ced6dd; --pst-color-background: #14181e; }",
        ":root { --jp-content-font-color1: #eee; --jp-layout-color0: #111; }",
        "body { color: #eee; background: #111; }",  # a page that knows no schemes
    ],
)
def test_text_is_legible_in_light_and_dark(figure, write, open_page, scheme, style):
    page = open_page(write(figure.html, style), color_scheme=scheme)
    for inside in (".title", "label", "output", ".sentence", ".detail"):
        assert contrast(page, inside) > 7


def test_screen_readers_are_told(figure, write, open_page):
    page = open_page(write(figure.html))
    assert page.locator(".sentence").get_attribute("aria-live") == "polite"
    tree = page.locator("body").aria_snapshot()
    assert 'group "Anchor & truth"' in tree
    assert 'group "An anchor over a true box."' in tree
    for name in SLIDERS:
        assert f'slider "{name}"' in tree
    assert (
        page.evaluate(
            "document.querySelector('rpn-explorer').shadowRoot.querySelector('[id]')"
        )
        is None
    )


def test_print_shows_values_but_no_controls(figure, write, open_page):
    page = open_page(write(figure.html))
    page.emulate_media(media="print")
    assert not page.locator("input").first.is_visible()
    assert page.locator("output").first.is_visible()
    assert page.locator(".sentence").is_visible()

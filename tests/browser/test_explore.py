import itertools
import re

import pytest
import torch

from rpn_lib.figures.boxes import STYLES
from rpn_lib.figures.explorer import Box, Line, State, explore

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
    slider.press("Control+k")  # not for a slider
    assert page.evaluate("seen") == ["keydown"] * 2  # Control itself, and then k
    page.evaluate("seen = []")
    page.locator("#other").press("ArrowRight")
    assert page.evaluate("seen") == ["keydown"]


def test_pointing_and_stepping_to_a_box_shows_its_corners(figure, write, open_page):
    page = open_page(write(figure.html))
    detail = page.locator(".detail")
    assert detail.text_content().startswith("Point at a box")
    truth = f"true box, {TRUTH.label}: (40, 30, 120, 90)"
    # 45.25 x 60 of 80 x 60 + 45.25 x 90.51 - 45.25 x 60 square pixels
    anchor = "anchor, 64: (57.4, 14.7, 102.6, 105.3); best IoU with a true box 0.439"
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
    assert page.locator("a:focus").text_content() == "Link to this view"
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
    for inside in (".title", "label", "output", ".sentence", ".detail", "a"):
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
    assert not page.get_by_text("Link to this view").is_visible()
    assert page.locator("output").first.is_visible()
    assert page.locator(".sentence").is_visible()


STEPS = range(4)
PICTURES = [torch.full((3, 40, 60), 0.25 * i) for i in range(3)] + [None]


def replay(lines, step):
    boxes = [TRUTH._replace(xyxy=(10, 10, 30, 30)), Box((step, 10, 30, 30))]
    drawn = [
        Line([(0, 0), (20.5, step), (60, 40)], "curve 1", "path"),
        Line([(step, 20)], "guide", "dot"),
        Line([(0, step), (60, step)], "guide"),
    ]
    return State(boxes, f"Step {step}.", drawn if lines else [], PICTURES[step])


@pytest.fixture(scope="module")
def film():
    return explore(
        {"lines": [False, True], "step": STEPS},
        replay,
        (40, 60),
        alt="A box that grows.",
        image=torch.zeros(3, 40, 60),
        play="step",
        names={"curve 1": "its path"},
    )


def check_film(explorer, film, lines, step):
    state = film.states[lines, step]
    assert explorer.locator(".sentence").text_content() == state.text
    shown = explorer.locator("output").all_text_contents()
    assert shown == ["on" if lines else "off", f"{step}"]
    assert explorer.get_by_label("lines").is_checked() == lines
    assert explorer.get_by_label("step", exact=True).input_value() == f"{step}"
    paths = explorer.locator(".lines path:not(.under)").all()
    assert len(paths) == len(state.lines)
    for path, line in zip(paths, state.lines):
        numbers = [float(v) for v in re.split("[Mh,]", path.get_attribute("d")) if v]
        flat = [v for point in line.points for v in point]
        assert numbers == pytest.approx(flat + [0.01] * (len(flat) == 2), abs=0.0501)
        assert path.get_attribute("stroke") == STYLES[line.style].color
    labels = [mark.label for mark in (*state.boxes, *state.lines) if mark.label]
    assert explorer.locator(".label").all_text_contents() == labels
    assert explorer.locator("image:visible").count() == 1
    # The first of the three pictures is that of the figure, and of step 0 too.
    visible = explorer.locator("image").evaluate_all(
        "nodes => nodes.map((node) => node.style.display === '')"
    )
    assert visible == [n == (step if step < 3 else 0) for n in range(3)]


def test_a_check_box_lines_and_pictures_in_every_state(film, write, open_page):
    page = open_page(write(film.html))
    check_film(page, film, False, 0)
    lines, step = page.get_by_label("lines"), page.get_by_label("step", exact=True)
    for number in STEPS:
        for way in (
            lambda: lines.press("Space"),
            lambda: page.get_by_text("lines", exact=True).click(),
        ):
            check_film(page, film, lines.is_checked(), number)
            way()
        check_film(page, film, False, number)
        step.press("ArrowRight")
    lines.click()
    check_film(page, film, True, 3)
    assert page.locator(".legend > span").all_text_contents() == [
        "true box",
        "anchor",
        "its path",
    ]
    tree = page.locator("body").aria_snapshot()
    assert 'checkbox "lines" [checked]' in tree
    assert 'button "Play step"' in tree


def test_a_legend_looks_like_what_is_drawn(write, open_page):
    """A style of which there are only points is a dot."""
    lines = [Line([(1, 1), (8, 8)], "curve 1"), Line([(4, 4)], "kept")]
    state = State([Box((1, 1, 5, 5), "gt")], "", lines)
    names = {"curve 1": "a curve", "kept": "here"}
    figure = explore({"n": [1]}, lambda n: state, (9, 9), alt="x", names=names)
    page = open_page(write(figure.html))
    caps = {}
    for entry in page.locator(".legend > span").all():
        name = entry.locator("span").text_content()
        caps[name] = entry.locator("path").last.get_attribute("stroke-linecap")
    assert caps == {"true box": "butt", "a curve": "butt", "here": "round"}


def test_a_check_box_that_is_on_at_first(write, open_page):
    figure = explore(
        {"on": [True, False]}, lambda on: State([], f"{on}"), (9, 9), alt="x"
    )
    page = open_page(write(figure.html))
    box, sentence = page.get_by_role("checkbox"), page.locator(".sentence")
    assert (box.is_checked(), sentence.text_content()) == (True, "True")
    box.uncheck()
    assert sentence.text_content() == "False"


@pytest.fixture
def open_film(film, write, open_page):
    """The page, with a clock that only the test moves on."""

    def open_it(**options):
        page = open_page(write(film.html), **options)
        page.clock.install()
        page.reload()
        page.clock.pause_at(page.evaluate("Date.now()") + 10_000)
        return page, page.get_by_role("button")

    return open_it


@pytest.mark.parametrize("way", ["mouse", "Enter", "Space"])
def test_the_button_plays_to_the_end(film, open_film, way):
    page, button = open_film()
    press = button.click if way == "mouse" else lambda: button.press(way)
    live = page.locator(".sentence")
    page.clock.run_for(60_000)
    check_film(page, film, False, 0)  # nothing moves of itself
    assert button.get_attribute("aria-pressed") == "false"
    press()
    for step in (1, 2):
        check_film(page, film, False, step)
        assert button.get_attribute("aria-pressed") == "true"
        assert live.get_attribute("aria-live") == "off"
        page.clock.run_for(1000)
    check_film(page, film, False, 3)
    assert button.get_attribute("aria-pressed") == "false"
    assert live.get_attribute("aria-live") == "polite"
    page.clock.run_for(60_000)
    check_film(page, film, False, 3)
    press()  # from the start again
    check_film(page, film, False, 0)
    press()  # pause
    page.clock.run_for(60_000)
    check_film(page, film, False, 0)
    assert button.get_attribute("aria-pressed") == "false"


def test_the_reader_takes_over_from_the_button(film, open_film):
    page, button = open_film()
    button.click()
    page.get_by_label("lines").check()
    assert button.get_attribute("aria-pressed") == "false"
    page.clock.run_for(60_000)
    check_film(page, film, True, 1)


def test_where_less_motion_is_wanted_the_button_makes_one_step(film, open_film):
    page, button = open_film(reduced_motion="reduce")
    for step in (1, 2, 3, 0):
        button.click()
        page.clock.run_for(60_000)
        check_film(page, film, False, step)
        assert button.get_attribute("aria-pressed") == "false"


def test_a_figure_taken_off_the_page_stops(film, open_film):
    page, button = open_film()
    button.click()
    page.evaluate("kept = document.querySelector('rpn-explorer'); kept.remove()")
    page.clock.run_for(60_000)
    page.evaluate("document.body.append(kept)")
    assert button.get_attribute("aria-pressed") == "false"
    page.clock.run_for(60_000)
    check_film(page, film, False, 2)


def test_check_boxes_stand_side_by_side(write, open_page):
    off, on = [False, True], [True, False]
    sliders = {"box 1": off, "box 2": on, "length": [1, 2], "box 3": off}
    figure = explore(sliders, lambda *v: State([], f"{v}"), (40, 60), alt="x")
    page = open_page(write(figure.html))
    tops = [page.get_by_label(name).bounding_box()["y"] for name in sliders]
    assert tops == sorted(tops)  # in the order that was given
    assert tops[0] == tops[1] < tops[2] < tops[3]
    assert not page.locator("output").first.is_visible()  # the box shows it
    page.emulate_media(media="print")
    assert page.locator("output").all_inner_texts() == ["off", "on", "1", "off"]


def test_a_link_carries_the_positions(figure, film, write, open_page):
    path = write(figure.html + "<p style='height: 2000px'></p>" + film.html)
    page = open_page(path)
    explorer = page.locator("rpn-explorer").nth(1)
    link = explorer.get_by_text("Link to this view")
    assert link.get_attribute("href") == "#rpn-2-0-0"
    explorer.get_by_label("lines").check()
    explorer.get_by_label("step", exact=True).press("End")
    assert link.get_attribute("href") == "#rpn-2-1-3"
    link.press("Enter")
    assert page.url == f"{path.as_uri()}#rpn-2-1-3"
    check_film(explorer, film, True, 3)

    other = open_page(path)
    other.goto("about:blank")
    other.goto(page.url)
    check_film(other.locator("rpn-explorer").nth(1), film, True, 3)
    check(other.locator("rpn-explorer").nth(0), figure, (64, 0.5, "a"))
    assert 0 <= other.locator("rpn-explorer").nth(1).bounding_box()["y"] < 600
    other.goto(f"{path.as_uri()}#rpn-1-2-1-1")  # on the same page
    other.wait_for_function("scrollY < 600")
    check(other.locator("rpn-explorer").nth(0), figure, (200, 2, "b"))
    check_film(other.locator("rpn-explorer").nth(1), film, True, 3)


@pytest.mark.parametrize(
    "address",
    ["#rpn", "#rpn-1", "#rpn-1-0-9", "#rpn-1-x-1", "#rpn-3-1-1", "#rpn-0-1-1"],
)
def test_a_link_that_leads_nowhere_changes_nothing(film, write, open_page, address):
    path = write(film.html)
    page = open_page(path)
    page.goto("about:blank")
    page.goto(path.as_uri() + address)
    check_film(page, film, False, 0)


def test_in_jupyter_there_is_no_link(film, write, open_page):
    lab = '<script id="jupyter-config-data" type="application/json">{}</script>'
    path = write(lab + film.html)
    page = open_page(path)
    page.goto("about:blank")
    page.goto(f"{path.as_uri()}#rpn-1-1-3")
    check_film(page, film, False, 0)
    assert page.get_by_text("Link to this view").count() == 0


def test_in_a_sandboxed_frame_all_but_the_link_works(film, write, open_page):
    content = film.html.replace("&", "&amp;").replace('"', "&quot;")
    path = write(f'<iframe sandbox="allow-scripts" srcdoc="{content}"></iframe>')
    # The button then makes one step, however slow the machine is.
    frame = open_page(path, reduced_motion="reduce").frame_locator("iframe")
    check_film(frame, film, False, 0)
    frame.get_by_label("lines").check()
    check_film(frame, film, True, 0)
    frame.get_by_role("button").press("Enter")
    check_film(frame, film, True, 1)
    assert frame.get_by_text("Link to this view").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_controls_of_a_film(film, write, open_page, scheme):
    page = open_page(write(film.html), width=320, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for control in page.locator("input, button").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 24
    assert page.get_by_label("step", exact=True).bounding_box()["width"] >= 100
    assert contrast(page, "button") > 7
    page.emulate_media(media="print")
    assert not page.get_by_role("button").is_visible()
    assert page.locator("output").first.is_visible()


def test_labels_at_the_border_are_seen_whole(write, open_page):
    lines = [
        Line([(0, 0), corner], "guide", "a label") for corner in ((60, 0), (60, 40))
    ]
    figure = explore(
        {"n": [1]}, lambda n: State([], "", lines), (40, 60), alt="x", margin=0
    )
    page = open_page(write(figure.html), width=360)
    stage = page.locator(".stage").bounding_box()
    for label in page.locator(".label").all():
        box = label.bounding_box()
        assert box["x"] + box["width"] <= stage["x"] + stage["width"] + 1
        assert box["y"] >= stage["y"] - 1
        assert box["y"] + box["height"] <= stage["y"] + stage["height"] + 1

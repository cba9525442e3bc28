"""The network in a page: the numbers of PyTorch, and everything that is clicked."""

import base64
import io
import json
from functools import cache
from importlib.resources import files
from itertools import count
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxscript", reason="the page is made through ONNX")

from rpn_lib.data.scenes import unseen_scenes
from rpn_lib.export import Stages
from rpn_lib.figures import live
from rpn_lib.models import trained_rpn

SIZES = [(240, 320), (480, 640), (237, 331)]
BUTTONS = "rpn-live .steps button"
NOTE = "This network has seen <b>synthetic scenes</b> only."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the page, as the book has them."""
    folder = tmp_path_factory.mktemp("live")
    pictures = [live.picture_address(image) for image in unseen_scenes()]
    (folder / "network.js").write_text(live.network_script(trained_rpn(), pictures))
    (folder / "live.js").write_text(live.page_script())
    element = live.element(pictures[0], "network.js", NOTE)
    (folder / "index.html").write_text(
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark"><title>Live</title>'
        f"<body><main><h1>Live</h1>{element}</main>"
        '<script defer src="live.js"></script>'
    )
    return folder


@pytest.fixture
def page(open_page, folder):
    return open_page(folder / "index.html", width=1000)


@pytest.fixture
def served(browser, folder):
    """The page as a server would give it; no other address is answered."""
    context = browser.new_context()
    asked = []

    def answer(route):
        address = urlparse(route.request.url)
        asked.append(address.path)
        if address.netloc != "rpn.test":
            return route.abort()
        return route.fulfill(path=folder / address.path.lstrip("/"))

    context.route("**/*", answer)
    page = context.new_page()
    page.goto("http://rpn.test/index.html")
    page.asked = asked
    yield page
    context.close()


def run(page):
    page.get_by_role("button", name="Run the network").click()
    done(page)


def status(page):
    return page.locator("rpn-live .status")


def done(page, text="score"):
    status(page).filter(has_text=text).wait_for()
    page.locator("rpn-live progress").wait_for(state="hidden")


def go(page, step):
    page.locator(BUTTONS).filter(has_text=step).click()


def boxes(page, colour):
    return page.locator(f'rpn-live svg[role=img] path[stroke="{colour}"]')


# The same numbers

ASK = """async ([shape, bytes]) => {
    const data = new Float32Array(
        Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)).buffer);
    const element = document.querySelector('rpn-live');
    const result = await element.propose({ type: 'float', shape, data });
    const pack = ({ type, shape, data }) => {
        let text = '';
        for (const byte of new Uint8Array(Float64Array.from(data).buffer)) {
            text += String.fromCharCode(byte);
        }
        return [shape, btoa(text)];
    };
    return Object.entries(result).map(([name, tensor]) => [name, ...pack(tensor)]);
}"""


def stages_in(page, images):
    bytes_ = base64.b64encode(images.numpy().tobytes()).decode()
    found = page.evaluate(ASK, [list(images.shape), bytes_])
    return {
        name: np.frombuffer(base64.b64decode(packed)).reshape(shape)
        for name, shape, packed in found
    }


def stages_of(rpn, images):
    module = Stages(rpn)
    with torch.no_grad():
        found = module(images)
    tensors = [*found[:-1], *found[-1]]
    return {n: x.double().numpy() for n, x in zip(module.names, tensors)}


ATOL = {"logits": 1e-4, "scores": 1e-4, "deltas": 1e-5, "decoded": 1e-3, "boxes": 1e-3}


def compare(found, expected):
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        assert found[name].shape == right.shape, name
        atol = 1e-4 if name.startswith(("features", "iou")) else ATOL.get(name, 0)
        np.testing.assert_allclose(found[name], right, rtol=0, atol=atol, err_msg=name)


ROUNDING = 2e-5  # of logits: in single precision they depend on the order of summation


@cache
def noise(size, seed):
    """A picture, and its stages in PyTorch; its best anchors differ by more than that.

    Else the order of two of them is nobody's to say: in double precision PyTorch itself
    may give another one.
    """
    for attempt in count(seed):
        torch.manual_seed(attempt)
        images = torch.rand(1, 3, *size)
        expected = stages_of(trained_rpn(), images)
        best = np.sort(-expected["logits"])[: live.CANDIDATES + 1]
        if np.diff(best).min() > ROUNDING:
            return images, expected


# What goes before the script of the worker: the first lets us see the kernel, the
# others take away what it needs.
WATCHED = """const { Instance } = WebAssembly;
WebAssembly.Instance = function (module) {
    globalThis.kernel = new Instance(module);
    return globalThis.kernel;
};"""
NO_SIMD = "WebAssembly.Module = function () { throw new WebAssembly.CompileError(); };"
NO_WEBASSEMBLY = "delete globalThis.WebAssembly;"
WAYS = {"kernel": "", "no SIMD": NO_SIMD, "no WebAssembly": NO_WEBASSEMBLY}


def begin_worker_with(page, script):
    page.evaluate(
        """(script) => {
            const { Blob } = globalThis;
            globalThis.Blob = function (parts, options) {
                return new Blob([script, ...parts], options);
            };
        }""",
        WATCHED + script,
    )


def memory_of_kernel(page):
    """Its bytes; 0 where the worker does without."""
    return page.workers[0].evaluate(
        "globalThis.kernel?.exports.memory.buffer.byteLength ?? 0"
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_page_opened_from_a_file_computes_what_pytorch_does(page, size, way):
    begin_worker_with(page, WAYS[way])
    images, expected = noise(size, 0)
    compare(stages_in(page, images), expected)
    assert (memory_of_kernel(page) > 0) == (way == "kernel")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_page_of_a_server_computes_what_pytorch_does(served, size):
    assert served.asked == ["/index.html", "/live.js"]  # no weights before a click
    begin_worker_with(served, "")
    images, expected = noise(size, 100)
    compare(stages_in(served, images), expected)
    assert memory_of_kernel(served) > 0
    assert set(served.asked[2:]) <= {"/network.js", "/favicon.ico"}


def test_the_threshold_of_nms_is_an_input(page):
    rpn, images = trained_rpn(), noise(SIZES[0], 200)[0]
    stages_in(page, images)
    kept = set()
    for threshold in (0.3, 0.5, 0.7, 0.9):
        rpn.select.iou_threshold = threshold
        expected = stages_of(rpn, images)
        found = page.evaluate(
            """async (threshold) => {
                const { engine } = document.querySelector('rpn-live');
                const data = Float32Array.of(threshold);
                const names = ['kept', 'suppressed_by'];
                const given = { iou_threshold: { type: 'float', shape: [], data } };
                const result = await engine.run(given, names);
                return names.map((name) => Array.from(result[name].data));
            }""",
            threshold,
        )
        assert found == [expected[n].tolist() for n in ("kept", "suppressed_by")]
        kept.add(int(expected["kept"].sum()))
    assert len(kept) == 4  # each threshold another answer


# The page


def test_weight_before_and_after_the_click(folder):
    before = sum((folder / n).stat().st_size for n in ("index.html", "live.js"))
    assert before < 64_000
    assert (folder / "network.js").stat().st_size < 1_750_000


def test_the_first_click_answers(page):
    run(page)
    count = int(status(page).inner_text().split()[0])
    assert count >= 4  # objects of the first scene
    assert boxes(page, "#c24e00").count() == count
    page.get_by_role("slider", name="Least score").fill("0")
    kept = page.evaluate("document.querySelector('rpn-live').stages.kept.length")
    assert boxes(page, "#c24e00").count() == kept > count


def test_without_scripts_there_is_a_picture(open_page, folder):
    page = open_page(folder / "index.html", java_script_enabled=False)
    assert page.get_by_alt_text("The picture that the network").is_visible()
    assert page.get_by_text("once scripts are allowed").is_visible()


def test_every_step_by_keyboard(page):
    run(page)
    page.locator(BUTTONS).last.focus()
    seen = set()
    for step in range(6, -1, -1):
        page.keyboard.press("ArrowLeft")
        current = page.locator(f"{BUTTONS}[aria-current=step]")
        assert current.inner_text().startswith(str(step + 1))
        assert current.evaluate("node => node.getRootNode().activeElement === node")
        seen.add(page.locator("rpn-live .view > div").last.inner_text())
    assert len(seen) == 7
    page.locator("rpn-live svg[role=img]").focus()
    page.keyboard.press("ArrowRight")
    assert status(page).inner_text().startswith("Row 0, column 1, 16 pixels wide")


def test_numbers_of_a_cell_are_those_of_the_graph(page):
    run(page)
    go(page, "Scores")
    assert page.locator("rpn-live .maps button").count() == 12
    svg = page.locator("rpn-live svg[role=img]").bounding_box()
    page.mouse.click(svg["x"] + svg["width"] * 0.53, svg["y"] + svg["height"] * 0.46)
    element = "document.querySelector('rpn-live')"
    assert page.evaluate(f"{element}.cell.row") == int(0.46 * 192 / 16)
    assert page.evaluate(f"{element}.cell.column") == int(0.53 * 256 / 16)
    rows = page.locator("rpn-live tbody tr")
    assert rows.count() == 12
    expected = page.evaluate(
        f"""() => {{ const {{ stages, cell }} = {element};
            const n = stages.at(cell) + 4;
            const score = 1 / (1 + Math.exp(-stages.result.logits.data[n]));
            return [score, ...stages.four('deltas', n)]; }}"""
    )
    cells = rows.nth(4).locator("td").all_inner_texts()
    assert cells[0] == "57 × 28"
    assert [float(text.replace("−", "-")) for text in cells[1:]] == pytest.approx(
        expected, abs=0.0051
    )
    rows.nth(4).locator("button").click()
    assert "anchor 57 × 28" in page.locator("rpn-live .formulas").inner_text()


def test_formulas_give_the_box_of_the_graph(page):
    run(page)
    go(page, "Deltas")
    page.locator("rpn-live svg[role=img]").focus()
    page.keyboard.press("ArrowRight")
    lines = page.locator("rpn-live .formulas").inner_text().splitlines()
    x, y, w, h = (float(line.split(" = ")[-1]) for line in lines[2:6])
    decoded = page.evaluate(
        "document.querySelector('rpn-live').stages.candidate(0).decoded"
    )
    assert decoded == pytest.approx(
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2], abs=0.11
    )


def test_the_way_from_anchors_to_boxes(page):
    page.emulate_media(reduced_motion="reduce")
    run(page)
    go(page, "Deltas")
    slider = page.get_by_role("slider", name="Anchor to box")
    places = {}
    for way in ("0", "0.5", "1"):
        slider.fill(way)
        places[way] = page.evaluate("document.querySelector('rpn-live').boxOf(3)")
    candidate = page.evaluate("document.querySelector('rpn-live').stages.candidate(3)")
    assert places["0"] == pytest.approx(candidate["box"])
    assert places["1"] == pytest.approx(candidate["decoded"])
    assert places["0.5"] == pytest.approx(
        [(a + b) / 2 for a, b in zip(places["0"], places["1"])]
    )
    page.emulate_media(reduced_motion="no-preference")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('rpn-live').way === 0")
    page.wait_for_function("document.querySelector('rpn-live').way === 1")


def test_who_suppresses_whom(page):
    run(page)
    go(page, "NMS")
    svg = page.locator("rpn-live svg[role=img]")
    svg.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
        text = status(page).inner_text()
        if "is suppressed by" in text:
            break
    by = int(text.split("by box ")[1].split(":")[0])
    iou = float(text.split("IoU is ")[1].split(",")[0])
    assert iou > 0.7
    assert boxes(page, "#8b1a8b").count() == 1  # the suppressor
    before = page.evaluate("document.querySelector('rpn-live').stages.kept.length")
    page.get_by_role("slider", name="IoU threshold").fill("0.3")
    page.wait_for_function(
        f"document.querySelector('rpn-live').stages.kept.length < {before}"
    )
    assert f"Box {by}" not in text.split(",")[0]


# Every kind of picture


def file_of(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}


def photograph(width=500, height=400):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (20, 25, 3), np.uint8)
    return Image.fromarray(small).resize((width, height))


def pixels_seen(page):
    """Width, height and the bytes of red, green, blue and alpha.

    The bytes come as text: as a list of numbers they take a second of each picture.
    """
    width, height, packed = page.evaluate(
        """() => { const { canvas } = document.querySelector('rpn-live');
            const { width, height } = canvas;
            const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
            let text = '';
            for (const byte of data) text += String.fromCharCode(byte);
            return [width, height, btoa(text)]; }"""
    )
    return width, height, base64.b64decode(packed)


def give(page, file):
    page.locator("rpn-live input[type=file]").set_input_files(file)


def test_a_photograph_that_is_picked(page):
    give(page, file_of(photograph()))
    done(page)
    assert pixels_seen(page)[:2] == (300, 240)
    assert "seen synthetic scenes" in page.locator("rpn-live .note").inner_text()
    go(page, "Picture")
    text = page.locator("rpn-live .view").inner_text()
    assert "500 × 400 pixels were shrunk to 300 × 240" in text


def test_what_the_page_draws_is_what_the_network_says_of_those_pixels(page):
    give(page, file_of(photograph()))
    done(page)
    width, height, data = pixels_seen(page)
    pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = pixels.reshape(height, width, 4)
    images = pixels[..., :3].permute(2, 0, 1)[None].float() / 255
    expected = stages_of(trained_rpn(), images)
    found = page.evaluate(
        """() => { const { stages } = document.querySelector('rpn-live');
            return stages.kept.map((k) => stages.candidate(k).clipped); }"""
    )
    kept = expected["boxes"][expected["kept"].astype(bool)]
    np.testing.assert_allclose(found, kept, atol=1e-3)


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photograph_that_is_dropped_or_pasted(page, way):
    content = base64.b64encode(file_of(photograph())["buffer"]).decode()
    page.evaluate(
        """([way, content]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], 'a.png', { type: 'image/png' }));
            const root = document.querySelector('rpn-live').shadowRoot;
            if (way === 'drop') {
                root.querySelector('.stage').dispatchEvent(new DragEvent('drop',
                    { dataTransfer: data, bubbles: true, composed: true }));
            } else {
                document.dispatchEvent(
                    new ClipboardEvent('paste', { clipboardData: data }));
            }
        }""",
        [way, content],
    )
    done(page)
    assert pixels_seen(page)[:2] == (300, 240)


def test_drawing(page):
    page.get_by_role("button", name="Draw shapes").click()
    done(page)
    shapes = "document.querySelector('rpn-live').drawing.shapes"
    assert page.evaluate(f"{shapes}.length") == 3
    page.get_by_role("button", name="Add ellipse").click()
    done(page)
    svg = page.locator("rpn-live svg[role=img]")
    area, box = svg.bounding_box(), page.evaluate(f"{shapes}[0].box")
    scale = area["width"] / 256
    x, y = area["x"] + box[0] * scale, area["y"] + box[1] * scale
    page.mouse.move(x + 20, y + 20)
    page.mouse.down()
    page.mouse.move(x + 20 + 30 * scale, y + 20 + 50 * scale, steps=4)
    page.mouse.up()
    moved = page.evaluate(f"{shapes}[0].box")
    assert moved == pytest.approx(
        [box[0] + 30, box[1] + 50, box[2] + 30, box[3] + 50], abs=1
    )
    svg.focus()
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate(f"{shapes}[0].box")[2] == pytest.approx(moved[2] + 4)
    page.keyboard.press("Delete")
    done(page)
    assert page.evaluate(f"{shapes}.length") == 3
    assert page.evaluate(f"{shapes}.map((s) => s.kind)") == [
        "ellipse",
        "triangle",
        "ellipse",
    ]


def test_what_is_drawn_is_found(page):
    page.get_by_role("button", name="Draw shapes").click()
    done(page)
    found = page.evaluate(
        """() => { const { stages } = document.querySelector('rpn-live');
            return stages.kept.slice(0, 5).map((k) => stages.candidate(k).clipped); }"""
    )
    drawn = page.evaluate(
        "document.querySelector('rpn-live').drawing.shapes.map((s) => s.box)"
    )
    from rpn_lib.boxes import box_iou

    iou = box_iou(torch.tensor(drawn).float(), torch.tensor(found))
    assert (iou.amax(1) > 0.6).all()


def test_other_scenes_follow_each_other(page):
    seen = []
    for _ in range(8):
        before = page.evaluate("document.querySelector('rpn-live').address")
        page.get_by_role("button", name="Another scene").click()
        page.wait_for_function(
            """(before) => {
                const { address, fresh } = document.querySelector('rpn-live');
                return address !== before && fresh; }""",
            arg=before,
        )
        done(page)
        seen.append(pixels_seen(page))
    assert len(set(seen)) == 8


def test_the_camera(page):
    page.evaluate(
        """() => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [640, 480];
            const context = canvas.getContext('2d');
            let n = 0;
            setInterval(() => {
                context.fillStyle = `hsl(${n++ * 40} 80% 50%)`;
                context.fillRect(0, 0, 640, 480);
            }, 30);
            navigator.mediaDevices.getUserMedia = async () => (
                window.stream = canvas.captureStream(20));
        }"""
    )
    page.get_by_role("button", name="Camera").click()
    status(page).filter(has_text="The camera is on.").wait_for()
    page.wait_for_function("document.querySelector('rpn-live').fresh")
    first = pixels_seen(page)
    assert first[:2] == (320, 240)
    page.wait_for_function(
        """(first) => { const { canvas } = document.querySelector('rpn-live');
            const { data } = canvas.getContext('2d').getImageData(5, 5, 1, 1);
            return String(Array.from(data)) !== first; }""",
        arg=",".join(map(str, first[2][:4])),
    )
    page.get_by_role("button", name="Stop the camera").click()
    assert page.evaluate("stream.getTracks()[0].readyState") == "ended"


# What goes wrong


def test_no_camera(page):
    page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException('', 'NotFoundError'); }; }"""
    )
    page.get_by_role("button", name="Camera").click()
    status(page).filter(has_text="No camera was found.").wait_for()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            {"name": "a.png", "mimeType": "image/png", "buffer": b"broken"},
            "This file is not a picture that the browser can read.",
        ),
        (
            file_of(Image.new("RGB", (1, 1))),
            "This picture of 1 × 1 pixels is too small",
        ),
        (file_of(Image.new("RGB", (900, 20))), "900 × 20 pixels is too small or too"),
    ],
    ids=["broken", "one pixel", "a strip"],
)
def test_a_picture_that_cannot_be_used_changes_nothing(page, file, text):
    run(page)
    before = pixels_seen(page)
    give(page, file)
    status(page).filter(has_text=text).wait_for()
    assert pixels_seen(page) == before
    assert boxes(page, "#c24e00").count() > 0


def test_fifty_megapixels(page):
    give(page, file_of(Image.new("L", (8000, 6250), 90)))
    done(page)
    assert pixels_seen(page)[:2] == (307, 240)


def test_a_network_that_does_not_load_can_be_asked_for_again(browser, folder):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/network.js", lambda route: route.abort())
    page.goto((folder / "index.html").as_uri())
    page.get_by_role("button", name="Run the network").click()
    status(page).filter(has_text="could not be loaded").wait_for()
    page.unroute("**/network.js")
    run(page)
    context.close()


def worker_of(session, page):
    """A function that asks the worker of a page, through the session of the page."""
    workers, answers = [], {}

    def hear(event):
        message = json.loads(event["message"])
        answers[message.get("id")] = message.get("result")

    session.on("Target.attachedToTarget", lambda event: workers.append(event))
    session.on("Target.receivedMessageFromTarget", hear)
    session.send(
        "Target.setAutoAttach",
        {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False},
    )
    while not workers:
        page.wait_for_timeout(10)
    (worker,) = workers

    def ask(method):
        number = len(answers)
        message = json.dumps({"id": number, "method": method})
        session.send(
            "Target.sendMessageToTarget",
            {"sessionId": worker["sessionId"], "message": message},
        )
        while number not in answers:
            page.wait_for_timeout(10)
        return answers[number]

    return ask


def test_memory_does_not_grow(page):
    begin_worker_with(page, "")
    run(page)
    session = page.context.new_cdp_session(page)
    ask_worker = worker_of(session, page)

    def used():
        sizes = []
        for ask in (session.send, ask_worker):
            ask("HeapProfiler.collectGarbage")
            heap = ask("Runtime.getHeapUsage")
            sizes.append(heap["usedSize"] + heap.get("backingStorageSize", 0))
        nodes = session.send("Memory.getDOMCounters")["nodes"]
        return *sizes, memory_of_kernel(page), nodes

    def work(times):
        page.evaluate(
            """async (times) => {
                const element = document.querySelector('rpn-live');
                for (let n = 0; n < times; n++) await element.run();
            }""",
            times,
        )

    work(10)
    (page_before, worker_before, kernel_before, nodes_before), _ = used(), work(50)
    page_after, worker_after, kernel_after, nodes_after = used()
    assert page_after < page_before + 1_000_000
    assert worker_after < worker_before + 1_000_000
    assert 0 < kernel_after == kernel_before < 2_000_000
    assert nodes_after < nodes_before + 100


# For everybody

AXE = """async () => {
    const found = await axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'],
        resultTypes: ['violations'], preload: false });
    return found.violations.flatMap(({ id, nodes }) => nodes.map(
        (node) => [id, String(node.target), node.failureSummary]));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_at_any_step(open_page, folder, scheme):
    page = open_page(folder / "index.html", color_scheme=scheme)
    page.add_script_tag(
        content=(files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    )
    assert page.evaluate(AXE) == []
    give(page, file_of(photograph()))
    done(page)
    for step in range(8):
        page.locator(BUTTONS).nth(step).click()
        svg = page.locator("rpn-live svg[role=img]")
        svg.focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate(AXE) == [], step


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_is_wider_than_the_screen(open_page, folder, width):
    page = open_page(folder / "index.html", width=width)
    run(page)
    for step in range(8):
        page.locator(BUTTONS).nth(step).click()
        page.locator("rpn-live svg[role=img]").focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        strip = page.locator("rpn-live .steps").bounding_box()
        current = page.locator(BUTTONS).nth(step).bounding_box()
        assert strip["x"] <= current["x"]  # the step that is shown is in sight
        assert current["x"] + current["width"] <= strip["x"] + strip["width"] + 1


def test_a_page_of_one_file(open_page, tmp_path):
    rpn = trained_rpn()
    picture = torch.from_numpy(np.array(photograph(320, 240))).permute(2, 0, 1)
    live.write_page(rpn, tmp_path / "page.html", [picture], title="Mine & yours")
    page = open_page(tmp_path / "page.html")
    assert page.title() == "Mine & yours"
    begin_worker_with(page, "")
    run(page)
    assert memory_of_kernel(page) > 0
    assert pixels_seen(page)[:2] == (320, 240)
    assert page.locator("rpn-live .note").count() == 0

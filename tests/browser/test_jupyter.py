"""A figure in JupyterLab: run, run again, saved and reopened, trusted or not."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from rpn_lib.figures.boxes import STYLES
from rpn_lib.figures.explorer import Box, State, explore

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = """\
from rpn_lib.figures.explorer import Box, State, explore

def show(size, both):
    box = Box((0, 0, size, size / 2), "gt" if both else "anchor", f"{size}")
    return State([box], f"The box is {size} wide.")

explore({"size": [8, 16, 32], "both": [False, True]}, show, (40, 60), alt="A box.")
"""


@pytest.fixture(scope="module")
def figure():
    names = {"Box": Box, "State": State, "explore": explore}
    definition, last = CODE.rsplit("\n\n", 1)
    exec(definition, names)
    return eval(last, names)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, figure):
    """The address of a JupyterLab, and the folder that it shows."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("fresh", "foreign"):
        cell = nbformat.v4.new_code_cell(CODE)
        if name == "foreign":  # it comes with an output that was not made here
            data = figure._repr_mimebundle_()
            cell.outputs = [nbformat.v4.new_output("execute_result", data)]
        notebook = nbformat.v4.new_notebook(cells=[cell])
        # Else JupyterLab asks which kernel is wanted.
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    own = {
        name: str(folder / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="),
            *(f"--ServerApp.root_dir={folder}", "--log-level=ERROR"),
            "--LabApp.news_url=None",
        ],
        env={**os.environ, **own, "PYTHONPATH": str(ROOT)},
        cwd=folder,
    )
    try:
        deadline = time.monotonic() + 60
        while not (found := list(folder.glob("jupyter_runtime_dir/jpserver-*.json"))):
            assert server.poll() is None, "JupyterLab did not start."
            assert time.monotonic() < deadline, "JupyterLab has not started in 60 s."
            time.sleep(0.1)
        time.sleep(0.2)  # the file is there before its content
        yield json.loads(found[0].read_text())["url"], folder
    finally:
        server.terminate()  # it ends its kernels first
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def open_notebook(browser, lab):
    url, _ = lab
    contexts = []

    def open_it(name, **options):
        context = browser.new_context(
            viewport={"width": 1280, "height": 900}, **options
        )
        contexts.append(context)
        context.set_default_timeout(60_000)
        context.route(lambda address: not address.startswith(url), lambda r: r.abort())
        page = context.new_page()
        page.goto(f"{url}lab/tree/{name}.ipynb?reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        return page

    yield open_it
    for context in contexts:
        context.close()


def check(page, figure, size, both):
    """The one figure of the page shows what was computed here for these values."""
    state = figure.states[size, both]
    shown = page.locator(".jp-OutputArea rpn-explorer")
    shown.locator(".sentence", has_text=state.text).wait_for()
    assert shown.count() == 1
    path = shown.locator(".boxes path:not(.under)")
    x1, y1, x2, y2, _ = (
        float(v) for v in re.split("[MHVZ,]", path.get_attribute("d")) if v
    )
    assert (x1, y1, x2, y2) == tuple(state.boxes[0].xyxy)
    assert path.get_attribute("stroke") == STYLES[state.boxes[0].style].color


def run(page):
    """Run the cell; JupyterLab forgets that before it is connected to the kernel."""
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    page.wait_for_timeout(1000)
    prompt = page.locator(".jp-CodeCell .jp-InputArea-prompt")
    before = prompt.inner_text()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        page.locator(".jp-CodeCell .cm-content").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(500)
        while "*" in prompt.inner_text() and time.monotonic() < deadline:
            page.wait_for_timeout(100)  # it runs
        if prompt.inner_text() != before:
            return
    pytest.fail("JupyterLab does not run the cell.")


def test_run_again_saved_and_reopened(open_notebook, lab, figure):
    _, folder = lab
    page = open_notebook("fresh")
    run(page)
    check(page, figure, 8, False)
    size = page.get_by_role("slider", name="size")
    size.press("ArrowRight")  # Jupyter does not take the key for its own
    check(page, figure, 16, False)
    page.get_by_role("checkbox", name="both").click()
    check(page, figure, 16, True)

    run(page)
    check(page, figure, 8, False)
    size.press("End")
    check(page, figure, 32, False)

    page.keyboard.press("Control+s")  # the slider has the focus still
    page.wait_for_function("!document.title.startsWith('*')")
    deadline = time.monotonic() + 30
    while "rpn-explorer" not in (folder / "fresh.ipynb").read_text():
        assert time.monotonic() < deadline, "The notebook was not saved."
        page.wait_for_timeout(100)
    page.context.close()

    again = open_notebook("fresh", color_scheme="dark")
    check(again, figure, 8, False)
    again.get_by_role("slider", name="size").press("End")
    check(again, figure, 32, False)


def test_a_notebook_that_is_not_trusted_shows_the_picture(open_notebook, figure):
    page = open_notebook("foreign")
    picture = page.locator(".jp-OutputArea img")
    picture.wait_for()
    assert page.locator("rpn-explorer").count() == 0
    assert picture.get_attribute("alt") == "A box."
    assert picture.evaluate("e => e.naturalWidth") == 480
    assert figure.states[8, False].text in page.locator(".jp-OutputArea").inner_text()

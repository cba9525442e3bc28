"""A real Chromium, cut off from the network."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if os.environ.get("NO_BROWSER") == "1":
        pytest.skip("NO_BROWSER=1: NOTHING IN A BROWSER WAS TESTED")
    path = chromium.find()
    if path is None:
        leave_out = "or NO_BROWSER=1 to leave these tests out."
        pytest.fail(f"{chromium.MISSING}, {leave_out}", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file in a new window; what it logs or asks the network for is an error.

    Options are those of Playwright's `Browser.new_context`.
    """
    contexts, trouble = [], []

    def open_file(path: Path, width: int = 800, **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, **options
        )
        contexts.append(context)
        context.set_offline(True)
        context.on("request", lambda request: note_request(request.url))
        context.on("console", lambda message: note_message(message))
        context.on("weberror", lambda error: trouble.append(str(error.error)))
        page = context.new_page()
        page.goto(path.as_uri())
        return page

    def note_request(url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            trouble.append(f"asks the network for {url}")

    def note_message(message: Any) -> None:
        if message.type in ("error", "warning"):
            trouble.append(message.text)

    yield open_file
    for context in contexts:
        context.close()
    assert trouble == []

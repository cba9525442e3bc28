"""The code of the README and of the prose pages runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [ROOT / "README.md", ROOT / "book" / "faq.md"]


def python_blocks(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_code_runs(path):
    blocks = python_blocks(path)
    assert blocks
    names = {}
    for block in blocks:  # a block may use what an earlier one made
        exec(block, names)
    assert names["loss"].isfinite()
    assert names["boxes"].shape[1] == 4


def test_commands_named_in_the_readme_are_targets_of_make():
    makefile = (ROOT / "Makefile").read_text()
    named = set(
        re.findall(
            r"`make ([\w-]+)|^make ([\w-]+)", (ROOT / "README.md").read_text(), re.M
        )
    )
    for target in {one or two for one, two in named}:
        assert re.search(rf"^{target}:", makefile, re.M), target

"""Notebooks as Colab opens them."""

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import colab
import pytest
import repository
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import notebooks

WHEEL = Path("rpn_lib-0.1.0-py3-none-any.whl")


def test_the_environments_are_oldest_pinned_and_newest():
    found = colab.environments()
    assert list(found) == ["oldest", "pinned", "newest"]
    text = (notebooks.ROOT / "requirements.txt").read_text("utf-8")
    for one in found["pinned"]:
        (marker,) = re.findall(rf"^{re.escape(one)} *;? *([^\\\n]*)", text, re.M)
        assert not marker or Marker(marker).evaluate()  # for this Python
    pyproject = (notebooks.ROOT / "pyproject.toml").read_text("utf-8")
    assert '"torch>=2.4"' in pyproject
    assert '"torchvision>=0.19"' in pyproject
    assert found["oldest"][:2] == ["torch==2.4.*", "torchvision==0.19.*"]


def test_a_python_too_new_for_the_oldest_versions_is_told_in_one_line(monkeypatch):
    colab.refuse_new_python((3, 10, 19))
    colab.refuse_new_python((3, 12, 0))
    monkeypatch.setattr(sys, "version_info", (3, 13, 1, "final", 0))
    for arguments in ([], ["oldest"]):
        monkeypatch.setattr(sys, "argv", ["colab.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            colab.main()
        assert stop.value.code == (
            "torch==2.4.* torchvision==0.19.* are not made for Python 3.13: make colab "
            "PYTHON=python3.12, or COLAB='pinned newest'."
        )


def test_a_notebook_that_is_not_there_is_told_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(colab, "run", lambda *_, **__: pytest.fail("something ran"))
    arguments = ["colab.py", "pinned", "--notebooks", "notebooks/00_none.ipynb"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=r"^There is no notebook notebooks/00_none"):
        colab.main()


def test_without_a_network_it_is_told_what_to_do(tmp_path, capfd):
    """Nothing listens at this address, as where there is no network."""
    pip = [sys.executable, "-m", "pip", "--isolated", "download", "-q", "--no-deps"]
    index = ["--index-url", "http://127.0.0.1:9/", "--retries", "0", "-d", tmp_path]
    with pytest.raises(SystemExit) as stop:
        colab.run([*pip, *index, "rpn-lib-that-is-nowhere"])
    assert "check the network" in stop.value.code
    assert len(stop.value.code.splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(SystemExit, match=r"^Failed: .* -c raise SystemExit"):
        colab.run([sys.executable, "-c", "raise SystemExit(1)"])


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_the_set_up_cell_of_a_copy_installs_the_wheel(path):
    before = json.loads(path.read_text("utf-8"))
    made = json.loads(colab.prepared(path.read_text("utf-8"), WHEEL, ["einops"]))
    changed = [new for new, old in zip(made["cells"], before["cells"]) if new != old]
    assert len(changed) == 1
    source = "".join(changed[0]["source"])
    assert f"%pip install -q --no-deps einops {WHEEL}" in source
    assert "nbval-ignore-output" in changed[0]["metadata"]["tags"]


def test_a_notebook_without_set_up_cell_is_refused():
    cell = {"cell_type": "code", "source": ["1 + 1"], "metadata": {}}
    with pytest.raises(ValueError, match="does not look for rpn_lib"):
        colab.prepared(json.dumps({"cells": [cell]}), WHEEL, [])


def needs(names):
    """Packages, what they need, what that needs, and so on."""
    found, open_names = set(), [*names]
    while open_names:
        name = canonicalize_name(open_names.pop())
        if name in found:
            continue
        found.add(name)
        try:
            listed = map(Requirement, requires(name) or [])
        except PackageNotFoundError:  # for another platform
            continue
        open_names += [
            one.name for one in listed if not one.marker or one.marker.evaluate()
        ]
    return found


def test_what_chapters_import_besides_brings_all_that_it_needs():
    """For pip is told --no-deps."""
    there = needs(repository.ON_COLAB)
    for packages in repository.OTHERS.values():
        assert needs(packages) <= there | set(map(canonicalize_name, packages))


def test_what_the_library_needs_is_brought_along():
    brought = repository.brought_along(notebooks.ROOT)
    assert needs(brought) <= needs(repository.ON_COLAB) | set(brought)

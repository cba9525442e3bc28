"""Hypothesis profiles: `HYPOTHESIS_PROFILE=thorough pytest` looks 50 times longer."""

import os

import pytest
import torch
from folders import CELL, annotate
from hypothesis import settings
from torchvision.io import write_jpeg

settings.register_profile("quick", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("thorough", deadline=None, max_examples=50 * 200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# The tensors of the tests are small. On a busy machine threads spend their time waiting
# for each other: minutes where one thread takes a second. So here, and in the processes
# that tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The files that take longest. `make test` hands out files in order, each to the worker
# that is free: were one of these among the last, the other worker would wait for it.
LONGEST = ("test_site", "test_live", "test_train", "test_bccd", "test_figures")
LONGEST += ("test_export_page", "test_jupyter", "test_release", "test_experiments")


def pytest_collection_modifyitems(items):
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture
def folder(tmp_path):
    """A VOC folder of two images: `a` with a cell and a speck, `b` with nothing."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb 1\n\n")
    annotate(tmp_path, "a", [CELL, ("speck", 1, 1, 64, 48)])
    annotate(tmp_path, "b", [])
    for name in "ab":
        image = torch.full((3, 48, 64), 99, dtype=torch.uint8)
        write_jpeg(image, str(tmp_path / f"JPEGImages/{name}.jpg"))
    return tmp_path

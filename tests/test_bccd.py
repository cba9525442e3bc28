"""Real photographs: blood cells of the BCCD data set, where RPN_DATA points to it."""

import json
import os
from pathlib import Path

import pytest
import torch

from rpn_lib.cli import main
from rpn_lib.data.check import check_folder
from rpn_lib.data.folder import open_folder
from rpn_lib.data.resize import Resize
from rpn_lib.data.samples import DIGEST, content_digest
from rpn_lib.errors import DataError
from rpn_lib.evaluation import evaluate
from rpn_lib.figures.live import CANDIDATES
from rpn_lib.models import trained_rpn
from rpn_lib.training.measure import measure


@pytest.fixture(scope="module")
def bccd():
    folder = Path(os.environ.get("RPN_DATA", "data")) / "BCCD"
    if not folder.is_dir():
        pytest.skip(
            "NOT RUN: the tests on real photographs. Set RPN_DATA to the folder that "
            "holds BCCD (JPEGImages, Annotations, ImageSets)."
        )
    return folder


def test_every_annotation_is_read(bccd):
    splits = {name: open_folder(bccd, name, on_bad_box="drop") for name in SPLITS}
    assert {name: len(split) for name, split in splits.items()} == SPLITS
    assert all(
        split.classes == ["Platelets", "RBC", "WBC"] for split in splits.values()
    )
    labels = [target["labels"] for split in splits.values() for _, target in split]
    counts = torch.cat(labels).bincount().tolist()
    # 4,888 boxes less the two below: 361 platelets, 4,155 red cells, 372 white cells.
    assert counts == [0, 361, 4155 - 2, 372]


SPLITS = {"train": 205, "val": 87, "test": 72}


def test_its_two_broken_boxes_are_named(bccd):
    dropped = [
        line
        for name in SPLITS
        for line in open_folder(bccd, name, on_bad_box="drop").dropped
    ]
    assert len(dropped) == 2
    for name, box in [
        ("00338", "= 504, 337, 504, 337)"),
        ("00343", "= 181, 329, 181, 329)"),
    ]:
        assert any(f"BloodImage_{name}.xml" in line and box in line for line in dropped)
    refused = 0
    for name in SPLITS:
        try:
            open_folder(bccd, name)
        except DataError as error:
            refused += "BloodImage_003" in str(error)
    assert refused >= 1


def test_the_command_learns_to_find_cells(bccd, tmp_path):
    """300 steps of 8 images at half size, from scratch, with anchors that it chose."""
    arguments = f"train --data {bccd} --on-bad-box drop --device cpu --out {tmp_path}"
    assert main(arguments.split()) == 0
    settings = json.loads((tmp_path / "settings.json").read_text())["settings"]
    assert (settings["side"], settings["epochs"]) == (240, 12)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["recall@0.5/100"] >= 0.97
    assert results["AR@100"] >= 0.66


def test_what_learnt_scenes_finds_few_cells(bccd):
    """The 0.07 of the page "The network at work", with its size and its candidates."""
    rpn, proposals, boxes = trained_rpn(), [], []
    rpn.select.pre_nms_top_k = CANDIDATES
    for name in SPLITS:
        split = open_folder(bccd, name, on_bad_box="drop", transform=Resize(240))
        measured = measure(rpn, split)
        proposals += measured.proposals
        boxes += measured.gt_boxes
    assert round(evaluate(proposals, boxes).recall(100).at(0.5), 2) == 0.07


def test_its_content_has_the_digest_that_downloads_are_compared_with(bccd):
    assert content_digest(bccd) == DIGEST


def test_the_check_finds_its_two_broken_boxes_and_nothing_else(bccd):
    problems, summary, *_ = check_folder(bccd, [*SPLITS])
    assert summary == "364 images, 4,886 boxes."
    assert [problem.reason for problem in problems] == ["The width is zero."] * 2

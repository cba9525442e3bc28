"""Training: it learns, it says what stops it, and the command line does both."""

import re
import subprocess
import sys

import pytest
import torch
from test_data import CELL, annotate, folder  # noqa: F401

from rpn_lib.data import InMemory, ShapesDataset
from rpn_lib.evaluate import recall
from rpn_lib.train import (
    TrainingError,
    load_checkpoint,
    main,
    propose,
    small_rpn,
    train,
    trained_rpn,
)


def test_the_import_warns_of_nothing_in_a_kernel_without_widgets():
    code = """
import sys, types, matplotlib.pyplot, torchvision.transforms.v2
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
sys.modules["ipykernel.zmqshell"] = shell
sys.modules["ipywidgets"] = None
import rpn_lib.train
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_training_twice_gives_the_same_network():
    def weights():
        torch.manual_seed(0)
        rpn = small_rpn()
        train(rpn, ShapesDataset(length=8), epochs=1, batch_size=4, seed=3)
        return rpn.state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_one_batch_is_learnt_by_heart():
    torch.manual_seed(0)
    rpn = small_rpn()
    scenes = InMemory(ShapesDataset(length=4))
    history = train(rpn, scenes, epochs=60, batch_size=4)
    assert history[-1]["objectness"] < 0.1 * history[0]["objectness"]
    assert recall(*propose(rpn, scenes), k=100).at(0.5) >= 0.9


def test_a_loss_that_is_not_finite_names_the_images():
    rpn = small_rpn()
    torch.nn.init.constant_(rpn.head.classifier[0].weight, float("nan"))
    with pytest.raises(TrainingError) as error:
        train(rpn, ShapesDataset(length=2), batch_size=2)
    assert "The loss of step 0 is not finite" in str(error.value)
    assert "scene 0" in str(error.value)
    assert "scene 1" in str(error.value)


def test_too_few_images_for_a_batch():
    with pytest.raises(TrainingError, match="12 epochs of 0 batches of 8 images"):
        train(small_rpn(), ShapesDataset(length=7))


def test_proposing_leaves_the_mode_as_it_was():
    rpn = small_rpn().train()
    propose(rpn, ShapesDataset(length=1))
    assert rpn.training


def test_command_line_on_a_folder(folder, tmp_path, capsys):  # noqa: F811
    (folder / "ImageSets/Main/val.txt").write_text("a\nb\n")
    out = tmp_path / "out"
    options = ["--epochs", "2", "--batch-size", "2", "--side", "96", "--out", str(out)]
    assert main(["--data", str(folder), *options]) == 0
    printed = capsys.readouterr().out
    assert "epoch 2 of 2: objectness" in printed
    assert "2 validation images, 100 proposals each: recall at IoU 0.5" in printed
    assert (out / "proposals.png").stat().st_size > 10_000
    rpn = load_checkpoint(out / "checkpoint.pt")
    assert not rpn.training
    assert len(rpn([torch.rand(3, 96, 96)]).proposals) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "train.txt is missing. A Pascal-VOC folder lists"),
        (["--epochs", "0"], "error: 0 epochs of 50 batches of 8 images"),
        (["--sizes", "-3"], "error: sizes of level 0 must be a list of positive"),
    ],
)
def test_command_line_says_in_one_line_what_is_wrong(
    arguments, message, tmp_path, capsys
):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text


def test_command_line_names_or_drops_a_bad_box(folder, tmp_path, capsys):  # noqa: F811
    (folder / "ImageSets/Main/val.txt").write_text("a\nb\n")
    annotate(folder, "a", [CELL, ("cell", 30, 5, 30, 5)])
    options = ["--data", str(folder), "--epochs", "1", "--batch-size", "2"]
    options += ["--side", "96", "--out", str(tmp_path / "out")]
    assert main(options) == 2
    assert (
        "a.xml, object 1 (xmin, ymin, xmax, ymax = 30, 5, 30, 5)"
        in capsys.readouterr().err
    )
    assert main([*options, "--on-bad-box", "drop"]) == 0
    assert "dropped:" in capsys.readouterr().err


def test_a_broken_checkpoint_is_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is missing"):
        load_checkpoint(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is no checkpoint"):
        load_checkpoint(path)


def test_the_command_without_arguments_finds_the_shapes(tmp_path, capsys):
    """Recall of at least 0.95 at IoU 0.5 with 100 proposals, on 100 new scenes."""
    assert main(["--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "100 validation images, 100 proposals each" in printed
    assert float(re.search(r"recall at IoU 0.5 (\d\.\d+)", printed)[1]) >= 0.95


def test_the_weights_that_come_with_the_library_are_of_a_trained_network():
    proposals, gt_boxes = propose(trained_rpn(), ShapesDataset(length=100, seed=1))
    result = recall(proposals, gt_boxes, k=100)
    assert result.at(0.5) > 0.97
    assert result.average > 0.65

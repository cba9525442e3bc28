"""Training: it learns, it says what stops it, and the command line does both."""

import re
import subprocess
import sys
from typing import get_type_hints

import pytest
import torch
from folders import CELL, annotate
from torchvision.transforms import v2

from rpn_lib.backbones import STAGES
from rpn_lib.cli import main as run_rpn
from rpn_lib.data.augment import CHOICES
from rpn_lib.data.batches import InMemory
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import SettingError, TrainingError
from rpn_lib.evaluation import recall
from rpn_lib.models import small_rpn, trained_rpn
from rpn_lib.training.checkpoint import Checkpoints, load_checkpoint
from rpn_lib.training.config import (
    AUGMENTATIONS,
    BACKBONES,
    WARMUP,
    TrainConfig,
    TrainOptions,
)
from rpn_lib.training.loop import train
from rpn_lib.training.measure import propose
from rpn_lib.training.options import options
from rpn_lib.training.schedule import MixedPrecision


def test_the_import_warns_of_nothing_in_a_kernel_without_widgets():
    code = """
import sys, types, matplotlib.pyplot, torchvision.transforms.v2
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
sys.modules["ipykernel.zmqshell"] = shell
sys.modules["ipywidgets"] = None
import rpn_lib.training.loop
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


def test_it_names_the_last_good_checkpoint_too(tmp_path):
    """The weights turn NaN after the second epoch; its checkpoint is untouched."""
    rpn, checkpoints = small_rpn(), Checkpoints(tmp_path)

    def poison(epoch, losses):
        if epoch == 1:
            checkpoints.save({"good": True}, 2)
            torch.nn.init.constant_(rpn.head.classifier[0].bias, float("inf"))
            raise KeyError  # as if killed before the poisoned weights are saved

    with pytest.raises(KeyError):
        train(
            rpn,
            ShapesDataset(length=2),
            batch_size=2,
            checkpoints=checkpoints,
            after_epoch=poison,
        )
    with pytest.raises(TrainingError) as error:
        train(rpn, ShapesDataset(length=2), batch_size=2, checkpoints=checkpoints)
    last = tmp_path / "step-00000002.pt"
    assert f"The last good checkpoint is {last}." in str(error.value)
    assert checkpoints.latest()[1] == {"good": True}


def test_a_gradient_that_is_not_finite_stops_before_it_does_harm():
    rpn = small_rpn()
    rpn.head.window[0].weight.register_hook(lambda grad: grad * float("nan"))
    before = {name: weight.clone() for name, weight in rpn.named_parameters()}
    with pytest.raises(TrainingError, match=r"The gradient of step 0 is not finite\."):
        train(rpn, ShapesDataset(length=2), batch_size=2)
    assert all(torch.equal(before[name], w) for name, w in rpn.named_parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step", "constant"])
def test_the_rate_rises_to_its_highest_and_falls(optimizer, schedule):
    rows = []
    train(
        small_rpn(),
        ShapesDataset(length=1, image_size=(64, 64), sizes=(16, 32)),
        epochs=20,
        batch_size=1,
        lr=1e-3,
        optimizer=optimizer,
        schedule=schedule,
        warmup=0.2,
        after_step=rows.append,
    )
    rates = [row["lr"] for row in rows]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1e-3, rel=0.02)
    assert 2 <= peak <= 5
    assert rates[:peak] == sorted(rates[:peak])
    last = {"one-cycle": 1e-5, "cosine": 2e-5, "step": 1e-4, "constant": 1e-3}[schedule]
    assert rates[-1] <= last * 1.001
    assert rates[-1] >= (last * 0.999 if schedule in ("step", "constant") else 0)


def test_long_gradients_are_shortened():
    def first_step(clip_norm):
        torch.manual_seed(0)
        rpn, rows = small_rpn(), []
        before = torch.cat([p.detach().flatten().clone() for p in rpn.parameters()])
        train(
            rpn,
            ShapesDataset(length=2),
            epochs=1,
            batch_size=2,
            optimizer="sgd",
            schedule="constant",
            warmup=0,
            weight_decay=0,
            lr=1.0,
            clip_norm=clip_norm,
            after_step=rows.append,
        )
        after = torch.cat([p.detach().flatten() for p in rpn.parameters()])
        return rows[0]["grad_norm"], (after - before).norm().item()

    norm, moved = first_step(None)
    assert moved == pytest.approx(norm, rel=1e-3)
    clipped_norm, clipped = first_step(norm / 4)
    assert clipped_norm == pytest.approx(norm, rel=1e-3)
    assert clipped == pytest.approx(norm / 4, rel=1e-2)


def test_mixed_precision_learns_too():
    torch.manual_seed(0)
    rpn = small_rpn()
    history = train(rpn, InMemory(ShapesDataset(4)), epochs=8, batch_size=4, amp=True)
    assert history[-1]["objectness"] < 0.8 * history[0]["objectness"]
    assert all(p.dtype == torch.float32 for p in rpn.parameters())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: False, torch.float16),  # torch that counts no imitation
        (lambda including_emulation=True: including_emulation, torch.float16),
        (lambda including_emulation=True: True, torch.bfloat16),
    ],
)
def test_a_gpu_that_imitates_bfloat16_takes_float16(monkeypatch, answer, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    assert MixedPrecision(torch.device("cuda"), on=False).dtype == expected
    assert MixedPrecision(torch.device("cpu"), on=True).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "optimizer is adamw or sgd"),
        ({"schedule": "linear"}, "schedule is one-cycle"),
        ({"warmup": 1.5}, "warmup=1.5 is a share"),
        ({"lr": -1}, "lr=-1 must be a number above 0"),
        ({"epoch": 3}, "no setting epoch; the nearest is epochs. There are: after_e"),
        ({"checkpoint": None}, "no setting checkpoint; the nearest is checkpoints"),
        ({"momentum": 0.9}, r"no setting momentum\. There are: .* lr, optimizer,"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(SettingError, match=message):
        train(small_rpn(), ShapesDataset(length=2), batch_size=2, **options)


def test_every_schedule_has_its_warm_up():
    [schedule] = [one for one in options(TrainConfig) if one.name == "schedule"]
    assert [*WARMUP] == [*schedule.choices]


def test_the_losses_are_those_of_the_first_version():
    """Kept from before the loop was taken apart: equal to the bit where it ran."""
    torch.manual_seed(0)
    rpn, rows = small_rpn(sizes=[16, 32]), []
    scenes = ShapesDataset(length=12, image_size=(64, 96), sizes=(16, 40))
    data = InMemory(scenes, v2.RandomHorizontalFlip())
    config = TrainConfig(epochs=2, batch_size=4, seed=5, optimizer="sgd", lr=0.02)
    history = train(
        rpn, data, config, schedule="cosine", clip_norm=1.0, after_step=rows.append
    )
    expected = {
        "objectness": [0.698434, 0.696163, 0.692578, 0.687240, 0.683746, 0.680988],
        "box": [0.853235, 0.763094, 0.643552, 0.684981, 0.739392, 0.683488],
    }
    for name, values in expected.items():
        assert [row[name] for row in history] == pytest.approx(values, rel=1e-3)
    rates = [0.02, 0.01926494, 0.01592235, 0.01082579, 0.005484666, 0.001480806]
    assert [row["lr"] for row in rows] == pytest.approx(rates, rel=1e-6)


def test_it_runs_where_tqdm_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    scenes = ShapesDataset(length=2)
    assert len(train(small_rpn(), scenes, epochs=1, batch_size=2, progress=True)) == 1
    assert capsys.readouterr() == ("", "")


def test_train_takes_the_fields_of_its_settings():
    """mypy holds what is passed on; here nothing is left out."""
    assert get_type_hints(TrainOptions) == get_type_hints(TrainConfig)


def test_the_names_of_the_settings_are_those_of_the_library():
    assert AUGMENTATIONS == CHOICES
    assert ("small", *STAGES) == BACKBONES


def test_ignored_regions_reach_the_loss():
    """A scene of one crowd: with no region to ignore, all of it is background."""

    class Crowd(torch.utils.data.Dataset):
        def __init__(self, regions):
            self.regions = regions

        def __len__(self):
            return 1

        def __getitem__(self, index):
            image, target = ShapesDataset(max_objects=0)[0]
            target["ignore_boxes"] = torch.tensor(self.regions).reshape(-1, 4)
            return image, target

    def first_loss(regions):
        torch.manual_seed(0)
        return train(small_rpn(), Crowd(regions), epochs=1, batch_size=1)[0]

    everything = [[0.0, 0.0, 256.0, 192.0]]
    assert first_loss([])["objectness"] > 0.5
    # Only anchors with less than half of their area in the image are background yet.
    assert first_loss(everything)["objectness"] != first_loss([])["objectness"]


def test_too_few_images_for_a_batch():
    with pytest.raises(TrainingError, match="12 epochs of 0 batches of 8 images"):
        train(small_rpn(), ShapesDataset(length=7))


def test_a_batch_that_cannot_be_shared_out(monkeypatch):
    monkeypatch.setattr("rpn_lib.training.processes.world_size", lambda: 3)
    with pytest.raises(TrainingError, match="evenly among 3 processes"):
        train(small_rpn(), ShapesDataset(length=8), batch_size=8)


def test_proposing_leaves_the_mode_as_it_was():
    rpn = small_rpn().train()
    propose(rpn, ShapesDataset(length=1))
    assert rpn.training


def test_command_line_on_a_folder(folder, tmp_path, capsys):
    (folder / "ImageSets/Main/val.txt").write_text("a\nb\n")
    out = tmp_path / "out"
    options = ["--epochs", "2", "--batch-size", "2", "--side", "96", "--out", str(out)]
    assert run_rpn(["train", "--data", str(folder), *options]) == 0
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
        (["--data", "nowhere"], "error: nowhere is no folder."),
        (["--epochs", "0"], "error: epochs=0 must be 1 or more."),
        (["--batch-size", "-8"], "error: batch_size=-8 must be 1 or more."),
        (["--seed", "99999999999"], "seed=99999999999 must be 4294967295 or less."),
        (["--lr", "nan"], "error: lr=nan must be a number above 0."),
        (["--side", "8"], "error: side=8 must be 32 pixels or more."),
        (["--sizes", "-3"], "error: sizes of level 0 must be a list of positive"),
        (["--sizes", "3", "--fpn"], "error: 1 anchor sizes for 4 levels of the pyra"),
        (["--pretrained"], "error: The small backbone has no pretrained weights"),
    ],
)
def test_command_line_says_in_one_line_what_is_wrong(
    arguments, message, tmp_path, capsys
):
    assert run_rpn(["train", *arguments, "--out", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text


def test_command_line_names_or_drops_a_bad_box(folder, tmp_path, capsys):
    (folder / "ImageSets/Main/val.txt").write_text("a\nb\n")
    annotate(folder, "a", [CELL, ("cell", 30, 5, 30, 5)])
    options = ["--data", str(folder), "--epochs", "1", "--batch-size", "2"]
    options += ["--side", "96", "--out", str(tmp_path / "out")]
    assert run_rpn(["train", *options]) == 2
    assert (
        "a.xml, object 1 (xmin, ymin, xmax, ymax = 30, 5, 30, 5)"
        in capsys.readouterr().err
    )
    assert run_rpn(["train", *options, "--on-bad-box", "drop"]) == 0
    assert "dropped:" in capsys.readouterr().err
    checkpoint = ["--checkpoint", str(tmp_path / "out" / "checkpoint.pt")]
    out = ["--out", str(tmp_path / "more")]
    assert run_rpn(["evaluate", *checkpoint, *out]) == 0
    assert "dropped:" in capsys.readouterr().err
    data = [str(folder), "--on-bad-box", "drop", "--split", "val"]
    assert run_rpn(["anchors", *data, *out]) == 0
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
    assert run_rpn(["train", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "100 validation images, 100 proposals each" in printed
    assert float(re.search(r"recall at IoU 0.5 (\d\.\d+)", printed)[1]) >= 0.95


def test_the_weights_that_come_with_the_library_are_of_a_trained_network():
    proposals, gt_boxes = propose(trained_rpn(), ShapesDataset(length=100, seed=1))
    result = recall(proposals, gt_boxes, k=100)
    assert result.at(0.5) > 0.97
    assert result.average > 0.65

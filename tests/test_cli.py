"""The command `rpn`: what it writes, what it says, and its exit codes."""

import csv
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from folders import annotate, environment, slashed, write_folder, write_yolo
from PIL import Image

from rpn_lib.backbones import TorchvisionBackbone
from rpn_lib.cli import main
from rpn_lib.cli import train as runs
from rpn_lib.cli.evaluate import load
from rpn_lib.cli.parser import parser as command_parser
from rpn_lib.cli.settings import read_settings
from rpn_lib.data.folder import open_folder
from rpn_lib.data.images import image_size
from rpn_lib.data.records import Record, as_boxes
from rpn_lib.data.resize import Resize
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.data.sides import choose_side
from rpn_lib.errors import BoxError, SettingError, TrainingError
from rpn_lib.models import build_rpn, network_of, trained_rpn
from rpn_lib.training.checkpoint import load_checkpoint, read_state
from rpn_lib.training.config import DataConfig
from rpn_lib.training.measure import propose_in

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("train", "evaluate", "propose", "anchors", "check", "experiments")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "scenes")


def train(data, out, *more):
    text = f"train --data {data} --side 64 --epochs 2 --batch-size 4 --out {out}"
    return main([*text.split(), "--device", "cpu", *map(str, more)])


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "rpn"
    assert train(data, out) == 0
    return out


def test_a_finished_run_without_its_checkpoints_is_not_replaced(
    data, run, tmp_path, capsys
):
    out = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(out / "checkpoints")
    before = (out / "checkpoint.pt").read_bytes()
    assert train(data, out) == 2
    assert "holds a run that is finished" in capsys.readouterr().err
    assert (out / "checkpoint.pt").read_bytes() == before


def test_pictures_that_are_learnt_from_and_measured_on_are_told(tmp_path, capsys):
    data = write_folder(tmp_path / "scenes")
    sets = data / "ImageSets/Main"
    (sets / "val.txt").write_text((sets / "train.txt").read_text())
    assert train(data, tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert "warning: 13 of 13 pictures that are measured on are trained on" in said


def test_photographs_are_turned_as_in_training(tmp_path, capsys):
    data = write_folder(tmp_path / "scenes")
    photo = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (128, 96)).save(photo, exif=exif)
    for how, size in (("ignore", (128, 96)), ("apply", (96, 128))):
        out = tmp_path / how
        assert train(data, out, "--exif", how) == 0
        arguments = ["--checkpoint", str(out / "checkpoint.pt"), "--out", str(out)]
        assert main(["propose", str(photo), *arguments]) == 0
        found = json.loads((out / "turned.jpg.json").read_text())
        assert (found["width"], found["height"]) == size


def test_annotations_of_the_same_name_are_not_written_over(tmp_path, capsys):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    arguments = ["propose", str(tmp_path / "a.jpg"), "--out", str(tmp_path)]
    for content in ('{"my": "annotation"}', "[1]", "no JSON"):
        (tmp_path / "a.jpg.json").write_text(content)
        assert main(arguments) == 2
        assert "has not written it" in capsys.readouterr().err
        assert (tmp_path / "a.jpg.json").read_text() == content
    (tmp_path / "a.jpg.json").unlink()
    assert main(arguments) == main(arguments) == 0  # over its own


def test_what_cannot_be_proposed_in_is_left_out_and_told(tmp_path, capsys):
    for name in ("annotated.jpg", "good.jpg"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    (tmp_path / "annotated.jpg.json").write_text("[]")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert main(["propose", str(tmp_path), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("left out") == 2
    assert "annotated.jpg.json is there, and rpn propose has not written it" in said
    assert "phone.HEIC cannot be read as an image" in said
    assert (tmp_path / "annotated.jpg.json").read_text() == "[]"
    assert (tmp_path / "good.jpg.json").is_file()


@pytest.mark.parametrize(
    "words",
    ["--proposals 0", "--top -1", "--min-score nan", "--min-score 2", "--side 0"],
)
def test_numbers_out_of_range(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["propose", "a.jpg", *words.split()])
    assert stop.value.code == 2
    assert f"{words.split()[1]} must be" in capsys.readouterr().err


def test_who_stops_listening_does_not_stop_the_work(data, tmp_path):
    out = tmp_path / "anchors"
    command = f"{sys.executable} -m rpn_lib anchors {data} --out {out}"
    for end in ("| head -1", ">&-"):
        done = subprocess.run(
            f"{command} {end}; exit ${{PIPESTATUS[0]}}",
            shell=True,
            executable="/bin/bash",
            capture_output=True,
            text=True,
            env=environment(),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert list(out.glob("*.png"))
        shutil.rmtree(out)


def test_propose_in_takes_images_as_they_are_read():
    rpn, image = trained_rpn().train(), ShapesDataset(1)[0][0]
    before = {name: value.clone() for name, value in rpn.state_dict().items()}
    boxes, _ = propose_in(rpn, image)
    assert rpn.training
    for name, value in rpn.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(boxes, propose_in(rpn.eval(), image)[0])
    for wrong in (image / 255, image[None], image.numpy(), "a.jpg", image.int()):
        with pytest.raises(BoxError, match="takes an image as a tensor"):
            propose_in(rpn, wrong)


def test_a_page_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    out = tmp_path / "page.html"
    out.write_text("before")

    def half(rpn, path, *more):
        Path(path).write_text("ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rpn_lib.figures.live.write_page", half)
    assert main(["export", "--out", str(out)]) == 2
    assert out.read_text() == "before"
    assert [*tmp_path.iterdir()] == [out]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"  rpn {command}" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("command", [*COMMANDS, "export"])
def test_each_option_is_explained_by_a_whole_phrase(command):
    for action in commands()[command]._actions:
        assert re.match(r"(?!of )\w", action.help), action.dest


def test_a_default_of_zero_or_one_is_told_too():
    told = {action.dest: action.help for action in commands()["train"]._actions}
    assert told["seed"].endswith("(default: 0)")
    assert told["workers"].endswith("(default: 0)")
    assert told["first_pixel"].endswith("(default: 1)")
    assert "default" not in told["fpn"]


def test_evaluate_tells_when_the_defaults_are_those_of_the_training():
    told = {action.dest: action.help for action in commands()["evaluate"]._actions}
    for name, value in {"on_bad_box": "error", "first_pixel": "1"}.items():
        text = f"(default: {value} with --data, else as in training)"
        assert told[name].endswith(text)


def test_settings_are_read_as_utf_8_wherever_they_are(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"settings": {"data": "größe"}}', encoding="utf-8")
    code = """
import sys
from pathlib import Path
from rpn_lib.cli.settings import read_settings
assert read_settings(Path(sys.argv[1])).data.data == "gr\\xf6\\xdfe"
"""
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning"]
    command = [sys.executable, *strict, "-c", code, path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_command_they_are_listed(capsys):
    assert main([]) == 2
    text = capsys.readouterr().out
    assert all(f"rpn {command}" in text for command in COMMANDS)


def test_it_runs_as_a_module_too():
    done = subprocess.run(
        [sys.executable, "-m", "rpn_lib", "check", "nowhere"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2
    assert done.stderr == "error: nowhere is no folder.\n"


def test_the_command_is_named_in_the_metadata():
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.scripts]\nrpn = "rpn_lib.cli:main"' in text


def test_the_page_on_running_names_options_that_exist():
    named = set(re.findall(r"`(--[a-z-]+)", (ROOT / "book/running.md").read_text()))
    assert len(named) > 10
    options = {
        option
        for parser in commands().values()
        for action in parser._actions
        for option in action.option_strings
    }
    assert named - options == set()


def commands():
    return next(
        action.choices
        for action in command_parser()._actions
        if action.dest == "command"
    )


# train


def test_a_run_leaves_everything_in_its_folder(run):
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint.pt",
        "checkpoints",
        "metrics.csv",
        "proposals.png",
        "results.json",
        "settings.json",
    ]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "3", "4", "5", "6", "6"]
    assert [bool(row["AR@100"]) for row in rows] == [False, False, False, True] * 2
    assert all(float(row["val_box"]) > 0 for row in rows if row["val_box"])
    results = json.loads((run / "results.json").read_text())
    assert results["images"] == 5
    assert 0 <= results["waiting for data"] <= 1
    assert results["AR@100"] == pytest.approx(float(rows[-1]["AR@100"]), abs=1e-5)


def test_anchors_are_fitted_to_the_boxes_unless_sizes_are_given(run):
    shapes = read_state(run / "checkpoint.pt")["settings"]["shapes"]
    assert len(shapes) == 12
    areas = [width * height for width, height in shapes]
    assert 14**2 < areas[0] < areas[-1] < 44**2  # the scenes have 16 to 40 pixels


def test_a_run_can_be_repeated_from_its_settings(run, tmp_path):
    again = tmp_path / "again"
    arguments = ["train", "--settings", str(run / "settings.json")]
    assert main([*arguments, "--out", str(again)]) == 0
    first, second = (
        read_state(folder / "checkpoint.pt")["model"] for folder in (run, again)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_run_is_not_overwritten(run, data, capsys):
    before = (run / "checkpoint.pt").read_bytes()
    assert train(data, run) == 2
    assert "holds a run that is finished. Continue it with --resume, choose" in (
        capsys.readouterr().err
    )
    assert (run / "checkpoint.pt").read_bytes() == before


def test_overwrite_replaces_it(data, tmp_path):
    assert train(data, tmp_path / "out") == 0
    assert train(data, tmp_path / "out", "--epochs", 1, "--overwrite") == 0
    names = [path.name for path in (tmp_path / "out/checkpoints").iterdir()]
    assert names == ["step-00000003.pt"]


def test_ctrl_c_saves_and_says_how_to_resume(data, tmp_path, capsys, monkeypatch):
    original = runs.train

    def interrupted(*arguments, after_step, **options):
        def step(row):
            after_step(row)
            if row["step"] == 2:
                signal.raise_signal(signal.SIGINT)

        return original(*arguments, after_step=step, **options)

    monkeypatch.setattr(runs, "train", interrupted)
    out = tmp_path / "out"
    assert train(data, out) == 130
    error = capsys.readouterr().err
    assert "Stopped after step 2 of 6. The last good checkpoint is" in error
    assert f"Continue with: rpn train --resume --out {out}" in error
    assert "Traceback" not in error
    monkeypatch.undo()
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert "continues after step 2 of 6" in capsys.readouterr().out
    with (out / "metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    assert steps == ["1", "2", "3", "3", "4", "5", "6", "6"]


@pytest.mark.skipif(os.name != "posix", reason="NOT RUN: process groups are of POSIX")
def test_ctrl_c_in_a_terminal_reaches_worker_processes_too(data, tmp_path):
    text = f"train --data {data} --side 64 --epochs 500 --batch-size 4 --workers 2"
    process = subprocess.Popen(
        [sys.executable, "-m", "rpn_lib", *text.split(), "--out", str(tmp_path / "o")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    for line in process.stdout:
        if line.startswith("epoch 2"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped after step" in error
    assert "Continue with: rpn train --resume" in error
    assert "Traceback" not in error


def test_there_is_nothing_to_resume(tmp_path, capsys):
    assert main(["train", "--resume", "--out", str(tmp_path)]) == 2
    assert "there is no run to continue" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train(data, tmp_path / "file" / "out") == 2
    assert "cannot be made" in capsys.readouterr().err


def test_the_cache_and_the_workers_change_nothing(run, data, tmp_path):
    out = tmp_path / "out"
    assert train(data, out, "--cache", "none", "--workers", 1) == 0
    first, second = (
        read_state(folder / "checkpoint.pt")["model"] for folder in (run, out)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_truncated_picture_stops_before_the_first_step(
    tmp_path, capsys, cache, monkeypatch
):
    data = write_folder(tmp_path / "data")
    path = data / "JPEGImages/scene_3.png"
    path.write_bytes(path.read_bytes()[:2000])
    monkeypatch.setattr(runs, "train", lambda *a, **k: pytest.fail("it started"))
    assert train(data, tmp_path / "out", "--cache", cache) == 2
    assert "scene_3.png" in capsys.readouterr().err


def test_a_class_that_is_never_trained_on_is_told(tmp_path, capsys):
    data = write_folder(tmp_path / "data")
    annotate(data, "scene_14", [("zebra", 5, 5, 40, 40)], width=96, height=64)
    assert train(data, tmp_path / "out", "--epochs", 1) == 0
    assert "only in val, never trained on: zebra" in capsys.readouterr().out


def test_pictures_that_share_a_text_file_are_told_once(tmp_path, capsys):
    data = tmp_path / "data"
    scenes = ShapesDataset(4, image_size=(64, 96), sizes=(16, 40))
    write_yolo(data, [scenes[i] for i in range(3)])
    write_yolo(data, [scenes[3]], split="val", first=3)
    twin = data / "images/train/scene_0.png"
    twin.with_suffix(".webp").write_bytes(twin.read_bytes())
    assert train(data, tmp_path / "out", "--epochs", 1) == 0
    told = capsys.readouterr()
    assert (told.out + told.err).count("have this one text file") == 1


@pytest.mark.parametrize(
    "network",
    [
        ["--backbone", "resnet18"],
        [
            "--backbone",
            "mobilenet_v3_small",
            "--fpn",
            "--sizes",
            *["12", "20", "30", "40", "50"],
        ],
    ],
)
def test_backbones_of_torchvision(data, tmp_path, network):
    out = tmp_path / "out"
    assert train(data, out, "--epochs", 1, *network) == 0
    rpn = load_checkpoint(out / "checkpoint.pt")
    assert isinstance(rpn.backbone, TorchvisionBackbone)
    assert len(rpn([torch.rand(3, 64, 96)]).proposals) == 1


def test_pretrained_weights_without_a_network(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    code = train(data, tmp_path / "out", "--backbone", "resnet18", "--pretrained")
    assert code == 2
    error = capsys.readouterr().err
    assert "The weights of resnet18 cannot be downloaded" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("device", ["quantum", "meta:7x"])
def test_a_device_that_is_not_there(data, tmp_path, capsys, device):
    assert train(data, tmp_path / "out", "--device", device) == 2
    assert f"The device {device} cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("kinds", [[], ["scale", "light", "flip", "updown"]])
def test_augmentation(data, tmp_path, kinds):
    assert train(data, tmp_path / "out", "--epochs", 1, "--augment", *kinds) == 0


def test_tensorboard_is_written_where_it_is_installed(data, tmp_path, monkeypatch):
    """A stand-in for the package, with the calls that are made of it."""
    written = {}

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            assert folder == tmp_path / "out" / "tensorboard"
            assert purge_step == 1

        def add_scalar(self, name, value, step):
            written.setdefault(name, []).append(step)

        def close(self):
            written["closed"] = True

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    assert train(data, tmp_path / "out") == 0
    assert written["box"] == [1, 2, 3, 4, 5, 6]
    assert written["AR@100"] == [3, 6]
    assert written["closed"]


def test_sizes_and_classes_of_another_data_set_need_no_setting(tmp_path):
    """Objects four times as large in larger images: side, anchors, epochs fit."""
    boxes = as_boxes([[8.0, 8, 28, 28]] * 10)
    few = Record("a", tmp_path, (1200, 1600), boxes, [], boxes[:0])
    assert choose_side([few]) == 800  # small objects: as large as it gets
    large = few._replace(boxes=boxes * 20)
    assert choose_side([large]) == 240
    middle = few._replace(boxes=boxes * 2)
    assert choose_side([middle]) == 480  # 40 pixels become 16


def test_help_needs_no_torch():
    code = """
import sys
from rpn_lib.cli import main
for arguments in ([], *[[name] for name in sys.argv[1:]]):
    try:
        main([*arguments, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
assert not {"torch", "numpy", "tqdm", "matplotlib"} & set(sys.modules)
"""
    command = [sys.executable, "-c", code, *COMMANDS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr) == (0, "")


def test_results_are_strict_json(run):
    def refuse(name):
        raise AssertionError(name)

    text = (run / "results.json").read_text()
    results = json.loads(text, parse_constant=refuse)
    assert results["AR@100 large"] is None  # there is no large object


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "50"], "--epochs 50 contradicts the run in"),
        (["--lr", "0.0001"], "which has --lr 0.002. Leave it out"),
        (["--data", "other"], "--data other contradicts"),
        (["--settings", "a.json"], "--resume and --settings contradict each other"),
        (["--overwrite"], "--resume and --overwrite contradict each other"),
    ],
)
def test_resuming_with_other_settings_is_refused(run, more, message, capsys):
    before = (run / "settings.json").read_bytes()
    assert main(["train", "--resume", "--out", str(run), *more]) == 2
    assert message in capsys.readouterr().err
    assert (run / "settings.json").read_bytes() == before


def test_settings_of_a_file_give_way_to_those_of_the_command(run, tmp_path):
    out = tmp_path / "again"
    arguments = ["--settings", str(run / "settings.json"), "--epochs", "1"]
    assert main(["train", *arguments, "--out", str(out)]) == 0
    before, after = (
        json.loads((folder / "settings.json").read_text())["settings"]
        for folder in (run, out)
    )
    assert after == {**before, "epochs": 1}
    assert len((out / "metrics.csv").read_text().splitlines()) == 1 + 3 + 1


def test_objects_too_small_to_learn_are_counted_or_refused(tmp_path, capsys):
    data = write_folder(tmp_path / "data")
    names = (data / "ImageSets/Main/train.txt").read_text().split()
    small = ("ellipse", 10, 10, 11, 11)  # 2 pixels, 1 after resizing to a side of 32
    annotate(data, names[0], [small, ("ellipse", 10, 10, 40, 40)], width=96, height=64)
    out = tmp_path / "out"
    assert train(data, out, "--side", 32, "--epochs", 1, "--sizes", 16) == 0
    text = capsys.readouterr().out
    assert "note: 1 of" in text
    side = re.search(r"with --side (\d+) all of them would be learnt", text)[1]
    assert train(data, out, "--side", side, "--epochs", 1, "--overwrite") == 0
    assert "not learnt" not in capsys.readouterr().out
    assert 64 <= int(side) <= 66  # no more than is needed
    for kept in (small, None):
        for name in names:
            boxes = [] if kept is None else [kept]
            annotate(data, name, boxes, width=96, height=64)
        code = train(data, out, "--side", 32, "--sizes", 16, "--overwrite")
        error = capsys.readouterr().err
        assert code == 2
        if kept is not None:
            count = f"{len(names)} of {len(names)} objects are smaller than"
            assert f"There is nothing to learn: {count}" in error
        assert error.startswith("error: ")
        assert error.count("\n") == 1


def test_a_network_of_the_first_format_still_loads(tmp_path):
    """As version 2325f46 wrote it: without a number of the format."""
    network = {"backbone": "small", "fpn": False, "shapes": [[10.0, 20.0]]}
    state = {"settings": network, "model": build_rpn(**network).state_dict()}
    data = {"data": None, "side": None, "val_split": "val", "classes": []}
    torch.save({**state, "data": data}, tmp_path / "old.pt")
    assert load_checkpoint(tmp_path / "old.pt").anchors.num_anchors == [1]
    assert load(tmp_path / "old.pt")[1] == DataConfig()
    torch.save({**state, "data": {**data, "side": 64}}, tmp_path / "old.pt")
    assert load(tmp_path / "old.pt")[1] == DataConfig(side=64)
    torch.save(state, tmp_path / "old.pt")
    assert load(tmp_path / "old.pt")[1] == DataConfig()
    torch.save({**state, "data": {"exif": "turn"}}, tmp_path / "bad.pt")
    with pytest.raises(SettingError, match=r"bad\.pt: exif is apply or ignore, not"):
        load(tmp_path / "bad.pt")
    torch.save({**state, "format": 99}, tmp_path / "new.pt")
    with pytest.raises(TrainingError, match="has format 99"):
        load_checkpoint(tmp_path / "new.pt")


def test_a_checkpoint_knows_the_data_it_was_trained_with(run):
    settings = read_settings(run / "settings.json")
    for path in [run / "checkpoint.pt", *(run / "checkpoints").iterdir()]:
        assert load(path)[1] == settings.data


# evaluate


def test_evaluate_repeats_the_numbers_of_the_training(run, tmp_path, capsys):
    arguments = ["evaluate", "--checkpoint", str(run / "checkpoint.pt"), "--device"]
    assert main([*arguments, "cpu", "--out", str(tmp_path)]) == 0
    assert "AR, all" in capsys.readouterr().out
    [numbers] = json.loads((tmp_path / "evaluation.json").read_text()).values()
    results = json.loads((run / "results.json").read_text())
    for name in ("AR@100", "recall@0.5/100", "AR@100 small", "box loss"):
        assert numbers[name] == pytest.approx(results[name], abs=1e-5, nan_ok=True)
    assert image_size(tmp_path / "evaluation.png") == (450, 1500)


def test_evaluate_compares_two(run, data, tmp_path, capsys):
    steps = sorted((run / "checkpoints").iterdir())
    arguments = ["evaluate", "--checkpoint", str(steps[0]), "--compare", str(steps[1])]
    arguments += ["--data", str(data), "--side", "64", "--precision", "--out"]
    assert main([*arguments, str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"AR@100 of {steps[1]} less that of {steps[0]}:" in text
    assert text.count("precision, 100 proposals: AP ") == 2
    assert len(json.loads((tmp_path / "evaluation.json").read_text())) == 2


def test_a_network_is_not_compared_with_itself(run, data, capsys):
    checkpoint = str(run / "checkpoint.pt")
    arguments = ["--checkpoint", checkpoint, "--compare", checkpoint]
    assert main(["evaluate", *arguments, "--data", str(data)]) == 2
    assert "is the network that is measured already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], 0),  # as in training
        (["--first-pixel", "1"], 1),
        (["--first-pixel", "0"], 0),
        (["--data", "DATA"], 1),  # other files: the default
        (["--data", "DATA", "--first-pixel", "0"], 0),
    ],
)
def test_evaluate_counts_pixels_as_in_training_or_as_told(
    more, expected, data, tmp_path, monkeypatch
):
    trained = tmp_path / "from_0"
    assert train(data, trained, "--epochs", 1, "--first-pixel", 0) == 0
    counted = []

    def opened(*arguments, **reading):
        counted.append(reading["first_pixel"])
        return open_folder(*arguments, **reading)

    monkeypatch.setattr("rpn_lib.cli.evaluate.open_folder", opened)
    arguments = ["evaluate", "--checkpoint", str(trained / "checkpoint.pt")]
    more = [str(data) if word == "DATA" else word for word in more]
    assert main([*arguments, *more, "--out", str(tmp_path)]) == 0
    assert counted == [expected]


@pytest.mark.parametrize("side", [32, 240, 333])
def test_a_size_is_known_before_the_image_is_resized(side):
    fit = Resize(side)
    for size in [(480, 640), (640, 480), (97, 97), (100, 1000), (301, 77), (33, 54)]:
        resized = fit.resize(torch.zeros(1, *size, dtype=torch.uint8))
        assert fit.size_of(size) == tuple(resized.shape[1:])
    assert min(fit.size_of((1, 10_000))) == 1  # torchvision refuses it: no pixel left


# propose


def test_propose_in_a_photograph(run, data, tmp_path):
    photo = data / "JPEGImages/scene_15.png"
    large = tmp_path / "large.png"
    with Image.open(photo) as image:
        image.resize((480, 320)).save(large)
    arguments = ["--checkpoint", str(run / "checkpoint.pt"), "--out", str(tmp_path)]
    assert main(["propose", str(large), *arguments, "--proposals", "7"]) == 0
    found = json.loads((tmp_path / "large.png.json").read_text())
    assert (found["width"], found["height"]) == (480, 320)
    assert len(found["boxes"]) == len(found["scores"]) == 7
    assert found["scores"] == sorted(found["scores"], reverse=True)
    corners = torch.tensor(found["boxes"])
    assert corners[:, 2].max() > 96  # in pixels of the photograph, not of the network
    assert (corners[:, 2:] <= torch.tensor([480, 320])).all()
    height, width = image_size(tmp_path / "large.png.proposals.png")
    assert width / height == pytest.approx(480 / 320, rel=0.01)


def test_propose_in_a_folder_leaves_out_what_it_cannot_read(run, tmp_path, capsys):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    Image.new("RGB", (96, 64)).save(photos / "a.jpg")
    Image.new("L", (96, 64)).save(photos / "more" / "a.png")
    (photos / "b.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"
    arguments = ["--checkpoint", str(run / "checkpoint.pt"), "--out", str(out)]
    assert main(["propose", str(photos), *arguments]) == 1
    assert "left out:" in capsys.readouterr().err
    names = {path.relative_to(out).as_posix() for path in out.rglob("*.json")}
    assert names == {"a.jpg.json", "more/a.png.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["propose", "nowhere.jpg"], "nowhere.jpg: there is no such file or folder."),
        (["evaluate", "--checkpoint", "nowhere.pt"], "nowhere.pt is missing; train"),
        (["anchors", "nowhere"], "nowhere is no folder."),
        (["check", "nowhere"], "nowhere is no folder."),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_proposals_of_the_network_are_scaled_back():
    torch.manual_seed(0)
    rpn = network_of({"settings": {}, "model": build_rpn().state_dict()})
    image = torch.randint(0, 255, (3, 128, 192), dtype=torch.uint8)
    plain, _ = propose_in(rpn, image)
    same, _ = propose_in(rpn, image, side=128)
    assert torch.equal(plain, same)
    half, _ = propose_in(rpn, image, side=64)
    assert half[:, 2].max() > 100


def test_propose_uses_the_network_that_comes_along_and_passes_over_its_own_pictures(
    data, tmp_path, capsys, monkeypatch
):
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(data / "JPEGImages/scene_15.png") as image:
        image.save(photos / "a.jpg")
    monkeypatch.chdir(photos)
    for passed_over in (False, True):
        assert main(["propose", "."]) == 0
        text = capsys.readouterr()
        assert "there is no runs/rpn/checkpoint.pt" in slashed(text.err)
        assert (
            "passed over: 1 picture that rpn has written" in text.out
        ) is passed_over
    names = sorted(path.name for path in (photos / "proposals").rglob("*.*"))
    assert names == ["a.jpg.json", "a.jpg.proposals.png"]


@pytest.mark.skipif(os.name != "posix", reason="NOT RUN: names are bytes on POSIX")
def test_a_file_name_that_cannot_be_shown(run, tmp_path, monkeypatch):
    photo = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(photo, "wb") as file:
        Image.new("RGB", (96, 64)).save(file, "PNG")
    shown = io.BytesIO()
    strict = io.TextIOWrapper(shown, encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", strict)
    out = str(tmp_path / "out")
    assert main(["propose", os.fsdecode(photo), "--out", out]) == 0
    strict.flush()
    assert b"caf\\udce9.png" in shown.getvalue()


# anchors, check


def test_anchors_shows_the_coverage(data, tmp_path, capsys):
    arguments = ["anchors", str(data), "--side", "64", "--out", str(tmp_path)]
    assert main(arguments) == 0
    fitted = capsys.readouterr().out
    assert "objects in 13 images" in fitted
    assert "anchor shapes, width x height: " in fitted
    assert main([*arguments, "--sizes", "200"]) == 0
    unfit = capsys.readouterr().out
    assert "hard to reach: scene_" in unfit
    assert image_size(tmp_path / "anchors.png") == (500, 1200)


def test_check_lists_everything_and_says_so_by_its_exit_code(tmp_path, capsys):
    data = write_folder(tmp_path / "data")
    assert main(["check", str(data)]) == 0
    assert "train, val: 18 images" in capsys.readouterr().out
    bad = [("ellipse", 9, 9, 9, 9), ("ellipse", 1, 1, 99, 9)]
    annotate(data, "scene_2", bad, width=96, height=64)
    (data / "JPEGImages/scene_14.png").write_bytes(b"")
    assert main(["check", str(data)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert slashed(lines[0]).startswith(
        slashed(f"{data}/Annotations/scene_2.xml, object 0 (xmin")
    )
    assert lines[-1].endswith("3 problems.")


FAULTS = """
import os, resource
import torch
from rpn_lib.cli.train import processes  # with all that `rpn train` imports
def step():
    parts = [torch.ones(5_000_000) for _ in range(4)]  # 20 MB each
for how in ("keep", "leave"):
    if os.fork():
        os.wait()
        continue
    if how == "keep":
        processes.keep_memory()
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    print(how, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    break
"""


@pytest.mark.skipif(os.name != "posix", reason="NOT RUN: POSIX counts page faults")
def test_memory_is_kept_from_step_to_step():
    """Pages that the system has to give anew are counted as faults."""
    plain = environment(MALLOC_MMAP_THRESHOLD_="131072")  # glibc begins there, learns
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(
        command, env=plain, capture_output=True, text=True, check=True
    )
    lines = (line.split() for line in done.stdout.splitlines())
    faults = {how: int(number) for how, number in lines}
    assert list(faults) == ["keep", "leave"]
    if platform.libc_ver()[0] == "glibc":  # elsewhere it does nothing
        assert faults["keep"] < faults["leave"] / 10

"""The paper's questions: settings, what is left without a part, runs, the command."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from folders import annotate, environment, write_folder
from torchvision.ops import clip_boxes_to_image

from rpn_lib.cli import main
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import SettingError, TrainingError
from rpn_lib.evaluation import evaluate
from rpn_lib.models import trained_rpn
from rpn_lib.training import experiments
from rpn_lib.training.experiments import (
    PARTS,
    Run,
    Setting,
    do_run,
    recalls,
    scenes,
    train_run,
    without_parts,
)
from rpn_lib.training.measure import propose
from rpn_lib.training.runs import (
    TABLES,
    finished,
    pick,
    read_table,
    save_run,
    write_table,
)
from rpn_lib.transforms import decode

TINY = Setting(
    train_images=4,
    val_images=3,
    image_size=(64, 96),
    object_sizes=(16, 40),
    epochs=1,
    batch_size=4,
    seeds=2,
    budgets=(5, 20),
)


# What the runs are


def test_each_seed_has_four_sets_of_anchors_and_each_lambda_once():
    runs = TINY.runs()
    assert len(set(runs)) == len(runs) == 14
    assert {r.anchors for r in runs} == {"1x1", "1x3", "3x1", "3x3"}
    assert sorted(r.lambda_ for r in runs if r.anchors == "3x3" and r.seed == 1) == [
        *(0.1, 1, 10, 100)
    ]
    assert [r.seed for r in runs] == [0] * 7 + [1] * 7
    assert sum(r.is_default for r in runs) == 2
    assert len({r.name for r in runs}) == 14


@pytest.mark.parametrize(
    ("name", "sizes", "ratios"),
    [
        ("1x1", [40], [1]),
        ("1x3", [40], [1, 2, 0.5]),
        ("3x1", [20, 40, 80], [1]),
        ("3x3", [20, 40, 80], [1, 2, 0.5]),
    ],
)
def test_the_first_number_counts_sizes_and_the_second_ratios(name, sizes, ratios):
    assert Setting().anchors(name) == {"sizes": sizes, "aspect_ratios": ratios}


@pytest.mark.parametrize("name", ["seeds", "epochs", "train_images", "val_images"])
def test_nothing_to_do_is_refused(name):
    with pytest.raises(SettingError, match=f"{name}=0"):
        replace(TINY, **{name: 0})


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(SettingError, match="4 images"):
        replace(TINY, batch_size=5)


def test_scenes_to_learn_from_change_with_the_seed_and_those_to_measure_do_not():
    one, other = scenes(TINY, 0), scenes(TINY, 1)
    assert not torch.equal(one.train_set[0][0], other.train_set[0][0])
    assert torch.equal(one.val_set[0][0], other.val_set[0][0])
    # Nor is any scene in both.
    for seed in range(Setting().seeds):
        assert seed != experiments.MEASURED


def test_lambda_means_the_same_share_of_the_loss_as_in_the_paper(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        experiments, "train", lambda rpn, *_: seen.setdefault("loss", rpn.loss)
    )
    for lambda_ in (0.1, 100.0):
        seen.clear()
        train_run(TINY, Run("3x3", lambda_, 0), scenes(TINY, 0))
        # The paper: lambda / 2400 of the sum over the boxes, 1 / 256 of the others.
        theirs = (lambda_ / 2400) / (1 / 256)
        assert seen["loss"].normalizer == "sampled"
        assert seen["loss"].lambda_ == pytest.approx(theirs, rel=0.07)


# What is left without a part


@pytest.fixture(scope="module")
def looked_at():
    rpn = trained_rpn()
    image = ShapesDataset(8, seed=1)[2][0].float() / 255
    parts = without_parts(rpn, image, torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = rpn.head(rpn.levels_of(image[None])[0])
    logits = (output.scores[..., 1] - output.scores[..., 0]).flatten()
    anchors = rpn.anchors([output.scores.shape[1:3]])[0]
    size = tuple(image.shape[-2:])
    boxes = clip_boxes_to_image(decode(output.deltas.reshape(-1, 4), anchors), size)
    return rpn, image, parts, logits, boxes, clip_boxes_to_image(anchors, size)


def inside(boxes):
    """Which boxes have an area after clipping; the others are no proposals."""
    return (boxes[:, 2:] - boxes[:, :2] >= 1e-3).all(dim=1)


def rows(boxes):
    boxes = boxes[inside(boxes)]
    return sorted(map(tuple, boxes.round(decimals=2).tolist()))


def test_with_all_parts_it_is_the_network(looked_at):
    rpn, image, parts, *_ = looked_at
    assert list(parts) == list(PARTS)
    with torch.no_grad():
        assert torch.equal(parts["proposals"], rpn(image[None]).proposals[0].boxes)


def test_without_nms_every_box_is_left_and_the_best_comes_first(looked_at):
    _, _, parts, logits, boxes, _ = looked_at
    order = logits.sort(descending=True, stable=True).indices
    left = boxes[order]
    assert torch.allclose(parts["no NMS"], left[inside(left)], atol=1e-3)


def test_without_regression_the_boxes_are_anchors(looked_at):
    _, _, parts, logits, _, anchors = looked_at
    assert set(rows(parts["no regression"])) <= set(rows(anchors))
    assert torch.allclose(parts["no regression"][0], anchors[logits.argmax()])
    assert len(parts["no regression"]) < len(anchors)  # NMS is still at work


def test_without_objectness_the_boxes_are_the_same_in_another_order(looked_at):
    _, _, parts, _, boxes, _ = looked_at
    assert rows(parts["no objectness"]) == rows(boxes)
    assert not torch.equal(parts["no objectness"], parts["no NMS"])


def test_the_sliding_window_does_not_look_at_the_image(looked_at):
    rpn, image, parts, _, _, anchors = looked_at
    other = without_parts(rpn, 1 - image, torch.Generator().manual_seed(0))
    for name in ("random anchors", "spread anchors"):
        assert torch.equal(parts[name], other[name])
        assert rows(parts[name]) == rows(anchors)
    assert not torch.equal(parts["proposals"], other["proposals"])


def test_the_first_of_the_spread_anchors_lie_evenly_among_all(looked_at):
    rpn, image, parts, *_ = looked_at
    anchors = rpn.anchors([(12, 16)])[0]
    anchors = clip_boxes_to_image(anchors, tuple(image.shape[-2:]))
    place = {}
    for i, row in enumerate(anchors.tolist()):
        place.setdefault(tuple(row), i)
    for k in (10, 100, 1000):
        at = sorted(place[tuple(row)] for row in parts["spread anchors"][:k].tolist())
        gaps = [b - a for a, b in zip([0, *at], [*at, len(anchors)])]
        assert max(gaps) <= 4 * len(anchors) / k


def test_the_random_order_is_that_of_the_generator(looked_at):
    rpn, image, parts, *_ = looked_at
    again = without_parts(rpn, image, torch.Generator().manual_seed(0))
    other = without_parts(rpn, image, torch.Generator().manual_seed(1))
    assert torch.equal(again["random anchors"], parts["random anchors"])
    assert not torch.equal(other["random anchors"], parts["random anchors"])


def test_recall_is_that_of_the_evaluation():
    rpn, data = trained_rpn(), ShapesDataset(6, seed=1)
    found = recalls(rpn, data, [5, 50], PARTS[:1])
    plain = evaluate(*propose(rpn, data))
    assert list(found) == ["proposals"]
    for k in (5, 50):
        assert found["proposals"][k] == pytest.approx(plain.recall(k).recalls.tolist())


# Runs and tables


@pytest.fixture(scope="module")
def done():
    return {run: do_run(TINY, run, scenes(TINY, run.seed)) for run in TINY.runs()[:2]}


def test_a_run_says_how_it_was_made(done):
    first, second = done.values()
    assert first["settings"] == TINY.values()
    assert set(first["versions"]) >= {"rpn_lib", "torch", "torchvision"}
    assert first["seconds"] > 0
    assert list(first["recall"]) == list(PARTS)
    assert list(second["recall"]) == ["proposals"]  # parts are left out of the default
    assert [*first["recall"]["no NMS"]] == ["5", "20"]


def test_a_run_done_twice_is_the_same(done):
    run = TINY.runs()[1]
    again = do_run(TINY, run, scenes(TINY, run.seed))
    assert again["recall"] == done[run]["recall"]


def save(folder, done):
    for run, content in done.items():
        save_run(folder, run, content)


def test_finished_runs_are_found_again_and_more_seeds_may_follow(tmp_path, done):
    save(tmp_path, done)
    for setting in (TINY, replace(TINY, seeds=5), replace(TINY, lambdas=(1, 10))):
        assert list(finished(tmp_path, setting)) == list(done)
    assert finished(tmp_path, TINY)[TINY.runs()[0]] == done[TINY.runs()[0]]


@pytest.mark.parametrize("change", [{"epochs": 2}, {"anchor_sizes": (10, 20, 40)}])
def test_runs_of_another_setting_are_refused(tmp_path, done, change):
    save(tmp_path, done)
    [name] = change
    with pytest.raises(TrainingError, match=name):
        finished(tmp_path, replace(TINY, **change))


def test_runs_of_another_version_are_refused(tmp_path, done, monkeypatch):
    save(tmp_path, done)
    monkeypatch.setattr(experiments, "__version__", "99")
    with pytest.raises(TrainingError, match="rpn_lib"):
        finished(tmp_path, TINY)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"run": {"anchors": 1}}'])
def test_a_damaged_run_is_named(tmp_path, content):
    path = tmp_path / f"{TINY.runs()[3].name}.json"
    path.write_text(content)
    with pytest.raises(TrainingError) as error:
        finished(tmp_path, TINY)
    assert str(path) in str(error.value)


def test_a_table_is_what_the_runs_say(tmp_path, done):
    write_table(tmp_path / "table.json", TINY, done)
    table = read_table(tmp_path / "table.json")
    first, second = done.values()
    assert table["settings"] == TINY.values()
    assert table["seconds"] == round(first["seconds"] + second["seconds"])
    assert [Run(**one["run"]) for one in table["runs"]] == list(done)
    assert pick(table, part="no NMS").shape == (1, 2, 10)
    expected = torch.tensor(list(second["recall"]["proposals"].values()))
    assert torch.equal(pick(table, *TINY.runs()[1][:2])[0], expected)


@pytest.mark.parametrize("asked", [{"anchors": "2x2"}, {"lambda_": 3}, {"part": "no"}])
def test_what_is_not_in_a_table_is_refused(asked):
    with pytest.raises(SettingError, match=str(next(iter(asked.values())))):
        pick(read_table(), **asked)


# The table that comes with the library


def setting_of(table):
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return Setting(**values)


def test_the_table_was_made_with_the_settings_of_the_code():
    made_with = setting_of(read_table()["settings"])
    assert made_with == Setting(), "run rpn experiments again"


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_complete_and_possible(name):
    table = read_table(name)
    setting = setting_of(table["settings"])
    assert [Run(**one["run"]) for one in table["runs"]] == setting.runs()
    budgets = [str(k) for k in setting.budgets]
    for one in table["runs"]:
        default = Run(**one["run"]).is_default
        assert list(one["recall"]) == list(PARTS if default else PARTS[:1])
        for found in one["recall"].values():
            assert list(found) == budgets
            values = torch.tensor(list(found.values()))  # (budgets, IoUs)
            assert values.shape == (len(budgets), 10)
            assert bool(((values >= 0) & (values <= 1)).all())
            assert bool((values.diff(dim=0) >= 0).all())  # more proposals, more recall
            assert bool((values.diff(dim=1) <= 0).all())  # a higher IoU, less
    assert abs(table["seconds"] - sum(o["seconds"] for o in table["runs"])) <= 1


def test_a_table_that_is_not_there():
    with pytest.raises(SettingError, match=r"has the tables \['scenes', 'BCCD'\]"):
        read_table("COCO")


# The command


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "scenes")


def words(data, out, *more):
    text = f"experiments --data {data} --side 64 --epochs 1 --seeds 1 --out {out}"
    return [*text.split(), *more]


def recall_of(out):
    return [one["recall"] for one in read_table(out / "experiments.json")["runs"]]


@pytest.fixture(scope="module")
def one_process(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    assert main(words(data, out, "--processes", "1")) == 0
    return out


def test_the_command_leaves_a_table_of_all_runs(one_process, data):
    table = read_table(one_process / "experiments.json")
    assert len(table["runs"]) == 7
    settings = table["settings"]
    assert (settings["data"], settings["image_size"]) == ("scenes", [64])
    assert (settings["train_images"], settings["val_images"]) == (13, 5)
    small, middle, large = settings["anchor_sizes"]
    assert (small, large) == (middle // 2, 2 * middle)
    smallest, largest = settings["object_sizes"]
    assert smallest <= middle <= largest
    assert str(data) not in (one_process / "experiments.json").read_text()


def test_two_processes_make_the_same_table(one_process, data, tmp_path):
    assert main(words(data, tmp_path, "--processes", "2")) == 0
    assert recall_of(tmp_path) == recall_of(one_process)


def test_what_is_finished_is_not_done_again(one_process, data, capsys):
    before = {path: path.stat().st_mtime_ns for path in one_process.glob("runs/*")}
    assert main(words(data, one_process)) == 0
    assert "7 of 7 runs are finished, 0 left" in capsys.readouterr().out
    assert before == {
        path: path.stat().st_mtime_ns for path in one_process.glob("runs/*")
    }


@pytest.mark.skipif(os.name != "posix", reason="NOT RUN: process groups are of POSIX")
@pytest.mark.parametrize(
    ("how", "count", "code"), [("SIGKILL", "1", -9), ("SIGINT", "2", 130)]
)
def test_it_goes_on_where_it_was_stopped(how, count, code, one_process, data, tmp_path):
    # A shell starts what is in its background with Ctrl-C switched off.
    program = """
import signal, sys
from rpn_lib.cli import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
"""
    command = [sys.executable, "-c", program, *words(data, tmp_path)]
    process = subprocess.Popen(
        [*command, "--processes", count],
        env=environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("runs/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    # As a terminal does: to all of its processes.
    os.killpg(process.pid, getattr(signal, how))
    _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in said
    kept = {p.name: p.read_bytes() for p in tmp_path.glob("runs/*.json")}
    assert 1 <= len(kept) < 7
    assert main(words(data, tmp_path, "--processes", "1")) == 0
    for name, content in kept.items():
        assert (tmp_path / "runs" / name).read_bytes() == content
    assert recall_of(tmp_path) == recall_of(one_process)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--processes", "0"], "processes=0"),
        (["--seeds", "0"], "seeds=0"),
        (["--data", "nowhere"], "nowhere"),
        (["--epochs", "-1"], "epochs=-1"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(more, message, data, tmp_path, capsys):
    assert main(words(data, tmp_path, *more)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_failing_process_ends_the_command(data, tmp_path, capfd):
    (tmp_path / "runs").mkdir()
    folder = tmp_path / "runs" / f"{Setting().runs()[0].name}.json"
    folder.mkdir()  # where a result is to be written
    assert main(words(data, tmp_path, "--processes", "2")) == 2
    assert "ended with code 1" in capfd.readouterr().err


def test_the_result_of_a_run_says_nothing_of_the_machine(one_process):
    for path in one_process.glob("runs/*.json"):
        content = json.loads(path.read_text())
        assert set(content["versions"]) == {
            *("rpn_lib", "torch", "torchvision", "python", "processor")
        }


def test_a_bad_box_is_left_out_where_that_is_asked_for(tmp_path):
    """The error names the option; so the command has it."""
    folder = write_folder(tmp_path / "scenes")
    annotate(folder, "scene_0", [("cell", 21, 21, 20, 40)], 96, 64)
    out = tmp_path / "out"
    assert main(words(folder, out)) == 2
    assert main(words(folder, out, "--on-bad-box", "drop", "--processes", "1")) == 0
    assert len(recall_of(out)) == 7

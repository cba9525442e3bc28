"""Nothing is lost: a run that was stopped continues as if it had not been."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from folders import environment
from torchvision.transforms import v2

from rpn_lib.data.batches import InMemory
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import Interrupted, TrainingError
from rpn_lib.models import small_rpn
from rpn_lib.training import checkpoint
from rpn_lib.training.checkpoint import (
    Checkpoints,
    read_state,
    save_state,
    write_atomically,
)
from rpn_lib.training.loop import train

SCENES = ShapesDataset(length=12, image_size=(64, 96), sizes=(16, 40))
FLIPS = v2.RandomHorizontalFlip()
SETTINGS = {"epochs": 3, "batch_size": 4, "seed": 5}


def run(checkpoints=None, **options):
    """A short run on scenes with flips: 3 epochs of 3 steps."""
    torch.manual_seed(0)
    rpn = small_rpn(sizes=[16, 32])
    data = InMemory(SCENES, FLIPS)
    history = train(rpn, data, checkpoints=checkpoints, **SETTINGS, **options)
    return rpn.state_dict(), history


@pytest.fixture(scope="module")
def uninterrupted():
    return run()


def stop_after(step, how):
    def after_step(row):
        if row["step"] == step:
            how()

    return after_step


def stop():
    signal.raise_signal(signal.SIGINT)


def assert_same(one, other):
    (weights, history), (expected, expected_history) = one, other
    assert history == expected_history
    for name, weight in expected.items():
        assert torch.equal(weights[name], weight), name


@pytest.mark.parametrize("step", [1, 3, 4, 8])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_resuming_is_bit_for_bit(
    tmp_path, uninterrupted, step, kind
):
    """Within an epoch (1, 4, 8) and at the end of one (3)."""
    checkpoints = Checkpoints(tmp_path)
    stop = stop_after(step, lambda: signal.raise_signal(kind))
    with pytest.raises(Interrupted) as error:
        run(checkpoints, after_step=stop)
    assert f"Stopped after step {step} of 9. The last good checkpoint is" in str(
        error.value
    )
    torch.rand(100)  # whatever happens in between
    assert_same(run(checkpoints, resume=True), uninterrupted)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(Checkpoints(tmp_path), after_step=stop_after(2, twice))
    assert signal.getsignal(signal.SIGINT) is before


class Crash(Exception):
    pass


def crash():
    raise Crash


@pytest.mark.parametrize("options", [{"save_every": 2}, {"workers": 2}])
def test_a_crash_costs_the_steps_since_the_last_checkpoint(
    tmp_path, uninterrupted, options
):
    """Neither the checkpoints nor worker processes change the result."""
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Crash):
        run(checkpoints, after_step=stop_after(6, crash), **options)
    assert_same(run(checkpoints, resume=True, **options), uninterrupted)


def test_the_last_two_checkpoints_are_kept(tmp_path):
    run(Checkpoints(tmp_path), save_every=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-00000008.pt",
        "step-00000009.pt",
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "a bit", "text"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, uninterrupted, damage):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Crash):
        run(checkpoints, after_step=stop_after(8, crash))
    last = checkpoints.paths()[-1]
    content = last.read_bytes()
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 1])
    last.write_bytes(
        {
            "truncated": content[:-1000],
            "empty": b"",
            "a bit": content[:middle] + flipped + content[middle + 1 :],
            "text": b"no checkpoint",
        }[damage]
    )
    path, state = checkpoints.latest()
    assert path.name == "step-00000003.pt"
    assert len(state["history"]) == 3
    assert "step-00000006.pt is no checkpoint of this program, or" in str(
        checkpoints.skipped
    )
    assert_same(run(checkpoints, resume=True), uninterrupted)


def test_where_none_is_whole_the_run_does_not_start_anew(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / "step-00000003.pt").write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="No checkpoint is whole"):
        run(checkpoints, resume=True)


def test_without_a_checkpoint_resuming_starts(tmp_path, uninterrupted):
    assert_same(run(Checkpoints(tmp_path), resume=True), uninterrupted)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(Checkpoints(tmp_path))
    with pytest.raises(TrainingError, match="belongs to a run with batch_size=4, not"):
        train(
            small_rpn(sizes=[16, 32]),
            InMemory(SCENES),
            checkpoints=Checkpoints(tmp_path),
            resume=True,
            **{**SETTINGS, "batch_size": 2},
        )


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(Checkpoints(tmp_path))
    with pytest.raises(TrainingError, match="does not fit this network"):
        train(
            small_rpn(sizes=[16, 32, 48]),
            InMemory(SCENES),
            checkpoints=Checkpoints(tmp_path),
            resume=True,
            **SETTINGS,
        )


def test_a_checkpoint_of_the_first_format_goes_on(tmp_path, uninterrupted):
    """As version 2325f46 wrote it in the middle of a run: fewer settings, no format."""
    with pytest.raises(Interrupted):
        run(Checkpoints(tmp_path), after_step=stop_after(4, stop))
    path = Checkpoints(tmp_path).paths()[-1]
    state = read_state(path)
    del state["format"]
    known = ("epochs", "batch_size", "images", "seed", "lr", "weight_decay")
    known += ("optimizer", "schedule", "amp")
    state["run"] = {name: state["run"][name] for name in known}
    save_state(path, state)
    assert_same(run(Checkpoints(tmp_path), resume=True), uninterrupted)


def test_weights_alone_are_nothing_to_continue_from(tmp_path):
    run(Checkpoints(tmp_path))
    path = Checkpoints(tmp_path).paths()[-1]
    state = read_state(path)
    save_state(path, {"format": 2, "settings": {}, "model": state["model"]})
    with pytest.raises(TrainingError, match="it has no history, names, optimizer"):
        run(Checkpoints(tmp_path), resume=True)


def test_a_checkpoint_holds_nothing_but_tensors_and_plain_values(tmp_path):
    run(Checkpoints(tmp_path))
    path = Checkpoints(tmp_path).paths()[-1]
    assert torch.load(path, weights_only=True)["run"]["seed"] == 5


class Evil:
    def __reduce__(self):
        return os.system, ("mkdir evil",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "a.pt")
    with pytest.raises(TrainingError, match="no checkpoint of this program"):
        read_state(tmp_path / "a.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


# The disk


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="NOT RUN: limits of Linux"
)
def test_a_disk_that_is_full_leaves_the_last_checkpoint(tmp_path):
    """A limit on the size of files stands for the full disk."""
    resource = pytest.importorskip("resource")
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"weights": torch.zeros(1000)}, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(TrainingError) as error:
            checkpoints.save({"weights": torch.zeros(100_000)}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "The checkpoint of step 2 could not be written" in str(error.value)
    assert "The last good checkpoint is" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert len(checkpoints.latest()[1]["weights"]) == 1000


def test_a_disk_that_is_nearly_full_is_told_before_training(tmp_path, monkeypatch):
    usage = checkpoint.shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TrainingError, match=r"has 1 MB free, and 3 checkpoints of"):
        run(Checkpoints(tmp_path))


def test_a_folder_that_cannot_be_written_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"cannot be written .*Choose another fold"):
        run(Checkpoints(tmp_path / "file" / "checkpoints"))


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_state(path, {"step": 1})

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"half")
    assert read_state(path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


# SIGKILL: nothing of the process's own code runs any more


CHILD = """
import sys
import torch
torch.set_num_threads(1)
from test_resume import run
from rpn_lib.training.checkpoint import Checkpoints, save_state
def tell(row):
    print(row["step"], flush=True)
weights, history = run(Checkpoints(sys.argv[1]), resume=True, save_every=1,
    after_step=tell)
save_state(sys.argv[2], {"model": weights, "history": history})
"""


def child(folder, result):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(result)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="NOT RUN: SIGKILL is of POSIX")
def test_kills_at_random_moments_change_nothing(tmp_path, uninterrupted):
    """Two processes are killed, each a moment after a step; a third finishes.

    `make bench` does this twenty times.
    """
    for step, delay in ((2, 0.0), (5, 0.02)):
        process = child(tmp_path / "checkpoints", tmp_path / "result.pt")
        for line in process.stdout:
            if int(line) >= step:
                break
        time.sleep(delay)
        process.kill()
        process.wait()
        process.stdout.close()
        assert not (tmp_path / "result.pt").exists()
    process = child(tmp_path / "checkpoints", tmp_path / "result.pt")
    steps = [int(line) for line in process.stdout]
    assert process.wait() == 0
    process.stdout.close()
    assert 1 <= len(steps) < 9
    state = read_state(tmp_path / "result.pt")
    assert_same((state["model"], state["history"]), uninterrupted)
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == ["step-00000008.pt", "step-00000009.pt"]

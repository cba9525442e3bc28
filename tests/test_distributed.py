"""Several processes do together what one does alone, and survive the loss of one."""

import csv
import os
import subprocess
import sys

import pytest
import torch
from folders import environment, write_folder

from rpn_lib.cli import main
from rpn_lib.loss import RPNLoss
from rpn_lib.training.batch_norm import SharedBatchNorm2d, _Normalize
from rpn_lib.training.checkpoint import read_state
from rpn_lib.training.parallel import SharedLoss
from rpn_lib.training.processes import _own_cores

# What float32 sums in another order come to, relative to the loss: nothing at first,
# 3e-4 after 12 steps of SGD. (AdamW divides small gradients by their own size, and
# their rounding errors with them: 1e-3 in the same 12 steps.)
TOLERANCE = 1e-3
EARLY = 5  # steps in which it is a tenth of that at most
KILLED = 5  # the step after which process 1 is killed

# `rpn train`; process 1 is killed after a step.
PROGRAM = """
import os, signal, sys
from rpn_lib.cli import train as runs
from rpn_lib.training import parallel, processes
from rpn_lib.cli import main
original = runs.train
def train(*arguments, after_step, **options):
    def step(row):
        after_step(row)
        if processes.rank() == 1 and row["step"] == int(os.environ["KILL_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, after_step=step, **options)
runs.train = train
sys.exit(main(["train", *sys.argv[1:]]))
"""


def options(folder, out):
    text = f"--data {folder} --side 64 --epochs 4 --batch-size 4 --out {out} --device"
    text += " cpu --save-every 2 --sizes 16 32 --optimizer sgd --lr 0.02"
    return text.split()


posix = pytest.mark.skipif(
    os.name != "posix", reason="NOT RUN: torchrun and SIGKILL are of POSIX"
)


def torchrun(arguments, kill_at=-1):
    launcher = "-m torch.distributed.run --standalone --nproc-per-node 2 --no-python"
    process = subprocess.run(
        [
            *(sys.executable, *launcher.split()),
            *(sys.executable, "-c", PROGRAM, *map(str, arguments)),
        ],
        env=environment(KILL_AT=str(kill_at), OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return process.returncode, process.stdout + process.stderr


def metrics(out):
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def losses(out):
    rows = [row for row in metrics(out) if row["objectness"]]
    steps = [int(row["step"]) for row in rows]
    assert steps == list(range(1, len(steps) + 1))  # each step once: one writer
    return torch.tensor([[float(row["objectness"]), float(row["box"])] for row in rows])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder of data, and the results of one process on it."""
    base = tmp_path_factory.mktemp("distributed")
    data = write_folder(base / "data")
    assert main(["train", *options(data, base / "alone")]) == 0
    return data, base / "alone"


@posix
def test_a_killed_process_ends_the_run_and_one_alone_continues(
    alone, tmp_path, monkeypatch
):
    data, expected = alone
    out = tmp_path / "run"
    code, text = torchrun(options(data, out), kill_at=KILLED)
    assert code != 0
    assert "SIGKILL" in text or "-9" in text
    two = losses(out)
    assert KILLED <= len(two) <= KILLED + 1
    assert torch.allclose(two, losses(expected)[: len(two)], rtol=TOLERANCE / 10)
    names = sorted(path.name for path in (out / "checkpoints").glob("*.pt"))
    assert names[-1] == "step-00000004.pt"
    # Weights and the running means of batch normalisation are the same so far.
    monkeypatch.setattr("rpn_lib.cli.train.train", stop_after(4))
    assert main(["train", *options(data, tmp_path / "four")]) == 130
    monkeypatch.undo()
    first = [
        read_state(folder / "checkpoints/step-00000004.pt")["model"]
        for folder in (out, tmp_path / "four")
    ]
    for name, weight in first[1].items():
        assert torch.allclose(first[0][name], weight, rtol=1e-3, atol=1e-4), name
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert_same_results(out, expected)


@posix
def test_two_processes_continue_what_one_has_begun(alone, tmp_path, monkeypatch):
    data, expected = alone
    out = tmp_path / "run"
    monkeypatch.setattr("rpn_lib.cli.train.train", stop_after(KILLED))
    assert main(["train", *options(data, out)]) == 130
    monkeypatch.undo()
    assert len(losses(out)) == KILLED
    code, text = torchrun(["--resume", "--out", out])
    assert code == 0, text
    assert text.count("epoch 4 of 4") == 1
    assert "communication of 2 processes" in text
    assert "5 validation images, 100 proposals each" in text  # and not 6
    assert_same_results(out, expected)


def stop_after(step):
    import signal

    from rpn_lib.training import loop as module

    def train(*arguments, after_step, **options):
        def after(row):
            after_step(row)
            if row["step"] == step:
                signal.raise_signal(signal.SIGINT)

        return module.train(*arguments, after_step=after, **options)

    return train


def assert_same_results(out, expected):
    difference = (losses(out) / losses(expected) - 1).abs().amax(dim=1)
    assert difference.max() < TOLERANCE, difference
    assert difference[:EARLY].max() < TOLERANCE / 10, difference
    ours, theirs = (
        read_state(folder / "checkpoint.pt")["model"] for folder in (out, expected)
    )
    for name, weight in theirs.items():
        assert torch.allclose(ours[name], weight, rtol=0.02, atol=2e-3), name
    last = [metrics(folder)[-1] for folder in (out, expected)]
    for column in ("val_objectness", "val_box", "recall", "AR@100"):
        assert float(last[0][column]) == pytest.approx(float(last[1][column]), abs=0.01)


def test_alone_the_shared_parts_are_the_plain_ones():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 4, 4)
    shared, plain = SharedBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    assert torch.equal(shared(x), plain(x))
    assert torch.equal(shared.running_var, plain.running_var)
    arguments = torch.rand(5, 2), torch.tensor([1, 0, 0, 1, 0])
    arguments += torch.rand(2, 4), torch.rand(2, 4)
    for normalizer in ("positives", "sampled", "paper"):
        loss = RPNLoss(normalizer=normalizer)
        ours, theirs = SharedLoss(loss)(*arguments), loss(*arguments)
        assert all(torch.allclose(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last]
)
@pytest.mark.parametrize(
    ("dtype", "weights", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-12),
        (torch.float32, torch.float32, 1e-5),
        (torch.bfloat16, torch.float32, 1e-2),  # as in mixed precision
    ],
)
def test_the_parts_of_batch_normalisation_add_up(
    memory_format, dtype, weights, tolerance, monkeypatch
):
    """Two halves of a batch, one after the other, are normalised as the whole is."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = (draw(4, 6, 5, 7) * 2 + 3).to(dtype).contiguous(memory_format=memory_format)
    grad = draw(4, 6, 5, 7).to(dtype).contiguous(memory_format=memory_format)
    weight, bias = draw(2, 6).to(weights)

    def leaves(x):
        return [part.detach().clone().requires_grad_() for part in (x, weight, bias)]

    whole = leaves(x.double())
    expected = torch.nn.functional.batch_norm(
        whole[0], None, None, whole[1].double(), whole[2].double(), training=True
    )
    expected.backward(grad.double())

    # What the first half sends is kept for the second, and the other way round: the
    # first round collects what is sent, the following ones add what the other sent.
    sent = {0: [], 1: []}
    for round_ in range(3):
        before, sent = sent, {0: [], 1: []}
        results = []
        for half in (0, 1):

            def add(values, half=half, before=before, sent=sent, round_=round_):
                index = len(sent[half])
                sent[half].append(values.clone())
                if round_ == 0:
                    return 2 * values
                return values + before[1 - half][index]

            monkeypatch.setattr("rpn_lib.training.batch_norm.sum_over_processes", add)
            part = slice(2 * half, 2 * half + 2)
            own = leaves(x[part])
            y, *_ = _Normalize.apply(*own, 1e-5)
            y.backward(grad[part])
            results.append([y.detach(), *(leaf.grad for leaf in own)])
    y, x_grad = (torch.cat(parts) for parts in list(zip(*results))[:2])
    close = {"rtol": tolerance, "atol": 2 * tolerance}
    assert torch.allclose(y.double(), expected.detach(), **close)
    assert torch.allclose(x_grad.double(), whole[0].grad, **close)
    for ours, theirs in zip(list(zip(*results))[2:], whole[1:]):
        assert torch.allclose(sum(ours), theirs.grad, rtol=tolerance, atol=tolerance)


def test_processes_of_a_machine_get_cores_of_their_own(monkeypatch):
    threads = torch.get_num_threads()
    if sys.platform != "linux":
        with _own_cores("cpu"):
            assert torch.get_num_threads() == threads
        return
    before = os.sched_getaffinity(0)
    processes = min(len(before), 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    taken = []
    for number in range(processes):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        with _own_cores("cpu"):
            taken.append(os.sched_getaffinity(0))
            assert len(taken[-1]) == len(before) // processes
            assert torch.get_num_threads() <= len(taken[-1])
        assert os.sched_getaffinity(0) == before
        assert torch.get_num_threads() == threads
    assert sum(map(len, taken)) == len(set.union(*taken))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(len(before) + 1))  # too few for all
    for device in ("cpu", "cuda:0"):
        with _own_cores(device):
            assert os.sched_getaffinity(0) == before
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")

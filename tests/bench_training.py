"""Training in earnest, measured: part of `make bench`.

    python tests/bench_training.py                 # all of it
    python tests/bench_training.py kills           # one part

Parts: `kills` kills a run twenty times; `bccd` trains by the command of the README next
to torchvision's RPN; `other` runs the same command on images of another kind;
`processes` compares one process on two threads with two on one thread each.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from folders import write_folder
from test_resume import run
from torchvision.models import get_model, get_model_weights

from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.training.checkpoint import Checkpoints, read_state, save_state
from rpn_lib.training.processes import keep_memory

KILLS = 20
THREADS = torch.get_num_threads()
RESULTS = []


def told(name, value, goal, reached):
    """Print a line, and note whether the goal was reached."""
    verdict = "reached" if reached else "MISSED"
    RESULTS.append({"name": name, "value": value, "goal": goal, "reached": reached})
    print(f"{name:<52}{value:>16}   goal {goal}: {verdict}", flush=True)


# Kills at random moments


def _child(folder, result):
    torch.set_num_threads(1)
    weights, history = run(Checkpoints(folder), resume=True, save_every=1)
    save_state(result, {"model": weights, "history": history})


def kills():
    """Each run is killed once, at a moment drawn from its whole length, and resumed."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    expected, history = run()
    length = time.perf_counter() - start
    fork, rng, same, within = (
        multiprocessing.get_context("fork"),
        random.Random(0),
        0,
        0,
    )
    for _ in range(KILLS):
        with tempfile.TemporaryDirectory() as name:
            arguments = (f"{name}/checkpoints", f"{name}/result.pt")
            process = fork.Process(target=_child, args=arguments)
            process.start()
            time.sleep(rng.uniform(0, length))
            process.kill()
            process.join()
            within += process.exitcode == -signal.SIGKILL
            process = fork.Process(target=_child, args=arguments)
            process.start()
            process.join()
            state = read_state(arguments[1])
            same += state["history"] == history and all(
                torch.equal(state["model"][key], expected[key]) for key in expected
            )
    torch.set_num_threads(THREADS)
    told(
        f"kills with SIGKILL ({within} before the end)",
        f"{same} of {KILLS} equal",
        f"{KILLS}, bit for bit",
        same == KILLS,
    )


# The command


def command(arguments, processes=1, threads=THREADS, **environment):
    """`rpn train` in processes of its own; its results and the seconds it took."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node"]
        launcher += [str(processes), "-m"]
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        done = subprocess.run(
            [*launcher, "rpn_lib", "train", *map(str, arguments), "--out", out],
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **environment},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        results = json.loads((Path(out) / "results.json").read_text())
    lines = [line for line in done.stdout.splitlines() if " steps in " in line]
    print(f"  {lines[-1]}", flush=True)
    return results, seconds


def bccd_folder():
    folder = Path(os.environ.get("RPN_DATA", "data")) / "BCCD"
    if folder.is_dir():
        return folder
    print(f"BCCD: NOT RUN, {folder} is missing (set RPN_DATA to the folder above)")
    return None


def bccd():
    """`rpn train --data BCCD`; torchvision's RPN for 300 steps, on the same threads."""
    folder = bccd_folder()
    if folder is None:
        return
    from bench import bccd_with_torchvision

    results, _ = command(["--data", folder, "--on-bad-box", "drop", "--device", "cpu"])
    ours = results["seconds a step"] * 300
    keep_memory()  # as `rpn train` does
    theirs, recall_of_theirs = bccd_with_torchvision(folder)
    text = f"{results['recall@0.5/100']:.3f}"
    reached = results["recall@0.5/100"] >= 0.97
    told("BCCD, recall at IoU 0.5 with 100 proposals", text, ">= 0.97", reached)
    reached = results["AR@100"] >= 0.66
    told("BCCD, AR@100", f"{results['AR@100']:.3f}", ">= 0.66", reached)
    goal = f"{theirs:.1f} s of torchvision"
    told("BCCD, 300 steps", f"{ours:.1f} s", goal, ours <= theirs)
    print(
        f"  torchvision: recall {recall_of_theirs.at(0.5):.3f}, AR@100 "
        f"{recall_of_theirs.average:.3f}"
    )
    share = results["waiting for data"]
    told("BCCD, waiting for data", f"{share:.1%}", "< 10 %", share < 0.1)


def other():
    """The same command on larger images of fewer, larger objects.

    Images are what it takes: 120 of them, with 242 objects, gave a recall of 0.868 on
    40 others, and 320 gave 0.971 on the same 40.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = write_folder(
            Path(name) / "data",
            ShapesDataset(360, (480, 640), max_objects=4, sizes=(50, 300), seed=7),
            train=320,
        )
        results, _ = command(["--data", folder, "--device", "cpu"])
    reached = results["recall@0.5/100"] >= 0.9
    text = f"{results['recall@0.5/100']:.3f}"
    told("other images, recall at IoU 0.5, 100 proposals", text, ">= 0.90", reached)


def random_weights(home, name):
    """Weights of torchvision's shape where torch's cache is: nothing is downloaded.

    What they hold makes no difference to how long a step takes.
    """
    folder = Path(home) / "hub/checkpoints"
    folder.mkdir(parents=True)
    url = get_model_weights(name).DEFAULT.url
    torch.save(get_model(name).state_dict(), folder / url.split("/")[-1])


def apart(arguments, home):
    """Two processes that never meet, half a batch for each: the mean of their steps.

    What two processes that do meet could reach if meeting cost nothing.
    """

    def half(_):
        run, _ = command([*arguments, "--batch-size", 4], threads=1, TORCH_HOME=home)
        return run["seconds a step"]

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(half, range(2))) / 2


def processes():
    """One process on two threads, and two on one thread each, on the same batches.

    They meet twice a step for each batch normalisation that is learnt, as often for
    small images as for large ones. That of pretrained backbones is frozen.
    """
    folder = bccd_folder()
    if folder is None:
        return
    same = ["--data", folder, "--on-bad-box", "drop", "--device", "cpu"]
    frozen = "mobilenet_v3_large"
    with tempfile.TemporaryDirectory() as home:
        random_weights(home, frozen)
        for text, more in {
            "small, 240 pixels": ["--side", 240, "--epochs", 2],
            "small, 480 pixels": ["--side", 480, "--epochs", 1],
            f"{frozen}, frozen": ["--backbone", frozen, "--pretrained", "--epochs", 1],
        }.items():
            one, _ = command([*same, *more], processes=1, threads=2, TORCH_HOME=home)
            two, _ = command([*same, *more], processes=2, threads=1, TORCH_HOME=home)
            ratio = one["seconds a step"] / two["seconds a step"]
            name = f"two processes to one, {text}"
            told(name, f"{ratio:.2f}", ">= 1.0", ratio >= 1)
            limit = one["seconds a step"] / apart([*same, *more], home)
            print(
                f"  communication of the two: {two['communication']:.1%} of a step, "
                f"partly beside computation; if they never met: {limit:.2f}"
            )


PARTS = {"kills": kills, "bccd": bccd, "other": other, "processes": processes}


def main(names=()):
    """Run the parts that are named, or all."""
    for name in names or PARTS:
        PARTS[name]()
    return RESULTS


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    main(parser.parse_args().parts)

"""Train the network that comes with the library anew, and write its weights.

    python tools/make_scenes.py                    # into rpn_lib/scenes.pt
    python tools/make_scenes.py --out other.pt

400 synthetic scenes, 12 epochs of batches of 8 with the defaults of `TrainConfig`,
flips in both directions: what `rpn train` does by default. The weights are stored in
half precision. Another processor sums in another order and ends with other digits, so
the file is not the same to the bit, and the chapters that show its numbers must be run
again (`make notebooks`). What must be the same is how much it finds: recall of both is
printed, and a network that finds less than the stored one is not written.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from rpn_lib import ShapesDataset, measure, small_rpn, train, trained_rpn
from rpn_lib.data.augment import Augment
from rpn_lib.data.batches import InMemory
from rpn_lib.models import SIZES, network_of
from rpn_lib.training.checkpoint import save_state

OUT = Path(__file__).resolve().parent.parent / "rpn_lib" / "scenes.pt"
TOLERANCE = 0.01  # of AR@100: what another processor may make of the same recipe


def made(length: int = 400, epochs: int = 12) -> dict[str, object]:
    """Settings and weights of a network trained now."""
    torch.manual_seed(0)
    rpn = small_rpn(SIZES)
    scenes = InMemory(ShapesDataset(length), Augment(("flip", "updown")))
    train(rpn, scenes, epochs=epochs, progress=True)
    model = {name: _half(value) for name, value in rpn.state_dict().items()}
    return {"settings": {"sizes": list(SIZES)}, "model": model}


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument("--length", type=int, default=400, help="scenes to learn from")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    state = made(options.length, options.epochs)
    found = {}
    for name, rpn in (("stored", trained_rpn()), ("new", network_of(state))):
        at = measure(rpn, ShapesDataset(100, seed=1)).evaluation.recall(100)
        found[name] = at.average
        print(f"{name:7} recall at IoU 0.5 {at.at(0.5):.3f}, AR@100 {at.average:.3f}")
    if found["new"] < found["stored"] - TOLERANCE:
        print("The new network finds less than the stored one: nothing was written.")
        return 1
    save_state(options.out, state)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

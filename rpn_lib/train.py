"""Training: the loop, and a command line around it.

    python -m rpn_lib.train                       # on scenes made on the fly
    python -m rpn_lib.train --data FOLDER         # on a Pascal-VOC folder

It writes a checkpoint, a line an epoch, the final recall and a picture of proposals on
validation images.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm  # not tqdm.auto: it warns in kernels without ipywidgets

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.boxes import BoxError
from rpn_lib.data import DataError, InMemory, Sample, ShapesDataset, VOCFolder, collate
from rpn_lib.evaluate import recall
from rpn_lib.loss import RPNLoss
from rpn_lib.network import SmallBackbone
from rpn_lib.nms import Proposals
from rpn_lib.rpn import RegionProposalNetwork


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which images and why."""


def small_rpn(
    sizes: Sequence[float] = (24, 40, 64, 96),
    aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
    **options: Any,
) -> RegionProposalNetwork:
    """An RPN on the small backbone: one level, stride 16.

    Args:
        sizes: anchor sizes, pixels.
        aspect_ratios: width / height of the anchors.
        **options: handed on to `RegionProposalNetwork`. The loss has beta 0.1 if none
            is given; deltas are mostly smaller than 1, all on the parabola of beta 1.

    >>> sum(p.numel() for p in small_rpn().parameters()) < 1_000_000
    True
    """
    backbone = SmallBackbone()
    options.setdefault("loss", RPNLoss(beta=0.1))
    anchors = AnchorGenerator([list(sizes)], aspect_ratios, strides=[backbone.stride])
    return RegionProposalNetwork(backbone, anchors, **options)


def train(
    rpn: RegionProposalNetwork,
    dataset: Dataset[Sample],
    *,
    epochs: int = 12,
    batch_size: int = 8,
    lr: float = 2e-3,
    weight_decay: float = 1e-2,
    seed: int = 0,
    progress: bool = False,
    after_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train with AdamW and a one-cycle schedule.

    Args:
        rpn: trained in place, on the device where it is.
        dataset: samples as in `rpn_lib.data`.
        epochs: passes over the data set, 1 or more.
        batch_size: images of a step; a last, smaller batch is left out.
        lr: highest learning rate of the cycle.
        weight_decay: of AdamW.
        seed: of the order of the images and of the sampled anchors.
        progress: show a bar.
        after_epoch: called with the number of the epoch and its mean losses.

    Returns:
        for each step its losses, by name.

    Raises:
        TrainingError: a loss that is not finite, or fewer images than a batch.

    >>> history = train(small_rpn(), ShapesDataset(length=2), epochs=1, batch_size=2)
    >>> sorted(history[0])
    ['box', 'objectness']
    """
    device = next(rpn.parameters()).device
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        generator=order,
    )
    if epochs < 1 or not len(loader):
        raise TrainingError(
            f"{epochs} epochs of {len(loader)} batches of {batch_size} images: nothing "
            "to train on. Give more epochs, more images or smaller batches."
        )
    rpn.generator = torch.Generator().manual_seed(seed)
    # Channels last is the order that convolutions on a processor like best.
    rpn.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(rpn.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=epochs * len(loader)
    )
    history: list[dict[str, float]] = []
    bar = tqdm(total=epochs * len(loader), disable=not progress, unit="step")
    for epoch in range(epochs):
        for images, targets in loader:
            names = [target["image_id"] for target in targets]
            boxes = [target["boxes"].as_subclass(Tensor) for target in targets]
            images = [image.to(device) for image in images]
            losses = rpn(images, boxes, propose=False, names=names).losses
            total = losses["objectness"] + losses["box"]
            if not total.isfinite():
                raise TrainingError(
                    f"The loss of step {len(history)} is not finite. The images were "
                    f"{', '.join(names)}. Look at their boxes, or lower lr={lr}."
                )
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            schedule.step()
            history.append({name: loss.item() for name, loss in losses.items()})
            bar.update()
        if after_epoch is not None:
            last = history[-len(loader) :]
            after_epoch(
                epoch, {k: sum(h[k] for h in last) / len(last) for k in last[0]}
            )
    bar.close()
    return history


@torch.no_grad()
def propose(
    rpn: RegionProposalNetwork, dataset: Dataset[Sample], batch_size: int = 8
) -> tuple[list[Proposals], list[Tensor]]:
    """Proposals for every image of a data set, with its true boxes.

    Args:
        rpn: put into evaluation mode, and back as it was.
        dataset: samples as in `rpn_lib.data`.
        batch_size: images at a time.

    Returns:
        for each image its proposals, and its true boxes `(G, 4)`.

    >>> proposals, gt_boxes = propose(small_rpn(), ShapesDataset(length=3))
    >>> len(proposals), len(gt_boxes)
    (3, 3)
    """
    was_training = rpn.training
    rpn.eval()
    device = next(rpn.parameters()).device
    proposals: list[Proposals] = []
    gt_boxes: list[Tensor] = []
    for images, targets in DataLoader(dataset, batch_size, collate_fn=collate):
        proposals += rpn([image.to(device) for image in images]).proposals
        gt_boxes += [target["boxes"].as_subclass(Tensor) for target in targets]
    rpn.train(was_training)
    return proposals, gt_boxes


def load_checkpoint(path: str | Path) -> RegionProposalNetwork:
    """Build the network that a checkpoint of the command line holds.

    Args:
        path: the `checkpoint.pt` that a run has written.

    Returns:
        the trained network, in evaluation mode, on the CPU.

    Raises:
        TrainingError: no such file, or one that is no checkpoint.

    >>> load_checkpoint("nowhere.pt")
    Traceback (most recent call last):
    rpn_lib.train.TrainingError: nowhere.pt is missing; train first, or name another.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        rpn = small_rpn(**saved["settings"])
        rpn.load_state_dict(saved["model"])
    except FileNotFoundError as error:
        raise TrainingError(
            f"{path} is missing; train first, or name another."
        ) from error
    except Exception as error:  # torch raises half a dozen kinds for a broken file
        raise TrainingError(
            f"{path} is no checkpoint of this program: {error}"
        ) from error
    return rpn.eval()


def trained_rpn() -> RegionProposalNetwork:
    """The network that `python -m rpn_lib.train` makes on the scenes, ready to use.

    Its weights come with the library, in half precision, so that what is shown of a
    trained network is the same on every machine.

    Returns:
        the network in evaluation mode, on the CPU, in float32.

    >>> scenes = ShapesDataset(length=20, seed=1)
    >>> proposals, gt_boxes = propose(trained_rpn(), scenes)
    >>> recall(proposals, gt_boxes, k=100).at(0.5) > 0.9
    True
    """
    with as_file(files("rpn_lib") / "scenes.pt") as path:
        return load_checkpoint(path)


def _data(arguments: argparse.Namespace) -> tuple[Dataset[Sample], Dataset[Sample]]:
    flips = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
    if arguments.data is None:
        return InMemory(ShapesDataset(400), flips), InMemory(ShapesDataset(100, seed=1))
    folders = [
        VOCFolder(
            arguments.data, split, v2.Resize(arguments.side), arguments.on_bad_box
        )
        for split in (arguments.train_split, arguments.val_split)
    ]
    for line in (line for folder in folders for line in folder.dropped):
        print(f"dropped: {line}", file=sys.stderr)
    return InMemory(folders[0], flips), InMemory(folders[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rpn_lib.train",
        description="Train a Region Proposal Network from scratch; measure its recall.",
        epilog="With no argument it trains on scenes made on the fly: about a minute.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="Pascal-VOC folder (default: scenes)",
    )
    add("--train-split", default="train", help="list in ImageSets/Main to train on")
    add("--val-split", default="val", help="list in ImageSets/Main to measure on")
    add(
        "--side", type=int, default=240, help="resize photographs: shorter side, pixels"
    )
    add(
        "--on-bad-box",
        choices=("error", "drop"),
        default="error",
        help="stop at an annotation that cannot be right, or leave it out and say so",
    )
    add("--sizes", type=float, nargs="+", default=[24, 40, 64, 96], help="anchor sizes")
    add("--epochs", type=int, default=12, help="passes over the training images")
    add("--batch-size", type=int, default=8, help="images of a step")
    add("--lr", type=float, default=2e-3, help="highest learning rate")
    add("--seed", type=int, default=0, help="of weights, order, flips and sampling")
    add("--device", default="cpu", help="where to train: cpu, cuda, mps")
    add("--out", type=Path, default=Path("runs/rpn"), help="folder for the results")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; `python -m rpn_lib.train --help` explains it.

    Returns:
        0, or 2 after one line on what was wrong.

    >>> main(["--data", "nowhere"])  # the line goes to standard error
    2
    """
    from rpn_lib.draw import found_figure  # matplotlib is for the command line only

    options = _parser().parse_args(arguments)
    try:
        train_set, val_set = _data(options)
        options.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        settings = {"sizes": options.sizes}
        rpn = small_rpn(**settings).to(options.device)

        def after_epoch(epoch: int, losses: dict[str, float]) -> None:
            text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            tqdm.write(f"epoch {epoch + 1} of {options.epochs}: {text}")

        train(
            rpn,
            train_set,
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            seed=options.seed,
            progress=True,
            after_epoch=after_epoch,
        )
        checkpoint = options.out / "checkpoint.pt"
        torch.save({"settings": settings, "model": rpn.state_dict()}, checkpoint)
        proposals, gt_boxes = propose(rpn, val_set)
        result = recall(proposals, gt_boxes, k=100)
        print(
            f"{len(gt_boxes)} validation images, 100 proposals each: recall at IoU 0.5 "
            f"{result.at(0.5):.3f}, AR@100 {result.average:.3f}"
        )
        picture = options.out / "proposals.png"
        some = [i for i, boxes in enumerate(gt_boxes) if len(boxes)][:6]
        found_figure(
            [val_set[i][0] for i in some],
            [gt_boxes[i] for i in some],
            [proposals[i].boxes for i in some],
        ).savefig(picture, dpi=100)
        print(f"wrote {checkpoint} and {picture}")
    except (BoxError, DataError, TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

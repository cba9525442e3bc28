"""Measuring a network on a data set, and comparing two.

`measure` goes through a data set once and keeps what `rpn_lib.evaluation` says about
the proposals, and the losses. With several processes each looks at its share of the
images, and each image counts once, whatever their number.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rpn_lib.data.batches import collate
from rpn_lib.data.records import Sample
from rpn_lib.evaluation import AREAS, Evaluation, average_precision, evaluate
from rpn_lib.nms import Proposals
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training.processes import gather, rank, world_size


class Measured(NamedTuple):
    """What `measure` finds out; `print` shows it.

    Attributes:
        evaluation: recall for every number of proposals, threshold and object area.
        losses: mean over the images of each loss, by name.
        proposals: of each image.
        gt_boxes: `(G, 4)` of each image.
        precision: COCO's average precision, or `None` if it was not asked for.
    """

    evaluation: Evaluation
    losses: dict[str, float]
    proposals: list[Proposals]
    gt_boxes: list[Tensor]
    precision: dict[str, float] | None = None

    def summary(self) -> str:
        """The most important numbers in one line."""
        at = self.evaluation.recall(100)
        return (
            f"{len(self.gt_boxes)} validation images, 100 proposals each: recall at "
            f"IoU 0.5 {at.at(0.5):.3f}, AR@100 {at.average:.3f}"
        )

    def numbers(self) -> dict[str, float]:
        """The same and more, by name, for a file."""
        at = self.evaluation.recall
        values = {
            "recall@0.5/100": at(100).at(0.5),
            **{f"AR@{k}": at(k).average for k in (10, 100, 300, 1000)},
            **{
                f"AR@100 {area}": at(100, area).average
                for area in self.evaluation.ranks
                if area != "all"
            },
            **{f"{name} loss": value for name, value in self.losses.items()},
            **(self.precision or {}),
        }
        return {name: round(value, 6) for name, value in values.items()}

    def __str__(self) -> str:
        lines = [str(self.evaluation)]
        losses = ", ".join(f"{name} {x:.4f}" for name, x in self.losses.items())
        lines.append(f"losses: {losses}")
        if self.precision is not None:
            parts = (f"{name} {x:.3f}" for name, x in self.precision.items())
            lines.append(f"precision, 100 proposals: {', '.join(parts)}")
        return "\n".join(lines)


@torch.no_grad()
def measure(
    rpn: RegionProposalNetwork,
    dataset: Dataset[Sample],
    *,
    precision: bool = False,
    workers: int = 0,
    seed: int = 0,
) -> Measured:
    """Evaluate a network on a data set.

    Images are looked at one by one, so neither the size of a batch nor the number of
    processes changes the result.

    Args:
        rpn: put into evaluation mode, and back as it was.
        dataset: samples as in `rpn_lib.data`.
        precision: compute average precision too, which needs torchmetrics.
        workers: processes that read images.
        seed: of the anchors that the losses are taken of.

    Returns:
        the same in every process.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import trained_rpn
    >>> result = measure(trained_rpn(), ShapesDataset(length=20, seed=1))
    >>> result.evaluation.recall(100).at(0.5) > 0.9
    True
    """
    was_training, generator = rpn.training, rpn.generator
    rpn.eval()
    device = next(rpn.parameters()).device
    length = len(dataset)  # type: ignore[arg-type]
    mine = range(rank(), length, world_size())
    loader = DataLoader(
        dataset,
        sampler=mine,
        collate_fn=collate,
        num_workers=workers,
        generator=torch.Generator(),
    )
    rows = []
    try:
        for index, ([image], [target]) in zip(mine, loader):
            rpn.generator = [torch.Generator().manual_seed(seed * 1_000_003 + index)]
            boxes = target["boxes"].as_subclass(Tensor)
            regions = target.get("ignore_boxes", boxes[:0]).as_subclass(Tensor)
            output = rpn(
                [image.to(device)],
                [boxes],
                names=[str(target["image_id"])],
                ignore_boxes=[regions],
            )
            [found] = output.proposals or []
            losses = {name: loss.item() for name, loss in (output.losses or {}).items()}
            cpu = Proposals(found.boxes.cpu(), found.scores.cpu())
            rows.append((index, cpu, boxes, regions, losses))
    finally:
        rpn.train(was_training)
        rpn.generator = generator
    rows = sorted(gather(rows), key=lambda row: row[0])
    proposals, gt_boxes = [row[1] for row in rows], [row[2] for row in rows]
    names = rows[0][4] if rows else {}
    ap = None
    if precision:
        with_crowds = [torch.cat([row[2], row[3]]) for row in rows]
        flags = [
            torch.arange(len(both)) >= len(row[2])
            for both, row in zip(with_crowds, rows)
        ]
        ap = average_precision(proposals, with_crowds, flags)
    return Measured(
        evaluate(proposals, gt_boxes, areas=AREAS),
        {name: sum(row[4][name] for row in rows) / len(rows) for name in names},
        proposals,
        gt_boxes,
        ap,
    )


class Comparison(NamedTuple):
    """Two networks on the same images; `print` shows both and the difference.

    Attributes:
        first, second: what `measure` found out about each.
        names: what they are called.
        difference: AR@100 of the second less that of the first.
        interval: the middle 95 % of that difference over 1,000 data sets drawn from the
            images with replacement: where it holds 0, other images might turn the
            result round.
    """

    first: Measured
    second: Measured
    names: tuple[str, str]
    difference: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.interval
        return "\n".join(
            [
                f"{self.names[0]}\n{self.first}\n",
                f"{self.names[1]}\n{self.second}\n",
                f"AR@100 of {self.names[1]} less that of {self.names[0]}: "
                f"{self.difference:+.3f}, 95 % between {low:+.3f} and {high:+.3f}"
                + (" (no clear difference)" if low <= 0 <= high else ""),
            ]
        )


def compare(
    networks: Mapping[str, RegionProposalNetwork],
    dataset: Dataset[Sample],
    *,
    precision: bool = False,
    workers: int = 0,
) -> Comparison:
    """Evaluate two networks on the same images, and say how sure the difference is.

    Args:
        networks: two, by name.
        dataset: samples as in `rpn_lib.data`.
        precision: see `measure`.
        workers: see `measure`.

    Raises:
        ValueError: not two networks.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import small_rpn, trained_rpn
    >>> networks = {"untrained": small_rpn(), "trained": trained_rpn()}
    >>> result = compare(networks, ShapesDataset(length=10, seed=1))
    >>> result.difference > 0.2 and result.interval[0] > 0
    True
    """
    if len(networks) != 2:
        raise ValueError(f"compare takes two networks, not {len(networks)}.")
    results = [
        measure(rpn, dataset, precision=precision, workers=workers)
        for rpn in networks.values()
    ]
    # AR@100 is the mean over boxes of a score that each box has by itself.
    scores = [
        (result.evaluation.ranks["all"] < 100).float().mean(dim=0) for result in results
    ]
    counts = torch.tensor([len(boxes) for boxes in results[0].gt_boxes])
    gain = torch.zeros(len(counts)).index_add(
        0, torch.arange(len(counts)).repeat_interleave(counts), scores[1] - scores[0]
    )  # of each image
    draws = torch.randint(
        len(counts),
        (1000, len(counts)),
        generator=torch.Generator().manual_seed(0),
    )
    drawn = gain[draws].sum(dim=1) / counts[draws].sum(dim=1).clamp(min=1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
    first, second = networks
    return Comparison(
        results[0],
        results[1],
        (first, second),
        float(gain.sum() / counts.sum().clamp(min=1)),
        (low, high),
    )


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

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import small_rpn
    >>> proposals, gt_boxes = propose(small_rpn(), ShapesDataset(length=3))
    >>> len(proposals), len(gt_boxes)
    (3, 3)
    """
    was_training = rpn.training
    rpn.eval()
    device = next(rpn.parameters()).device
    proposals: list[Proposals] = []
    gt_boxes: list[Tensor] = []
    loader = DataLoader(
        dataset, batch_size, collate_fn=collate, generator=torch.Generator()
    )
    for images, targets in loader:
        proposals += rpn([image.to(device) for image in images]).proposals
        gt_boxes += [target["boxes"].as_subclass(Tensor) for target in targets]
    rpn.train(was_training)
    return proposals, gt_boxes

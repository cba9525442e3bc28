"""Measuring a network on a data set, and comparing two.

`measure` goes through a data set once and keeps what `rpn_lib.evaluation` says about
the proposals, and the losses. With several processes each looks at its share of the
images, and each image counts once, whatever their number.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rpn_lib.data.batches import collate
from rpn_lib.data.records import Sample
from rpn_lib.data.resize import Resize
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.evaluation import AREAS, Evaluation, evaluate
from rpn_lib.nms import Proposals
from rpn_lib.precision import average_precision
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.training.processes import gather, rank, world_size


class Measured(NamedTuple):
    """What `measure` finds out; `print` shows it.

    Attributes:
        evaluation: recall for every number of proposals, threshold and object area.
        losses: mean over the images of each loss, by name.
        proposals: the proposals for each image.
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
        precision: compute average precision too, by `rpn_lib.precision`.
        workers: processes that read images.
        seed: which anchors are sampled for the losses.

    Returns:
        the same in every process.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import trained_rpn
    >>> result = measure(trained_rpn(), ShapesDataset(length=20, seed=1))
    >>> result.evaluation.recall(100).at(0.5) > 0.9
    True
    """
    rows = _look(rpn, dataset, workers=workers, seed=seed)
    proposals, gt_boxes = [row.proposals for row in rows], [row.boxes for row in rows]
    names = rows[0].losses if rows else {}
    return Measured(
        evaluate(proposals, gt_boxes, areas=AREAS),
        {name: sum(row.losses[name] for row in rows) / len(rows) for name in names},
        proposals,
        gt_boxes,
        _precision(rows) if precision else None,
    )


class _Row(NamedTuple):
    """What is found out about one image: number, boxes, regions to ignore, losses."""

    number: int
    proposals: Proposals
    boxes: Tensor
    regions: Tensor
    losses: dict[str, float]


@torch.no_grad()
def _look(
    rpn: RegionProposalNetwork,
    dataset: Dataset[Sample],
    *,
    batch_size: int = 1,
    workers: int = 0,
    seed: int | None = None,
) -> list[_Row]:
    """Look at every image in evaluation mode, each process at its share of them.

    Args:
        rpn: put into evaluation mode, and back as it was.
        dataset: samples as in `rpn_lib.data`.
        batch_size: images at a time.
        workers: processes that read images.
        seed: which anchors are sampled for the losses; no losses if not given. They are
            those of a batch, so `batch_size` is 1 with them.

    Returns:
        the same in every process, on the CPU, in the order of the images.
    """
    mine = range(rank(), len(dataset), world_size())  # type: ignore[arg-type]
    loader = DataLoader(
        dataset,
        batch_size,
        sampler=mine,
        collate_fn=collate,
        num_workers=workers,
        generator=torch.Generator(),
    )
    device = next(rpn.parameters()).device
    rows: list[_Row] = []
    with evaluating(rpn):
        for images, targets in loader:
            indices = mine[len(rows) : len(rows) + len(images)]
            boxes = [target["boxes"] for target in targets]
            regions = [
                target.get("ignore_boxes", own[:0])
                for target, own in zip(targets, boxes)
            ]
            images, losses = [image.to(device) for image in images], {}
            if seed is None:
                output = rpn(images)
            else:
                output = rpn(
                    images,
                    boxes,
                    names=[str(target["image_id"]) for target in targets],
                    ignore_boxes=regions,
                    generator=[
                        torch.Generator().manual_seed(seed * 1_000_003 + index)
                        for index in indices
                    ],
                )
                losses = {name: x.item() for name, x in (output.losses or {}).items()}
            found = [
                Proposals(one.boxes.cpu(), one.scores.cpu())
                for one in output.proposals or []
            ]
            rows += map(_Row, indices, found, boxes, regions, [losses] * len(found))
    return sorted(gather(rows), key=_number)


def _number(row: _Row) -> int:
    return row.number


@contextmanager
def evaluating(rpn: RegionProposalNetwork) -> Iterator[None]:
    """A network in evaluation mode for a while, and back as it was.

    >>> from rpn_lib.models import small_rpn
    >>> rpn = small_rpn().train()
    >>> with evaluating(rpn):
    ...     print(rpn.training)
    False
    >>> rpn.training
    True
    """
    was_training = rpn.training
    rpn.eval()
    try:
        yield
    finally:
        rpn.train(was_training)


def _precision(rows: Sequence[_Row]) -> dict[str, float]:
    """Average precision; what is found in a region to ignore is not counted."""
    boxes = [torch.cat([row.boxes, row.regions]) for row in rows]
    flags = [
        torch.arange(len(both)) >= len(row.boxes) for both, row in zip(boxes, rows)
    ]
    return average_precision([row.proposals for row in rows], boxes, flags)


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
        SettingError: not two networks.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import small_rpn, trained_rpn
    >>> networks = {"untrained": small_rpn(), "trained": trained_rpn()}
    >>> result = compare(networks, ShapesDataset(length=10, seed=1))
    >>> result.difference > 0.2 and result.interval[0] > 0
    True
    """
    if len(networks) != 2:
        raise SettingError(f"compare takes two networks, not {len(networks)}.")
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


def propose(
    rpn: RegionProposalNetwork, dataset: Dataset[Sample], batch_size: int = 8
) -> tuple[list[Proposals], list[Tensor]]:
    """Proposals for every image of a data set, with its true boxes.

    Args:
        rpn: put into evaluation mode, and back as it was.
        dataset: samples as in `rpn_lib.data`.
        batch_size: images at a time.

    Returns:
        for each image its proposals, and its true boxes `(G, 4)`, on the CPU; the same
        in every process.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import small_rpn
    >>> proposals, gt_boxes = propose(small_rpn(), ShapesDataset(length=3))
    >>> len(proposals), len(gt_boxes)
    (3, 3)
    """
    rows = _look(rpn, dataset, batch_size=batch_size)
    return [row.proposals for row in rows], [row.boxes for row in rows]


@torch.no_grad()
def propose_in(
    rpn: RegionProposalNetwork, image: Tensor, side: int | None = None
) -> tuple[Tensor, Tensor]:
    """Proposals in one photograph, in its own pixels.

    Args:
        rpn: the network; it is put into evaluation mode, and back as it was.
        image: `(3, H, W)`, uint8.
        side: shorter side to resize to before; as it is if not given.

    Returns:
        boxes `(K, 4)`, xyxy, and scores `(K,)`, on the CPU, the best first.

    Raises:
        BoxError: an image of another kind.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.models import trained_rpn
    >>> image, target = ShapesDataset(seed=1)[2]
    >>> propose_in(trained_rpn(), image)[0].shape[1]
    4
    """
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3:
        kind, shape = getattr(image, "dtype", type(image)), getattr(image, "shape", ())
        raise BoxError(
            "propose_in takes an image as a tensor (3, H, W) of uint8, 0 to 255, which "
            f"read_image makes of a photograph, not {kind} {tuple(shape)}."
        )
    height, width = image.shape[1:]
    pixels = image.as_subclass(Tensor)
    if side is not None:
        pixels = Resize(side).resize(pixels)
    small = pixels.float() / 255
    with evaluating(rpn):
        [found] = rpn([small.to(next(rpn.parameters()).device)]).proposals
    factors = torch.tensor([width / small.shape[2], height / small.shape[1]] * 2)
    return found.boxes.cpu() * factors, found.scores.cpu()

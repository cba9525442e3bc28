"""Whole networks, built from a few settings that a checkpoint can hold.

Dimension letters: L levels; A anchor shapes of a level.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.backbones import STAGES, SmallBackbone, TorchvisionBackbone
from rpn_lib.errors import SettingError, TrainingError, arguments_of, refuse_unknown
from rpn_lib.loss import RPNLoss
from rpn_lib.pyramid import SmallPyramid
from rpn_lib.rpn import RegionProposalNetwork

# Anchor sizes of the small network, pixels: the objects of scenes are 16 to 96 large.
SIZES = (24, 40, 64, 96)

BACKBONES = ("small", *STAGES)


def count_levels(backbone: str, fpn: bool) -> int:
    """How many levels `build_rpn` makes: anchors are shared out among so many.

    >>> count_levels("small", fpn=True), count_levels("resnet18", fpn=True)
    (4, 5)
    """
    if not fpn:
        return 1
    return 4 if backbone == "small" else 5


def small_rpn(
    sizes: Sequence[float] = SIZES,
    aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
    **options: Any,
) -> RegionProposalNetwork:
    """An RPN on the small backbone: one level, stride 16.

    Args:
        sizes: anchor sizes, pixels; 24, 40, 64 and 96 if not given.
        aspect_ratios: width / height of the anchors.
        **options: handed on to `RegionProposalNetwork`. The loss has beta 0.1 if none
            is given; deltas are mostly smaller than 1, all on the parabola of beta 1.

    >>> sum(p.numel() for p in small_rpn().parameters()) < 1_000_000
    True
    """
    return build_rpn(sizes=sizes, aspect_ratios=aspect_ratios, **options)


def build_rpn(
    backbone: str = "small",
    *,
    fpn: bool = False,
    weights: str | None = None,
    sizes: Sequence[float] | None = None,
    aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
    shapes: Sequence[Sequence[float]] | None = None,
    **options: Any,
) -> RegionProposalNetwork:
    """An RPN on any backbone, its anchors shared out among the levels.

    Args:
        backbone: `"small"`, or a name that `TorchvisionBackbone` knows.
        fpn: with a feature pyramid: strides 4 to 32 on the small backbone, 4 to 64 on
            the others.
        weights: `None` for random ones, `"DEFAULT"` for those learnt on ImageNet, which
            `"small"` does not have.
        sizes: anchor sizes, pixels; with a pyramid one for each level, the smallest
            first. If not given, 24 to 96, with a pyramid 16 to 128 on the small
            backbone and 32 to 512 on the others.
        aspect_ratios: width / height of the anchors of each size.
        shapes: in place of sizes and ratios, `(width, height)` of L times A shapes, the
            smallest area first, as `suggest_shapes` gives them; each level gets A.
        **options: handed on to `RegionProposalNetwork`, as in `small_rpn`.

    Raises:
        SettingError: settings that do not fit together, or that there are not.
        DownloadError: weights that cannot be downloaded.

    >>> build_rpn(shapes=[[10, 20], [40, 40]]).anchors.levels[0].tolist()
    [[10.0, 20.0], [40.0, 40.0]]
    >>> build_rpn(fpn=True).anchors
    AnchorGenerator(num_anchors=[3, 3, 3, 3], strides=(4, 8, 16, 32))
    """
    given = arguments_of(build_rpn, RegionProposalNetwork) - {"anchors"}
    refuse_unknown(options, given)
    if backbone == "small":
        if weights is not None:
            raise SettingError(
                "The small backbone has no pretrained weights; take one of "
                f"{', '.join(STAGES)}."
            )
        body: Any = SmallPyramid() if fpn else SmallBackbone()
    else:
        body = TorchvisionBackbone(backbone, fpn=fpn, weights=weights)
    levels = len(body.strides)
    options.setdefault("loss", RPNLoss(beta=0.1))
    if shapes is not None:
        if not shapes or len(shapes) % levels:
            raise SettingError(
                f"{len(shapes)} anchor shapes cannot be shared out evenly among "
                f"{levels} levels."
            )
        each = len(shapes) // levels
        parts = [list(shapes[i : i + each]) for i in range(0, len(shapes), each)]
        anchors = AnchorGenerator(shapes=parts, strides=body.strides)
    else:
        if sizes is None:
            first = 16 if backbone == "small" else 32
            doubled = tuple(first * 2**level for level in range(levels))
            sizes = doubled if fpn else SIZES
        chosen = list(sizes)
        if fpn and len(chosen) != levels:
            raise SettingError(
                f"{len(chosen)} anchor sizes for {levels} levels of the pyramid; give "
                "one for each, the smallest first."
            )
        per_level = [[size] for size in chosen] if fpn else [chosen]
        anchors = AnchorGenerator(per_level, aspect_ratios, strides=body.strides)
    return RegionProposalNetwork(body, anchors, **options)


def network_of(
    state: Mapping[str, Any], path: str | Path = "state"
) -> RegionProposalNetwork:
    """The network that a checkpoint holds, in evaluation mode, on the CPU.

    Nothing is downloaded: the checkpoint has all weights.

    Args:
        state: what a checkpoint holds: `settings` and `model`.
        path: what to call it in a message.

    Raises:
        TrainingError: a state without network, or one of another program.
    """
    try:
        settings = dict(state["settings"])
        settings.pop("weights", None)
        rpn = build_rpn(**settings)
        rpn.load_state_dict(state["model"])
    except Exception as error:
        raise TrainingError(
            f"{path} is no checkpoint of this program: {error}"
        ) from error
    return rpn.eval()


def trained_rpn() -> RegionProposalNetwork:
    """A network that was trained on 400 synthetic scenes for 12 epochs, ready to use.

    Its weights come with the library, in half precision, so that what is shown of a
    trained network is the same on every machine. `tools/make_scenes.py` in the
    repository of the book is how they were made.

    Returns:
        the network in evaluation mode, on the CPU, in float32.

    >>> from rpn_lib.data.scenes import ShapesDataset
    >>> from rpn_lib.evaluation import recall
    >>> from rpn_lib.training.measure import propose
    >>> scenes = ShapesDataset(length=20, seed=1)
    >>> proposals, gt_boxes = propose(trained_rpn(), scenes)
    >>> recall(proposals, gt_boxes, k=100).at(0.5) > 0.9
    True
    """
    with as_file(files("rpn_lib") / "scenes.pt") as path:
        return network_of(torch.load(path, weights_only=True), path)

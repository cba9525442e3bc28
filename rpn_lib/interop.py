"""The bridge to torchvision's detectors.

torchvision's head gives one logit for each anchor, ours two scores whose difference is
that logit. Weights go over in both directions without a change in a single bit, and our
network takes the place of the RPN in torchvision's `FasterRCNN`.

Dimension letters: B images; C channels; G true boxes of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.boxes import check_boxes
from rpn_lib.errors import SettingError
from rpn_lib.head import RPNHead
from rpn_lib.loss import RPNLoss
from rpn_lib.matching import MatchRule
from rpn_lib.nms import ProposalSelector
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.sampling import SampleRule


def load_torchvision_head(head: RPNHead, state: Mapping[str, Tensor]) -> None:
    """Give our head the weights of torchvision's.

    The score of background becomes 0 everywhere, the score of object their logit.

    Args:
        head: ours; its weights are overwritten.
        state: the weights of theirs: `rpn.head.state_dict()`.

    Raises:
        SettingError: names that are not those of a head of this depth, or shapes that
            do not fit.

    >>> from torchvision.models.detection.rpn import RPNHead as TheirHead
    >>> theirs, ours = TheirHead(8, num_anchors=3), RPNHead(8, 3, hidden_channels=8)
    >>> load_torchvision_head(ours, theirs.state_dict())
    >>> features = torch.rand(1, 8, 4, 4)
    >>> scores = ours(features).scores  # (1, 4, 4, 3, 2)
    >>> logits = theirs([features])[0][0].permute(0, 2, 3, 1)  # (1, 4, 4, 3)
    >>> torch.allclose(scores[..., 1] - scores[..., 0], logits)
    True
    """
    expected = torchvision_head_state(head)
    if "cls_logits.weight" in state and _conv_depth(state) != head.conv_depth:
        raise SettingError(
            f"This head of torchvision has conv_depth={_conv_depth(state)}, and ours "
            f"conv_depth={head.conv_depth}: make it with the same."
        )
    if state.keys() != expected.keys():
        raise SettingError(
            f"state has the names {sorted(state)}, not {sorted(expected)}; give "
            "rpn.head.state_dict() of torchvision's RegionProposalNetwork."
        )
    for name, ours in expected.items():
        if state[name].shape != ours.shape:
            raise SettingError(
                f"{name} has shape {tuple(state[name].shape)}, and this head needs "
                f"{tuple(ours.shape)}: make it with the same in_channels, num_anchors "
                "and hidden_channels (torchvision's are in_channels)."
            )
    windows, classifier, regressor = _convolutions(head)
    with torch.no_grad():
        for kind in ("weight", "bias"):
            for i, window in enumerate(windows):
                window.get_parameter(kind).copy_(state[f"conv.{i}.0.{kind}"])
            regressor.get_parameter(kind).copy_(state[f"bbox_pred.{kind}"])
            scores = classifier.get_parameter(kind)  # channels are (A, 2)
            scores[0::2] = 0
            scores[1::2] = state[f"cls_logits.{kind}"]


def torchvision_head_state(head: RPNHead) -> dict[str, Tensor]:
    """Weights of our head as torchvision's: one logit, object minus background.

    Args:
        head: ours.

    Returns:
        copies, for `rpn.head.load_state_dict` of torchvision's RPN. Theirs fits where
        our `hidden_channels` are our `in_channels`, and its `conv_depth` is ours.

    >>> from torchvision.models.detection.rpn import RPNHead as TheirHead
    >>> state = torchvision_head_state(RPNHead(8, 3, hidden_channels=8))
    >>> TheirHead(8, num_anchors=3).load_state_dict(state)
    <All keys matched successfully>
    """
    windows, classifier, regressor = _convolutions(head)
    state = {}
    for kind in ("weight", "bias"):
        scores = classifier.get_parameter(kind).detach()
        for i, window in enumerate(windows):
            state[f"conv.{i}.0.{kind}"] = window.get_parameter(kind).detach().clone()
        state[f"cls_logits.{kind}"] = scores[1::2] - scores[0::2]
        state[f"bbox_pred.{kind}"] = regressor.get_parameter(kind).detach().clone()
    return state


def from_torchvision(
    rpn: nn.Module,
    strides: Sequence[float],
    backbone: nn.Module | None = None,
    **settings: Any,
) -> RegionProposalNetwork:
    """Our network with the anchors, weights and settings of a torchvision RPN.

    torchvision divides the padded image by the grid and rounds down to get its strides.
    Where the image is a multiple of the largest stride, these are the strides of the
    network, and proposals and losses are the same; elsewhere its anchors are displaced,
    and ours are not.

    Args:
        rpn: `torchvision.models.detection.rpn.RegionProposalNetwork`.
        strides: pixels per cell on each level: `[4, 8, 16, 32, 64]` for torchvision's
            feature pyramids.
        backbone: makes the feature maps; `None` where they will be given to
            `from_features`, as `AsTorchvisionRPN` does.
        settings: arguments of `RegionProposalNetwork`, in place of their settings. The
            limits of NMS are theirs for testing.

    Returns:
        a network of its own: no weight is shared.

    Raises:
        SettingError: a head that cannot be taken over (see `load_torchvision_head`), or
            anchors whose centre is not that of their cell.

    >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
    >>> model = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    >>> ours = from_torchvision(model.rpn, strides=[32, 32, 64])
    >>> ours.anchors
    AnchorGenerator(num_anchors=[15, 15, 15], strides=(32, 32, 64))
    """
    theirs: Any = rpn  # torchvision has no type hints for what is read here
    shapes = []
    for level, cell in enumerate(theirs.anchor_generator.cell_anchors):
        if (cell[:, :2] + cell[:, 2:]).any():
            raise SettingError(
                f"An anchor of level {level} is not centred on its cell: "
                f"{cell.tolist()}. AnchorGenerator makes centred anchors only."
            )
        shapes.append((cell[:, 2:] - cell[:, :2]).tolist())
    state = theirs.head.state_dict()
    num_anchors, channels = state["cls_logits.weight"].shape[:2]
    ours = RegionProposalNetwork(
        backbone or nn.Identity(),
        AnchorGenerator(shapes=shapes, strides=strides, offset=0),
        head=RPNHead(channels, num_anchors, channels, _conv_depth(state)),
        **{
            "loss": RPNLoss(beta=1 / 9, normalizer="sampled"),
            "select": ProposalSelector(
                pre_nms_top_k=theirs._pre_nms_top_n["testing"],
                post_nms_top_k=theirs._post_nms_top_n["testing"],
                iou_threshold=theirs.nms_thresh,
                score_threshold=theirs.score_thresh,
                min_size=theirs.min_size,
            ),
            "match": MatchRule(
                theirs.proposal_matcher.high_threshold,
                theirs.proposal_matcher.low_threshold,
            ),
            "sample": SampleRule(
                theirs.fg_bg_sampler.batch_size_per_image,
                theirs.fg_bg_sampler.positive_fraction,
            ),
            **settings,
        },
    )
    load_torchvision_head(ours.head, state)
    return ours


class AsTorchvisionRPN(nn.Module):
    """Our network in the place of the RPN of a torchvision detector.

    True boxes are checked: one that is empty or reaches outside its image is an error
    that names it. Losses are there whenever targets are, in evaluation too.

    Args:
        rpn: its anchors, head, loss and settings are used, its backbone is not.
        train_select: makes the proposals in training mode; `None` is `rpn.select`.

    >>> from torchvision.models.detection import FasterRCNN
    >>> from rpn_lib.backbones import SmallBackbone
    >>> backbone = SmallBackbone()
    >>> model = FasterRCNN(backbone, num_classes=5, min_size=96, max_size=128)
    >>> anchors = AnchorGenerator([16, 32, 64], strides=[16])
    >>> head = RPNHead(128, anchors.num_anchors[0], hidden_channels=128)
    >>> rpn = RegionProposalNetwork(nn.Identity(), anchors, head=head)
    >>> model.rpn = AsTorchvisionRPN(rpn)
    >>> target = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.ones(1)}
    >>> target["labels"] = target["labels"].long()
    >>> sorted(model([torch.rand(3, 96, 128)], [target]))
    ['loss_box_reg', 'loss_classifier', 'loss_objectness', 'loss_rpn_box_reg']
    """

    def __init__(
        self, rpn: RegionProposalNetwork, train_select: ProposalSelector | None = None
    ) -> None:
        super().__init__()
        self.rpn = rpn
        self.train_select = train_select

    def forward(
        self,
        images: Any,
        features: Mapping[str, Tensor],
        targets: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """What `GeneralizedRCNN` asks of an RPN.

        Args:
            images: `torchvision.models.detection.image_list.ImageList`.
            features: for each level `(B, C, H, W)`.
            targets: for each image, `boxes` `(G, 4)`, xyxy, pixels.

        Returns:
            for each image the boxes proposed, best first; and `loss_objectness` and
            `loss_rpn_box_reg`, or no losses where there are no targets.

        Raises:
            BoxError: a true box that cannot be used; coordinates are those that the
                detector resized.
        """
        gt_boxes = None
        if targets is not None:
            gt_boxes = [
                _check_resized(target["boxes"], size, f"image {i}, resized to {size}")
                for i, (target, size) in enumerate(zip(targets, images.image_sizes))
            ]
        output = self.rpn.from_features(
            list(features.values()),
            images.image_sizes,
            gt_boxes,
            select=self.train_select if self.training else None,
        )
        boxes = [proposals.boxes for proposals in output.proposals or []]
        if output.losses is None:
            return boxes, {}
        return boxes, {
            "loss_objectness": output.losses["objectness"],
            "loss_rpn_box_reg": output.losses["box"],
        }


def _convolutions(head: RPNHead) -> tuple[list[nn.Module], nn.Module, nn.Module]:
    return list(head.window)[::2], head.classifier[0], head.regressor[0]


def _conv_depth(state: Mapping[str, Tensor]) -> int:
    """How many convolutions the sliding window of torchvision's head has."""
    return sum(name.startswith("conv.") and name.endswith(".weight") for name in state)


def _check_resized(boxes: Tensor, size: tuple[int, int], where: str) -> Tensor:
    """Checked boxes; what only the rounding of a resize put outside is put back."""
    inside = clip_boxes_to_image(boxes, size)
    rounded = (inside - boxes).abs() < 0.01
    return check_boxes(torch.where(rounded, inside, boxes), size, where=where)

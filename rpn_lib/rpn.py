"""The Region Proposal Network: backbone, heads, anchors, matching, loss, NMS in one.

Images go in; out come proposals with scores and, where true boxes are given, losses: in
training and in evaluation alike, for one feature map or several.

Dimension letters: B images; N anchors of an image over all levels, level by level, in
the order `(H, W, A)` within each; G true boxes of an image.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.border import BorderRule
from rpn_lib.errors import SettingError
from rpn_lib.examples import Examples, Generators, choose_examples
from rpn_lib.head import RPNHead
from rpn_lib.loss import RPNLoss
from rpn_lib.matching import MatchRule
from rpn_lib.nms import Proposals, ProposalSelector
from rpn_lib.padding import blank_padding, check_batch, pad_images
from rpn_lib.sampling import SampleRule
from rpn_lib.sparse import head_at_anchors
from rpn_lib.transforms import decode, encode

# The loss looks at 256 anchors of an image. On maps with this many times more cells it
# is quicker to lay the window on the cells of those than to slide it over all.
SPARSE_FROM = 8


class RPNOutput(NamedTuple):
    """What the network says about a batch.

    Attributes:
        proposals: for each image its boxes and scores; `None` where they were not asked
            for.
        losses: `objectness` and `box`; `None` where no true boxes were given.
    """

    proposals: list[Proposals] | None
    losses: dict[str, Tensor] | None


class RegionProposalNetwork(nn.Module):
    """A network that proposes boxes which may hold an object.

    Args:
        backbone: from images `(B, 3, height, width)` to a feature map `(B, C, H, W)`,
            or to several: a mapping or a sequence, as torchvision's feature pyramids
            give.
        anchors: one level for each feature map.
        head: sliding window and heads; if not given, made for `backbone.out_channels`,
            C, and C wide.
        loss: combines the two losses.
        select: makes proposals of scores and deltas; `select.post_nms_top_k` and the
            rest may be set at any time.
        match: which anchors are objects and which are background.
        sample: how many of them the loss looks at.
        border: what becomes of anchors that cross the border of their image: `"keep"`,
            `"drop"`, `"clip"`, or a `BorderRule`.
        delta_weights: factors of the deltas, see `rpn_lib.transforms.encode`.

    Raises:
        SettingError: settings that do not fit together.

    >>> from rpn_lib.backbones import SmallBackbone
    >>> _ = torch.manual_seed(0)
    >>> anchors = AnchorGenerator(sizes=[32, 64], strides=[16])
    >>> rpn = RegionProposalNetwork(SmallBackbone(), anchors)
    >>> images = [torch.rand(3, 96, 128), torch.rand(3, 80, 80)]
    >>> output = rpn(images, gt_boxes=[[[8, 8, 40, 40]], torch.zeros(0, 4)])
    >>> len(output.proposals), sorted(output.losses)
    (2, ['box', 'objectness'])
    """

    def __init__(
        self,
        backbone: nn.Module,
        anchors: AnchorGenerator,
        *,
        head: RPNHead | None = None,
        loss: RPNLoss | None = None,
        select: ProposalSelector | None = None,
        match: MatchRule = MatchRule(),
        sample: SampleRule = SampleRule(),
        border: str | BorderRule = "keep",
        delta_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if len(set(anchors.num_anchors)) != 1:
            raise SettingError(
                f"Levels with {anchors.num_anchors} anchors at a cell cannot share "
                "one head; give every level the same number."
            )
        if len(delta_weights) != 4 or not all(0 < w < inf for w in delta_weights):
            raise SettingError(
                f"delta_weights={delta_weights} must be four positive numbers."
            )
        self.backbone = backbone
        self.anchors = anchors
        self.head = head or _head_for(backbone, anchors.num_anchors[0])
        self.loss = loss or RPNLoss()
        self.select = select or ProposalSelector()
        self.match = match
        self.sample = sample
        self.border = border if isinstance(border, BorderRule) else BorderRule(border)
        self.delta_weights = tuple(delta_weights)

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        gt_boxes: Sequence[Tensor] | None = None,
        *,
        propose: bool = True,
        names: Sequence[str] | None = None,
        ignore_boxes: Sequence[Tensor] | None = None,
        generator: Generators = None,
    ) -> RPNOutput:
        """Proposals of each image, and the losses if true boxes are given.

        Args:
            images: `(B, 3, height, width)`, or a list of `(3, height, width)` of
                different sizes, which are padded at the right and the bottom; not so
                for proposals in evaluation mode. Float, in the range that the backbone
                expects.
            gt_boxes: for each image `(G, 4)`, xyxy, pixels; G may be 0 and differ
                between images.
            propose: `False` skips decoding and NMS, which a loss does not need.
            names: what to call the images in an error message, for instance their
                files.
            ignore_boxes: for each image `(I, 4)`, xyxy, pixels: regions, such as COCO's
                crowds, whose background is not learnt from.
            generator: randomness of the sampling; `None` is torch's global one. A
                sequence has one for each image, so that what is sampled of an image
                does not depend on the others.

        Returns:
            proposals and losses.

        Raises:
            BoxError: images or boxes that cannot be used; the message names image and
                box.
        """
        batch, sizes = pad_images(images)
        if gt_boxes is not None:
            # Before the convolutions: bad boxes should not cost a forward pass.
            gt_boxes = check_batch(gt_boxes, sizes, names, batch.device)
        if ignore_boxes is not None:
            ignore_boxes = check_batch(
                ignore_boxes, sizes, names, batch.device, "ignore_boxes"
            )
        alone = None
        if propose and not self.training and len({*sizes}) > 1:
            # A backbone sees the padding at the border of an image. So that proposals
            # depend on nothing but the image, each is then looked at by itself.
            alone = [self(image[None]).proposals[0] for image in images]
            if gt_boxes is None:
                return RPNOutput(alone, None)
        output = self.from_features(
            self.levels_of(batch),
            sizes,
            gt_boxes,
            propose=propose and alone is None,
            ignore_boxes=ignore_boxes,
            generator=generator,
        )
        return output._replace(proposals=alone) if alone else output

    def levels_of(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images `(B, 3, height, width)`, one for each level.

        Args:
            images: `(B, 3, height, width)`, float.

        Returns:
            for each level `(B, C, H, W)`, whatever kind of collection the backbone
            gives.
        """
        features = self.backbone(images)
        if isinstance(features, Tensor):
            return [features]
        if isinstance(features, Mapping):
            return list(features.values())
        return list(features)

    def from_features(
        self,
        features: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        gt_boxes: Sequence[Tensor] | None = None,
        *,
        propose: bool = True,
        ignore_boxes: Sequence[Tensor] | None = None,
        select: ProposalSelector | None = None,
        generator: Generators = None,
    ) -> RPNOutput:
        """The same, from the feature maps of a backbone that ran elsewhere.

        Cells that lie in the padding of an image are set to zero, as the padding of the
        head's convolution is, and their anchors are neither learnt from nor proposed.
        So from these features on, an image gives the same alone and padded.

        Args:
            features: for each level `(B, C, H, W)`.
            image_sizes: for each image `(height, width)`, pixels, without padding.
            gt_boxes: for each image `(G, 4)`, checked by the caller.
            propose: see `forward`.
            ignore_boxes: see `forward`.
            select: a selector in place of the network's own, for this call.
            generator: see `forward`.
        """
        # 1. Anchors: a list of (N, 4). Cells in the padding become 0, and their anchors
        #    are not valid: a list of (B, N), or None where there is no such cell.
        grids = [feature.shape[-2:] for feature in features]
        anchors = self.anchors(grids, features[0].device)
        features, valid = blank_padding(features, image_sizes, self.anchors)
        num_cells = len(image_sizes) * sum(rows * columns for rows, columns in grids)

        # 2. Label the anchors of each image, and draw the M that the loss looks at. On
        #    large maps, losses alone are then quicker without the rest of the cells.
        examples = None
        if gt_boxes is not None:
            examples = choose_examples(
                anchors=anchors,
                grids=self.anchors.grids(grids),
                valid=valid,
                image_sizes=image_sizes,
                gt_boxes=gt_boxes,
                ignore_boxes=ignore_boxes,
                rules=(self.border, self.match, self.sample),
                generator=generator,
            )
            if not propose and self._are_few(examples, num_cells):
                few = self._losses_of_few(features, examples, num_cells)
                return RPNOutput(None, few)

        # 3. Heads: (B, H, W, A, 2) -> (B, N, 2), and (B, H, W, A, 4) -> (B, N, 4).
        outputs = [self.head(feature) for feature in features]
        scores = [output.scores.flatten(1, 3) for output in outputs]
        deltas = [output.deltas.flatten(1, 3) for output in outputs]

        # 4. Losses of the M examples: scores (M, 2) and deltas (M, 4).
        losses = proposals = None
        if examples is not None:
            where = examples.image, examples.number
            score, delta = torch.cat(scores, 1)[where], torch.cat(deltas, 1)[where]
            losses = self._losses(score, delta, examples, num_cells)

        # 5. Proposals. Of two scores only the difference matters: a logit, (B, N).
        if propose:
            logits = [output.logits.flatten(1) for output in outputs]
            proposals = [
                (select or self.select)(*parts, size, self.delta_weights)
                for size, parts in zip(
                    image_sizes,
                    self._by_image(logits, deltas, anchors, valid, image_sizes),
                )
            ]
        return RPNOutput(proposals, losses)

    def _by_image(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        anchors: list[Tensor],
        valid: list[Tensor] | None,
        image_sizes: Sequence[tuple[int, int]],
    ) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor]]]:
        """For each image the logits, deltas and anchors of each level, unpadded."""
        for i, size in enumerate(image_sizes):
            own = [self.border.place(level, size) for level in anchors]
            logit, delta = [x[i] for x in logits], [x[i] for x in deltas]
            if valid is not None:
                masks = [mask[i] for mask in valid]
                logit = [x[mask] for x, mask in zip(logit, masks)]
                delta = [x[mask] for x, mask in zip(delta, masks)]
                own = [x[mask] for x, mask in zip(own, masks)]
            yield logit, delta, own

    def _are_few(self, examples: Examples, num_cells: int) -> bool:
        """Whether to lay the head's window at their cells, not slide it over all.

        A single convolution can be laid at a cell; several look further than one cell.
        """
        few = SPARSE_FROM * len(examples.number) < num_cells
        return few and self.head.conv_depth == 1

    def _losses_of_few(
        self, features: Sequence[Tensor], examples: Examples, num_cells: int
    ) -> dict[str, Tensor]:
        """Steps 3 and 4 at the cells of the examples alone; the same numbers."""
        scores, deltas = head_at_anchors(
            self.head,
            features,
            num_anchors=self.anchors.num_anchors[0],
            image=examples.image,
            number=examples.number,
        )  # (M, 2) and (M, 4)
        return self._losses(scores, deltas, examples, num_cells)

    def _losses(
        self, scores: Tensor, deltas: Tensor, examples: Examples, num_cells: int
    ) -> dict[str, Tensor]:
        """Losses of the scores (M, 2) and deltas (M, 4) of the examples."""
        # Only the objects are encoded: at most 128 of perhaps 268,000 anchors.
        predicted, anchors = deltas[examples.objects], examples.anchors
        if self.loss.box == "giou":
            predicted = decode(predicted, anchors, self.delta_weights)
            targets = examples.gt_boxes
        else:
            targets = encode(examples.gt_boxes, anchors, self.delta_weights)
        losses: dict[str, Tensor] = self.loss(
            scores, examples.labels, predicted, targets, num_cells
        )
        return losses


def _head_for(backbone: nn.Module, num_anchors: int) -> RPNHead:
    channels = getattr(backbone, "out_channels", None)
    if channels is None:
        raise SettingError(
            f"{type(backbone).__name__} has no out_channels; give head=RPNHead("
            f"C, {num_anchors}, C), with the channels C of its feature maps."
        )
    return RPNHead(channels, num_anchors, channels)

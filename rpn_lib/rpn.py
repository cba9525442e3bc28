"""The Region Proposal Network: backbone, heads, anchors, matching, loss, NMS in one.

Images go in; out come proposals with scores and, where true boxes are given, losses: in
training and in evaluation alike, for one feature map or several.

Dimension letters: B images; N anchors of an image over all levels, level by level, in
the order `(H, W, A)` within each; G true boxes of an image.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import inf
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import clip_boxes_to_image

from rpn_lib.anchors import AnchorGenerator, inside_image
from rpn_lib.boxes import check_boxes
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.fast import match_anchors
from rpn_lib.head import RPNHead
from rpn_lib.loss import RPNLoss
from rpn_lib.matching import MatchRule, SampleRule, sample_anchors
from rpn_lib.nms import Proposals, ProposalSelector
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
        in_channels: C; `backbone.out_channels` if not given.
        hidden_channels: width of the sliding window's output; C if not given.
        loss: combines the two losses.
        select: makes proposals of scores and deltas; `select.post_nms_top_k` and the
            rest may be set at any time.
        match: which anchors are objects and which are background.
        sample: how many of them the loss looks at.
        border: what to do with anchors that cross the border of their image: `"keep"`
            them; `"drop"` them from training, as the paper does; `"clip"` them, which
            changes the shapes that the network learns corrections of.
        border_margin: with `"drop"`, how far an anchor may reach outside, pixels.
        delta_weights: factors of the deltas, see `rpn_lib.transforms.encode`.
        generator: randomness of the sampling; `None` is torch's global one. A sequence
            has one for each image of a batch, so that what is sampled of an image does
            not depend on the others.

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
        in_channels: int | None = None,
        hidden_channels: int | None = None,
        loss: RPNLoss | None = None,
        select: ProposalSelector | None = None,
        match: MatchRule = MatchRule(),  # noqa: B008, a frozen value
        sample: SampleRule = SampleRule(),  # noqa: B008
        border: Literal["keep", "drop", "clip"] = "keep",
        border_margin: float = 0,
        delta_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> None:
        super().__init__()
        channels = in_channels
        if channels is None:
            channels = getattr(backbone, "out_channels", None)
        if channels is None:
            raise SettingError(
                f"{type(backbone).__name__} has no out_channels; give in_channels, "
                "the channels of its feature maps."
            )
        if len(set(anchors.num_anchors)) != 1:
            raise SettingError(
                f"Levels with {anchors.num_anchors} anchors at a cell cannot share "
                "one head; give every level the same number."
            )
        self.backbone = backbone
        self.anchors = anchors
        self.head = RPNHead(
            channels,
            anchors.num_anchors[0],
            channels if hidden_channels is None else hidden_channels,
        )
        self.loss = loss or RPNLoss()
        self.select = select or ProposalSelector()
        self.match = match
        self.sample = sample
        if border not in ("keep", "drop", "clip"):
            raise SettingError(f'border is "keep", "drop" or "clip", not {border!r}.')
        if len(delta_weights) != 4 or not all(0 < w < inf for w in delta_weights):
            raise SettingError(
                f"delta_weights={delta_weights} must be four positive numbers."
            )
        self.border = border
        self.border_margin = border_margin
        self.delta_weights = tuple(delta_weights)
        self.generator = generator

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        gt_boxes: Sequence[Tensor] | None = None,
        *,
        propose: bool = True,
        names: Sequence[str] | None = None,
        ignore_boxes: Sequence[Tensor] | None = None,
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

        Returns:
            proposals and losses.

        Raises:
            BoxError: images or boxes that cannot be used; the message names image and
                box.
        """
        batch, sizes = pad_images(images)
        if gt_boxes is not None:
            # Before the convolutions: bad boxes should not cost a forward pass.
            gt_boxes = _check_batch(gt_boxes, sizes, names, batch.device)
        if ignore_boxes is not None:
            ignore_boxes = _check_batch(
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
            select: in place of the network's own, for this call.
        """
        # 1. Anchors: a list of (N, 4). Cells in the padding become 0, and their anchors
        #    are not valid: a list of (B, N), or None where there is no such cell.
        grids = [feature.shape[-2:] for feature in features]
        anchors = self.anchors(grids, features[0].device)
        features, valid = self._without_padding(features, image_sizes)
        num_cells = len(image_sizes) * sum(rows * columns for rows, columns in grids)

        # 2. Label the anchors of each image, and draw the M that the loss looks at.
        examples = None
        if gt_boxes is not None:
            layout = self.anchors.grids(grids)
            examples = self._examples(
                anchors, layout, valid, image_sizes, gt_boxes, ignore_boxes
            )
            few = SPARSE_FROM * len(examples.number) < num_cells
            if few and not propose and self.head.conv_depth == 1:
                where = examples.image, examples.number
                shapes = self.anchors.num_anchors[0]
                sampled = head_at_anchors(self.head, features, shapes, *where)
                return RPNOutput(None, self._losses(*sampled, examples, num_cells))

        # 3. Heads: (B, H, W, A, 2) -> (B, N, 2), and (B, H, W, A, 4) -> (B, N, 4).
        outputs = [self.head(feature) for feature in features]
        scores = [output.scores.flatten(1, 3) for output in outputs]
        deltas = [output.deltas.flatten(1, 3) for output in outputs]

        # 4. Losses of the M examples: scores (M, 2) and deltas (M, 4).
        losses = proposals = None
        if examples is not None:
            where = examples.image, examples.number
            sampled = torch.cat(scores, 1)[where], torch.cat(deltas, 1)[where]
            losses = self._losses(*sampled, examples, num_cells)

        # 5. Proposals. Of two scores only the difference matters: a logit, (B, N).
        if propose:
            logits = [score[..., 1] - score[..., 0] for score in scores]
            proposals = [
                (select or self.select)(*parts, size, self.delta_weights)
                for size, parts in zip(
                    image_sizes,
                    self._by_image(logits, deltas, anchors, valid, image_sizes),
                )
            ]
        return RPNOutput(proposals, losses)

    def at_border(
        self, anchors: Tensor, image_size: Sequence[int]
    ) -> tuple[Tensor, Tensor | None]:
        """What `border` makes of anchors.

        Args:
            anchors: `(N, 4)`, xyxy, pixels.
            image_size: `(height, width)`, pixels.

        Returns:
            the anchors, clipped with `"clip"`; and which of them are learnt from,
            `(N,)`, bool, or `None` for all.
        """
        if self.border == "clip":
            return clip_boxes_to_image(anchors, tuple(image_size)), None
        if self.border == "drop":
            return anchors, inside_image(anchors, image_size, self.border_margin)
        return anchors, None

    def _without_padding(
        self, features: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> tuple[Sequence[Tensor], list[Tensor] | None]:
        """Feature maps that are 0 in the padding, and which anchors are not in it."""
        grids = [feature.shape[-2:] for feature in features]
        cells = self.anchors.cells_of_images(grids, image_sizes)
        if cells is None:
            return features, None
        cells = [mask.to(features[0].device) for mask in cells]  # each (B, H, W)
        blank = [x * mask[:, None] for x, mask in zip(features, cells)]
        shapes = self.anchors.num_anchors[0]
        return blank, [mask.flatten(1).repeat_interleave(shapes, 1) for mask in cells]

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
            own = [self.at_border(level, size)[0] for level in anchors]
            logit, delta = [x[i] for x in logits], [x[i] for x in deltas]
            if valid is not None:
                masks = [mask[i] for mask in valid]
                logit = [x[mask] for x, mask in zip(logit, masks)]
                delta = [x[mask] for x, mask in zip(delta, masks)]
                own = [x[mask] for x, mask in zip(own, masks)]
            yield logit, delta, own

    def _examples(
        self,
        grid_anchors: list[Tensor],
        grids: tuple[tuple[int, int, int], ...],
        valid: list[Tensor] | None,
        image_sizes: Sequence[tuple[int, int]],
        gt_boxes: Sequence[Tensor],
        ignore_boxes: Sequence[Tensor] | None,
    ) -> "_Examples":
        """Match and sample each image."""
        parts = []
        everywhere = torch.cat(grid_anchors)  # (N, 4), of all levels
        unpadded = None if valid is None else torch.cat(valid, 1)  # (B, N)
        for i, (boxes, size) in enumerate(zip(gt_boxes, image_sizes)):
            anchors, usable = self.at_border(everywhere, size)
            if unpadded is not None:
                usable = unpadded[i] if usable is None else usable & unpadded[i]
            matches = match_anchors(
                anchors,
                boxes,
                valid=usable,
                ignore_boxes=None if ignore_boxes is None else ignore_boxes[i],
                grids=grids,
                trusted=True,  # they were checked where they came in
                **asdict(self.match),
            )
            generator = self.generator
            if isinstance(generator, Sequence):
                generator = generator[i]
            objects, background = sample_anchors(
                matches.labels, generator=generator, **asdict(self.sample)
            )
            number = torch.cat([objects, background])
            parts.append(
                _Examples(
                    torch.full_like(number, i),
                    number,
                    matches.labels[number],
                    anchors[objects],
                    boxes[matches.gt_index[objects]],
                )
            )
        return _Examples(*(torch.cat(part) for part in zip(*parts)))

    def _losses(
        self, scores: Tensor, deltas: Tensor, examples: "_Examples", num_cells: int
    ) -> dict[str, Tensor]:
        """Losses of the scores (M, 2) and deltas (M, 4) of the examples."""
        # Only the objects are encoded: at most 128 of perhaps 268,000 anchors.
        predicted, anchors = deltas[examples.labels > 0], examples.anchors
        if self.loss.box == "giou":
            predicted = decode(predicted, anchors, self.delta_weights)
            targets = examples.gt_boxes
        else:
            targets = encode(examples.gt_boxes, anchors, self.delta_weights)
        losses: dict[str, Tensor] = self.loss(
            scores, examples.labels, predicted, targets, num_cells
        )
        return losses


class _Examples(NamedTuple):
    """The M anchors of a batch that the loss looks at, P of them objects.

    Attributes:
        image: `(M,)`, the image of each.
        number: `(M,)`, its number among the anchors of all levels.
        labels: `(M,)`: above 0 object, 0 background.
        anchors: `(P, 4)`, of the objects.
        gt_boxes: `(P, 4)`, the true box of each.
    """

    image: Tensor
    number: Tensor
    labels: Tensor
    anchors: Tensor
    gt_boxes: Tensor


@contextmanager
def evaluating(rpn: nn.Module) -> Iterator[None]:
    """A network in evaluation mode for a while, and back as it was.

    Args:
        rpn: any network.

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


def pad_images(
    images: Tensor | Sequence[Tensor],
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Stack images of different sizes, padded with zeros at the right and the bottom.

    Args:
        images: `(B, 3, height, width)` or a sequence of `(3, height, width)`, float.

    Returns:
        `(B, 3, height, width)` of the largest height and width, and each image's own
        size.

    Raises:
        BoxError: no image, or one of another shape or type; the message gives its
            number.

    >>> batch, sizes = pad_images([torch.ones(3, 4, 6), torch.ones(3, 5, 2)])
    >>> batch.shape, sizes
    (torch.Size([2, 3, 5, 6]), [(4, 6), (5, 2)])
    """
    if len(images) == 0:
        raise BoxError("The batch holds no image.")
    for i, image in enumerate(images):
        if image.ndim != 3 or 0 in image.shape or len(image) != len(images[0]):
            raise BoxError(
                f"image {i} has shape {tuple(image.shape)}; all images of a batch must "
                "be (channels, height, width), with the same number of channels."
            )
        if not image.is_floating_point():
            raise BoxError(
                f"image {i} has type {image.dtype}; convert it to float first, with "
                "torchvision.transforms.v2.functional.to_dtype(image, torch.float32, "
                "scale=True)."
            )
    sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
    if isinstance(images, Tensor):
        return images, sizes
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    padded = [
        F.pad(image, (0, width - w, 0, height - h))
        for image, (h, w) in zip(images, sizes)
    ]
    return torch.stack(padded), sizes


def _check_batch(
    boxes: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str] | None,
    device: torch.device,
    what: str = "",
) -> list[Tensor]:
    """Boxes of each image, float32; an error names the image, and `what` they are."""
    if len(boxes) != len(sizes):
        raise BoxError(
            f"{len(sizes)} images but {len(boxes)} sets of {what or 'true boxes'}; "
            "give one for each image, an empty (0, 4) tensor where it has none."
        )
    if names is not None and len(names) != len(sizes):
        raise BoxError(f"{len(sizes)} images but {len(names)} names.")
    checked = []
    for i, (one, size) in enumerate(zip(boxes, sizes)):
        where = f"image {i}" if names is None else f"image {i} ({names[i]})"
        where = f"{where}, {what}" if what else where
        checked.append(check_boxes(one, size, where=where).to(device))
    return checked

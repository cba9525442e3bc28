"""What a batch is learnt from: its images matched, and some of their anchors drawn.

Dimension letters: B images; N anchors of an image over all levels; G true boxes of an
image; M sampled anchors of the batch, P of them objects.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rpn_lib.border import BorderRule
from rpn_lib.fast import match_anchors
from rpn_lib.matching import MatchRule
from rpn_lib.sampling import SampleRule, sample_anchors

# Of all images, or of each; `None` is torch's global one.
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


class Examples(NamedTuple):
    """The M anchors of a batch that the loss looks at, P of them objects.

    Attributes:
        image: `(M,)`, the image of each.
        number: `(M,)`, its number among the anchors of all levels.
        labels: `(M,)`: above 0 object, 0 background.
        objects: `(P,)`, which of the M are objects. (To look for them among the labels
            would make a GPU wait.)
        anchors: `(P, 4)`, of the objects.
        gt_boxes: `(P, 4)`, the true box of each.
    """

    image: Tensor
    number: Tensor
    labels: Tensor
    objects: Tensor
    anchors: Tensor
    gt_boxes: Tensor


def choose_examples(
    anchors: Sequence[Tensor],
    grids: Sequence[tuple[int, int, int]],
    valid: Sequence[Tensor] | None,
    image_sizes: Sequence[tuple[int, int]],
    gt_boxes: Sequence[Tensor],
    ignore_boxes: Sequence[Tensor] | None = None,
    *,
    rules: tuple[BorderRule, MatchRule, SampleRule],
    generator: Generators = None,
) -> Examples:
    """Match the anchors of each image with its true boxes, and draw from them.

    Args:
        anchors: for each level `(N, 4)`, xyxy, pixels, the same for all images.
        grids: `(H, W, A)` of each level, see `AnchorGenerator.grids`.
        valid: for each level `(B, N)`, bool: anchors that are not in the padding.
        image_sizes: for each image `(height, width)`, pixels, without padding.
        gt_boxes: for each image `(G, 4)`, xyxy, pixels, checked before.
        ignore_boxes: for each image `(I, 4)`, likewise.
        rules: for anchors at the border, for labels, for the sample.
        generator: see `RegionProposalNetwork.forward`.

    >>> from rpn_lib.anchors import AnchorGenerator
    >>> anchors = AnchorGenerator([32], [1], strides=[16])
    >>> boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    >>> rules = BorderRule("drop"), MatchRule(), SampleRule(num_samples=4)
    >>> found = choose_examples(
    ...     anchors([(4, 4)]), anchors.grids([(4, 4)]), None, [(64, 64)], [boxes],
    ...     rules=rules,
    ... )
    >>> len(found.labels), found.gt_boxes
    (4, tensor([[ 0.,  0., 32., 32.]]))
    """
    border, match, sample = rules
    everywhere = torch.cat([*anchors])  # (N, 4), of all levels
    unpadded = None if valid is None else torch.cat([*valid], 1)  # (B, N)
    parts: list[Examples] = []
    count = 0
    for i, (boxes, size) in enumerate(zip(gt_boxes, image_sizes)):
        placed = border.place(everywhere, size)
        usable = border.learnt(everywhere, size)
        if unpadded is not None:
            usable = unpadded[i] if usable is None else usable & unpadded[i]
        matches = match_anchors(
            placed,
            boxes,
            match,
            valid=usable,
            ignore_boxes=None if ignore_boxes is None else ignore_boxes[i],
            grids=grids,
            trusted=True,  # they were checked where they came in
        )
        own = generator[i] if isinstance(generator, Sequence) else generator
        objects, background = sample_anchors(matches.labels, sample, own)
        number = torch.cat([objects, background])
        parts.append(
            Examples(
                torch.full_like(number, i),
                number,
                matches.labels[number],
                count + torch.arange(len(objects), device=number.device),
                placed[objects],
                boxes[matches.gt_index[objects]],
            )
        )
        count += len(number)
    return Examples(*(torch.cat(part) for part in zip(*parts)))

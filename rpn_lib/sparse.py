"""The head at a few cells: what training needs when only some anchors are sampled.

The loss looks at 256 anchors of an image. On large maps it is cheaper to lay the
sliding window at their cells than to slide it over all; the numbers are the same.

Dimension letters: B images; C channels; H, W rows and columns of a feature map; A
anchors at a cell; M sampled anchors or cells.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rpn_lib.errors import SettingError
from rpn_lib.head import HeadOutput, RPNHead


def head_at(
    head: RPNHead, features: Tensor, image: Tensor, row: Tensor, column: Tensor
) -> HeadOutput:
    """What a head says at M cells only: the window is laid there instead of slid.

    Args:
        head: the head.
        features: `(B, C, H, W)`.
        image: `(M,)`, int64, of each cell.
        row: `(M,)`, int64.
        column: `(M,)`, int64.

    Returns:
        scores `(M, A, 2)` and deltas `(M, A, 4)`.

    Raises:
        SettingError: a head of several convolutions, each of which looks further.

    >>> head, features = RPNHead(8, num_anchors=3), torch.rand(2, 8, 5, 6)
    >>> some = head_at(head, features, *torch.tensor([[0, 1], [4, 2], [0, 5]]))
    >>> every = head(features)
    >>> torch.allclose(some.deltas, every.deltas[[0, 1], [4, 2], [0, 5]], atol=1e-6)
    True
    """
    if head.conv_depth > 1:
        raise SettingError(
            f"head has conv_depth={head.conv_depth}; a single 3x3 convolution can be "
            "laid at a cell. Slide this head over the whole map."
        )
    convolution: Any = head.window[0]
    height, width = features.shape[-2:]
    step = torch.arange(-1, 2, device=features.device)
    rows = row[:, None, None] + step[:, None]  # (M, 3, 1)
    columns = column[:, None, None] + step  # (M, 1, 3)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    windows = features[
        image[:, None, None],
        :,
        rows.clamp(0, height - 1),
        columns.clamp(0, width - 1),
    ]  # (M, 3, 3, C)
    windows = windows * inside[..., None]  # zeros around the map
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    hidden = F.linear(windows.flatten(1), weight, convolution.bias)
    maps = hidden.relu()[:, :, None, None]  # M maps of one cell
    return HeadOutput(head.classifier(maps)[:, 0, 0], head.regressor(maps)[:, 0, 0])


def head_at_anchors(
    head: RPNHead,
    features: Sequence[Tensor],
    num_anchors: int,
    image: Tensor,
    number: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scores (M, 2) and deltas (M, 4) of M anchors, without those of the others.

    Args:
        head: the head.
        features: for each level `(B, C, H, W)`.
        num_anchors: A, the same at every level.
        image: `(M,)`, int64, of each anchor.
        number: `(M,)`, int64, of each among the anchors of all levels of its image.

    >>> head, features = RPNHead(8, num_anchors=3), torch.rand(1, 8, 5, 6)
    >>> at = torch.zeros(2).long(), torch.tensor([80, 7])
    >>> scores, _ = head_at_anchors(head, [features], 3, *at)
    >>> torch.allclose(scores, head(features).scores.flatten(1, 3)[at], atol=1e-6)
    True
    """
    scores, deltas, places, start = [], [], [], 0
    for feature in features:
        rows, columns = feature.shape[-2:]
        end = start + rows * columns * num_anchors
        here = ((number >= start) & (number < end)).nonzero()[:, 0]
        # Within a level: (row * columns + column) * num_anchors + shape.
        cell = (number[here] - start) // num_anchors
        shape = ((number[here] - start) % num_anchors)[:, None, None]
        output = head_at(head, feature, image[here], cell // columns, cell % columns)
        scores.append(output.scores.take_along_dim(shape, 1)[:, 0])
        deltas.append(output.deltas.take_along_dim(shape, 1)[:, 0])
        places.append(here)
        start = end
    order = torch.cat(places).argsort()
    return torch.cat(scores)[order], torch.cat(deltas)[order]

"""The head: a sliding window, and what is read off at each place of it.

A 3x3 convolution looks at every place of the feature map; two 1x1 convolutions read
off, for each of A anchors there, two scores and four deltas (Faster R-CNN, section
3.1).

Dimension letters: B images; C channels; H, W rows and columns of a feature map; A
anchors at a cell.
"""

from typing import Any, NamedTuple

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from rpn_lib.errors import BoxError


class HeadOutput(NamedTuple):
    """What the heads say about every anchor of a feature map.

    Attributes:
        scores: `(B, H, W, A, 2)`: background, object. Only their difference matters.
        deltas: `(B, H, W, A, 4)`: `t_x, t_y, t_w, t_h`, see `rpn_lib.transforms`.
    """

    scores: Tensor
    deltas: Tensor


class RPNHead(nn.Module):
    """Sliding window and heads; the same weights serve every level of a pyramid.

    Args:
        in_channels: C of the feature map.
        num_anchors: A, anchors at a cell.
        hidden_channels: width of the sliding window's output; 256 and 512 in the paper.

    Raises:
        BoxError: a number below 1.

    >>> head = RPNHead(in_channels=1024, num_anchors=9)
    >>> [tuple(output.shape) for output in head(torch.zeros(1, 1024, 32, 32))]
    [(1, 32, 32, 9, 2), (1, 32, 32, 9, 4)]
    """

    def __init__(
        self, in_channels: int, num_anchors: int, hidden_channels: int = 256
    ) -> None:
        super().__init__()
        if min(in_channels, num_anchors, hidden_channels) < 1:
            raise BoxError(
                f"in_channels={in_channels}, num_anchors={num_anchors} and "
                f"hidden_channels={hidden_channels} must all be 1 or more."
            )
        self.window = nn.Sequential(
            nn.Conv2d(in_channels, hidden_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
        )
        # Which channel speaks for which anchor is a convention; here they are A groups
        # of 2 (or 4). What must hold is the order of the result, (H, W, A): flat, the
        # index of a score is then that of its anchor.
        self.classifier = nn.Sequential(
            nn.Conv2d(hidden_channels, num_anchors * 2, kernel_size=1),
            Rearrange("b (a two) h w -> b h w a two", a=num_anchors, two=2),
        )
        self.regressor = nn.Sequential(
            nn.Conv2d(hidden_channels, num_anchors * 4, kernel_size=1),
            Rearrange("b (a four) h w -> b h w a four", a=num_anchors, four=4),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in the paper: normal, deviation 0.01
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> HeadOutput:
        """Scores and deltas of every anchor of one feature map `(B, C, H, W)`."""
        hidden = self.window(features)
        return HeadOutput(self.classifier(hidden), self.regressor(hidden))

    def at(
        self, features: Tensor, image: Tensor, row: Tensor, column: Tensor
    ) -> HeadOutput:
        """The same, at M cells only: the window is laid there instead of slid.

        Args:
            features: `(B, C, H, W)`.
            image, row, column: `(M,)`, int64, of each cell.

        Returns:
            scores `(M, A, 2)` and deltas `(M, A, 4)`.

        >>> head, features = RPNHead(8, num_anchors=3), torch.rand(2, 8, 5, 6)
        >>> some = head.at(features, *torch.tensor([[0, 1], [4, 2], [0, 5]]))
        >>> every = head(features)
        >>> torch.allclose(some.deltas, every.deltas[[0, 1], [4, 2], [0, 5]], atol=1e-6)
        True
        """
        convolution: Any = self.window[0]
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
        return HeadOutput(self.classifier(maps)[:, 0, 0], self.regressor(maps)[:, 0, 0])

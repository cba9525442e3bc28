"""The head: a sliding window, and what is read off at each place of it.

A 3x3 convolution looks at every place of the feature map; two 1x1 convolutions read
off, for each of A anchors there, two scores and four deltas (Faster R-CNN, section
3.1).

Dimension letters: B images; C channels; H, W rows and columns of a feature map; A
anchors at a cell.
"""

from typing import NamedTuple

from einops.layers.torch import Rearrange
from torch import Tensor, nn

from rpn_lib.boxes import upcast
from rpn_lib.errors import SettingError


class HeadOutput(NamedTuple):
    """What the heads say about every anchor of a feature map.

    Attributes:
        scores: `(B, H, W, A, 2)`: background, object. Only their difference matters.
        deltas: `(B, H, W, A, 4)`: `t_x, t_y, t_w, t_h`, see `rpn_lib.transforms`.
    """

    scores: Tensor
    deltas: Tensor

    @property
    def logits(self) -> Tensor:
        """`(B, H, W, A)`, see `objectness_logits`."""
        return objectness_logits(self.scores)


def objectness_logits(scores: Tensor) -> Tensor:
    """Object minus background: the one logit of two scores.

    Float32 whatever the heads compute in, so that an order is not lost in rounding.

    Args:
        scores: `(..., 2)`: background, object.

    Returns:
        `(...,)`; the sigmoid of it is the probability of an object.

    >>> objectness_logits(torch.tensor([[1.0, 3.0], [0.5, 0.0]]))
    tensor([ 2.0000, -0.5000])
    """
    scores = upcast(scores)
    return scores[..., 1] - scores[..., 0]


class RPNHead(nn.Module):
    """Sliding window and heads; the same weights serve every level of a pyramid.

    Args:
        in_channels: C of the feature map.
        num_anchors: A, anchors at a cell.
        hidden_channels: width of the sliding window's output; 256 and 512 in the paper.
        conv_depth: 3x3 convolutions of the window; 1 in the paper, 2 in torchvision's
            `fasterrcnn_resnet50_fpn_v2` and `maskrcnn_resnet50_fpn_v2`.

    Raises:
        SettingError: a number below 1.

    >>> head = RPNHead(in_channels=1024, num_anchors=9)
    >>> [tuple(output.shape) for output in head(torch.zeros(1, 1024, 32, 32))]
    [(1, 32, 32, 9, 2), (1, 32, 32, 9, 4)]
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        hidden_channels: int = 256,
        conv_depth: int = 1,
    ) -> None:
        super().__init__()
        if min(in_channels, num_anchors, hidden_channels, conv_depth) < 1:
            raise SettingError(
                f"in_channels={in_channels}, num_anchors={num_anchors}, "
                f"hidden_channels={hidden_channels} and conv_depth={conv_depth} must "
                "all be 1 or more."
            )
        self.conv_depth = conv_depth
        self.window = nn.Sequential()
        for channels in (in_channels, *[hidden_channels] * (conv_depth - 1)):
            self.window.append(nn.Conv2d(channels, hidden_channels, 3, padding=1))
            self.window.append(nn.ReLU(inplace=True))
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

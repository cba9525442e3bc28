"""The feature pyramid: maps that are fine and yet know what the coarse ones know.

The maps of a backbone grow coarser from stage to stage, and see more of the image. A
pyramid goes back: each coarse map is enlarged and added to the finer one before it. One
head then serves all levels. (Lin et al., Feature Pyramid Networks for Object Detection,
arXiv 1612.03144, section 3.)

Dimension letters: B images; C channels; H, W rows and columns of a feature map; L maps
of the backbone.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from rpn_lib.backbones import SmallBackbone, check_cells
from rpn_lib.errors import SettingError


class FeaturePyramid(nn.Module):
    """Joins the maps of a backbone: 1x1 convolutions, top-down sums, 3x3 convolutions.

    The numbers are those of `torchvision.ops.FeaturePyramidNetwork` with the same
    weights; the extra level is its `LastLevelMaxPool`.

    Args:
        in_channels: channels of each of the L maps, the finest first.
        out_channels: C of every level; 256 in the paper.
        extra_level: add a level of twice the stride: every second row and column of the
            coarsest.

    Raises:
        SettingError: no maps, or a number of channels below 1.

    >>> pyramid = FeaturePyramid([32, 64], out_channels=16, extra_level=True)
    >>> levels = pyramid([torch.zeros(1, 32, 12, 16), torch.zeros(1, 64, 6, 8)])
    >>> [tuple(level.shape) for level in levels]
    [(1, 16, 12, 16), (1, 16, 6, 8), (1, 16, 3, 4)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        *,
        extra_level: bool = False,
    ) -> None:
        super().__init__()
        if not in_channels or min(*in_channels, out_channels) < 1:
            raise SettingError(
                f"in_channels={list(in_channels)} and out_channels={out_channels}: "
                "give the channels of one map or more, all 1 or more."
            )
        self.lateral = nn.ModuleList(
            nn.Conv2d(channels, out_channels, kernel_size=1) for channels in in_channels
        )
        self.output = nn.ModuleList(
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
            for _ in in_channels
        )
        self.extra_level = extra_level
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # no ReLU follows, so a gain of 1
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The levels of the pyramid, the finest first.

        Args:
            features: L maps `(B, in_channels, H, W)`, the finest first.

        Returns:
            L levels `(B, C, H, W)`, of the same rows and columns, and the extra one.

        Raises:
            SettingError: another number of maps.
        """
        if len(features) != len(self.lateral):
            raise SettingError(
                f"{len(features)} maps for a pyramid of {len(self.lateral)}."
            )
        sums = [lateral(x) for lateral, x in zip(self.lateral, features)]
        for i in range(len(sums) - 2, -1, -1):  # from the second coarsest to the finest
            enlarged = F.interpolate(sums[i + 1], size=sums[i].shape[-2:])  # nearest
            sums[i] = sums[i] + enlarged
        levels = [output(x) for output, x in zip(self.output, sums)]
        if self.extra_level:
            levels.append(levels[-1][..., ::2, ::2])
        return levels


class SmallPyramid(nn.Module):
    """The small backbone with a pyramid on it: strides 4, 8, 16 and 32.

    Its seven convolutions are those of `SmallBackbone`. Three maps are taken from them,
    of 32, 64 and 128 channels: the last of each stride from 4 to 16.

    Args:
        out_channels: channels of every level.

    Attributes:
        out_channels: channels of every level.
        strides: pixels of the image per cell, of each level.

    Raises:
        SettingError: `out_channels` below 1.

    >>> backbone = SmallPyramid()
    >>> [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 96, 128))]
    [(1, 64, 24, 32), (1, 64, 12, 16), (1, 64, 6, 8), (1, 64, 3, 4)]
    >>> backbone.strides
    [4, 8, 16, 32]
    """

    def __init__(self, out_channels: int = 64) -> None:
        super().__init__()
        layers = list(SmallBackbone())  # convolution, normalisation, ReLU, seven times
        self.stages = nn.ModuleList(
            nn.Sequential(*part) for part in (layers[:6], layers[6:12], layers[12:])
        )
        self.pyramid = FeaturePyramid([32, 64, 128], out_channels, extra_level=True)
        self.out_channels = out_channels
        self.strides = [4, 8, 16, 32]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Four levels `(B, C, H, W)` of images `(B, 3, height, width)`.

        Raises:
            BoxError: as `SmallBackbone`.
        """
        check_cells(images, stride=16, training=self.training)
        x, maps = images, []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        levels: list[Tensor] = self.pyramid(maps)
        return levels

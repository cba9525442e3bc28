"""Backbones: from an image to its feature map, or to the levels of a pyramid.

Dimension letters: B images; C channels; H, W rows and columns of a feature map.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from rpn_lib.errors import BoxError, DownloadError, SettingError

# Where the stages of torchvision's networks end: the last module of stride 2, 4, 8, 16
# and 32, among the children of a ResNet or those of a MobileNet's `features`.
_RESNET = ("relu", "layer1", "layer2", "layer3", "layer4")


STAGES = {
    **dict.fromkeys(
        ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"], _RESNET
    ),
    "mobilenet_v3_small": ("0", "1", "3", "8", "12"),
    "mobilenet_v3_large": ("1", "3", "6", "12", "16"),
}


def check_cells(images: Tensor, stride: int, training: bool) -> None:
    """Refuse what batch normalisation cannot learn from: one image of a single cell.

    Args:
        images: `(B, 3, height, width)`.
        stride: pixels per cell of the coarsest map that is normalised.
        training: whether the network learns; if not, nothing is refused.

    Raises:
        BoxError: the image is a single cell.

    >>> check_cells(torch.zeros(1, 3, 16, 17), stride=16, training=True)
    """
    height, width = images.shape[-2:]
    if training and len(images) == 1 and max(height, width) <= stride:
        raise BoxError(
            f"In training, one image of {width} x {height} pixels is a single cell of "
            "the feature map, too little for batch normalisation: give more images, or "
            "larger ones."
        )


class SmallBackbone(nn.Sequential):
    """Seven 3x3 convolutions with batch normalisation: stride 16, 128 channels.

    Small enough to be trained from scratch on a laptop's processor in a minute. An
    image whose sides are no multiples of 16 gives a feature map of `ceil(side / 16)`.

    Attributes:
        out_channels: channels of the feature map.
        stride: pixels of the image per cell of the feature map.
        strides: the same as a list of one level.

    >>> SmallBackbone()(torch.zeros(2, 3, 240, 320)).shape
    torch.Size([2, 128, 15, 20])
    """

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        in_channels = 3
        for channels, step in [
            (16, 2),
            (32, 2),
            (64, 2),
            (64, 1),
            (128, 2),
            (128, 1),
            (128, 1),
        ]:
            layers += [
                nn.Conv2d(
                    in_channels,
                    channels,
                    kernel_size=3,
                    stride=step,
                    padding=1,
                    bias=False,
                ),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = channels
        super().__init__(*layers)
        self.out_channels = in_channels
        self.stride = 16
        self.strides = [self.stride]

    def forward(self, images: Tensor) -> Tensor:
        """The feature map `(B, 128, H, W)` of images `(B, 3, height, width)`.

        Raises:
            BoxError: in training mode, a batch whose feature map is a single cell.
        """
        check_cells(images, self.stride, self.training)
        for layer in self:
            images = layer(images)
        return images


class TorchvisionBackbone(nn.Module):
    """A ResNet or MobileNetV3 of torchvision as a backbone, with a pyramid if asked.

    A feature map is what the last block of its stride gives; an image side that is no
    multiple gives `ceil(side / stride)` cells. With `fpn`, all strides from the finest
    to 32 are joined by a feature pyramid (Lin et al., arXiv 1612.03144), and a coarser
    level of twice the stride is added, as in torchvision's detectors.

    Pretrained weights come with their batch normalisation frozen, as is usual where a
    batch holds few images; without them it is learnt.

    Args:
        name: one of `STAGES`: `"resnet18"`, `34`, `50`, `101`, `152`,
            `"mobilenet_v3_small"` or `"mobilenet_v3_large"`.
        fpn: give several levels of 256 channels instead of one.
        weights: `None` for random ones; `"DEFAULT"`, another name or a member of
            torchvision's weights for those learnt on ImageNet, which are downloaded
            once and kept in torch's cache.
        stride: 4, 8, 16 or 32, of the feature map, or of the finest level of the
            pyramid; 16 without a pyramid and 4 with one if not given.
        frozen_stages: how many of the five stages (those of stride 2, 4, 8, 16, 32)
            are not trained, from the image on; 2 with pretrained weights and 0 without
            if not given.
        normalize: subtract ImageNet's mean and divide by its deviation, so that images
            are in 0..1, like those of `rpn_lib.data`. `False` inside torchvision's
            detectors, which have done so already.

    Attributes:
        out_channels: channels of each feature map.
        strides: pixels of the image per cell, a list with one number for each level.

    Raises:
        SettingError: an unknown name, weights, stride or number of stages; random
            weights that are not to be trained.
        DownloadError: weights that cannot be downloaded.

    >>> backbone = TorchvisionBackbone("resnet18")
    >>> backbone(torch.zeros(1, 3, 96, 128)).shape, backbone.strides
    (torch.Size([1, 256, 6, 8]), [16])
    >>> backbone = TorchvisionBackbone("mobilenet_v3_small", fpn=True, stride=8)
    >>> [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 96, 128)).values()]
    [(1, 256, 12, 16), (1, 256, 6, 8), (1, 256, 3, 4), (1, 256, 2, 2)]
    >>> backbone.strides
    [8, 16, 32, 64]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet18",
        *,
        fpn: bool = False,
        weights: str | WeightsEnum | None = None,
        stride: int | None = None,
        frozen_stages: int | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if name not in STAGES:
            raise SettingError(f"name is {name!r}, none of {', '.join(STAGES)}.")
        stride = (4 if fpn else 16) if stride is None else stride
        if stride not in (4, 8, 16, 32):
            raise SettingError(f"stride is {stride!r}; it must be 4, 8, 16 or 32.")
        if frozen_stages is None:
            frozen_stages = 0 if weights is None else 2
        if not 0 <= frozen_stages <= 5 or (frozen_stages and weights is None):
            raise SettingError(
                f"frozen_stages={frozen_stages} must be 0 to 5, and 0 without weights: "
                "random weights that are never trained are of no use."
            )
        self.strides = [s for s in (4, 8, 16, 32) if s >= stride][: None if fpn else 1]
        ends = dict(zip(STAGES[name], (2, 4, 8, 16, 32)))
        self._level_at = {n: str(s) for n, s in ends.items() if s in self.strides}
        network = _torchvision_network(name, weights)
        self.body = _stages(network, ends, self.strides[-1], frozen_stages)
        with torch.no_grad():
            probe = self.eval()._levels(torch.zeros(1, 3, 64, 64))
        self.train()
        channels = [feature.shape[1] for feature in probe.values()]
        self.out_channels = channels[0]
        self.pyramid = None
        if fpn:
            self.out_channels = 256
            self.pyramid = FeaturePyramidNetwork(
                channels, self.out_channels, extra_blocks=LastLevelMaxPool()
            )
            self.strides.append(self.strides[-1] * 2)
        mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        if not normalize:
            mean, std = ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
        for key, value in {"mean": mean, "std": std}.items():
            constant = torch.tensor(value)[:, None, None]  # (3, 1, 1)
            self.register_buffer(key, constant, persistent=False)

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """The feature map `(B, C, H, W)` of images `(B, 3, height, width)`.

        With a pyramid, one for each level, by name, the finest first.
        """
        levels = self._levels((images - self.mean) / self.std)
        if self.pyramid is None:
            return levels[str(self.strides[0])]
        pyramid: dict[str, Tensor] = self.pyramid(levels)
        return pyramid

    def _levels(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """What the body gives at each stride that is asked for."""
        levels = OrderedDict()
        for name, module in self.body.named_children():
            x = module(x)
            if name in self._level_at:
                levels[self._level_at[name]] = x
        return levels


def _stages(
    network: nn.Module, ends: Mapping[str, int], last: int, frozen: int
) -> nn.Sequential:
    """The blocks of a network up to a stride, the first stages not to be trained.

    `ends` has the stride that is reached at the end of a block, by its name.
    """
    body, stage = nn.Sequential(), 0
    for name, module in getattr(network, "features", network).named_children():
        if stage < frozen:
            module.requires_grad_(False)
        body.add_module(name, module)
        stage += name in ends
        if ends.get(name) == last:
            break  # what follows is coarser, or the classifier
    return body


def _torchvision_network(name: str, weights: str | WeightsEnum | None) -> nn.Module:
    """torchvision's classifier, its batch normalisation frozen if it is pretrained."""
    norm: Any = nn.BatchNorm2d if weights is None else FrozenBatchNorm2d
    if name.startswith("mobilenet"):
        # Not 1e-5 as torchvision's detectors: 1e-3 is what these weights learnt with.
        norm = partial(norm, eps=1e-3)
    known: Any = get_model_weights(name)
    if weights is not None:
        try:
            weights = known.verify(weights)
        except (KeyError, TypeError) as error:
            raise SettingError(
                f'weights={weights!r} are none of {name}: give "DEFAULT", one of '
                f"{', '.join(member.name for member in known)}, or None for random "
                "ones."
            ) from error
    try:
        network: nn.Module = get_model(name, weights=weights, norm_layer=norm)
    except (URLError, ConnectionError, TimeoutError) as error:
        url = known.verify(weights).url
        raise DownloadError(
            f"The weights of {name} cannot be downloaded ({error}). Connect to the "
            f"network once, or get {url} elsewhere and put it into "
            f"{torch.hub.get_dir()}/checkpoints, or use weights=None."
        ) from error
    return network

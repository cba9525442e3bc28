"""Anchors: boxes of fixed shapes, laid over the image at every cell of a feature map.

The shapes come from sizes and aspect ratios, the centres from the stride, and one
broadcast puts them together. Nothing is rounded and nothing depends on the picture,
only on the size of the feature map. (Faster R-CNN, section 3.1.1.)

Dimension letters: H, W rows and columns of a feature map; A anchor shapes at a cell; S
sizes; R aspect ratios; N = H * W * A anchors, counted row by row, then column, then
shape: the order `(H, W, A)`.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rpn_lib.boxes import upcast
from rpn_lib.errors import SettingError


def anchor_shapes(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Width and height of an anchor of every size and aspect ratio.

    The two equations `width / height = ratio` and `width * height = size ** 2` give
    `width = size * sqrt(ratio)` and `height = size / sqrt(ratio)`. Here an aspect ratio
    is width over height, so 2 is a wide box; torchvision and detectron2 mean height
    over width.

    Args:
        sizes: side of the square of the same area, pixels, S values above 0.
        aspect_ratios: width / height, R values above 0.

    Returns:
        `(S * R, 2)`, width and height, pixels; the first R rows have the first size.

    Raises:
        SettingError: no sizes or ratios, or one that is not a positive finite number.

    >>> anchor_shapes([128], [1, 2, 0.5])
    tensor([[128.0000, 128.0000],
            [181.0193,  90.5097],
            [ 90.5097, 181.0193]])
    """
    size = _positive(sizes, "sizes")[:, None]  # (S, 1)
    root = _positive(aspect_ratios, "aspect_ratios").sqrt()[None, :]  # (1, R)
    shapes = torch.stack([size * root, size / root], dim=-1)  # (S, R, 2)
    return shapes.flatten(0, 1).float()


def anchor_grid(
    grid_size: Sequence[int],
    stride: float | Sequence[float],
    shapes: Tensor,
    offset: float = 0.5,
) -> Tensor:
    """Put anchors of the given shapes at every cell of a feature map.

    Args:
        grid_size: `(H, W)`, rows and columns of the feature map.
        stride: pixels of the image per cell; one number, or `(down, right)`.
        shapes: `(A, 2)`, widths and heights, pixels.
        offset: where in its cell a centre lies, in cells: 0.5 is the middle, 0 the
            upper left corner, which is what torchvision uses.

    Returns:
        `(H, W, A, 4)`, xyxy, pixels, float32. Anchors at the border reach outside the
        image.

    Raises:
        SettingError: a grid, stride or shape that is not positive, an offset that
            is no number.

    >>> grid = anchor_grid((2, 3), 16, torch.tensor([[32.0, 8.0]]))
    >>> grid[1, 2, 0]  # centre (40, 24)
    tensor([24., 20., 56., 28.])
    """
    if len(grid_size) != 2 or not all(n >= 1 and n % 1 == 0 for n in grid_size):
        raise SettingError(
            f"grid_size is {tuple(grid_size)}; it must be (rows, columns), both 1 or "
            "more."
        )
    shapes, offset = _shapes(shapes, "shapes"), _offset(offset)
    steps = torch.as_tensor(stride, dtype=torch.float64)
    if steps.shape not in ((), (2,)) or not ((steps > 0) & steps.isfinite()).all():
        raise SettingError(
            f"stride must be a positive number, or two (down, right), not {stride!r}."
        )
    return _grid(grid_size, steps.expand(2).tolist(), shapes, offset)


def _grid(
    grid_size: Sequence[int], strides: Sequence[float], shapes: Tensor, offset: float
) -> Tensor:
    """`anchor_grid` without checks, as `torch.compile` and ONNX want it."""
    y, x = (
        (torch.arange(n, device=shapes.device, dtype=torch.float32) + offset) * stride
        for n, stride in zip(grid_size, strides)
    )
    around_origin = torch.cat([-shapes, shapes], dim=-1) / 2  # (A, 4)
    right = x[:, None, None] * shapes.new_tensor([1, 0, 1, 0])  # (W, 1, 4)
    row = right + around_origin  # (W, A, 4), which is then moved down
    down = shapes.new_tensor([0, 1, 0, 1]).expand_as(row)
    # As rows of numbers, (H, W * A * 4): four times as fast as four at a time.
    moved = torch.addcmul(row.flatten(), y[:, None], down.flatten())
    # (`len(y)` would fix the size in an exported graph.)
    return moved.view(y.shape[0], *row.shape)  # (H, W, A, 4)


def inside_image(
    anchors: Tensor, image_size: Sequence[int], margin: float = 0
) -> Tensor:
    """Which anchors lie within the image, or reach at most `margin` pixels out of it.

    The paper trains on the anchors inside only: of an image 1000 wide and 600 high
    about 6,000 of 20,000 by its own count, 8,044 of 21,546 by these functions.

    Args:
        anchors: `(..., 4)`, xyxy, pixels.
        image_size: `(height, width)`, pixels.
        margin: how far an anchor may reach outside, pixels, 0 or more.

    Returns:
        `(...)`, bool.

    >>> grid = anchor_grid((2, 2), 16, torch.tensor([[16.0, 16.0], [20.0, 16.0]]))
    >>> inside_image(grid, (32, 32))[0, 0]
    tensor([ True, False])
    """
    height, width = image_size
    x1, y1, x2, y2 = upcast(anchors).unbind(-1)
    return (
        (x1 >= -margin)
        & (y1 >= -margin)
        & (x2 <= width + margin)
        & (y2 <= height + margin)
    )


class AnchorGenerator(nn.Module):
    """Anchors for the feature maps of a network, one level or several.

    Args:
        sizes: for each level, its anchor sizes in pixels. A flat list is one level.
        aspect_ratios: width / height, the same at every level.
        strides: for each level, pixels of the image per cell. They are given, never
            computed from the size of a feature map: a 500 pixel wide image at stride 16
            has a grid of 32 columns, and 500 // 32 is 15.
        shapes: instead of sizes and ratios: for each level its `(width, height)` pairs.
        offset: see `anchor_grid`.

    Raises:
        SettingError: settings that do not fit together; the message names the level.

    >>> generate = AnchorGenerator(sizes=[64, 128, 256], strides=[32])
    >>> generate([(32, 32)])[0].shape
    torch.Size([9216, 4])
    """

    # Image sizes to remember, enough for a few batches; 268,569 anchors are 4 MB.
    cache_size = 8

    def __init__(
        self,
        sizes: Sequence[float] | Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
        strides: Sequence[float] = (16,),
        *,
        shapes: Sequence[Sequence[Sequence[float]]] | None = None,
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        if (sizes is None) == (shapes is None):
            raise SettingError(
                "Give AnchorGenerator either sizes (with aspect_ratios) or shapes."
            )
        if shapes is not None:
            levels = [
                _shapes(level, f"shapes of level {number}")
                for number, level in enumerate(shapes)
            ]
        else:
            per_level: Any = sizes
            if not isinstance(sizes, Sequence):
                raise SettingError(f"sizes must be a list, not {sizes!r}.")
            if not any(isinstance(level, Sequence) for level in sizes):
                per_level = [sizes]  # a flat list is one level
            for number, level in enumerate(per_level):
                _positive(level, f"sizes of level {number}")
            levels = [anchor_shapes(level, aspect_ratios) for level in per_level]
        _positive(strides, "strides")
        if len(levels) != len(strides):
            raise SettingError(
                f"{len(levels)} levels of anchors and {len(strides)} strides; give one "
                "of each per level."
            )
        self.levels = levels
        self.strides = tuple(strides)
        self.offset = _offset(offset)
        self._cache: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    @property
    def num_anchors(self) -> list[int]:
        """Anchors at a cell (A), for each level."""
        return [len(level) for level in self.levels]

    def forward(
        self, grid_sizes: Sequence[Sequence[int]], device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """Anchors of each level, flat.

        Args:
            grid_sizes: `(H, W)` of each level's feature map.
            device: where the anchors shall live.

        Returns:
            for each level `(H * W * A, 4)`, xyxy, pixels, float32. They are shared
            between calls: do not write into them.

        Raises:
            SettingError: another number of feature maps than of levels.
        """
        if len(grid_sizes) != len(self.levels):
            raise SettingError(
                f"{len(grid_sizes)} feature maps for {len(self.levels)} levels of "
                "anchors."
            )
        return [
            self._level(i, tuple(size), torch.device(device))
            for i, size in enumerate(grid_sizes)
        ]

    def grids(
        self, grid_sizes: Sequence[Sequence[int]]
    ) -> tuple[tuple[int, int, int], ...]:
        """How the anchors of all levels lie: rows, columns, shapes of each level.

        Args:
            grid_sizes: `(H, W)` of each level's feature map.

        Returns:
            for each level `(H, W, A)`, as `rpn_lib.fast.match_anchors` takes them.

        >>> AnchorGenerator([[32], [64]], strides=[8, 16]).grids([(4, 6), (2, 3)])
        ((4, 6, 3), (2, 3, 3))
        """
        return tuple(
            (int(rows), int(columns), shapes)
            for (rows, columns), shapes in zip(grid_sizes, self.num_anchors)
        )

    def cells_of_images(
        self, grid_sizes: Sequence[Sequence[int]], image_sizes: Sequence[Sequence[int]]
    ) -> list[Tensor] | None:
        """Which cells show an image, where a batch is padded at the right and bottom.

        Args:
            grid_sizes: `(H, W)` of each level's feature map, padding included.
            image_sizes: for each of B images `(height, width)`, pixels, unpadded.

        Returns:
            for each level `(B, H, W)`, bool; `None` where no cell is all padding.

        >>> generate = AnchorGenerator([32], strides=[16])
        >>> generate.cells_of_images([(2, 3)], [(32, 20), (32, 48)])[0][0]
        tensor([[ True,  True, False],
                [ True,  True, False]])
        """
        lowest = min(height for height, _ in image_sizes)
        narrowest = min(width for _, width in image_sizes)
        if all(
            (rows - 1) * stride < lowest and (columns - 1) * stride < narrowest
            for (rows, columns), stride in zip(grid_sizes, self.strides)
        ):
            return None
        heights, widths = torch.tensor(image_sizes).T[:, :, None]  # (B, 1) each
        masks = []
        for (rows, columns), stride in zip(grid_sizes, self.strides):
            down = torch.arange(rows) * stride < heights  # (B, H)
            right = torch.arange(columns) * stride < widths  # (B, W)
            masks.append(down[:, :, None] & right[:, None, :])
        return masks

    def _level(
        self, index: int, grid_size: tuple[int, ...], device: torch.device
    ) -> Tensor:
        shapes, strides = self.levels[index].to(device), [self.strides[index]] * 2
        if torch.compiler.is_compiling():  # sizes are symbols then, no keys of a cache
            return _grid(grid_size, strides, shapes, self.offset).flatten(0, 2)
        key = (index, grid_size, device)
        if key not in self._cache:
            grid = _grid(grid_size, strides, shapes, self.offset)
            self._cache[key] = grid.flatten(0, 2)
            if len(self._cache) > self.cache_size * len(self.levels):
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def extra_repr(self) -> str:
        """Shapes and strides, for `print(network)`."""
        return f"num_anchors={self.num_anchors}, strides={self.strides}"


def _positive(values: Sequence[float], name: str) -> Tensor:
    """Positive finite numbers as a float64 vector."""
    tensor = torch.as_tensor(values, dtype=torch.float64)
    good = (tensor > 0) & tensor.isfinite()
    if tensor.ndim != 1 or not len(tensor) or not good.all():
        raise SettingError(
            f"{name} must be a list of positive numbers, not {values!r}."
        )
    return tensor


def _offset(value: float) -> float:
    if not math.isfinite(value):
        raise SettingError(f"offset must be a finite number, not {value!r}.")
    return value


def _shapes(values: Tensor | Sequence[Sequence[float]], name: str) -> Tensor:
    """Widths and heights as a float32 tensor `(A, 2)`."""
    try:
        shapes = torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"{name} must be (A, 2) positive widths and heights, not {values!r}."
        ) from error
    good = (shapes > 0) & shapes.isfinite()
    if shapes.ndim != 2 or shapes.shape[1] != 2 or not len(shapes) or not good.all():
        raise SettingError(
            f"{name} must be (A, 2) positive widths and heights, not {shapes.tolist()}."
        )
    return shapes

"""Images of different sizes in one batch: padding, and what must not be learnt of it.

Dimension letters: B images; C channels; G boxes of an image; H, W rows and columns of a
feature map; N anchors of a level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.boxes import check_boxes
from rpn_lib.errors import BoxError


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


def blank_padding(
    features: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    anchors: AnchorGenerator,
) -> tuple[Sequence[Tensor], list[Tensor] | None]:
    """Feature maps that are 0 in the padding, and which anchors are not in it.

    Args:
        features: for each level `(B, C, H, W)`.
        image_sizes: for each image `(height, width)`, pixels, without padding.
        anchors: the levels of anchors.

    Returns:
        the maps, and for each level `(B, N)`, bool; `None` where no cell is all
        padding.

    >>> anchors = AnchorGenerator([8], [1], strides=[8])
    >>> sizes = [(8, 16), (8, 8)]
    >>> maps, valid = blank_padding([torch.ones(2, 1, 1, 2)], sizes, anchors)
    >>> maps[0].flatten().tolist(), valid[0].tolist()
    ([1.0, 1.0, 1.0, 0.0], [[True, True], [True, False]])
    """
    grids = [feature.shape[-2:] for feature in features]
    cells = anchors.cells_of_images(grids, image_sizes)
    if cells is None:
        return features, None
    cells = [mask.to(features[0].device) for mask in cells]  # each (B, H, W)
    blank = [x * mask[:, None] for x, mask in zip(features, cells)]
    shapes = anchors.num_anchors[0]
    return blank, [mask.flatten(1).repeat_interleave(shapes, 1) for mask in cells]


def check_batch(
    boxes: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str] | None,
    device: torch.device,
    what: str = "",
) -> list[Tensor]:
    """Boxes of each image, checked, as float32 on one device.

    Args:
        boxes: for each image `(G, 4)`, xyxy, pixels.
        sizes: for each image `(height, width)`, pixels.
        names: what to call the images in a message.
        device: where the boxes go.
        what: what to call the boxes in a message, where they are not true boxes.

    Raises:
        BoxError: boxes that cannot be used; the message names the image.

    >>> check_batch([[[0, 0, 9, 8]]], [(10, 10)], None, torch.device("cpu"))
    [tensor([[0., 0., 9., 8.]])]
    """
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

"""Photographs: whatever a camera or an editor wrote, read as upright RGB.

Dimension letters: H, W height and width of an image.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from rpn_lib.errors import DataError

# The endings that a folder of photographs is searched for, in this order.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


# What Pillow raises for files that are damaged, foreign or far too large.
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_image(path: str | Path) -> Tensor:
    """Read a photograph as RGB, upright as its camera noted.

    Greyscale is repeated in three channels, 16-bit values are divided by 257, so that
    white stays white, and an alpha channel is left out.

    Args:
        path: a file of any format that Pillow reads.

    Returns:
        `(3, H, W)`, uint8.

    Raises:
        DataError: a missing, empty, truncated or foreign file.

    >>> import matplotlib
    >>> folder = f"{matplotlib.get_data_path()}/sample_data"
    >>> read_image(f"{folder}/grace_hopper.jpg").shape
    torch.Size([3, 600, 512])
    """
    try:
        with Image.open(path) as image:
            pixels: Tensor = pil_to_tensor(_rgb(ImageOps.exif_transpose(image)))
            return pixels
    except BROKEN as error:
        raise DataError(
            f"{path} cannot be read as an image: {why_unreadable(path, error)}"
        ) from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a photograph, upright, from the head of its file alone.

    Args:
        path: a file of any format that Pillow reads.

    Returns:
        `(height, width)`, pixels.

    Raises:
        DataError: a missing, empty or foreign file. A truncated one goes unnoticed.

    >>> import matplotlib
    >>> folder = f"{matplotlib.get_data_path()}/sample_data"
    >>> image_size(f"{folder}/grace_hopper.jpg")
    (600, 512)
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # EXIF: orientations 5 to 8 lie on their side.
            turned = image.getexif().get(0x0112, 1) >= 5
            return (width, height) if turned else (height, width)
    except BROKEN as error:
        raise DataError(
            f"{path} cannot be read as an image: {why_unreadable(path, error)}"
        ) from error


def why_unreadable(path: str | Path, error: Exception) -> str:
    """What is the matter with a file that Pillow refused, in a sentence.

    Args:
        path: the file.
        error: what was raised.

    >>> why_unreadable("nowhere.jpg", FileNotFoundError())
    'there is no such file.'
    """
    if isinstance(error, FileNotFoundError):
        return "there is no such file."
    if Path(path).is_file() and not Path(path).stat().st_size:
        return "the file is empty."
    if isinstance(error, UnidentifiedImageError):
        return "it is in no format that Pillow knows."
    return f"{str(error).rstrip('.')}."


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values: Any = np.asarray(image).astype(np.float64)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"its pixels (mode {image.mode}) are no whole numbers of 8 or 16 bits; "
                "save it with 8 bits a channel"
            )
        # Pillow's own conversion would cut every value above 255 off.
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    if image.mode in ("P", "PA"):  # a palette may hold transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")

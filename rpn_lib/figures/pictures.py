"""Pictures as arrays, and as files that are small enough for a page.

Dimension letters: H, W height and width of a picture.
"""

import io
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from rpn_lib.errors import SettingError

Picture: TypeAlias = Tensor | np.ndarray[Any, Any]

_QUALITIES = (85, 75, 60, 45, 30, 15)  # of a JPEG; the last is for pure noise


def to_array(image: Picture, where: str = "") -> np.ndarray[Any, Any]:
    """Turn a picture of any kind into an array, its values as they are.

    Args:
        image: `(3, H, W)` or `(1, H, W)` tensor, or `(H, W, 3)` or `(H, W, 1)` array or
            tensor.
        where: what an error says first.

    Returns:
        `(H, W, 3)` or `(H, W, 1)`.

    Raises:
        SettingError: not a picture.

    >>> to_array(np.zeros((24, 32, 1))).shape
    (24, 32, 1)
    """
    if isinstance(image, Tensor):
        if image.ndim == 3 and image.shape[0] in (1, 3):
            image = image.permute(1, 2, 0)
        image = image.detach().cpu().numpy()
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise SettingError(
            f"{where}image has shape {tuple(pixels.shape)}; a picture is a (3, H, W) "
            "tensor or an (H, W, 3) array."
        )
    return pixels


def to_pixels(
    image: Picture, image_size: tuple[int, int], where: str = ""
) -> np.ndarray[Any, Any]:
    """Turn a picture into pixels to embed, or refuse it.

    Args:
        image: as `to_array` takes it; uint8 in 0..255, or float in 0..1.
        image_size: `(height, width)` that it must have, pixels.
        where: what an error says first.

    Returns:
        `(H, W, 3)`, uint8.

    Raises:
        SettingError: another size, type or range.

    >>> int(to_pixels(np.full((24, 32, 1), 0.5), (24, 32)).max())
    128
    """
    pixels = to_array(image, where)
    if pixels.shape[:2] != image_size:
        height, width = image_size
        raise SettingError(
            f"{where}image has (height, width, channels) {pixels.shape}; image_size "
            f"asks for ({height}, {width}, 3)."
        )
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "fb":
            raise SettingError(
                f"{where}image is {pixels.dtype}; give uint8 (0 to 255) or float "
                "(0 to 1)."
            )
        pixels = pixels.astype(float)
        low, high = pixels.min(), pixels.max()
        if not np.isfinite([low, high]).all():
            raise SettingError(f"{where}image has a value that is not finite.")
        if low < -0.001 or high > 1.001:
            raise SettingError(
                f"{where}image has values from {low:g} to {high:g}; those of a float "
                "picture go from 0 to 1, those of uint8 from 0 to 255."
            )
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(pixels.repeat(3 // pixels.shape[2], 2))


def encode_picture(picture: Image.Image, limit: int) -> tuple[str, bytes]:
    """Turn a picture into the content of a small file.

    A drawing is small as a PNG, which keeps every pixel. A photograph is not: it
    becomes a JPEG. The colours of that are not subsampled, since the lines of boxes are
    thin and would take the colour of what lies beneath.

    Args:
        picture: any size; transparency is dropped.
        limit: bytes that a PNG may have; a JPEG keeps to it where it can.

    Returns:
        `"png"` or `"jpeg"`, and the content of the file.

    >>> encode_picture(Image.new("RGB", (32, 24), "white"), 1000)[0]
    'png'
    >>> noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    >>> kind, content = encode_picture(Image.fromarray(noise), 1000)
    >>> kind, len(content) <= 1000
    ('jpeg', True)
    """
    picture = picture.convert("RGB")
    few = picture.getcolors(256)
    # A palette of all its colours loses nothing and makes the file a third as large.
    drawing = picture.quantize(len(few), dither=Image.Dither.NONE) if few else picture
    if few and drawing.convert("RGB").tobytes() != picture.tobytes():
        drawing = picture
    file = io.BytesIO()
    drawing.save(file, "png", optimize=True)
    if file.tell() <= limit:
        return "png", file.getvalue()
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "jpeg", quality=quality, subsampling=0, optimize=True)
        if file.tell() <= limit:
            break
    return "jpeg", file.getvalue()

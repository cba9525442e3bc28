"""Pictures as arrays, and as files that are small enough for a page.

Dimension letters: H, W height and width of a picture.
"""

import io
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

Picture: TypeAlias = Tensor | np.ndarray[Any, Any]

_QUALITIES = (85, 75, 60, 45, 30, 15)  # of a JPEG; the last is for pure noise


def encode_picture(picture: Image.Image, limit: int) -> tuple[str, bytes]:
    """Turn a picture into the content of a small file.

    A drawing is small as a PNG, which keeps every pixel. A photograph is not; it becomes
    a JPEG. Its colours are not subsampled: the lines of boxes are thin, and would take
    the colour of what lies beneath.

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

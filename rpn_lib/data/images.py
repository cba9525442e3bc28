"""Photographs: whatever a camera or an editor wrote, read as upright RGB.

Dimension letters: H, W height and width of an image.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rpn_lib.data.reading import Exif
from rpn_lib.errors import PictureError

if TYPE_CHECKING:
    from torch import Tensor

# The endings that a folder of photographs is searched for, in this order.
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".jfif", ".jpe", ".avif"),
)


# What Pillow raises for files that are damaged, foreign or far too large.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,  # of AVIF
    Image.DecompressionBombError,
)


LFS = b"version https://git-lfs"  # what a file begins with that was not fetched


ORIENTATION = 0x0112  # EXIF: 1 upright, 2 to 4 turned or mirrored, 5 to 8 on its side


WIDTH, HEIGHT = 256, 257  # of a TIFF, as it is stored


# What takes back what a number of EXIF asks for.
AS_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class Look(NamedTuple):
    """What one look at a picture shows.

    Attributes:
        size: `(height, width)`, pixels, upright.
        orientation: as EXIF numbers it, 1 where there is nothing to turn; 0 where what
            stands there is no such number.
        brightest: the highest value of a picture of more than 8 bits that was decoded.
    """

    size: tuple[int, int]
    orientation: int
    brightest: int | None


def read_image(
    path: str | Path, exif: Exif = "apply", max_pixels: int | None = None
) -> "Tensor":
    """Read a photograph as RGB, upright as its camera noted.

    Greyscale is repeated in three channels, 16-bit values are divided by 257, so that
    white stays white, and an alpha channel is left out.

    Args:
        path: a file of any format that Pillow reads.
        exif: `ignore` leaves the picture as it is stored.
        max_pixels: the most that a picture may have; about 179 million if not given.

    Returns:
        `(3, H, W)`, uint8.

    Raises:
        PictureError: a missing, empty, truncated, foreign or too large file.

    >>> import matplotlib
    >>> folder = f"{matplotlib.get_data_path()}/sample_data"
    >>> read_image(f"{folder}/grace_hopper.jpg").shape
    torch.Size([3, 600, 512])
    """
    from torchvision.transforms.v2.functional import pil_to_tensor  # slow to import

    try:
        with _opened(path, max_pixels) as image:
            pixels: Tensor = pil_to_tensor(_rgb(_turned(image, exif)))
            return pixels
    except BROKEN as error:
        raise _unreadable(path, error) from error


def look_at(
    path: str | Path,
    decode: bool = False,
    exif: Exif = "apply",
    max_pixels: int | None = None,
) -> Look:
    """Size and orientation of a photograph.

    Args:
        path: a file of any format that Pillow reads.
        decode: read all of it, which alone shows that it is truncated; if not, only the
            head of the file.
        exif: see `read_image`.
        max_pixels: see `read_image`.

    Raises:
        PictureError: as of `read_image`.
    """
    try:
        with _opened(path, max_pixels) as image:
            # Of 16 bits in colour Pillow reads the upper 8. (EXIF may be behind the
            # pixels: to look for it empties `tile`.)
            deep_rgb = image.mode == "RGB" and ";16" in str(image.tile[:1])
            turn = _orientation(image)
            width, height = image.size
            if image.format == "TIFF":  # of which Pillow may give the turned size
                width, height = image.tag_v2[WIDTH], image.tag_v2[HEIGHT]
            deep = image.mode.startswith("I")
            brightest = None
            if decode:
                if deep or deep_rgb:
                    brightest = int(np.asarray(image).max()) * (257 if deep_rgb else 1)
                # Turning reads the EXIF part, which may be damaged.
                _rgb(_turned(image, exif))
            if turn >= 5 and exif == "apply":
                height, width = width, height
            return Look((height, width), turn, brightest)
    except BROKEN as error:
        raise _unreadable(path, error) from error


def image_size(
    path: str | Path, exif: Exif = "apply", max_pixels: int | None = None
) -> tuple[int, int]:
    """Height and width of a photograph, upright, from the head of its file alone.

    Args:
        path: a file of any format that Pillow reads.
        exif: see `read_image`.
        max_pixels: see `read_image`.

    Returns:
        `(height, width)`, pixels.

    Raises:
        PictureError: a missing, empty or foreign file. A truncated one goes unnoticed.

    >>> import matplotlib
    >>> folder = f"{matplotlib.get_data_path()}/sample_data"
    >>> image_size(f"{folder}/grace_hopper.jpg")
    (600, 512)
    """
    return look_at(path, exif=exif, max_pixels=max_pixels).size


def _opened(path: str | Path, max_pixels: int | None) -> Image.Image:
    if max_pixels is not None:
        # Pillow's own limit holds for the whole process; it is only ever raised.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    image = Image.open(path)
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        image.close()
        raise Image.DecompressionBombError(
            f"it has {width * height} pixels, more than max_pixels={max_pixels}"
        )
    return image


def _orientation(image: Image.Image) -> int:
    """What EXIF says: a whole number from 1 to 8, or 0 for anything else."""
    noted = image.getexif().get(ORIENTATION, 1)
    return noted if isinstance(noted, int) and 1 <= noted <= 8 else 0


def _unreadable(path: str | Path, error: Exception) -> PictureError:
    fix = "Copy or export the picture anew, or take its name out of the split."
    if isinstance(error, Image.DecompressionBombError):
        fix = (
            "If it is a photograph of yours, allow as many pixels as it has with "
            "max_pixels (--max-pixels)."
        )
    return PictureError(path, why_unreadable(path, error), fix)


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
        with Path(path).open("rb") as file:
            if file.read(len(LFS)) == LFS:
                return "it is a pointer of Git LFS in place of the file: git lfs pull."
        return "it is in no format that Pillow knows."
    return f"{str(error).rstrip('.')}."


def _turned(image: Image.Image, exif: Exif) -> Image.Image:
    """A picture as its camera noted, or as it is stored."""
    if image.format != "TIFF":
        return ImageOps.exif_transpose(image) if exif == "apply" else image
    turn = _orientation(image)
    image.load()  # which turns a TIFF
    if exif == "ignore" and turn in AS_STORED:
        return image.transpose(AS_STORED[turn])
    return image


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

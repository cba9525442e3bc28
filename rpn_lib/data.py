"""Data: scenes made on the fly, folders of annotated photographs, and batches of both.

A sample is an image and a target, as in torchvision's `transforms.v2`: the image a
uint8 `(3, H, W)`, the target a dictionary of `boxes` `(G, 4)` (xyxy, pixels), `labels`
`(G,)` and `image_id`. Random crops, flips and resizing then move image and boxes
together.

Dimension letters: H, W height and width of an image; G true boxes of an image.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import torch
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype

from rpn_lib.boxes import BoxError

Target = dict[str, Any]
Sample = tuple[Tensor, Target]
Canvas: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


class DataError(ValueError):
    """A file of a data set that cannot be used; the message names it and says why."""


def _target(
    boxes: Tensor, labels: Sequence[int], image_id: str, image: Tensor
) -> Target:
    height, width = image.shape[-2:]
    return {
        "boxes": tv_tensors.BoundingBoxes(
            boxes.reshape(-1, 4), format="XYXY", canvas_size=(height, width)
        ),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_id": image_id,
    }


class ShapesDataset(Dataset[Sample]):
    """Scenes of rectangles, ellipses, triangles and diamonds over a cluttered ground.

    Nothing is stored or downloaded: scene `i` is drawn when it is asked for, and is the
    same each time. Objects differ in size, aspect ratio and colour and overlap a
    little; lines and specks between them are no objects.

    Args:
        length: number of scenes.
        image_size: `(height, width)`, pixels.
        max_objects: most objects of a scene; the fewest is 0.
        sizes: smallest and largest `sqrt(width * height)` of an object, pixels.
        seed: another seed, other scenes.

    Raises:
        BoxError: settings that cannot be drawn.

    >>> image, target = ShapesDataset(length=10, seed=0)[3]
    >>> image.shape, target["boxes"].shape[1], target["image_id"]
    (torch.Size([3, 192, 256]), 4, 'scene 3')
    """

    classes = ("rectangle", "ellipse", "triangle", "diamond")  # labels 1, 2, 3, 4

    def __init__(
        self,
        length: int = 400,
        image_size: tuple[int, int] = (192, 256),
        max_objects: int = 8,
        sizes: tuple[float, float] = (16, 96),
        seed: int = 0,
    ) -> None:
        if length < 1 or max_objects < 0 or seed < 0:
            raise BoxError(
                f"length={length} must be 1 or more, max_objects={max_objects} and "
                f"seed={seed} 0 or more."
            )
        # An aspect ratio of 2 makes a side sqrt(2) times the size.
        if not 4 <= sizes[0] <= sizes[1] or sizes[1] * 1.5 > min(image_size):
            raise BoxError(
                f"sizes={sizes} must be (smallest, largest) in pixels, from 4 to two "
                f"thirds of the shorter side of the image, {min(image_size)}."
            )
        self.length = length
        self.image_size = image_size
        self.max_objects = max_objects
        self.sizes = sizes
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Draw scene `index`."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = np.random.default_rng((self.seed, index))
        canvas = self._ground(rng)
        boxes: list[list[int]] = []
        labels: list[int] = []
        for _ in range(rng.integers(0, self.max_objects + 1)):
            box = self._place(rng, boxes)
            if box is not None:
                boxes.append(box)
                labels.append(int(rng.integers(1, len(self.classes) + 1)))
                self._draw(canvas, box, labels[-1], rng)
        canvas += rng.normal(0, 0.03, canvas.shape)
        pixels = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
        box_tensor = torch.tensor(boxes, dtype=torch.float32)
        return image, _target(box_tensor, labels, f"scene {index}", image)

    def _ground(self, rng: np.random.Generator) -> Canvas:
        """A colour gradient with lines and specks, `(H, W, 3)` in 0..1."""
        height, width = self.image_size
        corners = rng.uniform(0.25, 0.75, (2, 2, 3))
        y, x = (
            np.linspace(0, 1, height)[:, None, None],
            np.linspace(0, 1, width)[:, None],
        )
        top = corners[0, 0] * (1 - x) + corners[0, 1] * x
        bottom = corners[1, 0] * (1 - x) + corners[1, 1] * x
        canvas: Canvas = top * (1 - y) + bottom * y
        rows, columns = np.mgrid[:height, :width]
        for _ in range(rng.integers(0, 7)):
            angle, thickness = rng.uniform(0, np.pi), rng.uniform(0.5, 1.5)
            across = (columns - rng.uniform(0, width)) * np.sin(angle)
            across -= (rows - rng.uniform(0, height)) * np.cos(angle)
            canvas[np.abs(across) < thickness] = rng.uniform(0, 1, 3)
        for _ in range(rng.integers(0, 41)):
            r, c = rng.integers(0, height), rng.integers(0, width)
            canvas[r : r + 3, c : c + 3] = rng.uniform(0, 1, 3)
        return canvas

    def _place(
        self, rng: np.random.Generator, boxes: list[list[int]]
    ) -> list[int] | None:
        """A new box that shares at most 30 % of the smaller one with any other."""
        height, width = self.image_size
        for _ in range(20):
            size = np.exp(rng.uniform(*np.log(self.sizes)))
            root = np.exp(rng.uniform(-0.5, 0.5) * np.log(2))  # ratio 1/2 to 2
            w, h = round(size * root), round(size / root)
            x, y = (
                int(rng.integers(0, width - w + 1)),
                int(rng.integers(0, height - h + 1)),
            )
            new = [x, y, x + w, y + h]
            if all(_overlap_of_smaller(new, old) <= 0.3 for old in boxes):
                return new
        return None

    def _draw(
        self,
        canvas: Canvas,
        box: list[int],
        label: int,
        rng: np.random.Generator,
    ) -> None:
        x1, y1, x2, y2 = box
        part = canvas[y1:y2, x1:x2]
        # From -1 to 1 across the box, at the middle of each pixel.
        v = ((np.arange(y2 - y1) + 0.5) / (y2 - y1) * 2 - 1)[:, None]
        u = ((np.arange(x2 - x1) + 0.5) / (x2 - x1) * 2 - 1)[None, :]
        mask = [
            np.maximum(abs(u), abs(v)) <= 1,
            u**2 + v**2 <= 1,
            abs(u) <= (v + 1) / 2 + 0.02,
            abs(u) + abs(v) <= 1.02,
        ][label - 1]
        # A colour that differs from the ground beneath, with a shade from left to
        # right.
        colour = (part.mean((0, 1)) + rng.uniform(0.25, 0.6, 3)) % 1.0
        shaded = colour * (1 + 0.25 * u[..., None] * rng.uniform(-1, 1))
        part[mask] = np.broadcast_to(shaded, part.shape)[mask]


def _overlap_of_smaller(a: list[int], b: list[int]) -> float:
    """Intersection over the area of the smaller box."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    smaller = min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return width * height / smaller


class VOCFolder(Dataset[Sample]):
    """Photographs with Pascal-VOC annotations: one XML file an image.

    The folder holds `JPEGImages`, `Annotations` and `ImageSets/Main/SPLIT.txt`, which
    lists the names of a split. VOC counts pixels from 1 and includes the last one, so a
    box `xmin, ymin, xmax, ymax` becomes `(xmin - 1, ymin - 1, xmax, ymax)` here.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or whatever `ImageSets/Main` offers.
        transform: called with image and target, for instance a `transforms.v2.Resize`.
        on_bad_box: `error` refuses a box without area, with a side turned round or
            outside its image; `drop` leaves it out and lists it in `dropped`.

    Attributes:
        names: the images of the split.
        classes: names of the classes found, sorted; labels count from 1 in this order.
        dropped: what was wrong with each box that was left out.

    Raises:
        DataError: a missing folder or file, XML or an image that cannot be read, a bad
            box; the message names the file. Annotations are all read at the start,
            images when asked for.

    >>> VOCFolder("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rpn_lib.data.DataError: nowhere/ImageSets/Main/train.txt is missing. A Pascal-VOC...
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[Tensor, Target], Sample] | None = None,
        on_bad_box: Literal["error", "drop"] = "error",
    ) -> None:
        if on_bad_box not in ("error", "drop"):
            raise DataError(f'on_bad_box is "error" or "drop", not {on_bad_box!r}.')
        self.root = Path(root)
        self.transform = transform
        self.on_bad_box = on_bad_box
        self.dropped: list[str] = []
        listing = self.root / "ImageSets" / "Main" / f"{split}.txt"
        if not listing.is_file():
            there = sorted(path.stem for path in listing.parent.glob("*.txt"))
            raise DataError(
                f"{listing} is missing. A Pascal-VOC folder lists the images of each "
                f"split there; this one has {', '.join(there) or 'none'}."
            )
        # A line may hold a flag after the name, as in VOC's lists of single classes.
        self.names = [
            line.split()[0] for line in listing.read_text().splitlines() if line
        ]
        if not self.names:
            raise DataError(f"{listing} names no image.")
        annotations = [self._read_annotation(name) for name in self.names]
        self.classes = sorted(
            {label for _, labels, _ in annotations for label in labels}
        )
        self._annotations = annotations

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read image `index`."""
        boxes, class_names, size = self._annotations[index]
        image = tv_tensors.Image(self._read_image(self.names[index], size))
        labels = [self.classes.index(name) + 1 for name in class_names]
        target = _target(boxes, labels, self.names[index], image)
        return self.transform(image, target) if self.transform else (image, target)

    def _read_image(self, name: str, size: tuple[int, int]) -> Tensor:
        path = self.root / "JPEGImages" / f"{name}.jpg"
        image = read_image(path)
        if image.shape[1:] != size:
            raise DataError(
                f"{path} is {image.shape[2]} x {image.shape[1]} pixels, but its "
                f"annotation says {size[1]} x {size[0]}. One of them was resized or "
                "turned without the other."
            )
        return image

    def _read_annotation(self, name: str) -> tuple[Tensor, list[str], tuple[int, int]]:
        path = self.root / "Annotations" / f"{name}.xml"
        try:
            root: Element = parse(path).getroot()
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing; {name} has no annotation.") from error
        except ParseError as error:
            raise DataError(f"{path} is not well-formed XML: {error}.") from error
        except DefusedXmlException as error:
            raise DataError(
                f"{path} holds entities or refers to other files ({error}). Such XML "
                "can fill the memory or read files; annotations need none of it."
            ) from error
        height, width = (
            _number(root, f"size/{key}", path) for key in ("height", "width")
        )
        size = (int(height), int(width))
        boxes, labels = [], []
        for number, element in enumerate(root.iter("object")):
            where = f"{path}, object {number}"
            xmin, ymin, xmax, ymax = corners = [
                _number(element, f"bndbox/{key}", where)
                for key in ("xmin", "ymin", "xmax", "ymax")
            ]
            problem = _problem(xmin, ymin, xmax, ymax, *size)
            if problem:
                values = ", ".join(f"{value:g}" for value in corners)
                problem = f"{where} (xmin, ymin, xmax, ymax = {values}): {problem}"
                if self.on_bad_box == "error":
                    raise DataError(
                        f"{problem} Correct the file, or leave such boxes out with "
                        'on_bad_box="drop" (--on-bad-box drop).'
                    )
                self.dropped.append(problem)
                continue
            boxes.append([xmin - 1, ymin - 1, xmax, ymax])
            labels.append(element.findtext("name", default="object"))
        return torch.tensor(boxes).reshape(-1, 4), labels, size


def _problem(
    xmin: float, ymin: float, xmax: float, ymax: float, height: int, width: int
) -> str:
    """What is wrong with a box as Pascal VOC writes it, or an empty string."""
    if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        return "a coordinate is not a finite number."
    # A box of one point, xmin = xmax, is one pixel wide in VOC's way of counting, but
    # it marks no object: it is what a slip of the mouse leaves behind.
    if xmax <= xmin or ymax <= ymin:
        return "xmax must be larger than xmin, and ymax larger than ymin."
    if min(xmin, ymin) < 1:
        return (
            "VOC counts pixels from 1; if the file was written by a tool that counts "
            "from 0, add 1 to xmin and ymin of all its boxes."
        )
    if xmax > width or ymax > height:
        return f"it reaches outside the image, {width} wide and {height} high."
    return ""


def read_image(path: str | Path) -> Tensor:
    """Read a photograph as RGB, upright as its camera noted.

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
            pixels: Tensor = pil_to_tensor(
                ImageOps.exif_transpose(image).convert("RGB")
            )
            return pixels
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def _number(element: Element, key: str, where: object) -> float:
    text = element.findtext(key)
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        found = "missing" if text is None else f"{text!r}, which is no number"
        raise DataError(f"{where}: {key} is {found}.") from error


def example_photo() -> tuple[Tensor, dict[str, tuple[int, int, int, int]]]:
    """The photograph of the book, Rear Admiral Grace Hopper, and seven true boxes.

    The picture is in the public domain and comes with matplotlib; the boxes were read
    off it by hand.

    Returns:
        `(3, 600, 512)`, uint8, and for each object its name and box, xyxy, pixels.

    >>> photo, objects = example_photo()
    >>> tuple(photo.shape), objects["cap"]
    ((3, 600, 512), (148, 22, 372, 182))
    """
    sample_data = files("matplotlib") / "mpl-data" / "sample_data"
    photo = read_image(Path(str(sample_data / "grace_hopper.jpg")))
    return photo, {
        "cap": (148, 22, 372, 182),
        "face": (155, 130, 377, 335),
        "glasses": (178, 168, 358, 232),
        "name tag": (78, 484, 168, 518),
        "ribbons": (322, 487, 453, 527),
        "button": (232, 576, 260, 600),
        "star": (46, 56, 88, 117),
    }


class InMemory(Dataset[Sample]):
    """A data set read once and kept, so that an epoch does not wait for files.

    Args:
        dataset: what to keep.
        transform: applied afresh at every access: random flips and crops belong here.

    >>> kept = InMemory(ShapesDataset(length=2))
    >>> len(kept), kept[1][1]["image_id"]
    (2, 'scene 1')
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        transform: Callable[[Tensor, Target], Sample] | None = None,
    ) -> None:
        length = len(dataset)  # type: ignore[arg-type]
        self.samples = [dataset[i] for i in range(length)]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`, transformed."""
        sample = self.samples[index]
        return self.transform(*sample) if self.transform else sample


def collate(samples: Iterable[Sample]) -> tuple[list[Tensor], list[Target]]:
    """A batch: images as floats in 0..1, and targets, each in a list.

    Images may differ in size and in the number of their boxes, so nothing is stacked;
    `rpn_lib.rpn.pad_images` does that.

    >>> scenes = ShapesDataset(length=2)
    >>> images, targets = collate([scenes[0], scenes[1]])
    >>> images[0].dtype, [t["image_id"] for t in targets]
    (torch.float32, ['scene 0', 'scene 1'])
    """
    images, targets = zip(*samples)
    return (
        [
            to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
            for image in images
        ],
        list(targets),
    )

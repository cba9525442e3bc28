"""Scenes of shapes with their true boxes, drawn when they are asked for.

Dimension letters: H, W height and width of an image.
"""

from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from rpn_lib.boxes import box_area, box_intersection
from rpn_lib.data.dataset import make_target
from rpn_lib.data.records import Sample
from rpn_lib.errors import SettingError

Canvas: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


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
        SettingError: settings that cannot be drawn.

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
            raise SettingError(
                f"length={length} must be 1 or more, max_objects={max_objects} and "
                f"seed={seed} 0 or more."
            )
        # An aspect ratio of 2 makes a side sqrt(2) times the size.
        if not 4 <= sizes[0] <= sizes[1] or sizes[1] * 1.5 > min(image_size):
            raise SettingError(
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
        return image, make_target(box_tensor, labels, f"scene {index}", image)

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
        others = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
        for _ in range(20):
            size = np.exp(rng.uniform(*np.log(self.sizes)))
            root = np.exp(rng.uniform(-0.5, 0.5) * np.log(2))  # ratio 1/2 to 2
            w, h = round(size * root), round(size / root)
            x, y = (
                int(rng.integers(0, width - w + 1)),
                int(rng.integers(0, height - h + 1)),
            )
            new = [x, y, x + w, y + h]
            own = others.new_tensor([new])
            smaller = torch.minimum(box_area(own), box_area(others))
            if (box_intersection(own, others) / smaller <= 0.3).all():
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


def unseen_scenes(length: int = 8, seed: int = 3) -> list[Tensor]:
    """Pictures of four objects or more that the trained network has not seen.

    Args:
        length: how many.
        seed: the seed that `ShapesDataset` draws by; the network learnt from 0.

    Returns:
        each `(3, H, W)`, uint8.

    >>> [image.shape for image in unseen_scenes(1)]
    [torch.Size([3, 192, 256])]
    """
    scenes = ShapesDataset(length=20 + 3 * length, seed=seed)
    samples = (scenes[i] for i in range(len(scenes)))
    full = (image for image, target in samples if len(target["boxes"]) >= 4)
    return list(islice(full, length))

"""Anchors that cross the border of their image: kept, dropped from training, clipped.

Dimension letters: N anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from rpn_lib.anchors import inside_image
from rpn_lib.errors import SettingError


@dataclass(frozen=True)
class BorderRule:
    """What becomes of anchors that cross the border of their image.

    Attributes:
        policy: `"keep"` them; `"drop"` them from training, as the paper does; `"clip"`
            them, which changes the shapes that the network learns corrections of.
        margin: with `"drop"`, how far an anchor may reach outside, pixels.

    Raises:
        SettingError: another policy.

    >>> anchors = torch.tensor([[-4.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 8.0]])
    >>> BorderRule("drop").learnt(anchors, (16, 16))
    tensor([False,  True])
    >>> BorderRule("clip").place(anchors, (16, 16))[0]
    tensor([0., 0., 8., 8.])
    """

    policy: str = "keep"
    margin: float = 0

    def __post_init__(self) -> None:
        if self.policy not in ("keep", "drop", "clip"):
            raise SettingError(
                f'border is "keep", "drop" or "clip", not {self.policy!r}.'
            )

    def place(self, anchors: Tensor, image_size: Sequence[int]) -> Tensor:
        """Anchors `(N, 4)`, xyxy, pixels, as an image `(height, width)` has them."""
        if self.policy != "clip":
            return anchors
        clipped: Tensor = clip_boxes_to_image(anchors, (image_size[0], image_size[1]))
        return clipped

    def learnt(self, anchors: Tensor, image_size: Sequence[int]) -> Tensor | None:
        """Which anchors are learnt from, `(N,)`, bool; `None` where all are."""
        if self.policy != "drop":
            return None
        return inside_image(anchors, image_size, self.margin)

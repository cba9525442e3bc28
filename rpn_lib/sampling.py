"""Sampling: which of the matched anchors the loss looks at.

Nearly all anchors are background. So of each image some are drawn, in a share that
leaves room for the objects (Faster R-CNN, section 3.1.3).

Dimension letters: N anchors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rpn_lib.errors import SettingError


@dataclass(frozen=True)
class SampleRule:
    """How many anchors of an image the loss looks at; see `sample_anchors`.

    Attributes:
        num_samples: how many to draw, 1 or more.
        positive_fraction: the largest share of objects, in [0, 1].

    Raises:
        SettingError: a number out of range.

    >>> SampleRule(num_samples=64).positive_fraction
    0.5
    """

    num_samples: int = 256
    positive_fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.num_samples < 1 or not 0 <= self.positive_fraction <= 1:
            raise SettingError(
                f"num_samples={self.num_samples} must be 1 or more and "
                f"positive_fraction={self.positive_fraction} between 0 and 1."
            )


def sample_anchors(
    labels: Tensor,
    rule: SampleRule = SampleRule(),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the anchors of one image that the loss looks at.

    Nearly all anchors are background; a loss over all of them would be about nothing
    else. So 256 are drawn, at most half of them objects; background fills up the rest.

    Args:
        labels: `(N,)` from `match_anchors`: above 0 object, 0 background, -1 ignored.
        rule: how many to draw, and the largest share of objects; fewer come back if
            there are not enough.
        generator: source of randomness; `None` is torch's global one.

    Returns:
        indices of objects and of background, int64, in random order.

    >>> labels = torch.tensor([1, 0, 0, -1, 0])
    >>> objects, background = sample_anchors(labels, SampleRule(num_samples=4))
    >>> objects, background.sort().values
    (tensor([0]), tensor([1, 2, 4]))
    """
    most_objects = int(rule.num_samples * rule.positive_fraction)
    objects = _choose((labels > 0).nonzero()[:, 0], most_objects, generator)
    rest = rule.num_samples - len(objects)
    background = _choose((labels == 0).nonzero()[:, 0], rest, generator)
    return objects, background


def _choose(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` of the indices, each subset as likely as any other, in random order."""
    # A generator draws on its own device.
    device = generator.device if generator is not None else indices.device
    total = len(indices)
    if total > 8 * count:
        # Few of many: draw with repetition until there are enough different ones,
        # rather than shuffle 268,000 to use 256.
        draws = torch.randint(total, (2 * count,), generator=generator, device=device)
        drawn: Tensor = torch.unique(draws)
        if len(drawn) >= count:
            indices, total = indices[drawn.to(indices.device)], len(drawn)
    order = torch.randperm(total, generator=generator, device=device)[:count]
    return indices[order.to(indices.device)]

"""Comparing and ranking many scores, in an order that depends on no machine.

`torch.topk` promises nothing about equal values: which of them are taken, and in which
order, differs between processors, devices and lengths. Here the earlier one comes
first, always.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Of so many values one is in the sample that says how high the largest ones are; and
# from how many values on to ask a sample is quicker than to look at all.
SAMPLED = 64
MANY = 2**15


def top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest values, best first; of equal values the earlier one comes first.

    Args:
        values: `(..., N)`. NaN counts as the largest, as it does for torch.
        k: how many, 0 or more; all of them if there are fewer.

    Returns:
        values `(..., K)` and their indices, int64, with K the smaller of k and N.

    >>> top_k(torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0]), 3)
    (tensor([3., 3., 2.]), tensor([1, 3, 2]))
    """
    k = min(k, values.shape[-1])
    plain = values.ndim == 1 and values.device.type == "cpu"
    if plain and 0 < 2 * k < len(values) and not torch.compiler.is_compiling():
        high = _high_ones(values, k)
        if high is not None:
            best, place = top_k(values[high], k)
            return best, high[place]
        # To sort everything takes fifty times as long as `topk`, whose choice is right
        # where there are no ties. Where there are, all that reach its last value are
        # sorted. (NaN is the largest, and reaches nothing: that is left to the sort.)
        top = values.topk(k)
        best, least = top.values, top.values[-1]
        reached = compared(torch.ge, values, least)
        num_reached = 0 if best[0].isnan() else int(reached.count_nonzero())
        if num_reached == k and not bool((best[1:] == best[:-1]).any()):
            return best, top.indices
        if num_reached >= k:
            index = reached.nonzero()[:, 0]
            order = values[index].sort(descending=True, stable=True).indices[:k]
            return values[index[order]], index[order]
    if getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)():
        # ONNX has no stable sort, and doesn't need one: its own top-k promises that of
        # equal values the earlier one comes first.
        top = values.topk(k)
        return top.values, top.indices
    ranked = values.sort(dim=-1, descending=True, stable=True)
    return ranked.values[..., :k], ranked.indices[..., :k]


def _high_ones(values: Tensor, k: int) -> Tensor | None:
    """Where the `k` largest values are, and few others; `None` where that is not known.

    A sample says how high they are, about. All values that are not below that are
    found, NaN too; if they are k or more, the k largest are among them.
    """
    sample = values[::SAMPLED]
    wanted = k // SAMPLED * 5 // 4 + 16  # some more, so that it is seldom too few
    if len(values) < MANY or 4 * wanted > len(sample):
        return None
    limit = sample.topk(wanted).values[-1]
    index = compared(torch.lt, values, limit).logical_not_().nonzero()[:, 0]
    return index if k <= len(index) < len(values) else None


def compared(
    comparison: Callable[..., Tensor], numbers: Tensor, other: Tensor | float
) -> Tensor:
    """A comparison, bool, in a third of the time: torch is quicker at writing int8.

    Args:
        comparison: `torch.ge`, `torch.eq` or the like.
        numbers: what is compared, of any shape.
        other: a number, or a tensor that broadcasts to that shape.

    >>> compared(torch.ge, torch.tensor([0.2, 0.9]), 0.7)
    tensor([False,  True])
    """
    result = torch.empty_like(numbers, dtype=torch.int8)
    return comparison(numbers, other, out=result).view(torch.bool)

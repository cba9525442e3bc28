"""The best of many scores, in an order that does not depend on the machine.

`torch.topk` promises nothing about equal values: which of them are taken, and in which
order, differs between processors, devices and lengths. Here the earlier one comes
first, always.
"""

import torch
from torch import Tensor


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
        # To sort everything takes fifty times as long as `topk`, whose choice is right
        # where there are no ties. Where there are, all that reach its last value are
        # sorted. (Nothing reaches NaN.)
        top = values.topk(k)
        best, least = top.values, top.values[-1]
        reached = values >= least
        num_reached = int(reached.count_nonzero())
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

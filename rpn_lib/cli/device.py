"""Where a network is computed."""

import torch

from rpn_lib.errors import TrainingError


def usable_device(name: str | None = None) -> str:
    """The device that is asked for, or `cuda` where there is a GPU, else `cpu`.

    Args:
        name: `cpu`, `cuda`, `mps`; `None` to choose.

    Raises:
        TrainingError: a device that this machine does not have.

    >>> usable_device("cpu")
    'cpu'
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise TrainingError(
            f"The device {name} cannot be used ({reason}). Give --device cpu, or leave "
            "it out."
        ) from error
    return name

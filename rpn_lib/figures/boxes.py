"""Images with boxes over them, in matplotlib.

Every kind of box has one colour and one line style throughout the book. The colours
are those of Okabe and Ito, which readers with any colour vision can tell apart; the
line style says the same once more.

Dimension letters: N boxes; H, W height and width of a picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from rpn_lib.errors import BoxError


class Style(NamedTuple):
    """How boxes of one kind look.

    Attributes:
        color: `#rrggbb`.
        linestyle: `-`, `--`, `:` or `-.`.
        linewidth: points.
        label: what a legend calls them; empty where each figure has its own name.
    """

    color: str
    linestyle: Literal["-", "--", ":", "-."]
    linewidth: float
    label: str


STYLES = {
    "gt": Style("#009E73", "-", 2.2, "true box"),
    "anchor": Style("#0072B2", "--", 1.6, "anchor"),
    "object": Style("#D55E00", "-", 1.8, "object"),
    "background": Style("#56B4E9", ":", 1.6, "background"),
    "ignored": Style("#666666", "-.", 1.4, "ignored"),
    "proposal": Style("#000000", "-.", 1.6, "proposal"),
    "kept": Style("#D55E00", "-", 1.8, "kept"),
    "suppressed": Style("#666666", ":", 1.4, "suppressed"),
    "intersection": Style("#CC79A7", "-", 2.2, "intersection"),
    "union": Style("#E69F00", "--", 2.2, "union"),
    # Of lines rather than boxes.
    "curve 1": Style("#0072B2", "-", 1.8, ""),
    "curve 2": Style("#D55E00", "--", 1.8, ""),
    "curve 3": Style("#009E73", "-.", 1.8, ""),
    "guide": Style("#666666", ":", 1.4, ""),
}


def show_image(
    image: Tensor | np.ndarray[Any, Any],
    ax: Axes | None = None,
    *,
    title: str = "",
    margin: float = 0,
) -> Axes:
    """Show a picture in pixel coordinates; the corner of its first pixel is (0, 0).

    Args:
        image: `(3, H, W)` or `(1, H, W)` tensor, or `(H, W, 3)` array; uint8 in 0..255
            or float in 0..1.
        ax: where to draw; a new figure of 6 x 4.5 inches if not given.
        title: set above the picture.
        margin: pixels of white around the picture, for boxes that reach outside it.

    Returns:
        the axes, for `draw_boxes`.

    Raises:
        BoxError: not a picture.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> ax.images[0].get_extent()
    [0, 32, 24, 0]
    >>> plt.close()
    """
    if isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] in (1, 3):
        image = image.detach().cpu().permute(1, 2, 0).numpy()
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise BoxError(
            "A picture is a (3, H, W) tensor or an (H, W, 3) array, not one of shape "
            f"{pixels.shape}."
        )
    height, width = pixels.shape[:2]
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    if pixels.dtype != np.uint8:
        pixels = pixels.clip(0, 1)
    ax.imshow(pixels.repeat(3 // pixels.shape[2], 2), extent=(0, width, height, 0))
    ax.set(xlim=(-margin, width + margin), ylim=(height + margin, -margin), title=title)
    return ax


def draw_boxes(
    ax: Axes,
    boxes: Tensor | Sequence[Sequence[float]],
    style: str = "gt",
    labels: Sequence[str] | None = None,
) -> None:
    """Draw boxes over a picture.

    Args:
        ax: the axes that `show_image` returned.
        boxes: `(N, 4)`, xyxy, pixels.
        style: a key of `STYLES`.
        labels: a short text for each box, written above its upper left corner.

    Raises:
        BoxError: an unknown style, or labels that do not fit the boxes.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> draw_boxes(ax, [[4, 4, 20, 12]], "anchor", ["16 x 8"])
    >>> len(ax.patches)
    1
    >>> plt.close()
    """
    if style not in STYLES:
        raise BoxError(f"style {style!r} is none of {', '.join(STYLES)}.")
    rows = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4).tolist()
    if labels is not None and len(labels) != len(rows):
        raise BoxError(f"{len(labels)} labels for {len(rows)} boxes.")
    color, linestyle, linewidth, _ = STYLES[style]
    for i, (x1, y1, x2, y2) in enumerate(rows):
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=color,
                linestyle=linestyle,
                linewidth=linewidth,
                path_effects=_halo(linewidth),
            )
        )
        if labels is not None:
            _label(ax, labels[i], (x1, y1), color)


def draw_line(
    ax: Axes, points: Sequence[Sequence[float]], style: str, label: str = ""
) -> None:
    """Draw a line from point to point over a picture; a dot where there is one point.

    Args:
        ax: the axes that `show_image` returned.
        points: `(x, y)`, pixels.
        style: a key of `STYLES`.
        label: a short text, written above the last point.

    Raises:
        BoxError: an unknown style.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> draw_line(ax, [(4, 4), (20, 4), (20, 12)], "curve 1", "two sides")
    >>> ax.lines[0].get_xdata().tolist()
    [4, 20, 20]
    >>> plt.close()
    """
    if style not in STYLES:
        raise BoxError(f"style {style!r} is none of {', '.join(STYLES)}.")
    color, linestyle, linewidth, _ = STYLES[style]
    ax.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=color,
        linestyle=linestyle,
        linewidth=linewidth,
        marker="o" if len(points) == 1 else "",
        path_effects=_halo(linewidth),
    )
    if label:
        _label(ax, label, (points[-1][0], points[-1][1]), color)


def _halo(linewidth: float) -> list[effects.AbstractPathEffect]:
    """A white line beneath, which keeps boxes visible on dark and on busy pictures."""
    under = effects.Stroke(linewidth=linewidth + 1.8, foreground="white", alpha=0.7)
    return [under, effects.Normal()]


def _label(ax: Axes, text: str, point: tuple[float, float], color: str) -> None:
    ax.annotate(
        text,
        point,
        xytext=(0, 3),  # above the box, so that it hides nothing of it
        textcoords="offset points",
        va="bottom",
        fontsize=8,
        color="white",
        bbox={"facecolor": color, "edgecolor": "none", "pad": 1},
    )


def legend(
    ax: Axes,
    styles: Sequence[str],
    names: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> None:
    """Explain the kinds of box in a figure.

    Args:
        ax: axes to put the legend into.
        styles: keys of `STYLES`; those without a label or name are left out.
        names: what this legend calls a style, in place of its label.
        **kwargs: handed on to matplotlib's `Axes.legend`.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> legend(ax, ["gt", "anchor"], loc="lower right")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['true box', 'anchor']
    >>> plt.close()
    """
    called = {name: STYLES[name].label for name in styles} | dict(names or {})
    shown = [(STYLES[name], called[name]) for name in styles if called[name]]
    handles = [
        Line2D([], [], color=s.color, linestyle=s.linestyle, linewidth=s.linewidth)
        for s, _ in shown
    ]
    labels = [label for _, label in shown]
    ax.legend(handles, labels, framealpha=0.95, fontsize=8, **kwargs)


# Curves and bars of results to compare: each differs from the next in all of these.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#56B4E9")

"""Images with boxes over them, in matplotlib.

Every kind of box has one colour and one line style throughout the book. The colours
are those of Okabe and Ito, which readers with any colour vision can tell apart; the
line style says the same once more.

Dimension letters: N boxes; H, W height and width of a picture.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from rpn_lib.errors import SettingError
from rpn_lib.figures.pictures import Picture, to_array


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


# The colours of Okabe and Ito, and a grey.
BLUE = "#0072B2"
ORANGE = "#D55E00"  # their vermilion
GREEN = "#009E73"
SKY = "#56B4E9"
PINK = "#CC79A7"
YELLOW = "#E69F00"
BLACK = "#000000"
GREY = "#666666"

# Curves and bars of results to compare: each differs from the next in all of these.
COLORS = (BLUE, ORANGE, GREEN, BLACK, PINK, SKY)

STYLES = {
    "gt": Style(GREEN, "-", 2.2, "true box"),
    "anchor": Style(BLUE, "--", 1.6, "anchor"),
    "object": Style(ORANGE, "-", 1.8, "object"),
    "background": Style(SKY, ":", 1.6, "background"),
    "ignored": Style(GREY, "-.", 1.4, "ignored"),
    "proposal": Style(BLACK, "-.", 1.6, "proposal"),
    "kept": Style(ORANGE, "-", 1.8, "kept"),
    "suppressed": Style(GREY, ":", 1.4, "suppressed"),
    "intersection": Style(PINK, "-", 2.2, "intersection"),
    "union": Style(YELLOW, "--", 2.2, "union"),
    # Of lines rather than boxes.
    "curve 1": Style(BLUE, "-", 1.8, ""),
    "curve 2": Style(ORANGE, "--", 1.8, ""),
    "curve 3": Style(GREEN, "-.", 1.8, ""),
    "guide": Style(GREY, ":", 1.4, ""),
}


def show_image(
    image: Picture,
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
        SettingError: not a picture.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> ax.images[0].get_extent()
    [0, 32, 24, 0]
    >>> plt.close()
    """
    pixels = to_array(image)
    height, width = pixels.shape[:2]
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    if pixels.dtype != "uint8":
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
        SettingError: an unknown style, or labels that do not fit the boxes.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> draw_boxes(ax, [[4, 4, 20, 12]], "anchor", ["16 x 8"])
    >>> len(ax.patches)
    1
    >>> plt.close()
    """
    if style not in STYLES:
        raise SettingError(f"style {style!r} is none of {', '.join(STYLES)}.")
    rows = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4).tolist()
    if labels is not None and len(labels) != len(rows):
        raise SettingError(f"{len(labels)} labels for {len(rows)} boxes.")
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
        SettingError: an unknown style.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> draw_line(ax, [(4, 4), (20, 4), (20, 12)], "curve 1", "two sides")
    >>> ax.lines[0].get_xdata().tolist()
    [4, 20, 20]
    >>> plt.close()
    """
    if style not in STYLES:
        raise SettingError(f"style {style!r} is none of {', '.join(STYLES)}.")
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
    ax: Axes | Figure,
    styles: Sequence[str],
    names: Mapping[str, str] | None = None,
    dots: Collection[str] = (),
    **kwargs: Any,
) -> None:
    """Explain the kinds of box in a figure.

    Args:
        ax: axes, or a whole figure, to put the legend into.
        styles: keys of `STYLES`; those without a label or name are left out.
        names: what this legend calls a style, in place of its label.
        dots: those of the styles that the figure draws as points.
        **kwargs: handed on to matplotlib's `legend`.

    >>> ax = show_image(torch.zeros(3, 24, 32))
    >>> legend(ax, ["gt", "anchor"], loc="lower right")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['true box', 'anchor']
    >>> plt.close()
    """
    called = {name: STYLES[name].label for name in styles} | dict(names or {})
    shown = [name for name in styles if called[name]]
    handles = [
        Line2D(
            [],
            [],
            color=STYLES[name].color,
            linestyle="" if name in dots else STYLES[name].linestyle,
            linewidth=STYLES[name].linewidth,
            marker="o" if name in dots else "",
        )
        for name in shown
    ]
    labels = [called[name] for name in shown]
    ax.legend(handles, labels, framealpha=0.95, fontsize=8, **kwargs)

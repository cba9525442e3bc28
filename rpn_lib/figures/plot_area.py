"""Empty axes as a picture, over which a figure with sliders draws curves."""

import io
import math
from dataclasses import dataclass
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from rpn_lib.errors import SettingError

STEP = 8  # pixels


@dataclass(frozen=True, repr=False, eq=False)
class PlotArea:
    """A picture of empty axes, and where on it a value lies; `plot_area` makes it.

    Attributes:
        image: `(H, W, 3)`, uint8: the `image` of a figure whose `image_size` is
            `image.shape[:2]`, with `margin=0`.
        xlim: the values at the left and right ends.
        ylim: the values at the bottom and the top.
    """

    image: np.ndarray[Any, Any]
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    _to_pixels: Any

    def points(self, xs: Any, ys: Any) -> list[tuple[float, float]]:
        """Where values lie on the picture, for `Line`.

        Args:
            xs: `(P,)`: numbers, a tensor or an array; or one number for all points.
            ys: likewise.

        Returns:
            P points `(x, y)`, pixels.

        Raises:
            SettingError: xs and ys of different lengths, or a value outside the axes.
        """
        x, y = (np.asarray(v, dtype=float).reshape(-1) for v in (xs, ys))
        if len(x) != len(y) and 1 not in (len(x), len(y)):
            raise SettingError(
                f"xs has {len(x)} values and ys has {len(y)}; give as many, or one for "
                "all."
            )
        for name, given, (low, high) in (("xs", x, self.xlim), ("ys", y, self.ylim)):
            outside = given[~((given >= low) & (given <= high))]
            if outside.size:
                raise SettingError(
                    f"{name} has {outside[0]:g}, the axes go from {low:g} to {high:g}: "
                    "leave out what lies outside, or widen the axes."
                )
        pixels = self._to_pixels.transform(np.stack(np.broadcast_arrays(x, y), 1))
        return [(float(x), self.image.shape[0] - float(y)) for x, y in pixels]


def plot_area(
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    *,
    xlabel: str = "",
    ylabel: str = "",
    size: tuple[int, int] = (400, 600),
    log_x: bool = False,
) -> PlotArea:
    """Draw empty axes, over which a figure with sliders shows curves.

    Args:
        xlim: the values at the left and right ends.
        ylim: the values at the bottom and the top.
        xlabel: what the x axis shows, with the unit.
        ylabel: what the y axis shows.
        size: `(height, width)` of the picture, pixels, 150 x 150 at least.
        log_x: whether the x axis is logarithmic.

    Returns:
        the picture, and `points`, which finds values on it.

    Raises:
        SettingError: limits that are not finite, low before high, and above 0 on a
            logarithmic axis; a size too small for the labels.

    >>> from rpn_lib.figures.explorer import Line, State, explore
    >>> area = plot_area((0, 4), (0, 8), xlabel="x", ylabel="loss", size=(200, 300))
    >>> def show(slope):
    ...     line = Line(area.points([0, 2], [0, 2 * slope]), "curve 1")
    ...     dot = Line(area.points(2, 2 * slope), "curve 1", f"{2 * slope}")
    ...     return State([], f"At x = 2 the loss is {2 * slope}.", [line, dot])
    >>> explore({"slope": [1, 2, 4]}, show, (200, 300), image=area.image, margin=0,
    ...     names={"curve 1": "loss"}, alt="A line, whose slope a slider sets.")
    <rpn-explorer: 1 slider, 3 states>
    """
    for name, limits in (("xlim", xlim), ("ylim", ylim)):
        if len(limits) != 2 or not (-math.inf < limits[0] < limits[1] < math.inf):
            raise SettingError(
                f"{name} is {limits}: give two finite numbers, low < high."
            )
    if log_x and xlim[0] <= 0:
        raise SettingError(f"xlim is {xlim}: a logarithmic axis begins above 0.")
    height, width = size
    if min(size) < 150 or any(int(n) != n for n in size):
        raise SettingError(
            f"size is {size}: give (height, width), at least (150, 150)."
        )
    # Legible on a phone too, where 600 pixels are shown about 340 wide.
    settings = {"font.size": 18, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.style.context(["default", settings]):
        # 64 pixels an inch, so that inches are exact.
        figure = Figure((width / 64, height / 64), dpi=64, layout="constrained")
        ax = figure.add_subplot(xlim=xlim, ylim=ylim, xlabel=xlabel, ylabel=ylabel)
        ax.grid(alpha=0.4)
        if log_x:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        ax.set_position(_in_steps(ax.get_position(), width, height))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="rgba")
    image = np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)
    return PlotArea(image[..., :3], xlim, ylim, ax.transData.frozen())


def _in_steps(box: Bbox, width: int, height: int) -> Bbox:
    """A place of axes with margins of whole steps, and never smaller ones.

    What versions of matplotlib leave for the same labels differs by a pixel or two, and
    the coordinates of the curves would with it.
    """
    x, y = STEP / width, STEP / height
    return Bbox.from_extents(
        math.ceil(box.x0 / x) * x,
        math.ceil(box.y0 / y) * y,
        1 - math.ceil((1 - box.x1) / x) * x,
        1 - math.ceil((1 - box.y1) / y) * y,
    )

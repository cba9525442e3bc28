"""Plots of results: recall curves, coverage by anchors, what was found."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from rpn_lib.boxes import box_iou
from rpn_lib.coverage import Coverage
from rpn_lib.errors import SettingError
from rpn_lib.evaluation import Evaluation
from rpn_lib.figures.boxes import (
    BLUE,
    COLORS,
    ORANGE,
    STYLES,
    YELLOW,
    draw_boxes,
    legend,
    show_image,
)


def found_figure(
    images: Sequence[Tensor],
    gt_boxes: Sequence[Tensor],
    proposals: Sequence[Tensor],
    k: int = 100,
) -> Figure:
    """Show images with their true boxes, and the proposal that comes closest to each.

    Args:
        images: each `(3, H, W)`, see `show_image`.
        gt_boxes: for each image `(G, 4)`, xyxy, pixels.
        proposals: for each image `(K, 4)`, xyxy, pixels, best first.
        k: how many proposals of an image count.

    Returns:
        the figure, three images in a row, to show or to save.

    >>> box = torch.tensor([[4.0, 4.0, 20.0, 12.0]])
    >>> figure = found_figure([torch.zeros(3, 24, 32)], [box], [box + 1])
    >>> figure.axes[0].get_title()
    '1 of 1 found'
    """
    rows = max(1, -(-len(images) // 3))
    figure = Figure(figsize=(12, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).ravel().tolist()
    for ax in axes:
        ax.set_axis_off()
    for ax, image, gt, boxes in zip(axes, images, gt_boxes, proposals):
        iou = box_iou(gt, boxes[:k].to(gt.device))  # (G, K)
        hit = (iou >= 0.5).any(dim=1)
        show_image(image, ax, title=f"{int(hit.sum())} of {len(hit)} found")
        draw_boxes(ax, gt, "gt")
        if hit.any():
            draw_boxes(ax, boxes[iou[hit].argmax(dim=1).to(boxes.device)], "proposal")
    legend(figure, ["gt", "proposal"], loc="outside lower center", ncols=2)
    figure.suptitle(
        f"True boxes, and for each the best of {k} proposals (IoU 0.5 or more)"
    )
    return figure


LINESTYLES = ("-", "--", ":", "-.")


MARKERS = ("o", "s", "^", "D", "v")


HATCHES = ("", "//", "..", "xx", "--")


def plot_recall_iou(
    results: Mapping[str, Evaluation], k: int = 100, ax: Axes | None = None
) -> Axes:
    """Plot recall against the IoU that a proposal must reach.

    Args:
        results: a name for the legend, and what `evaluate` returned.
        k: how many proposals of an image count, 1 or more.
        ax: where to draw; a new figure of 6 x 4.5 inches if not given.

    Returns:
        the axes, with a line for each result.

    Raises:
        SettingError: no results, or `k` < 1.

    >>> from rpn_lib.evaluation import evaluate
    >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> ax = plot_recall_iou({"exact": evaluate([box], [box])})
    >>> [float(recall) for recall in ax.lines[0].get_ydata()[:3]]
    [1.0, 1.0, 1.0]
    >>> plt.close()
    """
    ax = _result_axes(results, ax)
    for i, (name, result) in enumerate(results.items()):
        recall = result.recall(k)
        ax.plot(recall.thresholds, recall.recalls.numpy(), label=name, **_look(i))
    ax.set(xlabel="IoU that counts as found", ylabel=f"recall, {k} proposals")
    ax.legend(fontsize=8, loc="lower left")
    return ax


def plot_recall_proposals(
    results: Mapping[str, Evaluation],
    iou: float | None = None,
    area: str = "all",
    ax: Axes | None = None,
) -> Axes:
    """Plot recall against the number of proposals of an image, on a logarithmic axis.

    Args:
        results: a name for the legend, and what `evaluate` returned.
        iou: the IoU that counts as found, one of the thresholds; average recall over
            them if not given.
        area: `"all"`, or which true boxes, such as `"small"`.
        ax: where to draw; a new figure of 6 x 4.5 inches if not given.

    Returns:
        the axes, with a line for each result.

    Raises:
        SettingError: no results; an IoU or an area that they do not have.

    >>> from rpn_lib.evaluation import evaluate
    >>> gt = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> result = evaluate([torch.cat([gt + 50, gt])], [gt])
    >>> ax = plot_recall_proposals({"the second hits": result})
    >>> ax.lines[0].get_xdata().tolist(), ax.lines[0].get_ydata().tolist()
    ([1, 2], [0.0, 1.0])
    >>> plt.close()
    """
    ax = _result_axes(results, ax)
    for i, (name, result) in enumerate(results.items()):
        curve = result.curve(area, iou).numpy()
        # Not a marker at each of a thousand points: one at every tenth of the axes.
        ax.plot(
            np.arange(1, len(curve) + 1), curve, label=name, markevery=0.1, **_look(i)
        )
    what = "average recall" if iou is None else f"recall at IoU {iou}"
    ax.set(xlabel="proposals of an image", xscale="log")
    ax.set_ylabel(what if area == "all" else f"{what}, {area} objects")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.legend(fontsize=8, loc="lower right")
    return ax


def plot_recall_area(
    results: Mapping[str, Evaluation], k: int = 100, ax: Axes | None = None
) -> Axes:
    """Plot average recall for each range of object areas, as bars.

    Args:
        results: a name for the legend, and what `evaluate` returned.
        k: how many proposals of an image count, 1 or more.
        ax: where to draw; a new figure of 6 x 4.5 inches if not given.

    Returns:
        the axes, with a container of bars for each result; where there is no such
        object, the bar has no height and its label is a dash.

    Raises:
        SettingError: no results; results of different ranges; `k` < 1.

    >>> from rpn_lib.evaluation import evaluate
    >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> ax = plot_recall_area({"exact": evaluate([box], [box])})
    >>> [text.get_text() for text in ax.texts]  # all, small, medium, large
    ['1.00', '1.00', '–', '–']
    >>> plt.close()
    """
    ax = _result_axes(results, ax)
    areas = list(next(iter(results.values())).ranks)
    width = 0.8 / len(results)
    for i, (name, result) in enumerate(results.items()):
        if list(result.ranks) != areas:
            raise SettingError(
                f"{name!r} has the areas {', '.join(result.ranks)}, others have "
                f"{', '.join(areas)}; evaluate all with the same ones."
            )
        values = np.array([result.recall(k, area).average for area in areas])
        bars = ax.bar(
            np.arange(len(areas)) + (i - (len(results) - 1) / 2) * width,
            np.nan_to_num(values),
            width,
            label=name,
            color=COLORS[i % len(COLORS)],
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor="white",
        )
        labels = ["–" if np.isnan(value) else f"{value:.2f}" for value in values]
        ax.bar_label(bars, labels, fontsize=7)
    ax.set_xticks(range(len(areas)), areas)
    ax.set(xlabel="area of the object", ylabel=f"average recall, {k} proposals")
    ax.legend(fontsize=8, loc="lower right")
    return ax


def _result_axes(results: Mapping[str, Evaluation], ax: Axes | None) -> Axes:
    if not results:
        raise SettingError("No results to plot: give {name: evaluate(...)}.")
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    ax.set_ylim(0, 1.05)
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    return ax


def _look(i: int) -> dict[str, Any]:
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": LINESTYLES[i % len(LINESTYLES)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 5,
    }


def evaluation_figure(results: Mapping[str, Evaluation], k: int = 100) -> Figure:
    """Show how results compare: by number of proposals, by IoU, by area of the object.

    Args:
        results: a name for the legend, and what `evaluate` returned.
        k: how many proposals of an image count, 1 or more.

    Returns:
        the figure, three plots in a row, to show or to save.

    >>> from rpn_lib.evaluation import evaluate
    >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> len(evaluation_figure({"exact": evaluate([box], [box])}).axes)
    3
    """
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    plot_recall_proposals(results, ax=left)
    plot_recall_iou(results, k, middle)
    plot_recall_area(results, k, right)
    return figure


def coverage_figure(coverage: Coverage, shapes: Tensor) -> Figure:
    """Show the objects of a data set, how well anchors reach them, and the anchors.

    Args:
        coverage: what `rpn_lib.coverage.coverage` returned.
        shapes: `(A, 2)`, widths and heights of the anchors, pixels.

    Returns:
        the figure: shapes at the left, and at the right the share of the objects that
        have an anchor of an IoU.

    >>> from rpn_lib.anchors import AnchorGenerator
    >>> from rpn_lib.coverage import coverage
    >>> generator = AnchorGenerator([128], [1], strides=[16])
    >>> found = coverage(generator, [torch.tensor([[0.0, 0, 64, 64]])], [(128, 128)])
    >>> coverage_figure(found, generator.levels[0]).axes[1].get_xlabel()
    'least IoU with the best anchor'
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_shapes(left, coverage, shapes)
    steps = torch.linspace(0, 1, 101)
    curves = [("with these anchors", coverage.best_iou)]
    curves += [("if one lay on each centre", coverage.shape_iou)]
    for i, (name, iou) in enumerate(curves):
        shares = (iou[:, None] >= steps).float().mean(dim=0)
        right.plot(steps, shares, label=name, **{**_look(i), "marker": ""})
    right.axvline(0.7, color=STYLES["guide"].color, linestyle=":", linewidth=1.4)
    right.set(
        xlabel="least IoU with the best anchor",
        ylabel="share of the objects",
        ylim=(0, 1.05),
    )
    right.grid(alpha=0.3)
    right.legend(fontsize=8)
    return figure


def _plot_shapes(ax: Axes, coverage: Coverage, shapes: Tensor) -> None:
    width, height = (coverage.boxes[:, 2:] - coverage.boxes[:, :2]).T.numpy()
    groups = [("IoU below 0.5", ORANGE, "x", coverage.best_iou < 0.5)]
    between = (coverage.best_iou >= 0.5) & (coverage.best_iou < 0.7)
    groups += [("IoU 0.5 to 0.7", YELLOW, "^", between)]
    groups += [("IoU 0.7 or more", BLUE, ".", coverage.best_iou >= 0.7)]
    for name, color, marker, mask in reversed(groups):
        chosen = mask.numpy()
        label = f"{name}: {int(chosen.sum()):,} objects"
        ax.scatter(
            width[chosen],
            height[chosen],
            s=18,
            c=color,
            marker=marker,
            alpha=0.5,
            linewidths=1.2,
            label=label,
        )
    ax.scatter(
        shapes[:, 0].numpy(),
        shapes[:, 1].numpy(),
        s=70,
        facecolor="none",
        edgecolor="black",
        marker="s",
        linewidths=1.6,
        label=f"{len(shapes)} anchor shapes",
    )
    ax.set(xscale="log", yscale="log", xlabel="width, pixels", ylabel="height, pixels")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(base=2, numticks=12))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)

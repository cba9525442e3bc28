"""How the costs grow with anchors and boxes, ours beside torchvision's: `make bench`.

Each row has a goal for its ratio; where it is missed, the table says MISSED. `--page`
writes table and plot as a page of the book, with the date, the processor and the
versions of this run. Run it on a machine that does nothing else.
"""

import argparse
import datetime
import platform
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from matplotlib.figure import Figure
from torchvision.models.detection import _utils
from torchvision.ops import box_iou, nms

from rpn_lib import AnchorGenerator, ShapesDataset, fast, trained_rpn

PAGE = Path(__file__).resolve().parent.parent / "book" / "speed.md"
STRIDES, SIZES = (4, 8, 16, 32, 64), (32, 64, 128, 256, 512)
# Height and width of an image, and the goal of the ratio for 1, 10, 100 true boxes.
MATCHING = {
    (400, 672): {1: 0.9, 10: 0.25, 100: 0.1},
    (800, 1344): {1: 0.9, 10: 0.15, 100: 0.06},
    (1600, 2688): {1: 0.9, 10: 0.1, 100: 0.06},
}
BOXES = (1, 3, 10, 30, 100)
ALT = (
    "Two plots of milliseconds against numbers of boxes on logarithmic axes. The lines "
    "of rpn_lib are solid, those of torchvision dashed and steeper."
)


class Row(NamedTuple):
    """One line of the table, times in milliseconds."""

    name: str
    ours: float
    torchvision: float
    goal: float | None = None

    @property
    def ratio(self):
        """Ours to torchvision's."""
        return self.ours / self.torchvision

    @property
    def verdict(self):
        """What is said of the goal."""
        if self.goal is None:
            return ""
        return f"{self.goal:g}" + (" MISSED" if self.ratio > self.goal else "")


def side_by_side(ours, theirs, seconds=1.0):
    """Median times of two functions that run in turn, milliseconds."""
    times = [], []
    ours(), theirs()
    stop, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or (time.perf_counter() < stop and rounds < 50):
        for function, noted in zip((ours, theirs), times):
            start = time.perf_counter()
            function()
            noted.append(1000 * (time.perf_counter() - start))
        rounds += 1
    return [statistics.median(noted) for noted in times]


def boxes_in(image, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([image[1], image[0]])
    corner = torch.rand(count, 2, generator=generator) * size * 0.75
    side = 20 + torch.rand(count, 2, generator=generator) * (size * 0.25 - 20)
    return torch.cat([corner, corner + side], dim=1)


def matching_row(image, count, goal=None):
    """Five levels of anchors, three shapes each, for one image."""
    grids = [(-(-image[0] // s), -(-image[1] // s)) for s in STRIDES]
    generate = AnchorGenerator([[size] for size in SIZES], strides=STRIDES)
    return _matching(generate, grids, boxes_in(image, count), goal)


def _matching(generate, sizes, gt, goal):
    anchors, grids = torch.cat(generate(sizes)), generate.grids(sizes)
    matcher = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    index = matcher(box_iou(gt, anchors))
    found = fast.match_anchors(anchors, gt, grids=grids)
    assert torch.equal(found.labels == 1, index >= 0)
    times = side_by_side(
        lambda: fast.match_anchors(anchors, gt, grids=grids),
        lambda: matcher(box_iou(gt, anchors)),
    )
    many = f"{len(gt)} true box" + ("es" if len(gt) > 1 else "")
    return Row(f"matching, {len(anchors):,} anchors, {many}", *times, goal)


def nms_row(count, goal=None):
    """The best 1,000 of boxes that lie densely, as before the end of an RPN."""
    boxes = boxes_in((800, 1344), count)
    scores = torch.rand(count, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        fast.nms(boxes, scores, 0.7, 1000), nms(boxes, scores, 0.7)[:1000]
    )
    times = side_by_side(
        lambda: fast.nms(boxes, scores, 0.7, 1000),
        lambda: nms(boxes, scores, 0.7)[:1000],
    )
    return Row(f"NMS, {count:,} boxes, the best 1,000", *times, goal)


def one_picture():
    """Milliseconds of one picture in the trained network; of backbone and head."""
    rpn = trained_rpn()
    image, _ = ShapesDataset(image_size=(240, 320))[1]
    batch = image.as_subclass(torch.Tensor)[None].float() / 255
    with torch.no_grad():
        whole, network = side_by_side(
            lambda: rpn(batch), lambda: rpn.head(rpn.levels_of(batch)[0])
        )
    return whole, network


def all_rows():
    """The rows, printed as they come."""
    rows = []

    def add(row):
        rows.append(row)
        print(
            f"{row.name:<52}{row.ours:>9.2f}{row.torchvision:>11.2f} ms"
            f"{row.ratio:>8.3f}  {row.verdict}",
            flush=True,
        )

    print(f"{'':<52}{'ours':>9}{'torchvision':>14}{'ratio':>8}  goal")
    for image, goals in MATCHING.items():
        for count in BOXES:
            add(matching_row(image, count, goals.get(count)))
    seed = AnchorGenerator([64, 128, 256], strides=[32])
    add(_matching(seed, [(32, 32)], boxes_in((1024, 1024), 20), 0.4))
    for count in (300, 1000, 2000, 4000, 8000):
        add(nms_row(count))
    return rows


def plot(rows, path):
    """Times against numbers of boxes, ours solid and torchvision's dashed."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = ("#0072B2", "#009E73", "#CC79A7")
    for number, colour in enumerate(colours):
        some = rows[number * len(BOXES) : (number + 1) * len(BOXES)]
        label = some[0].name.split(", ")[1]
        left.loglog(BOXES, [r.ours for r in some], "o-", color=colour, label=label)
        left.loglog(BOXES, [r.torchvision for r in some], "s--", color=colour)
    left.set(xlabel="true boxes", ylabel="milliseconds", title="matching one image")
    some = [row for row in rows if row.name.startswith("NMS")]
    counts = [int(row.name.split()[1].replace(",", "")) for row in some]
    right.loglog(counts, [r.ours for r in some], "o-", color="#0072B2", label="rpn_lib")
    right.loglog(
        counts,
        [r.torchvision for r in some],
        "s--",
        color="#D55E00",
        label="torchvision",
    )
    right.set(xlabel="boxes", title="NMS, the best 1,000")
    left.plot([], [], "k-", label="rpn_lib")
    left.plot([], [], "k--", label="torchvision")
    for ax, numbers in ((left, BOXES), (right, counts)):
        ax.set_xticks(numbers, [f"{number:,}" for number in numbers])
        ax.minorticks_off()
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def write_page(rows, whole, network, path=PAGE):
    """The page of the book."""
    plot(rows, path.parent / "static" / "speed.png")
    lines = [
        f"| {r.name} | {r.ours:.2f} | {r.torchvision:.2f} | {r.ratio:.2f} "
        f"| {r.verdict} |"
        for r in rows
    ]
    path.write_text(
        f"""# How fast it is

`rpn_lib` and torchvision {public(torchvision)}, side by side: the two run in turn in
one process on the same tensors, and their results are compared before anything is
timed. A ratio below 1 means that `rpn_lib` is faster.

Measured on {datetime.date.today().isoformat()}, torch {public(torch)},
{torch.get_num_threads()} thread{"s" * (torch.get_num_threads() > 1)}, {processor()}.
`make bench` repeats it.

```{{figure}} static/speed.png
:alt: {ALT}

Solid: `rpn_lib`. Dashed: torchvision. Left: matching the anchors of one image, for
three image sizes. Right: non-maximum suppression of which the best 1,000 are wanted.
```

Matching compares each true box only with the anchors that it can reach, so its time
follows what overlaps; torchvision's follows anchors times boxes. NMS stops when enough
boxes are kept.

| what | `rpn_lib`, ms | torchvision, ms | ratio | goal |
|---|---|---|---|---|
{chr(10).join(lines)}

One picture of 240 x 320 pixels takes the trained network of the book {whole:.1f} ms,
{network:.1f} ms of them backbone and head.
""",
        "utf-8",
    )
    print(f"wrote {path}")


def public(package):
    """The version of a package, without what says which build it is."""
    return package.__version__.partition("+")[0]


def processor():
    """What the machine says of its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(": ", 1)[1] for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name} too")
    parser.add_argument("--threads", type=int, help="default: as many as cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = all_rows()
    whole, network = one_picture()
    print(f"one picture 240 x 320: {whole:.1f} ms, backbone and head {network:.1f} ms")
    if options.page:
        write_page(rows, whole, network)


if __name__ == "__main__":
    main()

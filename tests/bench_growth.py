"""Every work that has a goal, and how its cost grows: part of `make bench`.

The rows are measured on one thread and on all; where a goal is missed, the table says
MISSED. `--page` writes table and plot as a page of the book, with the date, the
processor and the versions of this run. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import datetime
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import bench
import torch
import torchvision
from folders import write_folder
from matplotlib.figure import Figure
from torchvision.models.detection import _utils
from torchvision.ops import box_iou, nms

from rpn_lib import AnchorGenerator, ShapesDataset, fast, trained_rpn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from status import processor  # noqa: E402

PAGE = ROOT / "book" / "speed.md"
REPORT = ROOT / "_build" / "reports" / "bench.json"
STRIDES, SIZES = (4, 8, 16, 32, 64), (32, 64, 128, 256, 512)
# Height and width of an image, and the goal of the ratio for 1, 10, 100 true boxes.
MATCHING = {
    (400, 672): {1: 0.9, 10: 0.25, 100: 0.06},
    (800, 1344): {1: 0.9, 10: 0.15, 100: 0.06},
    (1600, 2688): {1: 0.9, 10: 0.1, 100: 0.06},
}
BOXES = (1, 3, 10, 30, 100)
PROPOSED = (300, 1000, 2000, 4000, 8000)
ALT = (
    "Two plots of milliseconds against numbers of boxes on logarithmic axes. The lines "
    "of rpn_lib are solid, those of torchvision dashed and steeper; dotted lines below "
    "both are the limit."
)


class Row(NamedTuple):
    """One line of the table: a work, and how long it takes, in milliseconds.

    Attributes:
        goal: what the ratio should reach; where torchvision has no such work, our time.
        limit: the least that any program could take, see `limit_of_matching`.
    """

    name: str
    ours: float
    torchvision: float | None = None
    goal: float | None = None
    limit: float | None = None

    @property
    def measured(self):
        """What is compared with the goal."""
        return self.ours / self.torchvision if self.torchvision else self.ours

    def cells(self):
        """Our time and torchvision's, and their ratio."""
        if self.torchvision is None:
            return rounded(self.ours), ""
        times = f"{rounded(self.ours)} / {rounded(self.torchvision)}"
        return times, f"{self.measured:.2f}"

    def verdict(self):
        """What is said of the goal."""
        unit = "" if self.torchvision else " ms"
        return bench.goal_text(self.measured, self.goal, unit)


def rounded(milliseconds):
    """Three digits, or all of a larger number."""
    places = max(0, 2 - max(0, math.floor(math.log10(milliseconds))))
    return f"{milliseconds:,.{places}f}"


def side_by_side(*functions, seconds=1.0):
    """Median times of functions that run in turn, milliseconds."""
    times = [[] for _ in functions]
    for function in functions:
        function()
    stop, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or (time.perf_counter() < stop and rounds < 50):
        for function, noted in zip(functions, times):
            start = time.perf_counter()
            function()
            noted.append(1000 * (time.perf_counter() - start))
        rounds += 1
    return [statistics.median(noted) for noted in times]


# What grows


def boxes_in(image, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([image[1], image[0]])
    corner = torch.rand(count, 2, generator=generator) * size * 0.75
    side = 20 + torch.rand(count, 2, generator=generator) * (size * 0.25 - 20)
    return torch.cat([corner, corner + side], dim=1)


def limit_of_matching(anchors, gt):
    """A function that does what no matching can leave out.

    It reads the anchors, writes the answers, and does the arithmetic of an IoU, five
    operations, once for each pair that overlaps, on numbers that stay in the cache.
    """
    pairs = sum(int((box_iou(box[None], anchors) > 0).sum()) for box in gt)
    block = torch.rand(2**14)
    spare = torch.empty_like(block)
    operations = torch.mul, torch.add, torch.sub, torch.div, torch.maximum

    def limit():
        anchors.clone()
        for dtype in (torch.float32, torch.int64, torch.int64):
            torch.zeros(len(anchors), dtype=dtype)
        for _ in range(-(-pairs // len(block))):
            for operation in operations:
                operation(block, block, out=spare)

    return limit


def matching_row(image, count, goal=None):
    """Five levels of anchors, three shapes each, for one image."""
    grids = [(-(-image[0] // s), -(-image[1] // s)) for s in STRIDES]
    generate = AnchorGenerator([[size] for size in SIZES], strides=STRIDES)
    anchors, grids, gt = (
        torch.cat(generate(grids)),
        generate.grids(grids),
        boxes_in(image, count),
    )
    matcher = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    found = fast.match_anchors(anchors, gt, grids=grids)
    assert torch.equal(found.labels == 1, matcher(box_iou(gt, anchors)) >= 0)
    times = side_by_side(
        lambda: fast.match_anchors(anchors, gt, grids=grids),
        lambda: matcher(box_iou(gt, anchors)),
        limit_of_matching(anchors, gt),
    )
    many = f"{count:,} true box" + ("es" if count > 1 else "")
    name = f"matching, {len(anchors):,} anchors, {many}"
    return Row(name, *times[:2], goal, times[2])


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
        lambda: boxes[scores.argsort(descending=True)],  # it sorts, and reads all
    )
    return Row(f"NMS, {count:,} boxes, the best 1,000", *times[:2], goal, times[2])


# What does not


def from_bench():
    """The rows of `bench.py` that are times, in milliseconds."""
    bench.ROWS.clear()
    with contextlib.redirect_stdout(io.StringIO()):
        bench.bench_seed()
        bench.bench_anchors()
        bench.bench_large(50)
    for row in bench.ROWS:
        if row["unit"] == "s":
            ours, theirs = 1000 * row["ours"], 1000 * row["torchvision"]
            yield Row(row["name"], ours, theirs, row["goal"])


def one_picture():
    """One picture in the trained network; its backbone and head alone."""
    rpn = trained_rpn()
    image, _ = ShapesDataset(image_size=(240, 320))[1]
    batch = image.as_subclass(torch.Tensor)[None].float() / 255
    with torch.no_grad():
        whole, network = side_by_side(
            lambda: rpn(batch), lambda: rpn.head(rpn.levels_of(batch)[0])
        )
    yield Row("proposals of one picture, 240 x 320", whole, goal=11)
    yield Row("of these, backbone and head", network)


def commands():
    """What a user waits for, from the first key to the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_folder(Path(name) / "scenes")
        for arguments, goal in ((["--help"], 300), (["check", str(folder)], None)):
            call = [sys.executable, "-m", "rpn_lib", *arguments]
            (took,) = side_by_side(lambda call=call: subprocess.check_output(call))
            yield Row(f"rpn {arguments[0]}", took, goal=goal)


def works():
    """All rows that take threads."""
    for image, goals in MATCHING.items():
        for count in BOXES:
            yield matching_row(image, count, goals.get(count))
    yield matching_row((800, 1344), 1000)
    yield from map(nms_row, PROPOSED)
    yield from from_bench()
    yield from one_picture()


def printed(rows):
    """The rows, printed as they come."""
    done = []
    for row in rows:
        done.append(row)
        times, ratio = row.cells()
        print(f"{row.name:<46}{times:>20}{ratio:>8}  {row.verdict()}", flush=True)
    return done


def rows_on(threads):
    """All rows on so many threads."""
    torch.set_num_threads(threads)
    print(f"\n{threads} thread{'s' * (threads > 1)}: milliseconds, ratio, goal")
    return printed(works())


def plot(rows, path):
    """Times against numbers of boxes: ours, torchvision's, and the limit."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)

    def draw(ax, counts, some, colour, label):
        ax.loglog(counts, [r.ours for r in some], "o-", color=colour, label=label)
        ax.loglog(counts, [r.torchvision for r in some], "s--", color=colour)
        ax.loglog(counts, [r.limit for r in some], ":", color=colour)

    for number, colour in enumerate(("#0072B2", "#009E73", "#CC79A7")):
        some = rows[number * len(BOXES) : (number + 1) * len(BOXES)]
        draw(left, BOXES, some, colour, some[0].name.split(", ")[1])
    some = [row for row in rows if row.name.startswith("NMS")]
    draw(right, PROPOSED, some, "#0072B2", None)
    left.set(xlabel="true boxes", ylabel="milliseconds", title="matching one image")
    right.set(xlabel="boxes", title="NMS, the best 1,000")
    for line, label in (("ko-", "rpn_lib"), ("ks--", "torchvision"), ("k:", "limit")):
        right.plot([], [], line, label=label)
    for ax, numbers in ((left, BOXES), (right, PROPOSED)):
        ax.set_xticks(numbers, [f"{number:,}" for number in numbers])
        ax.minorticks_off()
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def table(one, more, alone):
    """The rows on one thread and on more, in Markdown."""
    for first, row in zip(one, more):
        missed = "MISSED" in first.verdict()
        goal = (first if missed else row).verdict()
        yield " | ".join([row.name, *first.cells(), *row.cells(), goal])
    for row in alone:
        yield " | ".join([f"`{row.name}`", "", "", *row.cells(), row.verdict()])


def write_page(one, more, alone, threads, path=PAGE):
    """The page of the book."""
    plot(more, path.parent / "static" / "speed.png")
    lines = "\n".join(f"| {line} |" for line in table(one, more, alone))
    path.write_text(
        f"""# How fast it is

`rpn_lib` and torchvision {public(torchvision)}, side by side: the two run in turn in
one process on the same tensors, and their results are compared before anything is
timed. A ratio below 1 means that `rpn_lib` is faster.

Measured on {datetime.date.today().isoformat()}, torch {public(torch)}, {processor()}.
`make bench` repeats it.

```{{figure}} static/speed.png
:alt: {ALT}

Solid: `rpn_lib`. Dashed: torchvision. Dotted: what no program can leave out. {threads}
threads. Left: matching the anchors of one image, for three image sizes. Right:
non-maximum suppression of which the best 1,000 are wanted.
```

Matching compares each true box only with the anchors that it can reach, so its time
follows what overlaps; torchvision's follows anchors times boxes. NMS stops when enough
boxes are kept.

The limit of matching is to read the anchors, to write the answers, and to do the
arithmetic of an IoU once for each anchor and true box that overlap. That of NMS is to
sort the boxes and to read them.

Milliseconds of `rpn_lib` / of torchvision, on one thread and on {threads}. A goal is
one of the ratio, and of the time where torchvision has no such work.

| what | 1 thread | ratio | {threads} threads | ratio | goal |
|---|---|---|---|---|---|
{lines}
""",
        "utf-8",
    )
    print(f"wrote {path}")


def public(package):
    """The version of a package, without what says which build it is."""
    return package.__version__.partition("+")[0]


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name} too")
    options = parser.parse_args()
    threads = max(2, torch.get_num_threads())
    one, more = rows_on(1), rows_on(threads)
    alone = printed(commands())
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "rows": [row._asdict() for row in (*more, *alone)],
    }
    REPORT.write_text(json.dumps(report, indent=1))
    if options.page:
        write_page(one, more, alone, threads)


if __name__ == "__main__":
    main()

"""Ours and torchvision's side by side, in one process: `make bench`.

The two run in turn on the same tensors, and their results are compared before anything
is timed. A ratio below 1 means that ours is faster, or needs less memory. Besides the
table it writes `bench.json` and `bench.png` into the folder given by `--out`.
"""

import argparse
import ctypes
import json
import os
import statistics
import sys
import time
from pathlib import Path

import bench_training
import torch
from torch import nn
from torchvision.models.detection import _utils, anchor_utils, image_list, rpn
from torchvision.ops import box_iou
from torchvision.transforms import v2

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.backbones import SmallBackbone
from rpn_lib.data.batches import InMemory
from rpn_lib.data.folder import open_folder
from rpn_lib.evaluation import recall
from rpn_lib.examples import choose_examples
from rpn_lib.fast import match_anchors
from rpn_lib.head import RPNHead
from rpn_lib.loss import RPNLoss
from rpn_lib.models import small_rpn
from rpn_lib.nms import Proposals, ProposalSelector
from rpn_lib.rpn import RegionProposalNetwork, RPNOutput
from rpn_lib.training.loop import train
from rpn_lib.training.measure import propose

RATIOS = (1.0, 2.0, 0.5)
ROWS = []

# The ratio that each work is to reach. Where it does not, the table says MISSED.
GOALS = {
    "anchors, fresh": 0.3,
    "matching, 1 true boxes": 0.9,
    "matching, 10 true boxes": 0.15,
    "matching, 100 true boxes": 0.06,
    "decode, top-k, NMS": 0.35,
    "1024 x 1024, stride 32: match, 20 boxes": 0.4,
    "1024 x 1024, stride 32: proposals": 0.6,
    "BCCD, a training step of 8 photographs": 1.0,
}


# Measuring


def compare(name, ours, theirs, repeats=5, memory=False):
    """Median times of two functions that run in turn, and their peak extra memory."""
    times = [], []
    for function in (ours, theirs):
        function()
    for _ in range(repeats):
        for function, seconds in zip((ours, theirs), times):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    add(name, *map(statistics.median, times), "s")
    if memory:
        add(f"{name}, peak memory", extra_memory(ours), extra_memory(theirs), "MB")


def extra_memory(function):
    """Megabytes that a call needs at most beyond what was in use before (Linux)."""
    if not sys.platform.startswith("linux"):
        return float("nan")
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have freed does not count
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    function()
    return max(status("VmHWM") - before, 0) / 1000


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def add(name, ours, theirs, unit):
    ratio = ours / theirs if theirs else float("nan")
    ROWS.append(
        {
            "name": name,
            "ours": ours,
            "torchvision": theirs,
            "unit": unit,
            "ratio": ratio,
            "goal": GOALS.get(name),
        }
    )
    text = [f"{value:.3g} {unit}" for value in (ours, theirs)]
    verdict = goal_text(ratio, GOALS.get(name))
    print(f"{name:<44}{text[0]:>12}{text[1]:>14}{ratio:>8.3f}  {verdict}", flush=True)


def goal_text(value, goal, unit=""):
    """What a table says of a goal: nothing if there is none."""
    if goal is None:
        return ""
    return f"{goal:g}{unit}" + (" MISSED" if value > goal else "")


# Large images: five levels of 800 x 1344, 268,569 anchors, two images


STRIDES = (4, 8, 16, 32, 64)
SIZES = (32, 64, 128, 256, 512)
IMAGE = (800, 1344)
GRIDS = [(-(-IMAGE[0] // s), -(-IMAGE[1] // s)) for s in STRIDES]


def their_generator():
    ratios = tuple(1 / ratio for ratio in RATIOS)  # theirs are height / width
    return anchor_utils.AnchorGenerator(tuple((s,) for s in SIZES), (ratios,) * 5)


def our_generator(like, levels=5):
    """Ours with the rounded shapes and the offset of theirs; strides as they are."""
    shapes = [(cell[:, 2:] - cell[:, :2]).tolist() for cell in like.cell_anchors]
    return AnchorGenerator(shapes=shapes, strides=STRIDES[:levels], offset=0)


def true_boxes(count, generator):
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([1000.0, 500])
    side = torch.rand(count, 2, generator=generator) * 280 + 20
    return torch.cat([corner, corner + side], dim=1)


def bench_anchors():
    theirs = their_generator()
    ours = our_generator(theirs)
    maps = [torch.zeros(2, 1, *grid) for grid in GRIDS]
    images = image_list.ImageList(torch.zeros(2, 3, *IMAGE), [IMAGE] * 2)
    first = theirs(images, maps)[0]
    steps = [IMAGE[0] // grid[0] for grid in GRIDS], [IMAGE[1] // g[1] for g in GRIDS]
    exact = sum(  # levels where their stride is right; 64 becomes 61
        h * w * 3 for s, (h, w), *step in zip(STRIDES, GRIDS, *steps) if step == [s, s]
    )
    assert torch.equal(torch.cat(ours(GRIDS))[:exact], first[:exact])

    def fresh():
        ours._cache.clear()
        return ours(GRIDS)

    compare("anchors, fresh", fresh, lambda: theirs(images, maps), repeats=30)
    compare(
        "anchors, seen before", lambda: ours(GRIDS), lambda: theirs(images, maps), 30
    )
    return torch.cat(ours(GRIDS)), ours.grids(GRIDS)


def bench_matching(anchors, grids):
    matcher = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    generator = torch.Generator().manual_seed(0)
    for count in (1, 10, 50, 100):
        gt = true_boxes(count, generator)
        index = matcher(box_iou(gt, anchors))
        labels = torch.where(index >= 0, 1, torch.where(index == -1, 0, -1))
        found = match_anchors(anchors, gt, grids=grids)
        assert torch.equal(found.labels, labels)
        assert torch.equal(found.gt_index[labels == 1], index[labels == 1])
        compare(
            f"matching, {count} true boxes",
            lambda gt=gt: match_anchors(anchors, gt, grids=grids),
            lambda gt=gt: matcher(box_iou(gt, anchors)),
            memory=True,
        )


def their_rpn(generator, channels, pre, post):
    """torchvision's RPN with the thresholds and samples that are our defaults."""
    return rpn.RegionProposalNetwork(
        generator,
        rpn.RPNHead(channels, generator.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n=pre,
        post_nms_top_n=post,
        nms_thresh=0.7,
    )


def networks(generator, channels=256, levels=5):
    """The same head twice: in our network, and in torchvision's."""
    theirs = their_rpn(
        generator,
        channels,
        pre={"training": 2000, "testing": 1000},
        post={"training": 2000, "testing": 1000},
    )
    ours = RegionProposalNetwork(
        nn.Identity(),
        our_generator(generator, levels),
        head=RPNHead(channels, generator.num_anchors_per_location()[0], channels),
        loss=RPNLoss(beta=1 / 9, normalizer="sampled"),
        select=ProposalSelector(1000, 1000),
    )
    head = ours.head
    with torch.no_grad():
        for mine, their in [
            (head.window[0], theirs.head.conv[0][0]),
            (head.regressor[0], theirs.head.bbox_pred),
        ]:
            mine.weight.copy_(their.weight)
            mine.bias.copy_(their.bias)
        for parameter in ("weight", "bias"):  # background 0, object their logit
            mine = getattr(head.classifier[0], parameter).zero_()
            mine[1::2] = getattr(theirs.head.cls_logits, parameter)
    return ours, theirs


def bench_large(count):
    torch.manual_seed(0)
    theirs_anchors = their_generator()
    images = image_list.ImageList(torch.zeros(2, 3, *IMAGE), [IMAGE] * 2)
    features = [torch.randn(2, 256, *grid) for grid in GRIDS]
    named = {str(i): feature for i, feature in enumerate(features)}
    theirs_anchors(images, features)
    ours, theirs = networks(theirs_anchors)
    generator = torch.Generator().manual_seed(1)
    gt = [true_boxes(count, generator) for _ in range(2)]
    targets = [{"boxes": boxes} for boxes in gt]

    with torch.no_grad():
        outputs = [ours.head(feature) for feature in features]
        scores = [output.scores.flatten(1, 3) for output in outputs]
        deltas = [output.deltas.flatten(1, 3) for output in outputs]
    anchors = ours.anchors(GRIDS)
    every = [torch.cat(x, 1).requires_grad_() for x in (scores, deltas)]
    flat = torch.cat(anchors)
    logit = (every[0][..., 1:] - every[0][..., :1]).reshape(-1, 1)

    def our_losses():
        examples = choose_examples(
            *(anchors, ours.anchors.grids(GRIDS), None, [IMAGE] * 2, gt),
            rules=(ours.border, ours.match, ours.sample),
        )
        where = examples.image, examples.number
        return ours._losses(every[0][where], every[1][where], examples, 1)

    def their_losses():
        labels, matched = theirs.assign_targets_to_anchors([flat, flat], targets)
        wanted = theirs.box_coder.encode(matched, [flat, flat])
        return theirs.compute_loss(logit, every[1].reshape(-1, 4), labels, wanted)

    compare(f"match, sample, encode, loss, {count} boxes", our_losses, their_losses)
    if count != 50:
        return

    ours.eval(), theirs.eval()
    per_level = [len(level) for level in anchors]

    def our_proposals():
        logits = [(score[..., 1] - score[..., 0]).detach() for score in scores]
        return [
            ours.select([x[i] for x in logits], [x[i] for x in deltas], anchors, IMAGE)
            for i in range(2)
        ]

    def their_proposals():
        boxes = theirs.box_coder.decode(every[1].detach().reshape(-1, 4), [flat, flat])
        boxes = boxes.view(2, -1, 4)
        return theirs.filter_proposals(boxes, logit, [IMAGE] * 2, per_level)

    for mine, boxes in zip(our_proposals(), their_proposals()[0]):
        # Of boxes with equal scores either may come first.
        same = (mine.boxes - boxes).abs().amax(dim=1) < 1e-3
        assert same.float().mean() > 0.99
    compare("decode, top-k, NMS", our_proposals, their_proposals)

    ours.train().to(memory_format=torch.channels_last)
    theirs.train()
    ours.select.pre_nms_top_k = ours.select.post_nms_top_k = 2000
    last = [
        feature.contiguous(memory_format=torch.channels_last) for feature in features
    ]

    def step(network, losses):
        network.zero_grad()
        sum(losses.values()).backward()

    compare(
        "training step, features given",
        lambda: step(ours, ours.from_features(last, [IMAGE] * 2, gt, propose=False)[1]),
        lambda: step(theirs, theirs(images, named, targets)[1]),
        repeats=3,
    )


# The notebook that the book grows from: 1024 x 1024, stride 32, nine anchors at a cell


def bench_seed():
    theirs = anchor_utils.AnchorGenerator(((64, 128, 256),), ((1.0, 0.5, 2.0),))
    maps, image = [torch.zeros(1, 1, 32, 32)], (1024, 1024)
    images = image_list.ImageList(torch.zeros(1, 3, *image), [image])
    expected = theirs(images, maps)[0]
    cell = theirs.cell_anchors[0]
    shapes = [(cell[:, 2:] - cell[:, :2]).tolist()]
    ours = AnchorGenerator(shapes=shapes, strides=[32], offset=0)
    assert torch.equal(ours([(32, 32)])[0], expected)
    matcher = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    grids = ours.grids([(32, 32)])
    gt = true_boxes(20, torch.Generator().manual_seed(0)).clamp(max=1024)
    compare(
        "1024 x 1024, stride 32: match, 20 boxes",
        lambda: match_anchors(expected, gt, grids=grids),
        lambda: matcher(box_iou(gt, expected)),
        repeats=20,
    )
    select = ProposalSelector(2000, 1000)
    deltas = torch.randn(9216, 4, generator=torch.Generator().manual_seed(1)) / 10
    logit = torch.randn(9216, generator=torch.Generator().manual_seed(2))
    network = networks(theirs, channels=8, levels=1)[1].eval()

    def their_proposals():
        boxes = network.box_coder.decode(deltas, [expected]).view(1, -1, 4)
        return network.filter_proposals(boxes, logit[:, None], [image], [9216])

    select.pre_nms_top_k = 1000
    mine = select([logit], [deltas], [expected], image).boxes
    same = (mine - their_proposals()[0][0]).abs().amax(dim=1) < 1e-3
    assert same.float().mean() > 0.99
    compare(
        "1024 x 1024, stride 32: proposals",
        lambda: select([logit], [deltas], [expected], image),
        their_proposals,
        repeats=20,
    )


# Photographs: 300 steps of 8, the same backbone, data and schedule


class TorchvisionRPN(nn.Module):
    """torchvision's RPN on our backbone, called as `train` and `propose` call ours.

    The same number of anchors and samples, the same thresholds; theirs computes
    proposals in each training step, which cannot be switched off.
    """

    def __init__(self, sizes):
        super().__init__()
        self.backbone = SmallBackbone()
        ratios = tuple(1 / ratio for ratio in RATIOS)
        anchors = anchor_utils.AnchorGenerator((sizes,), (ratios,))
        self.rpn = their_rpn(
            anchors,
            self.backbone.out_channels,
            pre={"training": 2000, "testing": 2000},
            post={"training": 1000, "testing": 1000},
        )

    def forward(
        self,
        images,
        gt_boxes=None,
        propose=True,
        names=None,
        ignore_boxes=None,
        generator=None,  # theirs takes torch's global one
    ):
        batch = torch.stack(images).contiguous(memory_format=torch.channels_last)
        sizes = [tuple(image.shape[-2:]) for image in images]
        targets = gt_boxes and [{"boxes": boxes} for boxes in gt_boxes]
        boxes, losses = self.rpn(
            image_list.ImageList(batch, sizes), {"0": self.backbone(batch)}, targets
        )
        # Theirs come best first, without their scores.
        proposals = [Proposals(box, torch.linspace(1, 0, len(box))) for box in boxes]
        if not self.training:
            return RPNOutput(proposals, None)
        names = {"loss_objectness": "objectness", "loss_rpn_box_reg": "box"}
        return RPNOutput(proposals, {names[key]: loss for key, loss in losses.items()})


def bench_bccd(folder):
    train_set, val_set = bccd_halved(folder)
    seconds, results = [], []
    for make in (lambda: small_rpn(SIZES_BCCD, RATIOS), their_network):
        torch.manual_seed(0)
        network = make()
        start = time.perf_counter()
        steps = len(train(network, train_set, epochs=12))
        seconds.append((time.perf_counter() - start) / steps)
        results.append(recall(*propose(network, val_set), k=100))
    add("BCCD, a training step of 8 photographs", *seconds, "s")
    add("BCCD, recall at IoU 0.5 with 100 proposals", *(r.at(0.5) for r in results), "")
    add("BCCD, AR@100", *(r.average for r in results), "")


SIZES_BCCD = (24, 40, 64, 96)


def their_network():
    return TorchvisionRPN(SIZES_BCCD)


def bccd_halved(folder):
    half = v2.Resize(240)
    flips = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
    train_set = InMemory(open_folder(folder, "train", half, on_bad_box="drop"), flips)
    return train_set, InMemory(open_folder(folder, "val", half, on_bad_box="drop"))


def bccd_with_torchvision(folder):
    """Seconds that torchvision's RPN takes for 300 steps, and its recall."""
    train_set, val_set = bccd_halved(folder)
    torch.manual_seed(0)
    network = their_network()
    start = time.perf_counter()
    train(network, train_set, epochs=12)
    seconds = time.perf_counter() - start
    return seconds, recall(*propose(network, val_set), k=100)


def plot(path):
    from matplotlib.figure import Figure

    rows = [row for row in ROWS if row["unit"]]
    figure = Figure(figsize=(8, 0.4 * len(rows) + 1.2), layout="constrained")
    ax = figure.subplots()
    ax.barh(
        [row["name"] for row in rows], [row["ratio"] for row in rows], color="#0072B2"
    )
    ax.axvline(1, color="#D55E00", linestyle="--", label="torchvision")
    for i, row in enumerate(rows):
        ax.text(row["ratio"], i, f" {row['ratio']:.2g}", va="center", fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="ours over torchvision's: less is better", xlim=(0, 1.15))
    ax.legend(loc="lower right")
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("_build/bench"))
    out = parser.parse_args().out
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'':<44}{'ours':>12}{'torchvision':>14}{'ratio':>8}  goal")
    bench_seed()
    bench_matching(*bench_anchors())
    for count in (100, 50):
        bench_large(count)
    folder = Path(os.environ.get("RPN_DATA", "data")) / "BCCD"
    if folder.is_dir():
        bench_bccd(folder)
    else:
        print(f"BCCD: NOT RUN, {folder} is missing (set RPN_DATA to the folder above)")
    training = bench_training.main()
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(ROWS, indent=1))
    (out / "training.json").write_text(json.dumps(training, indent=1))
    plot(out / "bench.png")
    print(f"wrote {out / 'bench.json'} and {out / 'bench.png'}")


if __name__ == "__main__":
    main()

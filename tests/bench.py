"""Ours and torchvision's side by side, in one process: `make bench`.

The two run in turn on the same tensors, and a ratio below 1 means that ours is faster.
Results are compared before anything is timed.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import _utils, anchor_utils, image_list, rpn
from torchvision.ops import box_iou
from torchvision.transforms import v2

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.data import InMemory, VOCFolder
from rpn_lib.evaluate import recall
from rpn_lib.matching import match_anchors
from rpn_lib.network import SmallBackbone
from rpn_lib.train import propose, small_rpn, train

SIZES, RATIOS = (24, 40, 64, 96), (1.0, 2.0, 0.5)


class TorchvisionRPN(nn.Module):
    """torchvision's RPN on our backbone, called as `train` and `propose` call ours.

    The same number of anchors and samples, the same thresholds; theirs computes
    proposals in each training step, which cannot be switched off.
    """

    def __init__(self):
        super().__init__()
        self.backbone = SmallBackbone()
        anchors = anchor_utils.AnchorGenerator(
            (SIZES,), (tuple(1 / r for r in RATIOS),)
        )
        count = anchors.num_anchors_per_location()[0]
        self.rpn = rpn.RegionProposalNetwork(
            anchors,
            rpn.RPNHead(self.backbone.out_channels, count),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 2000},
            post_nms_top_n={"training": 1000, "testing": 1000},
            nms_thresh=0.7,
        )
        self.generator = None  # theirs takes torch's global one

    def forward(self, images, gt_boxes=None, propose=True, names=None):
        from rpn_lib.nms import Proposals
        from rpn_lib.rpn import RPNOutput

        batch = torch.stack(images)
        batch = batch.contiguous(memory_format=torch.channels_last)
        sizes = [tuple(image.shape[-2:]) for image in images]
        targets = gt_boxes and [{"boxes": boxes} for boxes in gt_boxes]
        boxes, losses = self.rpn(
            image_list.ImageList(batch, sizes), {"0": self.backbone(batch)}, targets
        )
        proposals = [Proposals(box, None) for box in boxes]
        if not self.training:
            return RPNOutput(proposals, None)
        names = {"loss_objectness": "objectness", "loss_rpn_box_reg": "box"}
        return RPNOutput(proposals, {names[key]: loss for key, loss in losses.items()})


def in_turn(ours, theirs, repeats):
    """Median seconds of each, run one after the other to share the machine's moods."""
    times = [], []
    for function in (ours, theirs):
        function()
    for _ in range(repeats):
        for function, seconds in zip((ours, theirs), times):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def bench_matching():
    """Labels of 268,569 anchors, five levels of 800 x 1344."""
    strides = (4, 8, 16, 32, 64)
    grids = [(-(-800 // s), -(-1344 // s)) for s in strides]
    sizes = [[32], [64], [128], [256], [512]]
    anchors = torch.cat(AnchorGenerator(sizes, strides=strides)(grids))
    matcher = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=True)
    generator = torch.Generator().manual_seed(0)
    for count in (50, 100):
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([1000.0, 500])
        side = torch.rand(count, 2, generator=generator) * 280 + 20
        gt = torch.cat([corner, corner + side], dim=1)
        index = matcher(box_iou(gt, anchors))
        labels = torch.where(index >= 0, 1, torch.where(index == -1, 0, -1))
        assert torch.equal(match_anchors(anchors, gt).labels, labels)
        ours, theirs = in_turn(
            lambda gt=gt: match_anchors(anchors, gt),
            lambda gt=gt: matcher(box_iou(gt, anchors)),
            repeats=5,
        )
        show(f"matching, {count} true boxes", ours, theirs)


def bench_bccd(folder):
    """300 training steps of 8 photographs at half size; recall on others."""
    half = v2.Resize(240)
    flips = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
    train_set = InMemory(VOCFolder(folder, "train", half, on_bad_box="drop"), flips)
    val_set = InMemory(VOCFolder(folder, "val", half, on_bad_box="drop"))
    seconds, results = [], []
    for make in (lambda: small_rpn(SIZES, RATIOS), TorchvisionRPN):
        torch.manual_seed(0)
        network = make()
        start = time.perf_counter()
        train(network, train_set, epochs=12)
        seconds.append(time.perf_counter() - start)
        results.append(recall(*propose(network, val_set), k=100))
    show("BCCD, 300 training steps", *seconds)
    for name, at in (("recall at IoU 0.5", 0.5), ("AR@100", None)):
        values = [r.average if at is None else r.at(at) for r in results]
        print(f"{'BCCD, ' + name:<32}{values[0]:>10.3f}{values[1]:>14.3f}")


def show(name, ours, theirs):
    print(f"{name:<32}{ours:>8.3f} s{theirs:>12.3f} s{ours / theirs:>9.2f}", flush=True)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'':<32}{'ours':>10}{'torchvision':>14}{'ratio':>9}")
    bench_matching()
    folder = Path(os.environ.get("RPN_DATA", "data")) / "BCCD"
    if folder.is_dir():
        bench_bccd(folder)
    else:
        print(
            f"BCCD: not run, {folder} is missing (set RPN_DATA to the folder above it)"
        )


if __name__ == "__main__":
    main()

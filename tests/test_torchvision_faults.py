"""Where torchvision's RPN is wrong, or does something else: theirs beside ours.

The page book/torchvision.md lists these tests, and every figure on it is asserted in a
test that it names. Where a test fails with a new torchvision, the fault may be mended:
take it off the page.
"""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection import rpn as theirs
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator as TheirGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops import box_iou as their_iou

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.boxes import box_area
from rpn_lib.errors import BoxError
from rpn_lib.interop import AsTorchvisionRPN, from_torchvision
from rpn_lib.matching import MatchRule, match_anchors

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "torchvision.md"

# torchvision's feature pyramid for an image of 800x1344: 268,569 anchors.
SIZES = ((32,), (64,), (128,), (256,), (512,))
GRIDS = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
STRIDES = [4, 8, 16, 32, 64]


def their_anchors(generator, image_size, grids, dtype=torch.float32):
    image = ImageList(torch.zeros(1, 3, *image_size), [image_size])
    return generator(image, [torch.zeros(1, 1, *grid, dtype=dtype) for grid in grids])[
        0
    ]


def pyramid_anchors(dtype=torch.float32):
    generator = TheirGenerator(SIZES, ((0.5, 1.0, 2.0),) * 5)
    return their_anchors(generator, (800, 1344), GRIDS, dtype)


def their_labels(boxes, anchors):
    """1 object, 0 background, -1 ignored."""
    match = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    index = match(their_iou(boxes, anchors))
    return torch.where(index >= 0, 1, index + 1)


def their_rpn(generator, channels=8):
    torch.manual_seed(0)
    head = theirs.RPNHead(channels, generator.num_anchors_per_location()[0])
    limits = {"training": 1000, "testing": 1000}
    rpn = theirs.RegionProposalNetwork(
        generator, head, 0.7, 0.3, 256, 0.5, limits, limits, nms_thresh=0.7
    )
    for parameter in rpn.parameters():
        nn.init.normal_(parameter, std=0.1)
    return rpn


def detector():
    """A small FasterRCNN, stride 16, of images 400x592: 25 * 37 * 15 anchors."""
    torch.manual_seed(0)
    backbone = nn.Conv2d(3, 8, kernel_size=16, stride=16)
    backbone.out_channels = 8
    return FasterRCNN(
        backbone,
        num_classes=2,
        min_size=400,
        max_size=592,
        size_divisible=16,
        rpn_anchor_generator=TheirGenerator(
            ((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),)
        ),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=2, sampling_ratio=1),
    )


def with_our_rpn(model):
    model.rpn = AsTorchvisionRPN(from_torchvision(model.rpn, strides=[16]))
    return model


def scene(*box):
    target = {"boxes": torch.tensor([box]), "labels": torch.tensor([1])}
    return [torch.rand(3, 400, 592)], [target]


# Matching


def test_a_box_between_the_anchors_makes_every_anchor_an_object():
    generator = TheirGenerator(((8,),), ((1.0,),))
    anchors = their_anchors(generator, (256, 256), [(4, 4)])  # 8 pixels, 64 apart
    box = torch.tensor([[20.0, 20.0, 50.0, 50.0]])
    assert their_iou(box, anchors).max() == 0
    assert their_labels(box, anchors).tolist() == [1] * 16
    assert match_anchors(anchors, box).labels.tolist() == [0] * 16


def test_a_far_box_makes_all_anchors_of_faster_rcnn_objects():
    model = detector()
    assign, labels = model.rpn.assign_targets_to_anchors, []
    model.rpn.assign_targets_to_anchors = lambda *args: (
        labels.extend(assign(*args)[0]) or assign(*args)
    )
    losses = model(*scene(5000.0, 5000.0, 5050.0, 5050.0))
    assert len(labels[0]) == 13_875
    assert (labels[0] == 1).all()
    assert all(loss.isfinite() for loss in losses.values())  # and nobody is told
    assert losses["loss_rpn_box_reg"] > 2

    with pytest.raises(BoxError) as error:
        with_our_rpn(detector())(*scene(5000.0, 5000.0, 5050.0, 5050.0))
    assert str(error.value).startswith(
        "image 0, resized to (400, 592), box 0 [5000, 5000, 5050, 5050]: reaches "
        "outside the image, which is 592 wide and 400 high."
    )


def test_a_box_across_the_border_passes_silently():
    losses = detector()(*scene(500.0, 300.0, 700.0, 390.0))
    assert all(loss.isfinite() for loss in losses.values())
    with pytest.raises(BoxError, match="reaches outside the image"):
        with_our_rpn(detector())(*scene(500.0, 300.0, 700.0, 390.0))


def test_a_box_of_one_pixel_has_144_best_anchors_unless_forbidden():
    # The rule of the paper; ours takes a least IoU, theirs has no such setting.
    anchors = pyramid_anchors()
    box = torch.tensor([[641.0, 401.0, 642.0, 402.0]])
    assert 0.0009 < their_iou(box, anchors).max() < 0.001
    assert (their_labels(box, anchors) == 1).sum() == 144
    assert (match_anchors(anchors, box).labels == 1).sum() == 144
    limited = match_anchors(anchors, box, MatchRule(min_best_iou=0.01))
    assert (limited.labels == 0).all()


# Anchors


def test_strides_are_divided_and_rounded_down():
    generator = TheirGenerator(((32,),), ((1.0,),))
    anchor = their_anchors(generator, (375, 500), [(24, 32)])[-1]
    assert ((anchor[:2] + anchor[2:]) / 2).tolist() == [465, 345]  # stride 15
    (ours,) = AnchorGenerator([32], [1], strides=[16], offset=0)([(24, 32)])
    assert ((ours[-1, :2] + ours[-1, 2:]) / 2).tolist() == [496, 368]


def test_the_coarsest_level_is_36_pixels_off():
    generator = TheirGenerator(SIZES, ((1.0,),) * 5)
    anchors = their_anchors(generator, (800, 1344), GRIDS)
    shapes = [[(size, size)] for (size,) in SIZES]
    ours = torch.cat(AnchorGenerator(shapes=shapes, strides=STRIDES, offset=0)(GRIDS))
    coarsest = 13 * 21
    assert torch.equal(anchors[:-coarsest], ours[:-coarsest])
    off = ours[-coarsest:] - anchors[-coarsest:]
    assert 800 // 13 == 61
    assert off[-1].tolist() == [0, 36, 0, 36]
    assert off.max() == 36


def test_sides_are_rounded():
    (cell,) = TheirGenerator(((8,),), ((0.5,),)).cell_anchors
    assert box_area(cell).tolist() == [72]
    ours = AnchorGenerator([8], [2], strides=[16])([(1, 1)])[0]
    assert box_area(ours).tolist() == [pytest.approx(64)]


# Precision


def test_anchors_are_rounded_to_bfloat16():
    exact, anchors = pyramid_anchors(), pyramid_anchors(torch.bfloat16)
    assert len(anchors) == 268_569
    assert anchors.dtype == torch.bfloat16
    off = (anchors.float() - exact).abs().amax(dim=1)
    assert off.max() == 7
    assert round((off > 0).float().mean().item(), 2) == 0.66
    ours = AnchorGenerator(SIZES, strides=STRIDES)(GRIDS)
    assert all(level.dtype == torch.float32 for level in ours)


def test_proposals_are_bfloat16_under_autocast():
    model = detector().eval()
    ours = from_torchvision(model.rpn, strides=[16])
    images = torch.rand(1, 3, 400, 592)
    batch = ImageList(images, [(400, 592)])
    with torch.no_grad():
        exact = model.backbone(images)
        expected = AsTorchvisionRPN(ours)(batch, {"0": exact})[0][0]
        with torch.autocast("cpu", torch.bfloat16):
            features = {"0": model.backbone(images)}
            boxes = model.rpn(batch, features)[0][0]
            found = AsTorchvisionRPN(ours)(batch, features)[0][0]
    assert boxes.dtype == torch.bfloat16
    assert found.dtype == expected.dtype == torch.float32


# What is missing


def test_no_losses_in_evaluation():
    generator = TheirGenerator(((32, 64),), ((1.0,),))
    rpn = their_rpn(generator).eval()
    batch = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    features = {"0": torch.rand(1, 8, 4, 6)}
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]])}]
    assert rpn(batch, features, targets)[1] == {}
    ours = AsTorchvisionRPN(from_torchvision(rpn, strides=[16])).eval()
    losses = ours(batch, features, targets)[1]
    assert losses.keys() == {"loss_objectness", "loss_rpn_box_reg"}


def test_padding_makes_proposals_and_examples():
    generator = TheirGenerator(((32, 64),), ((1.0,),))
    rpn = their_rpn(generator)
    ours = from_torchvision(rpn, strides=[16])
    torch.manual_seed(1)
    wide = torch.rand(1, 8, 8, 12)  # of a batch of 128x192, whose image is 64x96
    alone = wide[..., :4, :6]
    batch = ImageList(torch.zeros(1, 3, 128, 192), [(64, 96)])
    image = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]])}]

    anchors = generator(batch, [wide])
    labels = rpn.assign_targets_to_anchors(anchors, targets)[0][0]
    outside = (anchors[0][:, 0] >= 96) | (anchors[0][:, 1] >= 64)
    assert outside.sum() > 100
    assert (labels[outside] == 0).all()  # "background", where there is no picture
    rpn.eval()
    boxes = [rpn(x, {"0": f})[0][0] for x, f in [(batch, wide), (image, alone)]]
    assert boxes[0].shape != boxes[1].shape
    rpn = AsTorchvisionRPN(ours)
    boxes = [rpn(x, {"0": f})[0][0] for x, f in [(batch, wide), (image, alone)]]
    torch.testing.assert_close(*boxes)


# The page


def defined_in(module):
    text = (ROOT / "tests" / f"{module}.py").read_text()
    return re.findall(r"^def (test_\w+)", text, re.M)


def named_on_the_page():
    return re.findall(r"`(test_\w+)::(test_\w+)`", PAGE.read_text())


def test_every_test_named_on_the_page_exists():
    named = named_on_the_page()
    assert len(named) > 20
    for module, test in named:
        assert test in defined_in(module), f"{module}::{test}"


def test_every_row_of_the_page_names_a_test():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rows = [row for row in rows if not re.match(r"\|[-|]+$", row)]
    for row in rows:
        assert "::test_" in row or row.endswith("| test |"), row


def test_every_fault_is_named_on_the_page():
    named = [
        test for module, test in named_on_the_page() if module == Path(__file__).stem
    ]
    about_the_page = [
        test for test in defined_in(Path(__file__).stem) if "page" in test
    ]
    faults = [t for t in defined_in(Path(__file__).stem) if t not in about_the_page]
    assert sorted(named) == sorted(faults)


def test_code_of_the_page_runs():
    torch.manual_seed(0)
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert blocks
    for block in blocks:
        exec(block, names)
    assert all(loss.isfinite() for loss in names["losses"].values())

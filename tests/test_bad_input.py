"""Every message of the library, in full: what was given, where, and what to do."""

import ast
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import rpn_lib
from rpn_lib import errors, fast
from rpn_lib.anchors import AnchorGenerator, anchor_grid, anchor_shapes
from rpn_lib.boxes import check_boxes
from rpn_lib.errors import BoxError, RPNError, SettingError
from rpn_lib.head import RPNHead
from rpn_lib.loss import RPNLoss
from rpn_lib.matching import MatchRule, match_anchors
from rpn_lib.models import build_rpn, small_rpn
from rpn_lib.nms import ProposalSelector, nms
from rpn_lib.padding import pad_images
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.sampling import SampleRule
from rpn_lib.training.measure import compare

BOX = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
SQUARE = torch.tensor([[8.0, 8.0]])
NONE = torch.zeros(0, 4)
IMAGE = torch.zeros(3, 16, 16)


def network(**settings):
    settings = {"backbone": nn.Conv2d(3, 4, 8, 8), **settings}
    settings.setdefault("anchors", AnchorGenerator([8], strides=[8]))
    return RegionProposalNetwork(**settings)


MESSAGES = [
    # boxes
    (
        lambda: check_boxes([[1, 2, 3, math.nan]]),
        "boxes, box 0 [1, 2, 3, nan]: a coordinate is not a finite number. Look for a "
        "missing value.",
    ),
    (
        lambda: check_boxes([[0, 0, 1, 1], [0, -math.inf, 1, 1]]),
        "boxes, box 1 [0, -inf, 1, 1]: a coordinate is not a finite number. Look for a "
        "missing value.",
    ),
    (
        lambda: check_boxes([[5, 1, 5, 9]], where="image 3 (cells/0003.jpg)"),
        "image 3 (cells/0003.jpg), box 0 [5, 1, 5, 9]: width is zero. Drop the box; if "
        "its coordinates count pixels from 1 and include the last one, as in Pascal "
        "VOC, subtract 1 from x1 and y1.",
    ),
    (
        lambda: check_boxes([[1, 9, 5, 9]]),
        "boxes, box 0 [1, 9, 5, 9]: height is zero. Drop the box; if its coordinates "
        "count pixels from 1 and include the last one, as in Pascal VOC, subtract 1 "
        "from x1 and y1.",
    ),
    (
        lambda: check_boxes([[10, 20, 5, 40]]),
        "boxes, box 0 [10, 20, 5, 40]: x2 < x1. Boxes are (x1, y1, x2, y2); if these "
        "are (x, y, width, height), convert them with "
        'torchvision.ops.box_convert(boxes, "xywh", "xyxy").',
    ),
    (
        lambda: check_boxes([[10, 20, 50, 8]]),
        "boxes, box 0 [10, 20, 50, 8]: y2 < y1. Boxes are (x1, y1, x2, y2); if these "
        "are (x, y, width, height), convert them with "
        'torchvision.ops.box_convert(boxes, "xywh", "xyxy").',
    ),
    (
        lambda: check_boxes([[0.5, 1, 20.25, 8]], (10, 20)),
        "boxes, box 0 [0.5, 1, 20.25, 8]: reaches outside the image, which is 20 wide "
        "and 10 high. Clip it with torchvision.ops.clip_boxes_to_image, or resize "
        "boxes and image together.",
    ),
    (
        lambda: check_boxes([1, 2, 3, 4]),
        "boxes: boxes have shape (4,); they must be (number of boxes, 4), and (0, 4) "
        "where there are none.",
    ),
    (
        lambda: check_boxes(torch.zeros(2, 5), where="image 1"),
        "image 1: boxes have shape (2, 5); they must be (number of boxes, 4), and "
        "(0, 4) where there are none.",
    ),
    (
        lambda: check_boxes(torch.zeros(0, 5)),
        "boxes: boxes have shape (0, 5); they must be (number of boxes, 4), and (0, 4) "
        "where there are none.",
    ),
    # anchors
    (
        lambda: anchor_shapes([], [1]),
        "sizes must be a list of positive numbers, not [].",
    ),
    (
        lambda: anchor_shapes([32, 0], [1]),
        "sizes must be a list of positive numbers, not [32, 0].",
    ),
    (
        lambda: anchor_shapes([32], [1, -2]),
        "aspect_ratios must be a list of positive numbers, not [1, -2].",
    ),
    (
        lambda: anchor_shapes([32], []),
        "aspect_ratios must be a list of positive numbers, not [].",
    ),
    (
        lambda: anchor_shapes([math.nan], [1]),
        "sizes must be a list of positive numbers, not [nan].",
    ),
    (
        lambda: anchor_shapes([math.inf], [1]),
        "sizes must be a list of positive numbers, not [inf].",
    ),
    (
        lambda: anchor_grid((0, 4), 16, SQUARE),
        "grid_size is (0, 4); it must be (rows, columns), both 1 or more.",
    ),
    (
        lambda: anchor_grid((4, 2.5), 16, SQUARE),
        "grid_size is (4, 2.5); it must be (rows, columns), both 1 or more.",
    ),
    (
        lambda: anchor_grid((2, 3, 4), 16, SQUARE),
        "grid_size is (2, 3, 4); it must be (rows, columns), both 1 or more.",
    ),
    (
        lambda: anchor_grid((2, 2), 0, SQUARE),
        "stride must be a positive number, or two (down, right), not 0.",
    ),
    (
        lambda: anchor_grid((2, 2), (16, -16), SQUARE),
        "stride must be a positive number, or two (down, right), not (16, -16).",
    ),
    (
        lambda: anchor_grid((2, 2), math.inf, SQUARE),
        "stride must be a positive number, or two (down, right), not inf.",
    ),
    (
        lambda: anchor_grid((2, 2), 16, torch.tensor([[8.0, 0.0]])),
        "shapes must be (A, 2) positive widths and heights, not [[8.0, 0.0]].",
    ),
    (
        lambda: anchor_grid((2, 2), 16, torch.tensor([[math.nan, 8.0]])),
        "shapes must be (A, 2) positive widths and heights, not [[nan, 8.0]].",
    ),
    (
        lambda: anchor_grid((2, 2), 16, torch.zeros(0, 2)),
        "shapes must be (A, 2) positive widths and heights, not [].",
    ),
    (
        lambda: anchor_grid((2, 2), 16, torch.tensor([8.0, 8.0])),
        "shapes must be (A, 2) positive widths and heights, not [8.0, 8.0].",
    ),
    (
        lambda: AnchorGenerator(),
        "Give AnchorGenerator either sizes (with aspect_ratios) or shapes.",
    ),
    (
        lambda: AnchorGenerator([32], shapes=[[(8, 8)]]),
        "Give AnchorGenerator either sizes (with aspect_ratios) or shapes.",
    ),
    (
        lambda: AnchorGenerator([[32], [64]]),
        "2 levels of anchors and 1 strides; give one of each per level.",
    ),
    (
        lambda: AnchorGenerator([32], strides=[8, 16]),
        "1 levels of anchors and 2 strides; give one of each per level.",
    ),
    (
        lambda: AnchorGenerator([32], strides=[0]),
        "strides must be a list of positive numbers, not [0].",
    ),
    (
        lambda: AnchorGenerator(shapes=[[(8, 8)], [(8, -4)]], strides=[8, 16]),
        "shapes of level 1 must be (A, 2) positive widths and heights, not [[8.0, "
        "-4.0]].",
    ),
    (
        lambda: AnchorGenerator(shapes=[[]]),
        "shapes of level 0 must be (A, 2) positive widths and heights, not [].",
    ),
    (
        lambda: AnchorGenerator([32])([(4, 4), (2, 2)]),
        "2 feature maps for 1 levels of anchors.",
    ),
    (
        lambda: AnchorGenerator([32], offset=math.nan),
        "offset must be a finite number, not nan.",
    ),
    # matching
    (
        lambda: MatchRule(positive_iou=0.3, negative_iou=0.7),
        "negative_iou=0.7 and positive_iou=0.3 must keep the order "
        "0 <= negative_iou <= positive_iou <= 1, with positive_iou above 0.",
    ),
    (
        lambda: MatchRule(positive_iou=0, negative_iou=0),
        "negative_iou=0 and positive_iou=0 must keep the order "
        "0 <= negative_iou <= positive_iou <= 1, with positive_iou above 0.",
    ),
    (
        lambda: MatchRule(positive_iou=math.nan),
        "negative_iou=0.3 and positive_iou=nan must keep the order "
        "0 <= negative_iou <= positive_iou <= 1, with positive_iou above 0.",
    ),
    (
        lambda: MatchRule(positive_iou=1.5),
        "negative_iou=0.3 and positive_iou=1.5 must keep the order "
        "0 <= negative_iou <= positive_iou <= 1, with positive_iou above 0.",
    ),
    (
        lambda: MatchRule(min_best_iou=1.5),
        "min_best_iou=1.5 must be between 0 and 1.",
    ),
    (
        lambda: match_anchors(BOX, BOX, gt_labels=torch.tensor([0])),
        "gt_labels must hold a class from 1 for each of the 1 true boxes (0 means "
        "background, -1 ignored), not [0].",
    ),
    (
        lambda: match_anchors(BOX, BOX, gt_labels=torch.tensor([1, 2])),
        "gt_labels must hold a class from 1 for each of the 1 true boxes (0 means "
        "background, -1 ignored), not [1, 2].",
    ),
    (
        lambda: match_anchors(torch.cat([BOX, math.nan * BOX]), BOX),
        "anchor 1 is [nan, nan, nan, nan]; it must be finite.",
    ),
    (
        lambda: fast.match_anchors(math.inf * BOX, BOX),
        "anchor 0 is [nan, nan, inf, inf]; it must be finite.",
    ),
    (
        lambda: match_anchors(BOX, BOX, valid=torch.ones(3, dtype=torch.bool)),
        "valid has shape (3,) for 1 anchors.",
    ),
    (
        lambda: SampleRule(num_samples=0),
        "num_samples=0 must be 1 or more and positive_fraction=0.5 between 0 and 1.",
    ),
    (
        lambda: SampleRule(positive_fraction=1.5),
        "num_samples=256 must be 1 or more and positive_fraction=1.5 between 0 and 1.",
    ),
    (
        lambda: SampleRule(positive_fraction=math.nan),
        "num_samples=256 must be 1 or more and positive_fraction=nan between 0 and 1.",
    ),
    # loss
    (
        lambda: RPNLoss(lambda_=-1),
        "lambda_=-1 and beta=1.0 must be 0 or more.",
    ),
    (
        lambda: RPNLoss(beta=-0.5),
        "lambda_=1.0 and beta=-0.5 must be 0 or more.",
    ),
    (
        lambda: RPNLoss(normalizer="anchors"),
        'normalizer is "positives", "sampled" or "paper", not \'anchors\'.',
    ),
    (
        lambda: RPNLoss(box="iou"),
        'box is "smooth_l1" or "giou", not \'iou\'.',
    ),
    # nms
    (
        lambda: nms(BOX, torch.ones(1), 1.5),
        "iou_threshold=1.5 must be between 0 and 1.",
    ),
    (
        lambda: nms(BOX, torch.ones(1), math.nan),
        "iou_threshold=nan must be between 0 and 1.",
    ),
    (
        lambda: nms(BOX, torch.ones(2), 0.5),
        "scores have shape (2,) for 1 boxes.",
    ),
    (
        lambda: nms(BOX, torch.ones(1, 1), 0.5),
        "scores have shape (1, 1) for 1 boxes.",
    ),
    (
        lambda: ProposalSelector(iou_threshold=-0.1),
        "iou_threshold=-0.1 must be between 0 and 1.",
    ),
    (
        lambda: ProposalSelector(pre_nms_top_k=0),
        "pre_nms_top_k=0 and post_nms_top_k=1000 must be 1 or more.",
    ),
    (
        lambda: ProposalSelector(post_nms_top_k=-5),
        "pre_nms_top_k=2000 and post_nms_top_k=-5 must be 1 or more.",
    ),
    (
        lambda: ProposalSelector(score_threshold=2),
        "score_threshold=2 must be between 0 and 1, min_size=0.001 0 or more.",
    ),
    (
        lambda: ProposalSelector(min_size=-1),
        "score_threshold=0.0 must be between 0 and 1, min_size=-1 0 or more.",
    ),
    # network
    (
        lambda: RPNHead(0, 9),
        "in_channels=0, num_anchors=9, hidden_channels=256 and conv_depth=1 must all "
        "be 1 or more.",
    ),
    (
        lambda: RPNHead(8, 9, hidden_channels=-1),
        "in_channels=8, num_anchors=9, hidden_channels=-1 and conv_depth=1 must all "
        "be 1 or more.",
    ),
    # the whole
    (
        lambda: network(backbone=nn.Identity()),
        "Identity has no out_channels; give head=RPNHead(C, 3, C), with the channels C "
        "of its feature maps.",
    ),
    (
        lambda: network(
            anchors=AnchorGenerator(
                shapes=[[(8, 8)], [(8, 8), (9, 9)]], strides=[8, 16]
            )
        ),
        "Levels with [1, 2] anchors at a cell cannot share one head; give every level "
        "the same number.",
    ),
    (
        lambda: network(match=MatchRule(0.2)),
        "negative_iou=0.3 and positive_iou=0.2 must keep the order "
        "0 <= negative_iou <= positive_iou <= 1, with positive_iou above 0.",
    ),
    (
        lambda: network(sample=SampleRule(0)),
        "num_samples=0 must be 1 or more and positive_fraction=0.5 between 0 and 1.",
    ),
    (
        lambda: network(anchors=AnchorGenerator([[8], [16]], strides=[8, 16]))([IMAGE]),
        "1 feature maps for 2 levels of anchors.",
    ),
    (lambda: pad_images([]), "The batch holds no image."),
    (lambda: network()(torch.zeros(0, 3, 8, 8)), "The batch holds no image."),
    (
        lambda: pad_images([IMAGE, torch.zeros(16, 16)]),
        "image 1 has shape (16, 16); all images of a batch must be (channels, height, "
        "width), with the same number of channels.",
    ),
    (
        lambda: pad_images(IMAGE),
        "image 0 has shape (16, 16); all images of a batch must be (channels, height, "
        "width), with the same number of channels.",
    ),
    (
        lambda: pad_images([torch.zeros(3, 0, 16)]),
        "image 0 has shape (3, 0, 16); all images of a batch must be (channels, "
        "height, width), with the same number of channels.",
    ),
    (
        lambda: network()([IMAGE, IMAGE.to(torch.uint8)]),
        "image 1 has type torch.uint8; convert it to float first, with "
        "torchvision.transforms.v2.functional.to_dtype(image, torch.float32, "
        "scale=True).",
    ),
    (
        lambda: network()([IMAGE, IMAGE], [NONE]),
        "2 images but 1 sets of true boxes; give one for each image, an empty (0, 4) "
        "tensor where it has none.",
    ),
    (
        lambda: network()([IMAGE], [NONE], ignore_boxes=[BOX, BOX]),
        "1 images but 2 sets of ignore_boxes; give one for each image, an empty (0, 4) "
        "tensor where it has none.",
    ),
    (
        lambda: network()([IMAGE], [NONE], ignore_boxes=[torch.ones(1, 4)]),
        "image 0, ignore_boxes, box 0 [1, 1, 1, 1]: width is zero. Drop the box; if "
        "its coordinates count pixels from 1 and include the last one, as in Pascal "
        "VOC, subtract 1 from x1 and y1.",
    ),
    (
        lambda: network()([IMAGE, IMAGE], [BOX, [[0, 0, 8, 8], [2, 2, 2, 8]]]),
        "image 1, box 1 [2, 2, 2, 8]: width is zero. Drop the box; if its coordinates "
        "count pixels from 1 and include the last one, as in Pascal VOC, subtract 1 "
        "from x1 and y1.",
    ),
    (
        lambda: network()([IMAGE], [[[4, 4, 8, 2]]], names=["cells/0001.jpg"]),
        "image 0 (cells/0001.jpg), box 0 [4, 4, 8, 2]: y2 < y1. Boxes are "
        "(x1, y1, x2, y2); if these are (x, y, width, height), convert them with "
        'torchvision.ops.box_convert(boxes, "xywh", "xyxy").',
    ),
    (
        lambda: network()([IMAGE], [torch.tensor([[0.0, 0, 17, 8]])], names=["a.jpg"]),
        "image 0 (a.jpg), box 0 [0, 0, 17, 8]: reaches outside the image, which is 16 "
        "wide and 16 high. Clip it with torchvision.ops.clip_boxes_to_image, or resize "
        "boxes and image together.",
    ),
    (
        lambda: MatchRule(ignore_fraction=0),
        "ignore_fraction=0 must be above 0 and at most 1.",
    ),
    (
        lambda: MatchRule(ignore_fraction=1.5),
        "ignore_fraction=1.5 must be above 0 and at most 1.",
    ),
    (
        lambda: match_anchors(BOX, BOX, ignore_boxes=torch.tensor([[4.0, 4, 2, 8]])),
        "ignore_boxes, box 0 [4, 4, 2, 8]: x2 < x1. Boxes are (x1, y1, x2, y2); if "
        "these are (x, y, width, height), convert them with "
        'torchvision.ops.box_convert(boxes, "xywh", "xyxy").',
    ),
    (
        lambda: AnchorGenerator(shapes=["wide"]),
        "shapes of level 0 must be (A, 2) positive widths and heights, not 'wide'.",
    ),
    # what used to pass, or raised an error of somebody else
    (
        lambda: anchor_grid((2, 2), (16,), SQUARE),
        "stride must be a positive number, or two (down, right), not (16,).",
    ),
    (
        lambda: anchor_grid((2, 2), (16, 16, 16), SQUARE),
        "stride must be a positive number, or two (down, right), not (16, 16, 16).",
    ),
    (
        lambda: anchor_grid((math.nan, 2), 16, SQUARE),
        "grid_size is (nan, 2); it must be (rows, columns), both 1 or more.",
    ),
    (
        lambda: anchor_grid((2, math.inf), 16, SQUARE),
        "grid_size is (2, inf); it must be (rows, columns), both 1 or more.",
    ),
    (
        lambda: anchor_grid((2, 2), 16, SQUARE * math.inf),
        "shapes must be (A, 2) positive widths and heights, not [[inf, inf]].",
    ),
    (
        lambda: AnchorGenerator(shapes=[[(8, 8, 8)]]),
        "shapes of level 0 must be (A, 2) positive widths and heights, not [[8.0, 8.0,"
        " 8.0]].",
    ),
    (
        lambda: AnchorGenerator(shapes=[[(0, 0, 8, 8)]]),
        "shapes of level 0 must be (A, 2) positive widths and heights, not [[0.0, 0.0,"
        " 8.0, 8.0]].",
    ),
    (
        lambda: AnchorGenerator(128),
        "sizes must be a list, not 128.",
    ),
    (
        lambda: check_boxes([[1, 2, 3, 4], [1, 2, 3]]),
        "boxes: boxes cannot be made a tensor of numbers (expected sequence of length "
        "4 at dim 1 (got 3)). Give four numbers for each box, and an empty (0, 4) "
        "tensor where there is none.",
    ),
    (
        lambda: network()([IMAGE], [None]),
        "image 0: boxes cannot be made a tensor of numbers (must be real number, not "
        "NoneType). Give four numbers for each box, and an empty (0, 4) tensor where "
        "there is none.",
    ),
    (
        lambda: network()([IMAGE] * 2, [NONE] * 2, names=["a.jpg"]),
        "2 images but 1 names.",
    ),
    (
        lambda: pad_images([IMAGE, IMAGE[:1]]),
        "image 1 has shape (1, 16, 16); all images of a batch must be (channels, "
        "height, width), with the same number of channels.",
    ),
    (
        lambda: RPNLoss(math.nan),
        "lambda_=nan and beta=1.0 must be 0 or more.",
    ),
    (
        lambda: RPNLoss(beta=math.nan),
        "lambda_=1.0 and beta=nan must be 0 or more.",
    ),
    (
        lambda: ProposalSelector(min_size=math.nan),
        "score_threshold=0.0 must be between 0 and 1, min_size=nan 0 or more.",
    ),
    (
        lambda: ProposalSelector()(
            [torch.zeros(1)], [torch.zeros(1, 4)] * 2, [BOX] * 2, (16, 16)
        ),
        "logits, deltas and anchors must have the same levels, of the same lengths, "
        "not [1], [1, 1] and [1, 1].",
    ),
]


@pytest.mark.parametrize(
    ("call", "message"), MESSAGES, ids=[message[:60] for _, message in MESSAGES]
)
def test_message(call, message):
    with pytest.raises(RPNError) as error:
        call()
    assert str(error.value) == message
    assert isinstance(error.value, (BoxError, SettingError))


@pytest.mark.parametrize("kind", [BoxError, SettingError])
def test_errors_of_boxes_and_settings_are_value_errors(kind):
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize(
    "call",
    [
        lambda: RPNHead(0, 9),
        lambda: RPNLoss(math.nan),
        lambda: MatchRule(negative_iou=0.8),
        lambda: MatchRule(min_best_iou=math.nan),
        lambda: SampleRule(positive_fraction=2),
        lambda: network(backbone=nn.Identity()),
        lambda: network(border="cut"),
        lambda: network(delta_weights=(1, 1, 1)),
        lambda: anchor_shapes([-1], [1]),
        lambda: anchor_shapes([32], [0]),
        lambda: anchor_grid((0, 4), 16, SQUARE),
        lambda: anchor_grid((2, 2), 0, SQUARE),
        lambda: anchor_grid((2, 2), 16, -SQUARE),
        lambda: anchor_grid((2, 2), 16, SQUARE, offset=math.nan),
        lambda: AnchorGenerator([32], offset=math.inf),
        lambda: AnchorGenerator([32], strides=[8, 16]),
        lambda: AnchorGenerator([32])([(4, 4), (2, 2)]),
        lambda: MatchRule(positive_iou=2),
        lambda: MatchRule(ignore_fraction=0),
        lambda: SampleRule(num_samples=0),
        lambda: nms(BOX, torch.ones(1), 1.5),
        lambda: ProposalSelector(iou_threshold=-1),
        lambda: ProposalSelector(pre_nms_top_k=0),
        lambda: ProposalSelector(min_size=-1),
        lambda: compare({}, []),
        lambda: small_rpn(size=[32]),
        lambda: build_rpn(anchors=AnchorGenerator([32])),
    ],
)
def test_no_box_is_at_fault_where_a_setting_is(call):
    with pytest.raises(SettingError):
        call()


def test_message_names_the_level_of_a_bad_size():
    with pytest.raises(SettingError, match="level 1"):
        AnchorGenerator([[32], [-1]], strides=[8, 16])


@pytest.mark.parametrize(
    "call",
    [
        lambda: check_boxes([[5, 1, 5, 9]]),
        lambda: match_anchors(BOX, -BOX),
        lambda: match_anchors(BOX, BOX, ignore_boxes=-BOX),
        lambda: match_anchors(BOX, BOX, gt_labels=torch.tensor([0])),
        lambda: nms(BOX, torch.ones(2), 0.5),
        lambda: ProposalSelector()([], [], [], (16, 16)),
        lambda: pad_images([]),
    ],
)
def test_no_setting_is_at_fault_where_a_box_is(call):
    with pytest.raises(BoxError):
        call()


def errors_of_the_library():
    """Classes of errors in the source, by name, those of errors.py left out."""
    root = Path(rpn_lib.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.name != "errors.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                    if any(base.endswith(("Error", "Exception")) for base in bases):
                        yield node.name


def test_the_family_lives_in_one_house():
    assert [*errors_of_the_library()] == []
    own = [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and one.__module__ == errors.__name__
    ]
    assert len(own) >= 9
    assert all(issubclass(one, RPNError) for one in own)

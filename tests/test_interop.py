"""Weights to torchvision and back, our RPN in its detector, compilers and ONNX."""

import io
import math
import re
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.detection import (
    FasterRCNN,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection import rpn as theirs
from torchvision.models.detection.anchor_utils import AnchorGenerator as TheirGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, batched_nms
from torchvision.transforms.v2.functional import to_dtype

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.backbones import SmallBackbone
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import SettingError
from rpn_lib.export import Candidates, Stages
from rpn_lib.head import RPNHead
from rpn_lib.interop import (
    AsTorchvisionRPN,
    from_torchvision,
    load_torchvision_head,
    torchvision_head_state,
)
from rpn_lib.loss import RPNLoss
from rpn_lib.matching import MatchRule, match_anchors
from rpn_lib.nms import ProposalSelector
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.sampling import SampleRule
from rpn_lib.sparse import head_at

SIZE = (128, 192)  # a multiple of every stride
STRIDES = {1: [16], 5: [4, 8, 16, 32, 64]}
TARGETS = [
    {"boxes": torch.tensor([[10.0, 12, 60, 50], [90, 20, 180, 120]])},
    {"boxes": torch.zeros(0, 4)},
    {"boxes": torch.tensor([[0.0, 0, 192, 128], [20, 100, 31, 111], [5, 5, 45, 30]])},
]


def their_rpn(levels, conv_depth=1, **settings):
    """A torchvision RPN of random weights, large enough to tell anchors apart."""
    torch.manual_seed(0)
    sizes = ((16, 32, 64, 128),) if levels == 1 else ((8,), (16,), (32,), (64,), (128,))
    generator = TheirGenerator(sizes, ((0.5, 1.0, 2.0),) * levels)
    head = theirs.RPNHead(16, generator.num_anchors_per_location()[0], conv_depth)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.05)
    settings = {
        "fg_iou_thresh": 0.6,
        "bg_iou_thresh": 0.25,
        "batch_size_per_image": 10**9,  # every anchor: no chance in it
        "positive_fraction": 0.5,
        "pre_nms_top_n": {"training": 400, "testing": 150},
        "post_nms_top_n": {"training": 200, "testing": 60},
        "nms_thresh": 0.65,
        "score_thresh": 0.2,
    } | settings
    return theirs.RegionProposalNetwork(generator, head, **settings)


def feature_maps(strides):
    generator = torch.Generator().manual_seed(1)
    return OrderedDict(
        (str(s), torch.randn(3, 16, SIZE[0] // s, SIZE[1] // s, generator=generator))
        for s in strides
    )


def batch():
    return ImageList(torch.zeros(3, 3, *SIZE), [SIZE] * 3)


# The same proposals and losses


@pytest.mark.parametrize(("levels", "conv_depth"), [(1, 1), (5, 1), (5, 2)])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_equal_to_the_rpn_that_it_was_made_from(levels, conv_depth, mode):
    other = their_rpn(levels, conv_depth)
    ours = from_torchvision(other, STRIDES[levels])
    limits = {"pre_nms_top_k": 400, "post_nms_top_k": 200}
    train_select = ProposalSelector(**limits, iou_threshold=0.65, score_threshold=0.2)
    adapter = AsTorchvisionRPN(ours, train_select)
    features = feature_maps(STRIDES[levels])
    boxes, losses = other.train(mode == "train")(batch(), features, TARGETS)
    found, our_losses = adapter.train(mode == "train")(batch(), features, TARGETS)
    for mine, expected in zip(found, boxes):
        assert len(expected) > 40
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=0)
    if mode == "train":
        assert sum(map(len, boxes)) > 3 * 60  # the limits of training
    else:  # theirs has no losses then; ours are those of training
        assert losses == {}
        losses = other.train()(batch(), features, TARGETS)[1]
    assert our_losses.keys() == losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(our_losses[name], loss, atol=0, rtol=1e-5)


@pytest.mark.parametrize("levels", [1, 5])
def test_scores_are_the_same_too(levels):
    other = their_rpn(levels).eval()
    ours = from_torchvision(other, STRIDES[levels])
    features = feature_maps(STRIDES[levels])
    seen = []
    filter_proposals = other.filter_proposals
    other.filter_proposals = lambda *args: (
        seen.append(filter_proposals(*args)) or (seen[0])
    )
    other(batch(), features)
    output = ours.from_features(list(features.values()), [SIZE] * 3)
    for proposals, scores in zip(output.proposals, seen[0][1]):
        torch.testing.assert_close(proposals.scores, scores, atol=1e-5, rtol=0)


def test_gradients_are_the_same():
    other = their_rpn(5)
    ours = from_torchvision(other, STRIDES[5])
    grads = []
    for rpn in (other.train(), AsTorchvisionRPN(ours)):
        features = feature_maps(STRIDES[5])
        for feature in features.values():
            feature.requires_grad_()
        sum(rpn(batch(), features, TARGETS)[1].values()).backward()
        grads.append([feature.grad for feature in features.values()])
    for mine, expected in zip(*grads):
        size = expected.abs().max()
        assert size > 0
        torch.testing.assert_close(mine / size, expected / size, atol=1e-4, rtol=0)


def test_conventions_of_the_anchors():
    # Theirs: height / width, ratio first, centres at the corner of a cell, rounded.
    cells = TheirGenerator(((32, 64),), ((0.5, 2.0),)).cell_anchors[0]
    assert (cells[:, 2:] - cells[:, :2]).tolist() == [
        [46, 22],
        [90, 46],
        [22, 46],
        [46, 90],
    ]
    ours = AnchorGenerator([32, 64], [2, 0.5], strides=[16])
    assert ours.levels[0].round().tolist() == [[45, 23], [23, 45], [91, 45], [45, 91]]
    corner = ours([(1, 1)])[0][0]
    assert ((corner[:2] + corner[2:]) / 2).tolist() == [8, 8]
    assert (cells[:, :2] + cells[:, 2:]).eq(0).all()


def test_conventions_of_the_loss():
    # Theirs: smooth L1 with beta 1/9, over the number sampled. Ours: 1, over objects.
    other = their_rpn(1)
    settings = {"sample": SampleRule(400, positive_fraction=0.01)}
    theirs, ours = (
        from_torchvision(other, [16], **settings, **loss)
        for loss in ({}, {"loss": RPNLoss(beta=1 / 9)})
    )
    features = list(feature_maps([16]).values())
    gt_boxes = [target["boxes"] for target in TARGETS]
    anchors = theirs.anchors([(8, 12)])[0]
    labels = [match_anchors(anchors, boxes, theirs.match).labels for boxes in gt_boxes]
    objects = sum(min(4, int((label == 1).sum())) for label in labels)
    assert objects == 8
    losses = []
    for rpn in (theirs, ours):
        output = rpn.from_features(
            features,
            [SIZE] * 3,
            gt_boxes,
            generator=torch.Generator().manual_seed(0),
        )
        losses.append(output.losses["box"])
    torch.testing.assert_close(losses[1] * objects, losses[0] * 3 * 400)
    assert RPNLoss().beta == 1


def test_settings_are_taken_over_and_may_be_replaced():
    other = their_rpn(1, batch_size_per_image=100, positive_fraction=0.25)
    ours = from_torchvision(other, [16])
    assert ours.sample == SampleRule(100, positive_fraction=0.25)
    assert ours.match == MatchRule(positive_iou=0.6, negative_iou=0.25)
    assert vars(ours.select) == {
        "pre_nms_top_k": 150,
        "post_nms_top_k": 60,
        "iou_threshold": 0.65,
        "score_threshold": 0.2,
        "min_size": 1e-3,
    }
    backbone = SmallBackbone()
    ours = from_torchvision(other, [16], backbone, sample=SampleRule(7))
    assert ours.backbone is backbone
    assert ours.sample.num_samples == 7


def test_strides_of_the_mobilenet_detector():
    # Those of the example in the docstring.
    model = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    maps = model.backbone(torch.zeros(1, 3, 128, 192)).values()
    assert [128 // x.shape[2] for x in maps] == [32, 32, 64]


# Weights


@pytest.mark.parametrize("levels", [1, 5])
def test_weights_come_back_bit_by_bit(levels):
    other = their_rpn(levels)
    state = other.head.state_dict()
    state["cls_logits.bias"][0] = -0.0
    back = torchvision_head_state(from_torchvision(other, STRIDES[levels]).head)
    assert back.keys() == state.keys()
    for name, weight in state.items():
        assert torch.equal(back[name].view(torch.int32), weight.view(torch.int32)), name


def test_our_head_becomes_theirs():
    torch.manual_seed(0)
    ours, other = RPNHead(16, 12, hidden_channels=16), their_rpn(1).head
    nn.init.normal_(ours.classifier[0].bias)
    other.load_state_dict(torchvision_head_state(ours))
    feature = torch.randn(2, 16, 5, 7)
    (logits,), (deltas,) = other([feature])
    scores = ours(feature).scores
    torch.testing.assert_close(
        scores[..., 1] - scores[..., 0], logits.permute(0, 2, 3, 1)
    )
    torch.testing.assert_close(
        ours(feature).deltas.flatten(3), deltas.permute(0, 2, 3, 1)
    )


def test_no_weight_is_shared():
    other = their_rpn(1)
    ours = from_torchvision(other, [16])
    before = torchvision_head_state(ours.head)
    for parameter in other.parameters():
        parameter.data.zero_()
    after = torchvision_head_state(ours.head)
    assert all(torch.equal(before[name], after[name]) for name in before)
    after["bbox_pred.bias"].fill_(9)
    assert not (ours.head.regressor[0].bias == 9).any()


def test_the_head_of_the_v2_detectors():
    model = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    other = model.rpn.head
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.02)
    ours = from_torchvision(model.rpn, STRIDES[5])
    assert ours.head.conv_depth == 2
    feature = torch.randn(2, 256, 5, 7)
    with torch.no_grad():
        (logits,), (deltas,) = other([feature])
        scores, our_deltas = ours.head(feature)
    assert logits.std() > 0.05
    torch.testing.assert_close(
        scores[..., 1] - scores[..., 0], logits.permute(0, 2, 3, 1)
    )
    torch.testing.assert_close(our_deltas.flatten(3), deltas.permute(0, 2, 3, 1))
    back, state = torchvision_head_state(ours.head), other.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], weight) for name, weight in state.items())


def test_the_page_lists_the_detectors_that_have_an_rpn():
    page = Path(__file__).resolve().parent.parent / "book" / "torchvision.md"
    rows = re.findall(r"^\| (\d) \| (`\w+_fpn.*?) \|", page.read_text(), re.M)
    listed = [(name, depth) for depth, row in rows for name in re.findall(r"\w+", row)]
    found = {}
    for name in models.list_models(module=models.detection):
        with torch.device("meta"):  # shapes, and no numbers
            model = models.get_model(name, weights=None, weights_backbone=None)
        if hasattr(model, "rpn"):
            strides = [32, 32, 64] if "mobilenet" in name else STRIDES[5]
            ours = from_torchvision(model.rpn.to_empty(device="cpu"), strides)
            found[name] = str(ours.head.conv_depth)
    assert dict(listed) == found
    assert len(found) == 7


def test_losses_through_a_deep_head_take_the_whole_map(monkeypatch):
    """Without proposals a head of one convolution looks at sampled cells only."""
    ours = from_torchvision(their_rpn(5, conv_depth=2), STRIDES[5])
    ours.sample = SampleRule(8)
    gt_boxes = [target["boxes"] for target in TARGETS]
    features = list(feature_maps(STRIDES[5]).values())
    losses = []
    for propose in (True, False):
        output = ours.from_features(
            features,
            [SIZE] * 3,
            gt_boxes,
            propose=propose,
            generator=torch.Generator().manual_seed(0),
        )
        losses.append(output.losses)
    assert losses[0] == losses[1]
    at = torch.zeros(1, dtype=torch.long)
    with pytest.raises(SettingError) as error:
        head_at(ours.head, features[0], at, at, at)
    assert str(error.value) == (
        "head has conv_depth=2; a single 3x3 convolution can be laid at a cell. Slide "
        "this head over the whole map."
    )


def test_a_head_of_another_depth_is_refused():
    with pytest.raises(SettingError) as error:
        load_torchvision_head(
            RPNHead(16, 12, 16), their_rpn(1, conv_depth=2).head.state_dict()
        )
    assert str(error.value) == (
        "This head of torchvision has conv_depth=2, and ours conv_depth=1: make it "
        "with the same."
    )


def test_weights_of_something_else_are_refused():
    with pytest.raises(SettingError) as error:
        load_torchvision_head(RPNHead(16, 12, 16), {"weight": torch.zeros(1)})
    assert str(error.value) == (
        "state has the names ['weight'], not ['bbox_pred.bias', 'bbox_pred.weight', "
        "'cls_logits.bias', 'cls_logits.weight', 'conv.0.0.bias', 'conv.0.0.weight']; "
        "give rpn.head.state_dict() of torchvision's RegionProposalNetwork."
    )


def test_weights_of_another_shape_are_refused_and_change_nothing():
    head = RPNHead(16, 9, hidden_channels=16)
    before = torchvision_head_state(head)
    with pytest.raises(SettingError) as error:
        load_torchvision_head(head, their_rpn(1).head.state_dict())
    assert str(error.value) == (
        "cls_logits.weight has shape (12, 16, 1, 1), and this head needs (9, 16, 1, "
        "1): make it with the same in_channels, num_anchors and hidden_channels "
        "(torchvision's are in_channels)."
    )
    after = torchvision_head_state(head)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_anchors_off_their_cell_are_refused():
    other = their_rpn(1)
    other.anchor_generator.cell_anchors = [torch.tensor([[0.0, 0, 8, 8]])]
    with pytest.raises(SettingError) as error:
        from_torchvision(other, [16])
    assert str(error.value) == (
        "An anchor of level 0 is not centred on its cell: [[0.0, 0.0, 8.0, 8.0]]. "
        "AnchorGenerator makes centred anchors only."
    )


# In FasterRCNN


def detector(train_select=None):
    torch.manual_seed(0)
    backbone = SmallBackbone()
    model = FasterRCNN(
        backbone,
        num_classes=len(ShapesDataset.classes) + 1,
        min_size=96,
        max_size=128,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=3, sampling_ratio=2),
        box_batch_size_per_image=64,
    )
    anchors = AnchorGenerator([16, 32, 48], strides=[16])
    rpn = RegionProposalNetwork(
        nn.Identity(),
        anchors,
        head=RPNHead(backbone.out_channels, 9, backbone.out_channels),
        select=ProposalSelector(post_nms_top_k=100),
    )
    model.rpn = AsTorchvisionRPN(rpn, train_select)
    return model


def scenes(n):
    dataset = ShapesDataset(n, image_size=(96, 128), max_objects=4, sizes=(16, 48))
    images, targets = zip(*(dataset[i] for i in range(n)))
    images = [to_dtype(x.as_subclass(torch.Tensor), scale=True) for x in images]
    return images, [
        {"boxes": t["boxes"].as_subclass(torch.Tensor), "labels": t["labels"]}
        for t in targets
    ]


def test_faster_rcnn_learns_with_our_rpn():
    model = detector()
    images, targets = scenes(6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for step in range(30):
        losses = model(images, [dict(target) for target in targets])
        assert losses.keys() == {
            "loss_classifier",
            "loss_box_reg",
            "loss_objectness",
            "loss_rpn_box_reg",
        }
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for name, parameter in model.named_parameters():
                if "backbone" in name or "rpn" in name:
                    assert parameter.grad.abs().max() > 0, name
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name, first in history[0].items():
        if name != "loss_box_reg":  # grows as long as more proposals hit an object
            assert history[-1][name] < 0.8 * first, name
    assert sum(history[-1].values()) < 0.6 * sum(history[0].values())

    detections = model.eval()(images)
    assert len(detections) == 6
    assert sum(len(detection["boxes"]) for detection in detections) > 0
    for detection in detections:
        assert detection.keys() == {"boxes", "labels", "scores"}
        assert (detection["boxes"] <= torch.tensor([128, 96, 128, 96])).all()


def test_only_the_gradient_of_the_rpn_losses_reaches_its_head():
    model = detector()
    images, targets = scenes(2)
    losses = model(images, targets)
    (losses["loss_classifier"] + losses["loss_box_reg"]).backward()
    assert all(parameter.grad is None for parameter in model.rpn.parameters())


def test_train_select_proposes_in_training_only():
    adapter = detector(ProposalSelector(post_nms_top_k=7)).rpn
    features = {"0": torch.randn(3, 128, 6, 8)}
    images = ImageList(torch.zeros(3, 3, 96, 128), [(96, 128)] * 3)
    assert [len(boxes) for boxes in adapter.train()(images, features)[0]] == [7] * 3
    assert min(len(boxes) for boxes in adapter.eval()(images, features)[0]) > 7
    adapter.rpn.select.post_nms_top_k = 5
    assert [len(boxes) for boxes in adapter(images, features)[0]] == [5] * 3


def test_a_box_on_the_border_survives_the_resize():
    # 37 * (128 / 37) is not 128 in float32 for every such number.
    model = detector()
    for width in range(100, 140):
        box = torch.tensor([[0.0, 0.0, width, 75.0]])
        target = {"boxes": box, "labels": torch.tensor([1])}
        images, targets = model.transform([torch.rand(3, 75, width)], [target])
        features = {"0": torch.randn(1, 128, 6, 8)}
        assert model.rpn(images, features, targets)[1]["loss_objectness"].isfinite()


# Compilers


class TwoLevels(nn.Module):
    out_channels = 8

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 8, kernel_size=8, stride=8), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.coarse = nn.Conv2d(8, 8, kernel_size=3, stride=2, padding=1)

    def forward(self, images):
        fine = self.fine(images)
        return {"fine": fine, "coarse": self.coarse(fine)}


def network(levels, **settings):
    torch.manual_seed(0)
    settings = {"select": ProposalSelector(pre_nms_top_k=70)} | settings
    if levels == 1:
        anchors = AnchorGenerator([32, 64], strides=[16])
        rpn = RegionProposalNetwork(SmallBackbone(), anchors, **settings)
    else:
        anchors = AnchorGenerator([[16, 20], [32, 40]], strides=[8, 16])
        rpn = RegionProposalNetwork(TwoLevels(), anchors, **settings)
    for parameter in rpn.head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return rpn.eval()


SETTINGS = [
    {},
    {"border": "clip"},
    {"delta_weights": (10.0, 10.0, 5.0, 5.0)},
    {"select": ProposalSelector(70, 40, score_threshold=0.52, min_size=25)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "".join(s) or "defaults")
@pytest.mark.parametrize("levels", [1, 2])
def test_candidates_and_nms_are_the_proposals(levels, settings):
    rpn = network(levels, **settings)
    images = torch.rand(2, 3, 90, 130)
    with torch.no_grad():
        boxes, logits, levels_of = Candidates(rpn)(images)
    for i, proposals in enumerate(rpn(images).proposals):
        kept = batched_nms(boxes[i], logits[i], levels_of, 0.7)
        kept = kept[logits[i, kept] > -math.inf][: rpn.select.post_nms_top_k]
        torch.testing.assert_close(boxes[i][kept], proposals.boxes)
        torch.testing.assert_close(logits[i][kept].sigmoid(), proposals.scores)


def test_everything_up_to_nms_compiles_without_a_graph_break():
    torch._dynamo.reset()
    candidates = Candidates(network(levels=2))
    # Only the graph is tested: "eager" runs it without a compiler of C++.
    compiled = torch.compile(candidates, fullgraph=True, backend="eager")
    with torch.no_grad():
        for size in [(2, 96, 128), (1, 112, 160), (3, 70, 90)]:
            images = torch.rand(size[0], 3, *size[1:])
            for found, expected in zip(compiled(images), candidates(images)):
                assert torch.equal(found, expected)
    torch._dynamo.reset()


def test_gradients_flow_through_the_compiled_graph():
    torch._dynamo.reset()
    rpn = network(levels=1)
    compiled = torch.compile(Candidates(rpn), fullgraph=True, backend="eager")
    images, grads = torch.rand(1, 3, 64, 64), []
    for model in (compiled, Candidates(rpn)):
        rpn.zero_grad()
        boxes, logits, _ = model(images)
        (boxes.mean() + logits.sigmoid().mean()).backward()
        grads.append([parameter.grad for parameter in rpn.parameters()])
    assert all(grad.isfinite().all() for grad in grads[0])
    for found, expected in zip(*grads):
        torch.testing.assert_close(found, expected)
    torch._dynamo.reset()


def test_onnxruntime_finds_the_same_for_every_batch_and_size():
    pytest.importorskip("onnxscript", reason="ONNX export needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        pytest.skip("ONNX export with free sizes needs torch 2.6; this is older")
    candidates = Candidates(network(levels=2)).eval()
    free = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        candidates,
        (torch.rand(2, 3, 96, 128),),
        input_names=["images"],
        output_names=["boxes", "logits", "levels"],
        dynamic_shapes=({0: free, 2: free, 3: free},),
        dynamo=True,
        verbose=False,
    )
    file = io.BytesIO()
    program.save(file)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(file.getvalue(), options)
    for size in [(2, 96, 128), (1, 112, 160), (3, 70, 90), (1, 16, 16)]:
        images = torch.rand(size[0], 3, *size[1:])
        with torch.no_grad():
            expected = candidates(images)
        found = session.run(None, {"images": images.numpy()})
        for ours, other in zip(expected, found):
            torch.testing.assert_close(
                torch.from_numpy(other), ours, atol=1e-4, rtol=1e-5
            )


# Every stage


STAGED = ProposalSelector(70, 40, iou_threshold=0.6, score_threshold=0.3, min_size=15)


def staged(levels, **settings):
    """A network whose scores lie far apart, so that rounding changes no order."""
    rpn = network(levels, select=STAGED, **settings)
    nn.init.normal_(rpn.head.classifier[0].weight, std=3)
    return rpn


@pytest.mark.parametrize("border", ["keep", "clip"])
@pytest.mark.parametrize("levels", [1, 2])
def test_stages_end_in_the_proposals_of_the_network(levels, border):
    rpn = staged(levels, border=border)
    picture = torch.rand(1, 3, 90, 130)
    with torch.no_grad():
        stages = Stages(rpn, pre_nms_top_k=70)(picture)
    (proposals,) = rpn(picture).proposals
    assert torch.equal(stages.boxes[stages.kept], proposals.boxes)
    assert torch.equal(stages.scores[stages.kept], proposals.scores)
    assert 0 < len(proposals.boxes) <= 40
    assert (~stages.usable).any()
    torch.testing.assert_close(stages.logits[stages.top].sigmoid(), stages.scores)


@pytest.mark.parametrize("levels", [1, 2])
def test_stages_tell_who_suppresses_whom(levels):
    rpn = staged(levels)
    with torch.no_grad():
        stages = Stages(rpn, pre_nms_top_k=70)(torch.rand(1, 3, 90, 130))
    left = []  # greedy NMS by hand; best first
    for i in range(len(stages.top)):
        by = -1
        if stages.usable[i]:
            for j in left:
                if stages.levels[j] == stages.levels[i] and stages.iou[j, i] > 0.6:
                    by = j
                    break
            else:
                left.append(i)
        assert stages.suppressed_by[i] == by
    assert stages.kept.nonzero()[:, 0].tolist() == left[:40]
    assert (stages.suppressed_by >= 0).any()


def test_stages_take_the_earlier_anchor_of_equal_scores():
    rpn = network(levels=2)
    for parameter in rpn.head.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        stages = Stages(rpn, pre_nms_top_k=3)(torch.rand(1, 3, 64, 64))
    assert stages.top.tolist() == [0, 1, 2, 384, 385, 386]


@pytest.mark.parametrize("levels", [1, 2])
def test_onnxruntime_finds_the_same_stages(levels):
    pytest.importorskip("onnxscript", reason="ONNX export needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        pytest.skip("ONNX export with free sizes needs torch 2.6; this is older")
    stages = Stages(staged(levels), pre_nms_top_k=70).eval()
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():  # torchvision's NMS and the newest torch
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            stages,
            (torch.rand(1, 3, 96, 128),),
            input_names=["images"],
            output_names=stages.names,
            dynamic_shapes=({2: free, 3: free},),
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    kinds = [node.op_type for node in program.model_proto.graph.node]
    assert kinds.count("BatchNormalization") == (7 if levels == 1 else 1)
    file = io.BytesIO()
    program.save(file)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(file.getvalue(), options)
    assert [output.name for output in session.get_outputs()] == stages.names
    for size in [(96, 128), (70, 90)]:
        picture = torch.rand(1, 3, *size)
        with torch.no_grad():
            expected = stages(picture)
        # Rounding may put nearly equal scores into another order.
        found = session.run(None, {"images": picture.numpy()})
        for ours, other in zip([*expected[:-1], *expected.features], found):
            torch.testing.assert_close(
                torch.from_numpy(other), ours, atol=1e-4, rtol=1e-5
            )

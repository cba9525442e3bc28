from collections import OrderedDict

import oracles
import pytest
import torch
from torch import nn
from torchvision.models.detection import rpn as theirs
from torchvision.models.detection.anchor_utils import AnchorGenerator as TheirGenerator
from torchvision.models.detection.image_list import ImageList

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.backbones import SmallBackbone
from rpn_lib.border import BorderRule
from rpn_lib.boxes import box_iou
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.head import RPNHead
from rpn_lib.loss import RPNLoss
from rpn_lib.matching import MatchRule, match_anchors
from rpn_lib.nms import ProposalSelector
from rpn_lib.padding import pad_images
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.sampling import SampleRule, sample_anchors
from rpn_lib.sparse import head_at_anchors
from rpn_lib.transforms import decode, encode

NONE = torch.zeros(0, 4)


class Pyramid(nn.Module):
    """Two feature maps, strides 8 and 16, without batch normalisation."""

    out_channels = 8

    def __init__(self, kind=OrderedDict):
        super().__init__()
        self.fine = nn.Conv2d(3, 8, kernel_size=8, stride=8)
        self.coarse = nn.Conv2d(8, 8, kernel_size=2, stride=2)
        self.kind = kind

    def forward(self, images):
        fine = self.fine(images)
        maps = [("fine", fine), ("coarse", self.coarse(fine))]
        return self.kind(maps if self.kind is OrderedDict else [m for _, m in maps])


def one_level(**settings):
    """A network of one level of stride 8, without batch normalisation."""
    torch.manual_seed(0)
    backbone = nn.Conv2d(3, 16, kernel_size=8, stride=8)
    anchors = AnchorGenerator([16, 32], [1, 2, 0.5], strides=[8])
    return excited(RegionProposalNetwork(backbone, anchors, **settings))


def two_levels(kind=OrderedDict, **settings):
    torch.manual_seed(0)
    anchors = AnchorGenerator([[16, 20], [32, 40]], [1, 2], strides=[8, 16])
    rpn = RegionProposalNetwork(Pyramid(kind), anchors, **settings)
    return excited(rpn)


def excited(rpn):
    """Larger weights: a fresh head finds every anchor equally good."""
    with torch.no_grad():
        for parameter in rpn.head.parameters():
            parameter.mul_(20)
    return rpn


@pytest.fixture
def images():
    return torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def gt_boxes():
    generator = torch.Generator().manual_seed(2)
    return [
        oracles.random_boxes(generator, n, (64, 96), smallest=12) for n in (2, 0, 5)
    ]


def seven():
    return torch.Generator().manual_seed(7)


def seeded(rpn, *args, **kwargs):
    return rpn(*args, **kwargs, generator=seven())


def assert_same_losses(a, b):
    assert a.keys() == b.keys() == {"objectness", "box"}
    for name in a:
        torch.testing.assert_close(a[name], b[name])


def assert_same_proposals(a, b):
    assert len(a) == len(b)
    for ours, others in zip(a, b):
        assert torch.equal(ours.boxes, others.boxes)
        assert torch.equal(ours.scores, others.scores)


# What is asked for


@pytest.mark.parametrize("make", [one_level, two_levels])
def test_losses_and_proposals_are_the_same_in_training_and_evaluation(
    make, images, gt_boxes
):
    rpn = make()
    train = seeded(rpn.train(), images, gt_boxes)
    evaluate = seeded(rpn.eval(), images, gt_boxes)
    assert_same_losses(train.losses, evaluate.losses)
    assert_same_proposals(train.proposals, evaluate.proposals)


def test_without_true_boxes_there_are_proposals_but_no_losses(images):
    output = one_level()(images)
    assert output.losses is None
    assert len(output.proposals) == 3
    for boxes, scores in output.proposals:
        assert boxes.shape == (len(scores), 4)
        assert len(scores) > 0
        assert (scores.diff() <= 0).all()


def test_proposals_are_skipped_on_request(images, gt_boxes):
    rpn = one_level()
    rpn.select = None
    output = seeded(rpn, images, gt_boxes, propose=False)
    assert output.proposals is None
    assert_same_losses(output.losses, seeded(one_level(), images, gt_boxes).losses)


def test_the_generator_alone_decides_what_is_sampled(images, gt_boxes):
    rpn = one_level(sample=SampleRule(20))
    first = seeded(rpn, images, gt_boxes, propose=False).losses
    torch.manual_seed(99)
    assert_same_losses(seeded(rpn, images, gt_boxes, propose=False).losses, first)
    later = rpn(images, gt_boxes, propose=False).losses
    assert later["objectness"] != first["objectness"]


def test_from_features_goes_on_where_the_backbone_ended(images, gt_boxes):
    rpn = two_levels()
    expected = seeded(rpn, images, gt_boxes)
    features = list(rpn.backbone(images).values())
    found = rpn.from_features(features, [(64, 96)] * 3, gt_boxes, generator=seven())
    assert_same_losses(found.losses, expected.losses)
    assert_same_proposals(found.proposals, expected.proposals)


@pytest.mark.parametrize("kind", [OrderedDict, list, tuple])
def test_a_backbone_may_return_a_mapping_or_a_sequence(kind, images, gt_boxes):
    output = seeded(two_levels(kind), images, gt_boxes)
    expected = seeded(two_levels(), images, gt_boxes)
    assert_same_losses(output.losses, expected.losses)
    assert_same_proposals(output.proposals, expected.proposals)


def test_settings_of_the_selector_may_be_changed_between_calls(images):
    rpn = one_level()
    assert max(len(p.boxes) for p in rpn(images).proposals) > 5
    rpn.select.post_nms_top_k = 5
    assert [len(p.boxes) for p in rpn(images).proposals] == [5, 5, 5]


# The same from the parts


def by_hand(rpn, images, gt_boxes, settings):
    """Losses and proposals of a network of one level, from the library's functions."""
    rule = settings.get("match", MatchRule())
    sample = settings.get("sample", SampleRule())
    loss = settings.get("loss", RPNLoss())
    select = settings.get("select", ProposalSelector())
    scores, deltas = rpn.head(rpn.backbone(images))
    grid = scores.shape[1:3]
    scores, deltas = scores.flatten(1, 3), deltas.flatten(1, 3)
    anchors = rpn.anchors([grid])[0]
    all_scores, all_labels, all_deltas, all_targets = [], [], [], []
    generator = seven()
    for i, gt in enumerate(gt_boxes):
        matches = match_anchors(anchors, gt, rule)
        objects, background = sample_anchors(matches.labels, sample, generator)
        all_scores += [scores[i, objects], scores[i, background]]
        all_labels += [torch.ones(len(objects)), torch.zeros(len(background))]
        all_deltas.append(deltas[i, objects])
        if len(gt):
            target = gt[matches.gt_index[objects]]
            all_targets.append(encode(target, anchors[objects]))
    losses = loss(*map(torch.cat, (all_scores, all_labels, all_deltas, all_targets)))
    size = tuple(images.shape[-2:])
    logits = scores[..., 1] - scores[..., 0]
    proposals = [
        select([logit], [delta], [anchors], size)
        for logit, delta in zip(logits, deltas)
    ]
    return losses, proposals


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sample": SampleRule(num_samples=16, positive_fraction=0.25)},
        {"match": MatchRule(positive_iou=0.5, negative_iou=0.2)},
        {"match": MatchRule(min_num_positives=30)},
        {"loss": RPNLoss(lambda_=10, beta=1 / 9)},
        {"select": ProposalSelector(pre_nms_top_k=40, iou_threshold=0.5)},
    ],
    ids=lambda settings: ", ".join(settings) or "defaults",
)
def test_equal_to_the_parts_put_together_by_hand(settings, images, gt_boxes):
    rpn = one_level(**settings)
    output = seeded(rpn, images, gt_boxes)
    losses, proposals = by_hand(rpn, images, gt_boxes, settings)
    assert_same_losses(output.losses, losses)
    assert_same_proposals(output.proposals, proposals)


def test_proposals_are_the_decoded_anchors_of_the_highest_scores(images):
    rpn = one_level(select=ProposalSelector(iou_threshold=1, post_nms_top_k=10))
    scores, deltas = rpn.head(rpn.backbone(images))
    probability = scores.softmax(dim=-1)[..., 1].flatten(1)
    anchors = rpn.anchors([(8, 12)])[0]
    for i, proposals in enumerate(rpn(images).proposals):
        top = probability[i].topk(10)
        boxes = decode(deltas[i].flatten(0, 2)[top.indices], anchors[top.indices])
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, 96)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, 64)
        torch.testing.assert_close(proposals.scores, top.values)
        torch.testing.assert_close(proposals.boxes, boxes)


# The same from torchvision


def their_rpn(ours, generator):
    """torchvision's network with the anchors and the weights of ours."""
    channels = ours.head.window[0].in_channels
    head = theirs.RPNHead(channels, ours.anchors.num_anchors[0])
    head.conv[0][0].load_state_dict(ours.head.window[0].state_dict())
    scores, deltas = ours.head.classifier[0], ours.head.regressor[0]
    head.cls_logits.load_state_dict(
        {
            "weight": scores.weight[1::2] - scores.weight[0::2],
            "bias": scores.bias[1::2] - scores.bias[0::2],
        }
    )
    head.bbox_pred.load_state_dict(deltas.state_dict())
    limits = {"training": 150, "testing": 150}, {"training": 40, "testing": 40}
    return theirs.RegionProposalNetwork(
        generator, head, 0.7, 0.3, 10**9, 0.5, *limits, nms_thresh=0.7
    )


@pytest.mark.parametrize("levels", [1, 2])
def test_losses_and_proposals_equal_those_of_torchvision(levels, images, gt_boxes):
    sizes = ((16, 32),) if levels == 1 else ((16, 20), (32, 40))
    generator = TheirGenerator(sizes, ((0.5, 1.0, 2.0),) * levels)
    shapes = [(cell[:, 2:] - cell[:, :2]).tolist() for cell in generator.cell_anchors]
    torch.manual_seed(0)
    ours = RegionProposalNetwork(
        nn.Conv2d(3, 16, kernel_size=8, stride=8) if levels == 1 else Pyramid(),
        AnchorGenerator(shapes=shapes, strides=[8, 16][:levels], offset=0),
        loss=RPNLoss(beta=1 / 9),
        select=ProposalSelector(pre_nms_top_k=150, post_nms_top_k=40),
        sample=SampleRule(10**9),
    )
    other = their_rpn(excited(ours), generator)
    features = ours.backbone(images)
    features = {"only": features} if levels == 1 else features
    batch = ImageList(images, [(64, 96)] * 3)
    targets = [{"boxes": boxes} for boxes in gt_boxes]
    boxes, losses = other(batch, features, targets)

    output = ours(images, gt_boxes)
    for proposals, expected in zip(output.proposals, boxes):
        assert len(expected) > 20
        torch.testing.assert_close(proposals.boxes, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(output.losses["objectness"], losses["loss_objectness"])
    # Theirs is divided by all sampled anchors, ours by the objects among them.
    anchors = generator(batch, list(features.values()))
    labels = torch.cat(other.assign_targets_to_anchors(anchors, targets)[0])
    scale = (labels >= 0).sum() / (labels == 1).sum()
    torch.testing.assert_close(
        output.losses["box"], losses["loss_rpn_box_reg"] * scale, rtol=1e-4, atol=1e-5
    )


def test_torchvision_has_no_losses_in_evaluation(images, gt_boxes):
    ours = one_level().eval()
    assert seeded(ours, images, gt_boxes).losses is not None
    generator = TheirGenerator(((16, 32),), ((0.5, 1.0, 2.0),))
    other = their_rpn(ours, generator).eval()
    batch = ImageList(images, [(64, 96)] * 3)
    targets = [{"boxes": boxes} for boxes in gt_boxes]
    assert other(batch, {"only": ours.backbone(images)}, targets)[1] == {}


# Images without objects


@pytest.mark.parametrize("make", [one_level, two_levels])
def test_a_batch_without_objects_has_finite_losses_and_gradients(make, images):
    rpn = make()
    losses = rpn(images, [NONE] * 3).losses
    assert losses["box"] == 0
    assert losses["objectness"].isfinite()
    assert losses["objectness"] > 0
    sum(losses.values()).backward()
    for name, parameter in rpn.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert (rpn.head.regressor[0].weight.grad == 0).all()
    assert (rpn.head.classifier[0].weight.grad != 0).any()


def test_boxes_of_an_image_teach_nothing_about_another(images, gt_boxes):
    rpn = one_level(sample=SampleRule(10**9))
    images.requires_grad_()
    rpn(images, gt_boxes, propose=False).losses["box"].backward()
    reached = images.grad.flatten(1).any(dim=1)
    assert reached.tolist() == [True, False, True]


def test_true_boxes_may_be_lists(images):
    rpn = one_level()
    lists = seeded(
        rpn, images, [[[8, 8, 40, 40]], [], [[0, 0, 30, 20], [5, 5, 60, 60]]]
    )
    tensors = seeded(
        rpn,
        images,
        [
            torch.tensor([[8.0, 8, 40, 40]]),
            NONE,
            torch.tensor([[0.0, 0, 30, 20], [5, 5, 60, 60]]),
        ],
    )
    assert_same_losses(lists.losses, tensors.losses)


# Images of different sizes


def test_images_are_padded_at_the_right_and_the_bottom():
    images = [torch.rand(3, 8, 24), torch.rand(3, 16, 8)]
    batch, sizes = pad_images(images)
    assert batch.shape == (2, 3, 16, 24)
    assert sizes == [(8, 24), (16, 8)]
    for padded, image, (height, width) in zip(batch, images, sizes):
        assert torch.equal(padded[:, :height, :width], image)
        assert padded.sum() == pytest.approx(image.sum().item())


def test_a_batch_tensor_is_not_copied():
    batch = torch.rand(2, 3, 16, 24)
    padded, sizes = pad_images(batch)
    assert padded is batch
    assert sizes == [(16, 24)] * 2


def test_a_list_of_equal_images_is_a_batch(images, gt_boxes):
    rpn = one_level()
    batch, single = seeded(rpn, images, gt_boxes), seeded(rpn, list(images), gt_boxes)
    assert_same_losses(batch.losses, single.losses)
    assert_same_proposals(batch.proposals, single.proposals)


def test_proposals_lie_in_their_own_image():
    rpn = one_level()
    sizes = [(64, 96), (96, 40), (32, 32)]
    output = rpn(
        [torch.rand(3, *size) for size in sizes], [NONE, [[0, 0, 40, 96]], NONE]
    )
    assert all(loss.isfinite() for loss in output.losses.values())
    for (boxes, _), (height, width) in zip(output.proposals, sizes):
        assert len(boxes) > 0
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_true_boxes_are_checked_against_their_own_image():
    images = [torch.rand(3, 64, 96), torch.rand(3, 32, 32)]
    box = [[10, 10, 60, 50]]
    rpn = one_level()
    rpn(images, [box, NONE])
    with pytest.raises(BoxError, match=r"^image 1, box 0 .* 32 wide and 32 high"):
        rpn(images, [NONE, box])


def test_bad_boxes_are_found_before_the_backbone_runs(images):
    rpn = one_level()
    rpn.backbone.register_forward_hook(lambda *_: pytest.fail("The backbone ran."))
    with pytest.raises(BoxError, match="image 2"):
        rpn(images, [NONE, NONE, [[5, 5, 5, 9]]])


# Precision and memory


def test_under_autocast_boxes_and_losses_stay_float32(images, gt_boxes):
    rpn = one_level(select=ProposalSelector(iou_threshold=1))
    with torch.autocast("cpu", torch.bfloat16):
        output = seeded(rpn, images, gt_boxes)
    expected = seeded(rpn, images, gt_boxes)
    for name, loss in output.losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected.losses[name], rtol=0.05, atol=0)
    for boxes, scores in output.proposals:
        assert boxes.dtype == scores.dtype == torch.float32
    assert rpn.anchors([(8, 12)])[0].dtype == torch.float32


def test_training_works_after_inference_mode(images, gt_boxes):
    rpn = one_level()
    with torch.inference_mode():
        rpn(images)  # leaves its anchors in the cache
    sum(rpn(images, gt_boxes).losses.values()).backward()
    assert rpn.backbone.weight.grad.isfinite().all()


def test_calls_leave_the_shared_anchors_as_they_are(images, gt_boxes):
    rpn = one_level()
    before = rpn.anchors([(8, 12)])[0].clone()
    rpn(images, gt_boxes)
    assert torch.equal(rpn.anchors([(8, 12)])[0], before)


def test_weights_of_one_network_fit_another(images):
    first, second = one_level(), one_level()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1)
    second.load_state_dict(first.state_dict())
    assert_same_proposals(first(images).proposals, second(images).proposals)


# Training


def test_two_images_are_learned_by_heart():
    torch.manual_seed(0)
    images, boxes = torch.rand(2, 3, 64, 64) * 0.2, []
    for image, (x1, y1, x2, y2) in zip(images, [(6, 10, 34, 40), (30, 20, 60, 36)]):
        image[:, y1:y2, x1:x2] = torch.tensor([0.9, 0.3, 0.6])[:, None, None]
        boxes.append(torch.tensor([[x1, y1, x2, y2]]))
    anchors = AnchorGenerator([16, 32], [1, 2, 0.5], strides=[16])
    rpn = RegionProposalNetwork(SmallBackbone(), anchors, sample=SampleRule(10**6))
    optimizer = torch.optim.AdamW(rpn.parameters(), lr=2e-3)
    history = []
    for _ in range(60):
        loss = sum(rpn(images, boxes, propose=False).losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 10
    for proposals, box in zip(rpn(images).proposals, boxes):
        # The best may come from an anchor that was ignored: half an object.
        assert box_iou(proposals.boxes[:2], box).max() > 0.9


# Padding


def assert_close_proposals(a, b):
    """The same but for the last bits: other shapes, other order of summation."""
    for ours, others in zip(a, b, strict=True):
        torch.testing.assert_close(ours.boxes, others.boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.scores, others.scores, rtol=0, atol=1e-5)


def labels_seen(rpn, monkeypatch):
    """Labels of every image, as the sampling gets to see them."""
    seen = []

    def spy(labels, *options):
        seen.append(labels)
        return sample_anchors(labels, *options)

    monkeypatch.setattr("rpn_lib.examples.sample_anchors", spy)
    return seen


@pytest.mark.parametrize("make", [one_level, two_levels])
def test_padding_changes_nothing_of_what_the_features_say(make, monkeypatch):
    """The features of an image alone, and the same ones in a corner of larger maps."""
    rpn = make().eval()
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(1, 3, 48, 64, generator=generator)
    gt = [torch.tensor([[5.0, 6.0, 40.0, 30.0]])]
    alone = rpn.backbone(small)
    alone = [alone] if isinstance(alone, torch.Tensor) else list(alone.values())
    padded = [
        torch.rand(2, f.shape[1], 2 * f.shape[2], 2 * f.shape[3], generator=generator)
        for f in alone
    ]
    for whole, part in zip(padded, alone):
        whole[1, :, : part.shape[2], : part.shape[3]] = part
    seen = labels_seen(rpn, monkeypatch)
    first = rpn.from_features(alone, [(48, 64)], gt)
    second = rpn.from_features(padded, [(96, 128), (48, 64)], [NONE, *gt])
    assert_close_proposals(first.proposals, second.proposals[1:])
    assert [(labels >= 0).sum() for labels in seen[::2]] == [(seen[0] >= 0).sum()] * 2
    assert torch.equal(seen[2][seen[2] >= 0], seen[0][seen[0] >= 0])
    assert (seen[2] == -1).sum() >= len(seen[2]) - len(seen[0])


def test_in_evaluation_the_other_images_of_a_batch_change_nothing():
    """Also where a backbone's convolutions reach over the border into the padding."""
    torch.manual_seed(0)
    rpn = RegionProposalNetwork(SmallBackbone(), AnchorGenerator([32], strides=[16]))
    rpn = excited(rpn).eval()
    images = [torch.rand(3, 96, 70), torch.rand(3, 64, 128), torch.rand(3, 33, 50)]
    gt = [torch.tensor([[5.0, 6.0, 40.0, 30.0]]), NONE, NONE]
    with torch.no_grad():
        together = rpn(images)
        with_losses = rpn(images, gt)
        alone = [rpn([image]).proposals[0] for image in images]
    for batch in (together, with_losses):
        for ours, expected in zip(batch.proposals, alone):
            assert torch.equal(ours.boxes, expected.boxes)
            assert torch.equal(ours.scores, expected.scores)
    assert together.losses is None
    assert all(loss.isfinite() for loss in with_losses.losses.values())


def test_a_part_of_a_cell_belongs_to_the_image():
    generate = AnchorGenerator([16], strides=[16])
    [cells] = generate.cells_of_images([(3, 4)], [(33, 48), (32, 64)])
    assert cells[0].tolist() == [[True, True, True, False]] * 3
    assert cells[1].tolist() == [[True] * 4, [True] * 4, [False] * 4]
    assert generate.cells_of_images([(3, 4)], [(48, 64), (33, 49)]) is None
    [cells] = generate.cells_of_images([(3, 4)], [(48, 64), (48, 48)])  # columns only
    assert cells[1].tolist() == [[True, True, True, False]] * 3
    [cells] = generate.cells_of_images([(3, 4)], [(48, 64), (32, 64)])  # rows only
    assert cells[1].tolist() == [[True] * 4, [True] * 4, [False] * 4]


# Options


def test_dropped_anchors_are_not_learnt_from(images, gt_boxes, monkeypatch):
    rpn = one_level(border=BorderRule("drop", margin=2))
    seen = labels_seen(rpn, monkeypatch)
    rpn(images, gt_boxes)
    x1, y1, x2, y2 = rpn.anchors([(8, 12)])[0].T
    crosses = (x1 < -2) | (y1 < -2) | (x2 > 96 + 2) | (y2 > 64 + 2)
    assert crosses.any()
    assert not crosses.all()
    for labels in seen:
        assert (labels[crosses] == -1).all()
        assert (labels[~crosses] >= 0).any()


def test_clipped_anchors_are_what_is_learnt_from(images):
    """A true box that fills the corner is a clipped anchor: nothing to correct."""
    corner = [torch.tensor([[0.0, 0.0, 20.0, 20.0]])] * 3  # of 32 x 32 around (4, 4)

    def box_loss(border):
        rpn = one_level(border=border, match=MatchRule(0.95))
        torch.nn.init.zeros_(rpn.head.regressor[0].weight)
        return rpn(images, corner).losses["box"].item()

    assert box_loss("clip") == pytest.approx(0, abs=1e-6)
    assert box_loss("keep") > 0.01


def test_background_in_an_ignored_region_is_not_learnt_from(images, monkeypatch):
    rpn = one_level()
    seen = labels_seen(rpn, monkeypatch)
    region = torch.tensor([[0.0, 0.0, 96.0, 32.0]])  # the upper half
    rpn(images, [NONE] * 3, ignore_boxes=[region, NONE, NONE])
    assert (seen[1] == 0).all()
    anchors = rpn.anchors([(8, 12)])[0]
    centre_y = (anchors[:, 1] + anchors[:, 3]) / 2
    assert (seen[0][centre_y > 60] == 0).all()
    well_inside = oracles.pairwise(oracles.intersection, anchors, region)
    for anchor, shared, label in zip(anchors, well_inside, seen[0]):
        assert label == (-1 if shared[0] >= 0.5 * oracles.area(anchor.tolist()) else 0)


def test_delta_weights_are_undone_by_the_proposals(images, gt_boxes):
    weights = (10.0, 10.0, 5.0, 5.0)
    plain, weighted = one_level(), one_level(delta_weights=weights)
    regressor = weighted.head.regressor[0]
    with torch.no_grad():
        scale = torch.tensor(weights).repeat(6)
        regressor.weight.mul_(scale[:, None, None, None])
        regressor.bias.mul_(scale)
    a, b = seeded(plain, images, gt_boxes), seeded(weighted, images, gt_boxes)
    assert_close_proposals(a.proposals, b.proposals)
    assert b.losses["box"] > a.losses["box"]


def test_giou_is_learnt_on_boxes(images, gt_boxes):
    rpn = one_level(loss=RPNLoss(box="giou"))
    losses = seeded(rpn, images, gt_boxes).losses
    assert 0 < losses["box"] < 2
    losses["box"].backward()
    gradient = rpn.head.regressor[0].weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"border": "cut"}, 'border is "keep", "drop" or "clip", not \'cut\'.'),
        (
            {"delta_weights": (1, 1)},
            "delta_weights=(1, 1) must be four positive numbers.",
        ),
    ],
)
def test_unknown_options_are_refused(settings, message):
    with pytest.raises(SettingError) as error:
        one_level(**settings)
    assert str(error.value) == message


# Reading off a few anchors


@pytest.mark.parametrize("make", [one_level, two_levels])
@pytest.mark.parametrize(
    "settings", [{}, {"sample": SampleRule(7)}, {"border": "drop"}]
)
def test_losses_of_a_few_cells_are_those_of_the_whole_map(
    make, settings, images, gt_boxes, monkeypatch
):
    """Losses, gradients of all weights, and gradients that reach the backbone."""
    results = []
    for sparse_from in (0, 10**9):  # always, never
        monkeypatch.setattr("rpn_lib.rpn.SPARSE_FROM", sparse_from)
        rpn = make(**settings)
        losses = seeded(rpn, images, gt_boxes, propose=False).losses
        sum(losses.values()).backward()
        results.append((losses, [p.grad for p in rpn.parameters()]))
    (few, few_gradients), (every, gradients) = results
    for name in every:
        torch.testing.assert_close(few[name], every[name], rtol=1e-5, atol=1e-6)
    for a, b in zip(few_gradients, gradients):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_corners_of_a_map_are_read_off_right():
    rpn = excited(RegionProposalNetwork(nn.Identity(), ANCHORS, head=RPNHead(5, 4, 5)))
    features = [torch.rand(2, 5, 4, 6), torch.rand(2, 5, 1, 1)]
    outputs = [rpn.head(feature) for feature in features]
    every = torch.cat([output.scores.flatten(1, 3) for output in outputs], 1)
    number = torch.arange(every.shape[1]).flip(0).repeat(2)
    image = torch.arange(2).repeat_interleave(every.shape[1])
    scores, deltas = head_at_anchors(rpn.head, features, 4, image, number)
    torch.testing.assert_close(scores, every[image, number], rtol=1e-4, atol=1e-5)
    assert deltas.shape == (len(number), 4)


ANCHORS = AnchorGenerator([[16, 20], [32, 40]], [1, 2], strides=[8, 16])

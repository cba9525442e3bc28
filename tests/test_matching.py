import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou as their_iou

from rpn_lib import fast, matching
from rpn_lib.anchors import AnchorGenerator, inside_image
from rpn_lib.errors import BoxError
from rpn_lib.matching import MatchRule, match_anchors
from rpn_lib.sampling import SampleRule, sample_anchors

NONE = torch.zeros(0, 4)
# Along one line: IoU with a true box 0..10 is the covered share of it.
TRUE = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def covering(*tenths):
    """Anchors inside the true box `TRUE`, with these tenths of it as their IoU."""
    return torch.tensor([[0.0, 0.0, n, 10.0] for n in tenths])


@pytest.fixture
def grid():
    generate = AnchorGenerator([32, 64, 128], strides=[16])
    return generate([(15, 20)])[0]


def assert_same(ours, theirs):
    for name in ours._fields:
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


# By hand


def test_thresholds_by_hand():
    matches = match_anchors(covering(10, 8, 7, 6, 3, 2, 1), TRUE)
    assert matches.labels.tolist() == [1, 1, 1, -1, -1, 0, 0]
    assert matches.gt_index.tolist() == [0] * 7
    expected = torch.tensor([1, 0.8, 0.7, 0.6, 0.3, 0.2, 0.1])
    torch.testing.assert_close(matches.iou, expected)
    assert matches.gt_best_iou.tolist() == [1]


def test_upper_threshold_is_positive_and_lower_threshold_is_ignored():
    rule = MatchRule(positive_iou=0.7, negative_iou=0.3)
    labels = match_anchors(covering(10, 7, 3), TRUE, rule).labels
    assert labels.tolist() == [1, 1, -1]


def test_best_anchor_is_positive_below_the_upper_threshold():
    assert match_anchors(covering(5, 4, 2), TRUE).labels.tolist() == [1, -1, 0]
    labels = match_anchors(covering(5, 4, 2), TRUE, MatchRule(best_anchor=False)).labels
    assert labels.tolist() == [-1, -1, 0]


def test_best_anchor_stays_positive_below_the_lower_threshold():
    # A rule for the negatives that comes last would turn it into background.
    matches = match_anchors(covering(2, 1), TRUE)
    assert matches.labels.tolist() == [1, 0]
    assert matches.iou[0] < 0.3


def test_all_anchors_that_tie_for_the_best_are_positive():
    anchors = torch.tensor(
        [[0.0, 0, 5, 10], [5, 0, 10, 10], [0, 0, 10, 5], [0, 0, 4, 10]]
    )
    assert match_anchors(anchors, TRUE).labels.tolist() == [1, 1, 1, -1]


def test_target_is_the_box_of_highest_iou_even_of_another_ones_best_anchor():
    # The second box is covered best by the anchor that covers the first still better.
    anchors = torch.tensor([[0.0, 0, 10, 10], [90, 90, 99, 99]])
    gt_boxes = torch.tensor([[0.0, 0, 10, 9], [0, 0, 3, 10]])
    matches = match_anchors(anchors, gt_boxes)
    assert matches.labels.tolist() == [1, 0]
    assert matches.gt_index[0] == 0
    torch.testing.assert_close(matches.gt_best_iou, torch.tensor([0.9, 0.3]))


def test_duplicate_boxes_change_neither_labels_nor_ious(grid):
    gt_boxes = oracles.random_boxes(torch.Generator().manual_seed(0), 5, (240, 320))
    once, twice = (
        match_anchors(grid, gt_boxes),
        match_anchors(grid, torch.cat([gt_boxes, gt_boxes])),
    )
    assert torch.equal(once.labels, twice.labels)
    assert torch.equal(once.iou, twice.iou)
    assert torch.equal(once.gt_index, twice.gt_index % 5)
    assert torch.equal(twice.gt_best_iou, once.gt_best_iou.repeat(2))


def test_duplicate_anchors_get_the_same_label():
    matches = match_anchors(covering(5, 5, 4, 4, 1, 1), TRUE)
    assert matches.labels.tolist() == [1, 1, -1, -1, 0, 0]


# Nothing there


def test_without_true_boxes_all_anchors_are_background(grid):
    matches = match_anchors(grid, NONE)
    assert (matches.labels == 0).all()
    assert (matches.iou == 0).all()
    assert (matches.gt_index == 0).all()
    assert matches.gt_best_iou.shape == (0,)


def test_without_true_boxes_no_minimum_makes_objects(grid):
    assert (
        match_anchors(grid, NONE, MatchRule(min_num_positives=64)).labels == 0
    ).all()


def test_without_true_boxes_there_are_no_classes_either(grid):
    no_labels = torch.zeros(0, dtype=torch.int64)
    assert (match_anchors(grid, NONE, gt_labels=no_labels).labels == 0).all()


def test_without_anchors():
    matches = match_anchors(NONE, TRUE)
    assert matches.labels.shape == matches.gt_index.shape == matches.iou.shape == (0,)
    assert matches.gt_best_iou.tolist() == [0]
    assert_same(matches._replace(gt_best_iou=NONE[0:0, 0]), match_anchors(NONE, NONE))


# Where torchvision is wrong


def test_a_box_that_no_anchor_touches_changes_nothing(grid):
    gt_boxes = oracles.random_boxes(torch.Generator().manual_seed(1), 3, (240, 320))
    far = torch.tensor([[5000.0, 5000.0, 5050.0, 5050.0]])
    alone, together = (
        match_anchors(grid, gt_boxes),
        match_anchors(grid, torch.cat([gt_boxes, far])),
    )
    assert_same(alone, together._replace(gt_best_iou=together.gt_best_iou[:3]))
    assert together.gt_best_iou[3] == 0
    assert (match_anchors(grid, far).labels == 0).all()


def test_torchvision_makes_every_anchor_an_object_of_a_box_that_none_touches(grid):
    far = torch.tensor([[5000.0, 5000.0, 5050.0, 5050.0]])
    theirs = Matcher(0.7, 0.3, allow_low_quality_matches=True)(their_iou(far, grid))
    assert (theirs >= 0).all()


def test_a_tiny_box_has_the_anchors_of_its_one_best_iou(grid):
    tiny = torch.tensor([[100.0, 100.0, 101.0, 101.0]])
    matches = match_anchors(grid, tiny)
    best = matches.iou == matches.iou.max()
    assert 0 < matches.iou.max() < 0.01
    assert torch.equal(matches.labels, best.long())


def test_anchors_without_size_have_iou_0():
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    matches = match_anchors(torch.cat([point, covering(9)]), TRUE)
    assert matches.iou.tolist() == [0, pytest.approx(0.9)]
    assert matches.labels.tolist() == [0, 1]


def test_true_boxes_without_size_are_refused():
    with pytest.raises(
        BoxError, match=r"gt_boxes, box 1 \[5, 5, 5, 5\]: width is zero"
    ):
        match_anchors(TRUE, torch.cat([TRUE, torch.tensor([[5.0, 5.0, 5.0, 5.0]])]))


# The minimum of positives


def test_min_num_positives_takes_the_next_best():
    anchors = covering(2, 5, 1, 4, 3)
    for minimum, labels in [
        (0, [0, 1, 0, -1, -1]),
        (1, [0, 1, 0, -1, -1]),
        (2, [0, 1, 0, 1, -1]),
        (4, [1, 1, 0, 1, 1]),
        (5, [1, 1, 1, 1, 1]),
        (99, [1, 1, 1, 1, 1]),
    ]:
        matches = match_anchors(anchors, TRUE, MatchRule(min_num_positives=minimum))
        assert matches.labels.tolist() == labels, minimum


def test_forced_positives_keep_their_label_below_the_lower_threshold():
    matches = match_anchors(covering(2, 1), TRUE, MatchRule(min_num_positives=2))
    assert matches.labels.tolist() == [1, 1]
    assert (matches.iou < 0.3).all()


def test_min_num_positives_does_not_touch_anchors_without_overlap():
    anchors = torch.cat([covering(2), torch.tensor([[50.0, 50, 60, 60]])])
    labels = match_anchors(anchors, TRUE, MatchRule(min_num_positives=2)).labels
    assert labels.tolist() == [1, 0]


def test_min_num_positives_changes_nothing_where_there_are_enough(grid):
    gt_boxes = oracles.random_boxes(torch.Generator().manual_seed(2), 4, (240, 320))
    plain = match_anchors(grid, gt_boxes)
    count = int((plain.labels == 1).sum())
    assert count > 0
    assert_same(
        match_anchors(grid, gt_boxes, MatchRule(min_num_positives=count)), plain
    )


# Classes


def test_gt_labels_are_the_labels_of_objects():
    gt_boxes = torch.cat([TRUE, TRUE + 100])
    anchors = torch.cat([covering(9, 5, 1), covering(8) + 100])
    labels = match_anchors(anchors, gt_boxes, gt_labels=torch.tensor([7, 3])).labels
    assert labels.tolist() == [7, -1, 0, 3]
    assert labels.dtype == torch.int64


def test_gt_labels_change_nothing_but_the_ones(grid):
    generator = torch.Generator().manual_seed(3)
    gt_boxes = oracles.random_boxes(generator, 6, (240, 320))
    classes = torch.randint(1, 9, (6,), generator=generator)
    plain = match_anchors(grid, gt_boxes)
    classed = match_anchors(grid, gt_boxes, gt_labels=classes)
    objects = plain.labels == 1
    assert torch.equal(classed.labels[~objects], plain.labels[~objects])
    assert torch.equal(classed.labels[objects], classes[plain.gt_index[objects]])


# Anchors that may not be labelled


def test_invalid_anchors_are_ignored_and_nobodys_best():
    valid = torch.tensor([False, True, False, True])
    matches = match_anchors(covering(9, 5, 4, 1), TRUE, valid=valid)
    assert matches.labels.tolist() == [-1, 1, -1, 0]
    torch.testing.assert_close(matches.gt_best_iou, torch.tensor([0.5]))


def test_invalid_anchors_do_not_count_for_the_minimum():
    valid = torch.tensor([False, True, False, True])
    labels = match_anchors(
        covering(9, 5, 4, 1), TRUE, MatchRule(min_num_positives=4), valid=valid
    ).labels
    assert labels.tolist() == [-1, 1, -1, 1]


def test_valid_anchors_are_labelled_as_if_there_were_no_others(grid):
    gt_boxes = oracles.random_boxes(torch.Generator().manual_seed(4), 5, (240, 320))
    valid = inside_image(grid, (240, 320))
    masked = match_anchors(grid, gt_boxes, valid=valid)
    alone = match_anchors(grid[valid], gt_boxes)
    assert (masked.labels[~valid] == -1).all()
    assert torch.equal(masked.labels[valid], alone.labels)
    assert torch.equal(masked.gt_index[valid], alone.gt_index)
    assert torch.equal(masked.gt_best_iou, alone.gt_best_iou)


# Against the oracle


@given(
    oracles.box_tensors(1, 12),
    oracles.box_tensors(0, 5),
    st.sampled_from([0.1, 0.25, 0.5, 0.6, 0.7, 1.0]),
    st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7]),
    st.booleans(),
    st.sampled_from([0, 1, 3, 20]),
    st.randoms(use_true_random=False),
)
def test_labels_and_ious_equal_the_oracle(
    anchors, gt_boxes, positive, negative, best_anchor, minimum, random
):
    valid = torch.tensor([random.random() < 0.8 for _ in anchors])
    settings = {
        "positive_iou": positive,
        "negative_iou": min(negative, positive),
        "best_anchor": best_anchor,
        "min_num_positives": minimum,
    }
    matches = match_anchors(anchors, gt_boxes, MatchRule(**settings), valid=valid)
    labels, iou, best = oracles.match(
        anchors.tolist(), gt_boxes.tolist(), valid=valid.tolist(), **settings
    )
    assert matches.labels.tolist() == labels
    torch.testing.assert_close(matches.iou, torch.tensor(iou))
    torch.testing.assert_close(matches.gt_best_iou, torch.tensor(best))
    for i, index in enumerate(matches.gt_index.tolist()):
        if len(gt_boxes) and valid[i]:
            chosen = oracles.iou(anchors[i].tolist(), gt_boxes[index].tolist())
            assert chosen == pytest.approx(iou[i])


@pytest.mark.parametrize("seed", range(5))
def test_an_image_full_of_anchors_equals_the_oracle(seed):
    # Whole numbers, so that anchors that tie in float64 tie in float32 too.
    shapes = [[32, 32], [44, 22], [22, 44], [64, 64], [90, 46], [46, 90], [128, 128]]
    anchors = AnchorGenerator(shapes=[shapes], strides=[16])([(15, 20)])[0]
    generator = torch.Generator().manual_seed(seed)
    gt_boxes = oracles.random_boxes(generator, 8, (240, 320), smallest=8).round()
    lower, upper = sorted(torch.rand(2, generator=generator).tolist())
    matches = match_anchors(anchors, gt_boxes, MatchRule(upper, lower))
    labels, iou, best = oracles.match(
        anchors.tolist(), gt_boxes.tolist(), positive_iou=upper, negative_iou=lower
    )
    assert matches.labels.tolist() == labels
    torch.testing.assert_close(matches.iou, torch.tensor(iou))
    torch.testing.assert_close(matches.gt_best_iou, torch.tensor(best))
    chosen = gt_boxes[matches.gt_index].tolist()
    chosen = [oracles.iou(a, b) for a, b in zip(anchors.tolist(), chosen)]
    torch.testing.assert_close(torch.tensor(chosen), matches.iou)


# Against torchvision


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("low_quality", [True, False])
def test_equal_to_torchvision_where_every_box_overlaps_an_anchor(
    grid, seed, low_quality
):
    generator = torch.Generator().manual_seed(seed)
    gt_boxes = oracles.random_boxes(generator, 1 + seed, (240, 320), smallest=8)
    table = their_iou(gt_boxes, grid)
    theirs = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)(table)
    ours = match_anchors(grid, gt_boxes, MatchRule(best_anchor=low_quality))
    expected = torch.where(theirs >= 0, 1, torch.where(theirs == -1, 0, -1))
    assert torch.equal(ours.labels, expected)
    objects = theirs >= 0
    assert torch.equal(ours.gt_index[objects], theirs[objects])
    assert torch.equal(ours.iou, table.max(dim=0).values)
    assert torch.equal(ours.gt_best_iou, table.max(dim=1).values)


def test_arguments_are_not_changed(grid):
    gt_boxes = oracles.random_boxes(torch.Generator().manual_seed(5), 3, (240, 320))
    before = grid.clone(), gt_boxes.clone()
    match_anchors(grid, gt_boxes, MatchRule(min_num_positives=99), valid=grid[:, 0] > 0)
    assert torch.equal(grid, before[0])
    assert torch.equal(gt_boxes, before[1])


@pytest.mark.parametrize("match", [matching.match_anchors, fast.match_anchors])
def test_each_of_several_regions_is_ignored_from_exactly_the_share_on(match):
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    regions = torch.tensor([[0.0, 0, 5, 10], [20, 0, 30, 10]])  # a half, all, none
    for fraction, labels in ((0.5, [-1, -1, 0]), (0.51, [0, -1, 0]), (1, [0, -1, 0])):
        rule = MatchRule(ignore_fraction=fraction)
        found = match(anchors, torch.zeros(0, 4), rule, ignore_boxes=regions)
        assert found.labels.tolist() == labels


def test_an_anchor_that_may_not_be_labelled_fills_no_quota():
    """It ties with the best one, and still does not count among the two asked for."""
    anchors = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 8], [0, 5, 10, 15]])
    valid = torch.tensor([True, False, True])
    matches = match_anchors(anchors, TRUE, MatchRule(min_num_positives=2), valid=valid)
    assert matches.labels.tolist() == [1, -1, 1]


# Sampling


def labels_of(objects, background, ignored, seed=0):
    counts = torch.tensor([objects, background, ignored])
    labels = torch.repeat_interleave(torch.tensor([1, 0, -1]), counts)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return labels[order]


@pytest.mark.parametrize(
    ("available", "settings", "drawn"),
    [
        ((1000, 5000), {}, (128, 128)),
        ((128, 5000), {}, (128, 128)),
        ((10, 5000), {}, (10, 246)),
        ((0, 5000), {}, (0, 256)),
        ((1000, 100), {}, (128, 100)),
        ((1000, 0), {}, (128, 0)),
        ((3, 4), {}, (3, 4)),
        ((0, 0), {}, (0, 0)),
        ((1000, 5000), {"num_samples": 16}, (8, 8)),
        ((1000, 5000), {"num_samples": 7}, (3, 4)),
        ((1000, 5000), {"num_samples": 1}, (0, 1)),
        ((1000, 5000), {"positive_fraction": 0.25}, (64, 192)),
        ((1000, 5000), {"positive_fraction": 0}, (0, 256)),
        ((1000, 5000), {"positive_fraction": 1}, (256, 0)),
        ((100, 5000), {"positive_fraction": 1}, (100, 156)),
        ((30, 50), {"num_samples": 10**9}, (30, 50)),
    ],
    ids=str,
)
def test_counts(available, settings, drawn):
    labels = labels_of(*available, ignored=500)
    objects, background = sample_anchors(labels, SampleRule(**settings))
    assert (len(objects), len(background)) == drawn
    assert (labels[objects] > 0).all()
    assert (labels[background] == 0).all()
    chosen = torch.cat([objects, background])
    assert len(chosen.unique()) == len(chosen)
    assert chosen.dtype == torch.int64


@given(
    st.lists(st.integers(-1, 3), max_size=40),
    st.integers(1, 50),
    st.floats(0, 1),
)
def test_counts_are_those_of_torchvision(labels, num_samples, fraction):
    labels = torch.tensor(labels, dtype=torch.int64)
    ours = sample_anchors(labels, SampleRule(num_samples, fraction))
    theirs = BalancedPositiveNegativeSampler(num_samples, fraction)([labels])
    assert [len(part) for part in ours] == [int(part[0].sum()) for part in theirs]


def test_the_same_seed_draws_the_same_anchors():
    labels = labels_of(500, 3000, 100)
    draws = [
        torch.cat(sample_anchors(labels, generator=torch.Generator().manual_seed(seed)))
        for seed in (5, 5, 6)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_own_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    sample_anchors(labels_of(50, 3000, 0), generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_generator_the_global_seed_decides():
    labels = labels_of(500, 3000, 100)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(torch.cat(sample_anchors(labels)))
    assert torch.equal(*draws)


def test_every_anchor_is_drawn_about_equally_often():
    labels = labels_of(20, 60, 5)
    generator = torch.Generator().manual_seed(0)
    count = torch.zeros(len(labels))
    for _ in range(2000):
        for part in sample_anchors(labels, SampleRule(20), generator):
            count[part] += 1
    # Half of the objects and a sixth of the background each time; the deviations are
    # 0.011 and 0.008.
    share = count / 2000
    assert (share[labels == 1] - 1 / 2).abs().max() < 0.05
    assert (share[labels == 0] - 1 / 6).abs().max() < 0.04
    assert (share[labels == -1] == 0).all()


def test_a_best_anchor_may_be_asked_to_overlap_enough():
    """IoU 0.2 with the only anchor: an object by the paper's rule, or background."""
    anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    gt = torch.tensor([[0.0, 0.0, 10.0, 2.0]])
    for least, label in [(0.0, 1), (0.2, 1), (0.21, 0)]:
        found = match_anchors(anchor, gt, MatchRule(min_best_iou=least))
        assert found.labels.tolist() == [label]


def test_the_first_class_is_1():
    labels = match_anchors(covering(9, 1), TRUE, gt_labels=torch.tensor([1])).labels
    assert labels.tolist() == [1, 0]


def test_only_a_perfect_best_anchor_may_be_asked_for():
    matches = match_anchors(covering(9), TRUE, MatchRule(1, min_best_iou=1))
    assert matches.labels.tolist() == [-1]
    assert match_anchors(TRUE, TRUE, MatchRule(min_best_iou=1)).labels.tolist() == [1]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64]
)
def test_any_type_of_number_is_computed_in_float32_or_better(dtype):
    # Areas of 75,000 are too large for float16 (65,504), 240 x 240 for uint8.
    anchors = torch.tensor([[0, 0, 240, 240], [0, 0, 192, 240], [0, 0, 16, 16]])
    gt_boxes = torch.tensor([[0, 0, 240, 240], [0, 0, 16, 24]])
    exact = match_anchors(anchors.double(), gt_boxes.double())
    found = match_anchors(anchors.to(dtype), gt_boxes.to(dtype))
    assert found.labels.tolist() == exact.labels.tolist() == [1, 1, 1]
    assert torch.equal(found.gt_index, exact.gt_index)
    torch.testing.assert_close(found.iou.double(), exact.iou, atol=1e-7, rtol=0)
    assert exact.iou.dtype == torch.float64
    assert found.iou.dtype == (dtype if dtype == torch.float64 else torch.float32)

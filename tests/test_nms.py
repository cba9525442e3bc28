import math

import oracles
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from rpn_lib.boxes import box_iou
from rpn_lib.errors import BoxError
from rpn_lib.nms import ProposalSelector, nms

# Three of a kind and one apart: IoU of the first two 9/11, of the first and third 4/6.
BOXES = torch.tensor(
    [[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 6.6], [20, 0, 30, 9]]
)
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])
# In torchvision, an IoU of exactly 3/10 is above a threshold of 0.3. These thresholds
# compare alike in float32 and float64.
THRESHOLDS = [0.0, 0.25, 0.5, 0.7, 0.75, 1.0]


# To read


def test_boxes_that_overlap_a_better_one_are_dropped():
    assert nms(BOXES, SCORES, 0.5).tolist() == [0, 3]
    assert nms(BOXES, SCORES, 0.7).tolist() == [0, 2, 3]
    assert nms(BOXES, SCORES, 0.9).tolist() == [0, 1, 2, 3]


def test_best_comes_first():
    assert nms(BOXES, torch.tensor([0.1, 0.2, 0.3, 0.4]), 0.9).tolist() == [3, 2, 1, 0]


def test_a_dropped_box_drops_no_other():
    # Each overlaps the next by 6/14; the second goes, so the third may stay.
    row = torch.tensor([[0.0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1]])
    assert nms(row, torch.tensor([0.9, 0.8, 0.7]), 0.4).tolist() == [0, 2]


def test_of_equal_scores_the_earlier_box_stays():
    assert nms(BOXES[:2].flip(0), torch.tensor([0.5, 0.5]), 0.5).tolist() == [0]


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_box_whose_iou_equals_the_threshold_stays(tenths):
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, tenths, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, tenths / 10).tolist() == [0, 1]
    assert nms(boxes, scores, tenths / 10 - 0.01).tolist() == [0]


def test_torchvision_compares_a_float32_iou_with_a_float64_threshold():
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert torchvision.ops.nms(boxes, scores, 0.3).tolist() == [0]
    assert torchvision.ops.nms(boxes, scores, 0.3 + 1e-7).tolist() == [0, 1]


def test_extreme_thresholds():
    apart = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4], [3, 3, 9, 9]])
    scores = torch.tensor([0.3, 0.2, 0.1])
    assert nms(apart, scores, 0).tolist() == [0, 1]
    same = BOXES[:1].repeat(3, 1)
    assert nms(same, scores, 1).tolist() == [0, 1, 2]


def test_no_boxes():
    kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


@given(
    oracles.any_box_tensors(max_size=12),
    st.sampled_from(THRESHOLDS),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_equal_to_oracle_and_torchvision(boxes, threshold, num_scores, random):
    scores = torch.tensor([random.randrange(num_scores) / 8 for _ in boxes])
    kept = nms(boxes, scores, threshold).tolist()
    assert kept == torchvision.ops.nms(boxes, scores, threshold).tolist()
    assert kept == oracles.nms(boxes.tolist(), scores.tolist(), threshold)


def test_equal_to_torchvision_and_oracle_in_thousands_of_cases():
    generator = torch.Generator().manual_seed(0)
    for case in range(2500):
        n = int(torch.randint(1, 14, (), generator=generator))
        make = oracles.integer_boxes if case % 2 else oracles.random_boxes
        boxes = make(generator, n)
        boxes = boxes[torch.randint(0, n, (n,), generator=generator)]  # duplicates
        scores = torch.randint(0, 6, (n,), generator=generator) / 5  # ties
        threshold = THRESHOLDS[case % len(THRESHOLDS)]
        kept = nms(boxes, scores, threshold).tolist()
        assert kept == torchvision.ops.nms(boxes, scores, threshold).tolist(), case
        assert kept == oracles.nms(boxes.tolist(), scores.tolist(), threshold), case


def test_hundreds_of_equal_scores_keep_their_order():
    # Few values are sorted in a stable way by luck; many are not.
    generator = torch.Generator().manual_seed(2)
    boxes = oracles.integer_boxes(generator, 400)
    scores = torch.randint(0, 3, (400,), generator=generator) / 2
    kept = nms(boxes, scores, 0.5)
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.5))
    assert kept.tolist() == oracles.nms(boxes.tolist(), scores.tolist(), 0.5)


def test_equal_to_torchvision_for_the_boxes_of_a_large_image():
    generator = torch.Generator().manual_seed(1)
    boxes = oracles.random_boxes(generator, 600, (800, 1344), smallest=200)
    scores = torch.rand(600, generator=generator)
    kept = nms(boxes, scores, 0.7)
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.7))
    assert 100 < len(kept) < 600


@given(oracles.box_tensors(max_size=12), st.floats(0, 1))
def test_kept_boxes_overlap_at_most_by_the_threshold(boxes, threshold):
    scores = torch.linspace(1, 0, len(boxes))
    kept = nms(boxes, scores, threshold)
    overlap = box_iou(boxes[kept], boxes[kept]).fill_diagonal_(0)
    assert (overlap <= threshold).all()
    assert kept.tolist() == sorted(kept.tolist())
    assert kept[:1].tolist() == [0] * min(len(boxes), 1)


# Proposals


def random_level(generator, n, image_size=(60, 80)):
    anchors = oracles.random_boxes(generator, n, image_size, smallest=4)
    anchors = anchors + (torch.rand(n, 1, generator=generator) - 0.5) * 20
    logits = torch.randn(n, generator=generator) * 2
    deltas = torch.randn(n, 4, generator=generator) * 0.5
    return logits, deltas, anchors


def select(levels, image_size=(60, 80), **settings):
    return ProposalSelector(**settings)(*zip(*levels), image_size)


def one_level(boxes, logits):
    anchors = torch.tensor(boxes, dtype=torch.float32)
    logits = torch.tensor(logits, dtype=torch.float32)
    return [(logits, torch.zeros_like(anchors), anchors)]


@pytest.mark.parametrize("num_levels", [1, 2, 4])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pre_nms_top_k": 10},
        {"post_nms_top_k": 7},
        {"iou_threshold": 0.2},
        {"iou_threshold": 1.0, "post_nms_top_k": 30},
        {"score_threshold": 0.6},
        {"min_size": 9},
        {
            "pre_nms_top_k": 25,
            "post_nms_top_k": 12,
            "iou_threshold": 0.45,
            "score_threshold": 0.3,
            "min_size": 5,
        },
    ],
    ids=str,
)
def test_proposals_equal_the_oracle(num_levels, settings):
    generator = torch.Generator().manual_seed(num_levels)
    levels = [random_level(generator, 60 - 9 * i) for i in range(num_levels)]
    found = select(levels, **settings)
    chosen = vars(ProposalSelector(**settings))
    boxes, scores = oracles.proposals(
        [[part.tolist() for part in level] for level in levels], (60, 80), **chosen
    )
    torch.testing.assert_close(found.boxes, torch.tensor(boxes), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, torch.tensor(scores))


def test_boxes_are_clipped_to_the_image():
    proposals = select(one_level([[-5, -5, 200, 30], [10, 50, 30, 99]], [2, 1]))
    assert proposals.boxes.tolist() == [[0, 0, 80, 30], [10, 50, 30, 60]]


def test_boxes_outside_the_image_are_dropped():
    levels = one_level([[-50, 0, -10, 20], [90, 0, 99, 20], [0, 0, 20, 20]], [3, 2, 1])
    assert select(levels).boxes.tolist() == [[0, 0, 20, 20]]


def test_min_size_is_that_of_the_clipped_sides():
    levels = one_level([[-6, 0, 4, 30], [0, 0, 30, 4], [0, 30, 5, 60]], [3, 2, 1])
    assert len(select(levels, min_size=4).boxes) == 3
    assert select(levels, min_size=5).boxes.tolist() == [[0, 30, 5, 60]]
    assert len(select(levels, min_size=5.5).boxes) == 0


def test_scores_are_probabilities_and_the_threshold_belongs_to_them():
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
    levels = one_level(boxes, [math.log(3), 0, -math.log(3)])
    assert select(levels).scores.tolist() == pytest.approx([0.75, 0.5, 0.25])
    assert len(select(levels, score_threshold=0.5).scores) == 2
    assert len(select(levels, score_threshold=0.51).scores) == 1


def test_pre_nms_top_k_comes_before_nms_and_post_nms_top_k_after():
    # Two nearly equal boxes score highest.
    levels = one_level([[0, 0, 10, 10], [0, 0, 10, 9.9], [20, 0, 30, 10]], [3, 2, 1])
    assert len(select(levels).scores) == 2
    assert len(select(levels, pre_nms_top_k=2).scores) == 1
    assert len(select(levels, post_nms_top_k=2).scores) == 2


def test_pre_nms_top_k_is_for_each_level_and_post_nms_top_k_for_all():
    far_apart = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
    levels = one_level(far_apart, [5, 3, 1]) + one_level(far_apart, [4, 2, 0])
    scores = select(levels, pre_nms_top_k=2).scores
    assert scores.tolist() == pytest.approx(
        [1 / (1 + math.exp(-n)) for n in (5, 4, 3, 2)]
    )
    scores = select(levels, post_nms_top_k=3).scores
    assert scores.tolist() == pytest.approx([1 / (1 + math.exp(-n)) for n in (5, 4, 3)])


def test_levels_do_not_suppress_each_other():
    level = one_level([[0, 0, 10, 10], [0, 0, 10, 9.9]], [1, 0])
    assert len(select(level).boxes) == 1
    assert len(select(level + level).boxes) == 2


def test_fewer_anchors_than_either_limit():
    levels = one_level([[0, 0, 10, 10]], [1]) + one_level([[0, 0, 50, 50]], [2])
    proposals = select(levels, pre_nms_top_k=5000, post_nms_top_k=5000)
    assert proposals.boxes.tolist() == [[0, 0, 50, 50], [0, 0, 10, 10]]


def test_nothing_good_enough():
    proposals = select(one_level([[0, 0, 10, 10]], [-9]), score_threshold=0.5)
    assert proposals.boxes.shape == (0, 4)
    assert proposals.scores.shape == (0,)


def test_a_level_without_anchors():
    empty = (torch.zeros(0), torch.zeros(0, 4), torch.zeros(0, 4))
    assert select([empty]).boxes.shape == (0, 4)
    levels = one_level([[0, 0, 10, 10]], [1])
    assert select([empty, *levels]).boxes.tolist() == [[0, 0, 10, 10]]


def test_what_is_not_a_number_is_not_proposed():
    logits, deltas, anchors = one_level(
        [[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], [1] * 3
    )[0]
    logits[0] = math.nan
    deltas[1] = math.nan
    assert select([(logits, deltas, anchors)]).boxes.tolist() == [[40, 0, 49, 9]]


def test_wild_deltas_stay_in_the_image():
    logits, deltas, anchors = random_level(torch.Generator().manual_seed(3), 50)
    proposals = select([(logits, deltas * 1e4, anchors)])
    assert proposals.boxes.isfinite().all()
    assert (proposals.boxes >= 0).all()
    assert (proposals.boxes <= torch.tensor([80, 60, 80, 60])).all()


def test_proposals_carry_no_gradient():
    logits, deltas, anchors = random_level(torch.Generator().manual_seed(4), 20)
    level = (logits.requires_grad_(), deltas.requires_grad_(), anchors)
    assert not any(part.requires_grad for part in select([level]))


def test_half_precision_goes_in_and_float32_comes_out():
    logits, deltas, anchors = random_level(torch.Generator().manual_seed(5), 20)
    half = select([(logits.bfloat16(), deltas.bfloat16(), anchors)])
    same = select([(logits.bfloat16().float(), deltas.bfloat16().float(), anchors)])
    assert half.boxes.dtype == half.scores.dtype == torch.float32
    assert torch.equal(half.boxes, same.boxes)
    assert torch.equal(half.scores, same.scores)


def test_settings_may_be_changed_afterwards():
    selector = ProposalSelector()
    selector.post_nms_top_k = 1
    levels = one_level([[0, 0, 10, 10], [20, 0, 30, 10]], [1, 2])
    assert len(selector(*zip(*levels), (60, 80)).boxes) == 1


@pytest.mark.parametrize("post", [1, 3, 7, 50])
@pytest.mark.parametrize("seed", range(5))
def test_looking_at_the_best_few_first_changes_nothing(post, seed):
    """Crowds of near copies: of the best 2 * post, often fewer than post are kept."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(12, 2, generator=generator) * 80
    corner = centres.repeat(30, 1) + torch.rand(360, 2, generator=generator)
    boxes = torch.cat([corner, corner + 15], dim=1)
    logits = torch.randn(360, generator=generator)
    select = ProposalSelector(1000, post, iou_threshold=0.5)
    halves = slice(0, 200), slice(200, 360)  # two levels
    parts = [[x[half] for half in halves] for x in (logits, 0 * boxes, boxes)]
    found = select(*parts, (200, 200))
    kept = torch.cat([h.start + nms(boxes[h], logits[h], 0.5) for h in halves])
    kept = kept[logits[kept].argsort(descending=True)][:post]
    assert torch.equal(found.boxes, boxes[kept])


def test_one_candidate_and_one_proposal_are_enough():
    select = ProposalSelector(pre_nms_top_k=1, post_nms_top_k=1)
    found = select([SCORES], [torch.zeros(4, 4)], [BOXES], (50, 50))
    assert found.boxes.tolist() == [[0, 0, 10, 10]]


def test_boxes_without_area_are_kept_where_min_size_is_0():
    flat = torch.tensor([[3.0, 3.0, 3.0, 9.0]])
    arguments = [torch.zeros(1)], [torch.zeros(1, 4)], [flat], (50, 50)
    assert len(ProposalSelector(min_size=0)(*arguments).boxes) == 1
    assert len(ProposalSelector()(*arguments).boxes) == 0


def test_a_score_threshold_of_1_keeps_only_what_is_certain():
    select = ProposalSelector(score_threshold=1)
    logits = torch.tensor([200.0, 5.0])
    found = select([logits], [torch.zeros(2, 4)], [BOXES[[0, 3]]], (50, 50))
    assert found.boxes.tolist() == [[0, 0, 10, 10]]


def test_many_boxes_on_one_object_do_not_hide_the_others():
    """The best 2 K boxes keep one; only a longer look finds the other two."""
    places = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    anchors = places.repeat_interleave(torch.tensor([20, 3, 1]), dim=0)  # (24, 4)
    logits = torch.linspace(3, -3, 24)
    select = ProposalSelector(post_nms_top_k=3)
    found = select([logits], [torch.zeros(24, 4)], [anchors], (60, 60))
    assert torch.equal(found.boxes, places)


def test_logits_whose_probabilities_are_equal_keep_their_order():
    """The sigmoid of 20 and of 25 is 1 in float32; the better box still comes first."""
    logits = torch.tensor([20.0, 25.0])
    assert (logits.sigmoid() == 1).all()
    found = ProposalSelector()([logits], [torch.zeros(2, 4)], [BOXES[:2]], (50, 50))
    assert found.boxes.tolist() == [BOXES[1].tolist()]


def test_of_equal_logits_the_earlier_anchor_and_level_come_first():
    generator = torch.Generator().manual_seed(0)
    anchors = [oracles.random_boxes(generator, n, (500, 500)) for n in (3000, 3000)]
    logits = [torch.ones(3000), torch.ones(3000)]
    selector = ProposalSelector(10, 15, iou_threshold=1.0)
    found = selector(logits, [torch.zeros(3000, 4)] * 2, anchors, (500, 500))
    assert torch.equal(found.boxes, torch.cat([anchors[0][:10], anchors[1][:5]]))


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(BoxError, match="score 1 is NaN"):
        nms(BOXES, torch.tensor([0.9, math.nan, 0.7, 0.6]), 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_boxes_of_any_type_of_number(dtype):
    boxes = torch.tensor([[0, 0, 300, 250], [0, 0, 240, 250]]).to(dtype)  # IoU 0.8
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.5).tolist() == [0]
    assert nms(boxes, scores, 0.85).tolist() == [0, 1]

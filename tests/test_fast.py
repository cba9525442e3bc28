"""The fast twins give what the plain functions give, to the last bit."""

from unittest.mock import Mock

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torchvision.ops import clip_boxes_to_image

from rpn_lib import blocks, fast, matching, ranking, tiles
from rpn_lib.anchors import AnchorGenerator, inside_image
from rpn_lib.errors import BoxError
from rpn_lib.matching import MatchRule
from rpn_lib.nms import nms
from rpn_lib.ranking import top_k


def assert_same(ours, plain, case=""):
    for name in plain._fields:
        assert torch.equal(getattr(ours, name), getattr(plain, name)), (case, name)


# Matching


def random_case(seed):
    """Anchors of random grids, their description, true boxes and settings.

    Every second case is in whole numbers, where many IoUs tie.
    """
    generator = torch.Generator().manual_seed(seed)

    def pick(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    num_levels, num_shapes = pick(1, 4), pick(1, 4)
    shapes = [
        torch.rand(num_shapes, 2, generator=generator) * 60 + 2
        for _ in range(num_levels)
    ]
    corner = torch.rand(pick(0, 12), 2, generator=generator) * 220 - 40
    sides = 1 + torch.rand(len(corner), 2, generator=generator) * 80
    gt_boxes = torch.cat([corner, corner + sides], dim=1)
    if seed % 2:
        shapes, gt_boxes = [level.round() for level in shapes], gt_boxes.round()
        gt_boxes = gt_boxes[(gt_boxes[:, 2:] > gt_boxes[:, :2]).all(dim=1)]
    generate = AnchorGenerator(
        shapes=[level.tolist() for level in shapes],
        strides=[pick(1, 20) for _ in range(num_levels)],
        offset=[0, 0.5, 0.3, -7][pick(0, 4)],
    )
    sizes = [(pick(1, 20), pick(1, 20)) for _ in range(num_levels)]
    anchors = torch.cat(generate(sizes))
    if pick(0, 4) == 0:
        anchors = clip_boxes_to_image(anchors, (60, 80))
    rule = MatchRule(min_best_iou=pick(0, 2) * 0.3, min_num_positives=pick(0, 2) * 30)
    settings = {"rule": rule}
    if pick(0, 3) == 0:
        settings["valid"] = torch.rand(len(anchors), generator=generator) < 0.7
    if pick(0, 3) == 0:
        settings["ignore_boxes"] = oracles.random_boxes(generator, 2)
    if pick(0, 3) == 0:
        settings["gt_labels"] = torch.arange(1, len(gt_boxes) + 1)
    return anchors, generate.grids(sizes), gt_boxes, settings


# The ways that matching has, what takes them, and the function that shows it: how many
# pairs are few, and whether the anchors are known to be grids.
WAYS = {
    "all pairs of grids": (2**18, True, "all_pairs"),
    "all pairs": (2**18, False, "_from_all_pairs"),
    "tiles of grids": (0, True, "on_grids"),
    "blocks": (125, False, "_in_blocks"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hundred", range(12))
def test_matching_equals_the_plain_one_on_thousands_of_random_grids(
    hundred, way, monkeypatch
):
    few, on_grids, _ = WAYS[way]
    monkeypatch.setattr(fast, "BLOCK_PAIRS", few)
    for seed in range(100 * hundred, 100 * hundred + 100):
        anchors, grids, gt_boxes, settings = random_case(seed)
        plain = matching.match_anchors(anchors, gt_boxes, **settings)
        grids = grids if on_grids else None
        found = fast.match_anchors(anchors, gt_boxes, grids=grids, **settings)
        assert_same(found, plain, seed)


def test_each_way_is_taken(monkeypatch):
    """For some case of the test above, and none but the one meant."""
    for way, (few, on_grids, function) in WAYS.items():
        with monkeypatch.context() as patch:
            patch.setattr(fast, "BLOCK_PAIRS", few)
            spy = Mock(wraps=getattr(fast, function))
            patch.setattr(fast, function, spy)
            for seed in range(20):
                anchors, grids, gt_boxes, settings = random_case(seed)
                grids = grids if on_grids else None
                fast.match_anchors(anchors, gt_boxes, grids=grids, **settings)
            assert spy.call_count > 10, way


@pytest.fixture(params=[tiles.MOST_PAIRS, 500, 1])
def in_one_go(request, monkeypatch):
    """All matching is done on the tiles, as much in one go as always, or little."""
    monkeypatch.setattr(fast, "BLOCK_PAIRS", 0)
    monkeypatch.setattr(tiles, "MOST_PAIRS", request.param)


@pytest.mark.usefixtures("in_one_go")
@pytest.mark.parametrize("seed", range(50))
def test_what_is_done_in_one_go_changes_nothing(seed):
    anchors, grids, gt_boxes, settings = random_case(seed)
    plain = matching.match_anchors(anchors, gt_boxes, **settings)
    if len(gt_boxes):
        valid, least = settings.get("valid"), settings["rule"].min_best_iou
        iou, gt_index, best, _ = tiles.on_grids(anchors, gt_boxes, valid, least, grids)
        assert torch.equal(iou, plain.iou)
        assert torch.equal(gt_index, plain.gt_index)
        assert torch.equal(best, plain.gt_best_iou)


@pytest.mark.usefixtures("in_one_go")
@pytest.mark.parametrize("count", [1, 65, 200])
def test_a_crowd_of_true_boxes_on_the_tiles(count):
    generator = torch.Generator().manual_seed(count)
    boxes = oracles.random_boxes(generator, count, (240, 320), smallest=8).round()
    boxes = torch.cat([boxes, boxes])  # the earlier of two equal boxes is the target
    generate = AnchorGenerator([[32], [64]], strides=[8, 16])
    sizes = [(30, 40), (15, 20)]
    anchors = torch.cat(generate(sizes))
    plain = matching.match_anchors(anchors, boxes)
    found = fast.match_anchors(anchors, boxes, grids=generate.grids(sizes))
    assert_same(found, plain)
    assert plain.gt_index.max() < count


def test_a_box_that_no_anchor_touches_changes_nothing_on_a_grid():
    generate = AnchorGenerator([32], strides=[16])
    anchors, grids = generate([(9, 7)])[0], generate.grids([(9, 7)])
    far = torch.tensor([[5000.0, 5000.0, 5050.0, 5050.0]])
    found = fast.match_anchors(anchors, far, grids=grids)
    assert_same(found, matching.match_anchors(anchors, far))
    assert (found.labels == 0).all()


@pytest.mark.parametrize("few", [2**18, 0], ids=["all pairs", "tiles"])
def test_float64_stays_float64_on_a_grid(few, monkeypatch):
    monkeypatch.setattr(fast, "BLOCK_PAIRS", few)
    generate = AnchorGenerator([32, 50], strides=[16])
    anchors, grids = generate([(9, 7)])[0], generate.grids([(9, 7)])
    boxes = oracles.random_boxes(torch.Generator().manual_seed(0), 5)
    for left, right in [(anchors.double(), boxes), (anchors, boxes.double())]:
        found = fast.match_anchors(left, right, grids=grids)
        assert found.iou.dtype == torch.float64
        assert_same(found, matching.match_anchors(left, right))


@pytest.mark.parametrize("few", [2**18, 0], ids=["all pairs", "tiles"])
def test_anchors_may_require_a_gradient(few, monkeypatch):
    monkeypatch.setattr(fast, "BLOCK_PAIRS", few)
    generate = AnchorGenerator([32], strides=[16])
    anchors, grids = (
        generate([(9, 7)])[0].clone().requires_grad_(),
        generate.grids([(9, 7)]),
    )
    boxes = oracles.random_boxes(torch.Generator().manual_seed(0), 5, (140, 110))
    found = fast.match_anchors(anchors, boxes, grids=grids)
    assert_same(found, matching.match_anchors(anchors, boxes))


def test_grids_of_other_anchors_are_refused():
    anchors = AnchorGenerator([32], strides=[16])([(4, 5)])[0]
    box = torch.tensor([[0.0, 0.0, 30.0, 30.0]])
    with pytest.raises(BoxError, match=r"do not describe 60 anchors"):
        fast.match_anchors(anchors, box, grids=[(4, 4, 3)])


@pytest.mark.parametrize("pairs", [1, 7, 1000, 10**9])
@pytest.mark.parametrize("num_gt", [1, 6])
def test_block_size_does_not_matter(monkeypatch, pairs, num_gt):
    generator = torch.Generator().manual_seed(num_gt)
    anchors = oracles.integer_boxes(generator, 301)  # ties in several blocks
    gt_boxes = oracles.integer_boxes(generator, num_gt)
    valid = torch.rand(301, generator=generator) < 0.7
    monkeypatch.setattr(fast, "BLOCK_PAIRS", pairs)
    found, expected = (
        function(anchors, gt_boxes, MatchRule(min_num_positives=40), valid=valid)
        for function in (fast.match_anchors, matching.match_anchors)
    )
    assert_same(found, expected)


def test_more_anchors_than_a_block_holds():
    generator = torch.Generator().manual_seed(0)
    anchors = oracles.random_boxes(generator, 40_000, (600, 1000))
    gt_boxes = oracles.random_boxes(generator, 20, (600, 1000))
    assert len(anchors) > fast.FEW_ANCHORS
    assert len(anchors) * len(gt_boxes) > 2 * fast.BLOCK_PAIRS
    assert_same(
        fast.match_anchors(anchors, gt_boxes),
        matching.match_anchors(anchors, gt_boxes),
    )


@pytest.mark.parametrize("least", [0.0, 0.2])
def test_what_a_gpu_does_gives_the_same(monkeypatch, least):
    """On a GPU no box is left out of a block; on a processor most are."""
    generator = torch.Generator().manual_seed(2)
    monkeypatch.setattr(fast, "BLOCK_PAIRS", 500)
    anchors = oracles.integer_boxes(generator, 301)
    gt_boxes = oracles.integer_boxes(generator, 6)
    valid = torch.rand(301, generator=generator) < 0.7
    processor, gpu = (
        fast._in_blocks(anchors, gt_boxes, valid, least, skip=skip)
        for skip in (True, False)
    )
    assert processor[3].any()
    assert all(torch.equal(a, b) for a, b in zip(processor, gpu))


def test_on_a_gpu_the_search_never_waits():
    """Fake tensors have no values: whatever asks for one, and so would wait, raises."""
    with FakeTensorMode():
        anchors, gt_boxes = torch.zeros(40_000, 4), torch.zeros(20, 4)
        found = fast._in_blocks(anchors, gt_boxes, None, 0.0, skip=False)
        assert [len(part) for part in found] == [40_000, 40_000, 20, 40_000]
        with pytest.raises(DynamicOutputShapeException):
            fast._in_blocks(anchors, gt_boxes, None, 0.0, skip=True)


def test_what_is_trusted_is_not_checked_again():
    anchors = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    flat = torch.tensor([[0.0, 5.0, 9.0, 5.0]])
    with pytest.raises(BoxError, match="height is zero"):
        fast.match_anchors(anchors, flat)
    assert fast.match_anchors(anchors, flat, trusted=True).iou.tolist() == [0]


def test_invalid_anchors_on_a_grid_are_nobodys_best():
    generate = AnchorGenerator([32, 64], strides=[16])
    anchors, grids = generate([(15, 20)])[0], generate.grids([(15, 20)])
    boxes = oracles.random_boxes(torch.Generator().manual_seed(4), 5, (240, 320))
    valid = inside_image(anchors, (240, 320))
    found = fast.match_anchors(anchors, boxes, valid=valid, grids=grids)
    assert (found.labels[~valid] == -1).all()
    assert_same(found, matching.match_anchors(anchors, boxes, valid=valid))


# Ranking


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(0, 70))
def test_of_equal_values_the_earlier_comes_first(values, k):
    expected = sorted(range(len(values)), key=lambda i: -values[i])[:k]
    best, index = top_k(torch.tensor(values, dtype=torch.float32), k)
    assert index.tolist() == expected
    assert best.tolist() == [values[i] for i in expected]


@pytest.mark.parametrize("k", [1, 99, 100, 101, 4999, 5001, 9_999, 10_000, 20_000])
@pytest.mark.parametrize("different", [1, 3, 1000, 10**9])
def test_many_ties_among_many_values(k, different):
    generator = torch.Generator().manual_seed(different)
    values = torch.randint(0, different, (10_000,), generator=generator).float()
    best, index = top_k(values, k)
    ranked = values.sort(descending=True, stable=True)
    assert torch.equal(best, ranked.values[:k])
    assert torch.equal(index, ranked.indices[:k])


@pytest.mark.parametrize("num_nan", [1, 10, 11, 500])
def test_not_a_number_counts_as_the_largest(num_nan):
    values = torch.linspace(0, 1, 1000)
    values[100 : 100 + num_nan] = torch.nan
    best, index = top_k(values, 10)
    ranked = values.sort(descending=True, stable=True)
    assert torch.equal(index, ranked.indices[:10])
    assert int(best.isnan().sum()) == min(num_nan, 10)


PLACE = torch.arange(60_000)
RANDOM = torch.rand(60_000, generator=torch.Generator().manual_seed(0))
SAMPLED = PLACE % ranking.SAMPLED == 0

# Values whose sample says little, or nothing, about the largest ones.
AWKWARD = {
    "random": RANDOM,
    "rising": PLACE.float(),
    "all equal": torch.zeros(60_000),
    "high where nothing is sampled": RANDOM + ~SAMPLED,
    "high where it is sampled": RANDOM + SAMPLED,
    "ties": (20 * RANDOM).floor(),
    "infinite": RANDOM.masked_fill(RANDOM > 0.9, torch.inf),
    "not a number": RANDOM.masked_fill(RANDOM < 0.001, torch.nan),
}


@pytest.mark.parametrize("k", [1, 20, 700, 2000, 20_000])
@pytest.mark.parametrize("values", AWKWARD.values(), ids=AWKWARD)
def test_a_sample_of_very_many_values_changes_nothing(values, k):
    best, index = top_k(values, k)
    ranked = values.sort(descending=True, stable=True)
    assert torch.equal(index, ranked.indices[:k])
    assert torch.equal(best.nan_to_num(7), ranked.values[:k].nan_to_num(7))


def test_of_very_many_values_only_the_high_ones_are_ranked():
    high = ranking._high_ones(AWKWARD["random"], 1000)
    assert 1000 <= len(high) < 4000
    assert ranking._high_ones(AWKWARD["all equal"], 1000) is None


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_not_a_number_comes_first_before_ties(k):
    values = torch.tensor([1.0, torch.nan, 1, 1, 0, 0, 0, 0, 0])
    assert top_k(values, k)[1].tolist() == [1, 0, 2, 3][:k]


def test_each_row_is_ranked_by_itself():
    values = torch.randint(0, 9, (3, 200), generator=torch.Generator().manual_seed(0))
    best, index = top_k(values, 20)
    for row in range(3):
        assert torch.equal(index[row], top_k(values[row], 20)[1])
        assert torch.equal(best[row], values[row][index[row]])


# NMS


@given(
    oracles.any_box_tensors(max_size=14),
    st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.7, 1.0]),
    st.integers(1, 5),
    st.integers(0, 14),
    st.randoms(use_true_random=False),
)
def test_nms_equals_the_plain_one(boxes, threshold, num_scores, limit, random):
    scores = torch.tensor([random.randrange(num_scores) / 8 for _ in boxes])
    plain = nms(boxes, scores, threshold)
    assert torch.equal(fast.nms(boxes, scores, threshold), plain)
    assert torch.equal(fast.nms(boxes, scores, threshold, limit), plain[:limit])


@pytest.mark.parametrize("block", [1, 2, 7])
def test_small_blocks_keep_the_same_boxes(monkeypatch, block):
    monkeypatch.setattr(blocks, "BLOCK", block)
    boxes = oracles.integer_boxes(torch.Generator().manual_seed(block), 40)
    scores = torch.arange(40.0)
    assert torch.equal(fast.nms(boxes, scores, 0.4), nms(boxes, scores, 0.4))


@pytest.mark.parametrize("block", [50, 256])
@pytest.mark.parametrize("spread", [60, 300])
def test_nms_of_many_boxes_equals_the_plain_one(monkeypatch, block, spread):
    monkeypatch.setattr(blocks, "BLOCK", block)
    generator = torch.Generator().manual_seed(spread)
    boxes = oracles.random_boxes(generator, 700, (spread, spread), smallest=20)
    scores = torch.randint(0, 50, (700,), generator=generator).float()
    for threshold in (0.3, 0.5, 0.7):
        plain = nms(boxes, scores, threshold)
        assert torch.equal(fast.nms(boxes, scores, threshold), plain)
        for limit in (1, 10, len(plain), 700):
            found = fast.nms(boxes, scores, threshold, limit)
            assert torch.equal(found, plain[:limit])


@pytest.mark.parametrize("limit", [1, 7, 40, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_levels_by_themselves_and_then_the_best_of_all(seed, limit):
    generator = torch.Generator().manual_seed(seed)
    boxes, scores, kept, start = [], [], [], 0
    for count in (150, 0, 60, 1):
        box = oracles.integer_boxes(generator, count)
        score = torch.randint(0, 30, (count,), generator=generator).float()
        kept.append(nms(box, score, 0.5) + start)
        start += count
        boxes.append(box)
        scores.append(score)
    kept, score = torch.cat(kept).sort().values, torch.cat(scores)
    expected = kept[score[kept].argsort(descending=True, stable=True)][:limit]
    assert torch.equal(fast.nms_by_level(boxes, scores, 0.5, limit), expected)


def test_a_chain_in_which_every_second_box_stays():
    """Each box overlaps the next: as many rounds as there are boxes."""
    left = torch.arange(300.0) * 4
    boxes = torch.stack([left, 0 * left, left + 10, 0 * left + 1], dim=1)
    scores = torch.arange(300.0, 0, -1)
    assert fast.nms(boxes, scores, 0.4).tolist() == list(range(0, 300, 2))


def test_boxes_that_are_not_numbers_are_treated_as_by_the_plain_one():
    boxes = oracles.random_boxes(torch.Generator().manual_seed(0), 30)
    boxes[[3, 8]] = torch.nan
    scores = torch.linspace(1, 0, 30)
    assert torch.equal(fast.nms(boxes, scores, 0.5), nms(boxes, scores, 0.5))


@given(st.floats(2.0**-100, 1))
def test_a_threshold_is_rounded_as_float32_is(number):
    assert blocks._in_float32(number) == torch.tensor(number).item()

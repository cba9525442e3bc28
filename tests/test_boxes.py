import oracles
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from rpn_lib.boxes import (
    box_area,
    box_intersection,
    box_iou,
    check_boxes,
    paired_iou,
)

UNIT = [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("box", "area"),
    [
        (UNIT, 1),
        ([2, 3, 6, 8], 20),
        ([-4, -2, 4, 2], 32),
        ([0.5, 0.25, 1.0, 0.75], 0.25),
        ([7, 7, 7, 9], 0),
    ],
)
def test_area_is_width_times_height(box, area):
    assert box_area(torch.tensor(box)) == area


def test_area_keeps_leading_dimensions():
    grid = torch.tensor([0.0, 0.0, 2.0, 5.0]).expand(3, 4, 9, 4)
    assert torch.equal(box_area(grid), torch.full((3, 4, 9), 10.0))


@pytest.mark.parametrize(
    ("other", "shared", "iou"),
    [
        ([0, 0, 4, 4], 16, 1),
        ([2, 0, 6, 4], 8, 8 / 24),
        ([2, 2, 6, 6], 4, 4 / 28),
        ([1, 1, 3, 2], 2, 2 / 16),
        ([4, 0, 8, 4], 0, 0),
        ([4, 4, 8, 8], 0, 0),
        ([9, 9, 10, 10], 0, 0),
        ([-1, 1, 5, 3], 8, 8 / 20),
    ],
    ids=["same", "half", "corner", "inside", "edge", "vertex", "apart", "cross"],
)
def test_intersection_and_iou_by_hand(other, shared, iou):
    box, other = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([other]).float()
    assert box_intersection(box, other).item() == shared
    assert box_iou(box, other).item() == pytest.approx(iou)


def test_every_pair_agrees_with_oracle_and_torchvision():
    generator = torch.Generator().manual_seed(0)
    a = oracles.random_boxes(generator, 60, (480, 640))
    b = oracles.random_boxes(generator, 40, (480, 640))
    iou = box_iou(a, b)
    assert iou.shape == (60, 40)
    expected = oracles.pairwise(oracles.iou, a.tolist(), b.tolist())
    torch.testing.assert_close(iou, torch.tensor(expected), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(iou, torchvision.ops.box_iou(a, b))
    expected = oracles.pairwise(oracles.intersection, a.tolist(), b.tolist())
    torch.testing.assert_close(
        box_intersection(a, b), torch.tensor(expected), atol=0.05, rtol=1e-5
    )
    torch.testing.assert_close(box_area(a), torchvision.ops.box_area(a))


@given(oracles.any_box_tensors(), oracles.any_box_tensors())
def test_iou_equals_the_oracle(a, b):
    expected = oracles.pairwise(oracles.iou, a.tolist(), b.tolist())
    expected = torch.tensor(expected).reshape(len(a), len(b))
    torch.testing.assert_close(box_iou(a, b), expected)


@given(oracles.any_box_tensors(), oracles.any_box_tensors())
def test_iou_is_symmetric_and_between_0_and_1(a, b):
    iou = box_iou(a, b)
    assert torch.equal(iou, box_iou(b, a).T)
    assert ((iou >= 0) & (iou <= 1)).all()  # NaN is neither


@given(oracles.box_tensors())
def test_iou_with_itself_is_1(boxes):
    assert torch.equal(box_iou(boxes, boxes).diagonal(), torch.ones(len(boxes)))


@given(
    oracles.any_box_tensors(),
    oracles.any_box_tensors(),
    st.integers(-1000, 1000),
    st.integers(-1000, 1000),
)
def test_iou_does_not_change_when_both_boxes_move(a, b, x, y):
    move = torch.tensor([x, y, x, y])
    assert torch.equal(box_iou(a + move, b + move), box_iou(a, b))


@given(oracles.box_tensors(), oracles.box_tensors(), st.sampled_from([0.5, 2, 8]))
def test_iou_does_not_change_when_both_boxes_grow(a, b, factor):
    assert torch.equal(box_iou(a * factor, b * factor), box_iou(a, b))


@given(oracles.any_box_tensors())
def test_no_boxes_give_an_empty_table(boxes):
    none = torch.zeros(0, 4)
    assert box_iou(none, boxes).shape == (0, len(boxes))
    assert box_iou(boxes, none).shape == (len(boxes), 0)
    assert box_intersection(none, none).shape == (0, 0)


def test_two_points_have_iou_0_where_torchvision_has_nan():
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert box_iou(point, point).item() == 0
    assert torchvision.ops.box_iou(point, point).isnan().all()


@pytest.mark.parametrize(
    "boxes",
    [[[10, 20, 50, 80]], torch.tensor([[10, 20, 50, 80]]), [[10.0, 20.0, 50.0, 80.0]]],
)
def test_check_boxes_gives_float32(boxes):
    checked = check_boxes(boxes, (100, 100))
    assert checked.dtype == torch.float32
    assert checked.tolist() == [[10, 20, 50, 80]]


def test_check_boxes_returns_good_boxes_unchanged():
    boxes = oracles.random_boxes(torch.Generator().manual_seed(1), 50, (30, 70))
    assert check_boxes(boxes, (30, 70)) is boxes


@pytest.mark.parametrize("nothing", [[], [[]], torch.zeros(0), torch.zeros(0, 4)])
def test_check_boxes_gives_shape_0_4_where_there_are_none(nothing):
    assert check_boxes(nothing, (10, 10)).shape == (0, 4)


def test_check_boxes_accepts_the_border_and_refuses_what_is_beyond():
    assert len(check_boxes([[0, 0, 20, 10]], (10, 20))) == 1
    for beyond in [-0.5, 0, 20, 10], [0, -0.5, 20, 10], [0, 0, 20.5, 10]:
        with pytest.raises(ValueError, match="reaches outside the image"):
            check_boxes([beyond], (10, 20))
    with pytest.raises(ValueError, match="20 wide and 10 high"):
        check_boxes([[0, 0, 10, 20]], (10, 20))


def test_check_boxes_without_image_size_leaves_borders_alone():
    assert len(check_boxes([[-5, -5, 1e6, 1e6]])) == 1


@given(oracles.any_box_tensors(min_size=1))
def test_check_boxes_refuses_exactly_the_boxes_without_area(boxes):
    flat = [i for i, box in enumerate(boxes.tolist()) if oracles.area(box) == 0]
    if not flat:
        assert torch.equal(check_boxes(boxes), boxes)
        return
    with pytest.raises(ValueError, match=rf"^boxes, box {flat[0]} \[.* is zero\."):
        check_boxes(boxes)


# Numbers that even bfloat16 and uint8 hold exactly.
SMALL = [[0, 0, 250, 200], [0, 0, 200, 200], [10, 20, 240, 100]]


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.uint8,
        torch.int16,
        torch.int32,
        torch.int64,
    ],
)
@pytest.mark.parametrize("function", [box_iou, box_intersection, paired_iou])
def test_any_type_of_number_is_computed_in_float32_or_better(dtype, function):
    boxes = torch.tensor(SMALL).to(dtype)
    assert torch.equal(boxes.double(), torch.tensor(SMALL).double())
    exact = function(boxes.double(), boxes.double().flip(0))
    found = function(boxes, boxes.flip(0))
    assert found.dtype == (dtype if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), exact, atol=0, rtol=1e-7)
    areas = box_area(boxes)
    assert areas.dtype == found.dtype
    assert areas.tolist() == [50_000, 40_000, 230 * 80]


def test_half_precision_does_not_overflow():
    boxes = torch.tensor([[0.0, 0, 300, 250], [0, 0, 240, 250]]).half()
    torch.testing.assert_close(box_iou(boxes[:1], boxes[1:]), torch.tensor([[0.8]]))


@given(oracles.any_box_tensors(0, 6), oracles.any_box_tensors(0, 6))
def test_paired_iou_is_the_diagonal_of_all_pairs(boxes1, boxes2):
    count = min(len(boxes1), len(boxes2))
    boxes1, boxes2 = boxes1[:count], boxes2[:count]
    pairs = paired_iou(boxes1, boxes2)
    assert torch.equal(pairs, box_iou(boxes1, boxes2).diagonal())

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from rpn_lib.anchors import anchor_grid, anchor_shapes
from rpn_lib.transforms import MAX_LOG_SCALE, decode, encode

ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 20.0]])


def random_pairs(seed, n=500, image_size=(800, 1344)):
    generator = torch.Generator().manual_seed(seed)
    boxes = oracles.random_boxes(generator, n, image_size, smallest=4)
    anchors = oracles.random_boxes(generator, n, image_size, smallest=4)
    return boxes, anchors


def oracle_rows(function, first, second, *args):
    rows = zip(first.tolist(), second.tolist())
    return torch.tensor([function(a, b, *args) for a, b in rows])


@pytest.mark.parametrize(
    ("delta", "box"),
    [
        ([0, 0, 0, 0], [0, 0, 10, 20]),
        ([0.5, 0, 0, 0], [5, 0, 15, 20]),
        ([0, 0.5, 0, 0], [0, 10, 10, 30]),
        ([-1, 1, 0, 0], [-10, 20, 0, 40]),
        ([0, 0, math.log(2), 0], [-5, 0, 15, 20]),
        ([0, 0, 0, math.log(0.5)], [0, 5, 10, 15]),
        ([0.5, -0.25, math.log(3), math.log(1.5)], [-5, -10, 25, 20]),
    ],
)
def test_both_directions_by_hand(delta, box):
    delta, box = torch.tensor([delta]), torch.tensor([box]).float()
    torch.testing.assert_close(decode(delta, ANCHOR), box)
    torch.testing.assert_close(encode(box, ANCHOR), delta.float())


def test_encode_equals_the_formula():
    boxes, anchors = random_pairs(0)
    expected = oracle_rows(oracles.encode, boxes, anchors)
    torch.testing.assert_close(encode(boxes, anchors), expected, atol=2e-5, rtol=2e-6)


def test_decode_equals_the_formula():
    _, anchors = random_pairs(1)
    deltas = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    expected = oracle_rows(oracles.decode, deltas, anchors)
    torch.testing.assert_close(decode(deltas, anchors), expected, atol=2e-4, rtol=2e-6)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5), (1, 2, 3, 4)])
def test_equal_to_torchvision(weights):
    boxes, anchors = random_pairs(2)
    coder = BoxCoder(weights)
    deltas = encode(boxes, anchors, weights)
    torch.testing.assert_close(
        deltas, coder.encode_single(boxes, anchors), atol=1e-3, rtol=1e-5
    )
    deltas = torch.randn(500, 4, generator=torch.Generator().manual_seed(2)) * 3
    torch.testing.assert_close(
        decode(deltas, anchors, weights),
        coder.decode_single(deltas, anchors),
        atol=5e-3,
        rtol=1e-6,
    )


def pairs_over_the_image(size):
    """For each anchor of a stride 32 grid over 800x1344, boxes with IoU >= 0.3."""
    shapes = anchor_shapes([size], [1, 2, 0.5])
    anchors = anchor_grid((25, 42), 32, shapes).reshape(-1, 4).repeat(4, 1)
    sides = (anchors[:, 2:] - anchors[:, :2]).repeat(1, 2)
    generator = torch.Generator().manual_seed(size)
    boxes = anchors + sides * (torch.rand(anchors.shape, generator=generator) - 0.5) / 2
    pairs = zip(boxes.tolist(), anchors.tolist())
    near = torch.tensor([oracles.iou(box, anchor) >= 0.3 for box, anchor in pairs])
    assert near.sum() > 10_000
    return boxes[near], anchors[near]


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_decode_inverts_encode_to_a_ten_thousandth_of_a_pixel(size):
    boxes, anchors = pairs_over_the_image(size)
    assert (decode(encode(boxes, anchors), anchors) - boxes).abs().max() <= 1e-4


def test_decode_inverts_encode_of_the_largest_anchors_to_the_last_bit_of_float32():
    boxes, anchors = pairs_over_the_image(512)
    last_bit = 2**-13  # the spacing of float32 between 1024 and 2048, 0.000122
    assert (decode(encode(boxes, anchors), anchors) - boxes).abs().max() <= last_bit


@pytest.mark.parametrize("size", [32, 512])
def test_encode_inverts_decode(size):
    boxes, anchors = pairs_over_the_image(size)
    deltas = encode(boxes, anchors)
    back = encode(decode(deltas, anchors), anchors)
    torch.testing.assert_close(back, deltas, atol=2e-5, rtol=0)


@given(oracles.box_tensors(1, 1), oracles.box_tensors(1, 1))
def test_round_trip_of_any_box_and_anchor(box, anchor):
    back = decode(encode(box, anchor), anchor)
    torch.testing.assert_close(back, box, atol=1e-4, rtol=0)


def test_weights_are_taken_out_again():
    boxes, anchors = random_pairs(4)
    weights = (10, 10, 5, 5)
    plain, weighted = encode(boxes, anchors), encode(boxes, anchors, weights)
    torch.testing.assert_close(weighted, plain * torch.tensor(weights))
    torch.testing.assert_close(
        decode(weighted, anchors, weights), decode(plain, anchors), atol=1e-3, rtol=0
    )


def test_deltas_of_zero_leave_the_anchors_exactly_as_they_are():
    _, anchors = random_pairs(5)
    assert torch.equal(decode(torch.zeros_like(anchors), anchors), anchors)


def test_other_deltas_move_every_coordinate():
    # A decoder that converts the anchors back in place of the result also passes the
    # test above.
    _, anchors = random_pairs(6)
    deltas = torch.tensor([[0.3, 0.2, 0.1, -0.2]]).expand_as(anchors)
    assert ((decode(deltas, anchors) - anchors).abs() > 0.1).all()


@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32))
def test_decoded_boxes_are_finite_and_no_side_is_negative(shift, growth):
    deltas = torch.tensor([[shift, -shift, growth, growth]])
    box = decode(deltas, ANCHOR)
    assert box.isfinite().all()
    # Far from the image the corners of a box without size round to their place, within
    # a bit of each other.
    assert (box[:, 2:] - box[:, :2] >= -(2**-5)).all()


def test_a_side_grows_at_most_by_1000_over_16():
    sides = decode(torch.tensor([[0.0, 0.0, 1e4, 1e4]]), ANCHOR)
    torch.testing.assert_close(
        sides[:, 2:] - sides[:, :2], torch.tensor([[625.0, 1250.0]])
    )
    assert pytest.approx(1000 / 16) == math.exp(MAX_LOG_SCALE)
    unclamped = decode(torch.tensor([[0.0, 0.0, 5.0, 5.0]]), ANCHOR, max_log_scale=6)
    torch.testing.assert_close(
        unclamped[0, 2] - unclamped[0, 0], torch.tensor(10 * math.exp(5))
    )


def test_clamped_growth_equals_torchvision():
    deltas = torch.tensor([[0.1, 0.2, 9.0, 5.0]])
    torch.testing.assert_close(
        decode(deltas, ANCHOR), BoxCoder((1, 1, 1, 1)).decode_single(deltas, ANCHOR)
    )


@given(
    oracles.box_tensors(1, 1),
    oracles.box_tensors(1, 1),
    st.sampled_from([0.25, 0.5, 2, 4, 32]),
)
def test_deltas_do_not_depend_on_scale(box, anchor, factor):
    assert torch.equal(encode(box * factor, anchor * factor), encode(box, anchor))


@given(oracles.box_tensors(1, 1), oracles.box_tensors(1, 1), st.integers(-9999, 9999))
def test_deltas_do_not_depend_on_place(box, anchor, move):
    assert torch.equal(encode(box + move, anchor + move), encode(box, anchor))


def test_gradient_of_decode_is_the_slope_of_the_formula():
    boxes, anchors = random_pairs(7, n=6, image_size=(60, 80))
    deltas = encode(boxes, anchors).requires_grad_()
    decode(deltas, anchors).square().sum().backward()

    def sum_of_squares(rows):
        decoded = [oracles.decode(t, a) for t, a in zip(rows, anchors.tolist())]
        return sum(value**2 for box in decoded for value in box)

    expected = torch.tensor(oracles.slope(sum_of_squares, deltas.tolist()))
    torch.testing.assert_close(deltas.grad, expected, atol=0.05, rtol=1e-4)


def test_gradient_of_encode_is_the_slope_of_the_formula():
    boxes, anchors = random_pairs(8, n=6, image_size=(60, 80))
    boxes.requires_grad_()
    encode(boxes, anchors).square().sum().backward()

    def sum_of_squares(rows):
        encoded = [oracles.encode(b, a) for b, a in zip(rows, anchors.tolist())]
        return sum(value**2 for delta in encoded for value in delta)

    expected = torch.tensor(oracles.slope(sum_of_squares, boxes.tolist()))
    torch.testing.assert_close(boxes.grad, expected, atol=1e-4, rtol=1e-3)


def test_gradient_stops_where_growth_is_clamped():
    deltas = torch.tensor([[0.0, 0.0, 9.0, 1.0]], requires_grad=True)
    decode(deltas, ANCHOR)[0, 2:].sum().backward()
    assert deltas.grad[0, 2] == 0
    assert deltas.grad[0, 3] > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_results_are_float32_where_the_network_computes_in_half_precision(dtype):
    boxes, anchors = random_pairs(9)
    deltas = encode(boxes, anchors).to(dtype)
    decoded = decode(deltas, anchors)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, decode(deltas.float(), anchors))
    assert encode(boxes.to(dtype), anchors.to(dtype)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_whole_numbers_are_computed_in_float32(dtype):
    boxes = torch.tensor([[0, 0, 250, 200], [10, 20, 240, 100]])
    anchors = torch.tensor([[0, 0, 200, 240], [200, 100, 250, 220]])
    exact = encode(boxes.double(), anchors.double())
    deltas = encode(boxes.to(dtype), anchors.to(dtype))
    assert deltas.dtype == torch.float32
    torch.testing.assert_close(deltas.double(), exact, atol=1e-6, rtol=1e-6)
    decoded = decode(deltas, anchors.to(dtype))
    torch.testing.assert_close(decoded, boxes.float(), atol=1e-4, rtol=0)


def test_float64_stays_float64():
    boxes, anchors = (x.double() for x in random_pairs(9))
    deltas = encode(boxes, anchors)
    assert deltas.dtype == torch.float64
    found = decode(deltas, anchors, max_log_scale=math.inf)
    torch.testing.assert_close(found, boxes, atol=1e-9, rtol=0)


def test_anchors_keep_their_places_beside_half_precision_deltas():
    # bfloat16 has 8 bits: 1001 is not among its numbers, and torchvision decodes in
    # the type of the deltas.
    anchor = torch.tensor([[1001.0, 1001.0, 1035.0, 1035.0]])
    deltas = torch.zeros(1, 4, dtype=torch.bfloat16)
    assert torch.equal(decode(deltas, anchor), anchor)
    theirs = BoxCoder((1, 1, 1, 1)).decode_single(deltas, anchor)
    assert (theirs.float() - anchor).abs().max() >= 1


def test_leading_dimensions_are_kept():
    boxes, anchors = random_pairs(10, n=24)
    grid = (2, 3, 4, 4)
    deltas = encode(boxes, anchors)
    assert torch.equal(
        encode(boxes.reshape(grid), anchors.reshape(grid)), deltas.reshape(grid)
    )
    assert torch.equal(
        decode(deltas.reshape(grid), anchors.reshape(grid)),
        decode(deltas, anchors).reshape(grid),
    )


def test_nothing_in_nothing_out():
    none = torch.zeros(0, 4)
    assert encode(none, none).shape == (0, 4)
    assert decode(none, none).shape == (0, 4)

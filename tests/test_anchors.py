import itertools
import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import AnchorGenerator as TheirGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert, clip_boxes_to_image

from rpn_lib.anchors import AnchorGenerator, anchor_grid, anchor_shapes, inside_image
from rpn_lib.boxes import box_area
from rpn_lib.head import RPNHead

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
RATIOS = [1, 2, 0.5]
positive = st.floats(0.125, 2000, width=32)


# The figures of the notebook that the book grew from: a 1024x1024 image, stride 32,
# scales 2, 4, 8 of a base box of side 32, aspect ratios 1, 2, 0.5.


@pytest.fixture
def nine_anchors():
    return anchor_grid((32, 32), 32, anchor_shapes([64, 128, 256], RATIOS))


def test_wide_anchor_at_the_first_cell():
    anchor = anchor_grid((32, 32), 32, anchor_shapes([128], [2]))[0, 0, 0]
    x, y, w, h = box_convert(anchor, "xyxy", "cxcywh").tolist()
    assert (x, y) == (16, 16)
    assert (w, h) == (pytest.approx(181.02, abs=0.005), pytest.approx(90.51, abs=0.005))


def test_nine_anchors_at_each_of_32x32_cells(nine_anchors):
    assert nine_anchors.shape == (32, 32, 9, 4)
    assert nine_anchors.dtype == torch.float32
    first = box_convert(nine_anchors[0, 0, 0], "xyxy", "xywh")
    assert first.tolist() == [-16, -16, 64, 64]


def test_clipped_anchors(nine_anchors):
    clipped = clip_boxes_to_image(nine_anchors.reshape(-1, 4), (1024, 1024))
    clipped = box_convert(clipped, "xyxy", "xywh").reshape(nine_anchors.shape)
    assert clipped[0, 0, 0].tolist() == [0, 0, 48, 48]
    assert clipped[1, 1, 0].tolist() == [16, 16, 64, 64]


def test_base_boxes_cover_every_pixel_once():
    base = anchor_grid((32, 32), 32, torch.tensor([[32.0, 32.0]])).reshape(-1, 4)
    assert box_convert(base[:1], "xyxy", "cxcywh").tolist() == [[16, 16, 32, 32]]
    covered = torch.zeros(1024, 1024, dtype=torch.int64)
    for x1, y1, x2, y2 in base.long().tolist():
        covered[y1:y2, x1:x2] += 1
    assert (covered == 1).all()
    assert box_area(base).sum() == 1024**2


# Shapes


def test_shapes_are_ordered_by_size_then_ratio():
    expected = [[w, h] for size in (10, 20) for w, h in oracles.shapes([size], RATIOS)]
    shapes = anchor_shapes([10, 20], RATIOS)
    torch.testing.assert_close(shapes, torch.tensor(expected))
    assert shapes[0].tolist() == [10, 10]
    assert shapes[3].tolist() == [20, 20]


@given(st.lists(positive, min_size=1, max_size=4), st.lists(positive, min_size=1))
def test_area_is_that_of_the_square_and_ratio_is_width_over_height(sizes, ratios):
    shapes = anchor_shapes(sizes, ratios).double()
    wanted = torch.tensor(list(itertools.product(sizes, ratios))).double()
    torch.testing.assert_close(shapes.prod(dim=1), wanted[:, 0] ** 2, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        shapes[:, 0] / shapes[:, 1], wanted[:, 1], rtol=1e-6, atol=0
    )


def test_ratio_2_is_wide():
    width, height = anchor_shapes([100], [2])[0]
    assert width > height


# Grids


def test_x_comes_from_the_column_and_y_from_the_row():
    # With row and column exchanged, a square grid of square boxes looks the same.
    grid = anchor_grid((2, 5), 16, torch.tensor([[4.0, 4.0]]))
    assert grid.shape == (2, 5, 1, 4)
    centres = box_convert(grid.reshape(-1, 4), "xyxy", "cxcywh")[:, :2].reshape(2, 5, 2)
    assert centres[0, :, 0].tolist() == [8, 24, 40, 56, 72]
    assert centres[:, 0, 1].tolist() == [8, 24]
    assert centres[1, 3].tolist() == [56, 24]


def test_strides_are_down_then_right():
    grid = anchor_grid((3, 2), (10, 100), torch.tensor([[2.0, 2.0]]))
    assert grid[2, 1, 0].tolist() == [149, 24, 151, 26]


@pytest.mark.parametrize(("offset", "centre"), [(0.5, (24, 8)), (0, (16, 0))])
def test_offset_places_the_centre_in_its_cell(offset, centre):
    x1, y1, x2, y2 = anchor_grid((1, 2), 16, torch.tensor([[6.0, 4.0]]), offset)[
        0, 1, 0
    ]
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == centre


def test_last_centre_of_an_image_that_the_stride_does_not_divide():
    # 375x500 at stride 16 is a map of 24x32. 500 // 32 is 15, and the last centre of
    # torchvision is (465, 345).
    last = anchor_grid((24, 32), 16, torch.tensor([[16.0, 16.0]]), offset=0)[-1, -1, 0]
    assert box_convert(last, "xyxy", "cxcywh").tolist() == [496, 368, 16, 16]
    theirs = TheirGenerator(((16,),), ((1.0,),))
    image = ImageList(torch.zeros(1, 3, 375, 500), [(375, 500)])
    last = theirs(image, [torch.zeros(1, 1, 24, 32)])[0][-1]
    assert box_convert(last, "xyxy", "cxcywh").tolist() == [465, 345, 16, 16]


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([1, 4, 16, 7.5]),
    st.sampled_from([2, 16, 12.25]),
    st.lists(st.tuples(positive, positive), min_size=1, max_size=4),
    st.sampled_from([0, 0.5, 0.25]),
)
def test_grid_equals_the_oracle(rows, columns, down, right, shapes, offset):
    grid = anchor_grid((rows, columns), (down, right), torch.tensor(shapes), offset)
    expected = oracles.anchors(rows, columns, down, right, shapes, offset)
    assert grid.shape == (rows, columns, len(shapes), 4)
    torch.testing.assert_close(grid.reshape(-1, 4), torch.tensor(expected))


def test_generator_equals_the_oracle():
    sizes = [32, 50]
    found = AnchorGenerator(sizes, RATIOS, strides=[16])([(5, 7)])[0]
    shapes = oracles.shapes(sizes, RATIOS)
    expected = torch.tensor(oracles.anchors(5, 7, 16, 16, shapes))
    torch.testing.assert_close(found, expected)


# The flat order


@pytest.mark.parametrize(
    ("row", "column", "anchor"), [(0, 0, 0), (2, 3, 4), (1, 0, 5), (3, 4, 1)]
)
def test_score_and_deltas_lie_at_the_index_of_their_anchor(row, column, anchor):
    shapes = anchor_shapes([32, 64], RATIOS)
    head = RPNHead(in_channels=1, num_anchors=6, hidden_channels=1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.window[0].weight[0, 0, 1, 1] = 1  # the window passes its centre on
        head.classifier[0].weight[anchor * 2 + 1] = 1
        head.regressor[0].weight[anchor * 4 + 2] = 1
        features = torch.zeros(1, 1, 4, 5)
        features[0, 0, row, column] = 1
        scores, deltas = head(features)
    scores, deltas = scores.reshape(-1, 2), deltas.reshape(-1, 4)
    index = (row * 5 + column) * 6 + anchor
    assert scores.nonzero().tolist() == [[index, 1]]
    assert deltas.nonzero().tolist() == [[index, 2]]
    box = AnchorGenerator([32, 64], RATIOS, strides=[16])([(4, 5)])[0][index]
    x, y, w, h = box_convert(box, "xyxy", "cxcywh").tolist()
    expected = (column * 16 + 8, row * 16 + 8, *shapes[anchor].tolist())
    assert (x, y, w, h) == pytest.approx(expected, rel=1e-6)


# torchvision


@pytest.mark.parametrize("levels", [1, 3])
def test_equal_to_torchvision_with_its_own_rounded_shapes(levels):
    sizes = ((32, 64, 100), (128, 200, 256), (333, 400, 512))[:levels]
    theirs = TheirGenerator(sizes, (((0.5, 1.0, 2.0)),) * levels)
    strides = [8, 16, 32][:levels]
    maps = [torch.zeros(1, 1, 96 // s, 160 // s) for s in strides]
    expected = theirs(ImageList(torch.zeros(1, 3, 96, 160), [(96, 160)]), maps)[0]
    shapes = [(cell[:, 2:] - cell[:, :2]).tolist() for cell in theirs.cell_anchors]
    ours = AnchorGenerator(shapes=shapes, strides=strides, offset=0)
    assert torch.equal(torch.cat(ours([m.shape[-2:] for m in maps])), expected)


def test_their_ratio_is_height_over_width_and_their_boxes_are_rounded():
    cell = TheirGenerator(((8,),), ((0.5,),)).cell_anchors[0]
    assert box_area(cell).item() == 72
    ours = anchor_shapes([8], [1 / 0.5])
    assert ours.prod().item() == pytest.approx(64)
    torch.testing.assert_close(cell[:, 2:] - cell[:, :2], ours, atol=1, rtol=0)


# Inside the image


def test_inside_image_by_hand():
    anchors = torch.tensor(
        [
            [0.0, 0, 20, 10],
            [-1, 0, 20, 10],
            [0, -2, 20, 10],
            [0, 0, 23, 10],
            [0, 0, 20, 14],
        ]
    )
    for margin, inside in [
        (0, [1, 0, 0, 0, 0]),
        (1, [1, 1, 0, 0, 0]),
        (2, [1, 1, 1, 0, 0]),
        (3, [1, 1, 1, 1, 0]),
        (4, [1, 1, 1, 1, 1]),
    ]:
        assert inside_image(anchors, (10, 20), margin).tolist() == inside


def test_inside_image_leaves_about_6000_anchors_of_the_image_of_the_paper():
    generate = AnchorGenerator([128, 256, 512], RATIOS, strides=[16])
    anchors = generate([(38, 63)])[0]
    assert 20_000 <= len(anchors) <= 22_000
    assert 5_000 <= inside_image(anchors, (600, 1000)).sum() <= 9_000


def test_anchors_inside_the_image_are_not_changed_by_clipping(nine_anchors):
    inside = nine_anchors[inside_image(nine_anchors, (1024, 1024))]
    assert len(inside) > 0
    assert torch.equal(clip_boxes_to_image(inside, (1024, 1024)), inside)


# Levels


def test_several_levels():
    generate = AnchorGenerator([[32, 40], [64, 80], [128, 160]], [1, 2], (8, 16, 32))
    assert generate.num_anchors == [4, 4, 4]
    grids = [(12, 20), (6, 10), (3, 5)]
    anchors = generate(grids)
    assert [len(level) for level in anchors] == [960, 240, 60]
    for level, size, stride, grid in zip(anchors, (32, 64, 128), (8, 16, 32), grids):
        expected = anchor_grid(grid, stride, anchor_shapes([size, size * 1.25], [1, 2]))
        assert torch.equal(level, expected.reshape(-1, 4))


def test_a_flat_list_of_sizes_is_one_level():
    flat, nested = AnchorGenerator([32, 64]), AnchorGenerator([[32, 64]])
    assert flat.num_anchors == nested.num_anchors == [6]
    assert torch.equal(flat([(2, 2)])[0], nested([(2, 2)])[0])


def test_levels_may_differ_in_their_shapes():
    generate = AnchorGenerator(shapes=[[(8, 16)], [(32, 32), (64, 16)]], strides=[4, 8])
    assert generate.num_anchors == [1, 2]
    small, large = generate([(1, 1), (1, 1)])
    assert small.tolist() == [[-2, -6, 6, 10]]
    assert large.tolist() == [[-12, -12, 20, 20], [-28, -4, 36, 12]]


# Cache


def test_the_same_grid_gives_the_same_tensor():
    generate = AnchorGenerator([32])
    first = generate([(4, 5)])[0]
    assert generate([(4, 5)])[0] is first
    assert generate([torch.Size([4, 5])])[0] is first
    assert generate([(5, 4)])[0] is not first


def test_levels_of_the_same_grid_are_not_confused():
    generate = AnchorGenerator([[32], [64]], [1], strides=[16, 16])
    small, large = generate([(2, 2), (2, 2)])
    assert box_area(small)[0] == 32**2
    assert box_area(large)[0] == 64**2


@pytest.mark.parametrize("device", DEVICES)
def test_anchors_lie_on_the_device_asked_for(device):
    generate = AnchorGenerator([32])
    on_cpu = generate([(2, 2)])[0]
    anchors = generate([(2, 2)], device)[0]
    assert anchors.device.type == device
    assert torch.equal(anchors.cpu(), on_cpu)
    assert (anchors is on_cpu) == (device == "cpu")


@pytest.mark.parametrize("levels", [1, 3])
def test_cache_forgets_the_size_that_was_not_used_for_longest(levels):
    generate = AnchorGenerator([[32]] * levels, strides=[16] * levels)
    first = [generate([(1, n)] * levels) for n in range(1, generate.cache_size + 1)]
    kept = generate([(1, 1)] * levels)
    assert all(again is before for again, before in zip(kept, first[0]))
    generate([(2, 2)] * levels)  # one more than fits: (1, 2) goes
    assert generate([(1, 1)] * levels)[0] is first[0][0]
    assert generate([(1, 2)] * levels)[0] is not first[1][0]


def test_cache_is_bounded():
    generate = AnchorGenerator([[8], [16]], strides=[4, 8])
    for n in range(1, 100):
        generate([(n, 1), (1, n)])
    assert len(generate._cache) <= 2 * generate.cache_size


def test_more_levels_than_the_cache_has_places():
    levels = AnchorGenerator.cache_size + 3
    generate = AnchorGenerator([[8]] * levels, [1], strides=[4] * levels)
    first = generate([(2, n + 1) for n in range(levels)])
    again = generate([(2, n + 1) for n in range(levels)])
    assert all(a is b for a, b in zip(first, again))


def test_repr_names_anchors_and_strides():
    assert repr(AnchorGenerator([32, 64])) == (
        "AnchorGenerator(num_anchors=[6], strides=(16,))"
    )


def test_by_default_not_a_fraction_of_a_pixel_may_reach_out():
    anchors = torch.tensor([[0.0, 0, 8, 8], [-0.5, 0, 8, 8], [0, 0, 8, 8.5]])
    assert inside_image(anchors, (8, 8)).tolist() == [True, False, False]


def test_defaults_of_the_generator():
    """Middle of the cell, ratios 1, 2 and 1/2, stride 16."""
    (anchors,) = AnchorGenerator([16])([(1, 1)])
    wide = 16 * math.sqrt(2)
    expected = torch.tensor([[16, 16], [wide, wide / 2], [wide / 2, wide]])
    torch.testing.assert_close(anchors[:, 2:] - anchors[:, :2], expected)
    centres = (anchors[:, 2:] + anchors[:, :2]) / 2
    torch.testing.assert_close(centres, torch.full((3, 2), 8.0))

"""Coverage: the best anchor of each object, what limits it, and shapes from data."""

import math

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rpn_lib.anchors import AnchorGenerator, anchor_shapes
from rpn_lib.coverage import coverage
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.matching import match_anchors
from rpn_lib.shapes import _lloyd, _spread, concentric_iou, suggest_shapes

NONE = torch.zeros(0, 4)
SQUARE_128 = AnchorGenerator([128], [1], strides=[128])


def boxes_of(*boxes):
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def boxes_with_sides(sides):
    """Boxes of these widths and heights at the origin."""
    return torch.cat([torch.zeros(len(sides), 2), torch.as_tensor(sides).float()], 1)


def generator_of(*levels, strides=(16,), offset=0.5):
    return AnchorGenerator(shapes=list(levels), strides=strides, offset=offset)


@pytest.fixture(scope="module")
def scenes():
    return [
        target["boxes"].as_subclass(Tensor)
        for _, target in (ShapesDataset(100)[i] for i in range(100))
    ]


# Worked out by hand


def test_a_small_object_within_a_large_anchor():
    result = coverage(SQUARE_128, [boxes_of([32, 32, 96, 96])], [(128, 128)])
    assert result.best_iou.tolist() == [0.25]
    assert result.shape_iou.tolist() == [0.25]
    assert result.best_anchor.tolist() == [[0, 0, 128, 128]]
    assert result.num_anchors.tolist() == [1]


def test_an_object_that_the_stride_misses():
    # Centre (24, 24), 8 right of the anchor centres 8 and 8 left of 40: 16 x 16 of
    # 24 x 24 pixels are shared at best.
    far = boxes_of([4, 4, 28, 28])  # centre (16, 16), between four cells
    result = coverage(generator_of([(24, 24)]), [far], [(64, 64)])
    assert result.best_iou.item() == pytest.approx(256 / (2 * 576 - 256))
    assert result.shape_iou.tolist() == [1]
    assert (result.recall(0.5), result.shape_recall(0.5)) == (0, 1)
    finer = coverage(generator_of([(24, 24)], strides=[8]), [far], [(64, 64)])
    assert finer.best_iou.item() == pytest.approx(400 / 752)


def test_image_and_object_numbers():
    boxes = boxes_of([0, 0, 8, 8], [8, 8, 16, 16])
    sizes = [(16, 16), (16, 32), (33, 16), (16, 16)]
    result = coverage(generator_of([(8, 8)]), [boxes, NONE, boxes[:1], boxes], sizes)
    assert result.image_index.tolist() == [0, 0, 2, 3, 3]
    assert result.object_index.tolist() == [0, 1, 0, 0, 1]
    assert torch.equal(result.boxes, torch.cat([boxes, boxes[:1], boxes]))
    assert result.num_anchors.tolist() == [1, 2, 3, 1]


def test_recall_counts_what_reaches_the_threshold():
    # Within a 128 x 128 anchor: IoU 1/4, 1/2, 3/4, 1.
    boxes = boxes_of(*([0, 0, 128, height] for height in (32, 64, 96, 128)))
    result = coverage(SQUARE_128, [boxes], [(128, 128)])
    assert result.best_iou.tolist() == [0.25, 0.5, 0.75, 1]
    assert [result.recall(iou) for iou in (0.25, 0.5, 0.7, 1)] == [1, 0.75, 0.5, 0.25]
    assert result.histogram(4).tolist() == [0, 1, 1, 2]
    assert result.histogram().tolist() == [0, 0, 1, 0, 0, 1, 0, 1, 0, 1]


def test_unreachable_objects_come_worst_first():
    boxes = boxes_of([0, 0, 128, 64], [0, 0, 128, 32], [0, 0, 32, 32])
    result = coverage(SQUARE_128, [NONE, boxes], [(128, 128), (128, 128)])
    worst, other = result.unreachable(0.5)
    assert worst == (1, 2, (0, 0, 32, 32), 1 / 16, 1 / 16, (128, 128))
    assert other == (1, 1, (0, 0, 128, 32), 0.25, 0.25, (128, 128))
    assert worst.anchor_shape == (128, 128)
    assert len(result.unreachable(0.6)) == 3
    assert result.unreachable(0.05) == []


def test_groups_by_size():
    # 31.9 is below 32; the size of a 16 x 64 box is 32, and 32 is not below 32.
    sides = torch.tensor([[31.9, 31.9], [16, 64], [95, 95], [96, 96], [200, 100]])
    result = coverage(SQUARE_128, [boxes_with_sides(sides)], [(256, 256)])
    small, medium, large = result.by_size()
    assert [len(group.boxes) for group in (small, medium, large)] == [1, 2, 2]
    assert large.object_index.tolist() == [3, 4]
    assert torch.equal(medium.best_iou, result.best_iou[1:3])
    assert torch.equal(medium.num_anchors, result.num_anchors)
    assert [len(group.boxes) for group in result.by_size([96])] == [3, 2]
    assert len(result.by_size([])[0].boxes) == 5


def test_table():
    boxes = boxes_of([0, 0, 128, 64], [32, 32, 64, 64], [64, 0, 192, 128])
    images = [boxes[:2], NONE, boxes[2:]]
    result = coverage(SQUARE_128, images, [(128, 128), (128, 128), (2560, 25600)])
    assert str(result) == result.table() == TABLE
    assert max(map(len, TABLE.splitlines())) < 80
    alone = result.table([]).splitlines()
    assert alone == [*TABLE.splitlines()[:3], *TABLE.splitlines()[-3:]]
    assert "below 10 " in result.table([10, 20.5])
    assert "10 to 20.5 " in result.table([10, 20.5])
    assert "20.5 and up " in result.table([10, 20.5])


TABLE = """\
3 objects in 3 images, 1 to 4,000 anchors an image
                                   IoU 0.5 or more           IoU 0.7 or more
size             objects   covered  shapes  stride   covered  shapes  stride
below 32               0         -       -       -         -       -       -
32 to 96               2       50%     50%      0%        0%    100%      0%
96 and up              1        0%      0%    100%        0%      0%    100%
all                    3       33%     33%     33%        0%     67%     33%
shapes: lost because no anchor has a shape that fits; stride: lost because an
anchor of such a shape is too far from the object."""


@pytest.mark.parametrize("images", [0, 2])
def test_no_objects(images):
    result = coverage(SQUARE_128, [NONE] * images, [(128, 300)] * images)
    assert math.isnan(result.recall(0.5))
    assert math.isnan(result.shape_recall(0.5))
    assert result.unreachable() == []
    assert result.histogram().tolist() == [0] * 10
    assert result.best_anchor.shape == (0, 4)
    assert [len(group.boxes) for group in result.by_size()] == [0, 0, 0]
    title = ["0 objects in 0 images", "0 objects in 2 images, 3 anchors an image"]
    assert str(result) == f"{title[images // 2]}\nThere is no object to cover."


def test_given_grids_take_the_place_of_computed_ones():
    box = [boxes_of([32, 0, 48, 16])]
    generator = generator_of([(16, 16)], [(64, 64)], strides=[16, 32])
    assert coverage(generator, box, [(16, 48)]).num_anchors.tolist() == [3 + 2]
    result = coverage(generator, box, [(16, 48)], grid_sizes=[[(1, 2), (1, 1)]])
    assert result.num_anchors.tolist() == [3]
    assert result.best_iou.tolist() == [0.25 * 0.25]  # 16 x 16 in 64 x 64
    assert result.best_anchor.tolist() == [[-16, -16, 48, 48]]


def test_concentric_iou_by_hand():
    a = torch.tensor([[64.0, 64], [10, 20]])
    b = torch.tensor([[128.0, 128], [64, 64], [20, 10]])
    expected = [[0.25, 1, 200 / 4096], [200 / 128**2, 200 / 4096, 1 / 3]]
    torch.testing.assert_close(concentric_iou(a, b), torch.tensor(expected))


# Against every anchor

GENERATORS = {
    "one level": generator_of([(24, 24), (10, 40), (64, 20)]),
    "corner": generator_of([(24, 24), (33, 7)], offset=0),
    "levels": generator_of(
        [(8, 8), (12, 6)], [(20, 20)], [(70, 50), (40, 90)], strides=[8, 13.5, 32]
    ),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_equal_to_plain_loops_over_every_anchor(name):
    generator = GENERATORS[name]
    random = torch.Generator().manual_seed(1)
    sizes = [(50, 70), (33, 100)]
    gt = [oracles.random_boxes(random, 5, size) for size in sizes]
    expected, bounds = [], []
    for (height, width), boxes in zip(sizes, gt):
        anchors = []
        for shapes, s in zip(generator.levels, generator.strides):
            grid = math.ceil(height / s), math.ceil(width / s)
            anchors += oracles.anchors(*grid, s, s, shapes.tolist(), generator.offset)
        expected += [
            max(oracles.iou(box, anchor) for anchor in anchors)
            for box in boxes.tolist()
        ]
        bounds += [
            max(
                oracles.iou(
                    [-w / 2, -h / 2, w / 2, h / 2], [-a / 2, -b / 2, a / 2, b / 2]
                )
                for a, b in torch.cat(generator.levels).tolist()
            )
            for w, h in (boxes[:, 2:] - boxes[:, :2]).tolist()
        ]
    result = coverage(generator, gt, sizes)
    torch.testing.assert_close(result.best_iou, torch.tensor(expected))
    torch.testing.assert_close(result.shape_iou, torch.tensor(bounds))


def best_by_matching(generator, gt, sizes):
    best, counts = [torch.zeros(0)], []
    for boxes, size in zip(gt, sizes):
        grids = [[math.ceil(x / s) for x in size] for s in generator.strides]
        anchors = torch.cat(generator(grids))
        counts.append(len(anchors))
        best.append(match_anchors(anchors, boxes).gt_best_iou)
    return torch.cat(best), counts


@given(
    gt=st.lists(oracles.box_tensors(), max_size=3),
    shapes=st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=4
    ),
    stride=st.sampled_from([1.5, 3, 8, 16, 50]),
    offset=st.sampled_from([0, 0.5, 0.25]),
)
def test_equal_to_matching(gt, shapes, stride, offset):
    # Corners and sides of whole numbers up to 24: many ties, and boxes at the borders.
    generator = generator_of(shapes, strides=[stride], offset=offset)
    sizes = [(48, 48 + i) for i in range(len(gt))]
    result = coverage(generator, gt, sizes)
    expected, counts = best_by_matching(generator, gt, sizes)
    torch.testing.assert_close(result.best_iou, expected, rtol=0, atol=1e-6)
    assert result.num_anchors.tolist() == counts
    for box, anchor, best in zip(result.boxes, result.best_anchor, result.best_iou):
        iou = oracles.iou(box.tolist(), anchor.tolist())
        assert iou == pytest.approx(best.item(), abs=1e-6)


def test_best_anchors_are_anchors(scenes):
    generator = AnchorGenerator([[16, 32], [64, 96]], strides=[8, 16])
    result = coverage(generator, scenes, [(192, 256)] * 100)
    every = set(map(tuple, torch.cat(generator([(24, 32), (12, 16)])).tolist()))
    assert set(map(tuple, result.best_anchor.tolist())) <= every


# Properties

SHAPES = st.lists(
    st.tuples(st.floats(1, 60, width=32), st.floats(1, 60, width=32)),
    min_size=1,
    max_size=4,
)


@given(gt=oracles.box_tensors(min_size=1), shapes=SHAPES, more=SHAPES)
@settings(max_examples=100)
def test_more_shapes_never_cover_less(gt, shapes, more):
    few = coverage(generator_of(shapes), [gt], [(48, 48)])
    many = coverage(generator_of([*shapes, *more]), [gt], [(48, 48)])
    assert (many.best_iou >= few.best_iou).all()
    assert (many.shape_iou >= few.shape_iou).all()


@given(
    gt=oracles.box_tensors(min_size=1),
    shapes=SHAPES,
    stride=st.floats(0.5, 60, width=32),
)
def test_no_anchor_does_better_than_its_shape(gt, shapes, stride):
    result = coverage(generator_of(shapes, strides=[stride]), [gt], [(48, 48)])
    assert (result.shape_iou >= result.best_iou).all()
    assert (result.shape_iou <= 1 + 1e-6).all()
    assert (result.best_iou > -1e-9).all()
    sides = gt[:, 2:] - gt[:, :2]
    bound = concentric_iou(sides, torch.tensor(shapes)).amax(dim=1)
    torch.testing.assert_close(result.shape_iou, bound, rtol=1e-5, atol=1e-5)


def test_a_fine_stride_reaches_the_limit_of_the_shapes(scenes):
    shapes = anchor_shapes([24, 48, 96], [1, 2, 0.5]).tolist()
    fine = coverage(generator_of(shapes, strides=[1]), scenes, [(192, 256)] * 100)
    assert (fine.shape_iou - fine.best_iou).max() < 0.05
    assert fine.num_anchors.tolist() == [192 * 256 * 9] * 100


# Suggested shapes


def test_clusters_recover_planted_shapes():
    planted = torch.tensor([[16.0, 16], [60, 20], [20, 90], [120, 100]])
    random = torch.Generator().manual_seed(0)
    noise = 1 + 0.1 * (torch.rand(4, 50, 2, generator=random) - 0.5)
    sides = (planted[:, None] * noise).flatten(0, 1)
    shapes = suggest_shapes([boxes_with_sides(sides)], 4)
    torch.testing.assert_close(shapes, planted, rtol=0.02, atol=0)
    means = (planted[:, None] * noise).mean(dim=1)
    torch.testing.assert_close(shapes, means)


def test_one_shape_is_the_mean():
    sides = torch.tensor([[10.0, 20], [20, 40], [60, 30]])
    shapes = suggest_shapes([boxes_with_sides(sides)], 1)
    assert shapes.dtype == torch.float32
    torch.testing.assert_close(shapes, torch.tensor([[30.0, 30]]))


def test_as_many_shapes_as_differ_are_the_shapes_themselves():
    sides = torch.tensor([[40.0, 30], [10, 20], [40, 30], [20, 10], [5, 5]])
    shapes = suggest_shapes([boxes_with_sides(sides)], 4)
    assert shapes[0].tolist() == [5, 5]
    assert sorted(shapes[1:3].tolist()) == [[10, 20], [20, 10]]
    assert shapes[3].tolist() == [40, 30]


def test_starts_are_spread_over_the_data():
    sides = torch.tensor([[10.0, 10]] * 999 + [[200, 100]]).double()
    for seed in range(20):
        start = _spread(sides, 2, torch.Generator().manual_seed(seed))
        assert sorted(start.tolist()) == [[10, 10], [200, 100]]


def test_a_shape_without_objects_starts_anew():
    sides = torch.tensor([[10.0, 10], [12, 10], [300, 100]]).double()
    start = torch.tensor([[11.0, 10], [5000, 5000]]).double()
    # No object is near the second shape.
    score, shapes = _lloyd(sides[:2], start)
    assert sorted(shapes.tolist()) == [[10, 10], [12, 10]]
    assert score == 1
    score, shapes = _lloyd(sides, torch.tensor([[100.0, 100], [1, 5000]]).double())
    assert sorted(shapes.tolist()) == [[11, 10], [300, 100]]
    assert score == pytest.approx((10 / 11 + 11 / 12 + 1) / 3)


@given(gt=oracles.box_tensors(min_size=1, max_size=8), count=st.integers(1, 8))
@settings(max_examples=100)
def test_any_data_gives_sorted_shapes_within_its_range(gt, count):
    sides = gt[:, 2:] - gt[:, :2]
    count = min(count, len(sides.unique(dim=0)))
    shapes = suggest_shapes(gt, count)
    assert shapes.shape == (count, 2)
    assert (shapes.prod(dim=1).diff() >= -1e-3).all()
    assert (shapes >= sides.amin(dim=0) - 1e-3).all()
    assert (shapes <= sides.amax(dim=0) + 1e-3).all()


def test_the_same_seed_gives_the_same_shapes_and_leaves_torch_alone(scenes):
    before = torch.random.get_rng_state()
    shapes = suggest_shapes(scenes, 9, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(suggest_shapes(scenes, 9, seed=3), shapes)
    assert torch.equal(suggest_shapes(torch.cat(scenes), 9, seed=3), shapes)
    assert not torch.equal(suggest_shapes(scenes, 9, seed=4, restarts=1), shapes)


def test_more_restarts_do_not_fit_worse(scenes):
    boxes = torch.cat(scenes)
    sides = boxes[:, 2:] - boxes[:, :2]

    def fit(restarts):
        shapes = suggest_shapes(boxes, 9, restarts=restarts)
        return concentric_iou(sides, shapes).amax(dim=1).mean()

    assert fit(1) <= fit(3) <= fit(10)


def test_suggested_shapes_cover_more_than_chosen_ones(scenes):
    def covered(shapes):
        result = coverage(generator_of(shapes), scenes, [(192, 256)] * 100)
        return result.recall(0.5), result.recall(0.7), result.shape_recall(0.7)

    # Sizes and ratios of small_rpn, 12 shapes: 0.793, 0.287, 0.697.
    chosen = covered(anchor_shapes([24, 40, 64, 96], [1, 2, 0.5]).tolist())
    assert chosen == pytest.approx((0.793, 0.287, 0.697), abs=0.001)
    # From the data nine: 0.815, 0.323, 0.897; twelve: 0.831, 0.367, 0.982.
    for count, gains in [(9, (0.01, 0.02, 0.15)), (12, (0.02, 0.05, 0.2))]:
        suggested = covered(suggest_shapes(scenes, count).tolist())
        for new, old, gain in zip(suggested, chosen, gains):
            assert new >= old + gain


def test_shapes_for_several_levels(scenes):
    levels = suggest_shapes(scenes, 6).reshape(2, -1, 2)
    generator = AnchorGenerator(shapes=levels.tolist(), strides=[8, 16])
    assert generator.num_anchors == [3, 3]
    assert levels[0].prod(dim=1).max() <= levels[1].prod(dim=1).min()


# Messages, in full

BOX = boxes_of([0, 0, 8, 8])
RESULT = coverage(SQUARE_128, [BOX], [(128, 128)])
RECALL_MESSAGE = "iou is {}; it must be above 0 and at most 1."
ORDER = "size_edges must be positive numbers in ascending order, not {}."

LENGTHS = (
    "image_sizes is for 1 image, {} for {}; give one entry per image. An image without "
    "objects has an empty (0, 4) tensor in gt_boxes."
)

MESSAGES = [
    (
        lambda: coverage(SQUARE_128, [BOX, BOX], [(9, 9)]),
        LENGTHS.format("gt_boxes", 2),
    ),
    (
        lambda: coverage(SQUARE_128, [BOX], [(9, 9)], names=["a", "b"]),
        LENGTHS.format("names", 2),
    ),
    (
        lambda: coverage(SQUARE_128, [BOX], [(9, 9)], grid_sizes=[]),
        LENGTHS.format("grid_sizes", 0),
    ),
    (
        lambda: coverage(SQUARE_128, [BOX, BOX], (192, 256)),
        "image 0: the image size is 192; it must be (height, width), both above 0.",
    ),
    (
        lambda: coverage(SQUARE_128, [BOX], [(0, 9)], names=["a.jpg"]),
        "image 0 (a.jpg): the image size is (0, 9); it must be (height, width), both "
        "above 0.",
    ),
    (
        lambda: coverage(SQUARE_128, [BOX], [(9, 9)], grid_sizes=[(1, 2)]),
        "image 0: the grid sizes are (1, 2); they must be (rows, columns), whole "
        "numbers of 1 or more, for each of 1 level.",
    ),
    (
        lambda: coverage(SQUARE_128, [BOX], [(9, 9)], grid_sizes=[[(1, 2.5)]]),
        "image 0: the grid sizes are [(1, 2.5)]; they must be (rows, columns), whole "
        "numbers of 1 or more, for each of 1 level.",
    ),
    (
        lambda: coverage(GENERATORS["levels"], [BOX], [(9, 9)], grid_sizes=[[(1, 0)]]),
        "image 0: the grid sizes are [(1, 0)]; they must be (rows, columns), whole "
        "numbers of 1 or more, for each of 3 levels.",
    ),
    (
        lambda: coverage(SQUARE_128, [NONE, BOX], [(9, 9), (9, 7)]),
        "image 1, box 0 [0, 0, 8, 8]: reaches outside the image, which is 7 wide and 9 "
        "high. Clip it with torchvision.ops.clip_boxes_to_image, or resize boxes and "
        "image together.",
    ),
    (
        lambda: coverage(SQUARE_128, [[[5, 1, 5, 9]]], [(9, 9)], names=["a.jpg"]),
        "image 0 (a.jpg), box 0 [5, 1, 5, 9]: width is zero. Drop the box; if its "
        "coordinates count pixels from 1 and include the last one, as in Pascal VOC, "
        "subtract 1 from x1 and y1.",
    ),
    (lambda: RESULT.recall(0), RECALL_MESSAGE.format(0)),
    (lambda: RESULT.shape_recall(50), RECALL_MESSAGE.format(50)),
    (lambda: RESULT.unreachable(math.nan), RECALL_MESSAGE.format("nan")),
    (lambda: RESULT.histogram(0), "num_bins is 0; it must be 1 or more."),
    (lambda: RESULT.by_size([96, 32]), ORDER.format([96, 32])),
    (lambda: RESULT.table([0, 32]), ORDER.format([0, 32])),
    (
        lambda: suggest_shapes([BOX], 0),
        "num_shapes=0 and restarts=10 must be 1 or more.",
    ),
    (
        lambda: suggest_shapes([BOX], 1, restarts=0),
        "num_shapes=1 and restarts=0 must be 1 or more.",
    ),
    (
        lambda: suggest_shapes([BOX, BOX + 1], 2),
        "num_shapes is 2, but the data has only 1 different shape, in 2 objects. Ask "
        "for 1 at most.",
    ),
    (
        lambda: suggest_shapes([NONE], 3),
        "num_shapes is 3, but there is no object to take a shape from.",
    ),
    (
        lambda: suggest_shapes([NONE, -BOX], 1),
        "image 1, box 0 [-0, -0, -8, -8]: x2 < x1. Boxes are (x1, y1, x2, y2); if "
        "these are (x, y, width, height), convert them with "
        'torchvision.ops.box_convert(boxes, "xywh", "xyxy").',
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_messages(call, message):
    settings = ("iou is", "num_bins", "size_edges", "num_shapes")
    of_boxes = not message.startswith(settings) or "no object" in message
    with pytest.raises(BoxError if of_boxes else SettingError) as error:
        call()
    assert str(error.value) == message

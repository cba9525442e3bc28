"""Recall and precision as COCO counts them."""

import contextlib
import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rpn_lib.errors import BoxError, SettingError
from rpn_lib.evaluation import (
    AREAS,
    IOU_THRESHOLDS,
    evaluate,
    find_ranks,
    found,
    recall,
)
from rpn_lib.figures.plots import (
    plot_recall_area,
    plot_recall_iou,
    plot_recall_proposals,
)
from rpn_lib.nms import Proposals
from rpn_lib.precision import average_precision

KS = (1, 2, 10, 100, 300, 1000)
NONE = torch.zeros(0, 4)
ONE = torch.tensor([[0.0, 0, 10, 10]])
# Ranges whose ends are areas of many boxes with small integer sides.
TINY = {"small": (0, 6), "medium": (6, 16), "large": (16, math.inf)}


# By hand


def test_one_proposal_never_counts_for_two_objects():
    gt = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    assert found(gt[:1], gt, [0.5]).tolist() == [[True, False]]
    assert found(gt[[0, 0]], gt, [0.5]).tolist() == [[True, True]]


def test_the_better_proposal_comes_first():
    """The first takes the object it overlaps most, and the second what is left."""
    gt = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6]])
    proposals = torch.tensor([[0.0, 0, 10, 7], [0, 0, 10, 6]])
    assert found(proposals, gt, [0.5]).tolist() == [[True, True]]
    assert found(proposals, gt, [0.8]).tolist() == [[False, True]]


def test_ranks_by_hand():
    gt = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    proposals = torch.tensor(
        [[60.0, 0, 70, 10], [20, 0, 30, 6], [0, 0, 10, 10], [20, 0, 30, 9]]
    )
    ranks = find_ranks(proposals, gt, [0.5, 0.8])
    assert ranks.tolist() == [[2, 1, math.inf], [2, 3, math.inf]]


def test_of_equal_overlaps_the_last_is_taken():
    gt = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    assert find_ranks(gt[:1], gt, [0.5]).tolist() == [[math.inf, 0]]


def test_average_recall_by_hand():
    """IoU 1, 0.72 and 0 with three objects: 10, 5 and 0 of the 10 thresholds."""
    gt = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    proposals = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 7.2]])
    result = recall([proposals], [gt])
    assert result.average == pytest.approx((10 + 5 + 0) / 30)
    assert result.at(0.5) == pytest.approx(2 / 3)
    assert result.at(0.75) == pytest.approx(1 / 3)
    assert result.num_gt == 3


def test_only_the_first_k_proposals_count():
    boxes = torch.cat([ONE + 50, ONE])
    proposals = [Proposals(boxes, torch.tensor([0.9, 0.8]))]
    assert recall(proposals, [ONE], k=1).average == 0
    assert recall(proposals, [ONE], k=2).average == 1


def test_images_without_objects_or_proposals():
    assert recall([ONE, NONE], [NONE, ONE]).average == 0
    assert recall([ONE, ONE], [NONE, ONE]).average == 1
    assert np.isnan(recall([ONE], [NONE]).average)
    assert np.isnan(recall([], []).average)
    assert evaluate([NONE], [ONE]).curve().tolist() == []
    assert evaluate([ONE], [NONE]).curve().isnan().tolist() == [True]


def test_objects_on_the_border_of_two_ranges_belong_to_both():
    gt = torch.tensor([[0.0, 0, 32, 32], [0, 0, 96, 96]])
    result = evaluate([gt], [gt])
    counts = {name: result.recall(area=name).num_gt for name in result.ranks}
    assert counts == {"all": 2, "small": 1, "medium": 2, "large": 1}


def test_crowds_are_no_objects():
    gt = torch.tensor([[0.0, 0, 10, 10], [20, 0, 90, 90]])
    result = evaluate([gt], [gt], crowd=[[False, True]])
    assert result.recall().num_gt == 1
    assert result.recall(area="medium").num_gt == 0
    assert np.isnan(result.recall(area="medium").average)


def test_the_curve_is_recall_for_every_k():
    proposals, gt, _ = random_case(0, images=5)
    result = evaluate(proposals, gt)
    assert len(result.curve()) == result.num_proposals
    for area in ("all", "small", "medium"):
        averages, at = result.curve(area), result.curve(area, iou=0.65)
        for k in range(1, result.num_proposals + 1):
            one = result.recall(k, area)
            assert float(averages[k - 1]) == pytest.approx(one.average, abs=1e-6)
            assert float(at[k - 1]) == pytest.approx(one.at(0.65), abs=1e-6)


def test_the_table_has_a_row_for_each_area():
    gt = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    result = evaluate([torch.cat([gt[:1], gt])], [gt], areas={"cells": (0, 200)})
    lines = str(result).splitlines()
    assert lines[0].startswith("images: 1, most proposals of one: 3; AR over IoU 0.5")
    assert lines[1].split() == ["objects", "@10", "@100", "@300", "@1000"]
    assert lines[2].split() == ["AR,", "all", "2", *["1.000"] * 4]
    assert lines[3].split() == ["AR,", "cells", "2", *["1.000"] * 4]
    assert lines[5].split() == ["recall,", "IoU", "0.75", "2", *["1.000"] * 4]
    assert repr(result) == str(result)
    assert "0.75" not in evaluate([gt], [gt], thresholds=[0.6]).table()


def test_gradients_and_half_precision_do_no_harm():
    boxes = ONE.clone().requires_grad_()
    assert recall([boxes], [ONE]).average == 1
    assert recall([ONE.half()], [ONE]).average == 1


FOUND = torch.tensor([[1.0, 0, 10, 9], [3, 0, 10, 9]])
SCORES = torch.tensor([0.75, 0.5])


@pytest.mark.parametrize(
    "given",
    [
        FOUND.numpy(),
        FOUND.tolist(),
        list(FOUND),
        {"boxes": FOUND},
        {"boxes": FOUND, "scores": SCORES, "labels": torch.tensor([1, 2])},
        {"boxes": FOUND.numpy(), "scores": SCORES.tolist()},
        Proposals(FOUND, SCORES),
    ],
)
def test_boxes_come_in_every_common_form(given):
    """Arrays, lists, and what the detectors of torchvision give."""
    plain = evaluate([FOUND, NONE], [ONE, ONE])
    for true in (ONE.numpy(), ONE.tolist(), {"boxes": ONE, "image_id": 7}):
        for nothing in ([], np.zeros((0, 4)), {"boxes": NONE, "scores": SCORES[:0]}):
            again = evaluate([given, nothing], [true, ONE])
            assert torch.equal(again.ranks["all"], plain.ranks["all"])
    if isinstance(given, dict) and "scores" in given:
        given, same = ([one] for one in (given, Proposals(FOUND, SCORES)))
        precision = average_precision(given, [ONE])["AP"]
        assert precision == average_precision(same, [ONE])["AP"] > 0


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int16],
)
def test_every_dtype_is_compared_in_float64(dtype):
    """Areas of 300 x 250 pixels are no float16, and 200 x 200 no uint8."""
    gt = torch.tensor([[0.0, 0, 250, 200], [0, 40, 200, 240]])
    boxes = torch.tensor([[0.0, 0, 240, 200], [0, 48, 200, 240]])
    exact = evaluate([boxes.double()], [gt.double()])
    ours = evaluate(
        [Proposals(boxes.to(dtype), SCORES.to(torch.float16))], [gt.to(dtype)]
    )
    for area, ranks in exact.ranks.items():
        assert torch.equal(ours.ranks[area], ranks)
    assert exact.recall().at(0.9) == 1


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([ONE], [ONE] * 2), "proposals of 1 images, true boxes of 2"),
        (([ONE] * 2, [ONE] * 2, [[0]]), "crowd flags of 1 images, true boxes of 2"),
        (([ONE] * 2, [ONE] * 2, [[0], []]), r"image 1: crowd flags of shape \(0,\)"),
        (([ONE, ONE[0]], [ONE] * 2), r"image 1: proposals of shape \(4,\)"),
        (([ONE, ONE * math.nan], [ONE] * 2), "image 1: proposals .* finite"),
        (([ONE], [ONE[:, [2, 1, 0, 3]]]), "image 0, true boxes, box 0 .*x2 < x1"),
        (([Proposals(ONE, torch.ones(2))], [ONE]), r"image 0: scores of shape \(2,\)"),
        (
            ([ONE, Proposals(ONE[[0, 0]], torch.tensor([0.1, 0.2]))], [ONE] * 2),
            "image 1: scores are not in descending order",
        ),
        (
            ([{"boxes": ONE, "scores": [math.nan]}], [ONE]),
            "image 0: the score of proposal 0 is NaN",
        ),
        (([{"box": ONE}], [ONE]), "image 0, .*without 'boxes'; it has box"),
        (([ONE], [{"bbox": ONE}]), "image 0, .*without 'boxes'; it has bbox"),
        ((["photo.jpg"], [ONE]), "image 0, proposals: a str cannot be read as boxes"),
        (([None], [ONE]), "image 0, proposals: a NoneType cannot be read as boxes"),
        (([[[1, 2], [3]]], [ONE]), "image 0, proposals: a list cannot be read as"),
        (([ONE], [None]), "image 0, true boxes: a NoneType cannot be read as boxes"),
        (
            ([{"boxes": ONE, "scores": "high"}], [ONE]),
            "image 0, scores: a str cannot be read",
        ),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(BoxError, match=message):
        evaluate(*arguments)


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.0], [1.01], [math.nan]])
def test_thresholds_out_of_range_are_refused(thresholds):
    for use in (
        lambda: found(ONE, ONE, thresholds),
        lambda: recall([ONE], [ONE], thresholds=thresholds),
        lambda: evaluate([], [], thresholds=thresholds),
    ):
        with pytest.raises(SettingError, match="must be IoUs above 0 and up to 1"):
            use()


def test_settings_out_of_range_are_refused():
    result = evaluate([ONE], [ONE])
    for use in (
        lambda: recall([ONE], [ONE], k=0),
        lambda: result.recall(k=0),
        lambda: result.table(ks=[10, -1]),
        lambda: average_precision([], [], k=0),
        lambda: plot_recall_iou({"a": result}, k=0),
    ):
        with pytest.raises(SettingError, match="k of 1 or more"):
            use()
    with pytest.raises(SettingError, match="area 'tiny' is none of all, small, medium"):
        result.recall(area="tiny")
    with pytest.raises(SettingError, match="area 'odd': 5 to 2 is no range"):
        evaluate([ONE], [ONE], areas={"odd": (5, 2)})
    with pytest.raises(SettingError, match=r"IoU 0\.52 is none of the thresholds"):
        result.curve(iou=0.52)
    with pytest.raises(SettingError, match=r"IoU 0\.52 is none of the thresholds"):
        result.recall().at(0.52)


# Equal to pycocotools


def test_thresholds_are_those_of_pycocotools():
    np.testing.assert_allclose(COCOeval().params.iouThrs, IOU_THRESHOLDS, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_recall_equals_pycocotools(seed):
    proposals, gts, crowd = random_case(seed, images=6)
    assert_equal_to_coco(proposals, gts, crowd if seed % 2 else None)
    theirs = coco(proposals, gts)["recall"][:, 0, 0]
    for i, k in enumerate(KS):
        ours = recall(proposals, gts, k).recalls.double()
        np.testing.assert_allclose(ours, theirs[:, i], rtol=0, atol=1e-6)


def test_a_thousand_proposals_equal_pycocotools():
    generator = torch.Generator().manual_seed(0)
    gts = [random_boxes(generator, 5) for _ in range(2)]
    proposals = []
    for gt in gts:
        near = gt.repeat(60, 1) + torch.randn(300, 4, generator=generator) * 6
        boxes = torch.cat([near, random_boxes(generator, 900)])
        boxes = boxes[torch.randperm(1200, generator=generator)]
        proposals.append(Proposals(boxes, torch.linspace(1, 0, 1200)))
    result = assert_equal_to_coco(proposals, gts)
    averages = [result.recall(k).average for k in KS]
    assert averages == sorted(set(averages))  # each k finds more


@st.composite
def small_images(draw):
    """Boxes on a coarse grid: equal boxes, equal IoUs, equal scores, IoU at thresholds.

    True boxes have an area; proposals may have none.
    """

    def boxes(least, most):
        side = st.integers(least, 6)
        box = st.tuples(st.integers(0, 2), st.integers(0, 2), side, side)
        rows = draw(st.lists(box, max_size=most))
        rows = [[x, y, x + w, y + h] for x, y, w, h in rows]
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)

    proposals, gts, crowd = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        gt, boxes_ = boxes(1, 5), boxes(0, 8)
        number = {"min_size": len(boxes_), "max_size": len(boxes_)}
        scores = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), **number))
        scores = torch.tensor(sorted(scores, reverse=True))
        flags = draw(st.lists(st.booleans(), min_size=len(gt), max_size=len(gt)))
        proposals.append(Proposals(boxes_, scores))
        gts.append(gt)
        crowd.append(torch.tensor(flags, dtype=torch.bool))
    return proposals, gts, crowd


@given(small_images())
def test_ties_and_degenerate_boxes_equal_pycocotools(case):
    assert_equal_to_coco(*case, areas=TINY)


@pytest.mark.parametrize("crowd", [[[False]], [[True]]])
@pytest.mark.parametrize("gt", [NONE, ONE])
@pytest.mark.parametrize("boxes", [NONE, ONE, ONE[[0, 0, 0]], ONE[:, [0, 1, 0, 1]]])
def test_next_to_nothing_equals_pycocotools(boxes, gt, crowd):
    scores = torch.ones(len(boxes))
    assert_equal_to_coco([Proposals(boxes, scores)], [gt], [crowd[0][: len(gt)]])


def test_threshold_one_equals_pycocotools():
    gt = torch.tensor([[0.1, 0.2, 10.3, 10.7], [30, 30, 40.1, 40.7]])
    proposals = [Proposals(gt + torch.tensor([[0.0], [1e-3]]), torch.ones(2))]
    result = assert_equal_to_coco(proposals, [gt], thresholds=[0.9, 1.0])
    assert result.recall().recalls.tolist() == [1, 0.5]


@pytest.mark.parametrize("threshold", IOU_THRESHOLDS)
@pytest.mark.parametrize("gap", [0, 2**-22])
def test_overlap_of_a_threshold_exactly_or_a_little_less(threshold, gap):
    """Found where IoU equals the threshold; 2^-22 pixels less, and it is not."""
    gt = torch.tensor([[0.0, 0, 10, 20], [50, 0, 60, 20]])
    boxes = torch.tensor([[0.0, gap, 10, round(20 * threshold)]])
    proposals = [Proposals(boxes, torch.ones(1))]
    result = assert_equal_to_coco(proposals, [gt])
    assert result.recall().at(threshold) == (0 if gap else 0.5)
    assert_equal_precision(proposals, [gt], None, 100)


# Average precision


@pytest.mark.parametrize("k", [1, 10, 100, 150])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_pycocotools(seed, k):
    proposals, gts, crowd = random_case(seed, images=4, noise=130 if k > 100 else 20)
    crowd = crowd if seed % 2 else None
    assert_equal_precision(proposals, gts, crowd, k)


def test_average_precision_at_exact_thresholds():
    """IoU 0.55 is found at 0.55; recall of exactly 0.1 counts for 0.1."""
    gt = torch.cat([ONE + 20 * i for i in range(10)])
    boxes = torch.tensor([[0.0, 0, 10, 5.5]])
    ours = assert_equal_precision([Proposals(boxes, torch.ones(1))], [gt], None, 100)
    assert ours["AP50"] == pytest.approx(11 / 101)
    assert ours["AP"] == pytest.approx(2 / 10 * 11 / 101)


def test_a_proposal_in_a_crowd_is_not_wrong():
    """By its own area: it covers a hundredth of the crowd."""
    gt = torch.tensor([[0.0, 0, 10, 10], [100, 100, 200, 200]])
    boxes = torch.tensor([[150.0, 150, 160, 160], [0, 0, 10, 10]])
    proposals = [Proposals(boxes, torch.tensor([0.9, 0.8]))]
    crowd = [[False, True]]
    assert average_precision(proposals, [gt], crowd)["AP"] == pytest.approx(1)
    assert average_precision(proposals, [gt[:1]])["AP"] == pytest.approx(0.5)
    assert_equal_precision(proposals, [gt], crowd, 100)


def test_average_precision_of_nothing():
    empty, one = Proposals(NONE, torch.zeros(0)), Proposals(ONE, torch.ones(1))
    assert average_precision([empty], [ONE])["AP"] == 0
    for proposals, gts in (([], []), ([empty], [NONE]), ([one], [NONE])):
        assert np.isnan(list(average_precision(proposals, gts).values())).all()
    assert np.isnan(average_precision([one], [ONE], [[True]])["AP"])
    with pytest.raises(BoxError, match="image 1: precision needs Proposals"):
        average_precision([one, ONE], [ONE] * 2)


# Plots


@pytest.fixture
def results():
    proposals, gts, _ = random_case(1, images=4)
    worse = [Proposals(one.boxes + 3, one.scores) for one in proposals[:4]]
    yield {"good": evaluate(proposals, gts), "worse": evaluate(worse, gts)}
    plt.close("all")


def test_plot_of_recall_against_iou(results):
    ax = plot_recall_iou(results, k=10)
    assert legend_of(ax) == ["good", "worse"]
    for line, result in zip(ax.lines, results.values()):
        assert tuple(line.get_xdata()) == IOU_THRESHOLDS
        assert line.get_ydata().tolist() == result.recall(10).recalls.tolist()
    assert "10 proposals" in ax.get_ylabel()


def test_plot_of_recall_against_the_number_of_proposals(results):
    _, given = plt.subplots()
    ax = plot_recall_proposals(results, ax=given)
    assert ax is given
    assert ax.get_xscale() == "log"
    assert legend_of(ax) == ["good", "worse"]
    for line, result in zip(ax.lines, results.values()):
        assert line.get_xdata().tolist() == list(range(1, result.num_proposals + 1))
        assert line.get_ydata()[9] == pytest.approx(result.recall(10).average, abs=1e-6)
    ax = plot_recall_proposals(results, iou=0.75, area="medium")
    assert ax.get_ylabel() == "recall at IoU 0.75, medium objects"
    at = results["good"].recall(20, "medium").at(0.75)
    assert ax.lines[0].get_ydata()[19] == pytest.approx(at, abs=1e-6)


def test_plot_of_recall_by_area(results):
    ax = plot_recall_area(results, k=20)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["all", *AREAS]
    assert legend_of(ax) == ["good", "worse"]
    for bars, result in zip(ax.containers, results.values()):
        values = [result.recall(20, area).average for area in result.ranks]
        heights = [bar.get_height() for bar in bars]
        assert heights == [0 if np.isnan(value) else value for value in values]
    assert "–" in [text.get_text() for text in ax.texts]  # there is no large object
    centres = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    assert (centres[0] + centres[4]) / 2 == pytest.approx(0)
    other = evaluate([ONE], [ONE], areas={"cells": (0, 200)})
    with pytest.raises(
        SettingError, match="'other' has the areas all, cells, others have"
    ):
        plot_recall_area({**results, "other": other})


def test_plots_differ_in_more_than_colour(results):
    many = {str(i): results["good"] for i in range(6)}
    lines = plot_recall_iou(many).lines
    assert len({to_hex(line.get_color()) for line in lines}) == 6
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 6
    bars = plot_recall_area(dict(list(many.items())[:5])).containers
    assert len({group[0].get_hatch() for group in bars}) == 5
    for plot in (plot_recall_iou, plot_recall_proposals, plot_recall_area):
        with pytest.raises(SettingError, match="No results to plot"):
            plot({})


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Cases, and the reference implementation


def random_boxes(generator, count):
    corner = torch.rand(count, 2, generator=generator) * 100
    sides = 5 + torch.rand(count, 2, generator=generator) * 50
    return torch.cat([corner, corner + sides], dim=1)


def random_case(seed, images, noise=20):
    """Proposals around true boxes and elsewhere, some equal; some true boxes crowds."""
    generator = torch.Generator().manual_seed(seed)
    proposals, gts, crowd = [], [], []
    for _ in range(images):
        gt = random_boxes(generator, int(torch.randint(0, 7, (), generator=generator)))
        near = gt.repeat(3, 1) + torch.randn(3 * len(gt), 4, generator=generator) * 4
        near = torch.cat([near[:, :2], torch.maximum(near[:, 2:], near[:, :2] + 1)], 1)
        mixed = torch.cat([near, random_boxes(generator, noise), gt[:1], gt[:1]])
        mixed = mixed[torch.randperm(len(mixed), generator=generator)]
        scores = torch.randint(0, 50, (len(mixed),), generator=generator) / 50
        proposals.append(Proposals(mixed, scores.sort(descending=True).values))
        gts.append(gt)
        crowd.append(torch.rand(len(gt), generator=generator) < 0.3)
    return proposals, gts, crowd


def assert_equal_to_coco(
    proposals, gts, crowd=None, areas=AREAS, thresholds=IOU_THRESHOLDS
):
    result = evaluate(proposals, gts, crowd, areas=areas, thresholds=thresholds)
    reference = coco(proposals, gts, crowd, areas=areas, thresholds=thresholds)
    for a, area in enumerate(["all", *areas]):
        for i, k in enumerate(KS):
            theirs = reference["recall"][:, 0, a, i]
            theirs = np.where(theirs == -1, np.nan, theirs)
            ours = result.recall(k, area).recalls.double()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    return result


def assert_equal_precision(proposals, gts, crowd, k):
    ours = average_precision(proposals, gts, crowd, k)
    precision = coco(proposals, gts, crowd, ks=[k])["precision"][:, :, 0, :, 0]
    parts = [precision[..., 0], precision[0, :, 0], precision[5, :, 0]]
    theirs = [part.mean() for part in parts + [precision[..., a] for a in (1, 2, 3)]]
    theirs = [np.nan if value == -1 else value for value in theirs]
    np.testing.assert_allclose(list(ours.values()), theirs, rtol=0, atol=1e-6)
    return ours


def coco(proposals, gts, crowd=None, ks=KS, areas=AREAS, thresholds=IOU_THRESHOLDS):
    """`recall` (T, 1, areas, ks) and `precision` (T, 101, 1, areas, ks), -1: none."""
    flags = crowd or [[False] * len(gt) for gt in gts]
    true = [
        {**annotation(i, box), "iscrowd": int(flag)}
        for i, gt in enumerate(gts)
        for box, flag in zip(gt, flags[i])
    ]
    detected = [
        {**annotation(i, box), "score": float(score), "iscrowd": 0}
        for i, one in enumerate(proposals)
        for box, score in zip(*one)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            coco_object(true, len(gts)), coco_object(detected, len(gts)), "bbox"
        )
        evaluation.params.maxDets = list(ks)
        evaluation.params.areaRng = [[0, 1e10]] + [
            [low, min(high, 1e10)] for low, high in areas.values()
        ]
        evaluation.params.areaRngLbl = ["all", *areas]
        if thresholds is not IOU_THRESHOLDS:  # COCO has its own, 0.8999999999999999
            evaluation.params.iouThrs = np.array(thresholds)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


def coco_object(annotations, num_images):
    made = COCO()
    made.dataset = {
        "images": [{"id": i} for i in range(num_images)],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": number, **one} for number, one in enumerate(annotations, start=1)
        ],
    }
    made.createIndex()
    return made


def annotation(image, box):
    x1, y1, x2, y2 = box.double().tolist()
    sides = (x2 - x1, y2 - y1)
    return {
        "image_id": image,
        "category_id": 1,
        "bbox": [x1, y1, *sides],
        "area": sides[0] * sides[1],
    }

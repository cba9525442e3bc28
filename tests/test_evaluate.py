"""Recall as COCO counts it."""

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rpn_lib.boxes import BoxError
from rpn_lib.evaluate import found, recall
from rpn_lib.nms import Proposals


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
    gt = torch.tensor([[0.0, 0, 10, 10]])
    proposals = Proposals(torch.tensor([[50.0, 0, 60, 10], [0, 0, 10, 10]]), None)
    assert recall([proposals], [gt], k=1).average == 0
    assert recall([proposals], [gt], k=2).average == 1


def test_images_without_objects_or_proposals():
    none, one = torch.zeros(0, 4), torch.tensor([[0.0, 0, 10, 10]])
    assert recall([one, none], [none, one]).average == 0
    assert recall([one, one], [none, one]).average == 1
    assert np.isnan(recall([one], [none]).average)


def test_lists_of_different_length_are_refused():
    with pytest.raises(BoxError, match="proposals of 1 images, true boxes of 2, k=100"):
        recall([torch.zeros(0, 4)], [torch.zeros(0, 4)] * 2)
    with pytest.raises(BoxError, match="k of 1 or more"):
        recall([], [], k=0)


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("seed", range(4))
def test_recall_equals_pycocotools(k, seed):
    generator = torch.Generator().manual_seed(seed)
    gts, proposals = [], []
    for _ in range(6):
        gt = random_boxes(generator, int(torch.randint(0, 7, (), generator=generator)))
        noise = torch.randn(3 * len(gt), 4, generator=generator) * 4
        near = gt.repeat(3, 1) + noise
        near = torch.cat([near[:, :2], torch.maximum(near[:, 2:], near[:, :2] + 1)], 1)
        mixed = torch.cat([near, random_boxes(generator, 20), gt[:1]])
        proposals.append(mixed[torch.randperm(len(mixed), generator=generator)])
        gts.append(gt)
    ours = recall(proposals, gts, k)
    theirs = coco_recalls(proposals, gts, k)
    torch.testing.assert_close(ours.recalls.double(), theirs, rtol=0, atol=1e-6)


def random_boxes(generator, count):
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat(
        [corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40], dim=1
    )


def coco_recalls(proposals, gts, k):
    """Recall at each threshold, by the reference implementation."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(gts))],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "image_id": i,
                "category_id": 1,
                "bbox": xywh(box),
                "area": float((box[2] - box[0]) * (box[3] - box[1])),
                "iscrowd": 0,
            }
            for i, boxes in enumerate(gts)
            for box in boxes
        ],
    }
    for number, annotation in enumerate(coco.dataset["annotations"], start=1):
        annotation["id"] = number
    detections = [
        {"image_id": i, "category_id": 1, "bbox": xywh(box), "score": 1 - rank / 1000}
        for i, boxes in enumerate(proposals)
        for rank, box in enumerate(boxes)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.params.maxDets = [k]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return torch.from_numpy(evaluation.eval["recall"][:, 0, 0, 0])


def xywh(box):
    x1, y1, x2, y2 = box.double().tolist()
    return [x1, y1, x2 - x1, y2 - y1]

"""Labels, samples, proposals and losses for fixed seeds, as they have been before.

The values in `unchanged.json` were computed by the library before its parts were moved
and made faster (commit 2325f46). Whatever is counted or chosen must be the same to the
last anchor: boxes are whole numbers and scores are all different, so that no processor
rounds them another way. What is computed may differ in the last digits.

    python tests/test_unchanged.py > tests/unchanged.json    # after a wanted change
"""

import hashlib
import json
import sys
from pathlib import Path

import oracles
import pytest
import torch

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.matching import MatchRule, match_anchors
from rpn_lib.models import small_rpn
from rpn_lib.nms import ProposalSelector, nms
from rpn_lib.sampling import SampleRule, sample_anchors
from rpn_lib.transforms import encode

SHAPES = [[[32, 32], [44, 22], [22, 44]], [[64, 64], [90, 46], [46, 90]]]
STORED = Path(__file__).with_name("unchanged.json")


def digest(*tensors):
    """Of whole numbers, or of what arithmetic on whole numbers gives exactly."""
    text = hashlib.sha256()
    for tensor in tensors:
        text.update(tensor.cpu().contiguous().numpy().tobytes())
    return text.hexdigest()[:16]


def whole_boxes(generator, count, size=(240, 320)):
    return oracles.random_boxes(generator, count, size, smallest=8).round()


def matching(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.cat(
        AnchorGenerator(shapes=SHAPES, strides=[8, 16])([(30, 40), (15, 20)])
    )
    settings = [
        {},
        {"rule": MatchRule(0.5, 0.5, best_anchor=False)},
        {"rule": MatchRule(min_best_iou=0.3, min_num_positives=60)},
        {"valid": torch.rand(len(anchors), generator=generator) < 0.7},
        {"ignore_boxes": whole_boxes(generator, 3)},
    ]
    found = {}
    for i, chosen in enumerate(settings):
        gt_boxes = whole_boxes(generator, 1 + 3 * seed)
        classes = torch.randint(1, 9, (len(gt_boxes),), generator=generator)
        matches = match_anchors(anchors, gt_boxes, gt_labels=classes, **chosen)
        samples = sample_anchors(matches.labels, SampleRule(64), generator)
        found[f"labels {i}"] = digest(matches.labels, matches.gt_index)
        found[f"iou {i}"] = digest(matches.iou, matches.gt_best_iou)
        found[f"samples {i}"] = digest(*samples)
    return found


def level(generator, count):
    """Anchors, different logits, and deltas that move them by whole pixels."""
    anchors = whole_boxes(generator, count)
    logits = (torch.randperm(count, generator=generator) - count / 2) / (count / 4)
    moved = whole_boxes(generator, count)
    return logits, encode(moved, anchors), anchors


def proposals(seed):
    generator = torch.Generator().manual_seed(seed)
    levels = [level(generator, count) for count in (400, 150)]
    # Scores of the levels lie between each other.
    levels[1] = (levels[1][0] + 0.003, *levels[1][1:])
    found = {}
    for i, settings in enumerate(
        [
            {},
            {"pre_nms_top_k": 90, "post_nms_top_k": 12, "iou_threshold": 0.45},
            {"score_threshold": 0.7, "min_size": 40.5, "iou_threshold": 0.35},
        ]
    ):
        chosen = ProposalSelector(**settings)(*zip(*levels), (240, 320))
        found[f"boxes {i}"] = digest(chosen.boxes.round().int())
        found[f"scores {i}"] = [float(x) for x in chosen.scores[:5]]
    boxes = whole_boxes(generator, 300)
    kept = nms(boxes, levels[0][0][:300], 0.45)
    found["nms"] = digest(kept)
    return found


def even_weights(module):
    """Weights that are the same on every processor: no normal deviates."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            spread = 2 / max(parameter[0].numel(), 16) ** 0.5
            draw = torch.rand(parameter.shape, generator=generator)
            parameter.copy_((draw - 0.5) * spread)


def losses(seed):
    found = {}
    for border in ("keep", "drop", "clip"):
        rpn = small_rpn(border=border)
        drawing = torch.Generator().manual_seed(seed)
        even_weights(rpn)
        generator = torch.Generator().manual_seed(seed)
        images = [
            torch.rand(3, 96, 128, generator=generator),
            torch.rand(3, 80, 64, generator=generator),
        ]
        gt_boxes = [whole_boxes(generator, 3, (96, 128)), torch.zeros(0, 4)]
        for propose in (True, False):
            output = rpn(images, gt_boxes, propose=propose, generator=drawing)
            for name, loss in output.losses.items():
                found[f"{border}, {propose}, {name}"] = [float(loss.detach())]
            if propose:
                count = [len(one.boxes) for one in output.proposals]
                best = [float(one.scores[0]) for one in output.proposals]
                found[f"{border}, best"] = best
                found[f"{border}, some"] = all(n > 20 for n in count)
    return found


def everything():
    parts = {"matching": matching, "proposals": proposals, "losses": losses}
    return {
        f"{name}, seed {seed}": part(seed)
        for name, part in parts.items()
        for seed in (1, 2, 3)
    }


@pytest.mark.parametrize("name", sorted(json.loads(STORED.read_text())))
def test_the_same_as_ever(name):
    stored = json.loads(STORED.read_text())[name]
    part, seed = name.split(", seed ")
    found = {"matching": matching, "proposals": proposals, "losses": losses}[part](
        int(seed)
    )
    assert found.keys() == stored.keys()
    for key, value in found.items():
        if isinstance(value, list):
            assert value == pytest.approx(stored[key], rel=1e-4), key
        else:
            assert value == stored[key], key


if __name__ == "__main__":
    json.dump(everything(), sys.stdout, indent=1)
    print()

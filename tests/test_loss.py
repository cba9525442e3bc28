import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from rpn_lib.errors import SettingError
from rpn_lib.loss import RPNLoss, box_loss, objectness_loss, smooth_l1

number = st.floats(-20, 20, width=32)


def random_batch(seed, num_sampled=12, num_objects=5):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(num_sampled) < num_objects).long()
    scores = torch.randn(num_sampled, 2, generator=generator)
    deltas = torch.randn(num_objects, 4, generator=generator)
    targets = torch.randn(num_objects, 4, generator=generator)
    return scores, labels, deltas, targets


# Objectness


@pytest.mark.parametrize(
    ("scores", "label", "loss"),
    [
        ([0, 0], 0, math.log(2)),
        ([0, 0], 1, math.log(2)),
        ([0, math.log(3)], 1, math.log(4 / 3)),
        ([0, math.log(3)], 0, math.log(4)),
        ([100, 0], 1, 100),
        ([100, 0], 0, 0),
    ],
)
def test_objectness_by_hand(scores, label, loss):
    found = objectness_loss(torch.tensor([scores]).float(), torch.tensor([label]))
    assert found.item() == pytest.approx(loss)


@given(st.lists(st.tuples(number, number, st.integers(0, 1)), min_size=1, max_size=9))
def test_objectness_equals_the_oracle(rows):
    scores, labels = [row[:2] for row in rows], [row[2] for row in rows]
    found = objectness_loss(torch.tensor(scores), torch.tensor(labels))
    expected = oracles.objectness_loss(scores, labels)
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_two_scores_are_one_logit_their_difference(seed):
    scores, labels, _, _ = random_batch(seed, 256, 100)
    torch.testing.assert_close(
        objectness_loss(scores, labels),
        F.binary_cross_entropy_with_logits(scores[:, 1] - scores[:, 0], labels.float()),
    )


@given(number)
def test_only_the_difference_of_the_scores_matters(shift):
    scores, labels, _, _ = random_batch(0)
    torch.testing.assert_close(
        objectness_loss(scores + shift, labels), objectness_loss(scores, labels)
    )


def test_every_class_counts_as_object():
    scores, labels, _, _ = random_batch(1)
    classes = labels * torch.arange(3, 15)
    assert objectness_loss(scores, classes) == objectness_loss(scores, labels)


# Smooth L1


@pytest.mark.parametrize(
    ("x", "beta", "value"),
    [
        (0, 1, 0),
        (0.5, 1, 0.125),
        (-0.5, 1, 0.125),
        (1, 1, 0.5),
        (-3, 1, 2.5),
        (0.1, 1 / 9, 0.045),
        (1, 1 / 9, 1 - 1 / 18),
        (2, 4, 0.5),
        (-3, 0, 3),
        (0, 0, 0),
    ],
)
def test_smooth_l1_by_hand(x, beta, value):
    assert smooth_l1(torch.tensor(float(x)), beta).item() == pytest.approx(value)


@given(st.lists(number, min_size=1), st.sampled_from([0, 1e-3, 1 / 9, 0.5, 1, 7]))
def test_smooth_l1_equals_oracle_and_torch(values, beta):
    x = torch.tensor(values)
    found = smooth_l1(x, beta)
    zero = torch.zeros_like(x)
    torch.testing.assert_close(
        found, F.smooth_l1_loss(x, zero, beta=beta, reduction="none")
    )
    if beta > 0:
        expected = [oracles.smooth_l1(value, beta) for value in values]
        torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("beta", [1 / 9, 1, 3])
def test_smooth_l1_and_its_slope_are_continuous_at_beta(beta):
    x = torch.tensor([beta * (1 - 1e-5), beta * (1 + 1e-5)], requires_grad=True)
    value = smooth_l1(x, beta)
    value.sum().backward()
    torch.testing.assert_close(value[0], value[1], rtol=1e-4, atol=0)
    torch.testing.assert_close(x.grad, torch.ones(2), rtol=1e-4, atol=0)


def test_smooth_l1_keeps_the_shape():
    assert smooth_l1(torch.zeros(2, 3, 4)).shape == (2, 3, 4)


# Boxes


def test_box_loss_by_hand():
    deltas = torch.tensor([[0.5, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    targets = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 2.0, 0.0]])
    # (0.125 + 2.5 + 0.5 + 0.5 + 1.5) of two objects
    assert box_loss(deltas, targets).item() == pytest.approx(5.125 / 2)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_box_loss_is_a_sum_over_deltas_and_a_mean_over_objects(beta):
    _, _, deltas, targets = random_batch(2)
    found = box_loss(deltas, targets, beta)
    expected = F.smooth_l1_loss(deltas, targets, beta=beta, reduction="sum") / 5
    torch.testing.assert_close(found, expected)
    if beta > 0:
        expected = oracles.box_loss(deltas.tolist(), targets.tolist(), beta)
        assert found.item() == pytest.approx(expected, rel=1e-5)


# Both


def test_total_is_the_sum_of_both():
    scores, labels, deltas, targets = random_batch(3)
    losses = RPNLoss()(scores, labels, deltas, targets)
    assert list(losses) == ["objectness", "box"]
    assert losses["objectness"] == objectness_loss(scores, labels)
    assert losses["box"] == box_loss(deltas, targets)
    expected = oracles.objectness_loss(scores.tolist(), labels.tolist())
    expected += oracles.box_loss(deltas.tolist(), targets.tolist())
    assert sum(losses.values()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("lambda_", [0, 0.1, 1, 10, 100])
def test_lambda_weighs_the_box_loss_only(lambda_):
    batch = random_batch(4)
    plain, weighted = RPNLoss()(*batch), RPNLoss(lambda_)(*batch)
    assert weighted["objectness"] == plain["objectness"]
    torch.testing.assert_close(weighted["box"], lambda_ * plain["box"])


def test_beta_is_passed_on():
    batch = random_batch(5)
    assert RPNLoss(beta=1 / 9)(*batch)["box"] == box_loss(*batch[2:], beta=1 / 9)


# Nothing to learn from


@pytest.mark.parametrize("num_sampled", [0, 8])
def test_without_objects_the_losses_are_finite_and_the_box_gradient_is_0(num_sampled):
    scores, labels, deltas, targets = random_batch(6, num_sampled, 0)
    scores.requires_grad_()
    deltas.requires_grad_()
    losses = RPNLoss()(scores, labels, deltas, targets)
    assert losses["box"] == 0
    assert losses["objectness"].isfinite()
    assert (losses["objectness"] == 0) == (num_sampled == 0)
    sum(losses.values()).backward()
    assert deltas.grad.shape == (0, 4)
    assert scores.grad.isfinite().all()


def test_no_objects_give_every_weight_of_the_regressor_a_gradient_of_0():
    weight = torch.ones(4, requires_grad=True)
    deltas = (torch.ones(7, 4) * weight)[:0]
    loss = box_loss(deltas, torch.zeros(0, 4))
    assert loss.item() == 0  # the mean over an empty set would be NaN
    loss.backward()
    assert weight.grad.tolist() == [0, 0, 0, 0]


# Gradients


@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_objectness_is_the_slope_of_the_oracle(seed):
    scores, labels, _, _ = random_batch(seed)
    scores.requires_grad_()
    objectness_loss(scores, labels).backward()
    expected = oracles.slope(
        lambda rows: oracles.objectness_loss(rows, labels.tolist()), scores.tolist()
    )
    torch.testing.assert_close(scores.grad, torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("beta", [1 / 9, 1.0, 3.0])
def test_gradient_of_box_loss_is_the_slope_of_the_oracle(beta):
    _, _, deltas, targets = random_batch(7)
    deltas.requires_grad_()
    box_loss(deltas, targets, beta).backward()
    expected = oracles.slope(
        lambda rows: oracles.box_loss(rows, targets.tolist(), beta), deltas.tolist()
    )
    torch.testing.assert_close(deltas.grad, torch.tensor(expected), atol=1e-6, rtol=0)


def test_losses_are_float32_for_a_network_in_half_precision():
    scores, labels, deltas, targets = random_batch(8)
    losses = RPNLoss()(scores.bfloat16(), labels, deltas.bfloat16(), targets)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


# Normalisers and GIoU


@pytest.mark.parametrize(
    ("settings", "objectness", "box"),
    [
        ({}, math.log(2), 3.0),
        ({"normalizer": "sampled"}, math.log(2), 3.0 * 2 / 8),
        ({"normalizer": "paper", "lambda_": 10}, math.log(2), 10 * 3.0 * 2 / 2400),
    ],
)
def test_normalizers_on_a_worked_example(settings, objectness, box):
    """Eight anchors sampled, two of them objects with a smooth L1 of 2 and 4."""
    labels = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0])
    deltas = torch.tensor([[2.5, 0, 0, 0], [0, 4.5, 0, 0]])
    losses = RPNLoss(**settings)(
        torch.zeros(8, 2), labels, deltas, torch.zeros(2, 4), num_cells=2400
    )
    assert losses["objectness"].item() == pytest.approx(objectness)
    assert losses["box"].item() == pytest.approx(box)


def test_giou_by_hand():
    """The same box: 0. Two boxes of 2 x 2, 2 apart, in a hull of 6 x 2: 1 + 4 / 12."""
    box = torch.tensor([[0.0, 0, 2, 2]])
    labels, scores = torch.ones(1), torch.zeros(1, 2)
    loss = RPNLoss(box="giou")
    assert loss(scores, labels, box, box)["box"].item() == pytest.approx(0, abs=1e-6)
    apart = torch.tensor([[4.0, 0, 6, 2]])
    assert loss(scores, labels, apart, box)["box"].item() == pytest.approx(1 + 4 / 12)


def test_giou_without_objects_is_0():
    none = torch.zeros(0, 4, requires_grad=True)
    loss = RPNLoss(box="giou")(torch.zeros(1, 2), torch.zeros(1), none, none)["box"]
    assert loss.item() == 0
    loss.backward()


def test_without_a_number_of_cells_the_paper_divides_by_1():
    loss = RPNLoss(normalizer="paper")
    both = loss(torch.zeros(1, 2), torch.ones(1), torch.ones(1, 4), torch.zeros(1, 4))
    assert both["box"].item() == pytest.approx(4 * 0.5)


@pytest.mark.parametrize(
    "setting",
    [
        {"normalizer": "none"},
        {"box": "l2"},
        {"beta": math.inf},
        {"lambda_": math.inf},
    ],
)
def test_unknown_names_are_refused(setting):
    with pytest.raises(SettingError):
        RPNLoss(**setting)


def test_defaults_and_limits():
    """Beta is 1 if nothing is said, and may be 0, which is plain L1."""
    assert smooth_l1(torch.tensor(1.5)).item() == 1.0
    four = torch.zeros(1, 2), torch.ones(1), torch.ones(1, 4), torch.zeros(1, 4)
    assert RPNLoss(beta=0)(*four)["box"].item() == 4
    assert RPNLoss(lambda_=0)(*four)["box"].item() == 0


@pytest.mark.parametrize("normalizer", ["positives", "sampled", "paper"])
def test_with_the_mean_counts_the_mean_of_two_halves_is_the_whole(normalizer):
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(9, 2, generator=generator), torch.zeros(9)
    labels[:4] = 1  # 4 objects: 3 in the first part, 1 in the second
    deltas, targets = torch.randn(2, 4, 4, generator=generator)
    order = torch.tensor([0, 1, 2, 4, 5, 6, 3, 7, 8])
    loss = RPNLoss(lambda_=3, normalizer=normalizer)
    whole = loss(scores, labels, deltas, targets, num_cells=50)
    counts = torch.tensor([9 / 2, 4 / 2, 50 / 2])
    halves = [
        loss(scores[a], labels[a], deltas[b], targets[b], 25, counts=counts)
        for a, b in [(order[:6], slice(0, 3)), (order[6:], slice(3, 4))]
    ]
    for name, value in whole.items():
        mean = (halves[0][name] + halves[1][name]) / 2
        torch.testing.assert_close(mean, value)


def test_counts_of_nothing_give_no_loss():
    none = torch.zeros(0, 4)
    losses = RPNLoss()(
        torch.zeros(0, 2), torch.zeros(0), none, none, counts=torch.zeros(3)
    )
    assert [loss.item() for loss in losses.values()] == [0, 0]

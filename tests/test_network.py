import itertools

import oracles
import pytest
import torch
from einops.layers.torch import Rearrange
from torch import nn

from rpn_lib.backbones import SmallBackbone
from rpn_lib.head import HeadOutput, RPNHead

# The shapes of the notebook that the book grew from.


def test_shapes_of_window_and_heads():
    head = RPNHead(in_channels=1024, num_anchors=9)
    features = torch.randn(1, 1024, 32, 32)
    assert head.window(features).shape == (1, 256, 32, 32)
    scores, deltas = head(features)
    assert scores.shape == (1, 32, 32, 9, 2)
    assert deltas.shape == (1, 32, 32, 9, 4)


def test_flat_shapes_of_a_batch():
    head = RPNHead(in_channels=64, num_anchors=9)
    scores, deltas = head(torch.randn(2, 64, 32, 32))
    assert scores.flatten(1, 3).shape == (2, 9216, 2)
    assert deltas.flatten(1, 3).shape == (2, 9216, 4)


def test_shapes_of_a_batch_with_a_rectangular_map():
    scores, deltas = RPNHead(8, num_anchors=3, hidden_channels=16)(
        torch.randn(2, 8, 5, 7)
    )
    assert scores.shape == (2, 5, 7, 3, 2)
    assert deltas.shape == (2, 5, 7, 3, 4)


# The sliding window


@pytest.fixture
def small_head():
    torch.manual_seed(0)
    head = RPNHead(in_channels=3, num_anchors=2, hidden_channels=4)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return head.requires_grad_(False)


def test_window_equals_a_loop_over_3x3_windows(small_head):
    features = torch.randn(2, 3, 4, 5)
    conv = small_head.window[0]
    weight, bias = conv.weight.tolist(), conv.bias.tolist()
    expected = [oracles.sliding_window(f, weight, bias) for f in features.tolist()]
    torch.testing.assert_close(
        small_head.window(features), torch.tensor(expected), atol=1e-5, rtol=1e-5
    )


def test_each_head_is_a_weighted_sum_of_one_place_of_the_window(small_head):
    features = torch.randn(1, 3, 3, 4)
    hidden = small_head.window(features)
    scores, deltas = small_head(features)
    places = itertools.product(range(3), range(4), range(2))
    for row, column, anchor in places:
        here = hidden[0, :, row, column]
        for output, head, size in [
            (scores, small_head.classifier, 2),
            (deltas, small_head.regressor, 4),
        ]:
            weight = head[0].weight[anchor * size : (anchor + 1) * size, :, 0, 0]
            bias = head[0].bias[anchor * size : (anchor + 1) * size]
            torch.testing.assert_close(
                output[0, row, column, anchor], weight @ here + bias
            )


def test_a_place_sees_its_neighbours_and_nothing_else(small_head):
    features = torch.randn(1, 3, 7, 7)
    changed = features.clone()
    changed[0, :, 3, 3] += 10
    moved = (small_head.window(changed) != small_head.window(features)).any(dim=1)[0]
    assert moved.any()
    moved[2:5, 2:5] = False
    assert not moved.any()


def test_the_same_window_everywhere(small_head):
    features = torch.randn(1, 3, 8, 8)
    shifted = features.roll((1, 2), dims=(2, 3))
    inner = small_head(features).scores[:, 1:-3, 1:-3]
    torch.testing.assert_close(small_head(shifted).scores[:, 2:-2, 3:-1], inner)


# Order of channels


def place_of_one_hot(rearrange, channel, row=1, column=2):
    """Where a one in this channel of a map with 3 x 4 places ends up."""
    channels = torch.zeros(1, 6, 3, 4)
    channels[0, channel, row, column] = 1
    return rearrange(channels)[0].nonzero().tolist()


@pytest.mark.parametrize("anchor", range(3))
def test_object_score_of_an_anchor_is_the_second_of_its_two_channels(anchor):
    rearrange = RPNHead(1, num_anchors=3).classifier[1]
    assert place_of_one_hot(rearrange, anchor * 2 + 1) == [[1, 2, anchor, 1]]


def test_the_one_hot_finds_the_other_order_of_channels():
    right = RPNHead(1, num_anchors=3).classifier[1]
    wrong = Rearrange("b (two a) h w -> b h w a two", a=3, two=2)
    channels = torch.randn(1, 6, 3, 4)
    assert right(channels).shape == wrong(channels).shape
    assert place_of_one_hot(wrong, 2 * 2 + 1) == [[1, 2, 2, 1]]  # the last, by chance
    for anchor in (0, 1):
        assert place_of_one_hot(wrong, anchor * 2 + 1) != [[1, 2, anchor, 1]]


def test_the_one_hot_finds_a_reshape_without_permutation():
    def reshape(channels):
        return channels.reshape(1, 3, 4, 3, 2)

    found = [place_of_one_hot(reshape, anchor * 2 + 1) for anchor in range(3)]
    assert all(place[0] != [1, 2, anchor, 1] for anchor, place in enumerate(found))


# Weights


def test_number_of_parameters():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    head = RPNHead(in_channels=1024, num_anchors=9, hidden_channels=256)
    window, classifier, regressor = 1024 * 256 * 9 + 256, 257 * 18, 257 * 36
    assert count(head.window) == window == 2_359_552
    assert count(head.classifier) == classifier == 4_626
    assert count(head.regressor) == regressor == 9_252
    assert count(head) == window + classifier + regressor
    channels = [3, 16, 32, 64, 64, 128, 128, 128]
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(channels))
    assert count(SmallBackbone()) == convolutions + 2 * sum(channels[1:])


def test_head_starts_near_zero():
    torch.manual_seed(0)
    head = RPNHead(in_channels=128, num_anchors=9)
    for module in (head.window[0], head.classifier[0], head.regressor[0]):
        assert module.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert module.weight.mean().item() == pytest.approx(0, abs=1e-3)
        assert (module.bias == 0).all()


def test_every_parameter_gets_a_gradient():
    head = RPNHead(4, num_anchors=3)
    scores, deltas = head(torch.randn(1, 4, 6, 6))
    (scores.square().sum() + deltas.square().sum()).backward()
    assert all((parameter.grad != 0).any() for parameter in head.parameters())


# Backbone


@pytest.mark.parametrize(
    ("height", "width"),
    [(16, 16), (1, 1), (17, 15), (240, 320), (375, 500), (33, 64), (95, 97)],
)
def test_backbone_divides_sides_by_16_and_rounds_up(height, width):
    backbone = SmallBackbone().eval()
    assert (backbone.stride, backbone.out_channels) == (16, 128)
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, height, width))
    assert features.shape == (1, 128, -(-height // 16), -(-width // 16))


def test_backbone_and_head_fit_together():
    backbone = SmallBackbone()
    head = RPNHead(backbone.out_channels, num_anchors=6)
    scores, _ = head(backbone(torch.rand(2, 3, 48, 64)))
    assert scores.shape == (2, 3, 4, 6, 2)


def test_the_logit_of_a_head_is_object_minus_background_in_float32():
    scores = torch.tensor([1.0, 3.0]).expand(1, 2, 3, 4, 2)
    output = HeadOutput(scores, torch.zeros(1, 2, 3, 4, 4))
    assert output.logits.shape == (1, 2, 3, 4)
    assert (output.logits == 2).all()
    # In bfloat16 256 - 0.5 would be 256.
    rough = HeadOutput(torch.tensor([0.5, 256.0], dtype=torch.bfloat16), output.deltas)
    assert rough.logits.dtype == torch.float32
    assert rough.logits == 255.5

"""The feature pyramid: by hand, against plain loops, and against torchvision's."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from rpn_lib.backbones import SmallBackbone
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import BoxError, SettingError
from rpn_lib.models import build_rpn, count_levels, network_of
from rpn_lib.pyramid import FeaturePyramid, SmallPyramid
from rpn_lib.training.loop import train


def plain(pyramid):
    """Lateral and output convolutions that hand their input on."""
    for module in pyramid.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
            nn.init.zeros_(module.bias)
    return pyramid


def torchvisions(pyramid, in_channels, out_channels):
    """torchvision's pyramid with the weights of ours."""
    extra = LastLevelMaxPool() if pyramid.extra_level else None
    theirs = FeaturePyramidNetwork(in_channels, out_channels, extra_blocks=extra)
    for mine, their in [
        *zip(pyramid.lateral, theirs.inner_blocks),
        *zip(pyramid.output, theirs.layer_blocks),
    ]:
        their[0].load_state_dict(mine.state_dict())
    return theirs


# By hand


def test_a_coarse_map_is_doubled_and_added_to_the_fine_one():
    fine, coarse = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), [[10.0, 20]]
    pyramid = plain(FeaturePyramid([1, 1], 1))
    levels = pyramid([fine[None, None], torch.tensor(coarse)[None, None]])
    assert levels[0][0, 0].tolist() == [[11, 12, 23, 24], [15, 16, 27, 28]]
    assert levels[1][0, 0].tolist() == coarse


def test_sums_go_on_from_level_to_level():
    maps = [torch.ones(1, 1, 8, 8), torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)]
    levels = plain(FeaturePyramid([1] * 3, 1))(maps)
    assert [level.unique().tolist() for level in levels] == [[3], [2], [1]]


def test_a_coarse_map_reaches_the_finer_levels_and_not_the_other_way_round():
    pyramid = FeaturePyramid([2, 2, 2], 4)
    maps = [torch.rand(1, 2, 16 >> i, 16 >> i, requires_grad=True) for i in range(3)]
    for number, level in enumerate(pyramid(maps)):
        grads = torch.autograd.grad(
            level.sum(), maps, allow_unused=True, retain_graph=True
        )
        assert [grad is not None for grad in grads] == [i >= number for i in range(3)]


def test_the_extra_level_has_every_second_cell_of_the_coarsest():
    coarse = torch.arange(15.0).view(1, 1, 3, 5)
    _, extra = plain(FeaturePyramid([1], 1, extra_level=True))([coarse])
    assert extra[0, 0].tolist() == [[0, 2, 4], [10, 12, 14]]


def test_the_3x3_convolution_comes_after_the_sum():
    """Of a 1 in the coarsest map, a 3x3 of ones makes a square of 4 in the finest."""
    pyramid = plain(FeaturePyramid([1, 1], 1))
    nn.init.ones_(pyramid.output[0].weight)
    coarse = torch.zeros(1, 1, 3, 3)
    coarse[0, 0, 1, 1] = 1
    fine = pyramid([torch.zeros(1, 1, 6, 6), coarse])[0][0, 0]
    side = torch.tensor([0.0, 1, 2, 2, 1, 0])
    assert torch.equal(fine, side[:, None] * side)


def test_parameters_are_those_that_one_counts():
    pyramid = FeaturePyramid([32, 64, 128], 64)
    lateral = (32 + 64 + 128) * 64 + 3 * 64
    output = 3 * (64 * 64 * 9 + 64)
    assert sum(p.numel() for p in pyramid.parameters()) == lateral + output


# Against plain loops, and against torchvision


def slow_top_down(maps):
    """Sums of one-channel maps by the definition: the cell that holds the centre."""
    sums = [level.clone() for level in maps]
    for i in reversed(range(len(maps) - 1)):
        (rows, columns), (below, across) = sums[i].shape, sums[i + 1].shape
        for r in range(rows):
            for c in range(columns):
                sums[i][r, c] += sums[i + 1][r * below // rows, c * across // columns]
    return sums


grids = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=40, deadline=None)
@given(grids, st.integers(1, 4), st.booleans())
def test_any_grid_gives_what_loops_and_torchvision_give(grid, count, extra_level):
    torch.manual_seed(0)
    sides = [[-(-n // 2**i) for n in grid] for i in range(count)]
    maps = [torch.randn(h, w) for h, w in sides]
    levels = plain(FeaturePyramid([1] * count, 1))([x[None, None] for x in maps])
    for level, expected in zip(levels, slow_top_down(maps)):
        torch.testing.assert_close(level[0, 0], expected)

    channels = [3, 5, 8, 13][:count]
    ours = FeaturePyramid(channels, 6, extra_level=extra_level)
    for weight in ours.parameters():
        nn.init.normal_(weight, std=0.3)
    inputs = [torch.randn(2, c, *side) for c, side in zip(channels, sides)]
    named = OrderedDict((str(i), x) for i, x in enumerate(inputs))
    theirs = torchvisions(ours, channels, 6)(named).values()
    mine = ours(inputs)
    assert len(mine) == len(theirs) == count + extra_level
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b)


def test_weights_begin_as_torchvisions_do():
    """Uniform between the same bounds, and no bias."""
    torch.manual_seed(0)
    ours = FeaturePyramid([32, 64], 64)
    theirs = FeaturePyramidNetwork([32, 64], 64)
    pairs = [
        *zip(ours.lateral, theirs.inner_blocks),
        *zip(ours.output, theirs.layer_blocks),
    ]
    for mine, their in pairs:
        assert not mine.bias.any()
        assert not their[0].bias.any()
        bounds = [conv.weight.abs().max().item() for conv in (mine, their[0])]
        assert bounds[0] == pytest.approx(bounds[1], rel=0.02)


# The small backbone with a pyramid


@pytest.mark.parametrize("size", [(160, 224), (75, 100), (32, 33)])
def test_levels_of_the_small_pyramid_are_as_fine_as_their_strides_say(size):
    backbone = SmallPyramid().eval()
    levels = backbone(torch.rand(2, 3, *size))
    expected = [(2, 64, *(-(-n // s) for n in size)) for s in backbone.strides]
    assert [tuple(level.shape) for level in levels] == expected


def test_its_convolutions_are_those_of_the_small_backbone():
    pyramid, plain_one = SmallPyramid().eval(), SmallBackbone().eval()
    weights = dict(zip(plain_one.state_dict(), pyramid.stages.state_dict().values()))
    plain_one.load_state_dict(weights)
    images = torch.rand(1, 3, 64, 96)
    seen = []
    pyramid.pyramid.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    pyramid(images)
    assert torch.equal(seen[-1], plain_one(images))
    assert [tuple(x.shape[1:]) for x in seen] == [
        (32, 16, 24),
        (64, 8, 12),
        (128, 4, 6),
    ]


def test_build_rpn_puts_one_size_on_each_level():
    rpn = build_rpn(fpn=True, sizes=(12, 24, 48, 96))
    assert isinstance(rpn.backbone, SmallPyramid)
    assert count_levels("small", fpn=True) == len(rpn.anchors.levels) == 4
    sides = [level.prod(dim=1).sqrt() for level in rpn.anchors.levels]
    for size, level in zip((12, 24, 48, 96), sides):
        torch.testing.assert_close(level, torch.full((3,), float(size)))
    levels = rpn.backbone(torch.rand(2, 3, 64, 64))
    assert rpn.from_features(levels, [(64, 64)] * 2).proposals[0].boxes.shape[1] == 4


@pytest.mark.parametrize("backbone", ["small", "resnet18"])
@pytest.mark.parametrize("fpn", [False, True])
def test_count_levels_says_what_build_rpn_makes(backbone, fpn):
    assert len(build_rpn(backbone, fpn=fpn).anchors.levels) == count_levels(
        backbone, fpn
    )


def test_it_learns_and_comes_back_from_a_checkpoint():
    torch.manual_seed(0)
    rpn = build_rpn(fpn=True, sizes=(12, 24, 48, 96))
    before = [weight.clone() for weight in rpn.parameters()]
    train(rpn, ShapesDataset(length=4), epochs=2, batch_size=4)
    assert all(not torch.equal(a, b) for a, b in zip(before, rpn.parameters()))
    state = {
        "settings": {"backbone": "small", "fpn": True, "sizes": [12, 24, 48, 96]},
        "model": rpn.state_dict(),
    }
    again, image = network_of(state), torch.rand(1, 3, 64, 96)
    for mine, its in zip(rpn.eval().levels_of(image), again.levels_of(image)):
        torch.testing.assert_close(mine, its)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (([], 8), "in_channels=[] and out_channels=8: give the channels of one map"),
        (([4, 0], 8), "in_channels=[4, 0] and out_channels=8: give the channels of"),
        (([4], 0), "in_channels=[4] and out_channels=0: give the channels of one map"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError) as caught:
        FeaturePyramid(*settings)
    assert str(caught.value).startswith(message)


def test_another_number_of_maps_is_refused():
    with pytest.raises(SettingError) as caught:
        FeaturePyramid([4, 4], 8)([torch.zeros(1, 4, 8, 8)])
    assert str(caught.value) == "1 maps for a pyramid of 2."


def test_a_single_cell_cannot_be_normalised_over():
    backbone = SmallPyramid()
    with pytest.raises(BoxError):
        backbone(torch.zeros(1, 3, 16, 16))
    assert len(backbone.eval()(torch.zeros(1, 3, 16, 16))) == 4

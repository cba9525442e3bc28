"""The Region Proposal Network of Faster R-CNN, one module a concept.

From the ground up: `boxes`, `anchors`, `coverage`, `transforms`, `network`,
`matching`, `loss`, `nms`, and `rpn`, which puts them together. Around it `data` (with
`validate`, `images`, `annotated`, `voc`, `coco`, `folders`, `download` and `augment`),
`evaluate` and `measure`, `models`, and `train` (with `checkpoint` and `distributed`);
`runs` and `cli` are the command line. `interop` leads to torchvision; `draw`, `explore`
and `check` are for the chapters of the book.
"""

__version__ = "0.1.0"

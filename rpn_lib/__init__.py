"""The Region Proposal Network of Faster R-CNN, one module a concept.

From the ground up: `boxes`, `anchors`, `coverage`, `transforms`, `network`,
`matching`, `loss`, `nms`, and `rpn`, which puts them together; `data`, `train` and
`evaluate` around it; `interop` to torchvision; `draw`, `explore` and `check` for the
chapters of the book.
"""

__version__ = "0.1.0"

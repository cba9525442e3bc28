"""From images to what NMS is given, as one graph: for ONNX and `torch.compile`.

Dimension letters: B images; N anchors of a level; K candidates of an image.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from rpn_lib.rpn import RegionProposalNetwork
from rpn_lib.transforms import decode


class Candidates(nn.Module):
    """Everything up to NMS in one graph, for `torch.compile` and `torch.onnx.export`.

    Backbone, heads, anchors, the best `select.pre_nms_top_k` of each level, decoded and
    clipped to the image. The settings are those of the moment of compilation; size and
    number of images may vary.

    Args:
        rpn: the network; its weights are shared.

    >>> from rpn_lib.backbones import SmallBackbone
    >>> from rpn_lib.anchors import AnchorGenerator
    >>> anchors = AnchorGenerator([16, 32, 64], strides=[16])
    >>> rpn = RegionProposalNetwork(SmallBackbone(), anchors).eval()
    >>> boxes, scores, levels = Candidates(rpn)(torch.rand(2, 3, 96, 128))
    >>> boxes.shape, scores.shape, levels.shape
    (torch.Size([2, 432, 4]), torch.Size([2, 432]), torch.Size([432]))

    NMS then finishes the work for image 0:

    >>> from torchvision.ops import batched_nms
    >>> kept = batched_nms(boxes[0], scores[0], levels, 0.7)
    """

    def __init__(self, rpn: RegionProposalNetwork) -> None:
        super().__init__()
        self.rpn = rpn

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates of images `(B, 3, height, width)` that are not padded.

        Returns:
            boxes `(B, K, 4)`, xyxy, pixels; probabilities of an object `(B, K)`; the
            level of each, `(K,)`. Sorted by score within a level.
        """
        features = self.rpn.levels_of(images)
        image_size = (images.shape[-2], images.shape[-1])
        grids = [feature.shape[-2:] for feature in features]
        boxes, scores, levels = [], [], []
        for level, anchors in enumerate(self.rpn.anchors(grids, images.device)):
            output = self.rpn.head(features[level])
            if self.rpn.border == "clip":
                anchors = clip_boxes_to_image(anchors, image_size)
            logits = (output.scores[..., 1] - output.scores[..., 0]).flatten(1)
            deltas = output.deltas.flatten(1, 3)  # (B, N, 4)
            k = min(self.rpn.select.pre_nms_top_k, logits.shape[1])
            top = logits.float().topk(k)  # (B, k)
            chosen = deltas.gather(1, top.indices[..., None].expand(-1, -1, 4))
            decoded = decode(chosen, anchors[top.indices], self.rpn.delta_weights)
            boxes.append(clip_boxes_to_image(decoded, image_size))  # (B, k, 4)
            scores.append(top.values.sigmoid())
            levels.append(torch.full_like(top.indices[0], level))
        return torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(levels)

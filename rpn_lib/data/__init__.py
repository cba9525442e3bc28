"""Images and true boxes: synthetic scenes, and folders of annotated photographs.

A sample is an image and a target, as in torchvision's `transforms.v2`: the image a
uint8 `(3, H, W)`, the target a dictionary of `boxes` `(G, 4)` (xyxy, pixels), `labels`
`(G,)`, `image_id` and, where a data set knows regions that hold objects nobody has
drawn, `ignore_boxes` `(I, 4)`. Random crops, flips and resizing then move image and
boxes together.

Dimension letters: H, W height and width of an image; G true boxes of an image; I
regions of it that are ignored.
"""

"""Images and true boxes: synthetic scenes, and folders of annotated photographs.

A sample is an image and a target, as in torchvision's `transforms.v2`.
"""

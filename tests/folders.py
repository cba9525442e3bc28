"""Folders of annotated pictures for the tests, and an environment for processes."""

import os
import sys

from PIL import Image

from rpn_lib.data.scenes import ShapesDataset


def environment(**more):
    """For a process that imports what this one can import, the tests as well."""
    path = os.pathsep.join(filter(None, [os.path.dirname(__file__), *sys.path]))
    return {**os.environ, "PYTHONPATH": path, **more}


XML = """<annotation><filename>a.jpg</filename>
<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
CELL = ("cell", 11, 21, 30, 40)


def annotate(folder, name, objects, width=64, height=48):
    text = "".join(OBJECT.format(*values) for values in objects)
    xml = XML.format(width=width, height=height, objects=text)
    (folder / f"Annotations/{name}.xml").write_text(xml)


def write_folder(folder, scenes=None, train=13):
    """Scenes as a Pascal-VOC folder: 13 to train on, the other 5 to validate with."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    scenes = scenes or ShapesDataset(18, image_size=(64, 96), sizes=(16, 40))
    names = [f"scene_{i}" for i in range(len(scenes))]
    for name, (image, target) in zip(names, scenes):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(
            folder / f"JPEGImages/{name}.png"
        )
        boxes = [
            (ShapesDataset.classes[label - 1], x1 + 1, y1 + 1, x2, y2)
            for label, (x1, y1, x2, y2) in zip(
                target["labels"].tolist(), target["boxes"].int().tolist()
            )
        ]
        annotate(folder, name, boxes, *reversed(image.shape[1:]))
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(names[:train]))
    (folder / "ImageSets/Main/val.txt").write_text("\n".join(names[train:]))
    return folder

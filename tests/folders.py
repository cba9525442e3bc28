"""Folders of annotated pictures for the tests, and an environment for processes."""

import json
import os
import sys

from PIL import Image

from rpn_lib.data.scenes import ShapesDataset


def environment(**more):
    """For a process that imports what this one can import, the tests as well."""
    path = os.pathsep.join(filter(None, [os.path.dirname(__file__), *sys.path]))
    return {**os.environ, "PYTHONPATH": path, **more}


def slashed(text):
    """What is said, with the paths in it as on POSIX: to compare on every system."""
    return str(text).replace("\\", "/")


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
        save(image, folder / f"JPEGImages/{name}.png")
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


def write_coco(folder, scenes, split="train", pictures=None, first=0):
    """Scenes as a COCO folder; the names of pictures count from `first`."""
    categories = [{"id": i, "name": n} for i, n in enumerate(ShapesDataset.classes, 1)]
    content = {"images": [], "annotations": [], "categories": categories}
    for path in (folder / "annotations", folder / (pictures or split)):
        path.mkdir(parents=True, exist_ok=True)
    for number, (image, target) in enumerate(scenes, first):
        height, width = image.shape[1:]
        name = f"scene_{number}.png"
        save(image, folder / (pictures or split) / name)
        content["images"].append(
            {"id": number, "file_name": name, "height": height, "width": width}
        )
        boxes = target["boxes"].tolist()
        for label, (x1, y1, x2, y2) in zip(target["labels"].tolist(), boxes):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": number,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
            )
    path = folder / f"annotations/instances_{split}.json"
    path.write_text(json.dumps(content))


def write_yolo(folder, scenes, split="train", first=0):
    """Scenes as a YOLO folder; the names of pictures count from `first`."""
    names = [*ShapesDataset.classes]
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(
        f"train: images/train\nval: images/val\nnames: {names}\n"
    )
    for number, (image, target) in enumerate(scenes, first):
        height, width = image.shape[1:]
        save(image, folder / f"images/{split}/scene_{number}.png")
        boxes = target["boxes"].tolist()
        rows = [
            f"{label - 1} {(x1 + x2) / 2 / width:.12f} {(y1 + y2) / 2 / height:.12f} "
            f"{(x2 - x1) / width:.12f} {(y2 - y1) / height:.12f}"
            for label, (x1, y1, x2, y2) in zip(target["labels"].tolist(), boxes)
        ]
        (folder / f"labels/{split}/scene_{number}.txt").write_text("\n".join(rows))


def save(image, path):
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)

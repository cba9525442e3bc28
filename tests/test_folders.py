"""Folders of photographs: everything that can be wrong with them is named."""

import json
import re
from typing import get_type_hints

import numpy as np
import pytest
import torch
from folders import CELL, annotate, slashed
from PIL import Image
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from rpn_lib.data.check import check_folder
from rpn_lib.data.folder import open_folder, reader_of, scan_folder
from rpn_lib.data.images import image_size, read_image
from rpn_lib.data.reading import Reading, ReadingOptions
from rpn_lib.errors import DataError, SettingError
from rpn_lib.training.config import DataConfig

# One fault in a folder of two images, and what is said about it. A fault changes the
# files; the message starts with the file that it is in.


def write(root, name, content):
    path = root / name
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(
        content
    )


def replace_in(root, name, old, new):
    text = (root / name).read_text()
    assert old in text
    write(root, name, text.replace(old, new, 1))


def truncate(root, name):
    path = root / name
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-1500])


BOMB = '<!DOCTYPE a [<!ENTITY b "b">]><annotation>&b;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</a>'
A, B = "Annotations/a.xml", "Annotations/b.xml"
VOC_FAULTS = {
    "malformed XML": (
        lambda f: write(f, B, "<annotation><size>"),
        "Annotations/b.xml: It is not well-formed XML: no element found: line 1",
    ),
    "entity expansion": (
        lambda f: write(f, B, BOMB),
        "Annotations/b.xml: It holds entities or refers to other files (EntitiesForbid",
    ),
    "external entity": (
        lambda f: write(f, B, OUTSIDE),
        "Annotations/b.xml: It holds entities or refers to other files (EntitiesForbid",
    ),
    "unknown encoding": (
        lambda f: write(f, B, '<?xml version="1.0" encoding="latin-99"?><a/>'),
        "Annotations/b.xml: It ",
    ),
    "missing annotation": (
        lambda f: (f / B).unlink(),
        "Annotations/b.xml: The file is missing. Annotate b, or take it out",
    ),
    "missing image": (
        lambda f: (f / "JPEGImages/b.jpg").unlink(),
        "Annotations/b.xml: Its picture is missing: there is no JPEGImages/b.jpg",
    ),
    "empty image": (
        lambda f: write(f, "JPEGImages/b.jpg", b""),
        "JPEGImages/b.jpg: It cannot be read as an image: the file is empty. Copy or",
    ),
    "truncated image": (
        lambda f: truncate(f, "JPEGImages/b.jpg"),
        "JPEGImages/b.jpg: It cannot be read as an image: image file is truncated",
    ),
    "no image": (
        lambda f: write(f, "JPEGImages/b.jpg", b"<html>not found</html>"),
        "JPEGImages/b.jpg: It cannot be read as an image: it is in no format",
    ),
    "size zero": (
        lambda f: annotate(f, "b", [], width=0),
        "Annotations/b.xml: size/width is 0. Write the size of the picture",
    ),
    "other size than declared": (
        lambda f: annotate(f, "b", [], width=48, height=64),
        "JPEGImages/b.jpg: It is 64 x 48 pixels, but its annotation says 48 x 64. One",
    ),
    "missing coordinate": (
        lambda f: replace_in(f, A, "<xmin>11</xmin>", ""),
        "Annotations/a.xml, object 0: bndbox/xmin is missing. Write four numbers",
    ),
    "no number": (
        lambda f: replace_in(f, A, ">11<", ">eleven<"),
        "Annotations/a.xml, object 0: bndbox/xmin is 'eleven', which is no number.",
    ),
    "NaN": (
        lambda f: replace_in(f, A, ">11<", ">nan<"),
        "Annotations/a.xml, object 0 (xmin, ymin, xmax, ymax = nan, 21, 30, 40): A coo",
    ),
    "infinite": (
        lambda f: replace_in(f, A, ">30<", ">1e999<"),
        "Annotations/a.xml, object 0 (xmin, ymin, xmax, ymax = 11, 21, inf, 40): A coo",
    ),
    "swapped corners": (
        lambda f: annotate(f, "a", [CELL, ("cell", 30, 21, 11, 40)]),
        "Annotations/a.xml, object 1 (xmin, ymin, xmax, ymax = 30, 21, 11, 40): xmax "
        "is less than xmin. The corners are swapped, or the numbers are x, y, width",
    ),
    "zero size": (
        lambda f: annotate(f, "a", [("cell", 30, 21, 30, 40)]),
        "Annotations/a.xml, object 0 (xmin, ymin, xmax, ymax = 30, 21, 30, 40): The "
        "width is zero. Such a box marks no object: delete it, or draw it anew.",
    ),
    "outside": (
        lambda f: annotate(f, "a", [("cell", 30, 21, 50, 53)]),
        "Annotations/a.xml, object 0 (xmin, ymin, xmax, ymax = 30, 21, 50, 53): It "
        "reaches 5 pixels outside the image, which is 64 wide and 48 high. Was",
    ),
    "outside to the left": (
        lambda f: annotate(f, "a", [("cell", -8, 21, 50, 40)]),
        "Annotations/a.xml, object 0 (xmin, ymin, xmax, ymax = -8, 21, 50, 40): It "
        "reaches 9 pixels outside the image",
    ),
    "counted from 0": (
        lambda f: annotate(f, "a", [("cell", 0, 21, 50, 40)]),
        "Annotations/a.xml, object 0 (xmin, ymin, xmax, ymax = 0, 21, 50, 40): xmin "
        "is below 1, and VOC counts pixels from 1. If the tool that wrote the file",
    ),
    "xywh": (
        lambda f: annotate(
            f, "a", [("c", 40, 9, 9, 30), ("c", 5, 6, 9, 9), ("c", 30, 20, 31, 8)]
        ),
        "Annotations: The boxes look like x, y, width and height: read so, every one "
        "lies in its image; read as two corners, some have their corners swapped. Conv",
    ),
    "unknown class": (
        lambda f: annotate(f, "a", [CELL, ("Cell", 11, 21, 30, 40)]),
        "Annotations/a.xml, object 1 (xmin, ymin, xmax, ymax = 11, 21, 30, 40): The "
        "class 'Cell' is unknown. Known are cell, speck: correct the name, or add it.",
    ),
    "duplicate name": (
        lambda f: write(f, "ImageSets/Main/train.txt", "a\nb\na\n"),
        "ImageSets/Main/train.txt, line 3: a is named twice. Take one of the lines out",
    ),
    "a path that leaves": (
        lambda f: write(f, "ImageSets/Main/train.txt", "a\n../../etc/passwd\n"),
        "ImageSets/Main/train.txt, line 2: '../../etc/passwd' points out of the data "
        "folder. Nothing outside it is read",
    ),
    "an absolute path": (
        lambda f: write(f, "ImageSets/Main/train.txt", "/etc/passwd\n"),
        "ImageSets/Main/train.txt, line 1: '/etc/passwd' points out of the data folde",
    ),
}


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_a_fault_of_a_voc_folder_is_reported(folder, fault):
    assert check_folder(folder, ["train"])[0] == []
    VOC_FAULTS[fault][0](folder)
    problems, *_ = check_folder(folder, ["train"], classes=["cell", "speck"])
    if fault == "xywh":
        problems = problems[:1]
    assert len(problems) == 1
    told = slashed(problems[0])
    assert told.startswith(slashed(f"{folder}/{VOC_FAULTS[fault][1]}"))


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_training_on_it_is_refused_with_the_same_words(folder, fault):
    VOC_FAULTS[fault][0](folder)
    with pytest.raises(DataError) as error:
        list(iterate(open_folder(folder, classes=["cell", "speck"])))
    told = slashed(error.value).replace("b.jpg cannot", "b.jpg: It cannot")
    assert told.startswith(slashed(f"{folder}/{VOC_FAULTS[fault][1]}")[:-20])


def iterate(dataset):
    return (dataset[i] for i in range(len(dataset)))


def test_boxes_in_another_format_are_not_dropped_but_refused(folder):
    """Those whose corners happen to be in order would stay, and be wrong."""
    VOC_FAULTS["xywh"][0](folder)
    with pytest.raises(DataError, match="look like x, y, width and height"):
        open_folder(folder, on_bad_box="drop")


def test_the_number_of_further_problems_is_told(folder):
    annotate(folder, "a", [("cell", 9, 9, 9, 9), ("cell", 8, 8, 8, 8)])
    with pytest.raises(DataError, match="1 more: rpn check lists them all"):
        open_folder(folder)


def test_an_image_in_two_splits_is_reported(folder):
    write(folder, "ImageSets/Main/val.txt", "b\n")
    problems, summary, *_ = check_folder(folder, ["train", "val"])
    assert [p.reason for p in problems] == ["b is in train too."]
    assert summary == "3 images, 2 boxes."


def test_pixels_that_count_from_0(folder):
    annotate(folder, "a", [("cell", 0, 21, 50, 40)])
    dataset = open_folder(folder, first_pixel=0)
    assert dataset[0][1]["boxes"].tolist() == [[0, 21, 50, 40]]


@pytest.mark.parametrize("use", [open_folder, scan_folder, check_folder])
def test_a_way_of_reading_that_there_is_not_is_named(folder, use):
    with pytest.raises(SettingError, match="no setting first_pixl; the nearest is fir"):
        use(folder, ["train"], first_pixl=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"first_pixel": 2}, "first_pixel is 0 or 1, not 2."),
        ({"difficult": "hide"}, "difficult is ignore, keep or drop, not 'hide'."),
        ({"exif": None}, "exif is apply or ignore, not None."),
        ({"max_pixels": 0}, "max_pixels=0 must be 1 or more."),
        ({"on_bad_box": "ignore"}, "on_bad_box is error or drop, not 'ignore'."),
    ],
)
def test_a_folder_and_a_run_are_read_by_the_same_rules(folder, values, message):
    for use in (lambda: DataConfig(**values), lambda: open_folder(folder, **values)):
        with pytest.raises(SettingError) as error:
            use()
        assert str(error.value) == message
    assert Reading() == Reading(**DataConfig().reading())


def test_functions_take_the_fields_of_a_reading():
    """mypy holds what they pass on; here nothing is left out."""
    assert get_type_hints(ReadingOptions) == get_type_hints(Reading)


def test_a_misspelt_argument_is_not_taken_for_a_way_of_reading(folder):
    with pytest.raises(SettingError, match="on_bad_boxes; the nearest is on_bad_box"):
        open_folder(folder, on_bad_boxes="drop")


def test_pictures_may_have_other_endings_and_lie_in_folders(folder):
    (folder / "JPEGImages/b.jpg").unlink()
    Image.new("RGB", (64, 48)).save(folder / "JPEGImages/b.PNG", format="png")
    (folder / "JPEGImages/day").mkdir()
    (folder / "Annotations/day").mkdir()
    Image.new("RGB", (64, 48)).save(folder / "JPEGImages/day/c.jpg")
    annotate(folder, "day/c", [CELL])
    write(folder, "ImageSets/Main/train.txt", "a\nb\nday/c\n")
    assert [target["image_id"] for _, target in iterate(open_folder(folder))] == [
        "a",
        "b",
        "day/c",
    ]


# COCO

COCO = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 9, "file_name": "b.jpg", "width": 64, "height": 48},
        {"id": 8, "file_name": "c.jpg", "width": 64, "height": 48},
    ],
    "categories": [{"id": 5, "name": "speck"}, {"id": 3, "name": "cell"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 20, 20]},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [0.5, 0.25, 63.5, 40]},
        {
            "id": 3,
            "image_id": 9,
            "category_id": 3,
            "bbox": [1, 2, 30, 40],
            "iscrowd": 1,
        },
    ],
}


@pytest.fixture
def coco(tmp_path):
    """A COCO folder: `a` with a cell and a speck, `b` with a crowd, `c` empty."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    for name in "abc":
        Image.new("RGB", (64, 48)).save(tmp_path / f"train/{name}.jpg")
    write(tmp_path, TRAIN, json.dumps(COCO))
    return tmp_path


TRAIN = "annotations/instances_train.json"


def test_boxes_crowds_and_classes_of_coco(coco):
    dataset = open_folder(coco)
    assert dataset.classes == ["cell", "speck"]
    targets = [target for _, target in iterate(dataset)]
    assert [t["image_id"] for t in targets] == ["a.jpg", "b.jpg", "c.jpg"]
    assert targets[0]["boxes"].tolist() == [[10, 20, 30, 40], [0.5, 0.25, 64, 40.25]]
    assert targets[0]["labels"].tolist() == [1, 2]
    assert [len(t["boxes"]) for t in targets] == [2, 0, 0]
    assert [t["ignore_boxes"].tolist() for t in targets] == [[], [[1, 2, 31, 42]], []]


def test_crowds_are_transformed_with_the_image(coco):
    flipped = open_folder(coco, transform=v2.RandomHorizontalFlip(p=1))[1][1]
    assert flipped["ignore_boxes"].tolist() == [[33, 2, 63, 42]]


def test_boxes_are_those_of_torchvision(coco, capsys):
    theirs = wrap_dataset_for_transforms_v2(
        CocoDetection(str(coco / "train"), str(coco / TRAIN)), target_keys={"boxes"}
    )
    ours = open_folder(coco)
    boxes = {target["image_id"]: target["boxes"] for _, target in iterate(ours)}
    assert torch.equal(boxes["a.jpg"], theirs[0][1]["boxes"])


def coco_fault(change):
    def apply(root):
        content = json.loads(json.dumps(COCO))
        change(content)
        write(root, TRAIN, json.dumps(content))

    return apply


def set_box(number, box):
    return coco_fault(lambda c: c["annotations"][number].update(bbox=box))


def set_image(number, **values):
    return coco_fault(lambda c: c["images"][number].update(values))


ONE = f"{TRAIN}, annotation 0 (id 1, image a.jpg)"
COCO_FAULTS = {
    "malformed JSON": (
        lambda f: write(f, TRAIN, '{"images": ['),
        f"{TRAIN}: It is no JSON: Expecting value: line 1 column 13",
    ),
    "deep JSON": (
        lambda f: write(f, TRAIN, "[" * 200_000),
        f"{TRAIN}: It ",
    ),
    "no object": (lambda f: write(f, TRAIN, "[1]"), f"{TRAIN}: It holds no object at"),
    "no annotations": (
        coco_fault(lambda c: c.pop("annotations")),
        f'{TRAIN}: It has no list of objects "annotations". COCO\'s annotations have',
    ),
    "missing image": (
        lambda f: (f / "train/c.jpg").unlink(),
        f"{TRAIN}, image 2 (c.jpg): The picture is missing; it is not in ",
    ),
    "empty image": (
        lambda f: write(f, "train/c.jpg", b""),
        "train/c.jpg: It cannot be read as an image: the file is empty.",
    ),
    "truncated image": (
        lambda f: truncate(f, "train/c.jpg"),
        "train/c.jpg: It cannot be read as an image: image file is truncated",
    ),
    "other size than declared": (
        set_image(2, width=48, height=64),
        "train/c.jpg: It is 64 x 48 pixels, but its annotation says 48 x 64.",
    ),
    "no size": (
        set_image(2, width="wide"),
        f"{TRAIN}, image 2 (c.jpg): height and width are 48 and 'wide'. Write the size",
    ),
    "missing coordinate": (
        set_box(0, [1, 2, 3]),
        f"{ONE}: bbox is [1, 2, 3]. Write four numbers: [x, y, width, height].",
    ),
    "no number": (
        set_box(0, [1, 2, 3, "four"]),
        f'{ONE}: bbox is [1, 2, 3, "four"]. Write four numbers',
    ),
    "no box": (
        coco_fault(lambda c: c["annotations"][0].pop("bbox")),
        f"{ONE}: bbox is null. Write four numbers",
    ),
    "NaN": (
        set_box(0, [1, 2, float("nan"), 4]),
        f"{ONE} [1, 2, nan, 4]: A coordinate is not a finite number. Look for",
    ),
    "negative size": (
        set_box(0, [1, 2, -3, 4]),
        f"{ONE} [1, 2, -3, 4]: The width is negative. COCO's bbox is [x, y, width",
    ),
    "zero size": (
        set_box(0, [1, 2, 3, 0]),
        f"{ONE} [1, 2, 3, 0]: The height is zero. Such a box marks no object",
    ),
    "outside": (
        set_box(0, [1, 2, 66, 4]),
        f"{ONE} [1, 2, 66, 4]: It reaches 3 pixels outside the image, which is 64",
    ),
    "xyxy": (
        coco_fault(
            lambda c: [
                row.update(bbox=box)
                for row, box in zip(
                    c["annotations"], ([40, 9, 60, 30], [5, 6, 9, 9], [3, 20, 31, 38])
                )
            ]
        ),
        f"{TRAIN}: The boxes look like two corners: read so, every one lies in its",
    ),
    "unknown class": (
        coco_fault(lambda c: c["annotations"][0].update(category_id=4)),
        f"{ONE}: The class 4 is unknown. Add it to categories, or correct category_id",
    ),
    "unknown image": (
        coco_fault(lambda c: c["annotations"][0].update(image_id=1)),
        f"{TRAIN}, annotation 0 (id 1): There is no image 1. Correct image_id",
    ),
    "duplicate annotation": (
        coco_fault(lambda c: c["annotations"][2].update(id=1)),
        f"{TRAIN}, annotation 2 (id 1, image b.jpg): The id 1 is taken already. Give",
    ),
    "duplicate image": (
        set_image(2, id=9),
        f"{TRAIN}, image 2 (c.jpg): The id 9 is taken by another image. Give each",
    ),
    "duplicate picture": (
        set_image(2, file_name="b.jpg"),
        f"{TRAIN}, image 2 (b.jpg): The same picture is listed twice. Its boxes must",
    ),
    "duplicate category": (
        coco_fault(lambda c: c["categories"].append({"id": 3, "name": "x"})),
        f"{TRAIN}, category 2: The id 3 is taken by 'cell'. Give each",
    ),
    "a path that leaves": (
        set_image(2, file_name="../../etc/passwd"),
        f"{TRAIN}, image 2: '../../etc/passwd' points out of the data folder. Nothing",
    ),
    "a path of Windows that leaves": (
        set_image(2, file_name="C:\\Windows\\win.ini"),
        f"{TRAIN}, image 2: 'C:\\\\Windows\\\\win.ini' points out of the data folder.",
    ),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_a_fault_of_a_coco_folder_is_reported(coco, fault):
    assert check_folder(coco, ["train"])[0] == []
    COCO_FAULTS[fault][0](coco)
    problems, *_ = check_folder(coco, ["train"])
    assert len(problems) == 1
    told = slashed(problems[0])
    assert told.startswith(slashed(f"{coco}/{COCO_FAULTS[fault][1]}"))
    with pytest.raises(DataError):
        list(iterate(open_folder(coco)))


def test_a_class_that_is_not_wanted(coco):
    problems = scan_folder(coco, "train", classes=["cell"]).problems
    assert "category 0: The class 'speck' is unknown. Known are cell" in str(
        problems[0]
    )
    dataset = open_folder(coco, classes=["cell"], on_bad_box="drop")
    assert dataset[0][1]["boxes"].tolist() == [[10, 20, 30, 40]]


def test_bad_boxes_of_coco_can_be_dropped(coco):
    set_box(0, [1, 2, 3, 0])(coco)
    dataset = open_folder(coco, on_bad_box="drop")
    assert len(dataset[0][1]["boxes"]) == 1
    assert "annotation 0 (id 1, image a.jpg)" in dataset.dropped[0]


def test_parts_of_a_pixel_outside_are_rounding(coco):
    set_box(0, [-0.4, 2, 64.9, 4])(coco)
    assert open_folder(coco)[0][1]["boxes"][0].tolist() == [0, 2, 64, 6]


@pytest.mark.parametrize("size", [{"width": None}, {"width": -1, "height": -1}])
def test_a_size_that_the_file_does_not_give_is_read_from_the_picture(coco, size):
    set_image(0, **size)(coco)
    found = scan_folder(coco, "train")
    assert found.problems == []
    assert [record.size for record in found.records] == [(48, 64)] * 3
    assert found.notes[0].startswith("1 annotations give no size of the picture")
    write(coco, "train/a.jpg", b"")
    [problem] = scan_folder(coco, "train").problems
    assert problem.kind == "bad picture"


def test_numbers_of_a_box_may_stand_in_quotes(coco):
    set_box(0, ["1", " 2 ", "3.5", 4])(coco)
    assert open_folder(coco)[0][1]["boxes"][0].tolist() == [1, 2, 4.5, 6]
    set_box(0, ["1", "nan", "3", "4"])(coco)
    [problem] = check_folder(coco, ["train"]).problems
    assert problem.kind == "not finite"


def test_the_layout_of_roboflow(coco):
    (coco / TRAIN).rename(coco / "train/_annotations.coco.json")
    assert reader_of(coco).NAME == "COCO"
    assert open_folder(coco, "train").names == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_missing_split_names_those_there_are(coco):
    with pytest.raises(
        DataError, match=r"this one has annotations/instances_train\.json"
    ):
        open_folder(coco, "val")


def test_a_folder_of_neither_kind(tmp_path):
    with pytest.raises(DataError, match="holds no annotations"):
        reader_of(tmp_path)


# Pictures


def picture(mode, size=(8, 6)):
    ramp = np.linspace(0, 1, size[0] * size[1]).reshape(size[1], size[0])
    if mode == "I;16":
        return Image.fromarray((ramp * 65535).round().astype(np.uint16))
    return Image.fromarray((ramp * 255).round().astype(np.uint8)).convert(mode)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("L", "png"),
        ("L", "jpg"),
        ("1", "png"),
        ("LA", "png"),
        ("RGBA", "png"),
        ("P", "png"),
        ("P", "gif"),
        ("CMYK", "jpg"),
        ("CMYK", "tif"),
        ("I;16", "png"),
        ("I;16", "tif"),
    ],
)
def test_every_kind_of_picture_is_read_as_rgb(tmp_path, mode, ending):
    """A ramp from black to white stays one; 16 bits are not cut off at 255."""
    path = tmp_path / f"ramp.{ending}"
    picture(mode).save(path)
    pixels = read_image(path)
    assert pixels.shape == (3, 6, 8)
    assert pixels.dtype == torch.uint8
    ramp = torch.linspace(0, 255, 48).reshape(6, 8)
    tolerance = 255 if mode == "1" else 12
    assert (pixels.float() - ramp).abs().max() <= tolerance
    assert pixels.max() >= 248
    assert pixels.min() <= 8


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparent_colours(tmp_path):
    image = picture("P")
    image.info["transparency"] = bytes(range(256))
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (3, 6, 8)


def test_numbers_of_32_bits_are_refused(tmp_path):
    Image.fromarray(np.full((6, 8), 0.5, dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif cannot be read.*of 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_noted(tmp_path, orientation):
    """Whatever the orientation, the red corner is where it was when it was taken."""
    upright = Image.new("RGB", (32, 16))
    upright.paste((255, 0, 0), (0, 0, 8, 8))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif)
    pixels = read_image(tmp_path / "a.jpg")
    assert pixels.shape == (3, 16, 32)
    assert pixels[0, 2, 2] > 200
    assert pixels[0, 12, 28] < 50
    assert image_size(tmp_path / "a.jpg") == (16, 32)


def test_a_picture_that_is_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=re.escape("decompression bomb")):
        read_image(tmp_path / "a.png")

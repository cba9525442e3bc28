"""Folders that went wrong on their way: one sentence each, no traceback, no silence."""

import json

import pytest
from folders import CELL, annotate, slashed
from PIL import Image

from rpn_lib.cli import main
from rpn_lib.data.check import check_folder
from rpn_lib.data.folder import reader_of, scan_folder, splits_of
from rpn_lib.data.records import Record, as_boxes
from rpn_lib.data.sides import too_small
from rpn_lib.errors import DataError

BOX = [3, 3, 20, 20]


def write_pictures(folder, names="abc", size=(64, 48)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", size, (ord(name), 0, 0)).save(folder / f"{name}.jpg")


def coco(root, boxes=(BOX,) * 3, **images):
    """Three pictures with a box each; `images` changes every entry of a picture."""
    write_pictures(root / "train")
    rows = [
        {"id": i, "file_name": f"{name}.jpg", "width": 64, "height": 48, **images}
        for i, name in enumerate("abc")
    ]
    found = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": box}
        for i, box in enumerate(boxes)
    ]
    names = [{"id": 1, "name": "cell"}]
    content = {"images": rows, "annotations": found, "categories": names}
    (root / "annotations").mkdir()
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return root


def yolo(root, row="0 0.5 0.5 0.2 0.2", yaml=None):
    write_pictures(root / "images/train")
    (root / "labels/train").mkdir(parents=True)
    for name in "abc":
        (root / f"labels/train/{name}.txt").write_text(row)
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root


def first_problem(root, split="train"):
    return str(check_folder(root, [split]).problems[0])


@pytest.mark.parametrize("row", ["cat 0.5 0.5 0.2 0.2", "0,0.5,0.5,0.2,0.2"])
def test_rows_with_names_or_commas_are_named_with_file_and_line(tmp_path, row):
    text = first_problem(yolo(tmp_path, row))
    assert "labels/train/a.txt, line 1: " in slashed(text)
    assert "are not numbers alone. A row is: class cx cy w h, with spaces" in text


def test_an_entry_of_data_yaml_may_be_a_picture(tmp_path):
    yaml = "train: images/train/a.jpg\nval: [images/train/b.jpg]\nnames: [cell]\n"
    yolo(tmp_path, yaml=yaml)
    assert [r.path.name for r in scan_folder(tmp_path, "train").records] == ["a.jpg"]
    assert check_folder(tmp_path, ["train", "val"]).problems == []


def test_a_list_that_is_no_text_is_named(tmp_path):
    yolo(tmp_path, yaml="train: train.bin\nval: images/train\nnames: [cell]\n")
    (tmp_path / "train.bin").write_bytes(b"\xff\xfe\0")
    assert "train.bin is no list of pictures" in first_problem(tmp_path)


def test_names_that_are_neither_list_nor_mapping(tmp_path):
    yolo(tmp_path, yaml="train: images/train\nnames: cell\n")
    assert "names is 'cell'. Write a list" in first_problem(tmp_path)


def test_pictures_of_a_kind_that_is_not_read(tmp_path):
    yolo(tmp_path)
    for path in (tmp_path / "images/train").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"YOLO, but no picture of them\. Read are"):
        splits_of(tmp_path)


def test_a_list_without_a_name_is_a_problem(folder, capsys):
    (folder / "ImageSets/Main/train.txt").write_text("# nothing\n")
    assert main(["check", str(folder)]) == 1
    assert "train.txt, split train: It names no image." in capsys.readouterr().out


def test_whole_numbers_of_any_length(tmp_path):
    coco(tmp_path, [[10**400, 3, 5, 5], BOX, BOX])
    assert "[inf, 3, 5, 5]: A coordinate is infinite." in first_problem(tmp_path)


def test_numbers_that_are_longer_than_python_reads(tmp_path):
    coco(tmp_path)
    path = tmp_path / "annotations/instances_train.json"
    text = path.read_text()
    for long in ("9" * 5000, f'"{"9" * 5000}"', f'"{"9" * 500}.0"'):
        path.write_text(text.replace('"category_id": 1', f'"category_id": {long}', 1))
        assert check_folder(tmp_path, ["train"]).problems


def test_sides_that_no_picture_has(tmp_path):
    assert "height and width are 48 and 1e+308" in first_problem(
        coco(tmp_path, width=1e308)
    )


def test_an_empty_file_name(tmp_path):
    text = first_problem(coco(tmp_path, file_name=""))
    assert "image 0: It needs an id and a file_name." in text


def test_a_picture_in_other_capitals_is_pointed_to(tmp_path):
    coco(tmp_path, file_name="A.JPG")
    text = first_problem(tmp_path)
    if (tmp_path / "train/A.JPG").exists():
        pytest.skip("the file system ignores case")
    assert f"There is {tmp_path / 'train' / 'a.jpg'}: write its name" in text


def test_a_box_that_has_no_width_in_float32(tmp_path):
    text = first_problem(coco(tmp_path, [[40, 3, 1e-9, 20], BOX, BOX]))
    assert "The width is 1e-09 pixels. Such a box marks no object" in text


def test_shares_in_a_format_of_pixels(tmp_path, folder):
    shares = [0.1, 0.2, 0.5, 0.6]
    coco(tmp_path / "coco", [shares] * 3)
    annotate(folder, "a", [("cell", *shares)] * 3)
    for root in (tmp_path / "coco", folder):
        text = first_problem(root)
        assert "All coordinates lie between 0 and 1: they look like shares" in text
        assert "first-pixel" not in text


def test_width_and_height_exchanged(tmp_path):
    text = first_problem(coco(tmp_path, width=48, height=64))
    assert "width and height are exchanged in the annotation" in text
    assert "exif" not in text  # the camera noted nothing


def test_xml_with_a_namespace(folder):
    for name in "ab":
        annotate(folder, name, [CELL])
        path = folder / f"Annotations/{name}.xml"
        text = path.read_text().replace("<annotation>", "<annotation xmlns='http://x'>")
        path.write_text(text)
    assert check_folder(folder, ["train"]).summary == "2 images, 2 boxes."


def test_turned_boxes_of_rolabelimg(folder):
    text = "<object><name>c</name><robndbox><cx>9</cx></robndbox></object>"
    path = folder / "Annotations/b.xml"
    path.write_text(path.read_text().replace("</annotation>", f"{text}</annotation>"))
    assert "robndbox is not read: write the upright box" in first_problem(folder)


def test_a_picture_that_git_lfs_has_not_fetched(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "JPEGImages/a.jpg").write_text(pointer)
    assert "it is a pointer of Git LFS" in first_problem(folder)


def test_an_archive_that_was_not_unpacked(tmp_path):
    (tmp_path / "cells.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"cells\.zip looks like an archive\. Unpack"):
        reader_of(tmp_path)


def test_a_side_that_is_named_is_large_enough(tmp_path):
    """In a long image the shorter side is a few pixels, and grows in steps."""
    boxes = as_boxes([[0, 0, 400, 1]])
    record = Record("a", tmp_path, (1, 4000), boxes, ["c"], boxes[:0])
    small, total, side = too_small([record], 240)
    assert (small, total) == (1, 1)
    assert too_small([record], side) == (0, 1, 0)

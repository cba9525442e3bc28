"""Nothing vanishes without a word: flags, turned boxes, doubles, odd pictures."""

import io
import json
import multiprocessing
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import CELL, annotate, environment, slashed, write_coco, write_folder
from PIL import Image, ImageOps, features
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from rpn_lib.cli import main
from rpn_lib.data import foreign
from rpn_lib.data.augment import Augment
from rpn_lib.data.batches import InMemory, collate
from rpn_lib.data.check import check_folder
from rpn_lib.data.dataset import make_target
from rpn_lib.data.folder import open_folder, reader_of, scan_folder
from rpn_lib.data.images import image_size, look_at, read_image
from rpn_lib.data.problems import report
from rpn_lib.data.resize import Resize, tidy
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.data.sides import choose_side, fitted_boxes, too_small
from rpn_lib.errors import DataError

SCENES = [ShapesDataset(4, image_size=(64, 96), sizes=(16, 40))[i] for i in range(4)]
FILE = "annotations/instances_train.json"


@pytest.fixture
def coco(tmp_path):
    """Two pictures, an annotation in each: [10, 20, 20, 20] and [1, 2, 30, 40]."""
    (tmp_path / "annotations").mkdir()
    for name in "ab":
        Image.new("RGB", (64, 48), (ord(name), 0, 0)).save(tmp_path / f"{name}.jpg")
    sides = {"width": 64, "height": 48}
    content = {
        "images": [
            {"id": 1, "file_name": "a.jpg", **sides},
            {"id": 2, "file_name": "b.jpg", **sides},
        ],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 20, 20]},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [1, 2, 30, 40]},
        ],
    }
    (tmp_path / FILE).write_text(json.dumps(content))
    return tmp_path


LOSSLESS = {"webp": {"lossless": True}}


def reopened(image, exif):
    buffer = io.BytesIO()
    image.save(buffer, "png", exif=exif)
    return Image.open(buffer)


def change(root, part, number, **values):
    content = json.loads((root / FILE).read_text())
    content[part][number].update(values)
    (root / FILE).write_text(json.dumps(content))


def counts(root, **reading):
    records = scan_folder(root, "train", **reading).records
    boxes = sum(len(record.boxes) for record in records)
    return boxes, sum(len(record.crowds) for record in records)


def test_an_empty_file_hides_no_other_annotations(tmp_path):
    write_folder(tmp_path, SCENES, train=2)
    first = min((tmp_path / "Annotations").iterdir())
    for folder in ("day", "night"):
        shutil.copytree(tmp_path / "Annotations", tmp_path / "d" / folder)
        shutil.copytree(
            tmp_path / "JPEGImages", tmp_path / "d" / folder, dirs_exist_ok=True
        )
    (tmp_path / "d/night" / first.name).write_text("")
    found = check_folder(tmp_path / "d", ["all"])
    assert found.summary.startswith("7 images")
    (problem,) = found.problems
    assert str(Path("night", first.name)) in str(problem)


def test_pictures_in_a_folder_called_data(tmp_path):
    write_folder(tmp_path / "a", SCENES, train=2)
    for old, new in (("JPEGImages", "data"), ("Annotations", "labels")):
        (tmp_path / "a" / old).rename(tmp_path / new)
    found = check_folder(tmp_path, ["all"])
    assert (found.problems, found.summary[:8]) == ([], "4 images")


def test_a_strip_is_resized_to_a_line():
    strip = torch.zeros(3, 5, 3000, dtype=torch.uint8)
    assert Resize(240).resize(strip).shape[1:] == Resize(240).size_of((5, 3000))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_every_format_is_turned_alike(tmp_path, ending, turn):
    stored = Image.new("RGB", (40, 30))
    stored.paste("white", (0, 0, 40, 15))
    stored.paste("red", (0, 0, 20, 15))
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = ImageOps.exif_transpose(reopened(stored, exif))
    path = tmp_path / f"a.{ending}"
    stored.save(path, exif=exif, quality=100, **LOSSLESS.get(ending, {}))
    for how, expected in (("apply", upright), ("ignore", stored)):
        pixels = read_image(path, how)
        right = torch.from_numpy(np.asarray(expected).copy()).permute(2, 0, 1)
        assert pixels.shape == right.shape
        assert (pixels.int() - right.int()).abs().float().mean() < 8  # JPEG's edges
        for decode in (True, False):
            assert look_at(path, decode, how).size == right.shape[1:]


def test_dark_pictures_of_16_bits_in_three_channels_are_told(tmp_path):
    rows = (np.random.default_rng(0).integers(0, 4096, (48, 64, 3))).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        check = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + check
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    warnings = map(str, check_folder(tmp_path, ["all"]).warnings)
    assert any("12 bits, and nearly black here" in text for text in warnings)


def test_a_damaged_avif_is_named(tmp_path):
    if not features.check("avif"):
        pytest.skip("NOT RUN: this Pillow reads no AVIF.")
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, "avif")
    content = bytearray(buffer.getvalue())
    at = content.find(b"pitm") + 8
    content[at : at + 2] = b"\0\x09"
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg"):
        read_image(tmp_path / "a.jpg")


# Values as tools write them


@pytest.mark.parametrize("value", ["0", 0, 0.0, False, None, "false"])
def test_a_flag_that_says_no(coco, value):
    change(coco, "annotations", 0, iscrowd=value, ignore=value)
    assert counts(coco) == (2, 0)


@pytest.mark.parametrize("value", ["1", 1, 1.0, True])
@pytest.mark.parametrize("name", ["iscrowd", "ignore"])
def test_a_flag_that_says_yes_is_a_region_to_ignore(coco, name, value):
    change(coco, "annotations", 0, **{name: value})
    assert counts(coco) == (1, 1)


@pytest.mark.parametrize("value", [2, -1, "yes, many", [0], 0.5])
def test_any_other_flag_is_refused_by_name(coco, value):
    change(coco, "annotations", 0, iscrowd=value)
    [problem] = check_folder(coco, ["train"]).problems
    assert problem.kind == "flag"
    assert f"annotation 0 (id 1, image a.jpg): iscrowd is {value!r}." in str(problem)


@pytest.mark.parametrize("kind", [str, float, lambda n: f"{n}.0"])
def test_whole_numbers_may_stand_in_quotes_or_have_a_point(coco, kind):
    content = json.loads((coco / FILE).read_text())
    for row in content["images"]:
        row.update({key: kind(row[key]) for key in ("id", "width", "height")})
    content["categories"][0]["id"] = kind(1)
    (coco / FILE).write_text(json.dumps(content))
    assert counts(coco) == (2, 0)
    for row in content["annotations"]:
        keys = ("id", "image_id", "category_id")
        row.update({key: kind(row[key]) for key in keys})
    (coco / FILE).write_text(json.dumps(content))
    assert counts(coco) == (2, 0)
    assert check_folder(coco, ["train"]).problems == []


def test_ids_that_are_no_numbers(coco):
    change(coco, "images", 0, id="007")
    change(coco, "annotations", 0, image_id="007")
    change(coco, "images", 1, id="b.jpg")
    change(coco, "annotations", 1, image_id="b.jpg")
    assert counts(coco) == (2, 0)


def test_ten_thousand_times_the_same_are_one_line_with_a_count(coco):
    content = json.loads((coco / FILE).read_text())
    one = {**content["annotations"][0], "iscrowd": "maybe"}
    content["annotations"] = [{**one, "id": i} for i in range(10_000)]
    (coco / FILE).write_text(json.dumps(content))
    problems = check_folder(coco, ["train"]).problems
    assert len(problems) == 10_000
    line, last = report(problems, "Done.").splitlines()
    assert "annotation 0 (id 0, image a.jpg): iscrowd is 'maybe'." in line
    assert line.endswith("(9,999 more of this kind)")
    assert last == "Done. 10,000 problems."
    assert len(report(problems, every=True).splitlines()) == 10_001


def test_infinite_and_negative_are_told_apart(coco):
    infinite = float("inf")
    change(coco, "annotations", 0, bbox=[infinite, infinite, -infinite, -infinite])
    change(coco, "annotations", 1, bbox=[1, 2, -3, 4])
    first, second = check_folder(coco, ["train"]).problems
    assert (first.kind, first.reason) == ("not finite", "A coordinate is infinite.")
    assert (second.kind, second.reason) == ("swapped", "The width is negative.")


def test_a_backslash_is_a_slash(coco):
    (coco / "images").mkdir()
    (coco / "a.jpg").rename(coco / "images/a.jpg")
    change(coco, "images", 0, file_name="images\\a.jpg")
    assert check_folder(coco, ["train"]).problems == []


# Difficult, crowds, turned boxes


def difficult(folder, name="a"):
    path = folder / f"Annotations/{name}.xml"
    text = path.read_text()
    path.write_text(
        text.replace("<name>speck</name>", "<name>speck</name><difficult>1</difficult>")
    )


@pytest.mark.parametrize(
    ("choice", "boxes", "regions"), [("ignore", 1, 1), ("keep", 2, 0), ("drop", 1, 0)]
)
def test_difficult_objects_of_voc(folder, choice, boxes, regions):
    difficult(folder)
    assert counts(folder, difficult=choice) == (boxes, regions)
    dataset = open_folder(folder, difficult=choice)
    target = dataset[0][1]
    assert (len(target["boxes"]), len(target["ignore_boxes"])) == (boxes, regions)
    assert len(dataset.notes) == 1
    assert "1 objects" in dataset.notes[0]
    assert "difficult" in dataset.notes[0]


def test_difficult_objects_are_counted_by_the_command(folder, capsys):
    difficult(folder)
    assert main(["check", str(folder)]) == 0
    assert "2 images, 1 boxes, 1 regions to ignore." in capsys.readouterr().out
    assert main(["check", str(folder), "--difficult", "keep"]) == 0
    assert "2 images, 2 boxes. Nothing" in capsys.readouterr().out


def test_everything_a_crowd_is_refused_before_training(coco, tmp_path, capsys):
    for number in (0, 1):
        change(coco, "annotations", number, iscrowd=1)
    [problem] = check_folder(coco, ["train"]).problems
    assert problem.kind == "no object"
    assert "all 2 annotations are crowds or regions to ignore" in problem.reason
    (coco / "annotations/instances_val.json").write_bytes((coco / FILE).read_bytes())
    assert main(["train", "--data", str(coco), "--out", str(tmp_path / "out")]) == 2
    assert "all 2 annotations are crowds" in capsys.readouterr().err


def test_a_box_that_cvat_turned_is_its_upright_hull(coco):
    change(coco, "annotations", 0, attributes={"rotation": 90.0})
    change(coco, "annotations", 0, bbox=[10, 20, 20, 10])  # centre 20, 25
    found = scan_folder(coco, "train")
    assert found.records[0].boxes.tolist() == [[15, 15, 25, 35]]
    assert found.notes[0].startswith("1 boxes are turned (CVAT's rotation)")


def test_a_box_that_cvat_turned_in_voc_is_its_upright_hull(folder):
    path = folder / "Annotations/b.xml"
    annotate(folder, "b", [("cell", 11, 21, 30, 30)])
    turned = (
        "<attributes><attribute><name>rotation</name><value>45</value></attribute>"
        "</attributes><bndbox>"
    )
    path.write_text(path.read_text().replace("<bndbox>", turned))
    [box] = next(r for r in scan_folder(folder, "train").records if r.name == "b").boxes
    reach = (10 + 5) * 0.5**0.5
    centre = np.array([20, 25])
    np.testing.assert_allclose(box, [*(centre - reach), *(centre + reach)], rtol=1e-5)


def test_several_bndbox_in_an_object_are_all_read(folder):
    annotate(folder, "b", [CELL])
    path = folder / "Annotations/b.xml"
    more = (
        "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
        "</object>"
    )
    path.write_text(path.read_text().replace("</object>", more))
    found = scan_folder(folder, "train")
    record = found.records[1]
    assert record.boxes.tolist() == [[10, 20, 30, 40], [0, 1, 3, 4]]
    assert record.classes == ["cell", "cell"]
    assert "1 objects have several bndbox" in found.notes[0]


# What only shows in the whole


def test_the_same_box_twice_is_a_warning(folder):
    annotate(folder, "a", [CELL, ("cell", 11, 21, 31, 40), CELL, ("speck", *CELL[1:])])
    [warning] = check_folder(folder, ["train"]).warnings
    assert warning.kind == "duplicate"
    assert "a: Boxes 0 and 2 of the image, both 'cell', are the same." in str(warning)
    open_folder(folder)


def test_boxes_that_cover_the_whole_image(tmp_path):
    whole = torch.tensor([[0.0, 0, 96, 64]])
    scenes = [
        (image, {"boxes": whole, "labels": torch.tensor([1])}) for image, _ in SCENES
    ]
    write_coco(tmp_path, scenes)
    [warning] = check_folder(tmp_path, ["train"]).warnings
    assert warning.reason == ("4 of 4 images have a box that covers the whole image.")
    write_coco(tmp_path, [*scenes[:2], *SCENES[2:]])  # half of them is not most
    assert check_folder(tmp_path, ["train"]).warnings == []


def test_the_same_picture_under_two_names_in_two_splits_is_a_leak(tmp_path):
    data = write_folder(tmp_path / "data")
    names = [data / f"JPEGImages/scene_{i}.png" for i in (3, 15)]
    names[1].write_bytes(names[0].read_bytes())
    [warning] = check_folder(data, ["train", "val"]).warnings
    assert warning.kind == "leak"
    assert str(warning).startswith(f"{names[1]}: It is the same picture as {names[0]}")
    assert check_folder(data, ["val"]).warnings == []


def test_the_command_tells_warnings_from_problems(folder, capsys):
    annotate(folder, "a", [CELL, CELL])
    assert main(["check", str(folder)]) == 0
    *_, warning, last = capsys.readouterr().out.splitlines()
    told = f"warning: {folder}/ImageSets/Main/train.txt, a: Boxes 0"
    assert slashed(warning).startswith(slashed(told))
    assert last == "train: 2 images, 2 boxes. 1 warning. No problems."


# Pictures


def test_12_bits_in_16_are_a_warning_with_the_fix(folder):
    for name in "ab":
        (folder / f"JPEGImages/{name}.jpg").unlink()
        values = np.linspace(0, 4095, 48 * 64).reshape(48, 64).astype(np.uint16)
        Image.fromarray(values).save(folder / f"JPEGImages/{name}.png")
    [warning] = check_folder(folder, ["train"]).warnings
    assert warning.reason == (
        "2 pictures have 16 bits, but none of them a value above 4,095: these are 12 "
        "bits, and nearly black here."
    )
    Image.fromarray(values * 16).save(folder / "JPEGImages/a.png")
    assert check_folder(folder, ["train"]).warnings == []


def with_exif(path, orientation, size=(64, 48)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), (0, 0, 8, 8))
    image.save(path, exif=exif)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_picture_that_is_upside_down_is_noted_once(folder, orientation):
    for name in "ab":
        with_exif(folder / f"JPEGImages/{name}.jpg", orientation)
    for decode in (True, False):
        found = check_folder(folder, ["train"], decode=decode)
        assert found.problems == []
        [note] = found.notes
        assert note.startswith("2 pictures have a note of their camera that they are")
        assert "--exif ignore" in note
    turned, stored = open_folder(folder), open_folder(folder, exif="ignore")
    assert stored[0][0][0, 2, 2] > 200  # the red corner is where it is stored
    assert turned[0][0][0, 2, 2] < 50


def test_a_picture_on_its_side_whose_boxes_were_drawn_as_it_is_stored(folder):
    for name in "ab":
        with_exif(folder / f"JPEGImages/{name}.jpg", 6)
    [first, _] = check_folder(folder, ["train"]).problems
    assert first.kind == "size"
    assert "--exif ignore" in str(first)
    assert check_folder(folder, ["train"], exif="ignore").problems == []
    assert open_folder(folder, exif="ignore")[0][0].shape == (3, 48, 64)


def test_an_orientation_of_another_type_is_passed_over(folder):
    path = folder / "JPEGImages/a.jpg"
    Image.new("RGB", (64, 48)).save(path, exif=ASCII_ORIENTATION)
    assert image_size(path) == (48, 64)
    assert read_image(path).shape == (3, 48, 64)
    for decode in (True, False):
        found = check_folder(folder, ["train"], decode=decode)
        assert found.problems == []
        [note] = found.notes
        assert note.startswith("1 pictures have an orientation in their EXIF data that")


# A TIFF head, one entry: tag 0x0112, type 2 (ASCII), length 2, "6".
ASCII_ORIENTATION = (
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0" + b"6\0\0\0" + b"\0\0\0\0"
)


def test_a_very_large_picture_can_be_allowed(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's, restored later
    [first, _] = check_folder(folder, ["train"]).problems
    assert first.kind == "bad picture"
    assert "--max-pixels" in str(first)
    assert check_folder(folder, ["train"], max_pixels=64 * 48).problems == []
    assert open_folder(folder, max_pixels=64 * 48)[0][0].shape == (3, 48, 64)
    with pytest.raises(DataError, match="more than max_pixels=3071"):
        read_image(folder / "JPEGImages/a.jpg", max_pixels=64 * 48 - 1)


def test_file_names_that_the_terminal_cannot_show(tmp_path):
    data = write_folder(tmp_path / "data")
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    for part, ending in (("JPEGImages", "png"), ("Annotations", "xml")):
        (data / f"{part}/scene_0.{ending}").rename(data / f"{part}/{name}.{ending}")
    lists = data / "ImageSets"
    for path in (lists / "Main").iterdir():
        path.unlink()
    (lists / "Main").rmdir()
    lists.rmdir()
    (data / f"JPEGImages/{name}.png").write_bytes(b"")
    command = [sys.executable, "-m", "rpn_lib", "check", str(data)]
    made = subprocess.run(
        command,
        capture_output=True,
        env=environment(PYTHONIOENCODING="ascii:strict"),
        check=False,
    )
    assert made.returncode == 1
    assert b"caf\\udce9.png: It cannot be read as an image" in made.stdout


# Resizing


def test_small_objects_are_measured_but_not_learnt():
    image = torch.zeros(3, 480, 640, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 100, 100], [10, 10, 13, 13]])
    target = make_target(boxes, [1, 2], "a", image, boxes[:0])
    small, resized = Resize(240)(image, target)
    assert resized["boxes"].tolist() == [[0, 0, 50, 50], [5, 5, 6.5, 6.5]]
    learnt = tidy(small, resized)[1]
    assert learnt["boxes"].tolist() == [[0, 0, 50, 50]]
    assert learnt["labels"].tolist() == [1]
    assert len(Resize(240).boxes_of(boxes, (480, 640))) == 2


def test_boxes_without_the_image_are_those_with_it():
    for size in ((64, 96), (96, 64), (50, 400)):
        scene = ShapesDataset(1, image_size=(64, 96), sizes=(16, 30))[0]
        image = torch.zeros(3, *size, dtype=torch.uint8)
        boxes = scene[1]["boxes"].as_subclass(torch.Tensor).clamp(max=min(size))
        target = make_target(boxes, scene[1]["labels"].tolist(), "a", image)
        fit = Resize(40)
        with_image = fit(image, target)[1]["boxes"].as_subclass(torch.Tensor)
        torch.testing.assert_close(fit.boxes_of(boxes, size), with_image)
        plain = torch.as_tensor(fitted_boxes(boxes.numpy(), size, 40))
        torch.testing.assert_close(plain, with_image)


def objects_of(tmp_path, sides):
    """A folder of 480 x 640 images with a square of each of these sides."""
    image = torch.zeros(3, 480, 640, dtype=torch.uint8)
    boxes = torch.tensor([[9.0, 9, 9 + side, 9 + side] for side in sides])
    target = {"boxes": boxes, "labels": torch.ones(len(sides), dtype=torch.int64)}
    for split in ("train", "val"):
        write_coco(tmp_path, [(image, target)] * 2, split=split)
    return tmp_path


def test_a_run_says_what_is_too_small_and_where_it_would_not_be(tmp_path, capsys):
    data = objects_of(tmp_path / "data", [100, 3])
    found = scan_folder(data, "train")
    assert too_small(found.records, 240) == (2, 4, 321)
    assert too_small(found.records, 321) == (0, 4, 0)
    options = ["--side", "240", "--epochs", "1", "--batch-size", "2", "--out"]
    command = ["train", "--data", str(data), *options, str(tmp_path / "out")]
    assert main(command) == 0
    text = capsys.readouterr()
    assert "2 of 4 objects are smaller than 2 pixels" in text.out + text.err
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["recall@0.5/100"] <= 0.5  # the small ones count


def test_a_run_with_small_objects_only_is_refused(tmp_path, capsys):
    data = objects_of(tmp_path / "data", [3, 2.5])
    command = ["train", "--data", str(data), "--side", "240", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert (
        "There is nothing to learn: 4 of 4 objects are smaller than 2 pixels" in error
    )
    assert "with --side 385 all of them would be learnt" in error


def test_the_check_says_what_a_run_would_say_of_small_objects(tmp_path, capsys):
    data = objects_of(tmp_path / "data", [100, 3])
    assert main(["check", str(data), "--side", "240"]) == 0
    text = capsys.readouterr().out
    said = "2 of 4 objects are smaller than 2 pixels where the shorter side is 240."
    assert f"note: train: {said}" in text  # not of val, which is not learnt
    assert "with --side 321 all of them would be learnt" in text
    assert main(["check", str(data), "--side", "321"]) == 0
    assert "smaller than" not in capsys.readouterr().out
    # Without --side it is the one that a run chooses.
    side = choose_side(scan_folder(data, "train").records)
    assert too_small(scan_folder(data, "train").records, side)[0] == 0
    assert main(["check", str(data)]) == 0
    assert "smaller than" not in capsys.readouterr().out


def test_the_check_refuses_small_objects_only_as_a_run_does(tmp_path):
    data = objects_of(tmp_path / "data", [3, 2.5])
    [problem] = check_folder(data, ["train", "val"], side=240).problems
    assert problem.kind == "too small"
    assert "There is nothing to learn: 4 of 4 objects" in str(problem)


# Transforms and workers


def crowded(coco):
    change(coco, "annotations", 1, iscrowd=1)
    content = json.loads((coco / FILE).read_text())
    more = {**content["annotations"][0], "id": 3, "bbox": [30, 5, 30, 30]}
    content["annotations"] += [more, {**more, "id": 4, "iscrowd": 1, "image_id": 1}]
    (coco / FILE).write_text(json.dumps(content))
    return coco


CROPS = v2.Compose(
    [v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes(), v2.RandomHorizontalFlip()]
)


@pytest.mark.parametrize("kept", [False, True])
def test_crops_and_sanitisers_of_torchvision_take_regions_along(coco, kept):
    crowded(coco)
    dataset = open_folder(coco, transform=None if kept else CROPS)
    samples = InMemory(dataset, CROPS) if kept else dataset
    cut = 0
    for seed in range(30):
        torch.manual_seed(seed)
        for i in range(2):
            image, target = samples[i]
            assert len(target["boxes"]) == len(target["labels"])
            assert (target["labels"] == 1).all()
            for key in ("boxes", "ignore_boxes"):
                assert target[key].canvas_size == tuple(image.shape[1:])
                assert (target[key][:, 2:] > target[key][:, :2]).all()
            cut += image.shape[1:] != (48, 64)
    assert cut > 5


def test_regions_move_as_boxes_do(coco):
    crowded(coco)
    plain, flipped = (
        open_folder(coco, transform=transform)[0][1]
        for transform in (None, v2.RandomHorizontalFlip(p=1))
    )
    assert plain["ignore_boxes"].tolist() == [[30, 5, 60, 35]]
    assert flipped["ignore_boxes"].tolist() == [[4, 5, 34, 35]]
    assert flipped["labels"].tolist() == [1, 1]


def test_collate_gives_plain_tensors(coco):
    images, targets = collate([open_folder(crowded(coco))[0]])
    assert type(images[0]) is torch.Tensor
    assert type(targets[0]["boxes"]) is torch.Tensor
    assert type(targets[0]["ignore_boxes"]) is torch.Tensor
    assert targets[0]["image_id"] == "a.jpg"


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_start_by_every_method(coco, method):
    """What `rpn train --workers --cache none` gives to a loader; spawn pickles it."""
    transform = v2.Compose([Resize(48), tidy, Augment(["flip"])])
    dataset = open_folder(coco, transform=transform)
    loader = DataLoader(
        dataset, 2, num_workers=1, multiprocessing_context=method, collate_fn=collate
    )
    [(images, targets)] = loader
    assert [image.shape for image in images] == [(3, 48, 64)] * 2
    assert [len(target["boxes"]) for target in targets] == [1, 1]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_run_with_workers_by_every_start_method(coco, method):
    """The command, its images read from their files in the workers."""
    (coco / "annotations/instances_val.json").write_bytes((coco / FILE).read_bytes())
    code = (
        "import multiprocessing as m, sys; from rpn_lib.cli import main\n"
        "if __name__ == '__main__':\n"
        f"    m.set_start_method({method!r}); sys.exit(main(sys.argv[1:]))\n"
    )
    (coco / "start.py").write_text(code)
    options = [
        "--side",
        "48",
        "--epochs",
        "1",
        "--batch-size",
        "2",
        "--workers",
        "1",
        "--cache",
        "none",
    ]
    command = [sys.executable, str(coco / "start.py"), "train", "--data", str(coco)]
    made = subprocess.run(
        [*command, *options, "--out", str(coco / "out")],
        capture_output=True,
        env=environment(OMP_NUM_THREADS="1"),
        check=False,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    assert (coco / "out/checkpoint.pt").is_file()


# Not read, but recognised

SHAPE = '{""name"":""rect"",""x"":5,""y"":6,""width"":20,""height"":10}'
COLUMNS = "filename,file_size,file_attributes,region_count,region_id,"
FOREIGN = {
    "VIA, annotations": (
        "via_region_data.json",
        '{"a.jpg7": {"filename": "a.jpg", "size": 7, "regions": [{"shape_attributes": '
        '{"name": "rect"}, "region_attributes": {}}], "file_attributes": {}}}',
    ),
    "VIA, no region": (
        "via_region_data.json",
        '{"a.jpg7":{"filename":"a.jpg","size":7,"regions":[],"file_attributes":{}}}',
    ),
    "VIA, a table": (
        "via_region_data.csv",
        f"{COLUMNS}region_shape_attributes,region_attributes\n"
        f'a.jpg,7,"{{}}",1,0,"{SHAPE}","{{""class"":""x""}}"\n',
    ),
    "VIA, a table of version 1": (
        "via_region_data.csv",
        f"#{COLUMNS}region_shape_attributes,region_attributes\n",
    ),
    "VIA, a project of version 3": (
        "via_project.json",
        '{"project": {"pid": "__VIA_PROJECT_ID__", "vid_list": ["1"]}, "config": {}, '
        '"attribute": {}, "file": {}, "metadata": {}, "view": {}}',
    ),
    "VIA, a table of version 3": (
        "project_export.csv",
        "# Exported using VGG Image Annotator\n# CSV_HEADER = metadata_id,file_list,"
        "flags,temporal_coordinates,spatial_coordinates,metadata\n"
        '"1_x","[""a.jpg""]",0,"[]","[2,5,6,20,10]","{}"\n',
    ),
    "CVAT, images": (
        "annotations.xml",
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1'
        '</version>\n  <meta/>\n  <image id="0" name="a.jpg" width="64" height="48">\n'
        '    <box label="x" xtl="5.00" ytl="6.00" xbr="25.00" ybr="16.00"></box>\n'
        "  </image>\n</annotations>\n",
    ),
    "CVAT, a video": (
        "annotations.xml",
        "<?xml version='1.0'?>\n<annotations><track id='0' label='x'><box frame='0' "
        "xtl='5' ytl='6' xbr='25' ybr='16'/></track></annotations>",
    ),
    "LabelMe": ("a.json", '{"shapes": [], "imagePath": "a.jpg"}'),
    "VIA": ("via.json", '{"_via_settings": {}, "_via_img_metadata": {}}'),
    "CVAT": (
        "annotations.xml",
        "<?xml version='1.0'?>\n<annotations><image/>",
    ),
    "CreateML": (
        "c.json",
        '[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}]',
    ),
    "a table of boxes": (
        "labels.csv",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,9,x,1,1,5,5\n",
    ),
    "a table": ("train.csv", "a.jpg,1,2,30,40,cat\n"),
    "TFRecord": ("cells.tfrecord", "\0\0"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_recognised_by_content(tmp_path, name):
    file, content = FOREIGN[name]
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError) as error:
        reader_of(tmp_path)
    assert f"{file} looks like {name.split(',')[0]}" in str(error.value)
    assert any(word in str(error.value) for word in ("convert", "xport"))


def test_the_script_for_createml_on_the_page_on_running(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parent.parent / "book/running.md").read_text()
    [script] = re.findall(r"```python\n(import json.*?)```", page, flags=re.S)
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    place = {"x": 20, "y": 30, "width": 20, "height": 18}
    rows = [{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": place}]}]
    (tmp_path / "_annotations.createml.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"CreateML\..*book/running\.md"):
        reader_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    [record] = scan_folder(tmp_path, "all").records
    assert (record.boxes.tolist(), record.classes) == ([[10, 21, 30, 39]], ["x"])
    assert check_folder(tmp_path, ["all"]).problems == []


def test_the_page_on_running_names_the_same_tools_as_the_messages():
    page = (Path(__file__).resolve().parent.parent / "book/running.md").read_text()
    for name, text in {
        "globox": foreign.LABELME + foreign.CVAT + foreign.VIA,
        "csv2coco('.', 'labels.csv', 'annotations.json', center=False)": foreign.CSV,
        "datum convert -if tf_detection_api -i FOLDER -f coco_instances -o converted "
        "-- --save-media": foreign.TFRECORD,
    }.items():
        assert name in page
        assert name in text


def test_files_of_other_kinds_are_not_taken_for_annotations(tmp_path):
    for name, content in {
        "settings.json": "{}",
        "notes.txt": "1 2 3 4 5",
        "prices.csv": "a,b\n1,2\n",
        "pom.xml": "<project/>",
        "config.yaml": "lr: 1",
    }.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=r"images and labels\)\.$"):
        reader_of(tmp_path)


def test_the_check_needs_no_torch(coco):
    """`rpn check` answers before torch would be loaded."""
    code = (
        "import sys; from rpn_lib.data.check import check_folder;"
        f"assert check_folder({str(coco)!r}, ['train']).problems == [];"
        "assert not [name for name in sys.modules if name.startswith('torch')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())

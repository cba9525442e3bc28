"""Folders as people really have them: where files lie, and what their names mean."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import CELL, annotate, write_coco, write_folder, write_yolo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import VOCDetection

from rpn_lib.data import voc
from rpn_lib.data.batches import InMemory
from rpn_lib.data.check import check_folder
from rpn_lib.data.folder import open_folder, reader_of, scan_folder, splits_of
from rpn_lib.data.layout import goes_to_validation
from rpn_lib.data.records import as_boxes
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.data.sides import choose_side, on_small_objects
from rpn_lib.errors import DataError
from rpn_lib.models import small_rpn
from rpn_lib.training.loop import train

# Pascal VOC


def put(root, name, objects=(CELL,), picture=None, size=(64, 48)):
    """An XML file, and its picture beside it unless another place is given."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / "Annotations").mkdir(exist_ok=True)
    annotate(root, "tmp", objects, *size)
    shutil.move(root / "Annotations/tmp.xml", root / f"{name}.xml")
    (root / "Annotations").rmdir()
    path = root / (picture or f"{name}.jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (len(name), 1, 2)).save(path)


UNSPLIT = {
    "labelImg, beside the pictures": [("a", "a.jpg"), ("b", "b.jpg")],
    "Kaggle": [("annotations/a", "images/a.png"), ("annotations/b", "images/b.png")],
    "Oxford pets": [("annotations/xmls/a", "images/a.jpg")],
    "other names": [("Labels/a", "JPEGImages/a.JPG")],
}


@pytest.mark.parametrize("layout", UNSPLIT)
def test_a_voc_folder_without_lists_is_split_by_hash(tmp_path, layout):
    for name, picture in UNSPLIT[layout]:
        put(tmp_path, name, picture=picture)
    assert reader_of(tmp_path).NAME == "Pascal VOC"
    assert splits_of(tmp_path) == ["all"]
    found = scan_folder(tmp_path, "all")
    assert found.problems == []
    assert [r.name for r in found.records] == ["a", "b"][: len(UNSPLIT[layout])]
    assert found.records[0].boxes.tolist() == [[10, 20, 30, 40]]
    # a goes to val and b to train, whatever else is there.
    assert [r.name for r in scan_folder(tmp_path, "val").records] == ["a"]


def test_the_hash_split_is_told_and_covers_every_image_once(tmp_path):
    for i in range(60):
        put(tmp_path, f"photo_{i}")
    parts = {split: scan_folder(tmp_path, split) for split in ("train", "val")}
    names = {split: {r.name for r in scan.records} for split, scan in parts.items()}
    assert names["train"] | names["val"] == {f"photo_{i}" for i in range(60)}
    assert not names["train"] & names["val"]
    assert 5 <= len(names["val"]) <= 20  # 12 are expected
    put(tmp_path, "another")
    again = {record.name for record in scan_folder(tmp_path, "val").records}
    assert again - {"another"} == names["val"]
    [note] = parts["val"].notes
    assert note.startswith(
        f"all is not split: val are the {len(names['val'])} of its 60"
    )


TINY = ("cell", 11, 21, 12, 22)  # 2 x 2 pixels


@pytest.mark.parametrize("small_ones", ["train", "val"])
def test_check_looks_at_what_the_hash_gives_training(tmp_path, small_ones):
    for name in "abcdefgh":
        part = "val" if goes_to_validation(name) else "train"
        put(tmp_path, name, [CELL, TINY] if part == small_ones else [CELL])
        noise = np.full((48, 64), ord(name), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.jpg")
    found = check_folder(tmp_path, splits_of(tmp_path), side=32)
    assert found.problems == found.warnings == []
    records = scan_folder(tmp_path, "train").records
    assert len(records) == 6
    expected, _ = on_small_objects(records, 32)
    assert bool(expected) == (small_ones == "train")
    told = [note for note in found.notes if "smaller than" in note]
    assert told == ([f"train: {expected}"] if expected else [])
    assert "chooses 6 and 2 of the images" in found.notes[0]


def test_the_side_of_check_is_that_of_training(tmp_path):
    large, small = ("cell", 11, 21, 110, 120), ("cell", 11, 21, 18, 28)
    put(tmp_path, "a", [small] * 9, size=(1600, 1200))
    put(tmp_path, "b", [large] * 19 + [small], size=(1600, 1200))
    chosen = choose_side(scan_folder(tmp_path, "train").records)
    assert chosen == 240
    assert choose_side(scan_folder(tmp_path, "all").records) == 800
    told = "".join(check_folder(tmp_path, ["all"]).notes)
    assert "train: 1 of 20 objects" in told
    assert "where the shorter side is 240." in told


def test_the_same_picture_in_both_parts_of_a_hash_split_is_a_leak(tmp_path):
    put(tmp_path, "a")
    put(tmp_path, "b")
    (warning,) = check_folder(tmp_path, ["all"]).warnings
    assert warning.kind == "leak"


def test_check_warns_of_a_part_that_the_hash_leaves_empty(tmp_path):
    put(tmp_path, "b")
    found = check_folder(tmp_path, ["all"])
    assert found.problems == []
    [warning] = found.warnings
    assert warning.kind == "no object"
    assert "puts none of the 1 images into val" in str(warning)


def test_nothing_to_learn_in_the_part_that_the_hash_gives_training(tmp_path):
    put(tmp_path, "a")
    put(tmp_path, "b", [])
    [problem] = check_folder(tmp_path, ["all"]).problems
    assert (problem.kind, problem.item) == ("no object", "split train")
    put(tmp_path, "a", [])
    put(tmp_path, "b")
    found = check_folder(tmp_path, ["all"])
    assert found.problems == []
    assert any(note.startswith("val: The 1 images hold no") for note in found.notes)


def test_too_few_images_for_a_hash_split_are_refused(tmp_path):
    put(tmp_path, "b")
    with pytest.raises(DataError, match="puts none of the 1 images into val"):
        open_folder(tmp_path, "val")


def test_what_roboflow_makes_of_one_photograph_stays_together():
    names = [f"cat_jpg.rf.{i:032x}" for i in range(50)]
    assert len({goes_to_validation(name) for name in names}) == 1
    assert len({goes_to_validation(f"cat_{i}.jpg") for i in range(50)}) == 2
    assert goes_to_validation("x/a.jpg") == goes_to_validation("a.PNG")


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/a", "valid/b"),
        ("images/train/a", "images/val/b"),
        ("train/annotations/a", "test/annotations/b"),
    ],
)
def test_folders_are_splits(tmp_path, train, val):
    put(tmp_path, train)
    put(tmp_path, val)
    first, second = splits_of(tmp_path)
    assert [r.name for r in scan_folder(tmp_path, first).records] == ["a"]
    assert [r.name for r in scan_folder(tmp_path, second).records] == ["b"]
    if second == "valid":
        assert scan_folder(tmp_path, "val").records[0].name == "b"


def test_pictures_without_an_xml_file_are_counted(tmp_path):
    put(tmp_path, "annotations/a", picture="images/a.jpg")
    Image.new("RGB", (64, 48)).save(tmp_path / "images/c.jpg")
    [note, _] = scan_folder(tmp_path, "all").notes
    assert note.startswith("1 pictures have no XML file and are left out, the first is")


def test_of_two_pictures_of_one_name_the_other_one_has_no_xml_file(tmp_path):
    put(tmp_path, "annotations/a", picture="images/a.jpg")  # says a.jpg
    put(tmp_path, "annotations/b", picture="images/b.jpg")
    (tmp_path / "annotations/b.xml").write_text("<annotation>")  # cannot be read
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 24)).save(tmp_path / "images" / name)
    found = scan_folder(tmp_path, "all")
    assert [record.path.name for record in found.records] == ["a.jpg"]
    assert [problem.kind for problem in found.problems] == ["unreadable"]
    note = found.notes[0]
    assert note.startswith("1 pictures have no XML file and are left out, the first is")
    assert "a.png" in note


def test_splits_that_share_a_folder_of_pictures_have_xml_files(tmp_path):
    for part in ("train", "val"):
        put(tmp_path, f"annotations/{part}/{part}", picture=f"images/{part}.jpg")
    for part in ("train", "val"):
        assert scan_folder(tmp_path, part).notes == []
    Image.new("RGB", (64, 48)).save(tmp_path / "images/c.jpg")
    assert scan_folder(tmp_path, "val").notes[0].startswith("1 pictures have no XML")


def test_a_picture_may_be_named_in_the_file_alone(tmp_path):
    put(tmp_path, "annotations/other_name", picture="images/a.jpg")  # says a.jpg
    assert scan_folder(tmp_path, "all").records[0].path.name == "a.jpg"
    put(tmp_path, "annotations/a", picture="images/a.jpg")
    [problem] = scan_folder(tmp_path, "all").problems
    assert problem.kind == "no picture"
    assert problem.file.endswith("other_name.xml")


LISTS = {
    "a\nb\n": ["a", "b"],
    "a.jpg\r\nb.xml\r\n": ["a", "b"],
    "# comment\na  1\n\nb -1\n": ["a"],
    "b  0 \n": ["b"],
    '"my cat 1"\n"b" -1\n': ["my cat 1"],
    "my cat 1\n": ["my cat 1"],
    "my cat\n": ["my cat"],
    "my cat -1\na": ["a"],
    "\ufeffa\n": ["a"],
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_as_tools_write_them(folder, text):
    for name in ("my cat", "my cat 1"):
        annotate(folder, name, [CELL])
        shutil.copy(folder / "JPEGImages/a.jpg", folder / f"JPEGImages/{name}.jpg")
    (folder / "ImageSets/Main/train.txt").write_text(text, newline="")
    found = scan_folder(folder, "train")
    assert [record.name for record in found.records] == LISTS[text]
    assert found.problems == []


def test_trainval_is_train_plus_val_and_lists_of_classes_are_no_splits(folder):
    main = folder / "ImageSets/Main"
    (main / "val.txt").write_text("b\n")
    (main / "train.txt").write_text("a\n")
    (main / "cell_train.txt").write_text("a  1\nb -1\n")
    assert splits_of(folder) == ["train", "val"]
    both = scan_folder(folder, "trainval")
    assert [record.name for record in both.records] == ["a", "b"]
    assert [r.name for r in scan_folder(folder, "cell_train").records] == ["a"]
    (main / "trainval.txt").write_text("a\nb\n")
    assert splits_of(folder) == ["train", "val"]
    assert check_folder(folder, splits_of(folder)).problems[0].kind == "no object"


def test_trainval_alone_is_split_by_hash(folder):
    main = folder / "ImageSets/Main"
    (main / "train.txt").rename(main / "trainval.txt")
    (main / "cell_trainval.txt").write_text("a  1\nb -1\n")
    assert splits_of(folder) == ["trainval"]
    assert [r.name for r in scan_folder(folder, "val").records] == ["a"]
    assert [r.name for r in scan_folder(folder, "train").records] == ["b"]


class TestSystemThatIgnoresCase:
    """macOS and Windows: `annotations` is found under the name `Annotations` too."""

    @pytest.fixture(autouse=True)
    def ignoring(self, monkeypatch):
        def real(path):
            path = Path(os.path.abspath(path))
            found = Path(path.anchor)
            for part in path.parts[1:]:
                try:
                    names = os.listdir.__wrapped__(found)
                except OSError:
                    return path
                same = [name for name in names if name.lower() == part.lower()]
                found = found / (same[0] if same else part)
            return found

        for name in ("stat", "listdir", "scandir"):
            original = getattr(os, name)

            def ignoring(path=".", *more, original=original, **options):
                if isinstance(path, str | os.PathLike):
                    path = str(real(path))
                return original(path, *more, **options)

            ignoring.__wrapped__ = original
            monkeypatch.setattr(os, name, ignoring)
        original_stat, original_open = Path.stat, Path.open

        def stat(path, **options):
            return original_stat(real(path), **options)

        def opened(path, *arguments, **options):
            return original_open(real(path), *arguments, **options)

        monkeypatch.setattr(Path, "stat", stat)
        monkeypatch.setattr(Path, "open", opened)

    def test_the_documented_layout_of_coco_is_coco(self, tmp_path):
        write_coco(tmp_path, SCENES[:2])
        assert (tmp_path / "Annotations").is_dir()
        assert (tmp_path / "ANNOTATIONS/Instances_Train.json").is_file()
        assert reader_of(tmp_path).NAME == "COCO"
        assert len(scan_folder(tmp_path, "train").records) == 2

    def test_a_voc_folder_in_lower_case_is_voc(self, folder):
        for name in ("Annotations", "JPEGImages"):
            (folder / name).rename(folder / name.lower())
        assert reader_of(folder).NAME == "Pascal VOC"
        assert len(scan_folder(folder, "train").records) == 2


# COCO

SCENES = [ShapesDataset(6, image_size=(64, 96), sizes=(16, 40))[i] for i in range(6)]


@pytest.mark.parametrize(
    ("place", "split"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_default.json", "default"),  # CVAT
        ("Annotations/train.json", "train"),  # datumaro
        ("train/_annotations.coco.json", "train"),  # Roboflow
        ("result.json", "result"),  # Label Studio
        ("labels.json", "all"),  # FiftyOne
        ("annotations.json", "all"),  # TACO
        ("train_annotations.json", "train"),
    ],
)
def test_where_a_coco_file_may_lie(tmp_path, place, split):
    write_coco(
        tmp_path, SCENES[:2], pictures="train" if "train/" in place else "images"
    )
    (tmp_path / place).parent.mkdir(exist_ok=True)
    content = (tmp_path / "annotations/instances_train.json").read_bytes()
    shutil.rmtree(tmp_path / "annotations")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(content)
    assert splits_of(tmp_path) == [split]
    found = scan_folder(tmp_path, split)
    assert found.problems == []
    assert len(found.records) == 2


def test_folders_that_rpn_writes_into_are_named_once(tmp_path, capsys):
    write_coco(tmp_path, SCENES[:2])
    write_coco(tmp_path, SCENES[2:4], split="val", first=2)
    for name in ("runs/rpn", "train/proposals"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "runs/rpn/settings.json").write_text("{}")
    [note] = check_folder(tmp_path, ["train", "val"]).notes
    assert note.startswith("train, val: passed over")
    assert note.endswith(": runs, train/proposals.")


def test_a_folder_in_which_all_is_passed_over_says_so(tmp_path):
    write_coco(tmp_path / "runs", SCENES[:2])
    with pytest.raises(DataError, match=r"holds no annotations.*passed over.*: runs\."):
        reader_of(tmp_path)


def test_only_instances_are_splits(tmp_path):
    write_coco(tmp_path, SCENES[:3])
    (tmp_path / "runs/rpn").mkdir(parents=True)
    text = (tmp_path / "annotations/instances_train.json").read_text()
    captions = {"images": [], "annotations": [{"id": 1, "caption": "x"}]}
    for name, content in {
        "annotations/captions_train.json": json.dumps(captions),
        "annotations/person_keypoints_train.json": text,
        "settings.json": "{}",
        "runs/rpn/results.json": "{}",
        "notes.json": "",
    }.items():
        (tmp_path / name).write_text(content)
    assert splits_of(tmp_path) == ["train"]
    found = check_folder(tmp_path, ["train"])
    assert found.problems == []
    assert found.notes == [
        "train: passed over, no boxes of a split: annotations/captions_train.json, "
        "annotations/person_keypoints_train.json, notes.json, settings.json.",
        "train: passed over, named like the folders that rpn writes: runs.",
    ]
    (tmp_path / "annotations/instances_train.json").unlink()
    assert len(scan_folder(tmp_path, "train").records) == 3  # key points have boxes


def test_an_export_of_datumaro_to_coco_is_one_split(tmp_path):
    """It writes files for every task, with boxes or without."""
    write_coco(tmp_path, SCENES[:3])
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    for name in ("stuff", "panoptic"):
        path = tmp_path / f"annotations/{name}_train.json"
        path.write_text(json.dumps(content))
    path = tmp_path / "annotations/image_info_train.json"
    path.write_text(json.dumps({**content, "annotations": []}))
    assert splits_of(tmp_path) == ["train"]
    [note] = check_folder(tmp_path, ["train"]).notes
    assert note.endswith(
        "annotations/image_info_train.json, annotations/panoptic_train.json, "
        "annotations/stuff_train.json."
    )


def test_the_year_of_a_split_need_not_be_given(tmp_path):
    write_coco(tmp_path, SCENES[:2], split="train2017")
    write_coco(tmp_path, SCENES[2:4], split="valid")
    assert len(scan_folder(tmp_path, "train").records) == 2
    assert len(scan_folder(tmp_path, "val").records) == 2
    assert len(scan_folder(tmp_path, "trainval").records) == 4


# The three formats, next to each other and to others' readers


def test_one_folder_in_three_formats_gives_equal_samples(tmp_path):
    roots = [tmp_path / name for name in ("voc", "coco", "yolo")]
    write_folder(roots[0], SCENES, train=4)
    for write, root in ((write_coco, roots[1]), (write_yolo, roots[2])):
        write(root, SCENES[:4], split="train")
        write(root, SCENES[4:], split="val", first=4)
    for split, count in (("train", 4), ("val", 2)):
        sets = [open_folder(root, split) for root in roots]
        assert [len(one) for one in sets] == [count] * 3
        for i in range(count):
            (image, target), *others = [one[i] for one in sets]
            names = [sets[0].classes[label - 1] for label in target["labels"]]
            assert len(names) == len(SCENES[i + 4 * (split == "val")][1]["labels"])
            for one, (image_2, target_2) in zip(sets[1:], others):
                assert torch.equal(image, image_2)
                assert torch.equal(target["boxes"], target_2["boxes"])
                assert names == [one.classes[i - 1] for i in target_2["labels"]]


def test_three_formats_give_equal_weights(tmp_path):
    weights = []
    for number, write in enumerate((write_folder, write_coco, write_yolo)):
        root = tmp_path / str(number)
        write(root, SCENES)
        if number == 0:  # it puts all of them into train
            names = "\n".join(f"scene_{i}" for i in range(len(SCENES)))
            (root / "ImageSets/Main/train.txt").write_text(names)
        torch.manual_seed(0)
        rpn = small_rpn()
        train(rpn, InMemory(open_folder(root)), epochs=2, batch_size=3)
        weights.append(torch.cat([w.flatten() for w in rpn.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    torch.manual_seed(0)
    untrained = torch.cat([w.flatten() for w in small_rpn().parameters()])
    assert not torch.equal(weights[0], untrained)


sides = st.integers(2, 200)


@st.composite
def annotated_image(draw):
    """Size, and boxes of whole pixels: xyxy from 0, class."""
    width, height = draw(sides), draw(sides)
    objects = []
    for _ in range(draw(st.integers(0, 5))):
        x1, y1 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        x2, y2 = draw(st.integers(x1 + 2, width)), draw(st.integers(y1 + 2, height))
        objects.append((draw(st.sampled_from("abc")), x1, y1, x2, y2))
    return width, height, objects


@settings(max_examples=30)
@given(st.lists(annotated_image(), min_size=1, max_size=4))
def test_equal_to_the_readers_of_torchvision_and_pycocotools(tmp_path_factory, images):
    root = tmp_path_factory.mktemp("generated")
    voc_root, coco_root = root / "VOCdevkit/VOC2012", root / "coco"
    yolo_root = root / "yolo"
    for kind in ("images", "labels"):
        (yolo_root / kind).mkdir(parents=True)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc_root / name).mkdir(parents=True)
    (coco_root / "annotations").mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 3 * i, "name": "abc"[i]} for i in range(3)]
    for number, (width, height, objects) in enumerate(images):
        picture = Image.new("RGB", (width, height))
        picture.save(voc_root / f"JPEGImages/{number}.jpg")
        picture.save(coco_root / f"{number}.jpg")
        picture.save(yolo_root / f"images/{number}.jpg")
        rows = [
            f"{'abc'.index(name)} {(x1 + x2) / 2 / width:.12f} "
            f"{(y1 + y2) / 2 / height:.12f} {(x2 - x1) / width:.12f} "
            f"{(y2 - y1) / height:.12f}"
            for name, x1, y1, x2, y2 in objects
        ]
        (yolo_root / f"labels/{number}.txt").write_text("\n".join(rows))
        shifted = [(name, x1 + 1, y1 + 1, x2, y2) for name, x1, y1, x2, y2 in objects]
        annotate(voc_root, str(number), shifted, width, height)
        content["images"].append(
            {
                "id": number,
                "file_name": f"{number}.jpg",
                "width": width,
                "height": height,
            }
        )
        for name, x1, y1, x2, y2 in objects:
            box = [x1, y1, x2 - x1, y2 - y1]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 3 * "abc".index(name),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    numbers = "\n".join(map(str, range(len(images))))
    (voc_root / "ImageSets/Main/train.txt").write_text(numbers)
    path = coco_root / "annotations/instances_train.json"
    path.write_text(json.dumps(content))
    ours = scan_folder(voc_root, "train")
    theirs = VOCDetection(str(root), "2012", "train")
    assert ours.problems == []
    for i, record in enumerate(ours.records):
        found = theirs[i][1]["annotation"].get("object", [])
        assert record.classes == [one["name"] for one in found]
        keys = ("xmin", "ymin", "xmax", "ymax")
        rows = [[float(one["bndbox"][key]) for key in keys] for one in found]
        expected = as_boxes(rows) - np.array([1, 1, 0, 0], dtype=np.float32)
        assert np.array_equal(record.boxes, expected)
    reader = COCO(str(path))
    for i, record in enumerate(scan_folder(coco_root, "train").records):
        found = reader.loadAnns(reader.getAnnIds(imgIds=[i]))
        rows = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in found)]
        assert np.array_equal(record.boxes, as_boxes(rows))
        names = [reader.loadCats(one["category_id"])[0]["name"] for one in found]
        assert record.classes == names
    (yolo_root / "classes.txt").write_text("a\nb\nc")
    if any(objects for _, _, objects in images):  # else there is no row to know it by
        for record, same in zip(scan_folder(yolo_root, "all").records, ours.records):
            np.testing.assert_allclose(record.boxes, same.boxes, atol=1e-6)
            assert record.classes == same.classes


def test_a_new_format_is_one_entry(tmp_path, monkeypatch):
    """What README and CONTRIBUTING promise about `READERS`."""
    put(tmp_path, "a")

    class Sidecar:
        NAME = "mine"
        recognises = staticmethod(lambda root: (root / "mine.txt").is_file())
        splits = staticmethod(lambda root: ["train"])
        scan = staticmethod(lambda root, split, how: voc.scan(root, "all", how))

    monkeypatch.setattr("rpn_lib.data.folder.READERS", (Sidecar, voc))
    assert reader_of(tmp_path) is voc
    (tmp_path / "mine.txt").write_text("")
    assert len(open_folder(tmp_path)) == 1


def test_linked_folders_are_followed_but_not_round_and_round(tmp_path):
    write_yolo(tmp_path / "elsewhere", SCENES[:2])
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere/images")
    (root / "labels").symlink_to(tmp_path / "elsewhere/labels")
    (root / "self").symlink_to(root)
    found = scan_folder(root, "train")
    assert [record.name for record in found.records] == [
        f"images/train/scene_{i}.png" for i in range(2)
    ]
    assert [len(record.boxes) for record in found.records] == [
        len(target["boxes"]) for _, target in SCENES[:2]
    ]

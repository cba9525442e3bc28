"""YOLO folders: every kind of row, layouts as people have them, faults by the line."""

import unicodedata
from pathlib import Path

import pytest
from folders import slashed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rpn_lib.data.check import check_folder
from rpn_lib.data.folder import open_folder, reader_of, scan_folder, splits_of
from rpn_lib.data.problems import lines_of
from rpn_lib.data.yolo_rows import label_file, read_row
from rpn_lib.errors import DataError

ROW = "1 0.5 0.25 0.5 0.25"  # in 64 x 48: x 16 to 48, y 6 to 18
BOX = [16, 6, 48, 18]


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", (64, 48), (len(name), 0, 0)).save(path)
        else:
            path.write_text(content)
    return root


def boxes(root, split="train", **reading):
    records = scan_folder(root, split, **reading).records
    return {record.name.split("/")[-1]: record.boxes.tolist() for record in records}


YAML = "train: {}\nval: {}\nnc: 2\nnames: [cat, dog]\n"
PICTURES = {"images/train/a.jpg": None, "images/val/b.jpg": None}
LABELS = {"labels/train/a.txt": ROW, "labels/val/b.txt": ""}
SIDES = {"train/images/a.jpg": None, "valid/images/b.jpg": None}
SIDE_LABELS = {"train/labels/a.txt": ROW, "valid/labels/b.txt": ""}

LAYOUTS = {
    "ultralytics": {
        **PICTURES,
        **LABELS,
        "data.yaml": "path: ../datasets/pets\n"
        + YAML.format("images/train", "images/val"),
    },
    "roboflow": {
        **SIDES,
        **SIDE_LABELS,
        "data.yaml": YAML.format("../train/images", "../valid/images"),
    },
    "absolute paths of another machine": {
        **SIDES,
        **SIDE_LABELS,
        "data.yaml": YAML.format("/content/x/train/images", "C:\\x\\valid\\images"),
    },
    "lists of folders, names as mapping, another name": {
        **PICTURES,
        **LABELS,
        "pets.yaml": "train: [images/train]\nval: images/val\nnames: {0: cat, 1: dog}",
    },
    "text files": {
        **PICTURES,
        **LABELS,
        "train.txt": "./images/train/a.jpg\n",
        "val.txt": "images/val/b.jpg\n\n",
        "data.yaml": YAML.format("train.txt", "val.txt"),
    },
    "no data.yaml, names in classes.txt": {
        **PICTURES,
        **LABELS,
        "classes.txt": "cat\ndog\n",
    },
    "no data.yaml, splits above": {**SIDES, **SIDE_LABELS, "classes.txt": "cat\ndog"},
    "beside the pictures": {
        "train/a.jpg": None,
        "train/a.txt": ROW,
        "val/b.jpg": None,
        "val/b.txt": "",
        "classes.txt": "cat\ndog",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read(tmp_path, layout):
    root = write(tmp_path, LAYOUTS[layout])
    assert reader_of(root).NAME == "YOLO"
    assert len(splits_of(root)) == 2
    assert boxes(root) == {"a.jpg": [BOX]}
    assert boxes(root, "val") == {"b.jpg": []}
    train = scan_folder(root, "train")
    assert train.classes == ["cat", "dog"]
    assert train.records[0].classes == ["dog"]
    checked = check_folder(root, splits_of(root))
    # The only thing to say is that nothing can be measured on an empty val.
    assert [problem.kind for problem in checked.problems] == ["no object"]


def test_classes_without_names_have_numbers(tmp_path):
    root = write(tmp_path, {**PICTURES, **LABELS})
    assert scan_folder(root, "train").classes == ["1"]
    (root / "data.yaml").write_text("train: images/train\nnc: 3\n")
    assert scan_folder(root, "train").classes == ["0", "1", "2"]
    (root / "data.yaml").write_text("train: images/train\nnc: '3'\n")
    assert scan_folder(root, "train").classes == ["0", "1", "2"]


def test_a_sample_is_image_and_target(tmp_path):
    root = write(tmp_path, LAYOUTS["ultralytics"])
    image, target = open_folder(root)[0]
    assert image.shape == (3, 48, 64)
    assert target["boxes"].tolist() == [BOX]
    assert target["labels"].tolist() == [2]


def test_a_missing_text_file_is_a_picture_without_objects(tmp_path):
    files = {**PICTURES, **LABELS, "images/train/c.jpg": None}
    root = write(tmp_path, files)
    assert boxes(root) == {"a.jpg": [BOX], "c.jpg": []}
    assert scan_folder(root, "train").notes == [
        "1 of 2 pictures have no text file: they are read as pictures without objects."
    ]


@pytest.mark.parametrize(
    ("row", "key_points", "expected"),
    [
        ("0 0.5 0.5 0.2 0.4", 0, [0.4, 0.3, 0.6, 0.7]),
        # a triangle
        ("0 0.1 0.2 0.5 0.2 0.3 0.9", 0, [0.1, 0.2, 0.5, 0.9]),
        # a turned box: four corners
        ("0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5", 0, [0.1, 0.1, 0.9, 0.9]),
        # two key points with their visibility; an even count is no polygon's
        ("0 0.5 0.5 0.2 0.4 0.5 0.5 2 0.5 0.6 1", 6, [0.4, 0.3, 0.6, 0.7]),
        ("0 0.5 0.5 0.2 0.4 0.5 0.5 2", 0, [0.4, 0.3, 0.6, 0.7]),
        # two key points of two numbers: only kpt_shape tells them from a polygon
        ("0 0.5 0.5 0.2 0.4 0.0 0.0 0.1 0.1", 4, [0.4, 0.3, 0.6, 0.7]),
    ],
)
def test_rows(row, key_points, expected):
    assert read_row(row.split(), key_points)[1] == pytest.approx(expected)


FAULTS = {
    "pixels": ("0 320 240 50 60", "format", "A coordinate is 320, above 1. YOLO's"),
    "class out of range": ("2 0.5 0.5 0.1 0.1", "class", "The class 2 is unknown."),
    "negative class": ("-1 0.5 0.5 0.1 0.1", "class", "The class -1 is unknown."),
    "NaN": ("0 nan 0.5 0.1 0.1", "not finite", "A number is not finite."),
    "negative width": ("0 0.5 0.5 -0.1 0.1", "swapped", "The width is negative."),
    "no width": ("0 0.5 0.5 0 0.1", "zero", "The width is zero."),
    "outside": ("0 1 0.5 0.5 0.1", "outside", "It reaches 16 pixels outside"),
    "negative": ("0 -0.2 0.5 0.1 0.1", "outside", "It reaches 16 pixels outside"),
    "too short": ("0 0.5 0.5 0.1", "row", "'0 0.5 0.5 0.1' is no row of YOLO's."),
    "a prediction": ("0 0.5 0.5 0.1 0.1 0.9", "row", "It has 6 numbers."),
    "commas": ("0,0.5,0.5,0.1,0.1", "number", "'0,0.5,0.5,0.1,0.1' are not numbers"),
    "a class with a name": ("cat 0.5 0.5 0.1 0.1", "number", "'cat 0.5 0.5 0.1 0.1'"),
    "half a class": ("0.5 0.5 0.5 0.1 0.1", "row", "'0.5 0.5 0.5 0.1 0.1' is no row"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_file_and_line(tmp_path, fault):
    row, kind, reason = FAULTS[fault]
    files = {**LAYOUTS["roboflow"], "train/labels/a.txt": f"{ROW}\n\n{row}\n"}
    root = write(tmp_path, files)
    [problem] = check_folder(root, ["train"]).problems
    assert problem.kind == kind
    path = root / "train/labels/a.txt"
    assert str(problem).startswith(f"{path}, line 3: {reason}")
    with pytest.raises(DataError, match="line 3"):
        open_folder(root)
    dropped = open_folder(root, on_bad_box="drop")
    assert dropped.records[0].boxes.tolist() == [BOX]
    assert len(dropped.dropped) == 1


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("number", ["12345678901234567890123", str(2**31)])
def test_a_number_that_is_none_of_a_class(tmp_path, named, number):
    row = f"{number} 0.5 0.25 0.5 0.25"
    files = {**PICTURES, **LABELS, "labels/train/a.txt": f"{ROW}\n{row}"}
    root = write(tmp_path, {**files, **({"classes.txt": "cat\ndog"} if named else {})})
    [problem] = check_folder(root, ["train"]).problems
    assert problem.kind == "class"
    assert problem.droppable
    told = f"{root}/labels/train/a.txt, line 2: The class {number} is unknown."
    assert slashed(problem).startswith(slashed(told))


def test_the_largest_number_of_a_class_without_names(tmp_path):
    row = f"{2**31 - 1} 0.5 0.25 0.5 0.25"
    root = write(tmp_path, {**PICTURES, **LABELS, "labels/train/a.txt": row})
    assert scan_folder(root, "train").classes == ["2147483647"]


@pytest.mark.parametrize("number", ["10000000000", "many"])
def test_a_number_of_classes_that_cannot_be_right(tmp_path, number):
    root = write(tmp_path, {**PICTURES, **LABELS})
    write(root, {"data.yaml": f"train: images/train\nnc: {number}\n"})
    [problem] = scan_folder(root, "train").problems
    assert problem.kind == "class"
    told = slashed(f"{root}/data.yaml: nc is {number}.")
    assert slashed(problem).startswith(told)


def test_faults_of_data_yaml(tmp_path):
    root = write(tmp_path, {**PICTURES, **LABELS})
    write(root, {"data.yaml": "train: [images/train, more]\nnc: 3\nnames: [a, b]\n"})
    reasons = [p.reason for p in scan_folder(root, "train").problems]
    assert reasons == [
        "nc is 3, but there are 2 names.",
        f"train: there is no more in {root}.",
    ]


def test_a_data_yaml_that_cannot_be_read_is_named(tmp_path):
    root = write(tmp_path, {**PICTURES, **LABELS, "data.yaml": "names: [a\nb: : c"})
    [problem] = scan_folder(root, "train").problems
    assert slashed(problem).startswith(slashed(f"{root}/data.yaml: It is no YAML"))


def test_text_files_without_a_picture_are_counted(tmp_path):
    files = {"labels/train/lost.txt": ROW, "labels/train/notes.txt": "no rows"}
    root = write(tmp_path, {**LAYOUTS["ultralytics"], **files})
    assert scan_folder(root, "train").notes == [
        "1 text files have no picture and are left out, the first is "
        "labels/train/lost.txt."
    ]


SHARED = {"images/train/a.png": None}  # beside a.jpg


def test_pictures_that_share_a_text_file_are_named(tmp_path):
    root = write(tmp_path, {**LAYOUTS["ultralytics"], **SHARED})
    assert boxes(root) == {"a.jpg": [BOX], "a.png": [BOX]}
    [warning] = check_folder(root, ["train"]).warnings
    assert warning.kind == "shared"
    told = (
        f"{root}/labels/train/a.txt: images/train/a.jpg and images/train/a.png have "
        "this one text file"
    )
    assert slashed(warning).startswith(slashed(told))
    assert open_folder(root).warnings == [warning]
    (root / "labels/train/a.txt").write_text("\n")  # no box that both would get
    assert scan_folder(root, "train").warnings == []


def test_many_shared_text_files_are_one_line(tmp_path):
    names = [f"images/{i}.{end}" for i in range(12) for end in ("jpg", "webp")]
    labels = {f"labels/{i}.txt": ROW for i in range(12)}
    root = write(tmp_path, {**dict.fromkeys(names), **labels})
    found = check_folder(root, ["train", "val"])  # by hash: each has all warnings
    shared = [warning for warning in found.warnings if warning.kind == "shared"]
    assert len(shared) == 12
    [line] = lines_of(shared)
    assert "images/0.jpg and images/0.webp" in line
    assert line.endswith("(11 more of this kind)")


def test_a_picture_that_is_listed_twice_is_read_once(tmp_path):
    root = write(tmp_path, LAYOUTS["ultralytics"])
    write(root, {"data.yaml": "train: [images/train, images/train/a.jpg]\nnc: 2\n"})
    assert boxes(root) == {"a.jpg": [BOX]}
    [note] = scan_folder(root, "train").notes
    assert note == "1 pictures are listed twice: each is read once."


def test_nothing_outside_the_folder_is_read(tmp_path):
    outside = {"other/images/a.jpg": None, "other/labels/a.txt": ROW}
    write(tmp_path, outside)
    root = write(tmp_path / "data", {**PICTURES, **LABELS})
    write(root, {"data.yaml": f"train: {tmp_path}/other/images\nnames: [a, b]\n"})
    [problem] = scan_folder(root, "train").problems
    assert problem.kind == "no picture"


def test_where_a_label_lies():
    for picture, label in [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("images/images/a.jpg", "images/labels/a.txt"),
        ("train/a.png", "train/a.txt"),
    ]:
        assert label_file(Path(picture)) == Path(label)


@pytest.mark.parametrize(
    "lines",
    [
        "classes = 1\nTrain = data/Train.txt\nValidation = data/Validation.txt\n",
        "train=/home/me/x/Train.txt\nvalid=Validation.txt\nbackup=backup\n",
    ],
)
def test_the_lists_of_darknet_and_cvat(tmp_path, lines):
    files = {"obj.names": "cell", "obj.data": f"{lines}names = data/obj.names\n"}
    for split, names in (("Train", "abc"), ("Validation", "de")):
        folder = f"obj_{split}_data"
        files |= {f"{folder}/{name}.jpg": None for name in names}
        files |= {f"{folder}/{name}.txt": "0 0.5 0.25 0.5 0.25" for name in names}
        listed = [f"data/{folder}/{name}.jpg\n" for name in names]
        files[f"{split}.txt"] = "".join(listed)
    root = write(tmp_path, files)
    assert sorted(splits_of(root)) == ["train", "val"]
    assert [*boxes(root, "train")] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [*boxes(root, "val")] == ["d.jpg", "e.jpg"]
    assert scan_folder(root, "train").classes == ["cell"]
    (root / "Validation.txt").unlink()
    assert splits_of(root) == ["all"]  # as without these lists


@pytest.mark.parametrize(("picture", "label"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_written_in_two_ways(tmp_path, picture, label):
    name, other = (unicodedata.normalize(form, "Größe") for form in (picture, label))
    write(tmp_path, {f"images/{name}.jpg": None, f"labels/{other}.txt": ROW})
    assert list(boxes(tmp_path, "all").values()) == [[BOX]]


def test_labels_beside_the_pictures_of_a_folder_called_images(tmp_path):
    files = {f"{name}/images/{name}.jpg": None for name in "abc"}
    files |= {"a/images/a.txt": ROW, "b/labels/b.txt": ROW, "b/images/b.txt": ""}
    root = write(tmp_path / "pictures", files)
    assert boxes(root, "all") == {"a.jpg": [BOX], "b.jpg": [BOX], "c.jpg": []}


@pytest.mark.parametrize("pictures", ["JPEGImages", "imgs", "Images", "images"])
@pytest.mark.parametrize("labels", ["labels", "Labels"])
def test_labels_beside_a_folder_of_pictures(tmp_path, pictures, labels):
    files = {f"{pictures}/a.jpg": None, f"{labels}/a.txt": ROW}
    assert boxes(write(tmp_path, files), "all") == {"a.jpg": [BOX]}


@pytest.mark.parametrize("ending", ["JPG", "jfif", "jpe", "Png"])
def test_endings_of_pictures(tmp_path, ending):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / f"a.{ending}")
    write(tmp_path, {"a.txt": ROW})
    assert boxes(tmp_path, "all") == {f"a.{ending}": [BOX]}


def test_a_link_to_a_folder_whose_name_begins_alike(tmp_path):
    write(tmp_path, {"birds/a.jpg": None, "birds/a.txt": ROW})
    write(tmp_path, {"birds_v2/b.jpg": None, "birds_v2/b.txt": ROW})
    (tmp_path / "birds_v2/old").symlink_to("../birds")
    (tmp_path / "birds_v2/again").symlink_to(".")  # and this leads back
    assert boxes(tmp_path / "birds_v2", "all") == {"a.jpg": [BOX], "b.jpg": [BOX]}


shares = st.integers(0, 10**6).map(lambda n: n / 10**6)


@given(st.integers(0, 79), shares, shares, shares, shares)
def test_the_arithmetic_of_the_documentation(label, x1, y1, x2, y2):
    """x1 = cx - w / 2 and so on, of numbers written with six digits."""
    x1, x2, y1, y2 = *sorted((x1, x2)), *sorted((y1, y2))
    numbers = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    row = f"{label} " + " ".join(f"{number:.7f}" for number in numbers)
    assert read_row(row.split()) == (
        label,
        pytest.approx([x1, y1, x2, y2], abs=2e-7),
        False,
    )


@given(st.lists(st.tuples(shares, shares), min_size=3, max_size=12))
def test_a_polygon_lies_in_its_hull_and_touches_all_sides(points):
    row = ["3", *(f"{value:.6f}" for point in points for value in point)]
    if (len(row) - 5) % 3 == 0 and len(row) % 2 == 0:
        return
    label, (x1, y1, x2, y2), is_polygon = read_row(row)
    assert is_polygon
    assert label == 3
    xs, ys = [x for x, _ in points], [y for _, y in points]
    assert (x1, y1, x2, y2) == (min(xs), min(ys), max(xs), max(ys))

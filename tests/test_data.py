"""Made scenes and Pascal-VOC folders: right boxes, and errors that name the file."""

import pytest
import torch
from folders import CELL, annotate
from torch import Tensor
from torchvision.io import write_jpeg
from torchvision.transforms import v2

from rpn_lib.data.augment import Augment
from rpn_lib.data.batches import InMemory, collate
from rpn_lib.data.folder import open_folder
from rpn_lib.data.resize import Resize
from rpn_lib.data.scenes import ShapesDataset
from rpn_lib.errors import DataError, SettingError


class TestShapesDataset:
    def test_a_scene_is_the_same_each_time(self):
        first, second = ShapesDataset(length=5)[3], ShapesDataset(length=9)[3]
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1]["boxes"], second[1]["boxes"])
        assert torch.equal(first[1]["labels"], second[1]["labels"])

    def test_seed_and_index_change_the_scene(self):
        scene = ShapesDataset(length=5)[3][0]
        assert not torch.equal(scene, ShapesDataset(length=5)[2][0])
        assert not torch.equal(scene, ShapesDataset(length=5, seed=1)[3][0])

    def test_scenes_are_varied_and_within_their_limits(self):
        scenes = ShapesDataset(length=200, sizes=(16, 96))
        targets = [target for _, target in scenes_of(scenes)]
        boxes = torch.cat([target["boxes"].as_subclass(Tensor) for target in targets])
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        size, ratio = (width * height).sqrt(), width / height
        assert size.min() >= 15
        assert size.max() <= 97
        assert size.max() / size.min() > 5
        assert 0.45 <= ratio.min() < 0.6
        assert 1.7 < ratio.max() <= 2.2
        assert (boxes >= 0).all()
        assert (boxes[:, [0, 2]] <= 256).all()
        assert (boxes[:, [1, 3]] <= 192).all()
        counts = [len(target["boxes"]) for target in targets]
        assert min(counts) == 0
        assert max(counts) >= 7
        labels = torch.cat([target["labels"] for target in targets])
        assert labels.unique().tolist() == [1, 2, 3, 4]

    def test_a_box_is_tight_around_its_object(self):
        """The ground changes little from pixel to pixel, the rim of an object a lot."""
        scenes = ShapesDataset(length=150, max_objects=1)
        steps = []
        for image, target in scenes_of(scenes):
            for x1, y1, x2, y2 in target["boxes"].long().tolist():
                if target["labels"].item() == 1 and x1 > 0 and x2 < 256:  # rectangle
                    rows = image[:, y1 + 2 : y2 - 2].float()
                    left = (rows[:, :, x1] - rows[:, :, x1 - 1]).abs().mean()
                    right = (rows[:, :, x2] - rows[:, :, x2 - 1]).abs().mean()
                    inner = (rows[:, :, x1 + 1] - rows[:, :, x1]).abs().mean()
                    steps.append(min(left, right) > 2 * inner)
        assert len(steps) > 5
        assert sum(steps) / len(steps) > 0.9

    def test_scenes_can_be_empty_and_rectangular(self):
        image, target = ShapesDataset(image_size=(160, 200), max_objects=0)[0]
        assert image.shape == (3, 160, 200)
        assert image.dtype == torch.uint8
        assert target["boxes"].shape == (0, 4)
        assert target["labels"].shape == (0,)

    def test_iteration_ends(self):
        assert len(scenes_of(ShapesDataset(length=3))) == 3
        with pytest.raises(IndexError):
            ShapesDataset(length=3)[3]

    @pytest.mark.parametrize(
        "settings",
        [{"length": 0}, {"max_objects": -1}, {"sizes": (50, 20)}, {"sizes": (16, 200)}],
    )
    def test_settings_that_cannot_be_drawn_are_refused(self, settings):
        with pytest.raises(SettingError):
            ShapesDataset(**settings)

    def test_changes_and_sides_that_there_are_not_are_settings_too(self):
        with pytest.raises(SettingError, match="augment: 'mirror' is none of flip,"):
            Augment(["mirror"])
        with pytest.raises(SettingError, match="side=31 must be 32 pixels or more"):
            Resize(31)


def scenes_of(dataset):
    return list(dataset)


class TestVOCFolder:
    def test_coordinates_count_from_one_and_include_the_last_pixel(self, folder):
        image, target = open_folder(folder)[0]
        assert image.shape == (3, 48, 64)
        assert target["boxes"].tolist() == [[10, 20, 30, 40], [0, 0, 64, 48]]
        assert target["labels"].tolist() == [1, 2]
        assert target["image_id"] == "a"

    def test_an_image_without_objects_is_kept(self, folder):
        dataset = open_folder(folder)
        assert dataset.names == ["a", "b"]
        assert dataset.classes == ["cell", "speck"]
        assert dataset[1][1]["boxes"].shape == (0, 4)

    def test_image_and_boxes_are_transformed_together(self, folder):
        image, target = open_folder(folder, transform=v2.Resize(24))[0]
        assert image.shape == (3, 24, 32)
        assert target["boxes"][0].tolist() == [5, 10, 15, 20]
        flip = InMemory(open_folder(folder), v2.RandomHorizontalFlip(p=1))
        assert flip[0][1]["boxes"][0].tolist() == [34, 20, 54, 40]

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (("cell", 30, 5, 30, 5), "The width is zero. Such a box marks no object"),
            (("cell", 5, 30, 9, 30), "The height is zero."),
            (("cell", 30, 5, 20, 9), "xmax is less than xmin. The corners are swapped"),
            (("cell", 30, 9, 40, 5), "ymax is less than ymin."),
            (("cell", 60, 5, 65, 9), "It reaches 1 pixel outside the image, which is"),
            (("cell", 0, 5, 30, 9), "xmin is below 1, and VOC counts pixels from 1."),
            (("cell", "nan", 5, 6, 9), "A coordinate is not a finite number."),
            (("cell", "", 5, 6, 9), "bndbox/xmin is missing. Write four numbers"),
            (("cell", "ten", 5, 6, 9), "bndbox/xmin is 'ten', which is no number."),
        ],
    )
    def test_a_bad_box_is_refused_by_file_and_number(self, folder, bad, message):
        annotate(folder, "a", [CELL, bad])
        with pytest.raises(DataError) as error:
            open_folder(folder)
        assert message in str(error.value)
        path = folder / "Annotations" / "a.xml"
        assert str(error.value).startswith(f"{path}, object 1")

    def test_a_bad_box_can_be_dropped_but_is_listed(self, folder):
        annotate(folder, "a", [CELL, ("cell", 30, 5, 30, 5)])
        dataset = open_folder(folder, on_bad_box="drop")
        assert dataset[0][1]["boxes"].tolist() == [[10, 20, 30, 40]]
        assert dataset[0][1]["labels"].tolist() == [1]
        assert len(dataset.dropped) == 1
        assert "a.xml, object 1 (xmin, ymin, xmax, ymax = 30, 5" in dataset.dropped[0]

    def test_a_missing_split_tells_which_there_are(self, folder):
        with pytest.raises(DataError, match="this one has train"):
            open_folder(folder, "val")

    def test_an_empty_split_is_refused(self, folder):
        (folder / "ImageSets/Main/val.txt").write_text("\n")
        with pytest.raises(DataError, match=r"val\.txt names no image"):
            open_folder(folder, "val")

    def test_a_missing_annotation_is_named(self, folder):
        (folder / "Annotations/b.xml").unlink()
        with pytest.raises(
            DataError, match=r"b\.xml: The file is missing\. Annotate b, or"
        ):
            open_folder(folder)

    def test_broken_xml_is_named(self, folder):
        (folder / "Annotations/b.xml").write_text("<annotation><size>")
        with pytest.raises(
            DataError, match=r"b\.xml: It is not well-formed XML: no element"
        ):
            open_folder(folder)

    def test_xml_that_expands_entities_is_refused(self, folder):
        bomb = '<!DOCTYPE a [<!ENTITY b "b">]><annotation>&b;</annotation>'
        (folder / "Annotations/b.xml").write_text(bomb)
        with pytest.raises(DataError, match=r"b\.xml: It holds entities"):
            open_folder(folder)

    def test_a_size_that_the_annotation_lacks_is_that_of_the_picture(self, folder):
        (folder / "Annotations/b.xml").write_text("<annotation></annotation>")
        dataset = open_folder(folder)
        assert dataset.records[1].size == (48, 64)
        assert dataset.notes == [
            "1 annotations give no size of the picture: it was read from the file."
        ]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"", "the file is empty"), (b"no picture", "in no format that Pillow knows")],
    )
    def test_an_image_that_cannot_be_read_is_named(self, folder, content, reason):
        (folder / "JPEGImages/a.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.jpg cannot be read as an image") as e:
            open_folder(folder)[0]
        assert reason in str(e.value)

    def test_an_image_of_another_size_than_declared_is_named(self, folder):
        write_jpeg(torch.zeros(3, 40, 64).byte(), str(folder / "JPEGImages/a.jpg"))
        with pytest.raises(
            DataError, match=r"a\.jpg: It is 64 x 40 pixels, but .*64 x 48"
        ):
            open_folder(folder)[0]


def test_collate_keeps_images_of_different_sizes_and_counts():
    scenes = [ShapesDataset(image_size=size)[1] for size in ((160, 200), (192, 256))]
    images, targets = collate(scenes)
    assert [image.shape for image in images] == [(3, 160, 200), (3, 192, 256)]
    assert all(image.min() >= 0 and image.max() <= 1 for image in images)
    assert [len(target["labels"]) for target in targets] == [
        len(scene[1]["labels"]) for scene in scenes
    ]

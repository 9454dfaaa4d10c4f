"""Folders and records of images: classes, splits, order, and what is wrong with them."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.classification import batches
from deeplab_tf.data.classification.class_records import open_records
from deeplab_tf.data.classification.folders import open_folders
from tests.pretrain import shapes

OPTIONS = {"image_size": 24, "batch_size": 6, "min_area": 0.5, "max_aspect_ratio": 1.5, "seed": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    shapes.write_folders(root, train=3, val=2)
    return root


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    shapes.write_records(root, train=3, validation=2)
    return root


@pytest.fixture
def sources(folders, records):
    return {
        "folders": open_folders(folders)[1],
        "records": open_records(records, num_classes=4)[1],
    }


# --- Classes, splits and order --------------------------------------------------------------------


def test_folders_name_the_classes(folders):
    names, splits = open_folders(folders)
    assert names == shapes.CLASSES
    assert {split: source.count for split, source in splits.items()} == {"train": 12, "val": 8}
    for path, label in zip(splits["train"].paths, splits["train"].labels, strict=True):
        assert f"/train/{shapes.CLASSES[label]}/" in path


def test_labels_txt_names_the_classes_of_records(records, tmp_path):
    names, splits = open_records(records, num_classes=4)
    assert names == ("1", "2", "3", "4")
    assert {split: source.count for split, source in splits.items()} == {"train": 12, "val": 8}
    for path in records.iterdir():
        (tmp_path / path.name).symlink_to(path)
    lines = ["0:background", *(f"{i}:{name}" for i, name in enumerate(shapes.CLASSES, 1))]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    assert open_records(tmp_path)[0] == shapes.CLASSES
    with pytest.raises(ValueError, match=r"4 in all, .* and --num_classes=5 of them"):
        open_records(tmp_path, num_classes=5)


def test_without_folders_of_splits_a_share_of_each_class_is_drawn(folders):
    root = folders / "train"
    names, splits = open_folders(root, val_fraction=0.34, seed=1)
    assert names == shapes.CLASSES
    assert np.bincount(splits["train"].labels).tolist() == [2] * 4
    assert np.bincount(splits["val"].labels).tolist() == [1] * 4
    both = {*splits["train"].paths, *splits["val"].paths}
    assert both == {str(path) for path in root.rglob("*.*g")}
    again, other = (open_folders(root, val_fraction=0.34, seed=seed)[1] for seed in (1, 2))
    assert again["val"].paths == splits["val"].paths != other["val"].paths
    assert list(open_folders(root, val_fraction=0)[1]) == ["train"]


@pytest.mark.parametrize("kind", ["folders", "records"])
def test_each_epoch_has_every_image_once_in_an_order_of_its_own(sources, kind):
    source = sources[kind]["train"]
    places = [
        place.numpy() for _, place in source.endless(seed=5, first_example=0).take(3 * source.count)
    ]
    epochs = [places[i : i + source.count] for i in range(0, len(places), source.count)]
    every = sorted(place.numpy() for place in source.once())
    assert all(sorted(epoch) == every for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert len(set(every)) == source.count
    other = [place.numpy() for _, place in source.endless(seed=6, first_example=0).take(12)]
    assert other != epochs[0]


@pytest.mark.parametrize("kind", ["folders", "records"])
def test_batches_go_on_anywhere_and_come_in_parts(sources, kind):
    source = sources[kind]["train"]
    whole = list(batches.training_batches(source, **OPTIONS).take(5).as_numpy_iterator())
    assert whole[0][0].shape == (6, 24, 24, 3)
    assert whole[0][0].dtype == np.uint8
    later = batches.training_batches(source, start_step=3, **OPTIONS).take(2)
    for found, expected in zip(later.as_numpy_iterator(), whole[3:], strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    for worker in range(2):
        part = batches.training_batches(
            source, start_step=1, parts=2, num_workers=2, worker=worker, **OPTIONS
        )
        images, labels = next(part.as_numpy_iterator())
        half = slice(3 * worker, 3 * worker + 3)
        np.testing.assert_array_equal(images, whole[1][0][half])
        np.testing.assert_array_equal(labels, whole[1][1][half])


@pytest.mark.parametrize("kind", ["folders", "records"])
def test_labels_stay_with_their_images(sources, kind):
    """Validation sees the images of each class, in order, whole batches and the rest."""
    source = sources[kind]["val"]
    found = batches.evaluation_batches(source, image_size=48, batch_size=5, central_fraction=1.0)
    images, labels = map(np.concatenate, zip(*found.as_numpy_iterator(), strict=True))
    assert [len(label) for _, label in found] == [5, 3]
    assert sorted(labels.tolist()) == sorted([0, 1, 2, 3] * 2)
    for image, label in zip(images, labels, strict=True):
        fits = []
        for i in range(2):
            for class_id in range(4):
                drawn = shapes.shape_image(class_id, 1, i)
                side = min(drawn.shape[:2])
                top, left = ((size - side) // 2 for size in drawn.shape[:2])
                square = drawn[top : top + side, left : left + side]
                again = tf.image.resize(square, (48, 48)).numpy()
                fits.append((np.abs(again - image).mean(), class_id))
        assert min(fits)[1] == label


def test_one_image_is_an_epoch(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "only.png").write_bytes(shapes.encoded(shapes.shape_image(0, 0)))
    source = open_folders(tmp_path, val_split="")[1]["train"]
    places = [int(place) for _, place in source.endless(seed=0, first_example=0).take(6)]
    assert [sorted(places[i : i + 2]) for i in (0, 2, 4)] == [[0, 1]] * 3


# --- Bad input ------------------------------------------------------------------------------------


def image_tree(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(shapes.encoded(shapes.shape_image(0, 0)))


@pytest.mark.parametrize(
    ("paths", "empty", "options", "error", "message"),
    [
        (["x.png"], [], {}, ValueError, "has no folders of classes: expected train/ and val/ with"),
        (["a/x.png"], [], {}, ValueError, "has the class a alone, and two or more are needed: exp"),
        (["a/x.png"], ["b"], {}, ValueError, "class folder .*/b has no images: .* no such class"),
        (["train/a/x.png", "train/b/x.png"], [], {}, FileNotFoundError, "no val/ to validate on"),
        (
            ["train/a/x.png", "train/b/x.png", "val/a/x.png", "val/c/x.png"],
            [],
            {},
            ValueError,
            "/val has the classes c, which .*/train has not",
        ),
        (["a/x.png", "a/y.webp", "b/x.png"], [], {}, ValueError, "y.webp is one of 1 images of"),
        (["a/x.png", "b/x.png"], [], {}, ValueError, "val_fraction=0.1 of so few images is none"),
        (["a/x.png", "b/x.png"], [], {"val_fraction": 1.5}, ValueError, "val_fraction=1.5: expec"),
    ],
)
def test_folders_that_are_no_classes_are_an_error(tmp_path, paths, empty, options, error, message):
    image_tree(tmp_path, *paths)
    for name in empty:
        (tmp_path / name).mkdir()
    with pytest.raises(error, match=message):
        open_folders(tmp_path, **options)


def test_a_folder_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="--image_folder=/no/where is no folder: expected"):
        open_folders("/no/where")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give --num_classes: .* has no labels.txt"),
        ({"num_classes": 1}, "--num_classes=1: expected 2 or more"),
    ],
)
def test_records_without_a_number_of_classes(records, options, message):
    with pytest.raises(ValueError, match=message):
        open_records(records, **options)


def test_a_split_without_records(records, tmp_path):
    with pytest.raises(FileNotFoundError, match="test-"):
        open_records(records, num_classes=4, val_split="test")
    for path in records.glob("train-*"):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(FileNotFoundError, match=r"/val-.* nor validation-.*: give .*--val_split, "):
        open_records(tmp_path, num_classes=4)
    assert list(open_records(tmp_path, num_classes=4, val_split="")[1]) == ["train"]


def consume(source):
    """All images of a source, with whatever is wrong named."""
    found = batches.evaluation_batches(source, image_size=8, batch_size=3, central_fraction=1.0)
    list(batches.naming_damage(found, source, source.once(), batch_size=3))


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    image_tree(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(5)))
    broken = tmp_path / "b/3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    source = open_folders(tmp_path, val_split="")[1]["train"]
    with pytest.raises(ValueError, match=f"^{broken} cannot be used: "):
        consume(source)
    found = batches.training_batches(source, **OPTIONS)
    places = source.endless(seed=3, first_example=0).map(lambda _, place: place)
    with pytest.raises(ValueError, match=f"^{broken} cannot be used: "):
        list(batches.naming_damage(found, source, places, batch_size=6))


@pytest.mark.parametrize(("offset", "wrong"), [(0, 4), (1, 0), (1, 5)])
def test_a_label_out_of_range_is_named(tmp_path, offset, wrong):
    data = shapes.encoded(shapes.shape_image(0, 0))
    with tf.io.TFRecordWriter(str(tmp_path / "train-00000-of-00001")) as writer:
        for label in (offset, offset + 3, wrong):
            writer.write(shapes.record(data, label, f"image_{label}.JPEG"))
    source = open_records(tmp_path, num_classes=4, label_offset=offset, val_split="")[1]["train"]
    message = (
        f"The record of image_{wrong}.JPEG cannot be used: .* expected {offset} to {offset + 3}, "
        f".*--label_offset={offset} .*Found: {wrong}"
    )
    with pytest.raises(ValueError, match=message):
        consume(source)


def test_records_of_other_kinds_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "train-00000-of-00001"
    features = tf.train.Features(feature={"x": tf.train.Feature()})
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tf.train.Example(features=features).SerializeToString())
    options = {"num_classes": 4, "val_split": ""}
    source = open_records(tmp_path, **options)[1]["train"]
    with pytest.raises(ValueError, match=r"A record without a file name cannot be used: .*image/"):
        consume(source)
    data = shapes.encoded(shapes.shape_image(0, 0))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(4):
            writer.write(shapes.record(data, 1, f"{i}.JPEG"))
    content = bytearray(path.read_bytes())
    content[len(content) * 5 // 8] ^= 255
    path.write_bytes(content)
    source = open_records(tmp_path, **options)[1]["train"]
    with pytest.raises(ValueError, match=f"{path}, record 2: the checksum of its data is wrong"):
        consume(source)

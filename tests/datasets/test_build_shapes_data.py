import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import DatasetInfo, records

VOID = 255


@pytest.fixture
def shapes(load_script):
    return load_script("build_shapes_data")


def folder_bytes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_writes_voc_layout_and_the_same_records(script, tmp_path, capsys):
    output = tmp_path / "shapes"
    script("build_shapes_data", output_dir=output, num_train=5, num_val=3, image_size=64)
    info = DatasetInfo.load(output / "tfrecord")
    assert info.splits == {"train": 5, "val": 3}
    assert info.class_names == tuple((output / "labels.txt").read_text().split())
    dataset = tf.data.TFRecordDataset(records.split_files(output / "tfrecord", "val"))
    names = []
    for example in map(records.parse_example, dataset):
        names.append(example["filename"].numpy().decode())
        with Image.open(output / f"SegmentationClass/{names[-1]}.png") as mask:
            assert mask.mode == "P"
            expected = np.asarray(mask)
        label = records.decode_label(example["label_bytes"])
        np.testing.assert_array_equal(label, expected)
    assert names == (output / "ImageSets/Segmentation/val.txt").read_text().split()
    assert "triangle" in capsys.readouterr().out


def test_pictures_depend_on_seed_split_and_number_only(shapes, tmp_path):
    for name, seed, num_train in (("a", 0, 3), ("b", 0, 5), ("c", 1, 3)):
        (tmp_path / name).mkdir()
        counts = {"train": num_train, "val": 2}
        shapes.write_voc(tmp_path / name, num_images=counts, image_size=64, seed=seed)
    first, longer, other = (folder_bytes(tmp_path / name) for name in "abc")
    pictures = [name for name in first if "." in name and not name.endswith(".txt")]
    assert len(pictures) == 10
    assert all(longer[name] == first[name] for name in pictures)
    assert all(other[name] != first[name] for name in pictures)
    assert len({first[name] for name in pictures}) == 10


def test_scenes_hold_every_class_large_and_with_void_outlines(shapes):
    largest = np.zeros(len(shapes.CLASS_NAMES))
    for index in range(40):
        image, labels = shapes.draw_scene(np.random.default_rng(index), image_size=100)
        assert image.shape == (*labels.shape, 3)
        assert min(labels.shape) >= 80 and max(labels.shape) <= 100
        for class_id in range(1, len(largest)):
            largest[class_id] = max(largest[class_id], (labels == class_id).mean())
        # Two classes never touch: void lies between them.
        solid = np.where(labels == VOID, 0, labels)
        neighbours = cv2.dilate(solid, np.ones((3, 3), np.uint8))
        assert (neighbours[labels != VOID] == labels[labels != VOID]).all()
        assert (labels == VOID).any()
    assert (largest[1:] > 0.08).all()


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", np.pi),
        ("ring", np.pi * (1.1**2 - 0.55**2)),
        ("square", 2 * 1.2**2),
        ("triangle", 1.35**2 * 3**1.5 / 4),
        # Ten triangles between an outer and an inner corner, 36 degrees apart.
        ("star", 10 * 0.5 * 1.35 * 0.6 * np.sin(np.pi / 5)),
    ],
)
def test_shapes_have_their_areas_and_soft_edges(shapes, shape, area):
    coverage = shapes._coverage(shape, 120, 100, np.array([50.0, 60.0]), 30.0, angle=0.3)
    assert coverage.sum() == pytest.approx(area * 30**2, rel=0.02)
    assert ((coverage > 0.1) & (coverage < 0.9)).sum() > 50


def test_the_color_of_a_pixel_does_not_tell_its_class(shapes):
    """The best label for every colour, learnt from many pictures, segments new ones badly."""
    num_classes = len(shapes.CLASS_NAMES)
    votes = np.zeros((8**3, num_classes), np.int64)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for index in range(120):
        image, labels = shapes.draw_scene(np.random.default_rng(index), image_size=80)
        valid = labels != VOID
        colors = (image // 32)[valid].astype(int) @ (64, 8, 1)
        if index < 90:
            np.add.at(votes, (colors, labels[valid]), 1)
        else:
            np.add.at(confusion, (labels[valid], votes.argmax(axis=1)[colors]), 1)
    hits = confusion.diagonal()
    iou = hits / (confusion.sum(axis=0) + confusion.sum(axis=1) - hits)
    assert iou.mean() < 0.35


def test_an_output_folder_in_use(script, tmp_path):
    values = {"output_dir": tmp_path / "out", "num_train": 2, "num_val": 1, "image_size": 48}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"build_shapes_data: .*out is not empty"):
        script("build_shapes_data", **values)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.txt"]
    script("build_shapes_data", **values, overwrite=True)
    script("build_shapes_data", **values | {"num_train": 3}, overwrite=True)
    assert DatasetInfo.load(tmp_path / "out/tfrecord").splits == {"train": 3, "val": 1}
    assert (tmp_path / "out/thesis.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command(script_process, tmp_path):
    process = script_process(
        "build_shapes_data", output_dir=tmp_path / "new/out", num_train=2, num_val=1, image_size=48
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "new/out/tfrecord/dataset.json").is_file()

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import DatasetInfo, records

NAMES = {
    "train": [f"ADE_train_{index:08d}" for index in range(1, 9)],
    "val": [f"ADE_val_{index:08d}" for index in range(1, 4)],
}
FOLDERS = {"train": "training", "val": "validation"}


@pytest.fixture
def ade20k(tmp_path):
    """ADEChallengeData2016's layout; returns the flags, with slashes at the end as documented."""
    rng = np.random.default_rng(0)
    values = {"output_dir": tmp_path / "tfrecord"}
    for split, folder in FOLDERS.items():
        for kind in ("images", "annotations"):
            (tmp_path / kind / folder).mkdir(parents=True)
        for name in NAMES[split]:
            size = rng.integers(8, 20, 2)
            image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
            image.save(tmp_path / f"images/{folder}/{name}.jpg")
            labels = Image.fromarray(rng.integers(0, 151, size, np.uint8))
            labels.save(tmp_path / f"annotations/{folder}/{name}.png")
        values[f"{split}_image_folder"] = f"{tmp_path}/images/{folder}/"
        values[f"{split}_image_label_folder"] = f"{tmp_path}/annotations/{folder}/"
    return values


def read_split(folder, split):
    dataset = tf.data.TFRecordDataset(records.split_files(folder, split))
    return [records.parse_example(serialized) for serialized in dataset]


def filenames(folder, split):
    return [example["filename"].numpy().decode() for example in read_split(folder, split)]


def test_the_references_command(script, ade20k, capsys):
    script("build_ade20k_data", **ade20k)
    output = ade20k["output_dir"]
    info = DatasetInfo.load(output)
    assert (info.name, info.num_classes, info.ignore_label) == ("ade20k", 151, 0)
    assert (info.class_names[1], info.class_names[150]) == ("wall", "flag")
    assert info.splits == {"train": 8, "val": 3}
    for split in NAMES:
        pattern = os.path.join(ade20k[f"{split}_image_folder"], "*.jpg")
        examples = read_split(output, split)
        # The reference names a record by what TensorFlow's glob returns: the whole path.
        assert sorted(filenames(output, split)) == sorted(tf.io.gfile.glob(pattern))
        for example in examples:
            image = Path(example["filename"].numpy().decode())
            mask = Path(ade20k[f"{split}_image_label_folder"]) / f"{image.stem}.png"
            assert example["image_bytes"].numpy() == image.read_bytes()
            assert example["label_bytes"].numpy() == mask.read_bytes()
    assert len(records.split_files(output, "train")) == 4
    assert "flag" in capsys.readouterr().out


def test_the_order_is_shuffled_for_training_only_and_the_same_each_time(script, ade20k, tmp_path):
    moved = tmp_path / "elsewhere"
    script("build_ade20k_data", **ade20k)
    (tmp_path / "images").rename(moved)
    for split, folder in FOLDERS.items():
        ade20k[f"{split}_image_folder"] = moved / folder
    script("build_ade20k_data", **ade20k | {"output_dir": tmp_path / "again"})
    for split, names in NAMES.items():
        stems = [Path(name).stem for name in filenames(tmp_path / "tfrecord", split)]
        assert [Path(name).stem for name in filenames(tmp_path / "again", split)] == stems
        assert sorted(stems) == names
        assert (stems == names) == (split == "val")


def test_the_form_with_150_classes(script, ade20k):
    script("build_ade20k_data", **ade20k, reduce_zero_label=True)
    output = ade20k["output_dir"]
    info = DatasetInfo.load(output)
    assert (info.name, info.num_classes, info.ignore_label) == ("ade20k_150", 150, 255)
    assert (info.class_names[0], info.class_names[149]) == ("wall", "flag")
    assert info.palette[0] == (120, 120, 120)
    values = set()
    for example in read_split(output, "train"):
        stem = Path(example["filename"].numpy().decode()).stem
        with Image.open(Path(ade20k["train_image_label_folder"]) / f"{stem}.png") as mask:
            original = np.asarray(mask)
        values |= set(original.ravel().tolist())
        # In 8 bits 0 - 1 is 255.
        label = records.decode_label(example["label_bytes"])
        np.testing.assert_array_equal(label, original - np.uint8(1))
    assert values >= {0, 1, 150}


def damaged_mask(value=1, size=(5, 5)):
    def damage(flags):
        mask = Path(flags["train_image_label_folder"]) / "ADE_train_00000003.png"
        with Image.open(Path(flags["train_image_folder"]) / "ADE_train_00000003.jpg") as image:
            Image.new("L", size or image.size, value).save(mask)

    return damage


def test_masks_that_are_reduced_already_are_not_reduced_again(script, ade20k):
    damaged_mask(value=255, size=None)(ade20k)
    with pytest.raises(
        SystemExit, match=r"ADE_train_00000003\.png: .* no entry for the values 255"
    ):
        script("build_ade20k_data", **ade20k, reduce_zero_label=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda flags: Path(flags["val_image_label_folder"], "ADE_val_00000002.png").unlink(),
            r"ADE_val_00000002\.jpg: no mask .*annotations/validation/ADE_val_00000002\.png",
        ),
        (damaged_mask(), r"ADE_train_00000003\.jpg: the image is .* its mask 5x5"),
        (damaged_mask(value=151, size=None), r"ADE_train_00000003\.png: holds the labels 151"),
        (
            lambda flags: Path(flags["val_image_folder"]).rename(flags["output_dir"]),
            r"folder .*images/validation/ not found",
        ),
        (
            lambda flags: [path.unlink() for path in Path(flags["val_image_folder"]).iterdir()],
            r"folder .*images/validation/ holds no \.jpg, ",
        ),
    ],
)
def test_what_does_not_fit_is_named(script, ade20k, damage, message):
    damage(ade20k)
    with pytest.raises(SystemExit, match=message):
        script("build_ade20k_data", **ade20k)
    assert not list(Path(ade20k["output_dir"]).glob("*.tfrecord"))


def test_image_format_chooses_between_images_of_several_kinds(script, ade20k):
    extra = Path(ade20k["train_image_folder"]) / "preview.png"
    Image.new("RGB", (4, 4)).save(extra)
    with pytest.raises(SystemExit, match=r"preview\.png: no mask"):
        script("build_ade20k_data", **ade20k)
    script("build_ade20k_data", **ade20k, image_format="jpg")
    assert DatasetInfo.load(ade20k["output_dir"]).splits == {"train": 8, "val": 3}

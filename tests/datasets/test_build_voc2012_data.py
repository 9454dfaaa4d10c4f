import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data import DatasetInfo, records

LISTS = {"train": ["x1", "x3"], "val": ["x2"], "trainval": ["x1", "x2", "x3"]}


@pytest.fixture
def voc(tmp_path):
    """A VOC layout of three images with palette masks, one larger than the others."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "lists"):
        (tmp_path / folder).mkdir()
    for name, size in (("x1", (20, 30)), ("x2", (30, 20)), ("x3", (40, 50))):
        labels = rng.choice(np.array([0, 7, 20, 255], np.uint8), size)
        mask = Image.fromarray(labels)
        mask.putpalette(voc_colormap(256).tobytes())
        mask.save(tmp_path / f"SegmentationClass/{name}.png")
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        image.save(tmp_path / f"JPEGImages/{name}.jpg")
    for split, names in LISTS.items():
        (tmp_path / f"lists/{split}.txt").write_text("\n".join(names))
    return {
        "image_folder": tmp_path / "JPEGImages",
        "semantic_segmentation_folder": tmp_path / "SegmentationClass",
        "list_folder": tmp_path / "lists",
        "output_dir": tmp_path / "tfrecord",
    }


def test_the_references_command(script, voc, capsys):
    script("build_voc2012_data", **voc, image_format="jpg")
    info = DatasetInfo.load(voc["output_dir"])
    assert info.name == "pascal_voc_seg"
    assert (info.class_names[7], info.class_names[20]) == ("car", "tvmonitor")
    assert info.palette == tuple(map(tuple, voc_colormap(21).tolist()))
    assert info.splits == {"train": 2, "trainval": 3, "val": 1}
    for split, names in LISTS.items():
        dataset = tf.data.TFRecordDataset(records.split_files(voc["output_dir"], split))
        examples = [records.parse_example(serialized) for serialized in dataset]
        assert [example["filename"].numpy().decode() for example in examples] == names
        for example, name in zip(examples, names, strict=True):
            with Image.open(voc["semantic_segmentation_folder"] / f"{name}.png") as mask:
                expected = np.asarray(mask)
            label = records.decode_label(example["label_bytes"])
            np.testing.assert_array_equal(label, expected)
    assert "tvmonitor" in capsys.readouterr().out


def test_another_data_set_in_the_same_layout(script, voc, tmp_path):
    names = [f"thing {index}" for index in range(21)]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    script("build_voc2012_data", **voc, class_names_file=tmp_path / "labels.txt", num_shards=1)
    info = DatasetInfo.load(voc["output_dir"])
    assert (info.name, info.class_names) == ("tfrecord", tuple(names))
    assert (voc["output_dir"] / "val-00000-of-00001.tfrecord").is_file()


def test_arrays_of_five_channels_in_the_same_layout(script, voc, capsys):
    arrays = {}
    for index, path in enumerate(sorted(voc["image_folder"].iterdir())):
        height, width = np.asarray(Image.open(path)).shape[:2]
        path.unlink()
        rng = np.random.default_rng(index)
        arrays[path.stem] = rng.integers(100, 900, (height, width, 5), np.uint16)
        np.save(path.with_suffix(".npy"), arrays[path.stem])
    script("build_voc2012_data", **voc, input_channels=5, bit_depth=16)
    info = DatasetInfo.load(voc["output_dir"])
    assert (info.input_channels, info.bit_depth, info.value_range) == (5, 16, (0, 65535))
    assert "--value_range=100,899 uses all of it." in capsys.readouterr().out
    for serialized in tf.data.TFRecordDataset(records.split_files(voc["output_dir"], "trainval")):
        feature = tf.train.Example.FromString(serialized.numpy()).features.feature
        example = records.parse_example(serialized)
        array = arrays[example["filename"].numpy().decode()]
        stored = (feature[f"image/{key}"].int64_list.value[0] for key in ("height", "width"))
        assert tuple(stored) == array.shape[:2]
        assert feature["image/channels"].int64_list.value[0] == 5
        image = records.decode_image(example["image_bytes"], channels=5, bit_depth=16)
        np.testing.assert_array_equal(image, array)


def test_bad_input_is_a_message_and_an_exit_code(script_process, voc, tmp_path):
    (voc["semantic_segmentation_folder"] / "x2.png").unlink()
    process = script_process("build_voc2012_data", **voc)
    assert process.returncode == 1
    assert "build_voc2012_data: 2 problem(s)" in process.stderr
    assert "val.txt: no mask in" in process.stderr
    assert "Traceback" not in process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "JPEGImages",
        "SegmentationClass",
        "lists",
    ]


def test_labels_beyond_the_names_are_refused(script, voc, tmp_path):
    (tmp_path / "labels.txt").write_text("background\ncar\n")
    with pytest.raises(SystemExit, match=r"x1\.png: holds the labels 7, 20"):
        script("build_voc2012_data", **voc, class_names_file=tmp_path / "labels.txt")


def test_overwrite(script, voc):
    script("build_voc2012_data", **voc)
    with pytest.raises(SystemExit, match="not empty"):
        script("build_voc2012_data", **voc)
    script("build_voc2012_data", **voc, num_shards=2, overwrite=True)
    assert len(json.loads((voc["output_dir"] / "dataset.json").read_text())["splits"]) == 3
    assert len(records.split_files(voc["output_dir"], "train")) == 2

import json
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse
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


# SBD's lists overlap with VOC's: x2 is VOC's val, x1 VOC's train.
SBD_LISTS = {"train": ["y1", "x2", "x1"], "val": ["y2", "x3"]}


def sbd_labels(name):
    return np.random.default_rng(ord(name[1])).choice(np.array([0, 3, 15], np.uint8), (24, 36))


@pytest.fixture
def sbd(tmp_path):
    """benchmark.tgz as unpacked, with the structs that its .mat files hold."""
    root = tmp_path / "benchmark_RELEASE"
    for folder in ("img", "cls", "inst"):
        (root / "dataset" / folder).mkdir(parents=True)
    for split, names in SBD_LISTS.items():
        (root / f"dataset/{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            Image.new("RGB", (36, 24), (9, 8, 7)).save(root / f"dataset/img/{name}.jpg")
            write_sbd(root, name, sbd_labels(name))
    return root


def write_sbd(root, name, labels):
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[scipy.sparse.csc_matrix(labels == label)] for label in range(1, 21)]
    present = np.setdiff1d(labels, 0).astype(np.uint8)[:, np.newaxis]
    struct = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": present}
    path = root / f"dataset/cls/{name}.mat"
    scipy.io.savemat(path, {"GTcls": struct}, do_compression=True)


def labels_of(folder, split):
    dataset = tf.data.TFRecordDataset(records.split_files(folder, split))
    examples = map(records.parse_example, dataset)
    return {
        example["filename"].numpy().decode(): records.decode_label(example["label_bytes"]).numpy()
        for example in examples
    }


def voc_mask(voc, name):
    with Image.open(voc["semantic_segmentation_folder"] / f"{name}.png") as mask:
        return np.asarray(mask)


@pytest.mark.parametrize("root", ["", "dataset"])
def test_train_aug_is_vocs_train_and_what_sbd_adds(script, voc, sbd, root, capsys):
    script("build_voc2012_data", **voc, sbd_root=sbd / root)
    assert "train_aug has 4 images; of all of VOC and SBD it has 10582" in capsys.readouterr().out
    assert DatasetInfo.load(voc["output_dir"]).splits["train_aug"] == 4
    labels = labels_of(voc["output_dir"], "train_aug")
    assert list(labels) == ["x1", "x3", "y1", "y2"]
    for name in ("x1", "x3"):  # VOC's masks, not SBD's
        np.testing.assert_array_equal(labels[name], voc_mask(voc, name))
    for name in ("y1", "y2"):
        np.testing.assert_array_equal(labels[name], sbd_labels(name))


def test_a_mask_folder_and_list_that_someone_made_of_sbd(script, voc, tmp_path):
    """SegmentationClassAug and trainaug.txt: grey masks for all images of both data sets."""
    names = ["x1", "x3", "y1"]
    (tmp_path / "lists/trainaug.txt").write_text("\n".join(names))
    (tmp_path / "SegmentationClassAug").mkdir()
    for name in ("x1", "x2", "x3", "y1"):
        Image.fromarray(sbd_labels(name)).save(tmp_path / f"SegmentationClassAug/{name}.png")
        Image.new("RGB", (36, 24)).save(tmp_path / f"JPEGImages/{name}.jpg")
    values = voc | {"semantic_segmentation_folder": tmp_path / "SegmentationClassAug"}
    script("build_voc2012_data", **values)
    info = DatasetInfo.load(voc["output_dir"])
    assert info.resolve_split("train_aug") == "trainaug"  # what --train_split=train_aug means
    labels = labels_of(voc["output_dir"], "trainaug")
    assert list(labels) == names
    np.testing.assert_array_equal(labels["y1"], sbd_labels("y1"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda voc, sbd: (sbd / "dataset/cls").rename(sbd / "classes"), r"cls not found; .*sbd"),
        (
            lambda voc, sbd: (sbd / "dataset/cls/y2.mat").unlink(),
            r"dataset/val\.txt: no mask in .*cls for y2",
        ),
        (lambda voc, sbd: (sbd / "dataset/val.txt").unlink(), r"of SBD \(.*\); val not found"),
        (lambda voc, sbd: (voc["list_folder"] / "val.txt").unlink(), "of VOC; val not found"),
        (
            lambda voc, sbd: (voc["list_folder"] / "train_aug.txt").write_text("x1"),
            r"train_aug\.txt in .*lists and --sbd_root",
        ),
        (
            lambda voc, sbd: (sbd / "dataset/cls/y1.mat").write_bytes(
                (sbd / "dataset/cls/y1.mat").read_bytes()[:-30]
            ),
            r"cls/y1\.mat: damaged, or no file of SBD",
        ),
        (
            lambda voc, sbd: scipy.io.savemat(sbd / "dataset/cls/y1.mat", {"GTinst": {"a": 1}}),
            r"cls/y1\.mat: damaged, or no file of SBD with GTcls\.Segmentation",
        ),
        (
            lambda voc, sbd: write_sbd(sbd, "y1", np.ones((24, 36))),
            r"cls/y1\.mat: GTcls\.Segmentation is float64 \(24, 36\)",
        ),
        (
            lambda voc, sbd: write_sbd(sbd, "y1", np.ones((36, 24), np.uint8)),
            r"img/y1\.jpg: the image is 36x24 .* its mask 24x36",
        ),
        (
            lambda voc, sbd: write_sbd(sbd, "y1", np.full((24, 36), 21, np.uint8)),
            r"cls/y1\.mat: holds the labels 21",
        ),
    ],
)
def test_an_sbd_that_does_not_fit_is_named(script, voc, sbd, damage, message):
    damage(voc, sbd)
    with pytest.raises(SystemExit, match=message):
        script("build_voc2012_data", **voc, sbd_root=sbd)
    assert not voc["output_dir"].exists()


def test_without_scipy_sbd_says_how_to_get_it(script, voc, sbd, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(SystemExit, match=r"need scipy: pip install 'deeplab-tf\[sbd\]'"):
        script("build_voc2012_data", **voc, sbd_root=sbd)
    script("build_voc2012_data", **voc)  # and the rest works without

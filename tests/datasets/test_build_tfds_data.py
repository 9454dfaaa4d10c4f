import io
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from deeplab_tf.colormap import cityscapes_colormap
from deeplab_tf.data import DatasetInfo, records
from deeplab_tf.data.tfds_source import (
    TfdsLayout,
    TfdsReader,
    find_layout,
    make_builder,
    tfds_samples,
)

RGB = tfds.features.Image(shape=(None, None, 3))
GREY = tfds.features.Image(shape=(None, None, 1))


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def pair(seed, values=(1, 2, 3), size=(9, 7)):
    """JPEG bytes, and labels that hold every value."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.resize(np.array(values, np.uint8), size[0] * size[1])).reshape(size)
    return encoded(rng.integers(0, 256, (*size, 3), np.uint8), "JPEG"), labels


def prepare(folder, name, features, splits, *, shards=1, base=tfds.core.GeneratorBasedBuilder):
    """Writes a data set as TFDS prepares it; later only its files are looked at."""

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def split_generators(self, manager):
        return {split: enumerate(examples) for split, examples in splits.items()}

    body = {
        "VERSION": tfds.core.Version("4.0.0"),
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": None,
        "name": name,
    }
    builder_class = type(name, (base,), body, skip_registration=True)
    builder = builder_class(data_dir=folder)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))


# Interleaved, TFDS takes 16 examples of a file at a time; here are 18 in each of three.
PETS = {"train": range(54), "test": range(60, 64)}


@pytest.fixture
def pets(tmp_path):
    """oxford_iiit_pet as TFDS prepares it, with the features that matter, in several files."""
    splits = {
        split: [
            {
                "image": io.BytesIO(pair(seed)[0]),
                "segmentation_mask": io.BytesIO(encoded(pair(seed)[1])),
                "file_name": f"Abyssinian_{seed}.jpg",
            }
            for seed in seeds
        ]
        for split, seeds in PETS.items()
    }
    features = {"image": RGB, "segmentation_mask": GREY, "file_name": tfds.features.Text()}
    prepare(tmp_path, "oxford_iiit_pet", features, splits, shards=3)
    return tmp_path


def examples_of(folder, split):
    dataset = tf.data.TFRecordDataset(records.split_files(folder, split))
    return [records.parse_example(serialized) for serialized in dataset]


def label_of(example):
    return records.decode_label(example["label_bytes"]).numpy()


def test_oxford_iiit_pet(script, pets):
    output = pets / "out"
    script("build_tfds_data", tfds_name="oxford_iiit_pet", data_dir=pets, output_dir=output)
    info = DatasetInfo.load(output)
    assert (info.name, info.ignore_label) == ("oxford_iiit_pet", 255)
    assert info.class_names == ("pet", "background", "border")
    assert info.splits == {"train": 54, "test": 4}
    for split, seeds in PETS.items():
        examples = examples_of(output, split)
        names = {example["filename"].numpy().decode() for example in examples}
        assert names == {f"Abyssinian_{seed}" for seed in seeds}
        for example in examples:
            image, labels = pair(int(example["filename"].numpy().decode().rpartition("_")[2]))
            assert example["image_bytes"].numpy() == image  # the file's own bytes
            np.testing.assert_array_equal(label_of(example), labels - 1)


@pytest.fixture
def reader(pets):
    layout = TfdsLayout("image", "segmentation_mask")
    return TfdsReader("oxford_iiit_pet:4.0.0", str(pets), layout)


def assert_belong(sample, read):
    image, labels = pair(int(sample.name.rpartition("_")[2]))
    assert read.image.data == image
    np.testing.assert_array_equal(read.mask.labels, labels)


def test_samples_are_found_in_any_order(reader):
    builder = make_builder(reader.tfds_name, reader.data_dir)
    samples = [s for split in PETS for s in tfds_samples(builder, split, layout=reader.layout)]
    assert len({sample.name for sample in samples}) == 58
    order = [0, *np.random.default_rng(0).permutation(len(samples))[:12], 17, 18, 57, 57]
    for sample in (samples[index] for index in order):
        assert_belong(sample, reader(sample))
    with ThreadPoolExecutor(3) as pool:  # as Beam's local runner
        some = samples[40:]
        for sample, read in zip(some, pool.map(reader, some), strict=True):
            assert_belong(sample, read)


def test_neighbours_are_read_in_one_sweep(reader, monkeypatch):
    builder = make_builder(reader.tfds_name, reader.data_dir)
    samples = tfds_samples(builder, "train", layout=reader.layout)
    opened = []
    original = tfds.core.DatasetBuilder.as_dataset
    monkeypatch.setattr(
        tfds.core.DatasetBuilder,
        "as_dataset",
        lambda self, **values: opened.append(values["split"]) or original(self, **values),
    )
    for sample in samples[2:]:
        reader(sample)
    reader(samples[0])
    assert len(opened) == 2


def test_labels_and_their_names_are_taken_from_the_features(script, tmp_path):
    names = ["sky", "sea"]
    features = {
        "picture": RGB,
        "depth": GREY,
        "classes": tfds.features.LabeledImage(labels=names, shape=(None, None, 1)),
    }
    examples = [
        {
            "picture": io.BytesIO(pair(seed)[0]),
            "depth": np.zeros((9, 7, 1), np.uint8),
            "classes": pair(seed, (0, 1, 255))[1][..., np.newaxis],
        }
        for seed in range(3)
    ]
    prepare(tmp_path, "beach", features, {"train": examples})
    values = {"tfds_name": "beach", "data_dir": tmp_path, "output_dir": tmp_path / "out"}
    script("build_tfds_data", **values)
    info = DatasetInfo.load(tmp_path / "out")
    assert (info.name, info.class_names) == ("beach", ("sky", "sea"))
    found = examples_of(tmp_path / "out", "train")
    assert [e["filename"].numpy().decode() for e in found] == [f"train_00000{i}" for i in range(3)]
    masks = {e["image_bytes"].numpy(): label_of(e) for e in found}
    for seed in range(3):
        np.testing.assert_array_equal(masks[pair(seed)[0]], pair(seed, (0, 1, 255))[1])


def test_flags_say_what_the_features_do_not(script, tmp_path):
    splits = {
        split: [
            {
                "left": io.BytesIO(pair(0)[0]),
                "right": io.BytesIO(pair(1)[0]),
                "objects": io.BytesIO(encoded(pair(0, (0, 7, 9))[1])),
                "parts": io.BytesIO(encoded(pair(1)[1])),
            }
        ]
        for split in ("train", "extra")
    }
    features = {"left": RGB, "right": RGB, "objects": GREY, "parts": GREY}
    prepare(tmp_path, "stereo", features, splits)
    (tmp_path / "names.txt").write_text("cup\nplate\n")
    values = {"tfds_name": "stereo:4.0.0", "data_dir": tmp_path, "output_dir": tmp_path / "out"}
    with pytest.raises(
        SystemExit, match=r"stereo/4\.0\.0: 2 features that may be meant; give --mask_key, .*parts"
    ):
        script("build_tfds_data", **values)
    values["mask_key"] = "objects"
    with pytest.raises(SystemExit, match=r"give --image_key, one of its images: left \(None, None"):
        script("build_tfds_data", **values)
    with pytest.raises(SystemExit, match="no image feature nose; give --image_key"):
        script("build_tfds_data", **values, image_key="nose")
    values |= {"image_key": "left", "label_map": "0:255,7:0,9:1", "splits": "extra"}
    script("build_tfds_data", **values, class_names_file=tmp_path / "names.txt")
    info = DatasetInfo.load(tmp_path / "out")
    assert (info.class_names, info.splits) == (("cup", "plate"), {"extra": 1})
    (example,) = examples_of(tmp_path / "out", "extra")
    assert example["image_bytes"].numpy() == pair(0)[0]
    expected = np.choose(pair(0, (0, 7, 9))[1] // 4, [255, 0, 1])
    np.testing.assert_array_equal(label_of(example), expected)


def convert_mocked(script, tmp_path, name, examples=None, **values):
    """Converts what `mock_data` gives for the features of a data set in this version of TFDS.

    Left to itself, it makes images and masks of different sizes where their size is not fixed.
    """

    def as_dataset(self, split, decoders, **_):
        features = decoders.extract_features(self.info.features)
        stored = features.get_serialized_info()

        def generate():
            for example in examples:
                yield features.encode_example({key: example[key] for key in features})

        dataset = tf.data.Dataset.from_generator(
            generate, output_types={k: t.dtype for k, t in stored.items()}
        )
        return dataset.map(lambda e: features.decode_example(e, decoders=decoders.decoders))

    if examples is not None:
        values["as_dataset_fn"] = as_dataset
    with tfds.testing.mock_data(**values, data_dir=str(tmp_path)):
        script(
            "build_tfds_data",
            tfds_name=name,
            data_dir=tmp_path,
            output_dir=tmp_path / "out",
            splits="train",
        )
    return examples_of(tmp_path / "out", "train")


def test_oxford_iiit_pet_of_this_version_of_tfds(script, tmp_path):
    examples = [
        {
            "image": np.full((9, 7, 3), 99, np.uint8),
            "segmentation_mask": pair(seed)[1][..., np.newaxis],
            "file_name": f"Birman_{seed}.jpg",
        }
        for seed in range(3)
    ]
    found = convert_mocked(script, tmp_path, "oxford_iiit_pet", examples)
    assert DatasetInfo.load(tmp_path / "out").class_names == ("pet", "background", "border")
    for seed, example in enumerate(found):
        assert example["filename"].numpy().decode() == f"Birman_{seed}"
        np.testing.assert_array_equal(label_of(example), pair(seed)[1] - 1)


def test_cityscapes_of_this_version_of_tfds(script, tmp_path):
    name = "cityscapes/semantic_segmentation"
    (example,) = convert_mocked(script, tmp_path, name, num_examples=1, max_value=34)
    info = DatasetInfo.load(tmp_path / "out")
    assert (info.name, info.num_classes) == ("cityscapes", 19)
    assert info.palette == tuple(map(tuple, cityscapes_colormap().tolist()))
    labels = label_of(example)
    assert labels.shape == (1024, 2048)
    counts = np.bincount(labels.ravel(), minlength=256)
    assert set(np.flatnonzero(counts)) == {*range(19), 255}
    np.testing.assert_allclose(counts[255] / labels.size, 15 / 34, atol=0.01)


def instances(seed):
    """RGB masks of the instance challenge: kind of object, number of the object, nothing."""
    kinds = pair(seed, (0, 1, 8, 100))[1]
    return np.stack([kinds, pair(seed + 1, range(9))[1], np.zeros_like(kinds)], -1)


def test_scene_parse150_of_this_version_of_tfds(script, tmp_path, capsys):
    images = np.zeros((9, 7, 3), np.uint8)
    examples = [{"image": images, "annotation": instances(seed)} for seed in range(3)]
    found = convert_mocked(script, tmp_path, "scene_parse150", examples)
    info = DatasetInfo.load(tmp_path / "out")
    assert info.num_classes == 101
    # rows of the challenge's instanceInfo100
    assert info.class_names[:5] == ("other", "bed", "windowpane", "cabinet", "person")
    assert info.class_names[-3:] == ("glass", "clock", "flag")
    for seed, example in enumerate(found):
        np.testing.assert_array_equal(label_of(example), instances(seed)[..., 0])
    assert "build_ade20k_data.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            encoded(pair(0, (1, 2, 4))[1]),
            r"oxford_iiit_pet:4\.0\.0, train\[0\] \(bad\), segmentation_mask: .* the values 4",
        ),
        (encoded(pair(0, size=(7, 9))[1]), r"train\[0\] \(bad\), image: the image is 7x9 .* 9x7"),
        (encoded(pair(0)[1])[:-30], r"train\[0\] \(bad\), segmentation_mask: damaged"),
        (encoded(pair(0)[1], "JPEG"), r"segmentation_mask: a JPEG mask"),
    ],
)
def test_what_does_not_fit_is_named(script, tmp_path, mask, message):
    example = {
        "image": io.BytesIO(pair(0)[0]),
        "segmentation_mask": io.BytesIO(mask),
        "file_name": "bad.jpg",
    }
    features = {"image": RGB, "segmentation_mask": GREY, "file_name": tfds.features.Text()}
    prepare(tmp_path, "oxford_iiit_pet", features, {"train": [example]})
    values = {"tfds_name": "oxford_iiit_pet", "data_dir": tmp_path, "output_dir": tmp_path / "out"}
    with pytest.raises(SystemExit, match=message):
        script("build_tfds_data", **values)
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_an_error(script, pets):
    (damaged,) = pets.glob("oxford_iiit_pet/4.0.0/*-train.tfrecord-00001-*")
    data = bytearray(damaged.read_bytes())
    data[40] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(SystemExit, match=r"oxford_iiit_pet/4\.0\.0, train: damaged \(.*corrupted"):
        script(
            "build_tfds_data", tfds_name="oxford_iiit_pet", data_dir=pets, output_dir=pets / "out"
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tfds_name": "nothing_of_the_kind"}, "TFDS knows no data set nothing_of_the_kind"),
        ({"tfds_name": "oxford_iiit_pet:9.9.9"}, "TFDS has no oxford_iiit_pet:9.9.9: .*only: 4"),
        ({"splits": "val"}, r"Unknown split 'val'. Should be one of \['.*train'"),
    ],
)
def test_flags_that_do_not_fit(script, pets, values, message):
    values = {"tfds_name": "oxford_iiit_pet", "data_dir": pets, "output_dir": pets / "out"} | values
    with pytest.raises(SystemExit, match=f"(?s)build_tfds_data: {message}"):
        script("build_tfds_data", **values)


def test_a_data_set_to_download_by_hand(script, tmp_path, monkeypatch):
    def refuse(self):
        raise AssertionError("Manual data required.")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(SystemExit, match=r"cityscapes is not prepared: Manual data required\."):
        script(
            "build_tfds_data",
            tfds_name="cityscapes",
            data_dir=tmp_path,
            output_dir=tmp_path / "out",
        )


def test_without_tfds_it_says_how_to_get_it(script, pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(SystemExit, match=r"pip install 'deeplab-tf\[tfds\]'"):
        script("build_tfds_data", tfds_name="oxford_iiit_pet", output_dir=pets / "out")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("images/a.b_1.JPG", "a.b_1"),
        ("aachen_000000_000019", "aachen_000000_000019"),
        ("v1.5", "v1.5"),
    ],
)
def test_names_are_those_of_the_files(tmp_path, text, name):
    example = {"image": io.BytesIO(pair(0)[0]), "mask": io.BytesIO(encoded(pair(0)[1]))}
    features = {"image": RGB, "mask": GREY, "image_id": tfds.features.Text()}
    prepare(tmp_path, "named", features, {"train": [example | {"image_id": text}]})
    builder = make_builder("named", str(tmp_path))
    (sample,) = tfds_samples(builder, "train", layout=find_layout(builder))
    assert sample.name == name


def test_a_reader_travels_and_says_all_that_it_is(reader):
    assert pickle.loads(pickle.dumps(reader)) == reader
    assert all(repr(value) in repr(reader) for value in asdict(reader.layout).values())

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.colormap import cityscapes_colormap
from deeplab_tf.data import DatasetInfo, records
from deeplab_tf.data.convert import convert_samples
from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS, KNOWN_DATASETS
from deeplab_tf.data.pairing import Sample
from deeplab_tf.visualization.run import visualize_predictions

GOLDEN = Path(__file__).parents[1] / "golden"

# Train id by label id, 0 to 33: the column trainId of cityscapesScripts' labels.py.
TRAIN_IDS = np.array(
    [
        *(255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255),
        *(6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18),
    ],
    np.uint8,
)
# RGB by label id: the column color there.
COLORS = np.array(
    [
        *([(0, 0, 0)] * 5 + [(111, 74, 0), (81, 0, 81), (128, 64, 128), (244, 35, 232)]),
        *((250, 170, 160), (230, 150, 140), (70, 70, 70), (102, 102, 156), (190, 153, 153)),
        *((180, 165, 180), (150, 100, 100), (150, 120, 90), (153, 153, 153), (153, 153, 153)),
        *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180)),
        *((220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 0, 90)),
        *((0, 0, 110), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ],
    np.uint8,
)
POLE, POLEGROUP = 17, 18  # label ids of one colour
IMAGES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"],
    "val": ["frankfurt_000000_000294", "munster_000172_000019"],
    "test": ["berlin_000000_000019"],
}


@pytest.fixture
def cityscapes(tmp_path):
    """Cityscapes' layout as downloaded: random images, masks of label ids, those of test empty."""
    rng = np.random.default_rng(0)
    root = tmp_path / "cityscapes"
    for split, names in IMAGES.items():
        for name in names:
            image = path(root, split, name, "leftImg8bit")
            label = path(root, split, name, "labelIds")
            for folder in (image.parent, label.parent):
                folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8)).save(image)
            ids = rng.permutation(np.arange(32 * 64, dtype=np.uint8) % 34).reshape(32, 64)
            Image.fromarray(ids % 4 if split == "test" else ids).save(label)
    return root


def path(root, split, name, kind):
    """The file of an image, or of its mask of kind labelIds or labelTrainIds."""
    city = name.split("_")[0]
    if kind == "leftImg8bit":
        return root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"
    return root / f"gtFine/{split}/{city}/{name}_gtFine_{kind}.png"


def write_train_ids(root, split, name):
    """What createTrainIdLabelImgs.py adds."""
    ids = np.asarray(Image.open(path(root, split, name, "labelIds")))
    Image.fromarray(TRAIN_IDS[ids]).save(path(root, split, name, "labelTrainIds"))


def read_split(folder, split):
    dataset = tf.data.TFRecordDataset(records.split_files(folder, split))
    return [records.parse_example(serialized) for serialized in dataset]


@pytest.mark.golden
def test_the_references_command(script, cityscapes, capsys):
    for split, names in IMAGES.items():
        for name in names:
            write_train_ids(cityscapes, split, name)
    output = cityscapes / "tfrecord"
    output.mkdir()  # as convert_cityscapes.sh does
    script("build_cityscapes_data", cityscapes_root=cityscapes, output_dir=output)

    info = DatasetInfo.load(output)
    assert (info.name, info.num_classes, info.ignore_label) == ("cityscapes", 19, 255)
    assert (info.class_names[0], info.class_names[18]) == ("road", "bicycle")
    assert info.palette == tuple(map(tuple, cityscapes_colormap().tolist()))
    assert info.splits == {"train_fine": 3, "val_fine": 2, "test_fine": 1}
    facts = json.loads((GOLDEN / "facts_dataset.json").read_text())["cityscapes"]
    counts = {
        file.name: sum(1 for _ in tf.data.TFRecordDataset(str(file)))
        for file in output.glob("*.tfrecord")
    }
    assert counts == facts["counts"]
    for split, names in IMAGES.items():
        examples = read_split(output, f"{split}_fine")
        assert [example["filename"].numpy().decode() for example in examples] == names
        for example, name in zip(examples, names, strict=True):
            image = path(cityscapes, split, name, "leftImg8bit")
            mask = path(cityscapes, split, name, "labelTrainIds")
            assert example["image_bytes"].numpy() == image.read_bytes()
            assert example["label_bytes"].numpy() == mask.read_bytes()
    assert "bicycle" in capsys.readouterr().out


@pytest.mark.golden
def test_the_record_is_byte_identical_to_the_references(load_script, tmp_path):
    golden = (GOLDEN / "cityscapes_example_0.bin").read_bytes()
    recorded = records.parse_example(tf.constant(golden))
    facts = json.loads((GOLDEN / "facts_dataset.json").read_text())["cityscapes"]
    for kind, content in (("leftImg8bit", "image_bytes"), ("labelTrainIds", "label_bytes")):
        file = path(tmp_path / "root", "train", facts["filename"], kind)
        file.parent.mkdir(parents=True)
        file.write_bytes(recorded[content].numpy())

    converter = load_script("build_cityscapes_data")
    convert_samples(
        converter.find_samples(tmp_path / "root", image_format="png"),
        output_dir=tmp_path / "out",
        name="cityscapes",
        read=converter.TrainIdReader(),
        class_names=[f"class {label}" for label in range(20)],  # its label holds 19
        num_shards=facts["num_shards"],
    )
    files = records.split_files(tmp_path / "out", "train_fine")
    assert [record.numpy() for record in tf.data.TFRecordDataset(files)] == [golden]


def test_masks_of_label_ids_are_converted(script, cityscapes):
    write_train_ids(cityscapes, "train", IMAGES["train"][1])  # one of three: both kinds go together
    script("build_cityscapes_data", cityscapes_root=cityscapes, output_dir=cityscapes / "out")
    for split, names in IMAGES.items():
        examples = read_split(cityscapes / "out", f"{split}_fine")
        for example, name in zip(examples, names, strict=True):
            ids = np.asarray(Image.open(path(cityscapes, split, name, "labelIds")))
            label = records.decode_label(example["label_bytes"])
            np.testing.assert_array_equal(label, TRAIN_IDS[ids])


def test_masks_of_train_ids_are_preferred(script, cityscapes):
    name = IMAGES["val"][0]
    Image.new("L", (64, 32), 5).save(path(cityscapes, "val", name, "labelTrainIds"))
    script("build_cityscapes_data", cityscapes_root=cityscapes, output_dir=cityscapes / "out")
    label = records.decode_label(read_split(cityscapes / "out", "val_fine")[0]["label_bytes"])
    assert np.unique(label).tolist() == [5]


def test_the_documented_split_names_mean_the_recorded_ones(script, cityscapes):
    script("build_cityscapes_data", cityscapes_root=cityscapes, output_dir=cityscapes / "out")
    info = DatasetInfo.load(cityscapes / "out")
    for name in ("train", "val", "test"):
        assert info.resolve_split(name) == info.resolve_split(f"{name}_fine") == f"{name}_fine"


def test_a_test_split_without_masks_is_left_out(script, cityscapes, capsys):
    path(cityscapes, "test", IMAGES["test"][0], "labelIds").unlink()
    script("build_cityscapes_data", cityscapes_root=cityscapes, output_dir=cityscapes / "out")
    assert DatasetInfo.load(cityscapes / "out").splits == {"train_fine": 3, "val_fine": 2}
    assert "test_fine is left out" in capsys.readouterr().out


def test_colours_are_read_where_there_is_nothing_else(script, cityscapes):
    name = IMAGES["val"][1]
    ids = np.asarray(Image.open(path(cityscapes, "val", name, "labelIds")))
    path(cityscapes, "val", name, "labelIds").unlink()
    opaque = np.full((*ids.shape, 1), 255, np.uint8)  # the download's are RGBA
    Image.fromarray(np.concatenate([COLORS[ids], opaque], -1)).save(
        path(cityscapes, "val", name, "color")
    )
    # A picture beside masks of ids, as the download has it, is not read.
    Image.new("RGBA", (64, 32)).save(path(cityscapes, "val", IMAGES["val"][0], "color"))
    script("build_cityscapes_data", cityscapes_root=cityscapes, output_dir=cityscapes / "out")
    first, second = (
        records.decode_label(example["label_bytes"]).numpy()
        for example in read_split(cityscapes / "out", "val_fine")
    )
    assert len(np.unique(first)) == 20
    expected = np.where(ids == POLEGROUP, TRAIN_IDS[POLE], TRAIN_IDS[ids])
    np.testing.assert_array_equal(second, expected)


@pytest.fixture
def coarse(cityscapes):
    """With gtCoarse.zip and leftImg8bit_trainextra.zip beside the others."""
    extra = {"train_extra": ["augsburg_000000_000000", "zuerich_000000_000000"]}
    for split, names in (IMAGES | extra).items():
        for value, name in enumerate(names if split != "test" else []):
            image = path(cityscapes, split, name, "leftImg8bit")
            mask = coarse_mask(cityscapes, split, name)
            for folder in (image.parent, mask.parent):
                folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (64, 32), 23 + value).save(mask)
            Image.new("RGB", (64, 32)).save(image)
    return cityscapes


def coarse_mask(root, split, name):
    return root / f"gtCoarse/{split}/{name.split('_')[0]}/{name}_gtCoarse_labelIds.png"


def test_the_references_other_splits(script, coarse):
    names = ["train_coarse", "trainval_fine", "trainval_coarse", "val_fine"]
    output = coarse / "out"
    script(
        "build_cityscapes_data", cityscapes_root=coarse, output_dir=output, splits=",".join(names)
    )
    # In the complete data set 2975 + 19998, 2975 + 500, 2975 + 19998 + 500 and 500.
    assert DatasetInfo.load(output).splits == dict(zip(names, (5, 5, 7, 2), strict=True))
    assert set(names) <= set(KNOWN_DATASETS["cityscapes"].splits)
    labels = {
        example["filename"].numpy().decode(): records.decode_label(example["label_bytes"]).numpy()
        for example in read_split(output, "train_coarse")
    }
    assert set(labels) == {*IMAGES["train"], "augsburg_000000_000000", "zuerich_000000_000000"}
    assert np.unique(labels["aachen_000001_000019"]).tolist() == [TRAIN_IDS[24]]
    assert np.unique(labels["augsburg_000000_000000"]).tolist() == [TRAIN_IDS[23]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "leftImg8bit/train_extra").rename(root / "elsewhere"),
            r"no image .*leftImg8bit/train_extra/<city>/\*_leftImg8bit\.png",
        ),
        (
            lambda root: coarse_mask(root, "train_extra", "augsburg_000000_000000").unlink(),
            r"no mask .*train_extra/augsburg/augsburg_000000_000000_gtCoarse_labelIds\.png"
            r"\nThe masks are in gtCoarse\.zip\.",
        ),
    ],
)
def test_an_incomplete_split_is_an_error_where_it_is_named(script, coarse, damage, message):
    damage(coarse)
    with pytest.raises(SystemExit, match=message):
        script(
            "build_cityscapes_data",
            cityscapes_root=coarse,
            output_dir=coarse / "out",
            splits="train_coarse",
        )


def test_an_unknown_split_is_an_error(script, cityscapes):
    with pytest.raises(SystemExit, match=r"no split train; there are train_fine, "):
        script(
            "build_cityscapes_data",
            cityscapes_root=cityscapes,
            output_dir=cityscapes / "out",
            splits="train",
        )


def test_what_goes_to_the_test_server_is_read_back(load_script, tmp_path):
    """Train id -> label id, as vis.py writes it -> train id, as the converter reads it."""
    predicted = np.arange(19, dtype=np.uint8).repeat(3).reshape(3, 19)
    visualize_predictions(
        [{"filename": "street", "image": np.zeros((3, 19, 3), np.uint8)}],
        lambda image: predicted,
        output_dir=tmp_path / "vis",
        class_names=KNOWN_DATASETS["cityscapes"].class_names,
        palette=cityscapes_colormap(),
        ignore_label=255,
        save_raw=True,
        raw_ids=CITYSCAPES_LABEL_IDS,
    )
    written = tmp_path / "vis/raw_segmentation_results/street.png"
    np.testing.assert_array_equal(TRAIN_IDS[np.asarray(Image.open(written))], predicted)
    mask = written.rename(tmp_path / "street_gtFine_labelIds.png")
    image = tmp_path / "street_leftImg8bit.png"
    Image.new("RGB", (19, 3)).save(image)
    read = load_script("build_cityscapes_data").TrainIdReader()
    np.testing.assert_array_equal(read(Sample("street", image, mask)).mask.labels, predicted)


def overwrite_mask(cityscapes, *, size=(64, 32), value=7, kind="labelIds"):
    Image.new("L", size, value).save(path(cityscapes, "val", IMAGES["val"][0], kind))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: path(root, "val", IMAGES["val"][0], "labelIds").unlink(),
            r"frankfurt_000000_000294_leftImg8bit\.png: no mask .*_gtFine_labelIds\.png",
        ),
        (
            partial(overwrite_mask, size=(32, 32)),
            r"frankfurt_000000_000294_leftImg8bit\.png: the image is 64x32 .* its mask 32x32",
        ),
        (
            partial(overwrite_mask, value=34),
            r"frankfurt_000000_000294_gtFine_labelIds\.png: .* no entry for the values 34",
        ),
        (
            partial(overwrite_mask, value=19, kind="labelTrainIds"),
            r"frankfurt_000000_000294_gtFine_labelTrainIds\.png: holds the labels 19",
        ),
        (
            lambda root: (root / "leftImg8bit").rename(root / "gtFine/images"),
            "leftImg8bit not found; --cityscapes_root must be",
        ),
    ],
)
def test_what_does_not_fit_is_named(script, cityscapes, damage, message):
    damage(cityscapes)
    with pytest.raises(SystemExit, match=message):
        script("build_cityscapes_data", cityscapes_root=cityscapes, output_dir=cityscapes / "out")
    assert not (cityscapes / "out").exists()


def test_a_root_without_images_is_refused(script, tmp_path):
    (tmp_path / "leftImg8bit/train/aachen").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"holds no <split>/<city>/\*_leftImg8bit\.png"):
        script("build_cityscapes_data", cityscapes_root=tmp_path, output_dir=tmp_path / "out")

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data import DatasetInfo, records
from deeplab_tf.data.convert import convert_samples
from deeplab_tf.data.output import resumable_sibling
from deeplab_tf.data.pairing import Sample
from deeplab_tf.data.reading import FileReader
from deeplab_tf.data.workers import run_tasks

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("background", "cat", "dog")
SIZES = [(24, 32), (25, 34), (24, 32), (30, 20), (9, 7), (16, 16)]


def write_samples(folder, masks, *, palette=None):
    """Writes a random JPEG for every mask, and the masks as PNG; returns their samples."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    samples = []
    for index, labels in enumerate(masks):
        sample = Sample(f"s{index}", folder / f"s{index}.jpg", folder / f"s{index}.png")
        Image.fromarray(rng.integers(0, 256, (*labels.shape, 3), np.uint8)).save(sample.image_path)
        mask = Image.fromarray(labels)
        if palette is not None:
            mask.putpalette(palette)
        mask.save(sample.mask_path)
        samples.append(sample)
    return samples


def random_masks(values=(0, 1, 2, 255), sizes=SIZES):
    rng = np.random.default_rng(1)
    return [rng.choice(np.array(values, np.uint8), size) for size in sizes]


def convert(samples, output, **options):
    options = {"name": "pets", "class_names": NAMES, "read": FileReader()} | options
    splits = samples if isinstance(samples, dict) else {"train": samples}
    return convert_samples(splits, output_dir=output, **options)


def read_split(folder, split):
    dataset = tf.data.TFRecordDataset(records.split_files(folder, split))
    return list(dataset.map(records.parse_example))


def assert_refused(samples, tmp_path, *messages, error=ValueError, **options):
    """Expects an error with all messages, and no output folder afterwards."""
    with pytest.raises(error) as caught:
        convert(samples, tmp_path / "new" / "out", **options)
    for message in messages:
        assert message in str(caught.value)
    assert not (tmp_path / "new" / "out").exists(), "something was written"


def test_reader_and_description_must_agree_on_the_images(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    message = "s0: was read as (input_channels, bit_depth) = (1, 8), the data set has (3, 8)"
    assert_refused(samples, tmp_path, message, read=FileReader(input_channels=1))
    message = "was read as (input_channels, bit_depth) = (3, 8), the data set has (3, 16)"
    assert_refused(samples, tmp_path, message, bit_depth=16)


@pytest.mark.parametrize("palette", [None, voc_colormap(256).tobytes()], ids=["grey", "palette"])
def test_records_hold_the_files(tmp_path, palette):
    samples = write_samples(tmp_path / "in", random_masks(), palette=palette)
    convert({"train": samples[:4], "val": samples[4:]}, tmp_path / "out")
    examples = read_split(tmp_path / "out", "train") + read_split(tmp_path / "out", "val")
    assert len(examples) == len(samples)
    for example, sample in zip(examples, samples, strict=True):
        assert example["filename"].numpy().decode() == sample.name
        assert example["image_bytes"].numpy() == sample.image_path.read_bytes()
        with Image.open(sample.mask_path) as mask:
            expected = np.asarray(mask)
        label = records.decode_label(example["label_bytes"]).numpy()
        np.testing.assert_array_equal(label, expected)
        assert (example["height"].numpy(), example["width"].numpy()) == expected.shape
        if palette is None:
            assert example["label_bytes"].numpy() == sample.mask_path.read_bytes()


@pytest.mark.golden
def test_shards_are_the_references(tmp_path):
    facts = json.loads((GOLDEN / "facts_dataset.json").read_text())["voc"]
    samples = write_samples(tmp_path / "in", random_masks())
    convert({"val": samples}, tmp_path / "out", num_shards=facts["num_shards"])
    counts = {
        path.name: sum(1 for _ in tf.data.TFRecordDataset(path))
        for path in map(Path, records.split_files(tmp_path / "out", "val"))
    }
    assert counts == facts["files_and_record_counts"]
    # The last one has no records, and so no bytes.
    assert (tmp_path / "out" / "val-00003-of-00004.tfrecord").stat().st_size == 0


@pytest.mark.golden
def test_a_record_is_byte_identical_to_the_references(tmp_path):
    sample = Sample("2007_000000", GOLDEN / "voc_example_0.jpg", GOLDEN / "voc_example_0.png")
    convert([sample], tmp_path / "out", class_names=[f"c{i}" for i in range(21)], num_shards=1)
    (example,) = tf.data.TFRecordDataset(records.split_files(tmp_path / "out", "train"))
    assert example.numpy() == (GOLDEN / "voc_example_0.bin").read_bytes()


def test_description_and_counts(tmp_path):
    palette = np.arange(768, dtype=np.uint8).reshape(256, 3) ^ 90
    samples = write_samples(tmp_path / "in", random_masks(), palette=palette.tobytes())
    conversion = convert({"train": samples, "val": samples[:2]}, tmp_path / "out")
    assert conversion.info == DatasetInfo.load(tmp_path / "out")
    assert conversion.info == DatasetInfo(
        name="pets",
        class_names=NAMES,
        palette=tuple(map(tuple, palette[:3].tolist())),
        ignore_label=255,
        splits={"train": 6, "val": 2},
    )
    for split, masks in (("train", random_masks()), ("val", random_masks()[:2])):
        values, counts = np.unique(np.concatenate([m.ravel() for m in masks]), return_counts=True)
        expected = np.zeros(256, np.int64)
        expected[values] = counts
        np.testing.assert_array_equal(conversion.pixels[split], expected)
    assert conversion.notes == ()


def test_summary_shows_shares_and_absent_classes(tmp_path):
    masks = [np.array([[0, 0, 0, 2], [2, 255, 255, 255]], np.uint8)]
    conversion = convert(write_samples(tmp_path / "in", masks), tmp_path / "out")
    rows = [line.split() for line in conversion.summary().splitlines()]
    assert ["train", "1"] in rows
    assert ["0", "background", "37.50", "%"] in rows
    assert ["1", "cat", "0.00", "%", "<-", "never", "occurs"] in rows
    assert ["2", "dog", "25.00", "%"] in rows
    assert ["255", "(void)", "37.50", "%"] in rows


@pytest.mark.parametrize(
    "palette",
    [None, bytes(768), bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))],
    ids=["none", "black", "grey"],
)
def test_palettes_that_tell_nothing_apart_give_way_to_vocs(tmp_path, palette):
    samples = write_samples(tmp_path / "in", random_masks(), palette=palette)
    info = convert(samples, tmp_path / "out").info
    assert info.palette == ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def test_class_names_are_derived_from_the_labels(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    info = convert(samples, tmp_path / "out", class_names=None).info
    assert info.class_names == ("class_0", "class_1", "class_2")


def test_an_ignore_label_among_the_classes_keeps_its_place(tmp_path):
    # ADE20K ignores its class 0.
    samples = write_samples(tmp_path / "in", random_masks((0, 1, 2)))
    conversion = convert(samples, tmp_path / "out", class_names=None, ignore_label=0)
    assert conversion.info.class_names == ("class_0", "class_1", "class_2")
    assert "class_0 (void)" in conversion.summary()
    samples = write_samples(tmp_path / "in", random_masks((1, 2)))
    assert convert(samples, tmp_path / "b", class_names=None, ignore_label=0).info.num_classes == 3


def test_masks_with_other_palettes_are_noted(tmp_path):
    masks = random_masks()
    samples = write_samples(tmp_path / "in", masks, palette=voc_colormap(256).tobytes())
    other = Image.fromarray(masks[3])
    other.putpalette(voc_colormap(256)[::-1].tobytes())
    other.save(samples[3].mask_path)
    (note,) = convert(samples, tmp_path / "out").notes
    assert note.startswith("1 mask(s) give a label another colour")


def test_turned_images_are_noted(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(samples[0].image_path) as image:
        image.save(samples[0].image_path, exif=exif)
    (note,) = convert(samples, tmp_path / "out").notes
    assert note.startswith("1 image(s) carry an EXIF orientation")


def test_all_damaged_files_are_reported_together(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    samples[0].image_path.write_bytes(samples[0].image_path.read_bytes()[:-30])
    samples[1].mask_path.write_bytes(b"")
    Image.new("RGB", (5, 5)).save(samples[2].image_path)
    Image.new("RGB", (20, 30), (1, 2, 3)).save(samples[3].mask_path)
    assert_refused(
        {"train": samples, "trainval": samples},
        tmp_path,
        "4 problem(s)",
        "s0.jpg: damaged or truncated",
        "s1.png: no image of a known kind",
        "s2.jpg: the image is 5x5",
        "s3.png: a colour (RGB) mask",
    )


@pytest.mark.parametrize(
    ("values", "class_names", "hint"),
    [
        ((0, 1, 2, 7, 255), NAMES, "--label_map=0:0,1:1,2:2,7:3"),
        ((0, 1, 2, 3), NAMES, "lack the background"),
        ((1, 2, 3), NAMES, "--label_map=1:0,2:1,3:2"),
        ((0, 128), NAMES, "binary masks: datasets/build_folder_data.py --label_map=0:0,128:1"),
        ((0, 255), NAMES, "binary masks: datasets/build_folder_data.py --label_map=0:0,255:1"),
        ((0, 255), None, "binary masks: datasets/build_folder_data.py --label_map=0:0,255:1"),
        ((0, 128), None, "--label_map=0:0,128:1"),
        ((1, 2), None, "--label_map=1:0,2:1"),
        (tuple(range(0, 256, 3)), NAMES, "grey pictures"),
        ((255,), None, "nothing but the ignore label 255"),
        ((1, 255), NAMES, "fewer than two classes"),
    ],
)
def test_labels_that_do_not_suit_the_classes(tmp_path, values, class_names, hint):
    samples = write_samples(tmp_path / "in", random_masks(values))
    assert_refused(samples, tmp_path, hint, class_names=class_names)


def test_labels_out_of_range_name_file_and_values(tmp_path):
    masks = random_masks()
    masks[4][0, :2] = 3, 99
    samples = write_samples(tmp_path / "in", masks)
    assert_refused(samples, tmp_path, "s4.png: holds the labels 3, 99, which are neither a class")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ("a", "a")}, "found twice: a"),
        ({"ignore_label": -1}, "ignore_label must be in 0..255"),
        ({"num_shards": 0}, "num_shards must be at least 1"),
        ({"palette": ((0, 0, 0),)}, "palette must have one colour per class"),
    ],
)
def test_wrong_descriptions_are_refused_before_files_are_read(tmp_path, options, message):
    def read(path):
        raise AssertionError("read a file")

    samples = [Sample("a", tmp_path / "a.jpg", tmp_path / "a.png")]
    assert_refused(samples, tmp_path, message, read=read, **options)


def test_an_output_folder_in_use_is_refused(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file is a file"):
        convert(samples, tmp_path / "file")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"not empty.*--overwrite"):
        convert(samples, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_overwrite_replaces_an_older_conversion_and_nothing_else(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    output = tmp_path / "out"
    convert({"train": samples, "old": samples[:2]}, output, num_shards=5)
    (output / "thesis.txt").write_text("mine")
    (output / "train-00000-of-00005.tfrecord.bak").write_text("mine")
    convert({"train": samples[:3]}, output, num_shards=2, overwrite=True)
    assert sorted(path.name for path in output.iterdir()) == [
        "dataset.json",
        "thesis.txt",
        "train-00000-of-00002.tfrecord",
        "train-00000-of-00005.tfrecord.bak",
        "train-00001-of-00002.tfrecord",
    ]
    assert DatasetInfo.load(output).splits == {"train": 3}
    assert len(read_split(output, "train")) == 3


def test_a_failed_overwrite_leaves_the_older_conversion(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    output = tmp_path / "out"
    convert(samples, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    samples[2].image_path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"s2\.jpg"):
        convert(samples, output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_a_finished_conversion_leaves_nothing_beside_it(tmp_path):
    convert(write_samples(tmp_path / "in", random_masks()), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset.json",
        *(f"train-0000{i}-of-00004.tfrecord" for i in range(4)),
    ]


def test_settings_that_suit_no_mask_leave_nothing_behind(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks((1, 255)))
    assert_refused(samples, tmp_path, "fewer than two classes")
    assert not list((tmp_path / "new").iterdir())


@dataclass(frozen=True)
class CountingReader:
    """A FileReader that notes whom it reads, and is interrupted at one sample."""

    log: Path
    stop_at: str = ""

    def __call__(self, sample):
        if sample.name == self.stop_at:
            raise KeyboardInterrupt
        with self.log.open("a") as log:
            log.write(f"{sample.name}\n")
        return FileReader()(sample)

    def __repr__(self):
        return "CountingReader"  # one that is interrupted reads the same

    def taken(self):
        names = self.log.read_text().split()
        self.log.unlink()
        return names


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def many_samples(tmp_path, count=70):
    """Samples of three parts in one shard: 32, 32 and the rest."""
    return write_samples(tmp_path / "in", random_masks(sizes=SIZES * (count // 6 + 1))[:count])


def test_an_interrupted_conversion_goes_on_where_it_was(tmp_path):
    samples = many_samples(tmp_path)
    reader = CountingReader(tmp_path / "log")
    expected = convert(samples, tmp_path / "undisturbed", num_shards=1, name="same")
    with pytest.raises(KeyboardInterrupt):
        convert(samples, tmp_path / "out", num_shards=1, read=CountingReader(reader.log, "s40"))
    assert len(reader.taken()) == 40
    assert not (tmp_path / "out").exists()
    conversion = convert(samples, tmp_path / "out", num_shards=1, read=reader, name="same")
    assert reader.taken() == [f"s{i}" for i in range(32, 70)]
    assert conversion.notes == ("32 image(s) were there from an earlier run that did not finish.",)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "undisturbed")
    np.testing.assert_array_equal(conversion.pixels["train"], expected.pixels["train"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "undisturbed"]


def test_parts_of_files_that_changed_are_written_again(tmp_path):
    samples = many_samples(tmp_path)
    reader = CountingReader(tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        convert(samples, tmp_path / "out", num_shards=1, read=CountingReader(reader.log, "s65"))
    reader.taken()
    mask = np.asarray(Image.open(samples[3].mask_path))
    Image.fromarray(np.where(mask == 1, np.uint8(2), mask)).save(samples[3].mask_path)
    convert(samples, tmp_path / "out", num_shards=1, read=reader)
    # The second part is kept; the first has another file, the third was not there.
    assert reader.taken() == [f"s{i}" for i in (*range(32), *range(64, 70))]
    label = records.decode_label(read_split(tmp_path / "out", "train")[3]["label_bytes"]).numpy()
    np.testing.assert_array_equal(label, np.where(mask == 1, 2, mask))


@pytest.mark.parametrize(
    "options", [{"class_names": (*NAMES, "bird")}, {"ignore_label": 254, "read": FileReader()}]
)
def test_parts_of_other_settings_are_written_again(tmp_path, options):
    samples = many_samples(tmp_path)
    reader = CountingReader(tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        convert(samples, tmp_path / "out", num_shards=1, read=CountingReader(reader.log, "s69"))
    if "ignore_label" in options:
        with pytest.raises(ValueError, match="70 problem"):
            convert(samples, tmp_path / "out", num_shards=1, **options)
    else:
        reader.taken()
        convert(samples, tmp_path / "out", num_shards=1, read=reader, **options)
        assert len(reader.taken()) == 70


def test_after_problems_are_mended_only_their_parts_are_read_again(tmp_path):
    samples = many_samples(tmp_path)
    reader = CountingReader(tmp_path / "log")
    good = samples[40].mask_path.read_bytes()
    samples[40].mask_path.write_bytes(good[:50])
    with pytest.raises(ValueError, match=r"1 problem.*\n.*s40.png.*\nWhat was read without"):
        convert(samples, tmp_path / "out", num_shards=1, read=reader)
    reader.taken()
    samples[40].mask_path.write_bytes(good)
    convert(samples, tmp_path / "out", num_shards=1, read=reader)
    assert reader.taken() == [f"s{i}" for i in range(32, 64)]
    assert len(read_split(tmp_path / "out", "train")) == 70


def test_a_conversion_killed_while_shards_are_joined_goes_on(tmp_path):
    samples = many_samples(tmp_path)
    convert(samples, tmp_path / "undisturbed", num_shards=2, name="same")

    def stop_at_the_second_shard(function, tasks):
        for task in tasks:
            if getattr(task, "name", "") == "train-00001-of-00002.tfrecord":
                (tmp_path / ".out.partial/records/train-00001-of-00002.tfrecord.tmp").touch()
                raise KeyboardInterrupt
            yield function(task)

    options = {"num_shards": 2, "name": "same"}
    with pytest.raises(KeyboardInterrupt):
        convert(samples, tmp_path / "out", run=stop_at_the_second_shard, **options)
    reader = CountingReader(tmp_path / "log")
    conversion = convert(samples, tmp_path / "out", **options)
    assert conversion.notes[0].startswith("70 image(s) were there")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "undisturbed")
    assert not reader.log.exists()


def test_torn_parts_are_written_again(tmp_path):
    samples = many_samples(tmp_path)
    reader = CountingReader(tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        convert(samples, tmp_path / "out", num_shards=1, read=CountingReader(reader.log, "s69"))
    reader.taken()
    parts = tmp_path / ".out.partial/parts"
    first, second = sorted(parts.glob("*.part-00000[01]"))
    first.write_bytes(first.read_bytes()[:-10])
    note = parts / f"{second.name}.json"
    note.write_bytes(note.read_bytes()[:-10])
    convert(samples, tmp_path / "out", num_shards=1, read=reader)
    assert len(reader.taken()) == 70
    assert len(read_split(tmp_path / "out", "train")) == 70


def test_a_fault_that_all_masks_have_ends_the_conversion_early(tmp_path):
    samples = many_samples(tmp_path)
    for sample in samples:
        sample.mask_path.write_bytes(b"no image")
    many = [replace(samples[i % 70], name=f"{i}") for i in range(3000)]
    reader = CountingReader(tmp_path / "log")
    run = partial(run_tasks, num_workers=1)
    with pytest.raises(ValueError, match=r"70 problem\(s\)"):  # distinct ones
        convert(many, tmp_path / "out", num_shards=1, read=reader, run=run)
    assert len(reader.taken()) == 1024  # the first part beyond 1000 problems is the last


def test_two_conversions_do_not_write_to_one_folder(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks())
    with (
        resumable_sibling(tmp_path / "out"),
        pytest.raises(BlockingIOError, match=r"another process is at work on .*out"),
    ):
        convert(samples, tmp_path / "out")


def test_any_number_of_workers_writes_the_same(tmp_path):
    samples = many_samples(tmp_path)
    splits = {"train": samples[:50], "val": samples[50:]}
    options = {"name": "same", "num_shards": 2}
    convert(splits, tmp_path / "alone", **options)
    conversion = convert(
        splits, tmp_path / "three", run=partial(run_tasks, num_workers=3), **options
    )
    assert bytes_of(tmp_path / "three") == bytes_of(tmp_path / "alone")
    assert conversion.pixels["train"].sum() > 0


def test_mask_types_reach_the_reader(tmp_path):
    samples = write_samples(tmp_path / "in", random_masks((0, 255)))
    read = FileReader(label_map={0: 0, 255: 1})
    conversion = convert(samples, tmp_path / "out", class_names=("off", "on"), read=read)
    label = records.decode_label(read_split(tmp_path / "out", "train")[0]["label_bytes"]).numpy()
    np.testing.assert_array_equal(label, random_masks((0, 255))[0] // 255)
    assert conversion.pixels["train"][255] == 0

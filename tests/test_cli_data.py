"""train.py looks at a sample of the records before its first step."""

import shutil

import pytest

from deeplab_tf.data.channels import encode_png
from deeplab_tf.training import run as training
from tests import tiny_run
from tests.data.doctor import channel_sets, record_folders, trees
from tests.test_cli import NETWORK_FLAGS, run


@pytest.fixture
def train(monkeypatch, tmp_path):
    """A function that runs train.py up to the first step; returns how that ended."""
    started = []
    monkeypatch.setattr(training, "train", lambda card, **options: started.append(card))

    def run_train(records, *flags):
        started.clear()
        folders = (f"--dataset_dir={records}", f"--train_logdir={tmp_path}/run")
        # Batch norm over fewer than 12 images is a warning.
        batch = ("--train_crop_size=33,33", "--train_batch_size=12", "--nofine_tune_batch_norm")
        done = run("train.py", *folders, *batch, *NETWORK_FLAGS, *flags)
        assert bool(started) == (done.code == 0)
        return done

    return run_train


def test_clean_records_say_nothing(train, tmp_path):
    tiny_run.write_dataset(tmp_path / "data")
    done = train(tmp_path / "data")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1  # where the checkpoints are


def test_records_without_a_description(train, tmp_path):
    """Those of the reference; three of VOC's classes are there."""
    tiny_run.write_dataset(tmp_path / "data")
    (tmp_path / "data/dataset.json").unlink()
    done = train(tmp_path / "data", "--dataset=pascal_voc_seg")
    assert done.code == 0
    assert done.err == (
        "Note: D405 class-not-in-sample: 18 of 21, bird, boat, bottle, ..., in 9 examples. "
        f"(python -m datasets.doctor {tmp_path}/data)\n"
    )


@pytest.mark.parametrize(("channels", "bits"), [(4, 16), (1, 8), (6, 8)])
def test_clean_images_of_other_channels_say_nothing(train, tmp_path, channels, bits):
    images = {
        f"{i}": ("", encode_png(channel_sets.values(f"{i}", channels, bits))) for i in range(3)
    }
    channel_sets.records_of(
        tmp_path / "data", images, channels=channels, bits=bits, value_range=(0, 2**bits - 1)
    )
    done = train(tmp_path / "data", "--val_split=")
    assert (done.code, done.err) == (0, "")


def test_clean_records_without_a_description_say_nothing(train, tmp_path):
    """All of VOC's 21 classes are there."""
    label = trees.encoded(trees.scene(range(21), width=84))
    image = trees.encoded(trees.picture("a", width=84))
    example = record_folders.example("a", image=image, label=label, width=84)
    record_folders.write_shards(tmp_path / "data", "train", [[example]])
    done = train(tmp_path / "data", "--dataset=pascal_voc_seg", "--val_split=")
    assert (done.code, done.err) == (0, "")


def test_images_of_other_channels_than_described_end_it(train, tmp_path):
    channel_sets.stored_infrared(tmp_path)
    done = train(tmp_path, "--val_split=")
    assert done.code == 1
    first, second, _ = done.err.splitlines()
    assert "D210 image-of-other-channels: train-00000-of-00001.tfrecord, record 1 (rgb)" in first
    assert "a PNG of RGB; 16-bit images of 4 channels are of RGB with alpha (and 1 more)." in first
    assert "D211 image-of-other-bits" in second and "8 bits per channel; expected 16" in second
    # What is corrupt is left out, by its name.
    assert train(tmp_path, "--val_split=", "--skip_corrupt").code == 0


def test_warnings_are_a_line_each(train, tmp_path):
    void = [
        record_folders.example(f"v{i}", label=trees.encoded(trees.scene([255]))) for i in (0, 1)
    ]
    record_folders.write_shards(tmp_path, "train", [[record_folders.example("a"), *void]])
    record_folders.describe(tmp_path, train=3)
    done = train(tmp_path, "--val_split=", "--train_crop_size=513,513")
    assert done.code == 0
    lines = done.err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "D114 mask-is-void",
        "D406 crop-is-padding",
    ]
    assert "train-00000-of-00001.tfrecord, record 1 (v0)" in lines[0] and "(and 1 more)" in lines[0]
    assert all(line.endswith(f"(python -m datasets.doctor {tmp_path})") for line in lines)


def test_errors_end_it_before_the_first_step(train, tmp_path):
    tiny_run.write_dataset(tmp_path / "data")
    shard = tmp_path / "data/val-00000-of-00001.tfrecord"
    shutil.copy(shard, tmp_path / "data/val-00000-of-00002.tfrecord")
    done = train(tmp_path / "data")
    assert done.code == 1
    first, last = done.err.splitlines()
    assert first.startswith("train.py: error: D503 shards-incomplete: val-*: ")
    assert first.endswith("Copy the folder again, or convert again.")
    assert last.startswith(f"python -m datasets.doctor {tmp_path}/data examines all records;")
    # Only the splits that the run reads matter; and the last word is the user's.
    assert train(tmp_path / "data", "--val_split=").code == 0
    assert train(tmp_path / "data", "--nocheck_data").code == 0

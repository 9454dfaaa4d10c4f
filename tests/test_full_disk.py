"""On a full disk, whatever is being written: one clear error, and nothing is lost or half there.

The disk is a limit on the size of files, which any user can set: the system refuses to write beyond
it as it does on a full disk, only in other words.
"""

import contextlib
import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.archives import fetch
from deeplab_tf.cli import conversion
from deeplab_tf.data import DatasetInfo
from deeplab_tf.data.convert import convert_samples
from deeplab_tf.data.full_disk import DiskFullError, full_disk_reported
from deeplab_tf.data.output import write_file
from deeplab_tf.data.pairing import Sample
from deeplab_tf.data.reading import FileReader
from deeplab_tf.export import export_frozen_graph, export_saved_model
from deeplab_tf.training import best, history, validation, watch
from deeplab_tf.training import run as training
from tests import tiny_run
from tests.distributed_run import build_small_network
from tests.http_server import serving
from tests.test_cli import NETWORK_FLAGS, ROOT, run, succeed
from tests.test_training import interrupted_after, stored


@contextlib.contextmanager
def file_limit(size):
    """Lets no file of this process grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- What a full disk is --------------------------------------------------------------------------


def write_with_python():
    with open("/dev/full", "w") as file:
        file.write("x")


def write_with_tensorflow():
    with tf.io.TFRecordWriter("/dev/full") as writer:
        writer.write(b"x")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("write", [write_with_python, write_with_tensorflow])
def test_a_full_disk_is_told_whoever_writes(write):
    with (
        pytest.raises(
            DiskFullError, match=r"could not write to /some/where.*the disk is full: free"
        ),
        full_disk_reported("/some/where"),
    ):
        write()


@pytest.mark.parametrize("write", ["python", "tensorflow"])
def test_so_is_a_limit_of_files(tmp_path, write):
    path, message = tmp_path / "file", f"{tmp_path}.*ulimit -f"
    with (
        pytest.raises(DiskFullError, match=message),
        full_disk_reported(tmp_path),
        file_limit(100),
    ):
        if write == "python":
            path.write_bytes(bytes(1000))
        else:
            tf.io.write_file(str(path), bytes(1000))


def test_a_quota_is_a_disk_of_its_own():
    message = "your quota of the disk is used up"
    with pytest.raises(DiskFullError, match=message), full_disk_reported("run"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[8]"),
        PermissionError(13, "Permission denied"),
        ValueError("No space left on device"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, full_disk_reported("run"):
        raise error
    assert caught.value is error


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    write_file(tmp_path / "card.json", b"old")
    with file_limit(100), pytest.raises(DiskFullError, match=f"could not write to {tmp_path}, "):
        write_file(tmp_path / "card.json", bytes(1000))
    assert files(tmp_path) == {"card.json": b"old"}


# --- Training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tfrecord"
    tiny_run.write_dataset(folder)
    return str(folder)


def test_train_py_ends_with_its_last_checkpoint_whole_and_goes_on(dataset_dir, tmp_path):
    """In a process of its own, whose files do not grow beyond half a checkpoint."""

    def command(name):
        return (
            f"--dataset_dir={dataset_dir}",
            f"--train_logdir={tmp_path / name}",
            "--val_split=",
            "--train_crop_size=33,33",
            "--train_batch_size=2",
            "--training_number_of_steps=4",
            "--save_interval_steps=1",
            *NETWORK_FLAGS,
        )

    logdir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(2))
        assert run("train.py", *command("run")).code == 130
    before = files(logdir)
    half = len(before["model.ckpt-2.data-00000-of-00001"]) // 2
    full = subprocess.run(
        [sys.executable, "train.py", *command("run")],
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (half, half)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert full.returncode == 1
    (said,) = [line for line in full.stderr.splitlines() if line.startswith("train.py: error:")]
    assert f"could not write to {logdir}, because a file would be larger than" in said
    assert "The last checkpoint, model.ckpt-2, is whole: the same command goes on from" in said
    assert "A checkpoint takes " in said and "there are up to 5 at a time" in said
    assert "Traceback" not in full.stderr
    after = files(logdir)
    for name, content in before.items():
        if name.startswith(("model.ckpt", "checkpoint", "config")):
            assert after.pop(name) == content, name
    # Nothing that a later run would not use.
    assert all(name.startswith(("events.out.", "history.jsonl", "curves.png")) for name in after)

    succeed("train.py", *command("run"))
    succeed("train.py", *command("whole"))
    whole, resumed = stored(tmp_path / "whole", 4), stored(logdir, 4)
    assert [name for name in whole if not np.array_equal(whole[name], resumed[name])] == []


@pytest.fixture(scope="module")
def train(dataset_dir):
    """A function that trains a network that costs nothing."""

    def run(logdir):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "build_deeplab", build_small_network)
            tiny_run.draw_no_plots(patch)
            training.train(
                tiny_run.card(training_number_of_steps=4),
                dataset_dir=dataset_dir,
                train_split="train",
                val_split="val",
                logdir=str(logdir),
                val_interval_steps=2,
                log_steps=1,
            )

    return run


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """Folder of a run that had room enough."""
    logdir = tmp_path_factory.mktemp("whole") / "run"
    train(logdir)
    return logdir


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (history.History, "add", 3),
        (watch, "write_file", 2),
        (validation, "write_file", 1),
        (validation, "keep_best", 1),
        (tf.train.CheckpointManager, "save", 1),
        (tf.train.CheckpointManager, "save", 2),
        (tf.train.CheckpointManager, "_record_state", 3),
        (tf.train.CheckpointManager, "_record_state", 4),
    ],
)
def test_a_run_ends_wherever_it_finds_the_disk_full(train, whole, tmp_path, owner, name, call):
    """And goes on, with room again, as if nothing had been."""
    logdir, function, calls = tmp_path / "run", getattr(owner, name), []

    def on_a_full_disk(*args, **options):
        calls.append(name)
        with file_limit(0) if len(calls) == call else contextlib.nullcontext():
            return function(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, on_a_full_disk)
        with pytest.raises(DiskFullError, match=rf"could not write to {logdir}.*\. .*same command"):
            train(logdir)
    assert len(calls) == call
    assert not [path for path in files(logdir) if "tmp" in path or "temp" in path]
    train(logdir)
    expected, resumed = stored(whole, 4), stored(logdir, 4)
    assert [key for key in expected if not np.array_equal(expected[key], resumed[key])] == []
    histories = history.History(whole, 4), history.History(logdir, 4)
    assert histories[0].best["miou"] == histories[1].best["miou"]
    assert sorted(os.listdir(whole / "best")) == sorted(os.listdir(logdir / "best"))


def test_the_best_that_does_not_fit_leaves_the_one_before(tmp_path, monkeypatch):
    """Where it has to be copied."""
    for step in (1, 2):
        value = tf.Variable(tf.fill([1000], float(step)))
        tf.train.Checkpoint(step=value).write(str(tmp_path / f"model.ckpt-{step}"))
    best.keep_best(str(tmp_path / "model.ckpt-1"), tiny_run.card())

    def link(*paths):
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", link)
    with file_limit(3000), pytest.raises(DiskFullError, match=f"{tmp_path}/best, because"):
        best.keep_best(str(tmp_path / "model.ckpt-2"), tiny_run.card())
    latest = tf.train.latest_checkpoint(str(tmp_path / "best"))
    assert latest == str(tmp_path / "best/model.ckpt-1")
    stored = tf.train.load_checkpoint(latest).get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE")
    assert set(stored) == {1.0}
    assert not list((tmp_path / "best").glob("*.tmp"))


def test_what_a_killed_run_had_begun_to_write_is_deleted(train, tmp_path):
    train(tmp_path)
    debris = tmp_path / "model.ckpt-3_temp"
    debris.mkdir()
    (debris / "part-00000-of-00001.data-00000-of-00001.tempstate1").write_bytes(b"half")
    (tmp_path / "checkpoint.tmp0123").write_bytes(b"model")
    train(tmp_path)
    assert not list(tmp_path.glob("*_temp")) and not list(tmp_path.glob("*.tmp*"))


# --- Converting, exporting, downloading -----------------------------------------------------------


def test_a_conversion_goes_on_when_there_is_room_again(tmp_path):
    samples, rng = [], np.random.default_rng(0)
    for index in range(6):
        sample = Sample(f"s{index}", tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png")
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(sample.image_path)
        Image.fromarray(rng.integers(0, 2, (40, 40), np.uint8)).save(sample.mask_path)
        samples.append(sample)

    def convert(name):
        convert_samples(
            {"train": samples},
            output_dir=tmp_path / name / "records",
            name="noise",
            read=FileReader(),
            class_names=("a", "b"),
            num_shards=1,
        )

    script = conversion.checked(lambda argv: convert("full"))
    with file_limit(10_000), pytest.raises(SystemExit) as end:
        script(["build_folder_data.py"])
    assert f"build_folder_data: could not write to {tmp_path}/full, because" in str(end.value)
    assert not (tmp_path / "full/records").exists()
    convert("full")
    convert("whole")
    assert files(tmp_path / "full") == files(tmp_path / "whole")
    assert DatasetInfo.load(tmp_path / "full/records").splits == {"train": 6}


@pytest.mark.parametrize("export", [export_saved_model, export_frozen_graph])
def test_an_export_that_does_not_fit_leaves_nothing(tmp_path, export):
    model, card = tiny_run.random_network(), tiny_run.card()
    message = f"could not write to {tmp_path}, because"
    with file_limit(100_000), pytest.raises(DiskFullError, match=message):
        export(model, card, export_path=tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_download_goes_on_when_there_is_room_again(tmp_path):
    content = np.random.default_rng(0).bytes(300_000)
    with serving(content) as server:
        message = f"could not write to {tmp_path}, because"
        with file_limit(100_000), pytest.raises(DiskFullError, match=message):
            fetch(server.url, tmp_path / "file")
        assert not (tmp_path / "file").exists()
        fetch(server.url, tmp_path / "file")
    assert server.asked == [None, "bytes=100000-"]
    assert files(tmp_path) == {"file": content}

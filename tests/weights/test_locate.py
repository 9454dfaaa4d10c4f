"""Checkpoints that TensorFlow wrote, found by every name that people give them."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest
import tensorflow as tf

from deeplab_tf.weights import locate
from deeplab_tf.weights.locate import locate_checkpoint

NAME = "mobilenetv2_coco_voc_trainaug"
ARCHIVE = "deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLAB_TF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(prefix, value=1.0):
    """Writes a checkpoint of one variable; returns its prefix."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(value)]
    )
    return str(prefix)


def write_state(folder, path):
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\n')


def value(prefix):
    return tf.train.load_checkpoint(prefix).get_tensor("x")


def pack(folder, archive, inside):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, inside)
    return str(archive)


def test_a_prefix_and_its_files(tmp_path):
    prefix = write(tmp_path / "model.ckpt-3000", 3000.0)
    (tmp_path / "model.ckpt-3000.meta").write_bytes(b"graph")
    for suffix in ("", ".index", ".meta", ".data-00000-of-00001"):
        assert locate_checkpoint(prefix + suffix) == prefix
    assert locate_checkpoint(Path(prefix)) == prefix
    assert value(prefix) == 3000


def test_the_latest_of_a_folder_is_what_its_state_file_says(tmp_path):
    checkpoint = tf.train.Checkpoint(x=tf.Variable(1.0))
    manager = tf.train.CheckpointManager(checkpoint, tmp_path, 3, checkpoint_name="model.ckpt")
    for step in (900, 1000, 20):
        manager.save(checkpoint_number=step)
    assert locate_checkpoint(tmp_path) == manager.latest_checkpoint
    assert locate_checkpoint(f"{tmp_path}/") == manager.latest_checkpoint


@pytest.mark.parametrize("place", ["/cns/is-d/home", "C:\\\\Users\\\\me", "/tmp/gone/train"])
def test_a_state_file_of_another_machine(tmp_path, place):
    prefix = write(tmp_path / "model.ckpt-900")
    write(tmp_path / "model.ckpt-1000")
    separator = "\\\\" if "\\" in place else "/"
    write_state(tmp_path, f"{place}{separator}model.ckpt-900")
    assert locate_checkpoint(tmp_path) == prefix


def test_a_copied_folder_means_its_own_checkpoint(tmp_path):
    write_state(tmp_path / "run", write(tmp_path / "run" / "model.ckpt-1"))
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert locate_checkpoint(tmp_path / "copy") == str(tmp_path / "copy" / "model.ckpt-1")


def test_a_state_file_may_name_another_folder(tmp_path):
    prefix = write(tmp_path / "run" / "model.ckpt-1")
    (tmp_path / "eval").mkdir()
    write_state(tmp_path / "eval", prefix)
    assert locate_checkpoint(tmp_path / "eval") == prefix


@pytest.mark.parametrize("state", [None, "model.ckpt-1001", "no state: file ["])
def test_without_a_state_the_highest_step_is_the_latest(tmp_path, state):
    write(tmp_path / "model.ckpt")
    write(tmp_path / "model.ckpt-900")
    prefix = write(tmp_path / "model.ckpt-1000")
    if state:
        write_state(tmp_path, state)
    assert locate_checkpoint(tmp_path) == prefix


@pytest.mark.parametrize("name", ["model.ckpt", "resnet_v1_50.ckpt", "weights"])
def test_the_only_one_of_a_folder_needs_no_step(tmp_path, name):
    prefix = write(tmp_path / name)
    (tmp_path / "frozen_inference_graph.pb").write_bytes(b"graph")
    (tmp_path / f"._{name}.index").write_bytes(b"of a Mac")
    assert locate_checkpoint(tmp_path) == prefix


def test_one_of_several_must_be_named(tmp_path):
    first, second = write(tmp_path / "a.ckpt-7"), write(tmp_path / "b.ckpt-7")
    with pytest.raises(ValueError, match=f"{tmp_path} has several.*: {first}, {second}"):
        locate_checkpoint(tmp_path)


def test_the_folder_around_that_of_the_checkpoint(tmp_path):
    folder = tmp_path / "around"
    prefix = write(folder / "deeplabv3_mnv2" / "model.ckpt-30000")
    (folder / "__MACOSX").mkdir()
    (folder / "LICENSE").touch()
    assert locate_checkpoint(folder) == prefix
    other = write(folder / "other" / "model.ckpt")
    with pytest.raises(ValueError, match=f"has several checkpoints.*{prefix}, {other}"):
        locate_checkpoint(folder)


def test_one_file_of_the_oldest_format(tmp_path):
    prefix = str(tmp_path / "vgg_16.ckpt")
    tf.raw_ops.Save(filename=prefix, tensor_names=["x"], data=[tf.constant(16.0)])
    assert locate_checkpoint(prefix) == locate_checkpoint(tmp_path) == prefix
    assert value(prefix) == 16


@pytest.mark.parametrize("name", ["model.tar.gz", "model.v2.tgz"])
def test_an_archive_is_unpacked_once(tmp_path, cache, monkeypatch, name):
    write(tmp_path / "run" / "model.ckpt-5", 5.0)
    archive = pack(tmp_path / "run", tmp_path / name, "deeplab")
    prefix = locate_checkpoint(archive)
    assert Path(prefix).is_relative_to(cache) and Path(prefix).name == "model.ckpt-5"
    shutil.rmtree(tmp_path / "run")
    assert value(prefix) == 5

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(locate, "unpack", None)
        assert locate_checkpoint(name) == prefix

    write(tmp_path / "run" / "model.ckpt-6", 6.0)
    other = locate_checkpoint(pack(tmp_path / "run", archive, "deeplab"))
    assert value(other) == 6
    assert value(prefix) == 5


def test_a_damaged_archive_stays_where_it_is(tmp_path):
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=f"{archive} is damaged"):
        locate_checkpoint(archive)
    assert archive.exists()


def test_a_name_of_the_zoo(tmp_path, cache, monkeypatch):
    write(tmp_path / "run" / "model.ckpt-30000", 7.0)
    cache.mkdir()
    pack(tmp_path / "run", cache / ARCHIVE, "deeplabv3_mnv2")  # in the place of a download
    prefix = locate_checkpoint(NAME)
    assert prefix == str(cache / NAME / "deeplabv3_mnv2" / "model.ckpt-30000")
    assert value(prefix) == 7

    monkeypatch.chdir(tmp_path)  # what lies here by that name comes first
    local = write(Path(NAME) / "model.ckpt-1")
    assert locate_checkpoint(NAME) == local


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet2_coco_voc_trainaug", "such as mobilenetv2_coco_voc_trainaug, "),
        ("edgetpu-deeplab", "such as EdgeTPU-DeepLab"),
        ("runs/nothing", r"at runs/nothing: expected .*zoo \(docs/zoo.md\)"),
        ("model.ckpt-3000.index", "at model.ckpt-3000.index: expected a prefix such as"),
        ("gone.tar.gz", "at gone.tar.gz"),
        ("", "at : expected"),
    ],
)
def test_nothing_there_says_what_could_be(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"There is no checkpoint .*{message}"):
        locate_checkpoint(name)


def test_files_that_are_no_checkpoints(tmp_path):
    for name, content in {"graph.pb": b"frozen graph", "tiny": b"1"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileNotFoundError, match=f"no checkpoint at .*{name}"):
            locate_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=f"in {tmp_path}, nor in the folders in it"):
        locate_checkpoint(tmp_path)


def test_an_exported_model_is_no_checkpoint(tmp_path):
    write(tmp_path / "variables" / "variables")
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="is an exported model; expected the checkpoint"):
        locate_checkpoint(tmp_path)


def test_an_index_without_its_data(tmp_path):
    prefix = write(tmp_path / "model.ckpt-1")
    os.remove(f"{prefix}.data-00000-of-00001")
    for path in (prefix, f"{prefix}.index", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no {prefix}.data-00000-of-00001 beside it"):
            locate_checkpoint(path)

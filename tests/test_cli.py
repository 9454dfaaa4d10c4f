"""The scripts: what they write agrees with each other, and bad input ends with one message."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from absl import app, flags
from PIL import Image

from deeplab_tf import cli
from deeplab_tf.data import records
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import run as training
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import training_checkpoint
from tests import tiny_run

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    "train.py": cli.train,
    "eval.py": cli.evaluate,
    "vis.py": cli.visualize,
    "export_model.py": cli.export,
    "predict.py": cli.predict,
}
NETWORK_FLAGS = (
    "--depth_multiplier=0.25",
    "--atrous_rates=1",
    "--aspp_convs_filters=48",
    "--decoder_output_stride=4",
    "--decoder_filters=48",
)


class Finished(NamedTuple):
    """As the finished process of a script."""

    code: int
    out: str
    err: str


def run(script, *arguments, call=None):
    """Runs a script in this process: importing TensorFlow would take most of the time.

    Args:
        script: Its name, which has a command of deeplab_tf.cli unless there is a `call`.
        arguments: After its name.
        call: In place of that command.
    """
    app.define_help_flags()
    known = set(flags.FLAGS)
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        patch.setattr(sys, "argv", [script, *arguments])
        try:
            call() if call else cli.run(SCRIPTS[script], script)
        finally:
            for flag in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()
    code = end.value.code
    if isinstance(code, str):  # which Python prints
        return Finished(1, out.getvalue(), f"{err.getvalue()}{code}\n")
    return Finished(code or 0, out.getvalue(), err.getvalue())


def succeed(script, *arguments):
    done = run(script, *arguments)
    assert done.code == 0, done.err
    return done.out


# --- From data to a served model ------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the records "data", the run "run" and the image "pictures/scene.png".

    The last checkpoint of the run is of a network that predicts every class.
    """
    place = tmp_path_factory.mktemp("place")
    tiny_run.write_dataset(place / "data")
    (place / "pictures").mkdir()
    Image.fromarray(tiny_run.scene(1, 0)[0]).save(place / "pictures/scene.png")
    succeed(
        "train.py",
        f"--dataset_dir={place}/data",
        f"--train_logdir={place}/run",
        *NETWORK_FLAGS,
        "--train_crop_size=33,49",
        "--train_batch_size=2",
        "--training_number_of_steps=2",
        "--base_learning_rate=0.01",
        *("--label_weights=1", "--label_weights=2", "--label_weights=0.5"),
    )
    model = tiny_run.random_network()
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(model.trainable_variables)
    manager = tf.train.CheckpointManager(
        training_checkpoint(model, optimizer), place / "run", 3, checkpoint_name="model.ckpt"
    )
    manager.save(checkpoint_number=3)
    return place


@pytest.fixture(scope="module")
def drawn(place):
    """Folder of pictures of the split "val" of the records."""
    printed = succeed(
        "vis.py",
        f"--checkpoint_dir={place}/run",
        f"--dataset_dir={place}/data",
        f"--vis_logdir={place}/drawn",
        "--also_save_raw_predictions",
    )
    assert "3 images, 3 of 3 classes predicted" in printed
    return place / "drawn"


@pytest.fixture(scope="module")
def evaluated(place):
    """Printed text and JSON of a bare evaluation."""
    printed = succeed("eval.py", f"--checkpoint_dir={place}/run", f"--dataset_dir={place}/data")
    return printed, json.loads((place / "run/scores_val.json").read_text())


def labels_of(path):
    return np.asarray(Image.open(path))


def test_the_card_says_what_the_flags_said(place):
    card = ModelCard.load(place / "run")
    assert card.model == tiny_run.MODEL
    assert card.dataset == tiny_run.INFO
    assert (card.data.crop_size, card.data.batch_size) == ((33, 49), 2)
    assert card.data.max_scale_factor == 2.0
    assert card.train.training_number_of_steps == 2
    assert card.train.label_weights == (1.0, 2.0, 0.5)
    assert card.inference.crop_size is None


def test_eval_writes_what_it_prints(evaluated):
    printed, scores = evaluated
    assert f"mean IoU        {scores['mean_iou']:.4f}" in printed
    assert f"pixel accuracy  {scores['pixel_accuracy']:.4f}" in printed
    for name, of_class in zip(tiny_run.INFO.class_names, scores["classes"], strict=True):
        assert of_class["name"] == name
        assert re.search(rf"^{name} +{of_class['iou']:.4f} ", printed, re.MULTILINE)
    assert os.path.basename(scores["checkpoint"]) == "model.ckpt-3"
    assert (scores["dataset"], scores["split"]) == ("blocks", "val")
    assert scores["output_stride"] == 16


def test_the_scores_are_those_of_the_drawn_predictions(evaluated, drawn):
    pairs = np.zeros((3, 256), np.int64)
    for i in range(3):
        labels = tiny_run.scene(1, i)[1]
        predicted = labels_of(drawn / f"raw_segmentation_results/val_{i}.png")
        np.testing.assert_array_equal(labels_of(drawn / f"val_{i}_prediction.png"), predicted)
        assert (drawn / f"val_{i}_panel.png").is_file() and (
            drawn / f"val_{i}_overlay.png"
        ).is_file()
        np.add.at(pairs, (predicted, labels), 1)
    pairs = pairs[:, :3]
    hits = np.diag(pairs)
    iou = hits / (pairs.sum(axis=0) + pairs.sum(axis=1) - hits)
    scores = evaluated[1]
    np.testing.assert_allclose([of_class["iou"] for of_class in scores["classes"]], iou)
    np.testing.assert_allclose(scores["mean_iou"], iou.mean())
    np.testing.assert_allclose(scores["pixel_accuracy"], hits.sum() / pairs.sum())


def test_vis_draws_plain_files_and_the_export_predicts_the_same(place, drawn):
    """The image file is the first of the records, so all three predictions are one."""
    succeed(
        "vis.py",
        f"--checkpoint_dir={place}/run/model.ckpt-3",
        f"--images={place}/pictures",
        f"--vis_logdir={place}/drawn_files",
    )
    predicted = labels_of(place / "drawn_files/scene_prediction.png")
    np.testing.assert_array_equal(predicted, labels_of(drawn / "val_0_prediction.png"))
    assert set(np.unique(predicted)) == {0, 1, 2}

    printed = succeed(
        "export_model.py", f"--checkpoint_path={place}/run", f"--export_path={place}/exported"
    )
    assert "model.ckpt-3 is now a SavedModel in" in printed
    loaded = tf.saved_model.load(str(place / "exported"))
    image = np.asarray(Image.open(place / "pictures/scene.png"))
    outputs = loaded.signatures["serving_default"](ImageTensor=tf.constant(image[None]))
    # Folded batch norms round otherwise.
    assert (outputs["SemanticPredictions"][0].numpy() == predicted).mean() > 0.999


def test_versions_of_a_model_for_tensorflow_serving(place):
    model = place / "served"
    for version, options in (
        ("7", ["--export_max_pixels=5000"]),
        ("8", ["--export_dtype=bfloat16"]),
    ):
        printed = succeed(
            "export_model.py",
            f"--checkpoint_path={place}/run",
            f"--export_path={model}",
            f"--export_version={'7' if version == '7' else 'next'}",
            *options,
        )
        assert f"a SavedModel in {model}/{version}." in printed
        assert (model / version / "assets.extra/tf_serving_warmup_requests").stat().st_size > 0
    assert sorted(path.name for path in model.iterdir()) == ["7", "8"]
    first, second = (tf.saved_model.load(str(model / version)).signatures for version in "78")
    with pytest.raises(tf.errors.InvalidArgumentError, match="Too many pixels"):
        first["labels"](ImageTensor=tf.zeros([1, 65, 81, 3], tf.uint8))
    image = tf.constant(np.asarray(Image.open(place / "pictures/scene.png"))[None])
    labels = [x["logits"](ImageTensor=image)["logits"] for x in (first, second)]
    assert labels[0].dtype == labels[1].dtype == tf.float32
    assert 0 < np.abs(labels[0] - labels[1]).max() < np.std(labels[0])


def test_eval_at_another_output_stride(place, evaluated):
    """The same weights are another network there, with the rates to match."""
    succeed(
        "eval.py",
        f"--checkpoint_dir={place}/run",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={place}/scores/finer",
        "--output_stride=8",
        "--eval_crop_size=65,65",
    )
    finer = json.loads((place / "scores/finer/scores_val.json").read_text())
    assert finer["output_stride"] == 8
    assert finer["mean_iou"] != evaluated[1]["mean_iou"]


def test_ctrl_c_ends_without_a_message(place, monkeypatch):
    def train(card, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", train)
    folders = (f"--dataset_dir={place}/data", f"--train_logdir={place}/never")
    # Batch norm over fewer than 12 images is a warning.
    batch = ("--train_crop_size=33,33", "--train_batch_size=12", "--nofine_tune_batch_norm")
    done = run("train.py", *folders, *batch, *NETWORK_FLAGS)
    assert done == Finished(130, "", "")


def test_a_preset_and_what_changes_it(place, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "train", lambda card, **options: calls.append((card, options)))
    succeed(
        "train.py",
        f"--dataset_dir={place}/data",
        f"--train_logdir={place}/never",
        "--preset=deeplabv3plus_xception65",
        "--output_stride=8",
        "--decoder_output_stride=",
        "--noaspp_with_separable_conv",
        "--val_split=",
    )
    ((card, options),) = calls
    assert options["val_split"] is None
    model = card.model
    assert (model.model_variant, model.num_classes) == ("xception_65", 3)
    assert (model.output_stride, model.atrous_rates) == (8, (12, 24, 36))
    assert model.decoder_output_stride == ()
    assert not model.aspp_with_separable_conv


@pytest.mark.parametrize(("side", "hint"), [(33, None), (40, "33 or 49"), (64, "49 or 65")])
def test_a_crop_that_does_not_align_is_a_warning(place, monkeypatch, side, hint):
    monkeypatch.setattr(training, "train", lambda card, **options: None)
    done = run(
        "train.py",
        f"--dataset_dir={place}/data",
        f"--train_logdir={place}/never",
        f"--train_crop_size={side},65",
    )
    assert done.code == 0
    assert ("Warning: --train_crop_size" in done.err) == (hint is not None)
    assert (hint or "") in done.err


@pytest.mark.parametrize(
    ("crop", "warned"), [("257,513", True), ("273,513", True), ("513,305", False)]
)
def test_rates_that_reach_beyond_the_crop_are_a_warning(place, monkeypatch, crop, warned):
    """The largest rate, 18, needs more than 18 features: a crop of 18 * 16 + 1 or more."""
    monkeypatch.setattr(training, "train", lambda card, **options: None)
    done = run(
        "train.py",
        f"--dataset_dir={place}/data",
        f"--train_logdir={place}/never",
        "--preset=deeplabv3plus_mobilenet_v2",
        f"--train_crop_size={crop}",
    )
    assert done.code == 0
    assert ("lower --atrous_rates" in done.err) == warned


# --- Damaged records ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(place):
    """The records, but for one bit in the second one of each split."""
    shutil.copytree(place / "data", place / "damaged")
    for split in tiny_run.INFO.splits:
        path = place / "damaged" / records.shard_name(split, 0, 1)
        content = bytearray(path.read_bytes())
        content[content.index(f"{split}_1".encode())] ^= 1
        path.write_bytes(content)
    return place / "damaged"


@pytest.mark.parametrize("script", ["train.py", "eval.py", "vis.py"])
def test_a_damaged_record_ends_each_script(place, damaged, script, tmp_path):
    arguments = {
        "train.py": [f"--train_logdir={tmp_path}/new", "--training_number_of_steps=3"],
        "eval.py": [f"--checkpoint_dir={place}/run"],
        "vis.py": [f"--checkpoint_dir={place}/run", f"--vis_logdir={tmp_path}/new"],
    }[script]
    if script == "train.py":
        arguments += [*NETWORK_FLAGS, "--train_crop_size=33,33", "--train_batch_size=2"]
    done = run(script, f"--dataset_dir={damaged}", *arguments)
    assert done.code == 1
    split = "train" if script == "train.py" else "val"
    assert f"{split}-00000-of-00001.tfrecord, record 1: the checksum of its data is" in done.err
    assert "Copy that file again" in done.err or "Copy the file again" in done.err


def test_damaged_records_can_be_left_out(place, damaged, tmp_path):
    """The scores are those of a folder that never had them; the file of scores says so."""
    good = tmp_path / "good"
    shutil.copytree(place / "data", good)
    path = good / records.shard_name("val", 0, 1)
    kept = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    del kept[1]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in kept:
            writer.write(record)
    dataclasses.replace(tiny_run.INFO, splits={"val": 2}).save(good)
    scores = {}
    for folder, flags_given in ((good, []), (damaged, ["--skip_corrupt"])):
        printed = succeed(
            "eval.py",
            f"--checkpoint_dir={place}/run",
            f"--dataset_dir={folder}",
            f"--eval_logdir={tmp_path}/scores",
            *flags_given,
        )
        scores[folder] = json.loads((tmp_path / "scores/scores_val.json").read_text())
    damage = "val-00000-of-00001.tfrecord, record 1: the checksum of its data is wrong"
    assert f"Leaving out 1 of 3 records of val:\n  - {damage}" in printed
    assert scores[damaged].pop("corrupt_records") == {
        "left_out": 1,
        "of": 3,
        "files": ["val-00000-of-00001.tfrecord"],
        "first": [damage],
    }
    assert scores[damaged] == scores[good]
    printed = succeed(
        "vis.py",
        f"--checkpoint_dir={place}/run",
        f"--dataset_dir={damaged}",
        f"--vis_logdir={tmp_path}/drawn",
        "--skip_corrupt",
    )
    assert "2 images" in printed
    assert damage in printed


def test_training_without_damaged_records(damaged, tmp_path):
    printed = succeed(
        "train.py",
        f"--dataset_dir={damaged}",
        f"--train_logdir={tmp_path}/new",
        *NETWORK_FLAGS,
        "--train_crop_size=33,33",
        "--train_batch_size=2",
        "--training_number_of_steps=3",
        "--skip_corrupt",
    )
    assert "Leaving out 1 of 6 records of train:" in printed
    assert "Leaving out 1 of 3 records of val:" in printed


# --- Bad input ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad_place(place):
    """Beside the good ones: records and runs with one thing wrong."""
    (place / "empty").mkdir()
    (place / "foreign").mkdir()
    (place / "foreign/thesis.tex").write_bytes(b"mine")

    shutil.copytree(place / "data", place / "other_classes")
    names = ("wall", "rouge", "vert")
    dataclasses.replace(tiny_run.INFO, class_names=names).save(place / "other_classes")
    shutil.copytree(place / "data", place / "fewer_classes")
    fewer = dataclasses.replace(tiny_run.INFO, ignore_label=2)
    fewer.save(place / "fewer_classes")  # 255 is no label any more

    shutil.copytree(place / "run", place / "no_card")
    (place / "no_card/config.json").unlink()
    (place / "no_checkpoint").mkdir()
    shutil.copy(place / "run/config.json", place / "no_checkpoint")
    shutil.copytree(place / "run", place / "no_data_file")
    (place / "no_data_file/model.ckpt-3.data-00000-of-00001").unlink()
    shutil.copytree(place / "run", place / "other_network")
    card = ModelCard.load(place / "run")
    model = dataclasses.replace(card.model, decoder_filters=32)
    dataclasses.replace(card, model=model).save(place / "other_network")
    return place


TRAIN = ("train.py", "--dataset_dir={0}/data", "--train_logdir={0}/new")
EVAL = ("eval.py", "--checkpoint_dir={0}/run", "--dataset_dir={0}/data", "--eval_logdir={0}/new")
VIS = ("vis.py", "--checkpoint_dir={0}/run", "--vis_logdir={0}/new")
EXPORT = ("export_model.py", "--checkpoint_path={0}/run", "--export_path={0}/new")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (TRAIN, ["--dataset_dir={0}/empty"], "{0}/empty/dataset.json not found"),
        (TRAIN, ["--dataset_dir={0}/nowhere"], "{0}/nowhere/dataset.json not found"),
        (
            TRAIN,
            ["--dataset_dir={0}/fewer_classes", "--train_crop_size=33,33"],
            "error: D105 label-is-no-class: train-00000-of-00001.tfrecord, record 0 (train_0): "
            "holds 255 (and 8 more).",
        ),
        (TRAIN, ["--train_split=all"], "no split 'all'; it has: train, val"),
        (TRAIN, ["--val_split=test"], "no split 'test'; it has: train, val"),
        (TRAIN, ["--train_logdir={0}/foreign"], "--train_logdir={0}/foreign is not empty"),
        (TRAIN, ["--train_logdir={0}/run"], "{0}/run holds a run with other settings"),
        (TRAIN, ["--train_crop_size=16,33"], "--train_crop_size=16,33 is no larger than"),
        (TRAIN, ["--train_crop_size=33"], "--train_crop_size is 33; expected two integers"),
        (TRAIN, ["--train_crop_size=33,33,33"], "--train_crop_size is 33,33,33; expected"),
        (TRAIN, ["--train_crop_size=33x33"], "--train_crop_size is 33x33; expected"),
        (TRAIN, ["--train_batch_size=0"], "train_batch_size is 0"),
        (TRAIN, ["--image_pooling_crop_size=769,65"], "769,65 does not fit into --train_crop_size"),
        (TRAIN, ["--decoder_output_stride=four"], "--decoder_output_stride is four; expected"),
        (TRAIN, ["--decoder_output_stride=4,8"], "decoder_output_stride is (4, 8)"),
        (TRAIN, ["--output_stride=12"], "output_stride is 12"),
        (TRAIN, ["--model_variant=resnet"], "no model_variant 'resnet'; there are mobilenet_v2"),
        (TRAIN, ["--multi_grid=1"], "mobilenet_v2 has no multi_grid"),
        (TRAIN, ["--preset=deeplab"], "flag --preset=deeplab: value should be one of"),
        (TRAIN, ["--label_weights=1"], "1 label_weights for 3 classes"),
        (TRAIN, ["--base_learning_rate=-1"], "base_learning_rate is -1"),
        (TRAIN, ["--base_learning_rate=fast"], "flag --base_learning_rate=fast"),
        (TRAIN, ["--learning_rate=1"], "Unknown command line flag 'learning_rate'"),
        (TRAIN, ["resnet_v1_50"], "Unknown arguments ['resnet_v1_50']: expected --flag=value"),
        (TRAIN[:2], [], "--train_logdir must have a value"),
        (EVAL, ["--dataset_dir={0}/empty"], "{0}/empty/dataset.json not found"),
        (EVAL, ["--eval_split=test"], "no split 'test'; it has: train, val"),
        (EVAL, ["--checkpoint_dir={0}/nowhere"], "no checkpoint at {0}/nowhere"),
        (EVAL, ["--checkpoint_dir={0}/run/model.ckpt-9"], "no checkpoint at {0}/run/model.ckpt-9"),
        (EVAL, ["--checkpoint_dir={0}/no_checkpoint"], "no checkpoint in {0}/no_checkpoint"),
        (EVAL, ["--checkpoint_dir={0}/no_card"], "{0}/no_card/config.json not found"),
        (
            EVAL,
            ["--checkpoint_dir={0}/no_data_file"],
            "no_data_file/model.ckpt-3.data-00000-of-00001 beside it",
        ),
        (EVAL, ["--checkpoint_dir={0}/other_network"], "model.ckpt-3 is not of this network"),
        (EVAL, ["--dataset_dir={0}/other_classes"], "has the 3 classes ['wall', 'rouge', 'vert']"),
        (EVAL, ["--dataset_dir={0}/fewer_classes"], "label of val_0 holds the value 255"),
        (
            EVAL,
            ["--model_variant=xception_41"],
            "--model_variant=xception_41 contradicts the model card, which says mobilenet_v2",
        ),
        (
            EVAL,
            ["--decoder_output_stride=8,4"],
            "--decoder_output_stride=(8, 4) contradicts the model card, which says (4,)",
        ),
        (EVAL, ["--atrous_rates=1", "--atrous_rates=2"], "--atrous_rates=(1, 2) contradicts"),
        (EVAL, ["--eval_crop_size=513"], "--eval_crop_size is 513; expected two integers"),
        (VIS, [], "either --dataset_dir (a folder of records) or --images"),
        (
            VIS,
            ["--dataset_dir={0}/data", "--images={0}/pictures"],
            "either --dataset_dir (a folder of records) or --images",
        ),
        (VIS, ["--dataset_dir={0}/data", "--vis_split=test"], "no split 'test'"),
        (VIS, ["--dataset_dir={0}/other_classes"], "has the 3 classes ['wall', 'rouge', 'vert']"),
        (VIS, ["--images={0}/empty"], "No images found in {0}/empty"),
        (VIS, ["--images={0}/pictures", "--vis_logdir={0}/foreign"], "{0}/foreign is not empty"),
        (VIS, ["--images={0}/data/dataset.json"], "{0}/data/dataset.json"),
        (EXPORT, ["--checkpoint_path={0}/nowhere"], "no checkpoint at {0}/nowhere"),
        (EXPORT, ["--num_classes=21"], "--num_classes=21 contradicts the model card, which says 3"),
        (EXPORT, ["--export_path={0}/foreign"], "--export_path={0}/foreign exists"),
        (EXPORT, ["--crop_size=513"], "--crop_size is 513; expected two integers"),
        (EXPORT, ["--export_version=v2"], "--export_version=v2: expected a number from 1 on"),
        (EXPORT, ["--export_version=0"], "--export_version=0: expected a number from 1 on"),
        (EXPORT, ["--export_max_pixels=0"], "--export_max_pixels=0: expected 1 or more"),
        (
            EXPORT,
            ["--export_path={0}/new.pb", "--export_dtype=bfloat16"],
            "--export_dtype goes with a SavedModel, but --export_path={0}/new.pb is none",
        ),
    ],
)
def test_bad_input_ends_with_one_message(bad_place, command, arguments, message):
    before = contents(bad_place)
    script, *arguments = [argument.format(bad_place) for argument in (*command, *arguments)]
    done = run(script, *arguments)
    assert done.code == 1
    assert message.format(bad_place) in done.err
    assert "Traceback" not in done.err
    assert contents(bad_place) == before


def contents(folder):
    """Every path, and the time at which a file was last written."""
    return {path: path.is_file() and path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_process_ends_with_the_message_and_exit_code_1(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", "--dataset_dir=nowhere", "--train_logdir=run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(
        "train.py: error: nowhere/dataset.json not found"
    )
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []

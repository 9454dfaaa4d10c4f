"""Pretraining: its parts against numpy, TensorFlow and Keras; resume; a run by its command line."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import cli
from deeplab_tf.config import ModelConfig, PretrainConfig
from deeplab_tf.data.classification.folders import open_folders
from deeplab_tf.pretrain import run, watch
from deeplab_tf.pretrain.card import PretrainCard
from deeplab_tf.pretrain.classifier import build_classifier
from deeplab_tf.pretrain.schedule import build_optimizer, learning_rate_schedule
from deeplab_tf.pretrain.scores import HitCounter, in_top
from deeplab_tf.pretrain.step import ClassifierStep
from deeplab_tf.training.history import History
from deeplab_tf.training.optimizers import MomentumOptimizer
from tests import tiny_run
from tests.pretrain import runs, shapes
from tests.test_cli import SCRIPTS, succeed
from tests.test_cli import run as run_script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    shapes.write_folders(root, train=6, val=2)
    return root


@pytest.fixture
def sources(folders):
    return open_folders(folders)[1]


# --- Schedule, optimizer, loss, scores ------------------------------------------------------------


@pytest.mark.parametrize(("images", "batch_size"), [(640, 32), (100, 32), (7, 32)])
def test_the_rate_decays_every_two_epochs(images, batch_size):
    card = PretrainCard(
        ModelConfig(), PretrainConfig(batch_size=batch_size), ("a", "b"), {"train": images}, "train"
    )
    schedule = learning_rate_schedule(card)
    two_epochs = max(round(2 * images / batch_size), 1)
    for step in (0, two_epochs - 1, two_epochs, 5 * two_epochs, 17 * two_epochs - 1):
        expected = 0.05 * 0.94 ** (step // two_epochs)
        np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-5)
    assert card.steps == int(np.ceil(120 * images / batch_size))


def test_the_papers_recipe_is_the_default():
    config = PretrainConfig()
    assert (config.image_size, config.batch_size, config.momentum) == (299, 32, 0.9)
    assert (config.base_learning_rate, config.weight_decay) == (0.05, 4e-5)
    assert (config.learning_rate_decay_factor, config.learning_rate_decay_epochs) == (0.94, 2)


def test_nesterov_s_momentum_is_that_of_numpy_and_of_tf1():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(6, 5))
    card = PretrainCard(
        ModelConfig(), PretrainConfig(learning_rate_decay_epochs=1), ("a", "b"), {"t": 64}, "t"
    )
    variable = keras.Variable(start.astype(np.float32))
    optimizer = build_optimizer(card, [variable])
    weight, velocity = start.copy(), np.zeros(5)
    theirs, slot = (tf.Variable(x.astype(np.float32)) for x in (start, np.zeros(5)))
    for step, gradient in enumerate(gradients):
        gradient32 = tf.constant(gradient, tf.float32)
        rate = 0.05 * 0.94 ** (step // 2)
        optimizer.apply([gradient32], [variable])
        velocity = 0.9 * velocity + gradient
        weight -= rate * (gradient + 0.9 * velocity)
        tf.raw_ops.ResourceApplyMomentum(
            var=theirs.handle,
            accum=slot.handle,
            lr=rate,
            grad=gradient32,
            momentum=0.9,
            use_nesterov=True,
        )
        np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-5)
        np.testing.assert_allclose(variable.numpy(), theirs.numpy(), rtol=1e-6)
    again = keras.optimizers.deserialize(
        keras.optimizers.serialize(MomentumOptimizer(nesterov=True, learning_rate=1.0))
    )
    assert again.nesterov


def test_a_step_is_the_gradient_of_cross_entropy_and_weight_decay(sources):
    """Of every weight alike, with label smoothing, by finite differences in float64."""
    card = runs.card_of(
        sources,
        label_smoothing=0.1,
        weight_decay=0.3,
        dropout_rate=0.0,
        base_learning_rate=1.0,
        momentum=0.0,
    )
    model = runs.small_classifier(card.model, dropout_rate=0.0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 24, 24, 3)).astype(np.uint8)
    labels = rng.integers(0, 4, 8).astype(np.int32)
    before = [weight.numpy() for weight in model.trainable_variables]
    step = ClassifierStep(model, build_optimizer(card, model.trainable_variables), card.train)

    def loss(values):
        for weight, value in zip(model.trainable_variables, values, strict=True):
            weight.assign(value)
        logits = np.asarray(model(images.astype(np.float32), training=True), np.float64)
        targets = np.full((8, 4), 0.1 / 4)
        targets[np.arange(8), labels] += 0.9
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        kernels = [value.astype(np.float64) for value in values if value.ndim == 4]
        decay = 0.3 / 2 * sum((kernel**2).sum() for kernel in kernels)
        return -(targets * logits).sum() / 8 + decay

    expected = loss(before)
    loss(before)
    result = step(tf.constant(images), tf.constant(labels), tf.constant(0.0))
    np.testing.assert_allclose(float(result.loss), expected, rtol=1e-5)
    gradients = [old - w.numpy() for old, w in zip(before, model.trainable_variables, strict=True)]
    for index, gradient in enumerate(gradients):
        assert np.abs(gradient).max() > 1e-4
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        sides = []
        for change in (1e-2, -1e-2):
            values = [value.copy() for value in before]
            values[index][place] += change
            sides.append(loss(values))
        slope = (sides[0] - sides[1]) / 2e-2
        np.testing.assert_allclose(gradient[place], slope, rtol=0.02, atol=1e-3)


def test_top_5_is_that_of_sorted_scores():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(300, 11)), rng.integers(0, 11, 300)
    logits[:100] = np.round(logits[:100])  # with equal scores
    for k in (1, 5):
        expected = [
            label in sorted(range(11), key=lambda c, r=row: (-r[c], c))[:k]
            for row, label in zip(logits, labels, strict=True)
        ]
        np.testing.assert_array_equal(in_top(logits, labels, k), expected)
    distinct = logits[100:].astype(np.float32), labels[100:]
    theirs = keras.metrics.sparse_top_k_categorical_accuracy(distinct[1], distinct[0], k=5)
    np.testing.assert_array_equal(in_top(*distinct, 5), np.asarray(theirs) > 0)
    counter = HitCounter()
    for rows in (slice(0, 128), slice(128, 300)):
        counter.add(logits[rows], labels[rows])
    scores = counter.scores()
    assert scores.top5 == in_top(logits, labels, 5).mean()
    assert scores.top1 == (logits.argmax(axis=1) == labels).mean()
    assert str(scores) == f"top-1 {scores.top1:.4f}, top-5 {scores.top5:.4f}"
    constant = HitCounter()
    constant.add(np.zeros((11, 11)), np.arange(11))
    assert constant.scores().top1 == 1 / 11
    few = HitCounter()
    few.add(logits[:, :5], labels % 5)
    assert few.scores().top5 is None
    with pytest.raises(ValueError, match="no images"):
        HitCounter().scores()


# --- Runs -----------------------------------------------------------------------------------------


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(run, "build_classifier", runs.small_classifier)
    tiny_run.draw_no_plots(monkeypatch)


def variables(logdir):
    """All that the last checkpoint holds."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(logdir)))
    names = [name for name in reader.get_variable_to_shape_map() if "GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names if "save_counter" not in name}


def pretrain(sources, logdir, *, options=None, **train):
    card = runs.card_of(sources, **train)
    settings = {"val_split": "val", "log_steps": 1, **(options or {})}
    return run.pretrain(card, sources, logdir=str(logdir), **settings)


def stop_after(monkeypatch, number, stop):
    """Lets something happen when a step has been taken."""
    make_step = run.ClassifierStep

    def make(*args):
        step, taken = make_step(*args), []

        def stopping(*batch):
            result = step(*batch)
            taken.append(result)
            if len(taken) == number:
                stop()
            return result

        return stopping

    monkeypatch.setattr(run, "ClassifierStep", make)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_a_run_goes_on_bit_for_bit(sources, tmp_path, monkeypatch, capsys, how):
    scores = pretrain(sources, tmp_path / "whole")
    assert scores.images == 8
    capsys.readouterr()
    with monkeypatch.context() as patch:
        stop = interrupt if how == "interrupt" else lambda: os.kill(os.getpid(), signal.SIGTERM)
        stop_after(patch, 5, stop)
        if how == "interrupt":
            with pytest.raises(KeyboardInterrupt):
                pretrain(sources, tmp_path / "parts")
        else:
            pretrain(sources, tmp_path / "parts")
    # A signal is heard after the step it comes in.
    stopped = 5 if how == "interrupt" else 6
    assert f"Stopped after step {stopped}; the same command goes on" in capsys.readouterr().out
    resumed = pretrain(sources, tmp_path / "parts")
    assert resumed == scores
    whole, parts = variables(tmp_path / "whole"), variables(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert any(name.startswith("random") for name in whole)
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)

    def losses(logdir):
        return {row["step"]: row.get("loss") for row in History(logdir, 12).rows if "loss" in row}

    # Of the step that was interrupted nothing was logged.
    expected = losses(tmp_path / "whole")
    assert losses(tmp_path / "parts") == {
        s: x for s, x in expected.items() if s != 5 or how != "interrupt"
    }


def test_what_a_run_writes(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "build_classifier", runs.small_classifier)
    pretrain(sources, tmp_path, options={"val_interval_epochs": 2.0})
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 13))
    rates = [0.05 * 0.94 ** (step // 3) for step in range(12)]
    np.testing.assert_allclose([row["learning_rate"] for row in steps], rates, rtol=1e-5)
    validations = [row for row in rows if "top1" in row]
    assert [row["step"] for row in validations] == [6, 12]
    best = max(validations, key=lambda row: (row["top1"], -row["step"]))
    assert (tmp_path / f"best/model.ckpt-{best['step']}.index").is_file()
    card = PretrainCard.load(tmp_path)
    assert card == PretrainCard.load(tmp_path / "best")
    assert (card.class_names, card.splits) == (shapes.CLASSES, {"train": 24, "val": 8})
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("small_network")
def test_a_validation_that_was_killed_is_made_good(sources, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(watch.PretrainWatch, "_score", lambda self, source: interrupt())
        with pytest.raises(KeyboardInterrupt):
            pretrain(sources, tmp_path)
    assert not History(tmp_path, 12, score="top1").has_validation(3)
    pretrain(sources, tmp_path)
    assert [row["step"] for row in History(tmp_path, 12, score="top1").validations] == [3, 6, 9, 12]


@pytest.mark.usefixtures("small_network")
def test_a_run_starts_only_where_it_may(sources, tmp_path):
    pretrain(sources, tmp_path, epochs=1)
    with pytest.raises(FileExistsError, match=r"train.base_learning_rate: 0.05, now 0.1"):
        pretrain(sources, tmp_path, epochs=1, base_learning_rate=0.1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"foreign is not empty and holds no pretrain.json"):
        pretrain(sources, foreign)


@pytest.mark.usefixtures("small_network")
def test_a_loss_that_is_not_finite_ends_the_run(sources, tmp_path):
    with pytest.raises(FloatingPointError, match=r"step \d+ is (nan|inf), at the learning rate"):
        pretrain(sources, tmp_path, base_learning_rate=1e38)
    assert tf.train.latest_checkpoint(str(tmp_path)) is None


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_features_of_16_bits_have_scores_of_32(sources, tmp_path, precision):
    seen = []

    def build(config, **options):
        seen.append(build_classifier(dataclasses.replace(config, depth_multiplier=0.25), **options))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "build_classifier", build)
        pretrain(sources, tmp_path, epochs=0.5, mixed_precision=precision, image_size=33)
    model = seen[0]
    assert model.output.dtype == "float32"
    assert model.get_layer("MobilenetV2.expanded_conv_16.project").output.dtype == precision
    assert keras.config.dtype_policy().name == "float32"
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


def test_two_devices_learn_what_one_does(folders, tmp_path):
    """In processes of their own, because the devices are made before anything else."""
    for name, devices in (("one", None), ("two", 2)):
        settings = {
            "data": str(folders),
            "logdir": str(tmp_path / name),
            "devices": devices,
            "dropout_rate": 0.0,
        }
        command = [sys.executable, "-m", "tests.pretrain.runs", json.dumps(settings)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (
        [row for row in History(tmp_path / name, 12).rows if "loss" in row]
        for name in ("one", "two")
    )
    for key in ("loss", "accuracy"):
        np.testing.assert_allclose([r[key] for r in two], [r[key] for r in one], rtol=1e-5)
    assert one[0]["loss"] != one[-1]["loss"]


# --- The command line -----------------------------------------------------------------------------


@pytest.fixture
def command_line(monkeypatch):
    monkeypatch.setitem(SCRIPTS, "pretrain", cli.pretrain)


TINY = (
    "--model_variant=mobilenet_v2",
    "--depth_multiplier=0.25",
    "--train_image_size=33",
    "--train_batch_size=8",
)


@pytest.mark.usefixtures("command_line")
def test_records_by_the_command_line(tmp_path):
    shapes.write_records(tmp_path / "data", train=2, validation=1)
    out = succeed(
        "pretrain",
        f"--dataset_dir={tmp_path}/data",
        f"--train_logdir={tmp_path}/run",
        "--num_classes=4",
        *TINY,
        "--epochs=2",
        "--seed=5",
        "--label_smoothing=0.1",
    )
    assert "4 classes, 8 images of train, 4 images of val; 2 steps." in out
    assert f"--tf_initial_checkpoint={tmp_path}/run --model_variant=mobilenet_v2" in out
    card = PretrainCard.load(tmp_path / "run")
    assert (card.model.depth_multiplier, card.model.output_stride) == (0.25, 32)
    assert card.train == PretrainConfig(33, 8, epochs=2, seed=5, label_smoothing=0.1)


@pytest.mark.usefixtures("command_line")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give one of --image_folder, of class folders, and --dataset_dir."),
        (("--image_folder=x", "--dataset_dir=y"), "Give one of --image_folder"),
        (("--image_folder=x", "--num_classes=3"), "--num_classes is for records"),
        (("--dataset_dir=x", "--val_fraction=0.2"), "--val_fraction is for folders"),
        (("--image_folder=/no/where",), "/no/where is no folder"),
        (
            ("--image_folder={}", "--model_variant=vgg_16", "--depth_multiplier=0.5"),
            "vgg_16 has no",
        ),
        (("--image_folder={}", "--model_variant=vgg"), "There is no model_variant 'vgg'"),
        (("--image_folder={}", "--epochs=0"), "epochs is 0.0; it must be above 0"),
        (("--image_folder={}", "--val_interval_epochs=0"), "--val_interval_epochs=0.0: expected"),
        (("--image_folder={}", "--log_steps=0"), "--log_steps=0: expected 1 or more"),
    ],
)
def test_wrong_flags_end_with_one_message(folders, tmp_path, arguments, message):
    flags = [argument.format(folders) for argument in arguments]
    done = run_script("pretrain", f"--train_logdir={tmp_path}/never", *flags)
    assert done.code == 1
    assert message in done.err
    assert not (tmp_path / "never").exists()


def test_every_setting_has_a_flag_of_the_same_default():
    from deeplab_tf.cli.commands.pretrain import _RENAMED
    from deeplab_tf.cli.flag_table import PRETRAIN

    defaults = {flag.name: flag.default for flag in PRETRAIN}
    assert len(defaults) == len(PRETRAIN)
    for field in dataclasses.fields(PretrainConfig):
        assert defaults[_RENAMED.get(field.name, field.name)] == field.default, field.name


@pytest.mark.slow
@pytest.mark.usefixtures("command_line")
def test_shapes_are_learnt(tmp_path):
    """Four classes in a minute, far above chance."""
    shapes.write_folders(tmp_path / "images", train=60, val=20)
    succeed(
        "pretrain",
        f"--image_folder={tmp_path}/images",
        f"--train_logdir={tmp_path}/run",
        "--model_variant=mobilenet_v2",
        "--depth_multiplier=0.25",
        "--train_image_size=64",
        "--train_batch_size=16",
        "--epochs=12",
        "--val_interval_epochs=4",
        "--dropout_rate=0",
        "--min_area=0.5",
    )
    validations = History(tmp_path / "run", 10**6, score="top1").validations
    assert validations[-1]["top1"] > 0.8, validations

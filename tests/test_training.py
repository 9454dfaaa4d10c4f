"""Training learns, goes on exactly where it was stopped, and starts only where it may."""

import dataclasses
import importlib.util
import io
import math
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from deeplab_tf import training
from deeplab_tf.config import TrainConfig
from deeplab_tf.model_card import ModelCard
from deeplab_tf.optimizers import MomentumOptimizer
from tests import tiny_run
from tests.test_losses import numpy_loss

FOUR_STEPS = {"training_number_of_steps": 4, "base_learning_rate": 0.05}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tfrecord"
    tiny_run.write_dataset(folder)
    return str(folder)


@pytest.fixture
def train(dataset_dir):
    """A function that trains without validation unless a split is named."""

    def run(card, logdir, **options):
        options = {"train_split": "train", "val_split": None, **options}
        return training.train(card, dataset_dir=dataset_dir, logdir=str(logdir), **options)

    return run


@pytest.fixture
def small_network(monkeypatch):
    """Lets `train` build, in place of a DeepLab, a network that costs nothing."""

    def build(config):
        x = images = keras.Input((None, None, 3))
        x = layers.Rescaling(1 / 127.5, -1)(x)
        x = layers.Conv2D(8, 1, use_bias=False, name="conv")(x)
        x = layers.BatchNormalization(name="conv.BatchNorm")(x)
        x = layers.Dropout(0.1)(layers.ReLU()(x))
        return keras.Model(images, layers.Conv2D(config.num_classes, 1, name="logits")(x))

    monkeypatch.setattr(training, "build_deeplab", build)


def interrupted_after(step_number):
    """A `train_step` whose step is followed by Ctrl-C when its work is done."""
    make_step = training.train_step

    def make_interrupted(*args):
        step, losses = make_step(*args), []

        def interrupted(images, labels):
            losses.append(step(images, labels))
            if len(losses) == step_number:
                raise KeyboardInterrupt
            return losses[-1]

        return interrupted

    return make_interrupted


def stored(logdir, step):
    """Everything in a checkpoint by name, but for the number of saves."""
    reader = tf.train.load_checkpoint(str(logdir / f"model.ckpt-{step}"))
    names = [name for name in reader.get_variable_to_shape_map() if name[0] not in "_s"]
    return {name: reader.get_tensor(name) for name in names}


def checkpoints(logdir):
    return sorted(path.name for path in logdir.glob("*.index"))


def curves(logdir):
    """The points of TensorBoard's curves and pictures, {tag: {step: value}}."""
    found = {}
    for path in sorted(logdir.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found


# --- Learning -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(dataset_dir, tmp_path_factory):
    """Scores and folder of a run on colours that say the class."""
    logdir = tmp_path_factory.mktemp("learned")
    scores = training.train(
        tiny_run.card(training_number_of_steps=60, base_learning_rate=0.1),
        dataset_dir=dataset_dir,
        train_split="train",
        val_split="val",
        logdir=str(logdir),
        val_interval_steps=1000,
    )
    return scores, logdir


def test_learns_what_is_easy(learned):
    scores, _ = learned
    assert scores.mean_iou > 0.6  # 0.22 if all is wall


def test_the_curves_are_in_tensorboard(learned):
    pytest.importorskip("tensorboard")
    scores, logdir = learned
    found = curves(logdir)
    assert list(found["loss"]) == list(found["learning_rate"]) == [10, 20, 30, 40, 50, 60]
    assert found["loss"][60] < 0.5 * math.log(3)
    expected = [0.1 * (1 - step / 60) ** 0.9 for step in range(9, 60, 10)]
    np.testing.assert_allclose(list(found["learning_rate"].values()), expected, rtol=1e-5)
    assert found["miou"] == {60: pytest.approx(scores.mean_iou)}
    assert found["pixel_accuracy"] == {60: pytest.approx(scores.pixel_accuracy)}
    assert min(found["images_per_sec"].values()) > 0
    for i in range(tiny_run.INFO.splits["val"]):
        width, height, encoded = found[f"validation/{i}"][60]
        assert Image.open(io.BytesIO(encoded)).size == (int(width), int(height))


def test_the_card_is_beside_the_checkpoint(learned):
    _, logdir = learned
    assert ModelCard.load(logdir).train.training_number_of_steps == 60
    assert checkpoints(logdir) == ["model.ckpt-60.index"]


@pytest.mark.parametrize("label_weights", [(), (0.5, 2.0, 3.0)])
def test_a_step_equals_numpy(label_weights):
    """Loss and new weights of a linear network: cross entropy of the valid pixels plus decay."""
    images = keras.Input((None, None, 3))
    model = keras.Model(images, layers.Conv2D(3, 1, name="logits")(images))
    card = tiny_run.card(weight_decay=0.1, label_weights=label_weights)
    optimizer = MomentumOptimizer(0.2)
    optimizer.build(model.trainable_variables)
    kernel, bias = (variable.numpy().astype(np.float64) for variable in model.weights)
    batch, labels = map(np.stack, zip(*(crop(tiny_run.scene(i)) for i in range(2)), strict=True))

    loss = training.train_step(model, optimizer, card)(batch // 64, labels)

    x, valid = (batch // 64).astype(np.float64), labels != 255
    logits = x @ kernel[0, 0] + bias
    expected = numpy_loss(
        labels, logits, ignore_label=255, label_weights=label_weights or None
    ) + 0.05 * np.sum(kernel**2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    of_pixel = np.asarray(label_weights or (1.0,) * 3)[np.where(valid, labels, 0)] * valid
    errors = (probabilities - np.eye(3)[np.where(valid, labels, 0)]) * of_pixel[..., None]
    errors = errors[valid] / valid.sum()
    np.testing.assert_allclose(model.weights[1], bias - 0.2 * errors.sum(axis=0), atol=1e-5)
    gradient = x[valid].T @ errors + 0.1 * kernel[0, 0]
    np.testing.assert_allclose(model.weights[0][0, 0], kernel[0, 0] - 0.2 * gradient, atol=1e-5)


def crop(example):
    return tuple(array[:40, :40] for array in example)


@pytest.mark.parametrize(
    ("steps", "decay", "expected"),
    [
        (60_000, None, [0.997, 0.9997, 0.5]),
        (30_000, None, [0.997, 0.9997, 0.5]),
        (29_999, None, [0.997, 1 - 90 / 29_999, 0.5]),
        (3000, None, [0.97, 0.97, 0.5]),
        (900, None, [0.9, 0.9, 0.5]),
        (10, None, [0.9, 0.9, 0.5]),
        (10, 0.9997, [0.9997, 0.9997, 0.9997]),
    ],
)
def test_batch_norm_decay_suits_the_number_of_steps(steps, decay, expected):
    """It is only ever shortened, and a decay that is given is taken."""
    norms = [layers.BatchNormalization(momentum=momentum) for momentum in (0.997, 0.9997, 0.5)]
    model = keras.Sequential([layers.ReLU(), *norms])
    config = TrainConfig(training_number_of_steps=steps, batch_norm_decay=decay)
    training.set_batch_norm_decay(model, config)
    assert [norm.momentum for norm in norms] == pytest.approx(expected)


# --- Stopping and going on ------------------------------------------------------------------------


def test_a_stopped_run_goes_on_bit_for_bit(train, tmp_path, monkeypatch):
    """Weights, moving statistics, velocities, dropout's seeds: nothing tells the runs apart."""
    card = tiny_run.card(**FOUR_STEPS)
    train(card, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", interrupted_after(2))
        with pytest.raises(KeyboardInterrupt):
            train(card, tmp_path / "stopped")
    assert checkpoints(tmp_path / "stopped") == ["model.ckpt-2.index"]
    train(card, tmp_path / "stopped")

    whole, resumed = stored(tmp_path / "whole", 4), stored(tmp_path / "stopped", 4)
    assert {name.split("/")[0] for name in whole} == {"model", "optimizer", "random"}
    assert whole.keys() == resumed.keys()
    differing = [name for name in whole if not np.array_equal(whole[name], resumed[name])]
    assert differing == []
    # And the steps did something: what was stored on the way is another state throughout.
    halfway = stored(tmp_path / "stopped", 2)
    assert sum(np.array_equal(whole[name], halfway[name]) for name in whole) < 0.1 * len(whole)


def test_saves_and_validates_on_the_way(train, small_network, tmp_path, capsys):
    card = tiny_run.card(training_number_of_steps=5)
    scores = train(card, tmp_path, val_split="val", val_interval_steps=2, save_interval_secs=0)
    validations = [line for line in capsys.readouterr().out.splitlines() if "mIoU" in line]
    assert [line.split(":")[0] for line in validations] == ["step 2", "step 4", "step 5"]
    assert f"mIoU {scores.mean_iou:.4f}" in validations[-1]
    # The last three.
    assert checkpoints(tmp_path) == [f"model.ckpt-{step}.index" for step in (3, 4, 5)]


def test_a_finished_run_stays_as_it_is(train, small_network, tmp_path):
    card = tiny_run.card(training_number_of_steps=2)
    train(card, tmp_path)
    before = stored(tmp_path, 2)
    assert train(card, tmp_path) is None
    after = stored(tmp_path, 2)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_another_seed_is_another_run(train, small_network, tmp_path):
    for seed in (0, 1):
        train(tiny_run.card(training_number_of_steps=1, seed=seed), tmp_path / str(seed))
    first, second = (stored(tmp_path / seed, 1) for seed in "01")
    kernel = "model/conv..kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert not np.array_equal(first[kernel], second[kernel])


def test_works_without_tensorboard(train, small_network, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name)
    )
    monkeypatch.setattr(tf.summary, "scalar", None)
    monkeypatch.setattr(tf.summary, "image", None)
    scores = train(tiny_run.card(training_number_of_steps=10), tmp_path, val_split="val")
    assert 0 <= scores.mean_iou <= 1
    assert curves(tmp_path) == {}
    assert checkpoints(tmp_path) == ["model.ckpt-10.index"]


# --- Bad input ------------------------------------------------------------------------------------


def test_a_run_with_other_settings_is_not_continued(train, small_network, tmp_path):
    train(tiny_run.card(training_number_of_steps=1), tmp_path)
    before = contents(tmp_path)
    other = tiny_run.card(training_number_of_steps=3, momentum=0.5)
    other = dataclasses.replace(other, data=dataclasses.replace(other.data, batch_size=2))
    with pytest.raises(FileExistsError) as error:
        train(other, tmp_path)
    first, *changes, last = str(error.value).splitlines()
    assert first == f"--train_logdir={tmp_path} holds a run with other settings:"
    assert changes == [
        "  data.batch_size: 4, now 2",
        "  train.training_number_of_steps: 1, now 3",
        "  train.momentum: 0.9, now 0.5",
    ]
    assert "another folder" in last
    assert contents(tmp_path) == before


def test_a_folder_with_foreign_files_is_not_touched(train, tmp_path):
    (tmp_path / "thesis.tex").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=f"--train_logdir={tmp_path} is not empty"):
        train(tiny_run.card(), tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("model", "train_config", "options", "message"),
    [
        ({}, {"label_weights": (1.0, 2.0)}, {}, "2 label_weights for 3 classes"),
        ({}, {}, {"train_split": "training"}, "no split 'training'; it has: train, val"),
        ({}, {}, {"val_split": "test"}, "no split 'test'"),
        ({"multi_grid": (1, 2, 4)}, {}, {}, "mobilenet_v2 has no multi_grid"),
    ],
)
def test_a_run_that_cannot_start_leaves_nothing(
    train, tmp_path, model, train_config, options, message
):
    """So the corrected command, which has another card, can use the same folder."""
    card = tiny_run.card(**train_config)
    card = dataclasses.replace(card, model=dataclasses.replace(card.model, **model))
    with pytest.raises(ValueError, match=message):
        train(card, tmp_path / "run", **options)
    assert os.listdir(tmp_path) == []


def test_missing_records_leave_nothing(small_network, tmp_path):
    tiny_run.INFO.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="train-"):
        training.train(
            tiny_run.card(),
            dataset_dir=str(tmp_path),
            train_split="train",
            val_split=None,
            logdir=str(tmp_path / "run"),
        )
    assert os.listdir(tmp_path) == ["dataset.json"]


def test_a_loss_that_is_not_finite_stops_the_run(train, small_network, tmp_path):
    card = tiny_run.card(training_number_of_steps=50, base_learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"loss of step \d+ is (nan|inf)") as error:
        train(card, tmp_path)
    assert "--base_learning_rate is 1e+30" in str(error.value)
    assert checkpoints(tmp_path) == []

"""Training learns, goes on exactly where it was stopped, and starts only where it may."""

import dataclasses
import importlib.util
import io
import math
import os
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from deeplab_tf import build_deeplab, weights
from deeplab_tf.backbones.nas_cells import DropPath
from deeplab_tf.config import DataConfig, InferenceConfig, TrainConfig
from deeplab_tf.layers import BatchNormalization
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import optimizers, validation
from deeplab_tf.training import run as training
from deeplab_tf.training.optimizers import (
    LossScale,
    MomentumOptimizer,
    build_optimizer,
    l2_loss,
    regularized_kernels,
)
from deeplab_tf.training.step import Objective, freeze_layers, set_batch_norm
from tests import tiny_run
from tests.test_losses import numpy_loss, numpy_losses

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
        x = BatchNormalization(name="conv.BatchNorm")(x)
        x = layers.Dropout(0.1)(layers.ReLU()(x))
        logits = layers.Conv2D(config.num_classes, 1, name="logits", dtype="float32")(x)
        return keras.Model(images, logits)

    monkeypatch.setattr(training, "build_deeplab", build)
    tiny_run.draw_no_plots(monkeypatch)


def interrupted_after(step_number):
    """A `train_step` whose step is followed by Ctrl-C when its work is done."""
    make_step = training.TrainStep

    def make_interrupted(*args, **settings):
        step, losses = make_step(*args, **settings), []

        def interrupted(batch, **options):
            losses.append(step(batch, **options))
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
        log_steps=20,
    )
    return scores, logdir


def test_learns_what_is_easy(learned):
    scores, _ = learned
    assert scores.mean_iou > 0.6  # 0.22 if all is wall


def test_the_curves_are_in_tensorboard(learned):
    pytest.importorskip("tensorboard")
    scores, logdir = learned
    found = curves(logdir)
    assert list(found["loss"]) == list(found["learning_rate"]) == [20, 40, 60]
    assert found["loss"][60] < 0.5 * math.log(3)
    expected = [0.1 * (1 - step / 60) ** 0.9 for step in (19, 39, 59)]
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


# --- What a step does -----------------------------------------------------------------------------


@pytest.fixture
def batch():
    """Images of few grey levels, and their labels."""
    images, labels = zip(*(tiny_run.scene(i) for i in range(2)), strict=True)
    crop = slice(40)
    return (
        np.stack([image[crop, crop] // 64 for image in images]),
        np.stack([label[crop, crop] for label in labels]),
    )


def linear_network():
    images = keras.Input((None, None, 3))
    return keras.Model(images, layers.Conv2D(3, 1, name="logits")(images))


def stepper(model, optimizer=None, **train):
    """A step of a network under a card, and its optimizer."""
    card = tiny_run.card(**train)
    optimizer = optimizer or MomentumOptimizer(0.0)
    optimizer.build(model.trainable_variables)
    return training.TrainStep(model, optimizer, card), optimizer


@pytest.mark.parametrize("last_layer_gradient_multiplier", [1.0, 10.0])
@pytest.mark.parametrize("label_weights", [(), (0.5, 2.0, 3.0)])
def test_a_step_equals_numpy(batch, label_weights, last_layer_gradient_multiplier):
    """Loss and new weights of a linear network: cross entropy of the valid pixels plus decay."""
    model, (images, labels) = linear_network(), batch
    kernel, bias = (variable.numpy().astype(np.float64) for variable in model.weights)
    step, _ = stepper(
        model,
        MomentumOptimizer(0.02),
        weight_decay=0.1,
        label_weights=label_weights,
        last_layer_gradient_multiplier=last_layer_gradient_multiplier,
    )
    loss = step([batch]).loss

    x, valid = images.astype(np.float64), labels != 255
    logits = x @ kernel[0, 0] + bias
    expected = numpy_loss(
        labels, logits, ignore_label=255, label_weights=label_weights or None
    ) + 0.05 * np.sum(kernel**2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    of_pixel = np.asarray(label_weights or (1.0,) * 3)[np.where(valid, labels, 0)] * valid
    errors = (probabilities - np.eye(3)[np.where(valid, labels, 0)]) * of_pixel[..., None]
    errors = errors[valid] / valid.sum()
    rate = 0.02 * last_layer_gradient_multiplier
    gradient = x[valid].T @ errors + 0.1 * kernel[0, 0]
    np.testing.assert_allclose(model.weights[0][0, 0], kernel[0, 0] - rate * gradient, atol=1e-5)
    gradient = 2 * errors.sum(axis=0)  # a bias
    np.testing.assert_allclose(model.weights[1], bias - rate * gradient, atol=1e-5)


def test_a_step_clips_the_multiplied_gradients(batch):
    """All together, to a length: that of the step at a rate of 1."""
    model, (images, labels) = linear_network(), batch
    before = [variable.numpy() for variable in model.weights]
    settings = {"weight_decay": 0.1, "last_layer_gradient_multiplier": 10.0}
    directions = []
    for norm in (0.0, 0.01):
        step, _ = stepper(model, MomentumOptimizer(1.0), clip_gradient_norm=norm, **settings)
        step([(images, labels)])
        changes = [new.numpy() - old for new, old in zip(model.weights, before, strict=True)]
        directions.append(np.concatenate([change.ravel() for change in changes]))
        for variable, value in zip(model.weights, before, strict=True):
            variable.assign(value)
    whole, clipped = directions
    assert np.linalg.norm(whole) > 1
    np.testing.assert_allclose(clipped, whole * 0.01 / np.linalg.norm(whole), atol=1e-6)


def test_adamw_decays_kernels_and_the_loss_has_no_decay_of_its_own(batch):
    """With pixels of void only, decay is all there is."""
    model, (images, labels) = linear_network(), batch
    card = tiny_run.card(
        optimizer="adamw", base_learning_rate=0.5, weight_decay=0.2, training_number_of_steps=4
    )
    optimizer = build_optimizer(
        card.train, model.trainable_variables, kernels=regularized_kernels(model)
    )
    kernel, bias = (variable.numpy() for variable in model.weights)
    bias += 1
    model.weights[1].assign(bias)
    step = training.TrainStep(model, optimizer, card)
    loss = step([(images, np.full_like(labels, 255))]).loss
    assert loss == 0
    np.testing.assert_allclose(model.weights[0], kernel * (1 - 0.5 * 0.2), rtol=1e-6)
    np.testing.assert_array_equal(model.weights[1], bias)


def test_every_setting_of_the_objective_reaches_the_loss(batch):
    model, (images, labels) = linear_network(), batch
    values = {
        float(Objective(model, MomentumOptimizer(0.0), tiny_run.card(**train))(images, labels))
        for train in (
            {},
            {"loss": "focal"},
            {"loss": "focal", "focal_gamma": 1.0},
            {"label_smoothing": 0.2},
            {"dice_weight": 0.5},
            {"lovasz_weight": 0.5},
            {"label_weights": (1.0, 2.0, 3.0)},
        )
    }
    assert len(values) == 7


def test_hard_pixel_mining_goes_by_the_step(batch):
    """From all pixels down to a quarter at the fourth step, in a step compiled once."""
    model, (images, labels) = linear_network(), batch
    step, _ = stepper(
        model, weight_decay=0.0, hard_example_mining_step=4, top_k_percent_pixels=0.25
    )
    losses = sorted(numpy_losses(labels, np.asarray(model(images)), ignore_label=255))[::-1]
    for share in (1, 0.8125, 0.625, 0.4375, 0.25, 0.25):
        hardest = losses[: int(share * labels.size)]
        np.testing.assert_allclose(step([batch]).loss, np.mean(hardest), rtol=1e-5)


@pytest.mark.parametrize("upsample_logits", [True, False])
@pytest.mark.parametrize("image_pyramid", [(), (0.5, 1.0)])
def test_a_pyramid_has_a_loss_for_each_scale(batch, upsample_logits, image_pyramid):
    """Resized by TF1: the logits to the labels' size or the labels to the logits'."""
    config = dataclasses.replace(
        tiny_run.MODEL, image_pyramid=image_pyramid, decoder_output_stride=()
    )
    model, (images, labels) = build_deeplab(config), batch
    model.get_layer("concat_projection.dropout").rate = 0
    names = [f"logits_{scale:.2f}" for scale in image_pyramid] + ["logits"]
    outputs = [model.get_layer(name).output for name in names]
    card = dataclasses.replace(tiny_run.card(upsample_logits=upsample_logits), model=config)
    loss = Objective(model, MomentumOptimizer(0.0), card)(images, labels)

    expected = l2_loss(regularized_kernels(model), card.train.weight_decay)
    resize, size = tf.compat.v1.image, labels.shape[1:3]
    for output in outputs:
        logits = keras.Model(model.input, output)(images.astype(np.float32), training=True)
        scaled = labels
        if upsample_logits:
            logits = resize.resize_bilinear(logits, size, align_corners=True)
        else:
            scaled = resize.resize_nearest_neighbor(
                labels[..., None], logits.shape[1:3], align_corners=True
            ).numpy()[..., 0]
        expected += numpy_loss(scaled, np.asarray(logits), ignore_label=255)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_drop_path_goes_by_the_step(batch):
    """No path is dropped at first, nearly all at last, in a step compiled once."""
    images = keras.Input((None, None, 3))
    x = DropPath(1e-6)(images)
    model = keras.Model(images, layers.Conv2D(3, 1, name="logits")(x))
    step, optimizer = stepper(model, weight_decay=0.0, training_number_of_steps=100)
    expected = numpy_loss(batch[1], np.asarray(model(batch[0])), ignore_label=255)
    np.testing.assert_allclose(step([batch]).loss, expected, rtol=1e-5)
    optimizer.iterations.assign(100)
    np.testing.assert_allclose(step([batch]).loss, np.log(3), rtol=1e-5)
    frozen, optimizer = stepper(
        model, weight_decay=0.0, training_number_of_steps=100, fine_tune_batch_norm=False
    )
    optimizer.iterations.assign(100)  # the reference drops no path where statistics are frozen
    np.testing.assert_allclose(frozen([batch]).loss, expected, rtol=0.1)


@pytest.mark.parametrize("fine_tune_batch_norm", [True, False])
def test_batch_norm_with_frozen_statistics(batch, fine_tune_batch_norm):
    """Its scale and offset learn either way."""
    images = keras.Input((None, None, 3))
    x = BatchNormalization(name="norm")(images)
    model = keras.Model(images, layers.Conv2D(3, 1, name="logits")(x))
    set_batch_norm(model, TrainConfig(fine_tune_batch_norm=fine_tune_batch_norm))
    before = [weight.numpy() for weight in model.get_layer("norm").weights]
    step, _ = stepper(model, MomentumOptimizer(0.1), weight_decay=0.0)
    statistics = not fine_tune_batch_norm
    expected = np.asarray(model(batch[0].astype(np.float32), training=True))
    if statistics:  # still those of a new layer
        expected = np.asarray(model(batch[0].astype(np.float32), training=False))
    loss = step([batch]).loss
    np.testing.assert_allclose(loss, numpy_loss(batch[1], expected, ignore_label=255), rtol=1e-5)
    gamma, beta, mean, variance = (
        np.array_equal(old, new)
        for old, new in zip(before, model.get_layer("norm").weights, strict=True)
    )
    assert (gamma, beta, mean, variance) == (False, False, statistics, statistics)


def test_batch_norm_that_is_frozen_altogether(batch):
    """Also where its layer is among the trained ones, and though other layers learn."""
    images = keras.Input((None, None, 3))
    x = BatchNormalization(name="logits.BatchNorm")(images)
    model = keras.Model(images, layers.Conv2D(3, 1, name="logits")(x))
    set_batch_norm(model, TrainConfig(freeze_batch_norm=True))
    freeze_layers(model, ("logits",))
    norm = model.get_layer("logits.BatchNorm")
    rng = np.random.default_rng(0)
    for weight in norm.weights:
        weight.assign(rng.uniform(1, 9, weight.shape))
    before = [weight.numpy() for weight in model.weights]
    expected = np.asarray(model(batch[0].astype(np.float32), training=False))
    step, _ = stepper(model, MomentumOptimizer(0.1), weight_decay=0.0)
    loss = step([batch]).loss
    np.testing.assert_allclose(loss, numpy_loss(batch[1], expected, ignore_label=255), rtol=1e-5)
    same = [np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True)]
    assert same == [True, True, True, True, False, False]


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
    norms = [BatchNormalization(momentum=momentum) for momentum in (0.997, 0.9997, 0.5)]
    model = keras.Sequential([layers.ReLU(), *norms])
    config = TrainConfig(training_number_of_steps=steps, batch_norm_decay=decay)
    set_batch_norm(model, config)
    assert [norm.momentum for norm in norms] == pytest.approx(expected)


# --- Starting from a checkpoint -------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A network and its checkpoint in the reference's format."""
    model = tiny_run.random_network()
    prefix = str(tmp_path_factory.mktemp("pretrained") / "model.ckpt")
    weights.save_tf1_checkpoint(model, prefix)
    return model, prefix


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, ("image_pooling", "aspp", "concat", "decoder", "logits")),
        ({"initialize_last_layer": False}, ()),
        (
            {"initialize_last_layer": False, "last_layers_contain_logits_only": True},
            ("image_pooling", "aspp", "concat", "decoder"),
        ),
    ],
)
def test_a_run_begins_with_an_initial_checkpoint(
    train, tmp_path, monkeypatch, capsys, pretrained, settings, kept
):
    """And says so; but it leaves out the last layers if it is told to."""
    model, prefix = pretrained
    monkeypatch.setattr(training, "TrainStep", tiny_run.NoStep)
    card = tiny_run.card(training_number_of_steps=1, **settings)
    train(card, tmp_path, initial_checkpoint=prefix)
    assert f"weights loaded from {prefix}" in capsys.readouterr().out
    after = stored(tmp_path, 1)
    for weight in model.weights:
        name = weight.path.replace("/", ".")
        value = after[f"model/{name.replace('.', '..')}/.ATTRIBUTES/VARIABLE_VALUE"]
        same = name.startswith(("MobilenetV2", *kept))
        assert np.array_equal(value, weight.numpy()) == same, name


def test_a_run_that_goes_on_leaves_the_initial_checkpoint_unread(
    train, small_network, tmp_path, capsys
):
    card = tiny_run.card(training_number_of_steps=1)
    train(card, tmp_path)
    train(card, tmp_path, initial_checkpoint="gone/model.ckpt")
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.startswith("Memory of a step")] == [
        f"Resuming from {tmp_path}/model.ckpt-1.",
        "The initial checkpoint gone/model.ckpt is for new runs: it is not read.",
    ]


def test_classes_of_an_initial_checkpoint_are_found_by_name(
    train, tmp_path, monkeypatch, pretrained
):
    model, prefix = pretrained
    monkeypatch.setattr(training, "TrainStep", tiny_run.NoStep)
    card = tiny_run.card(training_number_of_steps=1)
    train(
        card,
        tmp_path,
        initial_checkpoint=prefix,
        initial_class_names=("green", "wall", "sky"),
    )
    ours = stored(tmp_path, 1)["model/logits..semantic..kernel/.ATTRIBUTES/VARIABLE_VALUE"]
    theirs = model.get_layer("logits.semantic").kernel.numpy()
    np.testing.assert_array_equal(ours[..., 0], theirs[..., 1])  # walls
    np.testing.assert_array_equal(ours[..., 2], theirs[..., 0])  # the green


# --- Stopping and going on ------------------------------------------------------------------------


def test_a_stopped_run_goes_on_bit_for_bit(train, tmp_path, monkeypatch):
    """Weights, moving statistics, velocities, dropout's seeds: nothing tells the runs apart."""
    card = tiny_run.card(**FOUR_STEPS, hard_example_mining_step=4, top_k_percent_pixels=0.5)
    train(card, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(2))
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


def test_a_stopped_run_of_adam_goes_on_bit_for_bit(train, small_network, tmp_path, monkeypatch):
    card = tiny_run.card(training_number_of_steps=4, optimizer="adam", adam_learning_rate=0.01)
    train(card, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(2))
        with pytest.raises(KeyboardInterrupt):
            train(card, tmp_path / "stopped")
    train(card, tmp_path / "stopped")
    whole, resumed = stored(tmp_path / "whole", 4), stored(tmp_path / "stopped", 4)
    assert len([name for name in whole if "velocity" in name]) == 5
    assert [name for name in whole if not np.array_equal(whole[name], resumed[name])] == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"mixed_precision": "bfloat16"},
        {"mixed_precision": "float16"},
        {"mixed_precision": "float16", "gradient_accumulation_steps": 2, "optimizer": "adamw"},
    ],
)
def test_averages_and_the_scale_of_the_loss_go_on_bit_for_bit(
    train, small_network, tmp_path, monkeypatch, settings
):
    """The scale grows at every second step, so that the run stops between two."""
    growing = partial(LossScale, initial_scale=8.0, dynamic_growth_steps=2)
    monkeypatch.setattr(optimizers, "LossScale", growing)
    card = tiny_run.card(
        training_number_of_steps=5, base_learning_rate=0.05, ema_decay=0.9, **settings
    )
    train(card, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(3))
        with pytest.raises(KeyboardInterrupt):
            train(card, tmp_path / "stopped")
    assert checkpoints(tmp_path / "stopped") == ["model.ckpt-3.index"]
    halfway = stored(tmp_path / "stopped", 3)
    train(card, tmp_path / "stopped")
    whole, resumed = stored(tmp_path / "whole", 5), stored(tmp_path / "stopped", 5)
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not np.array_equal(whole[name], resumed[name])] == []
    averages = [name for name in whole if name.startswith("average/")]
    assert len(averages) == 5
    # They lag behind the weights, and moved on after the run was stopped.
    for name in averages:
        assert not np.array_equal(whole[name], whole[name.replace("average/", "model/")]), name
        assert not np.array_equal(whole[name], halfway[name]), name
    if settings.get("mixed_precision") == "float16":
        (scale,) = [name for name in whole if "dynamic_scale" in name]
        (counter,) = [name for name in whole if "step_counter" in name]
        assert (halfway[scale], halfway[counter]) == (16, 1)
        assert (whole[scale], whole[counter]) == (32, 1)


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


def test_images_are_resized_to_a_range_first(train, small_network, tmp_path, monkeypatch):
    """In training and, with its own settings, in validation."""
    shorter_sides = []

    def split_confusion(predict_labels, examples, **options):
        shorter_sides.append({min(example["label"].shape) for example in examples})
        return np.eye(3, dtype=np.int64)

    monkeypatch.setattr(validation, "split_confusion", split_confusion)
    kernels = []
    for size in (None, 24):
        card = tiny_run.card(training_number_of_steps=1)
        data = dataclasses.replace(card.data, min_resize_value=size)
        inference = InferenceConfig(min_resize_value=size, resize_factor=size)
        card = dataclasses.replace(card, data=data, inference=inference)
        train(card, tmp_path / str(size), val_split="val")
        after = stored(tmp_path / str(size), 1)
        kernels.append(after["model/conv..kernel/.ATTRIBUTES/VARIABLE_VALUE"])
    assert not np.array_equal(*kernels)
    assert min(shorter_sides[0]) >= 40
    assert shorter_sides[1] == {25}


def test_works_without_tensorboard(train, small_network, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name)
    )
    monkeypatch.setattr(tf.summary, "scalar", None)
    monkeypatch.setattr(tf.summary, "image", None)
    card = tiny_run.card(training_number_of_steps=10)
    scores = train(card, tmp_path, val_split="val", log_steps=5)
    assert 0 <= scores.mean_iou <= 1
    assert curves(tmp_path) == {}
    assert checkpoints(tmp_path) == ["model.ckpt-10.index"]


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (TrainConfig, {"training_number_of_steps": 0}, "training_number_of_steps is 0"),
        (TrainConfig, {"learning_rate_decay_step": 0}, "it must be above 0"),
        (TrainConfig, {"slow_start_step": -1}, "slow_start_step is -1; it cannot be negative"),
        (TrainConfig, {"optimizer": "sgd"}, "optimizer is 'sgd'; expected one of .*adam"),
        (TrainConfig, {"learning_policy": "exp"}, "learning_policy is 'exp'; expected .*poly"),
        (TrainConfig, {"learning_policy": "multi_steps"}, "multi_steps needs rising steps"),
        (
            TrainConfig,
            {
                "learning_policy": "multi_steps",
                "boundaries": (2, 1),
                "boundary_learning_rates": (0.1, 0.2, 0.3),
            },
            r"boundaries are \(2, 1\)",
        ),
        (TrainConfig, {"momentum": 1.0}, "momentum is 1.0"),
        (TrainConfig, {"ema_decay": 1.0}, "ema_decay is 1.0; expected 0 or more, below 1"),
        (TrainConfig, {"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        (TrainConfig, {"loss": "focal", "label_smoothing": 0.1}, "is of the cross entropy, but"),
        (TrainConfig, {"loss": "dice"}, "loss is 'dice'; expected one of .*focal"),
        (TrainConfig, {"focal_gamma": -1.0}, "focal_gamma is -1.0; it cannot be negative"),
        (TrainConfig, {"dice_weight": -1.0}, "dice_weight is -1.0; it cannot be negative"),
        (TrainConfig, {"clip_gradient_norm": -1.0}, "clip_gradient_norm is -1.0"),
        (TrainConfig, {"top_k_percent_pixels": 25.0}, "top_k_percent_pixels is 25.0; expected a"),
        (DataConfig, {"max_resize_value": 500}, "max_resize_value=500 and .* need min_resize"),
        (InferenceConfig, {"resize_factor": 16}, "resize_factor=16 need min_resize_value"),
        (InferenceConfig, {"min_resize_value": 0}, "min_resize_value is 0; expected 1 or more"),
        (InferenceConfig, {"eval_scales": ()}, r"eval_scales are \(\); expected one or more"),
        (InferenceConfig, {"eval_scales": (1.0, 0.0)}, "eval_scales are .* all above 0"),
    ],
)
def test_a_wrong_setting_is_an_error(config, changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


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
        ({"crop_size": (65, 65)}, {}, {}, r"built for images of \(65, 65\).*have \(33, 33\)"),
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
    assert "at the learning rate 9.8" in str(error.value)
    assert "lower --base_learning_rate" in str(error.value)
    assert checkpoints(tmp_path) == []

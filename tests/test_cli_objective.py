"""Flags of the objective: label weights by themselves, batch norm's warning, averaged weights."""

import json

import keras
import numpy as np
import pytest

from deeplab_tf import ModelConfig, TrainConfig
from deeplab_tf.cli.advice import batch_norm_warning
from deeplab_tf.data import class_weights
from deeplab_tf.model_card import ModelCard
from deeplab_tf.presets import PRESETS
from deeplab_tf.training import run as training
from deeplab_tf.training.ema import WeightAverage
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import training_checkpoint
from tests import tiny_run
from tests.test_cli import run, succeed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("objective")
    tiny_run.write_dataset(place / "data")
    return place


@pytest.fixture
def asked(place, monkeypatch):
    """A function that returns the card that train.py would train with some flags, and its run."""

    def train(*arguments, logdir="never"):
        cards = []
        monkeypatch.setattr(training, "train", lambda card, **options: cards.append(card))
        done = run(
            "train.py",
            f"--dataset_dir={place}/data",
            f"--train_logdir={place}/{logdir}",
            *arguments,
        )
        return (cards or [None])[0], done

    return train


def test_label_weights_are_found_in_the_training_split(asked, place):
    card, done = asked("--label_weights=auto")
    counts = class_weights.count_labels(place / "data", "train", info=tiny_run.INFO)
    expected = class_weights.median_frequency_weights(*counts)
    assert card.train.label_weights == expected
    assert expected[0] < 1 <= max(expected[1:])  # most of an image is wall
    rows = [line.split() for line in done.out.splitlines()]
    for name, weight in zip(tiny_run.INFO.class_names, expected, strict=True):
        assert [row[2] for row in rows if row[0] == name] == [f"{weight:g}"]


def test_a_run_that_goes_on_has_the_weights_of_its_card(asked, place, monkeypatch):
    card, _ = asked("--label_weights=auto")
    (place / "run").mkdir()
    card.save(place / "run")
    monkeypatch.setattr(class_weights, "count_labels", None)
    again, done = asked("--label_weights=auto", logdir="run")
    assert done.code == 0, done.err
    assert again == card == ModelCard.load(place / "run")
    assert f"those of the run in {place}/run" in done.out


def test_a_dry_run_counts_nothing(place, monkeypatch):
    monkeypatch.setattr(class_weights, "count_labels", None)
    printed = succeed(
        "train.py", f"--dataset_dir={place}/data", "--label_weights=auto", "--dry_run"
    )
    assert printed.endswith("--label_weights=auto: counted in train when the run starts.\n")


def test_auto_among_numbers_is_an_error(asked):
    card, done = asked("--label_weights=auto", "--label_weights=1")
    assert (card, done.code) == (None, 1)
    assert "--label_weights is auto, 1.0: expected auto alone" in done.err


def test_another_word_is_an_error(asked):
    card, done = asked("--label_weights=automatic")
    assert (card, done.code) == (None, 1)
    assert "expected a number or auto" in done.err


def test_labels_of_void_only_are_an_error(asked, monkeypatch):
    nothing = class_weights.LabelCounts(np.zeros(3, int), np.zeros(3, int))
    monkeypatch.setattr(class_weights, "count_labels", lambda *args, **options: nothing)
    card, done = asked("--label_weights=auto")
    assert (card, done.code) == (None, 1)
    assert "no pixel of train in" in done.err


def test_every_setting_of_the_optimisation_has_its_flag(asked):
    card, done = asked(
        "--optimizer=adamw",
        "--learning_policy=multi_steps",
        *("--boundaries=10", "--boundaries=20"),
        *(f"--boundary_learning_rates={rate}" for rate in (0.1, 0.01, 0.001)),
        "--slow_start_burnin_type=linear",
        "--clip_gradient_norm=5",
        "--ema_decay=0.999",
        "--freeze_batch_norm",
        "--loss=focal",
        "--focal_gamma=3",
        "--dice_weight=0.5",
        "--lovasz_weight=0.25",
    )
    assert done.code == 0, done.err
    assert card.train == TrainConfig(
        optimizer="adamw",
        learning_policy="multi_steps",
        boundaries=(10, 20),
        boundary_learning_rates=(0.1, 0.01, 0.001),
        slow_start_burnin_type="linear",
        clip_gradient_norm=5.0,
        ema_decay=0.999,
        freeze_batch_norm=True,
        loss="focal",
        focal_gamma=3.0,
        dice_weight=0.5,
        lovasz_weight=0.25,
    )
    assert asked("--label_smoothing=0.1", "--learning_policy=cosine")[0].train == TrainConfig(
        label_smoothing=0.1, learning_policy="cosine"
    )


# --- Batch norm -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "flags", "warned"),
    [
        (6, (), True),
        (1, ("--fine_tune_batch_norm=false",), False),
        (1, ("--freeze_batch_norm",), False),
    ],
)
def test_few_images_for_batch_norm_are_a_warning(asked, images, flags, warned):
    card, done = asked(f"--train_batch_size={images}", *flags)
    assert card is not None
    assert (f"Warning: batch norm takes its statistics from {images} images" in done.err) == warned
    assert ("64.43, 75.76, 76.49 and 77.21" in done.err) == warned
    assert "several times" not in done.err


def test_a_split_with_fewer_images_than_a_batch_is_a_warning(asked):
    """Of which a larger batch is no cure."""
    card, done = asked("--train_batch_size=16")
    assert card is not None
    assert "Warning: batch norm takes its statistics from 6 images at a time;" in done.err
    assert "and a batch of 16 holds some of them several times: take --fine_tune" in done.err
    assert "a larger --train_batch_size" not in done.err


@pytest.mark.parametrize(
    ("batch_size", "split_size", "warned"),
    [(11, 1000, True), (12, 1000, False), (16, 12, False), (16, 11, True), (8, 8, True)],
)
def test_twelve_images_are_enough_for_batch_norm(batch_size, split_size, warned):
    warning = batch_norm_warning(ModelConfig(), TrainConfig(), batch_size, split_size=split_size)
    assert (warning is not None) == warned
    if warning is not None:
        assert f"from {min(batch_size, split_size)} images at a time" in warning
        assert ("has no more" in warning) == (split_size < batch_size)


@pytest.mark.parametrize("name", PRESETS)
def test_networks_without_batch_norm_are_not_warned_of_it(name):
    model = PRESETS[name].model
    warning = batch_norm_warning(model, TrainConfig(), 2, split_size=1000)
    assert (warning is None) == ("vgg" in name)


def test_a_vgg_with_the_head_of_v3_has_batch_norm():
    assert batch_norm_warning(ModelConfig("vgg_16"), TrainConfig(), 2, split_size=9) is not None


# --- Averaged weights -----------------------------------------------------------------------------


def test_evaluation_takes_the_averages_of_a_run(place):
    """The weights beside them are those of a network that predicts one class."""
    scores = {}
    for name, ema_decay in (("plain", 0.0), ("averaged", 0.999)):
        model = tiny_run.random_network()
        average = WeightAverage(model.trainable_variables, ema_decay)
        if ema_decay:
            for weight in model.trainable_variables:
                weight.assign(keras.ops.zeros_like(weight))
        optimizer = MomentumOptimizer(0.1)
        optimizer.build(model.trainable_variables)
        checkpoint = training_checkpoint(model, optimizer, average.averages)
        checkpoint.save(str(place / name / "model.ckpt"))
        tiny_run.card(ema_decay=ema_decay).save(place / name)
        said = succeed("eval.py", f"--checkpoint_dir={place}/{name}", f"--dataset_dir={place}/data")
        assert ("averages over the steps (ema_decay 0.999)" in said) == bool(ema_decay)
        result = json.loads((place / name / "scores_val.json").read_text())
        scores[name] = {**result, "checkpoint": None}
    assert scores["averaged"] == scores["plain"]

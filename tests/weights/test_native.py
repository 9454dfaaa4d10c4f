"""Our checkpoints: they come back as they were, and never fit a network by accident."""

import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from deeplab_tf import build_deeplab
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import load_weights, training_checkpoint
from tests import tiny_run


def small_network(*, classes=3, extra=False, features=4):
    """Like a DeepLab, but of three layers; dotted names are the ones TensorFlow escapes."""
    x = images = keras.Input((None, None, 3))
    x = layers.Conv2D(features, 1, use_bias=False, name="block.unit_1..conv")(x)
    x = layers.BatchNormalization(name="block.unit_1..conv.BatchNorm")(x)
    if extra:
        x = layers.DepthwiseConv2D(3, name="decoder.conv_depthwise")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(classes, 1, name="logits")(x)
    return keras.Model(images, x, name="small")


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))


def write(model, folder, *, step=3):
    """Writes the checkpoint of a run after a step; returns its prefix."""
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(step)
    manager = tf.train.CheckpointManager(
        training_checkpoint(model, optimizer), folder, max_to_keep=3, checkpoint_name="model.ckpt"
    )
    return manager.save(checkpoint_number=step)


@pytest.fixture
def checkpoint(tmp_path):
    model = small_network()
    randomize(model, 0)
    return write(model, tmp_path / "run")


def test_every_weight_of_a_network_comes_back(tmp_path):
    model, other = build_deeplab(tiny_run.MODEL), build_deeplab(tiny_run.MODEL)
    randomize(model, 0)
    randomize(other, 1)
    load_weights(other, write(model, tmp_path))
    assert len(model.weights) > 100
    for weight, loaded in zip(model.weights, other.weights, strict=True):
        assert weight.path == loaded.path
        np.testing.assert_array_equal(loaded, weight)


def test_a_checkpoint_holds_all_that_training_changes(tmp_path):
    """The optimizer's state and dropout's seeds come back into a run that is set up anew."""

    def run():
        model, optimizer = small_network(), MomentumOptimizer(0.1)
        optimizer.build(model.trainable_variables)
        return model, optimizer, [*model.variables, *optimizer.variables]

    model, optimizer, variables = run()
    rng = np.random.default_rng(0)
    for variable in variables:
        variable.assign(rng.integers(0, 1000, variable.shape))
    prefix = training_checkpoint(model, optimizer).save(str(tmp_path / "checkpoint"))

    model, optimizer, restored = run()
    seeds = [variable for variable in model.variables if "seed" in variable.path]
    assert len(seeds) == 1
    training_checkpoint(model, optimizer).restore(prefix).assert_consumed()
    for variable, value in zip(restored, variables, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"extra": True},
            {
                "missing in the checkpoint": "decoder.conv_depthwise.bias, "
                "decoder.conv_depthwise.kernel",
                "not used by the network": "none",
                "of another shape": "none",
            },
        ),
        (
            {"classes": 5},
            {
                "missing in the checkpoint": "none",
                "not used by the network": "none",
                "of another shape": "logits.bias ([3] there, [5] here), "
                "logits.kernel ([1, 1, 4, 3] there, [1, 1, 4, 5] here)",
            },
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_an_error(checkpoint, options, expected):
    assert lists_of_refusal(small_network(**options), checkpoint) == expected


def test_weights_that_would_not_be_used_are_an_error(tmp_path):
    lists = lists_of_refusal(small_network(), write(small_network(extra=True), tmp_path))
    assert lists["not used by the network"] == (
        "decoder.conv_depthwise.bias, decoder.conv_depthwise.kernel"
    )


def test_long_lists_are_cut(tmp_path):
    """Of two different networks nearly everything is missing."""
    lists = lists_of_refusal(build_deeplab(tiny_run.MODEL), write(small_network(), tmp_path))
    names = lists["missing in the checkpoint"]
    assert re.fullmatch(r"MobilenetV2\.Conv\.[\w.]+(, [\w.]+){7} and \d{3} more", names)


def lists_of_refusal(model, checkpoint):
    """What the error of loading lists; nothing has been loaded."""
    before = model.get_weights()
    with pytest.raises(ValueError, match="is not of this network") as error:
        load_weights(model, checkpoint)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    first, *rest = str(error.value).splitlines()
    assert first.startswith(checkpoint)
    return dict(line.strip().split(": ", 1) for line in rest)


@pytest.mark.parametrize("damage", ["no data", "short data", "changed data", "short index"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(checkpoint, damage):
    data, index = f"{checkpoint}.data-00000-of-00001", f"{checkpoint}.index"
    if damage == "no data":
        os.remove(data)
    elif damage == "short data":
        os.truncate(data, 10)
    elif damage == "short index":
        os.truncate(index, 10)
    else:
        with open(data, "r+b") as file:
            file.write(b"\x55" * os.path.getsize(data))
    model = small_network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"^{re.escape(checkpoint)} is incomplete or damaged"):
        load_weights(model, checkpoint)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)

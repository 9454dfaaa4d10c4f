"""Features that are computed again give the step that kept features give, with less memory."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.layers import BatchNormalization
from deeplab_tf.training.rematerialize import Rematerialized
from tests import tiny_run

XCEPTION = ModelConfig.from_preset(
    "deeplabv3plus_xception41", num_classes=3, aspp_convs_filters=16, decoder_filters=16
)


def network_of(model):
    return keras.Model(model.input, {"logits": model.get_layer("logits").output})


def step(model, call, images, *, compiled):
    """Loss, gradients and moving statistics of one step, from the weights that the model has."""
    before = model.get_weights()

    def compute(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(call(images)["logits"]))
        return loss, tape.gradient(loss, model.trainable_variables)

    loss, gradients = (tf.function(compute) if compiled else compute)(images)
    statistics = [
        variable.numpy()
        for layer in model.layers
        if isinstance(layer, BatchNormalization)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]
    model.set_weights(before)
    return float(loss), [gradient.numpy() for gradient in gradients], statistics


@pytest.mark.parametrize(
    ("config", "compiled"),
    [(tiny_run.MODEL, True), (XCEPTION, False)],  # compiling the latter takes a quarter minute
    ids=["mobilenet", "xception"],
)
def test_a_step_is_the_same(config, compiled):
    model = build_deeplab(config)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    network = network_of(model)
    again = Rematerialized(network)
    assert len(again) > 8
    images = np.random.default_rng(0).integers(0, 256, (2, 33, 33, 3)).astype(np.float32)
    loss, gradients, statistics = step(
        model, lambda x: network(x, training=True), images, compiled=compiled
    )
    other_loss, other_gradients, other_statistics = step(model, again, images, compiled=compiled)
    assert other_loss == loss
    for value, expected in zip(other_statistics, statistics, strict=True):
        np.testing.assert_array_equal(value, expected)
    # Some gradients are 0 but for rounding: those of kernels in front of a batch norm's bias.
    largest = max(np.abs(expected).max() for expected in gradients)
    for value, expected in zip(other_gradients, gradients, strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-4 * largest)


def test_dropout_draws_once():
    """Drawn again in the backward pass, the gradient would be that of another mask."""
    images = keras.Input((4, 4, 2))
    x = images
    for index in range(12):
        x = keras.layers.Conv2D(2, 1, use_bias=False, name=f"conv_{index}")(x)
        if index == 6:
            x = keras.layers.Dropout(0.5)(x)
    network = keras.Model(images, {"logits": x})
    values = tf.ones((1, 4, 4, 2))
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(Rematerialized(network)(values)["logits"])
    # The network is linear, so the gradient times the input is the output.
    gradient = tape.gradient(total, values)
    np.testing.assert_allclose(tf.reduce_sum(gradient * values), total, rtol=1e-5)


def test_an_image_pyramid_is_refused():
    config = dataclasses.replace(tiny_run.MODEL, image_pyramid=(0.5, 1.0))
    with pytest.raises(ValueError, match="called several times"):
        Rematerialized(network_of(build_deeplab(config)))

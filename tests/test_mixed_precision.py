"""Features of 16 bits; everything else stays float32."""

import keras
import numpy as np
import pytest

from deeplab_tf.training import run as training
from deeplab_tf.training.optimizers import build_optimizer
from deeplab_tf.training.step import TrainStep
from tests import tiny_run


def make(precision, **train):
    card = tiny_run.card(
        training_number_of_steps=10, base_learning_rate=0.02, mixed_precision=precision, **train
    )
    keras.utils.set_random_seed(0)
    model = training._build(card, replicas=1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    optimizer = build_optimizer(card.train, model.trainable_variables)
    return model, optimizer, TrainStep(model, optimizer, card)


@pytest.fixture(scope="module")
def batch():
    scenes = [tiny_run.scene(0, index) for index in range(4)]
    images = np.stack([image[:33, :33] for image, _ in scenes])
    return images, np.stack([label[:33, :33] for _, label in scenes])


@pytest.fixture(scope="module")
def float32_losses(batch):
    _, _, step = make("none")
    return [float(step([batch]).loss) for _ in range(4)]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_losses_are_nearly_those_of_float32(batch, float32_losses, precision):
    model, _, step = make(precision)
    assert keras.config.dtype_policy().name == "float32", "the policy is the network's alone"
    convolution = model.get_layer("MobilenetV2.Conv")
    assert convolution.compute_dtype == precision
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.output.dtype == model.get_layer("logits").output.dtype == "float32"
    results = [step([batch]) for _ in range(4)]
    assert all(result.loss.dtype == "float32" for result in results)
    losses = [float(result.loss) for result in results]
    np.testing.assert_allclose(losses[0], float32_losses[0], rtol=0.02)
    np.testing.assert_allclose(losses, float32_losses, rtol=0.2)
    assert losses != float32_losses


def test_a_step_that_overflows_only_halves_the_scale(batch):
    model, optimizer, step = make("float16", momentum=0.0)
    optimizer.dynamic_scale.assign(2.0**100)
    before = [variable.numpy() for variable in model.trainable_variables]
    result = step([batch])
    assert np.isfinite(result.loss)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert float(optimizer.dynamic_scale) == 2.0**99
    assert int(optimizer.iterations) == 1, "data and schedule go on"
    optimizer.dynamic_scale.assign(2.0**10)
    step([batch])
    assert int(optimizer.iterations) == 2
    assert any(
        not np.array_equal(variable, value)
        for variable, value in zip(model.trainable_variables, before, strict=True)
    )


def test_norms_do_not_see_the_scale(batch):
    norms = []
    model, optimizer, step = make("float16")
    variables = [*model.weights, *optimizer.variables]
    before = [variable.numpy() for variable in variables]
    for scale in (2.0**3, 2.0**6):
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        optimizer.dynamic_scale.assign(scale)
        norms.append(np.linalg.norm(step([batch]).gradient_norms))
    np.testing.assert_allclose(norms[0], norms[1], rtol=0.1)

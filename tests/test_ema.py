"""The average of the weights: by hand, in checkpoints, and where it takes the weights' place."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from deeplab_tf.training.ema import WeightAverage
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import initialize_from_checkpoint, load_weights, training_checkpoint


def network():
    x = images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 1, use_bias=False, name="block.unit_1.conv")(x)
    x = layers.BatchNormalization(name="block.unit_1.conv.BatchNorm")(x)
    return keras.Model(images, layers.Conv2D(3, 1, name="logits.semantic")(x))


def randomize(variables, rng):
    for variable in variables:
        variable.assign(rng.normal(size=variable.shape))


def values(variables):
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9999])
@pytest.mark.parametrize("in_graph", [False, True])
def test_equals_the_sum_by_hand(decay, in_graph):
    """Whatever the weights were before the first step, such as those that a checkpoint replaced."""
    weight = keras.Variable(np.full((2, 3), 100.0, np.float32))
    average = WeightAverage([weight], decay)
    update = tf.function(average.update) if in_graph else average.update
    rng, expected = np.random.default_rng(0), None
    for step in range(30):
        weight.assign(rng.normal(size=(2, 3)))
        update(tf.constant(step + 1, tf.int64))
        kept = min(decay, step / (9 + step))
        new = weight.numpy().astype(np.float64)
        expected = new if step == 0 else kept * expected + (1 - kept) * new
        (found,) = average.averages.values()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(weight, new.astype(np.float32))


def test_without_decay_there_is_none():
    weight = keras.Variable([1.0, 2.0])
    average = WeightAverage([weight], 0.0)
    average.update(1)
    assert average.averages == {}
    with average.applied():
        np.testing.assert_array_equal(weight, [1, 2])


def test_it_takes_the_place_of_the_weights_for_a_while():
    """In a compiled function as well, and they come back even from an error."""
    model, rng = network(), np.random.default_rng(0)
    randomize(model.weights, rng)
    average = WeightAverage(model.trainable_variables, 0.9)
    randomize(average.averages.values(), rng)
    images = rng.normal(size=(1, 2, 2, 3)).astype(np.float32)
    predict = tf.function(lambda images: model(images, training=False))
    before, raw = values(model.weights), predict(images)
    other = network()
    for weight, own in zip(other.weights, model.weights, strict=True):
        weight.assign(average.averages.get(own.path, own))
    with pytest.raises(KeyboardInterrupt), average.applied():
        np.testing.assert_allclose(predict(images), other(images, training=False), rtol=1e-5)
        raise KeyboardInterrupt
    np.testing.assert_array_equal(predict(images), raw)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.fixture
def run(tmp_path):
    """Network, averages and checkpoint of a run that averages."""
    model, rng = network(), np.random.default_rng(1)
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(model.trainable_variables)
    average = WeightAverage(model.trainable_variables, 0.9)
    randomize([*model.weights, *average.averages.values()], rng)
    checkpoint = training_checkpoint(model, optimizer, average.averages)
    return model, average, checkpoint.save(str(tmp_path / "model.ckpt"))


def test_a_checkpoint_holds_both(run):
    """Weights and averages come back into a run that is set up anew."""
    model, average, prefix = run
    again = network()
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(again.trainable_variables)
    restored = WeightAverage(again.trainable_variables, 0.9)
    checkpoint = training_checkpoint(again, optimizer, restored.averages)
    checkpoint.restore(prefix).assert_consumed()
    assert list(restored.averages) == list(average.averages)
    pairs = [
        *zip(model.weights, again.weights, strict=True),
        *zip(average.averages.values(), restored.averages.values(), strict=True),
    ]
    assert len(pairs) == 7 + 5
    for stored, found in pairs:
        np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize("load", [load_weights, initialize_from_checkpoint])
def test_who_reads_a_checkpoint_gets_the_averages(run, load):
    """And the moving statistics, of which there are none."""
    model, average, prefix = run
    other = network()
    load(other, prefix)
    for weight, raw in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, average.averages.get(raw.path, raw))
    assert sum("moving" not in weight.path for weight in other.weights) == len(average.averages)


def test_the_report_of_an_initial_checkpoint_accounts_for_all(run):
    _, _, prefix = run
    report = initialize_from_checkpoint(network(), prefix)
    assert (len(report.loaded), report.missing, report.unused) == (7, [], [])
    assert sum(name.startswith("model/") for name in report.skipped) == 5
    assert not any(name.startswith("average/") for name in report.skipped)

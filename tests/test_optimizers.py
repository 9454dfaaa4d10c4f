"""Optimizers, learning rates, weight decay and gradient multipliers: as TF1 and the reference."""

import json
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, TrainConfig, build_deeplab
from deeplab_tf.training.optimizers import (
    MomentumOptimizer,
    SlowStart,
    build_optimizer,
    clip_by_global_norm,
    gradient_multiplier,
    l2_loss,
    learning_rate_schedule,
    regularized_kernels,
)
from deeplab_tf.weights import reference_name
from tests import golden_cases

FACTS = json.loads((golden_cases.FOLDER / "facts_train.json").read_text())
RATES = {case["case"]: case for case in FACTS["learning_rate"]}

STEPS = 5
MOMENTUM = 0.9


def schedule():
    """Ends at step 4 of 5, so that the last rate is the end's."""
    return learning_rate_schedule(
        TrainConfig(training_number_of_steps=4, base_learning_rate=0.3, end_learning_rate=0.01)
    )


def numpy_rates():
    progress = np.minimum(np.arange(STEPS) / 4, 1)
    return (0.3 - 0.01) * (1 - progress) ** 0.9 + 0.01


@pytest.fixture(scope="module")
def start():
    rng = np.random.default_rng(0)
    return [rng.normal(size=size).astype(np.float32) for size in (3, (2, 2))]


def toy_gradients(values, step):
    """Of a bowl whose centre moves from step to step."""
    return [2 * (value - np.float32(0.3 * step)) for value in values]


def trained_in_keras(start, optimizer):
    """With an optimizer, or what makes one for its variables."""
    variables = [keras.Variable(value) for value in start]
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = optimizer(variables)
    for step in range(STEPS):
        optimizer.apply(toy_gradients([v.numpy() for v in variables], step), variables)
    return [variable.numpy() for variable in variables]


def trained_in_numpy(start, rates):
    values = [value.astype(np.float64) for value in start]
    velocities = [np.zeros_like(value) for value in values]
    for step, rate in enumerate(rates):
        gradients = toy_gradients(values, step)
        velocities = [MOMENTUM * v + g for v, g in zip(velocities, gradients, strict=True)]
        values = [value - rate * v for value, v in zip(values, velocities, strict=True)]
    return values


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_momentum_under_the_schedule_equals_numpy(start):
    actual = trained_in_keras(start, MomentumOptimizer(schedule(), MOMENTUM))
    assert_close(actual, trained_in_numpy(start, numpy_rates()))


def test_momentum_under_the_schedule_equals_tf1(start):
    rate = tf.Variable(0.0)
    optimizer = tf.compat.v1.train.MomentumOptimizer(lambda: rate, MOMENTUM)
    expected = trained_in_tf1(start, optimizer, lambda step: rate.assign(numpy_rates()[step]))
    assert_close(trained_in_keras(start, MomentumOptimizer(schedule(), MOMENTUM)), expected)


@pytest.mark.parametrize("epsilon", [1e-8, 0.5])
def test_adam_equals_tf1(start, epsilon):
    """At a constant rate, whatever the schedule."""
    expected = trained_in_tf1(start, tf.compat.v1.train.AdamOptimizer(0.02, epsilon=epsilon))
    config = TrainConfig(
        optimizer="adam", adam_learning_rate=0.02, adam_epsilon=epsilon, base_learning_rate=7.0
    )
    assert_close(trained_in_keras(start, partial(build_optimizer, config)), expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_adamw_equals_its_paper(start, weight_decay):
    """Algorithm 2 of arXiv 1711.05101 under the poly schedule; the first variable has no decay.

    Epsilon is the "epsilon hat" of Adam's paper (section 2), as TF1's and Keras' is.
    """
    config = TrainConfig(
        optimizer="adamw",
        training_number_of_steps=4,
        base_learning_rate=0.3,
        end_learning_rate=0.01,
        weight_decay=weight_decay,
        adam_epsilon=0.01,
        adam_learning_rate=7.0,
    )

    def build(variables):
        return build_optimizer(config, variables, kernels=variables[1:])

    values = [value.astype(np.float64) for value in start]
    means, squares = ([np.zeros_like(value) for value in values] for _ in range(2))
    for t, rate in enumerate(numpy_rates(), start=1):
        for i, gradient in enumerate(toy_gradients(values, t - 1)):
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            mean, square = means[i] / (1 - 0.9**t), squares[i] / (1 - 0.999**t)
            direction = mean / (np.sqrt(square) + 0.01 / np.sqrt(1 - 0.999**t))
            decay = weight_decay if i == 1 else 0.0
            values[i] = values[i] - rate * (direction + decay * values[i])
    actual = trained_in_keras(start, build)
    for a, b in zip(actual, values, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_adamw_must_know_what_it_decays():
    with pytest.raises(ValueError, match="the kernels that it decays"):
        build_optimizer(TrainConfig(optimizer="adamw"), [keras.Variable([1.0])])


def trained_in_tf1(start, optimizer, before_step=lambda step: None):
    variables = [tf.Variable(value) for value in start]
    for step in range(STEPS):
        before_step(step)
        gradients = toy_gradients([v.numpy() for v in variables], step)
        optimizer.apply_gradients(
            (tf.constant(g), v) for g, v in zip(gradients, variables, strict=True)
        )
    return [variable.numpy() for variable in variables]


def test_keras_sgd_is_another_optimizer(start):
    """Alike at a constant rate, but a changing one stays inside its velocity."""
    ours = trained_in_keras(start, MomentumOptimizer(0.1, MOMENTUM))
    assert_close(ours, trained_in_keras(start, keras.optimizers.SGD(0.1, MOMENTUM)))
    ours = trained_in_keras(start, MomentumOptimizer(schedule(), MOMENTUM))
    sgd = trained_in_keras(start, keras.optimizers.SGD(schedule(), MOMENTUM))
    assert np.abs(ours[0] - sgd[0]).max() > 0.1


@pytest.mark.parametrize("rises_to", [None, 0.4])
def test_an_optimizer_comes_back_from_its_config(start, rises_to):
    rate = SlowStart(schedule(), 2, 0.2, rises_to=rises_to)
    config = keras.optimizers.serialize(MomentumOptimizer(rate, 0.5))
    copy = keras.optimizers.deserialize(json.loads(json.dumps(config)))
    expected = trained_in_keras(start, MomentumOptimizer(rate, 0.5))
    np.testing.assert_array_equal(trained_in_keras(start, copy)[1], expected[1])


# --- Learning rates -------------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize("case", RATES)
def test_learning_rates_equal_the_reference(case):
    """Up to 1.5e-7 of the first: its graph multiplied with 1 / steps, where we divide."""
    facts = RATES[case]
    args = {n: tuple(v) if isinstance(v, list) else v for n, v in facts["args"].items()}
    rates = learning_rate_schedule(TrainConfig(**args))
    actual = [float(rates(step)) for step in facts["steps"]]
    np.testing.assert_allclose(actual, facts["values"], rtol=2e-6, atol=1.05e-9)


@pytest.mark.parametrize("policy", ["poly", "cosine"])
@pytest.mark.parametrize("slow_start_step", [10, 12])
def test_a_slow_start_may_be_all_of_a_run(policy, slow_start_step):
    """As in a trial of a few steps with the flags of a long run."""
    config = TrainConfig(
        training_number_of_steps=10, learning_policy=policy, slow_start_step=slow_start_step
    )
    rates = learning_rate_schedule(config)
    np.testing.assert_allclose([float(rates(step)) for step in range(10)], 1e-4)


def test_linear_burn_in_and_several_rates():
    config = TrainConfig(
        training_number_of_steps=10,
        learning_policy="multi_steps",
        base_learning_rate=0.5,
        boundaries=(1, 3),
        boundary_learning_rates=(0.5, 0.2, 0.1),
        slow_start_step=2,
        slow_start_learning_rate=0.1,
        slow_start_burnin_type="linear",
    )
    rates = learning_rate_schedule(config)
    expected = [0.1, 0.3, 0.5, 0.5, 0.2, 0.2, 0.1, 0.1]
    np.testing.assert_allclose([float(rates(step)) for step in range(8)], expected, rtol=1e-6)


# --- Weight decay, clipping and multipliers -------------------------------------------------------


def test_l2_loss_is_half_the_sum_of_squares():
    kernels = [keras.Variable([[1.0, 2.0]]), keras.Variable([3.0])]
    np.testing.assert_allclose(l2_loss(kernels, 0.1), 0.05 * 14, rtol=1e-6)


def test_weight_decay_of_a_nas_encoder():
    """Of the encoder all kernels: slim's `separable_conv2d` hands its regulariser to both of its.

    Of the head all but the depthwise ones, as with every encoder.
    """
    config = ModelConfig(
        model_variant="nas_pnasnet",
        nas_stem_output_num_conv_filters=4,
        atrous_rates=(1,),
        aspp_convs_filters=8,
    )
    model = build_deeplab(config)
    names = [reference_name(weight) for weight in model.trainable_variables]
    expected = [
        name
        for name in names
        if name.endswith("weights")
        and (name.startswith("pnasnet") or not name.endswith("depthwise_weights"))
    ]
    assert len([name for name in expected if "depthwise_weights" in name]) == 12 * 6 * 2
    assert sorted(map(reference_name, regularized_kernels(model))) == sorted(expected)


@pytest.mark.parametrize("norm", [0.5, 12.9, 13.1, 1000.0])
def test_gradients_are_clipped_together(norm):
    """The length of (3, 4, 12) is 13."""
    gradients = [np.array([[3.0], [4.0]], np.float32), np.array([-12.0], np.float32)]
    clipped = clip_by_global_norm([tf.constant(gradient) for gradient in gradients], norm)
    expected, length = tf.clip_by_global_norm(gradients, norm)
    assert length == 13
    for a, b, whole in zip(clipped, expected, gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_allclose(a, whole * min(1, norm / 13), rtol=1e-6)
    if norm > 13:
        np.testing.assert_array_equal(clipped[0], gradients[0])


def test_gradients_of_zero_stay_zero():
    (clipped,) = clip_by_global_norm([tf.zeros(3)], 1.0)
    np.testing.assert_array_equal(clipped, np.zeros(3))


@pytest.mark.golden
@pytest.mark.parametrize("facts", FACTS["gradient_multipliers"])
def test_gradient_multipliers_equal_the_reference(facts):
    for name, expected in facts["head_vars"].items():
        assert multiplier(name, facts) == (1 if expected is None else expected), name
    for name in ("xception_65/entry_flow/conv1_1/weights", "MobilenetV2/Conv/BatchNorm/gamma"):
        assert multiplier(name, facts) == 1
    assert multiplier("MobilenetV3/expanded_conv/squeeze_excite/Conv/biases", facts) == 2


def multiplier(name, facts):
    return gradient_multiplier(
        name,
        last_layer_gradient_multiplier=facts["last_layer_gradient_multiplier"],
        last_layers_contain_logits_only=facts["last_layers_contain_logits_only"],
    )

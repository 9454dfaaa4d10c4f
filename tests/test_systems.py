"""DeepLabv1, v2 and cascaded v3: the papers' sizes, plain TensorFlow, and how they train."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.config import TrainConfig
from deeplab_tf.model_info import model_info
from deeplab_tf.training.optimizers import MomentumOptimizer, l2_loss, regularized_kernels
from deeplab_tf.training.step import Objective, TrainStep, set_batch_norm
from deeplab_tf.weights import reference_name
from tests import golden_cases, plain_networks, tiny_run
from tests.golden.rules import make_image
from tests.plain_networks import conv, conv_relu, resize, weights_of
from tests.test_losses import numpy_loss

LARGE_FOV = ModelConfig("vgg_16", output_stride=8, atrous_rates=(12,), fc_filters=1024)
VGG_4X4 = dataclasses.replace(LARGE_FOV, atrous_rates=(4,), fc_filters=4096, fc_kernel_size=4)
VGG_7X7 = dataclasses.replace(VGG_4X4, fc_kernel_size=7)
MSC = dataclasses.replace(LARGE_FOV, multi_scale_features=True)
ASPP_L = dataclasses.replace(LARGE_FOV, atrous_rates=(6, 12, 18, 24))
RESNET_ASPP = ModelConfig(
    "resnet_v1_101",
    output_stride=8,
    atrous_rates=(6, 12, 18, 24),
    aspp_with_batch_norm=False,
    logits_kernel_size=3,
)
CASCADE = ModelConfig("resnet_v1_50", cascade_blocks=3, aspp_with_batch_norm=False)


def small(config, **changes):
    """With few classes and few channels of fc6 and fc7."""
    fc_filters = 8 if config.fc_filters else 0
    return dataclasses.replace(config, num_classes=5, fc_filters=fc_filters, **changes)


def image_of(height, width):
    return make_image(0, height, width)[None].astype(np.float32)


def assert_computes(model, image, logits):
    """The network's output is these logits, upsampled."""
    expected = resize(logits, *image.shape[1:3]).numpy()
    assert expected.std() > 0
    ours = np.asarray(model(image, training=False))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * expected.std())


# --- Parameters -----------------------------------------------------------------------------------

# The two layers of each MSc branch, and what they add to the classifier's input (v1, section 4.3).
MSC_PARAMETERS = sum(9 * c * 128 + 128 + 128 * 128 + 128 for c in (3, 64, 128, 256, 512))
MSC_PARAMETERS += 5 * 128 * 21


@pytest.mark.parametrize(
    ("config", "trainable", "statistics"),
    [
        pytest.param(LARGE_FOV, 20_505_429, 0, id="large_fov"),
        pytest.param(VGG_4X4, 65_140_565, 0, id="4x4"),
        pytest.param(VGG_7X7, 134_346_581, 0, id="7x7", marks=pytest.mark.slow),
        pytest.param(MSC, 20_505_429 + MSC_PARAMETERS, 0, id="msc"),
        pytest.param(ASPP_L, 37_877_652, 0, id="vgg_aspp"),
        pytest.param(RESNET_ASPP, 42_500_160 + 1_548_372, 105_344, id="resnet_aspp"),
    ],
)
def test_parameters(config, trainable, statistics):
    """Counted from the papers; v1's Table 2 has 20.5M, 65.1M and 134.3M for the first three."""
    info = model_info(config, (33, 33))
    assert info.trainable_parameters == trainable
    assert info.parameters == trainable + statistics


# --- DeepLabv1 and v2's VGG-16 --------------------------------------------------------------------


def vgg_features(weights, image):
    """At output stride 8: the last two poolings do not stride, conv5 has rate 2."""
    return plain_networks.vgg_16(image, weights, strides=(2, 2, 2, 1, 1), rates=(1, 1, 1, 1, 2))


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        pytest.param(LARGE_FOV, 12, id="large_fov"),
        pytest.param(VGG_4X4, 4, id="4x4"),
        pytest.param(VGG_4X4, 8, id="4x4_rate_8"),
        pytest.param(VGG_7X7, 4, id="7x7"),
    ],
)
def test_v1_equals_its_operations(config, rate):
    """The 97x145 image has 13x19 features, so that fc6 sees beyond its centre."""
    model = build_deeplab(small(config, atrous_rates=(rate,)))
    golden_cases.set_case_weights(model)
    weights, image = weights_of(model), image_of(97, 145)
    x = conv_relu(vgg_features(weights, image)[-1], weights, "fc6", rate=rate)
    x = conv_relu(x, weights, "fc7")
    assert_computes(model, image, conv(x, weights, "logits/semantic"))


def test_multi_scale_features_equal_their_operations():
    model = build_deeplab(small(MSC, atrous_rates=(2,)))
    golden_cases.set_case_weights(model)
    weights, image = weights_of(model), image_of(33, 49)
    *details, x = vgg_features(weights, image)
    features = [conv_relu(conv_relu(x, weights, "fc6", rate=2), weights, "fc7")]
    for i, (x, stride) in enumerate(zip(details, (8, 4, 2, 1, 1), strict=True)):
        x = conv_relu(x, weights, f"msc/pool{i}/conv1", stride=stride)
        features.append(conv_relu(x, weights, f"msc/pool{i}/conv2"))
    assert [x.shape for x in features] == [(1, 5, 7, channels) for channels in (8, *[128] * 5)]
    assert_computes(model, image, conv(tf.concat(features, -1), weights, "logits/semantic"))


def test_v2_vgg_is_a_sum_of_branches():
    rates = (1, 2, 3, 5)
    model = build_deeplab(small(ASPP_L, atrous_rates=rates))
    golden_cases.set_case_weights(model)
    weights, image = weights_of(model), image_of(33, 49)
    x, logits = vgg_features(weights, image)[-1], 0
    for rate, suffix in zip(rates, ("", "_1", "_2", "_3"), strict=True):
        fc6 = conv_relu(x, weights, f"fc6{suffix}", rate=rate)
        fc7 = conv_relu(fc6, weights, f"fc7{suffix}")
        logits += conv(fc7, weights, f"logits/semantic{suffix}")
    assert_computes(model, image, logits)


# --- DeepLabv2's ResNet ---------------------------------------------------------------------------


def test_v2_resnet_is_the_maximum_of_scales_of_sums():
    """At output stride 8: block3 has rate 2, block4 rate 4; each scale goes through all of it."""
    config = small(RESNET_ASPP, model_variant="resnet_v1_50", atrous_rates=(1, 2, 3, 5))
    model = build_deeplab(dataclasses.replace(config, image_pyramid=(0.5, 0.75, 1.0)))
    golden_cases.set_case_weights(model)
    weights, image = weights_of(model), image_of(65, 97)
    pyramid = []
    for height, width in ((33, 49), (49, 73), (65, 97)):
        x = plain_networks.resnet(
            resize(image, height, width),
            weights,
            "resnet_v1_50",
            strides=(2, 1, 1, 1),
            rates=((1,) * 3, (1,) * 4, (2,) * 6, (4,) * 3),
        )
        scores = [
            conv(x, weights, f"logits/semantic{suffix}", rate=rate)
            for rate, suffix in zip((1, 2, 3, 5), ("", "_1", "_2", "_3"), strict=True)
        ]
        pyramid.append(resize(tf.add_n(scores), 9, 13))
    wins = np.argmax(pyramid, axis=0)
    assert np.bincount(wins.ravel(), minlength=3).min() > 10  # or the maximum would not be seen
    assert_computes(model, image, tf.reduce_max(pyramid, axis=0))


# --- DeepLabv3's cascade --------------------------------------------------------------------------


@pytest.mark.parametrize("multi_grid", [(1, 2, 1), (1, 2, 4)])
def test_the_cascade_equals_its_operations(multi_grid):
    """Figure 3 b of the paper: rates 2, 4, 8, 16 behind an output stride of 16."""
    model = build_deeplab(small(CASCADE, multi_grid=multi_grid))
    golden_cases.set_case_weights(model)
    weights, image = weights_of(model), image_of(129, 193)
    x = plain_networks.resnet(
        image,
        weights,
        "resnet_v1_50",
        strides=(2, 2, 1, 1, 1, 1, 1),
        rates=(
            *((1,) * units for units in (3, 4, 6)),
            *([rate * grid for grid in multi_grid] for rate in (2, 4, 8, 16)),
        ),
    )
    assert x.shape == (1, 9, 13, 2048)
    assert_computes(model, image, conv(x, weights, "logits/semantic"))


# --- Training -------------------------------------------------------------------------------------


def card(config, **train):
    return dataclasses.replace(
        tiny_run.card(**train), model=dataclasses.replace(config, num_classes=3)
    )


def without_dropout(config):
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def batch_of(height, width):
    """Images, and labels with void and with borders between the positions of the logits."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 255], (2, height, width)).astype(np.uint8)
    return np.stack([make_image(seed, height, width) for seed in (0, 1)]), labels


def test_the_loss_takes_every_eighth_label():
    """v1's and v2's loss, on a crop of theirs: 321 pixels are 41 logits."""
    config = small(RESNET_ASPP, model_variant="resnet_v1_18_beta", logits_kernel_size=1)
    of_run = card(config, upsample_logits=False)
    model = without_dropout(of_run.model)
    set_batch_norm(model, TrainConfig(fine_tune_batch_norm=False))
    images, labels = batch_of(321, 321)
    logits = keras.Model(model.input, model.get_layer("logits").output)
    logits = np.asarray(logits(images.astype(np.float32), training=False))
    assert logits.shape == (2, 41, 41, 3)
    expected = numpy_loss(labels[:, ::8, ::8], logits, ignore_label=255)
    expected += l2_loss(regularized_kernels(model), of_run.train.weight_decay)
    loss = Objective(model, MomentumOptimizer(0.0), of_run)(images, labels)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(small(MSC), id="v1"),
        pytest.param(small(ASPP_L, atrous_rates=(1, 2)), id="v2_vgg"),
        pytest.param(small(RESNET_ASPP, model_variant="resnet_v1_18_beta"), id="v2_resnet"),
    ],
)
def test_only_the_classifier_learns_ten_times_as_fast(config):
    """And its biases, as all, twice that; fc6 and fc7 begin with ImageNet's weights."""
    of_run = card(config, last_layer_gradient_multiplier=10.0, last_layers_contain_logits_only=True)
    model = without_dropout(of_run.model)
    optimizer = MomentumOptimizer(0.001)
    optimizer.build(model.trainable_variables)
    images, labels = batch_of(33, 33)
    loss = Objective(model, optimizer, of_run)
    with tf.GradientTape() as tape:
        value = loss(images, labels)
    gradients = tape.gradient(value, model.trainable_variables)
    TrainStep(model, optimizer, of_run)([(images, labels)])
    for variable, gradient, applied in zip(
        model.trainable_variables, gradients, optimizer.velocities, strict=True
    ):
        name = reference_name(variable)
        factor = 10 if name.startswith("logits/semantic") else 1
        factor *= 2 if name.endswith("/biases") else 1
        scale = np.abs(gradient).max()
        assert scale > 0, name
        np.testing.assert_allclose(applied, factor * gradient, atol=1e-3 * scale, err_msg=name)


def test_v2_trains_with_frozen_batch_norm():
    """Every scale of the pyramid sees the stored statistics, and leaves them as they are."""
    config = small(RESNET_ASPP, model_variant="resnet_v1_18_beta", image_pyramid=(0.5, 1.0))
    of_run = card(config, fine_tune_batch_norm=False)
    model = build_deeplab(of_run.model)
    golden_cases.set_case_weights(model)
    set_batch_norm(model, of_run.train)
    before = weights_of(model)
    image = image_of(33, 33)
    training, inference = (np.asarray(model(image, training=flag)) for flag in (True, False))
    np.testing.assert_allclose(training, inference, rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(before[name], value) for name, value in weights_of(model).items())

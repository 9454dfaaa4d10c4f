"""A network without its batch norms is the same function."""

import keras
import numpy as np
import pytest
from keras import layers

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.export import fold_batch_norm
from deeplab_tf.inference import predict
from deeplab_tf.layers import BatchNormalization

NARROW = {"num_classes": 5, "aspp_convs_filters": 16, "decoder_filters": 16, "atrous_rates": (1, 2)}
DECODER = {**NARROW, "decoder_output_stride": (4,)}
MOBILE = {**DECODER, "depth_multiplier": 0.25}
NETWORKS = {
    **{name: {"model_variant": name, **DECODER} for name in BACKBONES},
    **{name: {"model_variant": name, **MOBILE} for name in BACKBONES if "mobilenet" in name},
    "nas_hnasnet": {"model_variant": "nas_hnasnet", **DECODER, "output_stride": 8},
    "vgg_16": {"model_variant": "vgg_16", "fc_filters": 16, "atrous_rates": (2, 4)},
    "bounded": {"model_variant": "xception_41", **DECODER, "use_bounded_activation": True},
    "pyramid": {**MOBILE, "image_pyramid": (0.5, 1.0)},
    "pyramid without the image": {**MOBILE, "image_pyramid": (0.5, 0.75)},
    "linear decoder": {**MOBILE, "decoder_output_is_logits": True, "decoder_filters": 5},
}
# The same code as others, more often.
SLOW = {"resnet_v1_101", "resnet_v1_101_beta", "xception_65"}
IMAGES = np.random.default_rng(1).uniform(0, 255, (2, 49, 65, 3)).astype(np.float32)


@pytest.fixture
def float64():
    """What is the same function but for rounding is equal then."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NETWORKS],
)
def test_is_the_same_function(network):
    model = build_deeplab(ModelConfig(**NETWORKS[network]))
    randomize_batch_norms(model, IMAGES)
    names = [layer.name for layer in model.layers]

    folded = fold_batch_norm(model)

    expected = np.asarray(model(IMAGES, training=False))
    assert expected.std() > 0
    error = np.abs(np.asarray(folded(IMAGES, training=False)) - expected).max()
    assert error < 1e-6 * expected.std()  # logits are float32
    assert [layer.name for layer in model.layers] == names
    kept = {layer.name for layer in folded.layers}
    assert kept == {name for name in names if not is_batch_norm(model, name)}
    assert folded.name == model.name
    assert folded.input.name == model.input.name


def test_in_float32_and_through_predict():
    model = build_deeplab(ModelConfig(**MOBILE))
    randomize_batch_norms(model, IMAGES)
    options = {"output_stride": 16, "mean_pixel": (127.5,) * 3, "scales": (0.5, 1.0), "flip": True}
    expected = predict(model, IMAGES, **options)
    result = predict(fold_batch_norm(model), IMAGES, **options)
    np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=1e-4)


def test_a_folded_network_has_nothing_more_to_fold():
    folded = fold_batch_norm(build_deeplab(ModelConfig(**MOBILE)))
    again = fold_batch_norm(folded)
    for first, second in zip(folded.weights, again.weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_layers_have_their_dtypes():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_deeplab(ModelConfig(**MOBILE))
    finally:
        keras.config.set_dtype_policy("float32")
    for layer in fold_batch_norm(model).layers[1:]:  # without the input
        assert layer.dtype_policy == model.get_layer(layer.name).dtype_policy


# --- Networks of a few layers ---------------------------------------------------------------------

CONVOLUTIONS = {
    "plain": lambda: layers.Conv2D(6, 3),
    "plain with a bias": lambda: layers.Conv2D(6, 3, bias_initializer="normal"),
    "of groups": lambda: layers.Conv2D(6, 3, groups=2, padding="same"),
    "depthwise": lambda: layers.DepthwiseConv2D(3, use_bias=False),
    "depthwise, more channels": lambda: layers.DepthwiseConv2D(3, depth_multiplier=3),
    "separable": lambda: layers.SeparableConv2D(6, 3, depth_multiplier=2, use_bias=False),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_convolutions(convolution, options):
    images = keras.Input((None, None, 4))
    model = keras.Model(
        images, layers.BatchNormalization(**options)(CONVOLUTIONS[convolution]()(images))
    )
    assert_same_function(model, batch_norms=0)


def conv(name, **options):
    return layers.Conv2D(4, 3, padding="same", name=name, **options)


def activated(x):
    return layers.BatchNormalization(name="bn")(conv("conv", activation="relu")(x))


def used_elsewhere(x):
    y = conv("conv")(x)
    return layers.Add()([layers.BatchNormalization(name="bn")(y), y])


def an_output_itself(x):
    y = conv("conv")(x)
    return {"normalized": layers.BatchNormalization(name="bn")(y), "raw": y}


def normalized_in_one_of_two_calls(x):
    shared = conv("conv")
    return layers.Add()([layers.BatchNormalization(name="bn")(shared(x)), shared(2 * x)])


def batch_norm_of_two(x):
    shared = layers.BatchNormalization(name="bn")
    return [shared(conv("conv")(x)), shared(conv("other")(x))]


def pooled_in_between(x):
    return layers.BatchNormalization(name="bn")(layers.MaxPooling2D(3)(conv("conv")(x)))


def first(x):
    return conv("conv")(layers.BatchNormalization(name="bn")(x))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "network",
    [
        activated,
        used_elsewhere,
        an_output_itself,
        normalized_in_one_of_two_calls,
        batch_norm_of_two,
        pooled_in_between,
        first,
    ],
)
def test_what_cannot_be_folded_stays(network):
    images = keras.Input((None, None, 4))
    assert_same_function(keras.Model(images, network(images)), batch_norms=1)


@pytest.mark.usefixtures("float64")
def test_two_in_a_row():
    images = keras.Input((None, None, 4))
    x = layers.BatchNormalization()(layers.BatchNormalization()(conv("conv")(images)))
    assert_same_function(keras.Model(images, x), batch_norms=1)


@pytest.mark.usefixtures("float64")
def test_calls_that_a_model_has_no_part_in_do_not_count():
    images = keras.Input((None, None, 4))
    y = conv("conv")(images)
    layers.ReLU()(y)  # of another model, perhaps
    assert_same_function(keras.Model(images, layers.BatchNormalization()(y)), batch_norms=0)


def assert_same_function(model, *, batch_norms):
    images = np.random.default_rng(2).normal(size=(2, 9, 11, 4))
    randomize_batch_norms(model, images)
    folded = fold_batch_norm(model)
    kept = [layer for layer in folded.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(kept) == batch_norms
    expected = keras.tree.flatten(model(images, training=False))
    results = keras.tree.flatten(folded(images, training=False))
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-10, atol=1e-10)
    assert keras.tree.map_structure(lambda _: 0, folded.output) == keras.tree.map_structure(
        lambda _: 0, model.output
    )


def randomize_batch_norms(model, images):
    """Statistics somewhere near those of the images, so that values neither vanish nor explode."""
    rng = np.random.default_rng(0)
    batch_norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
    for layer in batch_norms:
        layer.momentum = 0
        for name, values in (("gamma", rng.uniform(0.5, 1.5)), ("beta", rng.normal(0, 0.5))):
            if (variable := getattr(layer, name)) is not None:
                variable.assign(values + rng.uniform(-0.3, 0.3, variable.shape))
    model(images, training=True)
    for layer in batch_norms:
        variance = np.asarray(layer.moving_variance)
        shift = np.sqrt(variance) * rng.normal(0, 0.3, variance.shape)
        layer.moving_mean.assign(np.asarray(layer.moving_mean) + shift)
        layer.moving_variance.assign(variance * rng.uniform(0.5, 1.5, variance.shape) + 1e-3)


def is_batch_norm(model, name):
    return isinstance(model.get_layer(name), BatchNormalization)

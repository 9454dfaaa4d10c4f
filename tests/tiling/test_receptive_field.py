"""Receptive fields against the gradient of a network that lets no pixel's influence cancel out."""

import dataclasses
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.tiling import receptive_field
from deeplab_tf.tiling.plan import tile_axis
from tests import tiny_run

DOC = Path(__file__).parents[2] / "docs/prediction.md"
V1 = ModelConfig(
    "vgg_16",
    num_classes=2,
    output_stride=8,
    atrous_rates=(2,),
    fc_filters=8,
    multi_scale_features=True,
)
EVEN_KERNEL = dataclasses.replace(V1, fc_kernel_size=4, multi_scale_features=False)
NO_POOLING = dataclasses.replace(tiny_run.MODEL, add_image_level_feature=False)
CONFIGS = {
    "v3plus": NO_POOLING,
    "v3plus_output_stride_8": NO_POOLING.at_output_stride(8),
    "v1_msc": V1,
    "v1_even_kernel": EVEN_KERNEL,
    "v2_resnet18_pyramid": ModelConfig(
        "resnet_v1_18",
        num_classes=2,
        output_stride=8,
        atrous_rates=(2,),
        aspp_with_batch_norm=False,
        logits_kernel_size=3,
        image_pyramid=(0.5, 0.75, 1.0),
        merge_method="avg",
    ),
    "resnet18_beta": ModelConfig(
        "resnet_v1_18_beta", num_classes=2, add_image_level_feature=False, aspp_convs_filters=8
    ),
    "nas_pnasnet": ModelConfig(
        "nas_pnasnet",
        num_classes=2,
        nas_stem_output_num_conv_filters=2,
        add_image_level_feature=False,
        aspp_convs_filters=8,
    ),
}
SLOW = ("nas_pnasnet", "v2_resnet18_pyramid")


def without_cancellation(model):
    """The network with every weight 1, means for maxima, and no activations: all paths add up."""
    layers = keras.layers

    def positive(layer):
        config = layer.get_config()
        if isinstance(layer, layers.Activation):
            return layers.Activation("linear", name=layer.name)
        if isinstance(layer, layers.MaxPooling2D):
            return layers.AveragePooling2D.from_config(config)
        if isinstance(layer, layers.Conv2D) and "activation" in config:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    native = keras.Model(model.input, model.get_layer("logits").output)
    copy = keras.models.clone_model(native, clone_function=positive)
    for variable in copy.weights:  # small enough not to overflow in a deep network
        variable.assign(tf.ones(variable.shape) / np.prod(variable.shape[:-1]) ** 0.5)
    return copy


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CONFIGS],
)
def test_equals_the_pixels_that_have_a_gradient(name):
    model = build_deeplab(CONFIGS[name])
    field = receptive_field(model)
    assert field.height == field.width and not field.image_level
    unit, stride = field.unit, field.width.stride
    pixels = -(-2 * field.width.size // unit) * unit + 1
    images = tf.ones((1, unit + 1, pixels, 3))
    linear = without_cancellation(model)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        logits = linear(images)
        middle = logits.shape[2] // 2
        # Some columns, because a resize reaches farther or less far from each.
        columns = {i: tf.reduce_sum(logits[:, :, i]) for i in range(middle, middle + 4)}
    excess = []
    for i, column in columns.items():
        seen = np.flatnonzero(np.abs(tape.gradient(column, images)).sum(axis=(0, 1, 3)))
        first, last = i * stride + field.width.first, i * stride + field.width.last
        assert first > 0 and last < pixels - 1
        excess.append((seen[0] - first, last - seen[-1]))
    closest = np.min(excess, axis=0)
    # A pyramid's widest scale has its resizes' fractions, which no pixel lies on.
    assert (closest == 0).all() if "pyramid" not in name else (closest >= 0).all()
    assert (closest < unit).all()


@pytest.mark.parametrize("size", [(3, 5), (5, 3)])
def test_axes_have_fields_of_their_own(size):
    images = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(1, size, dilation_rate=2, padding="same", name="logits")(images)
    field = receptive_field(keras.Model(images, x))
    sides = {3: 5, 5: 9}
    assert (field.height.size, field.width.size) == (sides[size[0]], sides[size[1]])


def test_means_over_the_image_are_named_and_not_counted():
    plain, pooled = (
        receptive_field(build_deeplab(config)) for config in (NO_POOLING, tiny_run.MODEL)
    )
    assert plain.width == pooled.width
    assert (plain.image_level, pooled.image_level) == ((), ("image_pooling.mean",))
    windows = dataclasses.replace(tiny_run.MODEL, image_pooling_crop_size=(33, 33))
    assert receptive_field(build_deeplab(windows)).windows == ("image_pooling.mean",)
    gated = receptive_field(build_deeplab(ModelConfig("mobilenet_v3_small_seg", num_classes=2)))
    assert len(gated.image_level) == 10
    assert gated.image_level[-1] == "image_pooling.mean"


@pytest.mark.slow
def test_documented_sizes():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|$", DOC.read_text(), re.MULTILINE)
    assert len(rows) == 9
    for name, size, tile in rows:
        field = receptive_field(build_deeplab(ModelConfig.from_preset(name)))
        assert field.height.size == int(size), name
        options = {"overlap": None, "field": field.height, "unit": field.unit}
        assert tile_axis(size=int(tile), **options).size == int(tile)
        with pytest.raises(ValueError, match=f"at least {tile}"):
            tile_axis(size=int(tile) - 1, **options)


def test_an_unknown_layer_is_an_error():
    images = keras.Input((None, None, 3))
    x = keras.layers.UpSampling2D(2, name="logits")(images)
    with pytest.raises(ValueError, match="logits is a UpSampling2D"):
        receptive_field(keras.Model(images, x))

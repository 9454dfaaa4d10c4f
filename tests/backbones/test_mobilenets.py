"""The MobileNets: against the reference's records, Keras's own networks, and themselves."""

import keras
import numpy as np
import pytest

from deeplab_tf import ModelConfig
from deeplab_tf.backbones.base import make_divisible
from tests.backbones.encoders import (
    assert_atrous_consistency,
    assert_equals_the_reference,
    assert_low_level_features,
    build_encoder,
)
from tests.golden.rules import make_image
from tests.golden_cases import end_point, set_case_weights

EDGETPU_END_POINTS = {
    "4": ["layer_6/expansion_output"],
    "8": ["layer_10/expansion_output"],
    "16": ["layer_18/depthwise_output"],
}


@pytest.mark.golden
@pytest.mark.parametrize(
    "case",
    [
        "mobilenet_v2_dm035_os16",
        "mobilenet_v2_dm05_os8",
        "mobilenet_v2_os16_float_div4",
        "mobilenet_v2_os32",
        "mobilenet_v3_large_seg_dm075_os32",
        "mobilenet_v3_large_seg_plain_os16",
        "mobilenet_v3_small_seg_os16",
        "mobilenet_edgetpu_os16",
        "mobilenet_edgetpu_os32",
    ],
)
def test_equals_the_reference(case):
    assert_equals_the_reference(case)


@pytest.mark.parametrize(
    ("variant", "multiplier", "divisible_by", "application", "last_layer", "end"),
    [
        ("mobilenet_v2", 0.35, 8, "MobileNetV2", "block_16_project_BN", "layer_18"),
        ("mobilenet_v2", 1.4, 8, "MobileNetV2", "block_16_project_BN", "layer_18"),
        # Further down, the networks for segmentation have fewer channels than those of ImageNet.
        ("mobilenet_v3_large_seg", 0.75, None, "MobileNetV3Large", "expanded_conv_11_add", None),
        ("mobilenet_v3_small_seg", 0.75, None, "MobileNetV3Small", "expanded_conv_7_add", None),
    ],
)
def test_other_widths_equal_keras_applications(
    variant, multiplier, divisible_by, application, last_layer, end
):
    config = ModelConfig(
        variant, output_stride=32, depth_multiplier=multiplier, divisible_by=divisible_by
    )
    model, _ = build_encoder(config)
    set_case_weights(model)
    end = end or f"layer_{int(last_layer.split('_')[2]) + 2}"
    ours = keras.Model(model.input, end_point(model, end))
    options = {} if application == "MobileNetV2" else {"include_preprocessing": False}
    theirs = getattr(keras.applications, application)(
        (65, 97, 3), alpha=multiplier, include_top=False, weights=None, **options
    )
    theirs = keras.Model(theirs.input, theirs.get_layer(last_layer).output)
    theirs.set_weights(ours.get_weights())

    image = make_image(0, 65, 97)[None].astype(np.float32)
    expected = np.asarray(theirs(image / 127.5 - 1, training=False))
    value = np.asarray(ours(image, training=False))
    # Keras gates with 1 / 6 where the reference has 0.16667.
    np.testing.assert_allclose(value, expected, rtol=0, atol=3e-4 * expected.std())


def test_low_level_features_of_edgetpu():
    """The reference has no decoder for it; these follow the rule of the others."""
    encoder = build_encoder(ModelConfig("mobilenet_edgetpu", depth_multiplier=0.25))
    assert_low_level_features(*encoder, EDGETPU_END_POINTS)


@pytest.mark.parametrize(
    ("variant", "output_strides"),
    [
        ("mobilenet_v3_large_seg", (8, 16, 32)),
        ("mobilenet_v3_small_seg", (8, 16)),  # without its last stride it has one shortcut more
        ("mobilenet_edgetpu", (8, 16, 32)),
    ],
)
def test_atrous_consistency(variant, output_strides):
    assert_atrous_consistency(ModelConfig(variant, depth_multiplier=0.25), output_strides)


@pytest.mark.parametrize(
    ("value", "divisor", "minimum", "expected"),
    [
        (11.2, 1, 1, 11),
        (84.0, 8, None, 88),  # the middle rounds up
        (12.0, 8, None, 16),
        (33.0, 8, None, 32),
        (27.0, 24, None, 48),  # 24 would lose more than a tenth
        (1.6, 8, 1, 9),  # below the minimum, and then a tenth too low
        (5.6, 8, 8, 8),
    ],
)
def test_make_divisible(value, divisor, minimum, expected):
    assert make_divisible(value, divisor, minimum) == expected

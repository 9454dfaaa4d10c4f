"""The ResNets: against the reference's records and facts, and against themselves."""

import json

import numpy as np
import pytest

from deeplab_tf import ModelConfig
from deeplab_tf.backbones import get_backbone, resnet_v1
from deeplab_tf.weights import reference_name
from tests import golden_cases
from tests.backbones.encoders import (
    DECODER_END_POINTS,
    assert_atrous_consistency,
    assert_equals_the_reference,
    assert_low_level_features,
    build_encoder,
)

FACTS = json.loads((golden_cases.FOLDER / "facts_preprocess.json").read_text())


@pytest.mark.golden
@pytest.mark.parametrize(
    "case",
    [
        "resnet_v1_18_os16",
        "resnet_v1_50_os16",
        "resnet_v1_50_beta_os8",
        "resnet_v1_101_os8_nonsep_v3",
        "resnet_v1_101_beta_os16",
    ],
)
def test_equals_the_reference(case):
    assert_equals_the_reference(case)


def test_beta_stem_of_resnet_18_is_a_quarter_as_wide():
    """`root_depth_multiplier=0.25` of the reference's `resnet_v1_18_beta`; the rest is alike."""
    facts, _ = golden_cases.load_case("resnet_v1_18_os16")
    expected = {
        name: shape for name, shape in facts["variables"] if name.startswith("resnet_v1_18/block")
    }
    first_unit = "block1/unit_1/lite_bottleneck_v1"
    expected[f"resnet_v1_18/{first_unit}/conv1/weights"] = [3, 3, 32, 64]
    for scope, kernel in {
        "conv1_1": [3, 3, 3, 16],
        "conv1_2": [3, 3, 16, 16],
        "conv1_3": [3, 3, 16, 32],
        f"{first_unit}/shortcut": [1, 1, 32, 64],
    }.items():
        expected[f"resnet_v1_18/{scope}/weights"] = kernel
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            expected[f"resnet_v1_18/{scope}/BatchNorm/{name}"] = kernel[-1:]

    model, features = build_encoder(ModelConfig("resnet_v1_18_beta"))
    assert {reference_name(w): list(w.shape) for w in model.weights} == expected
    assert_low_level_features(model, features, DECODER_END_POINTS["resnet_v1_18_beta"])


def test_atrous_consistency():
    assert_atrous_consistency(ModelConfig("resnet_v1_18_beta", multi_grid=(1, 2)))


def test_multi_grid_multiplies_the_rates_of_the_last_block():
    """Both convolutions of a ResNet-18 unit dilate (the reference's `lite_bottleneck`)."""
    model, _ = build_encoder(ModelConfig("resnet_v1_18", output_stride=8, multi_grid=(1, 2)))
    layers = [layer for layer in model.layers if getattr(layer, "kernel_size", None) == (3, 3)]
    blocks_1_2, block_3, block_4 = [1] * 8, [2] * 4, [4, 4, 8, 8]
    assert [layer.dilation_rate[0] for layer in layers] == blocks_1_2 + block_3 + block_4


def test_multi_grid_of_another_length():
    message = r"multi_grid is \(1, 2, 4\); resnet_v1_18 has 2 units in its last block"
    with pytest.raises(ValueError, match=message):
        build_encoder(ModelConfig("resnet_v1_18_beta", multi_grid=(1, 2, 4)))


@pytest.mark.parametrize("variant", resnet_v1.VARIANTS)
def test_preprocessing(variant):
    backbone = get_backbone(variant)
    mean = np.float32([123.15, 115.90, 103.06])
    if FACTS["preprocess_fn"][variant] == "_preprocess_subtract_imagenet_mean":
        expected = np.float32([0, 127, 255]) - mean
    else:
        expected = np.float32([0, 127, 255]) * 2 / 255 - 1
    pixels = np.float32([[[[0, 127, 255]]], [[backbone.mean_pixel]]])
    normalized = np.asarray(backbone.normalize(pixels))
    np.testing.assert_allclose(normalized[0, 0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(normalized[1, 0, 0], 0, atol=1e-5)
    if variant != "resnet_v1_18":  # where the reference pads with what does not become 0
        assert list(backbone.mean_pixel) == FACTS["mean_pixel"][variant]

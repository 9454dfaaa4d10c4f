"""Xception: against the reference's records, and against itself."""

import pytest
from keras.layers import DepthwiseConv2D

from deeplab_tf import ModelConfig
from tests.backbones.encoders import (
    assert_atrous_consistency,
    assert_equals_the_reference,
    build_encoder,
)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        pytest.param("xception_41_os16", 1e-4, marks=pytest.mark.slow),
        ("xception_65_os8", 1e-4),
        # Bounds amplify rounding: float32 is off by 1e-4 from our own float64.
        ("xception_65_os16_bounded", 5e-4),
        ("xception_71_os16", 1e-4),
    ],
)
def test_equals_the_reference(case, tolerance):
    assert_equals_the_reference(case, tolerance)


def test_atrous_consistency():
    assert_atrous_consistency(ModelConfig("xception_41", use_bounded_activation=True))


def test_multi_grid_multiplies_the_rates_of_the_last_unit():
    model, _ = build_encoder(ModelConfig("xception_41", output_stride=8, multi_grid=(1, 2, 4)))
    depthwise = [layer for layer in model.layers if isinstance(layer, DepthwiseConv2D)]
    entry, middle, exit_flow = [1] * 9, [2] * 24, [2, 2, 2, 4, 8, 16]
    assert [layer.dilation_rate[0] for layer in depthwise] == entry + middle + exit_flow


def test_multi_grid_of_another_length():
    message = r"multi_grid is \(1, 2\); xception_41's last unit has 3 convolutions"
    with pytest.raises(ValueError, match=message):
        build_encoder(ModelConfig("xception_41", multi_grid=(1, 2)))

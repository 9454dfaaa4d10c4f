"""Configs: presets, strides and contradictions."""

import dataclasses

import pytest

from deeplab_tf import DataConfig, ModelConfig, TrainConfig


def test_output_stride_rescales_the_rates():
    config = ModelConfig.from_preset("deeplabv3plus_xception65")
    assert config.at_output_stride(8).atrous_rates == (12, 24, 36)
    assert config.at_output_stride(32).atrous_rates == (3, 6, 9)
    assert config.at_output_stride(8).at_output_stride(16) == config


def test_preset_with_another_output_stride():
    config = ModelConfig.from_preset("deeplabv3plus_xception65", num_classes=19, output_stride=8)
    assert (config.num_classes, config.atrous_rates) == (19, (12, 24, 36))


def test_given_rates_are_taken_literally():
    config = ModelConfig.from_preset(
        "deeplabv3plus_xception65", output_stride=8, atrous_rates=(1, 2)
    )
    assert config.atrous_rates == (1, 2)


def test_rates_that_do_not_divide():
    with pytest.raises(ValueError, match="no whole numbers at 32"):
        ModelConfig(atrous_rates=(3,)).at_output_stride(32)


def test_unknown_preset_names_those_there_are():
    with pytest.raises(ValueError, match=r"no preset 'unet'.*deeplabv3plus_xception65"):
        ModelConfig.from_preset("unet")


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (ModelConfig(), {"output_stride": 12}, "output_stride is 12"),
        (ModelConfig(), {"num_classes": 0}, "num_classes is 0"),
        (ModelConfig(), {"atrous_rates": (6, 0)}, "each must be 1 or more"),
        (ModelConfig(), {"decoder_output_stride": (4, 8)}, "descending"),
        (ModelConfig(), {"decoder_output_stride": (16,)}, "below output_stride=16"),
        (DataConfig(), {"batch_size": 0}, "train_batch_size is 0"),
        (DataConfig(), {"min_scale_factor": 3.0}, "in this order"),
        (DataConfig(), {"scale_factor_step_size": -1.0}, "cannot be negative"),
        (TrainConfig(), {"training_number_of_steps": 0}, "training_number_of_steps is 0"),
        (TrainConfig(), {"base_learning_rate": 0.0}, "must be above 0"),
        (TrainConfig(), {"batch_norm_decay": 1.0}, "between 0 and 1"),
    ],
)
def test_contradictions_are_errors(config, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)

"""Configs: presets, strides and contradictions."""

import dataclasses

import pytest

from deeplab_tf import DataConfig, ModelConfig, TrainConfig
from deeplab_tf.config import AugmentationConfig, CellBranch

CELL = ModelConfig(dense_prediction_cell_config=(CellBranch("conv", -1),))


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
        (ModelConfig(output_stride=8), {"decoder_output_stride": (16,)}, "not above output_stride"),
        (ModelConfig(), {"depth_multiplier": 0.0}, "depth_multiplier is 0"),
        (ModelConfig(), {"divisible_by": 0}, "divisible_by is 0"),
        (ModelConfig(), {"logits_kernel_size": 3}, "is for DeepLabv2's head"),
        (ModelConfig(), {"image_pyramid": (0.5, 0.0)}, "scales must be above 0"),
        (ModelConfig(), {"merge_method": "sum"}, "expected max or avg"),
        (ModelConfig(), {"decoder_output_is_logits": True}, "needs a decoder"),
        (ModelConfig(decoder_output_stride=(4,)), {"decoder_output_is_logits": True}, "256"),
        (ModelConfig(), {"dense_prediction_cell_config": (CellBranch("conv", 0),)}, "input 0"),
        (CELL, {"output_stride": 32}, "needs 16 or 8"),
        (CELL, {"aspp_with_batch_norm": False}, "leave aspp_with_batch_norm"),
        (CellBranch("conv", -1), {"op": "pool"}, "op 'pool'"),
        (CellBranch("conv", -1), {"kernel": (2, 3)}, "odd kernel"),
        (DataConfig(), {"batch_size": 0}, "train_batch_size is 0"),
        (DataConfig(), {"min_scale_factor": 3.0}, "in this order"),
        (DataConfig(), {"scale_factor_step_size": -1.0}, "cannot be negative"),
        (
            AugmentationConfig(),
            {"brightness_jitter": -0.1},
            "brightness_jitter is -0.1; expected 0 or",
        ),
        (AugmentationConfig(), {"contrast_jitter": float("inf")}, "contrast_jitter is inf"),
        (AugmentationConfig(), {"hue_jitter": 0.6}, "hue_jitter is 0.6; expected 0 to 0.5"),
        (AugmentationConfig(), {"max_rotation_degrees": 181.0}, "expected 0 to 180"),
        (AugmentationConfig(), {"blur_probability": 1.1}, "expected 0 to 1"),
        (
            AugmentationConfig(),
            {"class_balanced_crops": float("nan")},
            "class_balanced_crops is nan",
        ),
        (AugmentationConfig(), {"blur_min_sigma": 0.0}, "must be positive and in this order"),
        (AugmentationConfig(), {"blur_max_sigma": 0.05}, "must be positive and in this order"),
        (TrainConfig(), {"training_number_of_steps": 0}, "training_number_of_steps is 0"),
        (TrainConfig(), {"base_learning_rate": 0.0}, "must be above 0"),
        (TrainConfig(), {"batch_norm_decay": 1.0}, "between 0 and 1"),
    ],
)
def test_contradictions_are_errors(config, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)


def test_reference_options_of_another_encoder_do_nothing():
    options = {
        "model_variant": "mobilenet_v2",
        "multi_grid": [1, 2, 4],
        "nas_architecture_options": {"nas_stem_output_num_conv_filters": 8},
        "label_weights": [1.0, 2.0],
        "batch_norm_decay": 0.9,
        "decoder_output_stride": [4],
        "atrous_rates": None,
    }
    config = ModelConfig.from_reference_options(options)
    assert config == ModelConfig(decoder_output_stride=(4,))
    options |= {"model_variant": "xception_41", "depth_multiplier": 0.5, "divisible_by": 4}
    config = ModelConfig.from_reference_options(options, image_pyramid=[0.5, 1.0])
    assert config == ModelConfig(
        "xception_41",
        multi_grid=(1, 2, 4),
        decoder_output_stride=(4,),
        image_pyramid=(0.5, 1.0),
    )


def test_reference_options_of_a_dense_prediction_cell():
    """As the reference leaves them after building: with what it adds to pyramid pooling."""
    conv = {"op": "conv", "kernel": 3, "rate": [1, 6], "input": -1}
    pooling = {"op": "pyramid_pooling", "grid_size": [2, 4], "input": 0}
    added = {"kernel": [5, 5], "target_size": [9, 9]}
    for cell in ([conv, pooling], [conv, {**pooling, **added}]):
        config = ModelConfig.from_reference_options({"dense_prediction_cell_config": cell})
        assert config.dense_prediction_cell_config == (
            CellBranch("conv", -1, kernel=(3, 3), rate=(1, 6)),
            CellBranch("pyramid_pooling", 0, grid_size=(2, 4)),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atrous_rate": [6]}, "ModelOptions has no .'atrous_rate'."),
        ({"outputs_to_num_classes": {"semantic": 21, "depth": 1}}, "only the output semantic"),
        ({"preprocessed_images_dtype": "float16"}, "is float16"),
        ({"model_variant": "vgg_19"}, "no model_variant 'vgg_19'"),
        ({"dense_prediction_cell_config": [{"op": "conv"}]}, "expected op and input"),
    ],
)
def test_reference_options_that_no_network_is_built_from(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_reference_options(options)

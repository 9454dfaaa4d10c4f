"""The networks against recorded outputs of the reference, and against themselves."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from deeplab_tf import ModelConfig, build_deeplab, predict_probabilities
from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import CellBranch
from deeplab_tf.inference import predict
from deeplab_tf.presets import PRESETS
from deeplab_tf.weights import reference_name
from tests import golden_cases

CASES = sorted(
    path.stem
    for family in ("mobilenet", "nas", "resnet", "xception")
    for path in golden_cases.FOLDER.glob(f"{family}_*.json")
)
# One for each way to build a network; the others come with `make golden`.
FAST = {
    "mobilenet_edgetpu_os16",
    "mobilenet_v2_aspp_decoder_pyramid_max",
    "mobilenet_v2_aspp_se_sigmoid",
    "mobilenet_v2_decoder_summerge_sep",
    "mobilenet_v2_dm035_os16",
    "mobilenet_v2_os16_downsampled_pred",
    "mobilenet_v2_os16_float_div4",
    "mobilenet_v2_os16_multiscale_flip",
    "mobilenet_v2_os16_pyramid_small_avg",
    "mobilenet_v2_os8_100x150",
    "mobilenet_v3_large_seg_dm075_os32",
    "mobilenet_v3_small_seg_os16",
    "nas_hnasnet_os8",
    "resnet_v1_18_os16",
    "resnet_v1_50_beta_os8",
    "xception_41_deeplabv2_noaspbn",
    "xception_41_os16_decoder2",
    "xception_65_os16_bounded",
    "xception_71_dpc_os8",
}
TINY = ModelConfig(
    depth_multiplier=0.25,
    num_classes=5,
    atrous_rates=(1, 2),
    aspp_convs_filters=16,
    decoder_output_stride=(4,),
    decoder_filters=16,
)


FULLY_CONNECTED = {
    "model_variant": "vgg_16",
    "depth_multiplier": 1.0,
    "decoder_output_stride": (),
    "atrous_rates": (12,),
    "fc_filters": 8,
}
HNASNET = {"model_variant": "nas_hnasnet", "depth_multiplier": 1.0, "output_stride": 8}


@pytest.mark.golden
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES]
)
def test_equals_the_reference(case, record_golden_error):
    facts, arrays = golden_cases.load_case(case)
    model = build_deeplab(golden_cases.case_config(facts))
    ours = {reference_name(w): list(w.shape) for w in model.weights}
    assert ours == {name: shape for name, shape in facts["variables"]}
    golden_cases.set_case_weights(model)

    image = golden_cases.case_image(facts)
    if facts["mode"] == "multiscale":
        scales, flip = facts["extra"]["eval_scales"], facts["extra"]["add_flipped_images"]
        outputs = {"avg_prob": predict_probabilities(model, image, scales=scales, flip=flip)}
        labels = ops.argmax(outputs["avg_prob"], axis=-1)
    else:
        names = {"logits": "logits"} | {n: n for n in arrays if n.startswith("logits_")}
        layers = {name: model.get_layer(name).output for name in names}
        outputs = keras.Model(model.input, layers)(image, training=False)
        labels = _labels(model, facts, image)

    assert set(outputs) <= set(arrays)
    error = max(
        np.abs(np.asarray(value) - arrays[name]).max() / arrays[name].std()
        for name, value in outputs.items()
    )
    agreement = (np.asarray(labels) == arrays["prediction"]).mean()
    record_golden_error(case, error, agreement)
    assert error < 1e-4, golden_cases.first_difference(model, facts)
    assert agreement > 0.999


def _labels(model, facts, image):
    """At the image's size, which is k * output_stride + 1 or meets no padding otherwise."""
    upsampled = facts["model_options"]["prediction_with_upsampled_logits"]
    if upsampled:
        return ops.argmax(model(image, training=False), axis=-1)
    return predict(
        model, image, output_stride=16, mean_pixel=(127.5,) * 3, upsampled_logits=False
    ).labels


def test_a_difference_is_found_where_it_begins():
    facts, _ = golden_cases.load_case("mobilenet_v2_dm035_os16")
    model = build_deeplab(golden_cases.case_config(facts))
    golden_cases.set_case_weights(model)
    assert golden_cases.first_difference(model, facts) == "all 72 end points are equal"
    gamma = model.get_layer("MobilenetV2.expanded_conv_7.expand.BatchNorm").gamma
    gamma.assign(gamma * 1.1)
    message = golden_cases.first_difference(model, facts)
    assert "part at backbone_end_point:layer_9 " in message


def test_the_parity_table_has_every_case():
    text = (golden_cases.FOLDER.parents[1] / "docs/parity.md").read_text()
    assert [case for case in CASES if f"| {case} |" not in text] == []


@pytest.mark.parametrize("variant", ["mobilenet_v2", "resnet_v1_50", "xception_41"])
def test_atrous_consistency(variant):
    """The same weights give the same features at every output stride, where the grids meet."""
    image = np.random.default_rng(0).uniform(-1, 1, (1, 65, 97, 3)).astype(np.float32)
    features = {}
    weights = None
    for output_stride in (32, 16, 8):
        model = _encoder(variant, output_stride)
        if weights is None:
            weights = _random_weights(model)
        model.set_weights(weights)
        features[output_stride] = np.asarray(model(image, training=False))
    scale = features[32].std()
    assert scale > 0
    np.testing.assert_allclose(features[16][:, ::2, ::2], features[32], atol=1e-4 * scale)
    np.testing.assert_allclose(features[8][:, ::2, ::2], features[16], atol=1e-4 * scale)


def test_atrous_consistency_of_the_whole_network():
    """Rates scaled by `at_output_stride` keep every ASPP branch's field of view."""
    config = dataclasses.replace(
        TINY, atrous_rates=(2, 4), decoder_output_stride=(), add_image_level_feature=False
    )
    image = np.random.default_rng(0).uniform(0, 255, (1, 97, 65, 3)).astype(np.float32)
    coarse, fine = build_deeplab(config), build_deeplab(config.at_output_stride(8))
    coarse.set_weights(_random_weights(coarse))
    fine.set_weights(coarse.get_weights())
    logits = [
        np.asarray(keras.Model(m.input, m.get_layer("logits").output)(image, training=False))
        for m in (coarse, fine)
    ]
    np.testing.assert_allclose(logits[1][:, ::2, ::2], logits[0], atol=1e-4 * logits[0].std())


def test_flipped_image_gives_flipped_logits():
    """With symmetric kernels; sizes k * output_stride + 1 make the grid symmetric too."""
    model = build_deeplab(TINY)
    model.set_weights([w + w[:, ::-1] if w.ndim == 4 else w for w in _random_weights(model)])
    image = np.random.default_rng(0).uniform(0, 255, (1, 65, 97, 3)).astype(np.float32)
    logits = np.asarray(model(image, training=False))
    flipped = np.asarray(model(image[:, :, ::-1], training=False))
    np.testing.assert_allclose(flipped[:, :, ::-1], logits, atol=1e-3 * logits.std())


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_published_number_of_parameters(name):
    assert build_deeplab(PRESETS[name].model).count_params() == PRESETS[name].parameters


# What must be so for a field to matter, and another value of it.
CELL = (CellBranch("conv", -1, (3, 3)), CellBranch("pyramid_pooling", 0, grid_size=(2, 2)))
CHANGES = {
    "input_channels": ({}, 4),
    "model_variant": ({"depth_multiplier": 1.0}, "resnet_v1_50"),
    "num_classes": ({}, 7),
    "output_stride": ({}, 8),
    "crop_size": ({}, (33, 49)),
    "atrous_rates": ({}, (3, 4)),
    "multi_grid": ({"model_variant": "resnet_v1_50", "depth_multiplier": 1.0}, (1, 2, 4)),
    "cascade_blocks": ({"model_variant": "resnet_v1_50", "depth_multiplier": 1.0}, 2),
    "depth_multiplier": ({}, 0.35),
    "divisible_by": ({}, 8),
    "use_bounded_activation": ({}, True),
    "nas_stem_output_num_conv_filters": (HNASNET, 8),
    "nas_use_classification_head": (HNASNET, True),
    "nas_remove_os32_stride": (HNASNET, True),
    "drop_path_keep_prob": (HNASNET, 0.9),
    "add_image_level_feature": ({}, False),
    "image_pooling_crop_size": ({}, (33, 33)),
    "image_pooling_stride": ({"image_pooling_crop_size": (33, 33)}, (4, 5)),
    "aspp_with_batch_norm": ({}, False),
    "aspp_with_separable_conv": ({}, False),
    "aspp_convs_filters": ({}, 24),
    "aspp_with_concat_projection": ({}, False),
    "aspp_with_squeeze_and_excitation": ({}, True),
    "image_se_uses_qsigmoid": ({"aspp_with_squeeze_and_excitation": True}, True),
    "dense_prediction_cell_config": ({"crop_size": (65, 65)}, CELL),
    "decoder_output_stride": ({}, (8, 4)),
    "decoder_use_separable_conv": ({}, False),
    "decoder_filters": ({}, 24),
    "decoder_use_sum_merge": ({}, True),
    "decoder_output_is_logits": ({"num_classes": 16}, True),
    "logits_kernel_size": ({"aspp_with_batch_norm": False}, 3),
    "fc_filters": ({"decoder_output_stride": ()}, 16),
    "fc_kernel_size": (FULLY_CONNECTED, 4),
    "multi_scale_features": (FULLY_CONNECTED, True),
    "image_pyramid": ({}, (0.5, 1.0)),
    "merge_method": ({"image_pyramid": (0.5, 1.0)}, "avg"),
}
# Read where labels are chosen, not in the network: tests/test_evaluation.py.
OUTSIDE = {"prediction_with_upsampled_logits"}


def test_every_config_field_is_known_to_matter():
    assert set(CHANGES) | OUTSIDE == {field.name for field in dataclasses.fields(ModelConfig)}


@pytest.mark.parametrize("field", CHANGES)
def test_every_config_field_changes_the_network(field):
    given, value = CHANGES[field]
    base = dataclasses.replace(TINY, **given)
    changed = dataclasses.replace(base, **{field: value})
    assert _structure(base) != _structure(changed)


def test_a_dense_prediction_cell_equals_its_operations():
    """Pyramid pooling, a plain and a separable convolution, against TensorFlow's operations."""
    cell = (
        CellBranch("pyramid_pooling", -1, grid_size=(2, 4)),
        CellBranch("conv", 0),
        CellBranch("conv", -1, kernel=(3, 3), rate=(2, 1)),
    )
    config = dataclasses.replace(
        TINY, crop_size=(65, 97), output_stride=8, dense_prediction_cell_config=cell
    )
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)
    weights = {reference_name(w): w.numpy() for w in model.weights}
    names = {"features": "MobilenetV2.expanded_conv_16.project.BatchNorm"}
    names |= {"cell": "meta_architecture.concat"}
    tensors = {name: model.get_layer(layer).output for name, layer in names.items()}
    image = np.random.default_rng(0).uniform(0, 255, (1, 65, 97, 3)).astype(np.float32)
    values = keras.Model(model.input, tensors)(image, training=False)

    def bn_relu(x, scope):
        gamma, beta, mean, variance = (
            weights[f"meta_architecture/{scope}/BatchNorm/{name}"]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return tf.nn.relu((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta)

    def conv(x, scope):
        return bn_relu(
            tf.nn.conv2d(x, weights[f"meta_architecture/{scope}/weights"], 1, "SAME"), scope
        )

    x = values["features"]
    assert x.shape[1:3] == (9, 13)
    window = (int(64 / 16 + 1), int(96 / 32 + 1))  # scale_dimension(crop, 1 / (stride * grid))
    pooled = conv(tf.nn.avg_pool2d(x, window, 1, "VALID"), "branch0")
    first = tf.compat.v1.image.resize_bilinear(pooled, (9, 13), align_corners=True)
    kernel = weights["meta_architecture/branch2_depthwise/depthwise_weights"]
    # Rates are those of output stride 16: doubled at 8.
    third = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME", dilations=[4, 2])
    third = conv(bn_relu(third, "branch2_depthwise"), "branch2_pointwise")
    expected = np.concatenate([first, conv(first, "branch1"), third], axis=-1)
    np.testing.assert_allclose(values["cell"], expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize("variant", ["mobilenet_v2", "resnet_v1_50", "xception_41"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_decoder_at_the_stride_of_the_encoder(variant, output_stride):
    """Low-level features of that very grid."""
    config = ModelConfig(
        variant, output_stride=output_stride, decoder_output_stride=(output_stride,)
    )
    model = build_deeplab(dataclasses.replace(config, crop_size=(97, 65)))
    resized = model.get_layer("decoder.resize")
    x, like = resized.input
    assert x.shape[1:3] == like.shape[1:3] == (96 // output_stride + 1, 64 // output_stride + 1)


def test_image_pooling_with_a_window_equals_its_operations():
    """And the gate, against numpy."""
    config = dataclasses.replace(
        TINY,
        crop_size=(97, 129),
        image_pooling_crop_size=(65, 65),
        image_pooling_stride=(1, 2),
        aspp_with_squeeze_and_excitation=True,
        image_se_uses_qsigmoid=True,
    )
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)
    names = {
        "features": "MobilenetV2.expanded_conv_16.project.BatchNorm",
        "ungated": "concat_projection.dropout",
        "gated": "aspp.gate",
    }
    tensors = {name: model.get_layer(layer).output for name, layer in names.items()}
    image = np.random.default_rng(0).uniform(0, 255, (1, 97, 129, 3)).astype(np.float32)
    values = keras.Model(model.input, tensors)(image, training=False)
    x = np.asarray(values["features"])
    assert x.shape[1:3] == (7, 9)
    pooled = np.stack(
        [[x[0, i : i + 5, 2 * j : 2 * j + 5].mean(axis=(0, 1)) for j in range(3)] for i in range(3)]
    )[None]
    kernel, bias = model.get_layer("image_pooling").get_weights()
    gate = np.clip(pooled @ kernel[0, 0] + bias + 3, 0, 6) * 0.16667
    gate = tf.compat.v1.image.resize_bilinear(gate, (7, 9), align_corners=True)
    np.testing.assert_allclose(values["gated"], values["ungated"] * gate, atol=1e-5)


def test_an_image_smaller_than_the_window_of_image_pooling_is_an_error():
    config = dataclasses.replace(TINY, crop_size=(33, 65), image_pooling_crop_size=(65, 65))
    with pytest.raises(ValueError, match="averages over 5x5 features, but the image has only 3x5"):
        build_deeplab(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_variant": "resnet"}, "no model_variant 'resnet'; there are mobilenet_v2"),
        ({"multi_grid": (1, 2, 4)}, "mobilenet_v2 has no multi_grid"),
        ({"model_variant": "xception_41"}, "xception_41 has no depth_multiplier"),
        (
            {"model_variant": "resnet_v1_50", "depth_multiplier": 1.0, "multi_grid": (1, 2)},
            "3 units in its last block",
        ),
    ],
)
def test_options_that_an_encoder_does_not_have(changes, message):
    with pytest.raises(ValueError, match=message):
        build_deeplab(dataclasses.replace(TINY, **changes))


def _encoder(variant, output_stride):
    images = keras.Input((None, None, 3))
    backbone = get_backbone(variant)
    config = ModelConfig(depth_multiplier=0.25)
    options = {option: getattr(config, option) for option in backbone.options}
    features = backbone.build(images, output_stride=output_stride, **options)
    return keras.Model(images, features.final)


def _random_weights(model):
    """As initialised, but with batch norms that do something."""
    rng = np.random.default_rng(1)
    return [
        weight.numpy() if len(weight.shape) > 1 else rng.uniform(0.5, 1.5, weight.shape)
        for weight in model.weights
    ]


@functools.cache
def _structure(config):
    """What a config can change: every layer's kind, settings and shapes of weights."""
    return [
        (type(layer), layer.get_config(), [weight.shape for weight in layer.weights])
        for layer in build_deeplab(config).layers
    ]

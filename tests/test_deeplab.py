"""The networks against recorded outputs of the reference, and against themselves."""

import dataclasses

import keras
import numpy as np
import pytest

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.backbones import BACKBONES, get_backbone
from deeplab_tf.presets import PRESETS
from tests import golden_cases

CASES = sorted(
    path.stem
    for path in golden_cases.FOLDER.glob("*_os*.json")
    if path.stem.startswith(tuple(BACKBONES))
)
TINY = ModelConfig(
    depth_multiplier=0.25,
    num_classes=5,
    atrous_rates=(1, 2),
    aspp_convs_filters=16,
    decoder_output_stride=(4,),
    decoder_filters=16,
)


@pytest.mark.golden
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case):
    facts, arrays = golden_cases.load_case(case)
    model = build_deeplab(golden_cases.case_config(facts))
    ours = {golden_cases.reference_name(w): list(w.shape) for w in model.weights}
    assert ours == {name: shape for name, shape in facts["variables"]}
    golden_cases.set_case_weights(model)

    at_own_stride = keras.Model(model.input, [model.get_layer("logits").output, model.output])
    logits, upsampled = at_own_stride(golden_cases.case_image(facts), training=False)

    error = np.abs(np.asarray(logits) - arrays["logits"]).max() / arrays["logits"].std()
    assert error < 1e-4
    assert (np.asarray(upsampled).argmax(-1) == arrays["prediction"]).mean() > 0.999


def test_golden_cases_cover_every_encoder():
    covered = {golden_cases.load_case(case)[0]["model_options"]["model_variant"] for case in CASES}
    assert covered == set(BACKBONES)


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


CHANGES = {
    "model_variant": "resnet_v1_50",
    "num_classes": 7,
    "output_stride": 8,
    "atrous_rates": (3, 4),
    "depth_multiplier": 0.35,
    "add_image_level_feature": False,
    "aspp_with_separable_conv": False,
    "aspp_convs_filters": 24,
    "decoder_output_stride": (8, 4),
    "decoder_use_separable_conv": False,
    "decoder_filters": 24,
}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ModelConfig)])
def test_every_config_field_changes_the_network(field):
    base, changes = TINY, CHANGES
    if field == "multi_grid":
        base, changes = (
            dataclasses.replace(TINY, model_variant="resnet_v1_50", depth_multiplier=1.0),
            {"multi_grid": (1, 2, 4)},
        )
    if field == "model_variant":
        base = dataclasses.replace(TINY, depth_multiplier=1.0)
    changed = dataclasses.replace(base, **{field: changes[field]})
    assert _structure(build_deeplab(base)) != _structure(build_deeplab(changed))


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
    options = {"depth_multiplier": 0.25} if variant == "mobilenet_v2" else {"multi_grid": ()}
    features = get_backbone(variant).build(images, output_stride=output_stride, **options)
    return keras.Model(images, features.final)


def _random_weights(model):
    """As initialised, but with batch norms that do something."""
    rng = np.random.default_rng(1)
    return [
        weight.numpy() if len(weight.shape) > 1 else rng.uniform(0.5, 1.5, weight.shape)
        for weight in model.weights
    ]


def _structure(model):
    """What a config can change: layers, weights' shapes, dilations and strides."""
    return [
        (
            layer.name,
            [weight.shape for weight in layer.weights],
            getattr(layer, "dilation_rate", None),
            getattr(layer, "strides", None),
        )
        for layer in model.layers
    ]

"""The ResNets: against the reference's records and facts, and against themselves."""

import json

import keras
import numpy as np
import pytest

from deeplab_tf import ModelConfig
from deeplab_tf.backbones import get_backbone, resnet_v1
from deeplab_tf.weights import reference_name
from tests import golden_cases, plain_networks
from tests.backbones.encoders import (
    DECODER_END_POINTS,
    assert_atrous_consistency,
    assert_equals_the_reference,
    assert_low_level_features,
    build_encoder,
)
from tests.golden.rules import make_image

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


# Figure 3 b of v3 has output stride 16: blocks 1 to 7 there, and at the others by its caption.
CASCADES = {
    8: ((2, 1, 1, 1, 1, 1, 1), (1, 1, 2, 4, 8, 16, 32)),
    16: ((2, 2, 1, 1, 1, 1, 1), (1, 1, 1, 2, 4, 8, 16)),
    32: ((2, 2, 2, 1, 1, 1, 1), (1, 1, 1, 1, 2, 4, 8)),
    64: ((2, 2, 2, 2, 1, 1, 1), (1, 1, 1, 1, 1, 2, 4)),
    128: ((2, 2, 2, 2, 2, 1, 1), (1, 1, 1, 1, 1, 1, 2)),
    256: ((2, 2, 2, 2, 2, 2, 1), (1, 1, 1, 1, 1, 1, 1)),
}


def tiny_cascade(output_stride, multi_grid):
    """A ResNet of few channels, with units as ResNet-50 has in its last block, and block5 to 7."""
    images = keras.Input((None, None, 3))
    features = resnet_v1.resnet_v1(
        get_backbone("resnet_v1_50").normalize(images),
        scope="tiny",
        blocks=tuple(
            resnet_v1.Block(filters=filters, units=units, stride=stride)
            for filters, units, stride in ((16, 1, 2), (16, 2, 2), (24, 1, 2), (32, 3, 1))
        ),
        beta_stem=None,
        output_stride=output_stride,
        multi_grid=multi_grid,
        cascade_blocks=3,
    )
    return keras.Model(images, features.final)


def cascade_rates(output_stride, multi_grid):
    """Of each unit of each block."""
    grids = (1,), (1, 1), (1,), *(multi_grid or (1, 1, 1),) * 4
    rates = CASCADES[output_stride][1]
    return [[rate * g for g in grid] for rate, grid in zip(rates, grids, strict=True)]


@pytest.mark.parametrize("multi_grid", [(), (1, 2, 1)])
@pytest.mark.parametrize("output_stride", CASCADES)
def test_strides_and_rates_of_the_cascade(output_stride, multi_grid):
    """The last unit of a block strides; what does not stride has rates in its place."""
    model = tiny_cascade(output_stride, multi_grid)
    strides = CASCADES[output_stride][0]
    expected = [
        (stride if u == len(rates) else 1, rate)
        for stride, rates in zip(strides, cascade_rates(output_stride, multi_grid), strict=True)
        for u, rate in enumerate(rates, start=1)
    ]
    layers = [layer for layer in model.layers if getattr(layer, "kernel_size", None) == (3, 3)]
    assert [(layer.strides[0], layer.dilation_rate[0]) for layer in layers] == expected


@pytest.mark.parametrize(
    ("output_stride", "multi_grid"), [(8, (1, 2, 4)), (16, (1, 2, 1)), (64, (1, 2, 1)), (256, ())]
)
def test_the_cascade_equals_its_operations(output_stride, multi_grid):
    model = tiny_cascade(output_stride, multi_grid)
    golden_cases.set_case_weights(model)
    image = make_image(0, 129, 257)[None].astype(np.float32)
    expected = plain_networks.resnet(
        image,
        plain_networks.weights_of(model),
        "tiny",
        strides=CASCADES[output_stride][0],
        rates=cascade_rates(output_stride, multi_grid),
    ).numpy()
    ours = np.asarray(model(image, training=False))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * expected.std())


def test_atrous_consistency_of_the_cascade():
    """The same weights give the same features at 16 and at 64, where the grids meet."""
    image = make_image(0, 129, 257)[None].astype(np.float32)
    features = {}
    for output_stride in (8, 16, 32, 64):
        model = tiny_cascade(output_stride, (2, 2, 1))
        golden_cases.set_case_weights(model)
        features[output_stride] = np.asarray(model(image, training=False))
    coarse = features[64]
    assert coarse.shape == (1, 3, 5, 32)
    for output_stride in (8, 16, 32):
        step = 64 // output_stride
        fine = features[output_stride][:, ::step, ::step]
        np.testing.assert_allclose(fine, coarse, rtol=0, atol=1e-4 * coarse.std())


def test_the_cascade_copies_the_last_block():
    """Weights of block5 to block7 are those of block4, but for its first shortcut."""
    model, _ = build_encoder(ModelConfig("resnet_v1_50", cascade_blocks=3))
    shapes = {reference_name(w): tuple(w.shape) for w in model.weights}
    copied = {
        name.partition("/block4/")[2]: shape
        for name, shape in shapes.items()
        if "/block4/" in name and "/shortcut/" not in name
    }
    first = "unit_1/bottleneck_v1/conv1/weights"
    assert copied.pop(first) == (1, 1, 1024, 512)
    for block in (5, 6, 7):
        scope = f"resnet_v1_50/block{block}/"
        ours = {n.removeprefix(scope): s for n, s in shapes.items() if n.startswith(scope)}
        assert ours.pop(first) == (1, 1, 2048, 512)
        assert ours == copied


def test_a_unit_that_strides_has_no_rate():
    with pytest.raises(
        ValueError, match=r"block4\.unit_3 strides at output_stride=64, .* in 1, or"
    ):
        tiny_cascade(64, (1, 2, 4))


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

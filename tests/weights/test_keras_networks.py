"""MobileNetV2 and the ResNets of Keras, with random weights, against ours with these weights."""

import dataclasses

import h5py
import keras
import numpy as np
import pytest

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.weights import initialize_from_keras, reference_name
from deeplab_tf.weights.keras_networks import KERAS_NETWORKS
from tests.golden.rules import make_image, make_weight

TINY_HEAD = {"num_classes": 2, "aspp_convs_filters": 4, "add_image_level_feature": False}


def randomized(model):
    for weight in model.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))
    return model


def keras_network(function, size, **options):
    build = getattr(keras.applications, function)
    shape = (size, size, 3)
    return randomized(build(weights=None, include_top=False, input_shape=shape, **options))


def converted(monkeypatch, network, name, config):
    """Our network of a config with the weights of Keras's, and the report."""
    function = KERAS_NETWORKS[name].function
    monkeypatch.setattr(keras.applications, function, lambda weights, **options: network)
    model = build_deeplab(config)
    report = initialize_from_keras(model, name)
    assert report.unused == []
    encoder = KERAS_NETWORKS[name].scope
    assert not [weight for weight in report.missing if weight.startswith(encoder)]
    return model, report


def outputs(model, start, names, images):
    tensors = [model.get_layer(name).output for name in names]
    return [np.asarray(x) for x in keras.Model(start, tensors)(images, training=False)]


def assert_equal_where_grids_meet(ours, theirs, *, tolerance):
    """One may be denser: ours by the output stride, a ResNet's block of theirs as ours strides."""
    assert theirs.std() > 0
    sides = [ours.shape[1] - 1, theirs.shape[1] - 1]
    denser = max(sides) // max(min(sides), 1)
    ours, theirs = (
        x[:, ::denser, ::denser] if x.shape[1] - 1 > min(sides) else x for x in (ours, theirs)
    )
    error = np.abs(ours - theirs).max()
    assert error <= tolerance * theirs.std()


# --- MobileNetV2 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "output_stride"), [(65, 32), (65, 16), (65, 8), (64, 32), (50, 32)]
)
def test_mobilenet_computes_what_keras_does(monkeypatch, size, output_stride):
    """At every unit and any size: Keras pads by the size that the network is built for."""
    network = keras_network("MobileNetV2", size)
    config = ModelConfig("mobilenet_v2", output_stride=output_stride, **TINY_HEAD)
    model, report = converted(monkeypatch, network, "keras_mobilenet_v2", config)
    kinds = set(report.skipped.values())
    assert kinds == {"classification head"}
    assert len(report.skipped) == 5  # Conv_1 and its batch norm; this network has no predictions
    image = make_image(0, size, size)[None].astype(np.float32)
    scaled = keras.applications.mobilenet_v2.preprocess_input(image.copy())
    names = {"expanded_conv_project_BN": "MobilenetV2.expanded_conv.project.BatchNorm"}
    for i in range(1, 17):
        names[f"block_{i}_project_BN"] = f"MobilenetV2.expanded_conv_{i}.project.BatchNorm"
    theirs = outputs(network, network.input, names.keys(), scaled)
    ours = outputs(model, model.input, names.values(), image)
    for one, other in zip(ours, theirs, strict=True):
        assert_equal_where_grids_meet(one, other, tolerance=1e-5)


@pytest.mark.parametrize("width", [0.35, 1.4])
def test_mobilenets_of_other_widths_are_found_by_their_channels(tmp_path, width):
    path = tmp_path / f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224_no_top.h5"
    network = keras_network("MobileNetV2", 32, alpha=width)
    write_as_keras(path, network)
    config = ModelConfig("mobilenet_v2", depth_multiplier=width, divisible_by=8, **TINY_HEAD)
    model = build_deeplab(config)
    report = initialize_from_keras(model, str(path))
    assert len(report.loaded) == len(network.weights) - 5
    kernel = network.get_layer("block_16_project").kernel
    ours = model.get_layer("MobilenetV2.expanded_conv_16.project").kernel
    np.testing.assert_array_equal(ours, kernel)


def test_a_mobilenet_whose_channels_are_not_keras_s_is_refused(monkeypatch):
    network = keras_network("MobileNetV2", 32, alpha=0.35)
    config = ModelConfig("mobilenet_v2", depth_multiplier=0.35, **TINY_HEAD)
    with pytest.raises(ValueError, match=r"that of MobileNetV2 .*: give --divisible_by=8, and a "):
        converted(monkeypatch, network, "keras_mobilenet_v2", config)


# --- ResNets --------------------------------------------------------------------------------------


def resnet_pairs(depth):
    last = {50: 6, 101: 23}[depth]
    return {
        f"conv{block + 1}_block{unit}_out": f"resnet_v1_{depth}.block{block}.unit_{unit}"
        ".bottleneck_v1"
        for block, unit in enumerate((3, 4, last, 3), start=1)
    }


def framed(images, config):
    """Keras's input with the frame of zeros that ours has, which is of another mean."""
    frame = np.pad(
        keras.applications.resnet.preprocess_input(images.copy()), ((0, 0), (3, 3), (3, 3), (0, 0))
    )
    inside = np.pad(np.ones_like(images), ((0, 0), (3, 3), (3, 3), (0, 0)))
    ours = np.asarray(BACKBONES[config.model_variant].mean_pixel)
    theirs = keras.applications.resnet.preprocess_input(ours[None, None, None].copy())
    return np.where(inside, frame, theirs).astype(np.float32)


@pytest.mark.parametrize(("depth", "output_stride"), [(50, 32), (50, 8), (101, 16)])
def test_a_resnet_computes_what_keras_does(monkeypatch, depth, output_stride):
    """Keras strides in the first 1x1 convolutions of a block, ours at the end of the one before."""
    network = keras_network(f"ResNet{depth}", 65)
    config = ModelConfig(f"resnet_v1_{depth}", output_stride=output_stride, **TINY_HEAD)
    model, report = converted(monkeypatch, network, f"keras_resnet{depth}", config)
    assert report.skipped == {}
    images = make_image(0, 65, 65)[None].astype(np.float32)
    pairs = resnet_pairs(depth)
    padded = network.get_layer("conv1_pad").output
    theirs = outputs(network, padded, pairs.keys(), framed(images, config))
    ours = outputs(model, model.input, pairs.values(), images)
    for one, other in zip(ours, theirs, strict=True):
        assert_equal_where_grids_meet(one, other, tolerance=1e-4)
    # The frame is all that differs, and it is worth little.
    scaled = keras.applications.resnet.preprocess_input(images.copy())
    theirs = outputs(network, network.input, pairs.keys(), scaled)
    for one, other in zip(ours, theirs, strict=True):
        assert_equal_where_grids_meet(one, other, tolerance=0.1)


def test_a_resnet_s_grid_is_another_one_where_the_stem_is_even(monkeypatch):
    """At 64x64, of which docs/pretraining.md warns: the first pooling's windows lie elsewhere."""
    network = keras_network("ResNet50", 64)
    config = ModelConfig("resnet_v1_50", output_stride=32, **TINY_HEAD)
    model, _ = converted(monkeypatch, network, "keras_resnet50", config)
    images = make_image(0, 64, 64)[None].astype(np.float32)
    scaled = keras.applications.resnet.preprocess_input(images.copy())
    stems = [
        outputs(network, network.input, ["conv1_relu", "pool1_pool"], scaled),
        outputs(model, model.input, ["resnet_v1_50.conv1.relu", "resnet_v1_50.pool1"], images),
    ]
    assert_equal_where_grids_meet(stems[1][0], stems[0][0], tolerance=0.1)
    assert np.abs(stems[1][1] - stems[0][1]).max() > stems[0][1].std()


def test_a_cascade_has_new_blocks(monkeypatch):
    network = keras_network("ResNet50", 33)
    config = ModelConfig("resnet_v1_50", cascade_blocks=1, output_stride=16, **TINY_HEAD)
    function = KERAS_NETWORKS["keras_resnet50"].function
    monkeypatch.setattr(keras.applications, function, lambda weights: network)
    report = initialize_from_keras(build_deeplab(config), "keras_resnet50")
    new = [name for name in report.missing if name.startswith("resnet_v1_50/")]
    assert (
        len(new) == 3 * 3 * 5
    )  # units, convolutions, weights; a copy needs no shortcut of its own
    assert all(name.startswith("resnet_v1_50/block5/") for name in new)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_have_inflated_kernels(monkeypatch, channels):
    network = keras_network("MobileNetV2", 32)
    config = ModelConfig("mobilenet_v2", input_channels=channels, **TINY_HEAD)
    model, report = converted(monkeypatch, network, "keras_mobilenet_v2", config)
    assert report.inflated == ["MobilenetV2/Conv/weights"]
    kernel = network.get_layer("Conv1").kernel.numpy()
    ours = model.get_layer("MobilenetV2.Conv").kernel.numpy()
    expected = kernel.sum(axis=2) if channels == 1 else kernel[:, :, 1] * 3 / 5
    np.testing.assert_allclose(ours[:, :, -1], expected, atol=1e-5)


# --- Files and errors -----------------------------------------------------------------------------


def write_as_keras(path, network):
    """In the layout of the files that Keras downloads."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_{i}:0" for i in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()


def test_a_file_is_of_the_network_s_encoder(tmp_path):
    """Whatever it is called: the encoder says which of Keras's networks it must be of."""
    network = keras_network("ResNet50", 32)
    path = tmp_path / "weights_notop.h5"
    write_as_keras(path, network)
    model = build_deeplab(ModelConfig("resnet_v1_50", **TINY_HEAD))
    report = initialize_from_keras(model, str(path))
    assert len(report.loaded) == 53 * 5  # convolutions
    bias = network.get_layer("conv2_block1_2_conv").bias.numpy()
    mean = network.get_layer("conv2_block1_2_bn").moving_mean.numpy()
    ours = model.get_layer("resnet_v1_50.block1.unit_1.bottleneck_v1.conv2.BatchNorm").moving_mean
    np.testing.assert_allclose(ours, mean - bias, atol=1e-6)
    for variant, title in (("mobilenet_v2", "MobileNetV2"), ("vgg_16", "VGG-16")):
        with pytest.raises(ValueError, match=f"damaged, or not of Keras's {title} .*: expected "):
            initialize_from_keras(build_deeplab(ModelConfig(variant, **TINY_HEAD)), str(path))


@pytest.mark.parametrize(
    ("variant", "start", "message"),
    [
        (
            "xception_41",
            "keras_xception",
            "Keras's Xception is no encoder here: it pools where the",
        ),
        ("xception_41", "x.h5", "x.h5: Keras's Xception is no encoder here"),
        ("mobilenet_v2", "keras_xception", "Keras's Xception is no encoder here"),
        (
            "resnet_v1_50_beta",
            "keras_resnet50",
            "which has no resnet_v1_50/conv1_1/.*_variant=resnet",
        ),
        ("resnet_v1_50", "keras_resnet101", "no ResNet101, .*=resnet_v1_101"),
        ("resnet_v1_18", "keras_resnet50", "has no ResNet50, .*=resnet_v1_50"),
        (
            "mobilenet_v3_small_seg",
            "x.h5",
            "Keras has no network with the encoder of .* keras_vgg16",
        ),
    ],
)
def test_a_network_that_is_not_keras_s_is_refused_and_stays(variant, start, message):
    model = build_deeplab(dataclasses.replace(ModelConfig(variant), num_classes=2))
    first = model.weights[0].numpy()
    with pytest.raises(ValueError, match=message):
        initialize_from_keras(model, start)
    np.testing.assert_array_equal(model.weights[0], first)


def test_without_a_network_the_error_has_the_file_of_the_width(monkeypatch):
    def fail(weights, alpha):
        raise Exception(f"no network, {alpha}")

    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    model = build_deeplab(
        ModelConfig("mobilenet_v2", depth_multiplier=0.5, divisible_by=8, **TINY_HEAD)
    )
    with pytest.raises(ConnectionError, match=r"no network, 0.5.*/mobilenet_v2.*_0.5_224.h5 else"):
        initialize_from_keras(model, "keras_mobilenet_v2")

"""Networks for images of other channels begin with what one for RGB has learnt, exactly."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.backbones import get_backbone
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import (
    initialize_from_checkpoint,
    initialize_from_keras,
    load_tf1_checkpoint,
    reference_name,
    save_tf1_checkpoint,
    training_checkpoint,
)
from deeplab_tf.weights.inflation import image_kernels, inflated
from tests import golden_cases
from tests.golden.rules import make_weight

MOBILENET = ModelConfig(
    num_classes=3,
    depth_multiplier=0.25,
    atrous_rates=(1,),
    aspp_convs_filters=16,
    image_pyramid=(0.5, 1.0),
)
VGG = ModelConfig(
    "vgg_16",
    num_classes=3,
    output_stride=8,
    atrous_rates=(2,),
    fc_filters=4,
    multi_scale_features=True,
)
KERNELS = {
    "mobilenet_v2": {"MobilenetV2/Conv/weights"},
    "mobilenet_v3_small_seg": {"MobilenetV3/Conv/weights"},
    "resnet_v1_18": {"resnet_v1_18/conv1/weights"},
    "resnet_v1_18_beta": {"resnet_v1_18/conv1_1/weights"},
    "xception_41": {"xception_41/entry_flow/conv1_1/weights"},
    "nas_hnasnet": {"hnasnet/conv0/weights"},
}


def network(config):
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)
    return model


def grey_images(channels=1):
    return np.random.default_rng(1).uniform(0, 255, (2, 33, 41, channels)).astype(np.float32)


def logits(model, images):
    return np.asarray(model(images, training=False))


def assert_same_function(model, images, rgb_model, rgb_images, tolerance=1e-5):
    expected = logits(rgb_model, rgb_images)
    np.testing.assert_allclose(logits(model, images), expected, atol=tolerance * expected.std())


@pytest.fixture(scope="module", params=["mobilenet_v2", "vgg_16"])
def rgb(request, tmp_path_factory):
    """A config, its network for RGB, and a TF1 checkpoint of that."""
    config = {"mobilenet_v2": MOBILENET, "vgg_16": VGG}[request.param]
    model = network(config)
    prefix = tmp_path_factory.mktemp("rgb") / "model.ckpt"
    return config, model, save_tf1_checkpoint(model, prefix)


@pytest.mark.parametrize("model_variant", KERNELS)
def test_the_kernels_that_see_the_image(model_variant):
    channels = 7  # which no other layer has as its input
    model = build_deeplab(ModelConfig(model_variant, input_channels=channels, output_stride=8))
    assert image_kernels(model) == KERNELS[model_variant]
    assert image_kernels(model) == {
        reference_name(weight) for weight in model.weights if weight.shape[-2:-1] == (channels,)
    }


def test_those_of_multi_scale_features_and_of_image_pyramids():
    model = build_deeplab(replace(VGG, input_channels=7))
    assert image_kernels(model) == {"vgg_16/conv1/conv1_1/weights", "msc/pool0/conv1/weights"}
    model = build_deeplab(replace(MOBILENET, input_channels=7))
    assert image_kernels(model) == {"MobilenetV2/Conv/weights"}


def test_rgb_twice_is_what_rgb_is(rgb):
    config, rgb_model, checkpoint = rgb
    model = network(replace(config, input_channels=6))
    report = initialize_from_checkpoint(model, checkpoint)
    assert report.missing == report.unused == []
    assert set(report.inflated) == image_kernels(model)
    images = grey_images(3)
    assert_same_function(model, np.concatenate([images, images], -1), rgb_model, images)


def test_grey_is_what_equal_channels_are_but_for_their_means(rgb):
    """What becomes 0 is one value where it was three: grey is seen with the mean pixel's tint."""
    config, rgb_model, checkpoint = rgb
    model = network(replace(config, input_channels=1))
    initialize_from_checkpoint(model, checkpoint)
    mean = np.float32(get_backbone(config.model_variant).mean_pixel)
    tint = mean - mean.mean()
    images = grey_images()
    assert_same_function(model, images, rgb_model, images.repeat(3, -1) + tint)
    assert np.abs(tint).max() == pytest.approx(0 if config == MOBILENET else 10.861, abs=1e-3)


def test_four_channels_are_rgb_and_red_again(rgb):
    config, rgb_model, checkpoint = rgb
    model = network(replace(config, input_channels=4))
    initialize_from_checkpoint(model, checkpoint)
    three, four = (
        {reference_name(weight): weight.numpy() for weight in each.weights}
        for each in (rgb_model, model)
    )
    for name in image_kernels(model):
        np.testing.assert_allclose(four[name][:, :, :3], three[name] * 0.75, rtol=1e-6)
        np.testing.assert_array_equal(four[name][:, :, 3], four[name][:, :, 0])
        del three[name], four[name]
    for name in three:
        np.testing.assert_array_equal(four[name], three[name])


def test_a_checkpoint_of_ours_and_what_the_report_says(tmp_path):
    rgb_model = network(MOBILENET)
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(rgb_model.trainable_variables)
    prefix = training_checkpoint(rgb_model, optimizer).save(str(tmp_path / "model.ckpt"))
    model = network(replace(MOBILENET, input_channels=1))
    report = initialize_from_checkpoint(model, prefix)
    images = grey_images()
    assert_same_function(model, images, rgb_model, images.repeat(3, -1))
    assert "for RGB, inflated to the channels of the images: MobilenetV2/Conv/weights" in str(
        report
    )
    same = initialize_from_checkpoint(network(MOBILENET), prefix)
    assert same.inflated == []
    assert "inflated" not in str(same)


def test_vgg_16_of_keras(monkeypatch):
    classifier = keras.applications.VGG16(weights=None, include_top=False)
    for weight in classifier.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))
    monkeypatch.setattr(keras.applications, "VGG16", lambda weights: classifier)
    kernel = classifier.layers[1].kernel.numpy()[:, :, ::-1]  # of BGR
    for channels in (1, 2, 3, 5):
        model = network(replace(VGG, multi_scale_features=False, input_channels=channels))
        report = initialize_from_keras(model, "keras_vgg16")
        expected = kernel if channels == 3 else inflated(kernel, channels)
        actual = model.get_layer("vgg_16.conv1.conv1_1").kernel.numpy()
        np.testing.assert_array_equal(actual, expected)
        assert report.inflated == ([] if channels == 3 else ["vgg_16/conv1/conv1_1/weights"])


def test_as_many_channels_come_and_go_strictly(tmp_path):
    model = network(replace(MOBILENET, input_channels=4))
    prefix = save_tf1_checkpoint(model, tmp_path / "model.ckpt")
    shape = dict(tf.train.list_variables(prefix))["MobilenetV2/Conv/weights"]
    assert shape[2] == 4
    loaded = build_deeplab(replace(MOBILENET, input_channels=4))
    assert load_tf1_checkpoint(loaded, prefix).inflated == []
    np.testing.assert_array_equal(logits(loaded, grey_images(4)), logits(model, grey_images(4)))


@pytest.mark.parametrize(
    ("channels_there", "channels_here", "load", "message"),
    [
        (4, 5, initialize_from_checkpoint, r"for images of 4 channels, the network for 5: give"),
        (4, 3, initialize_from_checkpoint, r"for images of 4 channels, the network for 3: give"),
        (3, 4, load_tf1_checkpoint, r"input_channels=3, or train it .* --tf_initial_checkpoint"),
        (4, 1, load_tf1_checkpoint, r"images of 4 channels: build .* input_channels=4\.$"),
    ],
)
def test_other_channels_are_an_error_that_says_so(
    tmp_path, channels_there, channels_here, load, message
):
    there = network(replace(MOBILENET, input_channels=channels_there))
    prefix = save_tf1_checkpoint(there, tmp_path / "model.ckpt")
    model = network(replace(MOBILENET, input_channels=channels_here))
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        load(model, prefix)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)

"""A pretrained encoder in the networks for segmentation."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.deeplab import encoder_features
from deeplab_tf.pretrain.classifier import build_classifier
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import (
    initialize_from_classifier,
    is_classifier,
    reference_name,
    save_tf1_checkpoint,
    training_checkpoint,
)
from tests import golden_cases, tiny_run
from tests.golden.rules import make_image
from tests.test_cli import NETWORK_FLAGS, run, succeed

# What an encoder needs to have an output stride of 32, or else to keep its weights.
NEEDS = {
    "nas_hnasnet": {"nas_use_classification_head": True},
    "nas_pnasnet": {"output_stride": 16},
}
SMALL = ("mobilenet_v2", "mobilenet_v3_small_seg", "resnet_v1_18_beta")
TINY_HEAD = {"aspp_convs_filters": 4, "decoder_filters": 4, "add_image_level_feature": False}


def pretrained(folder, config):
    """A classifier with random weights, and its checkpoint."""
    model = build_classifier(config)
    golden_cases.set_case_weights(model)
    return model, checkpoint_of(model, folder)


def checkpoint_of(model, folder):
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(7)
    manager = tf.train.CheckpointManager(
        training_checkpoint(model, optimizer), folder, 1, checkpoint_name="model.ckpt"
    )
    return manager.save(checkpoint_number=7)


def by_name(model):
    return {reference_name(weight): weight.numpy() for weight in model.weights}


@pytest.mark.parametrize(
    "variant",
    [
        variant if variant in SMALL else pytest.param(variant, marks=pytest.mark.slow)
        for variant in BACKBONES
    ],
)
def test_every_encoder_moves_whole_from_stride_32_to_16(variant, tmp_path):
    """Bit for bit, each weight once, and its features are those of the classifier."""
    options = {"output_stride": 32, **NEEDS.get(variant, {})}
    config = ModelConfig(variant, num_classes=5, **options)
    classifier, prefix = pretrained(tmp_path, config)
    assert classifier.output_shape == (None, 5)
    assert is_classifier(prefix)
    model = build_deeplab(
        dataclasses.replace(
            config, num_classes=3, output_stride=16, atrous_rates=(2, 4), **TINY_HEAD
        )
    )
    before = by_name(model)
    report = initialize_from_classifier(model, prefix)
    assert report.step == 7
    there, here = by_name(classifier), by_name(model)
    head = {name for name in there if re.search("/logits/(weights|biases)$", name)}
    assert set(report.loaded) == there.keys() - head
    assert {name for name, kind in report.skipped.items() if kind == "classification head"} == head
    assert set(report.skipped.values()) == {"classification head", "state of train.py"}
    assert report.unused == report.inflated == report.transferred == []
    scope = next(iter(there)).split("/")[0]
    assert not [name for name in report.missing if name.startswith(f"{scope}/")]
    assert here.keys() == {*report.loaded, *report.missing}
    for name, value in here.items():
        np.testing.assert_array_equal(value, there.get(name, before[name]), err_msg=name)
    assert_same_features(classifier, model, config)


def assert_same_features(classifier, model, config):
    images = make_image(0, 65, 65)[None].astype(np.float32)
    coarse = classifier.get_layer(f"{scope_of(classifier)}.pool").input
    theirs = np.asarray(keras.Model(classifier.input, coarse)(images, training=False))
    # The layer of the same name in the network for segmentation.
    name = coarse._keras_history.operation.name
    fine = keras.Model(model.input, model.get_layer(name).output)
    ours = np.asarray(fine(images, training=False))
    step = (ours.shape[1] - 1) // (theirs.shape[1] - 1)
    assert step == config.output_stride // 16
    # What resizes its features, or looks at their mean, is another function of a denser grid.
    if step > 1 and config.model_variant.startswith(("nas", "mobilenet_v3")):
        return
    assert theirs.std() > 0
    error = np.abs(ours[:, ::step, ::step] - theirs).max()
    assert error < 1e-4 * np.abs(theirs).max()


def scope_of(model):
    return reference_name(model.weights[0]).split("/")[0]


def test_features_are_those_of_the_encoder():
    """What is pooled is what the networks for segmentation begin with."""
    config = ModelConfig("mobilenet_v2", depth_multiplier=0.25, output_stride=32, num_classes=2)
    classifier = build_classifier(config, dropout_rate=0.0)
    golden_cases.set_case_weights(classifier)
    images = make_image(0, 65, 65)[None].astype(np.float32)
    encoder_input = keras.Input((None, None, 3))
    encoder = keras.Model(encoder_input, encoder_features(encoder_input, config).final)
    for weight, other in zip(encoder.weights, classifier.weights, strict=False):
        weight.assign(other)
    mean = np.asarray(encoder(images, training=False)).mean(axis=(1, 2))
    kernel, bias = classifier.get_layer("MobilenetV2.logits").get_weights()
    expected = mean @ kernel[0, 0] + bias
    np.testing.assert_allclose(classifier(images, training=False), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    config = ModelConfig("mobilenet_v2", depth_multiplier=0.25, output_stride=32, num_classes=4)
    return pretrained(folder, config)


def segmentation(**options):
    return build_deeplab(dataclasses.replace(tiny_run.MODEL, **options))


def test_images_of_other_channels_have_inflated_kernels(tiny):
    model = segmentation(input_channels=1)
    report = initialize_from_classifier(model, tiny[1])
    assert report.inflated == ["MobilenetV2/Conv/weights"]
    kernel = tiny[0].get_layer("MobilenetV2.Conv").kernel.numpy()
    ours = model.get_layer("MobilenetV2.Conv").kernel
    np.testing.assert_allclose(ours, kernel.sum(axis=2, keepdims=True), atol=1e-6)


def test_copies_of_a_cascade_are_new(tmp_path):
    config = ModelConfig("resnet_v1_18", output_stride=32, num_classes=3)
    _, prefix = pretrained(tmp_path, config)
    model = build_deeplab(
        dataclasses.replace(config, cascade_blocks=1, output_stride=16, **TINY_HEAD)
    )
    report = initialize_from_classifier(model, prefix)
    new = [name for name in report.missing if name.startswith("resnet_v1_18/")]
    assert new
    assert all(name.startswith("resnet_v1_18/block5/") for name in new)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth_multiplier": 0.5}, "of another shape: MobilenetV2/Conv/BatchNorm/beta"),
        (
            {"model_variant": "resnet_v1_18", "depth_multiplier": 1.0},
            "encoder of the checkpoint: MobilenetV2\n  encoder of the network: resnet_v1_18",
        ),
        ({"input_channels": 1, "depth_multiplier": 0.5}, "--model_variant, --depth_multiplier"),
    ],
)
def test_another_encoder_is_refused_and_stays_as_it_is(tiny, options, message):
    model = segmentation(**options)
    before = by_name(model)
    with pytest.raises(ValueError, match=message):
        initialize_from_classifier(model, tiny[1])
    for name, value in by_name(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_weight_that_is_missing_or_too_many_is_an_error(tiny, tmp_path):
    """Both lists are in the message."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="MobilenetV2.Conv")(images)
    x = keras.layers.Conv2D(4, 1, name="MobilenetV2.extra")(x)
    x = keras.layers.Conv2D(4, 1, name="MobilenetV2.logits")(x)
    prefix = checkpoint_of(keras.Model(images, x), tmp_path)
    assert is_classifier(prefix)
    message = r"missing in the checkpoint: MobilenetV2/Conv/BatchNorm/(.|\n)*not used .*/extra/"
    with pytest.raises(ValueError, match=message):
        initialize_from_classifier(segmentation(), prefix)


def test_other_checkpoints_are_no_classifiers(tmp_path):
    model = segmentation()
    assert not is_classifier(checkpoint_of(model, tmp_path / "run"))
    assert not is_classifier(save_tf1_checkpoint(model, tmp_path / "tf1/model.ckpt"))


# --- train.py -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tfrecord"
    tiny_run.write_dataset(folder)
    return folder


def test_training_begins_with_it(tiny, dataset_dir, tmp_path):
    """By the folder of the run; and not as a network to evaluate."""
    classifier, prefix = tiny
    logdir = prefix.rpartition("/")[0]
    out = succeed(
        "train.py",
        f"--dataset_dir={dataset_dir}",
        f"--train_logdir={tmp_path}/run",
        *NETWORK_FLAGS,
        "--train_crop_size=33,33",
        "--train_batch_size=2",
        "--training_number_of_steps=1",
        "--base_learning_rate=1e-20",
        "--freeze_batch_norm",
        "--val_split=",
        f"--tf_initial_checkpoint={logdir}",
    )
    count = len(classifier.weights) - 2
    assert f"{count} weights loaded from {prefix}, step 7" in out
    assert "2 of classification head" in out
    reader = tf.train.load_checkpoint(str(tmp_path / "run"))
    kernel = classifier.get_layer("MobilenetV2.expanded_conv_16.project").kernel
    key = next(
        key
        for key in reader.get_variable_to_shape_map()
        if key.startswith("model/MobilenetV2..expanded_conv_16..project..kernel")
    )
    np.testing.assert_array_equal(reader.get_tensor(key), kernel)
    done = run("eval.py", f"--checkpoint_dir={logdir}", f"--dataset_dir={dataset_dir}")
    assert done.code == 1
    assert "config.json not found" in done.err

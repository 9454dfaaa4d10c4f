"""TF1 checkpoints, written and read by TF1's own Saver here, come and go to the last bit."""

import os
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.compat import v1

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import (
    initialize_from_checkpoint,
    load_tf1_checkpoint,
    reference_name,
    save_tf1_checkpoint,
    training_checkpoint,
)
from tests import golden_cases
from tests.golden.rules import make_image, make_weight

MODEL = ModelConfig(
    num_classes=3,
    depth_multiplier=0.25,
    atrous_rates=(1,),
    aspp_convs_filters=16,
    decoder_output_stride=(4,),
    decoder_filters=16,
)


def small_network(*, classes=3, width=4, head_width=4, scope="MobilenetV2", decoder=True):
    """Like a DeepLab, but of few layers."""
    x = images = keras.Input((None, None, 3))
    x = layers.Conv2D(width, 1, use_bias=False, name=f"{scope}.Conv")(x)
    x = layers.BatchNormalization(name=f"{scope}.Conv.BatchNorm")(x)
    x = layers.DepthwiseConv2D(3, use_bias=False, name=f"{scope}.expanded_conv.depthwise")(x)
    for name in ("image_pooling", "aspp0", "meta_architecture.branch0", "concat_projection"):
        x = layers.Conv2D(head_width, 1, use_bias=False, name=name)(x)
    if decoder:
        x = layers.Conv2D(head_width, 1, use_bias=False, name="decoder.feature_projection0")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(classes, 1, name="logits.semantic")(x)
    return keras.Model(images, layers.Identity(name="logits")(x), name="small")


ENCODER = {
    "MobilenetV2/Conv/BatchNorm/beta",
    "MobilenetV2/Conv/BatchNorm/gamma",
    "MobilenetV2/Conv/BatchNorm/moving_mean",
    "MobilenetV2/Conv/BatchNorm/moving_variance",
    "MobilenetV2/Conv/weights",
    "MobilenetV2/expanded_conv/depthwise/depthwise_weights",
}
LOGITS = {"logits/semantic/biases", "logits/semantic/weights"}
HEAD = LOGITS | {
    "aspp0/weights",
    "concat_projection/weights",
    "decoder/feature_projection0/weights",
    "image_pooling/weights",
    "meta_architecture/branch0/weights",
}
SCOPES = "aspp0, concat_projection, decoder, image_pooling, logits, meta_architecture"


def drawn(model):
    """A value for each variable of a network, by its name."""
    return {
        reference_name(weight): make_weight(reference_name(weight), weight.shape)
        for weight in model.weights
    }


def write(prefix, values, *, step=None, momentum=False, version=v1.train.SaverDef.V2):
    """Writes variables as a TF1 program does; returns the prefix."""
    prefix.parent.mkdir(exist_ok=True)
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=value) for name, value in values.items()]
        if step is not None:
            v1.get_variable("global_step", initializer=np.int64(step), trainable=False)
        if momentum:
            loss = tf.add_n([tf.reduce_sum(variable) for variable in variables])
            v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
        session.run(v1.global_variables_initializer())
        return v1.train.Saver(write_version=version).save(
            session, str(prefix), write_meta_graph=False
        )


def state(model):
    """The values of a network by name."""
    return {reference_name(weight): weight.numpy().copy() for weight in model.weights}


def assert_same(values, expected):
    assert values.keys() == expected.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_names_and_shapes_are_the_reference_s():
    """Of one network; tests/test_deeplab.py has them all."""
    facts, _ = golden_cases.load_case("mobilenet_v2_aspp_decoder_os16")
    model = build_deeplab(golden_cases.case_config(facts))
    variables = [[reference_name(weight), list(weight.shape)] for weight in model.weights]
    assert sorted(variables) == sorted(facts["variables"])


def test_both_convolutions_of_a_separable_one_are_in_one_scope():
    """As `slim.separable_conv2d` has them; the names are of nas_hnasnet's list."""
    scope = "hnasnet/cell_0/comb_iter_0/right/separable_3x3_1"
    layer = layers.SeparableConv2D(20, 3, use_bias=False, name=scope.replace("/", "."))
    layer.build((None, None, None, 20))
    assert {reference_name(weight): tuple(weight.shape) for weight in layer.weights} == {
        f"{scope}/depthwise_weights": (3, 3, 20, 1),
        f"{scope}/pointwise_weights": (1, 1, 20, 20),
    }


@pytest.fixture(scope="module")
def model():
    return build_deeplab(MODEL)


@pytest.fixture(scope="module")
def values(model):
    return drawn(model)


def test_a_checkpoint_of_tf1_is_loaded_whole(tmp_path, model, values):
    prefix = write(tmp_path / "model.ckpt-30000", values, step=30000, momentum=True)
    report = load_tf1_checkpoint(model, prefix)
    assert_same(state(model), values)
    assert (report.checkpoint, report.step) == (prefix, 30000)
    assert report.loaded == sorted(values)
    assert report.missing == report.unused == report.transferred == []
    slots = {f"{name}/Momentum": "optimizer state" for name in values}
    assert report.skipped == slots | {"global_step": "global step"}
    assert str(report).splitlines() == [
        f"{len(values)} weights loaded from {prefix}, step 30000",
        f"  skipped: {len(values)} of optimizer state, 1 of global step",
    ]


def test_tf1_s_oldest_format_is_loaded(tmp_path):
    """As of slim's ResNets: one file, without an index."""
    model = small_network()
    values = drawn(model)
    prefix = write(tmp_path / "resnet.ckpt", values, version=v1.train.SaverDef.V1)
    assert not os.path.exists(f"{prefix}.index")
    report = load_tf1_checkpoint(model, prefix)
    assert_same(state(model), values)
    assert report.step is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("beta1_power", "optimizer state"),
        ("aspp0/weights/Adam", "optimizer state"),
        ("aspp0/weights/Adam_1", "optimizer state"),
        ("MobilenetV2/Conv/BatchNorm/gamma/RMSProp_1", "optimizer state"),
        ("MobilenetV2/Conv/weights/ExponentialMovingAverage", "moving average"),
        ("MobilenetV2/Conv/BatchNorm/moving_mean/local_step", "moving average"),
        # Names of tf.contrib.quantize, from tensorflow/models issue 7774, tensorflow 19014, 20867.
        ("MobilenetV2/Conv/weights_quant/min", "quantisation range"),
        ("logits/semantic/act_quant/max", "quantisation range"),
        ("MobilenetV2/expanded_conv_11/post_activation_bypass_quant/max", "quantisation range"),
        (
            "MobilenetV2/Conv/act_quant/MobilenetV2/Conv/act_quant/max/biased",
            "quantisation range",
        ),
    ],
)
def test_what_else_training_leaves_in_a_checkpoint_is_known(tmp_path, name, kind):
    model = small_network()
    values = drawn(model)
    report = load_tf1_checkpoint(model, write(tmp_path / "x", values | {name: np.float32(1)}))
    assert report.skipped == {name: kind}
    assert_same(state(model), values)


@pytest.mark.parametrize(
    ("stored", "expected", "hint"),
    [
        (
            {"decoder": False},
            {
                "missing in the checkpoint": "decoder/feature_projection0/weights",
                "not used by the network": "none",
                "of another shape": "none",
            },
            "The encoder is there: backbone_only=True loads only that.",
        ),
        (
            {"classes": 5},
            {
                "missing in the checkpoint": "none",
                "not used by the network": "none",
                "of another shape": "logits/semantic/biases ([5] there, [3] here), "
                "logits/semantic/weights ([1, 1, 4, 5] there, [1, 1, 4, 3] here)",
            },
            "The checkpoint has 5 classes: build the network with num_classes=5, or train it from "
            "there with --tf_initial_checkpoint and --initialize_last_layer=false.",
        ),
        (
            {"scope": "xception_65"},
            {
                "missing in the checkpoint": ", ".join(sorted(ENCODER)),
                "not used by the network": ", ".join(
                    sorted(name.replace("MobilenetV2", "xception_65") for name in ENCODER)
                ),
                "of another shape": "none",
                "scopes in the checkpoint": f"{SCOPES}, xception_65",
                "scopes in the network": f"MobilenetV2, {SCOPES}",
            },
            None,
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_an_error(tmp_path, stored, expected, hint):
    prefix = write(tmp_path / "model.ckpt", drawn(small_network(**stored)))
    message = message_of_refusal(load_tf1_checkpoint, small_network(), prefix)
    first, *rest = message.splitlines()
    assert first == f"{prefix} is not of this network (small, 3 classes)."
    assert dict(line[2:].split(": ", 1) for line in rest if line.startswith("  ")) == expected
    assert [line for line in rest if not line.startswith("  ")] == ([hint] if hint else [])


def test_variables_that_would_not_be_used_are_an_error(tmp_path):
    prefix = write(tmp_path / "model.ckpt", drawn(small_network()))
    message = message_of_refusal(load_tf1_checkpoint, small_network(decoder=False), prefix)
    assert "  not used by the network: decoder/feature_projection0/weights\n" in message


@pytest.mark.parametrize(
    ("scope", "classifier"),
    [
        (
            "MobilenetV2",
            {
                "MobilenetV2/Conv_1/weights",
                "MobilenetV2/Conv_1/BatchNorm/gamma",
                "MobilenetV2/Logits/Conv2d_1c_1x1/biases",
                "MobilenetV2/Logits/Conv2d_1c_1x1/weights",
            },
        ),
        (
            "resnet_v1_50",
            {
                "resnet_v1_50/logits/biases",
                "resnet_v1_50/logits/weights",
                "resnet_v1_50/mean_rgb",
            },
        ),
    ],
)
def test_an_encoder_is_loaded_from_an_imagenet_classifier(tmp_path, scope, classifier):
    """The head keeps its values; what the classifier has beyond the encoder is named."""
    model = small_network(scope=scope)
    encoder = {name: value for name, value in drawn(model).items() if name.startswith(scope)}
    extra = dict.fromkeys(classifier, np.ones(2, np.float32))
    prefix = write(tmp_path / "model.ckpt", encoder | extra, step=7)
    before = state(model)
    report = load_tf1_checkpoint(model, prefix, backbone_only=True)
    assert_same(state(model), before | encoder)
    assert report.loaded == sorted(encoder)
    assert report.missing == sorted(HEAD)
    assert report.unused == []
    head = dict.fromkeys(classifier, "classification head")
    assert report.skipped == head | {"global_step": "global step"}
    assert report.step == 7


def test_an_encoder_is_loaded_from_a_network_with_another_head(tmp_path):
    model, other = small_network(classes=5), small_network(decoder=False)
    values, before = drawn(other), state(model)
    report = load_tf1_checkpoint(model, write(tmp_path / "x", values), backbone_only=True)
    assert_same(state(model), before | {name: values[name] for name in ENCODER})
    assert report.missing == sorted(HEAD)
    assert report.skipped == dict.fromkeys(HEAD & values.keys(), "head")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"MobilenetV2/Conv/weights": None}, "missing in the checkpoint: MobilenetV2/Conv/weights"),
        (
            {"MobilenetV2/expanded_conv_17/expand/weights": np.ones((1, 1, 2, 2), np.float32)},
            "not used by the network: MobilenetV2/expanded_conv_17/expand/weights",
        ),
    ],
)
def test_an_encoder_is_loaded_as_strictly(tmp_path, changed, expected):
    values = drawn(small_network()) | changed
    values = {name: value for name, value in values.items() if value is not None}
    prefix = write(tmp_path / "model.ckpt", values)
    message = message_of_refusal(load_tf1_checkpoint, small_network(), prefix, backbone_only=True)
    assert f"\n  {expected}\n" in message


@pytest.mark.parametrize("load", [load_tf1_checkpoint, initialize_from_checkpoint])
@pytest.mark.parametrize(
    "damage", ["no data", "short data", "changed data", "short index", "short file"]
)
def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, damage, load):
    values = drawn(small_network())
    oldest = damage == "short file"
    version = v1.train.SaverDef.V1 if oldest else v1.train.SaverDef.V2
    prefix = write(tmp_path / "model.ckpt", values, version=version)
    data, index = f"{prefix}.data-00000-of-00001", f"{prefix}.index"
    if damage == "no data":
        os.remove(data)
    elif damage == "changed data":
        with open(data, "r+b") as file:
            file.write(b"\x55" * os.path.getsize(data))
    else:
        path = {"short data": data, "short index": index, "short file": prefix}[damage]
        os.truncate(path, os.path.getsize(path) // 2)
    message = message_of_refusal(load, small_network(), prefix)
    assert message.startswith(f"{prefix} is incomplete or damaged (")


@pytest.mark.parametrize("load", [load_tf1_checkpoint, initialize_from_checkpoint])
def test_weights_that_are_not_finite_are_an_error(tmp_path, load):
    values = drawn(small_network())
    values["aspp0/weights"][0, 0, 1, 2] = np.nan
    values["MobilenetV2/Conv/BatchNorm/moving_variance"][1] = np.inf
    prefix = write(tmp_path / "model.ckpt", values)
    assert message_of_refusal(load, small_network(), prefix) == (
        f"{prefix} holds values that are not finite, in "
        "MobilenetV2/Conv/BatchNorm/moving_variance, aspp0/weights: the training that wrote it "
        "had diverged; take an earlier checkpoint."
    )


@pytest.mark.parametrize("load", [load_tf1_checkpoint, initialize_from_checkpoint])
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("nowhere/model.ckpt", "none"),
        ("model.ckpt-4", "none"),
        ("no_index", "no_index.data-00000-of-00001"),
        ("model.ckpt.index", "model.ckpt.index"),
        (".", None),
    ],
)
def test_a_path_without_a_checkpoint_is_an_error_that_names_it(tmp_path, path, found, load):
    prefix = write(tmp_path / "model.ckpt", drawn(small_network()))
    shutil.copy(f"{prefix}.data-00000-of-00001", tmp_path / "no_index.data-00000-of-00001")
    with pytest.raises(FileNotFoundError, match=r"expected a prefix such as DIR/model\.ckpt") as e:
        load(small_network(), tmp_path / path)
    assert str(e.value).startswith(f"There is no checkpoint at {tmp_path / path}: ")
    assert found is None or str(e.value).endswith(f"; found {found}.")


def message_of_refusal(load, model, *args, **kwargs):
    """The message of the ValueError; nothing has been loaded."""
    before = state(model)
    with pytest.raises(ValueError) as error:
        load(model, *args, **kwargs)
    assert_same(state(model), before)
    return str(error.value)


def test_training_starts_with_what_a_checkpoint_has(tmp_path):
    """And says what it has not, where the reference is silent."""
    model = small_network()
    values = {name: value for name, value in drawn(model).items() if name not in HEAD}
    stored = values | {"MobilenetV2/Conv_1/weights": np.ones(2, np.float32)}
    prefix = write(tmp_path / "model.ckpt", stored, step=9)
    before = state(model)
    report = initialize_from_checkpoint(
        model, prefix, class_names=["a", "b", "c"], checkpoint_class_names=["b"]
    )
    assert_same(state(model), before | values)
    assert report.loaded == sorted(ENCODER)
    assert report.missing == sorted(HEAD)
    assert report.unused == ["MobilenetV2/Conv_1/weights"]
    assert str(report).splitlines() == [
        f"6 weights loaded from {prefix}, step 9",
        f"  not loaded, left as they were: {', '.join(sorted(HEAD))}",
        "  only in the checkpoint: MobilenetV2/Conv_1/weights",
        "  skipped: 1 of global step",
    ]


@pytest.mark.parametrize(
    ("logits_only", "scopes"),
    [
        # The reference's lists (`get_extra_layer_scopes`): names that start so are left out.
        (True, ("logits",)),
        (
            False,
            (
                "logits",
                "image_pooling",
                "aspp",
                "concat_projection",
                "decoder",
                "meta_architecture",
            ),
        ),
    ],
)
def test_the_last_layers_can_be_left_out(tmp_path, logits_only, scopes):
    model = small_network()
    values, before = drawn(small_network(classes=5)), state(model)
    report = initialize_from_checkpoint(
        model,
        write(tmp_path / "model.ckpt", values),
        initialize_last_layer=False,
        last_layers_contain_logits_only=logits_only,
    )
    left_out = sorted(name for name in values if name.startswith(scopes))
    assert report.missing == left_out
    assert report.skipped == dict.fromkeys(left_out, "last layers")
    assert_same(state(model), values | {name: before[name] for name in left_out})


@pytest.mark.parametrize(
    ("stored", "options", "expected"),
    [
        (
            {"classes": 5},
            {},
            "  of another shape: logits/semantic/biases ([5] there, [3] here), "
            "logits/semantic/weights ([1, 1, 4, 5] there, [1, 1, 4, 3] here)\n"
            "The checkpoint has 5 classes, the network 3: add --initialize_last_layer=false to "
            "train these layers anew, and --last_layers_contain_logits_only to keep the rest of "
            "the head. Where the names of both sides' classes are known, those of the same name "
            "are taken over.",
        ),
        (
            {"head_width": 8},
            {"initialize_last_layer": False, "last_layers_contain_logits_only": True},
            "Add --initialize_last_layer=false, without --last_layers_contain_logits_only, to "
            "train the head anew.",
        ),
        (
            {"width": 8},
            {},
            "Give a checkpoint of the same encoder: --model_variant, --depth_multiplier.",
        ),
        (
            {"classes": 5},
            {"class_names": ["a", "b", "c"], "checkpoint_class_names": ["a", "b"]},
            "has 5 classes, and small 3, but there are names of 2 and 3: give the names of all "
            "classes, or none.",
        ),
        (
            {"scope": "xception_65"},
            {},
            "has nothing of the encoder of small.\n"
            f"  scopes in the checkpoint: {SCOPES}, xception_65\n"
            f"  scopes in the network: MobilenetV2, {SCOPES}",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_an_error(tmp_path, stored, options, expected):
    prefix = write(tmp_path / "model.ckpt", drawn(small_network(**stored)))
    message = message_of_refusal(initialize_from_checkpoint, small_network(), prefix, **options)
    assert message.startswith(f"{prefix} ")
    assert message.endswith(expected)


V2 = ModelConfig(depth_multiplier=0.25, aspp_with_batch_norm=False, atrous_rates=(1, 2))
LINEAR_DECODER_IN_A_PYRAMID = replace(
    MODEL,
    decoder_use_sum_merge=True,
    decoder_output_is_logits=True,
    decoder_filters=3,
    image_pyramid=(0.5, 1.0),
)


@pytest.mark.parametrize("config", [V2, LINEAR_DECODER_IN_A_PYRAMID])
def test_classes_keep_their_logits_by_name(tmp_path, config):
    """Whatever the head: a class that both networks have is predicted alike by them."""

    def network(names):
        filters = {"decoder_filters": len(names)} if config.decoder_output_is_logits else {}
        return build_deeplab(replace(config, num_classes=len(names), **filters))

    there, here = ["sky", "road", "car", "tree"], ["car", "sky", "bicycle"]
    source, model = network(there), network(here)
    for weight in source.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))
    prefix = save_tf1_checkpoint(source, tmp_path / "model.ckpt")
    before = state(model)
    report = initialize_from_checkpoint(
        model, prefix, class_names=here, checkpoint_class_names=there
    )
    assert report.transferred == ["car", "sky"]
    assert report.missing == report.unused == []
    assert "\n  logits taken over by name for: car, sky" in str(report)
    image = make_image(0, 33, 33)[None].astype(np.float32)
    expected, logits = source(image, training=False), model(image, training=False)
    np.testing.assert_allclose(logits[..., :2], expected.numpy()[..., [2, 0]], rtol=1e-5, atol=1e-5)
    after = state(model)
    for name in (name for name in after if after[name].shape[-1] == len(here)):
        np.testing.assert_array_equal(after[name][..., 2], before[name][..., 2])


@pytest.mark.parametrize(
    ("names", "transferred", "skipped"),
    [
        (["a", "b", "c"], [], {}),
        (["c", "a", "b"], ["c", "a", "b"], {}),
        (["x", "y", "z"], [], dict.fromkeys(LOGITS, "logits of other classes")),
    ],
)
def test_classes_of_the_same_number_go_by_name_too(tmp_path, names, transferred, skipped):
    model = small_network()
    values, before = drawn(model), state(model)
    report = initialize_from_checkpoint(
        model,
        write(tmp_path / "model.ckpt", values),
        class_names=names,
        checkpoint_class_names=["a", "b", "c"],
    )
    assert (report.transferred, report.skipped) == (transferred, skipped)
    expected = dict(values)
    for name in LOGITS:
        order = ["abc".find(letter) for letter in names]
        expected[name] = before[name] if -1 in order else values[name][..., order]
    assert_same(state(model), expected)


def test_training_starts_from_a_run_of_ours(tmp_path):
    source, model = small_network(classes=5), small_network()
    for weight in source.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(source.trainable_variables)
    optimizer.iterations.assign(12)
    prefix = training_checkpoint(source, optimizer).save(str(tmp_path / "model.ckpt"))
    report = load_tf1_checkpoint(small_network(classes=5), prefix)
    assert (report.step, report.missing, report.unused) == (12, [], [])
    before = state(model)
    report = initialize_from_checkpoint(
        model, prefix, initialize_last_layer=False, last_layers_contain_logits_only=True
    )
    assert_same(state(model), drawn(source) | {name: before[name] for name in LOGITS})
    assert report.step == 12
    assert report.loaded == sorted((ENCODER | HEAD) - LOGITS)
    assert (report.missing, report.unused) == (sorted(LOGITS), [])
    assert set(report.skipped.values()) == {"last layers", "state of train.py"}


def test_a_checkpoint_is_written_that_tf1_restores(tmp_path, model, values):
    for weight in model.weights:
        weight.assign(values[reference_name(weight)])
    prefix = save_tf1_checkpoint(model, tmp_path / "tf1" / "model.ckpt-42", step=42)
    assert prefix == str(tmp_path / "tf1" / "model.ckpt-42")
    assert sorted(os.listdir(tmp_path / "tf1")) == [
        "checkpoint",
        "model.ckpt-42.data-00000-of-00001",
        "model.ckpt-42.index",
    ]
    shutil.move(tmp_path / "tf1", tmp_path / "moved")
    latest = tf.train.latest_checkpoint(tmp_path / "moved")
    with tf.Graph().as_default(), v1.Session() as session:
        for name, value in values.items():
            v1.get_variable(name, value.shape, tf.float32)
        v1.train.create_global_step()
        v1.train.Saver().restore(session, latest)
        restored = session.run({variable.op.name: variable for variable in v1.global_variables()})
    assert_same(restored, values | {"global_step": np.int64(42)})
    assert dict(tf.train.list_variables(latest)).keys() == restored.keys()

    for weight in model.weights:
        weight.assign(weight * 0)
    report = load_tf1_checkpoint(model, latest)
    assert_same(state(model), values)
    assert (report.step, report.missing, report.unused) == (42, [], [])


def test_writing_replaces_no_checkpoint(tmp_path):
    model, prefix = small_network(), tmp_path / "model.ckpt"
    save_tf1_checkpoint(model, prefix)
    assert "global_step" not in dict(tf.train.list_variables(prefix))
    with pytest.raises(FileExistsError, match=f"^There is a checkpoint at {prefix} already"):
        save_tf1_checkpoint(model, prefix)
    save_tf1_checkpoint(model, tmp_path / "second")
    assert tf.train.latest_checkpoint(tmp_path) == str(tmp_path / "second")


def test_the_folder_of_a_run_is_not_written_to(tmp_path):
    """It would go on from the wrong checkpoint."""
    model, optimizer = small_network(), MomentumOptimizer(0.1)
    optimizer.build(model.trainable_variables)
    run = training_checkpoint(model, optimizer)
    manager = tf.train.CheckpointManager(run, tmp_path, max_to_keep=3)
    latest = manager.save()
    with pytest.raises(FileExistsError, match=re.escape(f"{tmp_path} is the folder of a run")):
        save_tf1_checkpoint(model, tmp_path / "tf1.ckpt")
    assert tf.train.latest_checkpoint(tmp_path) == latest

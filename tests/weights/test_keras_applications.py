"""Keras's VGG-16, with random weights, against what our networks make of its weights."""

import dataclasses

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import run as training
from deeplab_tf.weights import initialize_from_keras, reference_name
from tests import tiny_run
from tests.golden.rules import make_image, make_weight
from tests.test_cli import run, succeed

FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
# fc6 and fc7 of a quarter of the channels that the small classifier has.
LARGE_FOV = ModelConfig(
    "vgg_16", num_classes=3, output_stride=8, atrous_rates=(12,), fc_filters=4, fc_kernel_size=3
)
VGG_7X7 = dataclasses.replace(LARGE_FOV, atrous_rates=(1,), fc_filters=16, fc_kernel_size=7)
ENCODER = [
    f"conv{block}_{i}" for block, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)
]


@pytest.fixture(scope="module")
def classifier():
    """VGG-16 with 16 channels in place of the 4096 of fc1 and fc2, and with 10 classes."""
    vgg = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    x = layers.Flatten()(vgg.output)
    for name, units in (("fc1", 16), ("fc2", 16), ("predictions", 10)):
        x = layers.Dense(units, activation="relu", name=name)(x)
    model = keras.Model(vgg.input, x, name="vgg16")
    for weight in model.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))
    return model


@pytest.fixture
def as_download(classifier, monkeypatch):
    """The classifier is what Keras downloads."""
    monkeypatch.setattr(keras.applications, "VGG16", lambda weights: classifier)


def values(model):
    return {reference_name(weight): weight.numpy() for weight in model.weights}


def layers_of(scopes):
    return sorted(f"{scope}/{kind}" for scope in scopes for kind in ("weights", "biases"))


# --- The same function ----------------------------------------------------------------------------


def assert_computes_what_keras_does(classifier):
    """Features, fc6 and fc7 of an image, by the layers of Keras; but poolings are 3x3 here.

    The image has 7x7 features, so that fc6 sees all of them from the centre.
    """
    config = dataclasses.replace(
        VGG_7X7, output_stride=32, fc_filters=classifier.get_layer("fc1").units
    )
    model = build_deeplab(config)
    report = initialize_from_keras(model, "keras_vgg16")
    assert report.missing == ["logits/semantic/biases", "logits/semantic/weights"]
    image = make_image(0, 193, 193)[None].astype(np.float32)
    x = keras.applications.vgg16.preprocess_input(image.copy())
    expected = {}
    for layer in classifier.layers[1:]:
        pooling = isinstance(layer, layers.MaxPooling2D)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME") if pooling else layer(x)
        expected[layer.name] = np.asarray(x)

    names = {"block1_conv1": "vgg_16.conv1.conv1_1", "block5_pool": "vgg_16.pool5"}
    names |= {"fc1": "fc6", "fc2": "fc7"}
    outputs = {theirs: model.get_layer(ours).output for theirs, ours in names.items()}
    computed = keras.Model(model.input, outputs)(image, training=False)
    for name in names:
        ours = np.asarray(computed[name])
        if name.startswith("fc"):
            assert ours.shape[1:3] == (7, 7)
            ours = ours[:, 3, 3]
        scale = expected[name].std()
        assert scale > 0
        np.testing.assert_allclose(ours, expected[name], rtol=0, atol=1e-4 * scale)


@pytest.mark.usefixtures("as_download")
def test_computes_what_keras_does(classifier):
    assert_computes_what_keras_does(classifier)


@pytest.mark.slow
def test_computes_what_keras_does_at_full_size(monkeypatch):
    """And LargeFOV takes every fourth of its 4096 channels."""
    vgg = keras.applications.VGG16(weights=None)
    vgg.get_layer("fc1").bias.assign(np.linspace(-1, 1, 4096))
    vgg.get_layer("fc2").bias.assign(np.linspace(1, -1, 4096))
    monkeypatch.setattr(keras.applications, "VGG16", lambda weights: vgg)
    assert_computes_what_keras_does(vgg)

    model = build_deeplab(dataclasses.replace(LARGE_FOV, fc_filters=1024))
    initialize_from_keras(model, "keras_vgg16")
    fc6 = vgg.get_layer("fc1").kernel.numpy().reshape(7, 7, 512, 4096)[::3, ::3, :, ::4]
    np.testing.assert_array_equal(model.get_layer("fc6").kernel, fc6)
    fc7 = vgg.get_layer("fc2").kernel.numpy()[::4, ::4]
    np.testing.assert_array_equal(model.get_layer("fc7").kernel[0, 0], fc7)


@pytest.mark.usefixtures("as_download")
@pytest.mark.parametrize(("side", "rate", "step"), [(3, 12, 3), (4, 8, 2)])
def test_a_smaller_fc6_looks_at_the_same_places(classifier, side, rate, step):
    """As the 7x7 one at rate 4 with all other rows and columns zero (v1, section 3.2)."""
    config = dataclasses.replace(LARGE_FOV, fc_kernel_size=side, atrous_rates=(rate,))
    model = build_deeplab(config)
    initialize_from_keras(model, "keras_vgg16")
    dense = classifier.get_layer("fc1")
    kernel = dense.kernel.numpy().reshape(7, 7, 512, 16)
    sparse = np.zeros_like(kernel)
    sparse[::step, ::step] = kernel[::step, ::step]
    features = np.random.default_rng(0).uniform(0, 1, (1, 29, 31, 512)).astype(np.float32)
    expected = tf.nn.relu(tf.nn.conv2d(features, sparse, 1, "SAME", dilations=4) + dense.bias)
    expected = expected.numpy()[..., ::4]
    assert expected.std() > 0
    ours = model.get_layer("fc6")(features)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * expected.std())


@pytest.mark.usefixtures("as_download")
def test_fc7_has_every_fourth_channel_of_both_sides(classifier):
    model = build_deeplab(LARGE_FOV)
    initialize_from_keras(model, "keras_vgg16")
    kernel, bias = classifier.get_layer("fc2").get_weights()
    np.testing.assert_array_equal(model.get_layer("fc7").kernel[0, 0], kernel[::4, ::4])
    np.testing.assert_array_equal(model.get_layer("fc7").bias, bias[::4])


# --- What is loaded, and what is not --------------------------------------------------------------


@pytest.mark.usefixtures("as_download")
def test_the_report_of_all_branches_and_the_new_layers():
    config = dataclasses.replace(LARGE_FOV, multi_scale_features=True)
    model = build_deeplab(config)
    before = values(model)
    report = initialize_from_keras(model, "keras_vgg16")
    new = [f"msc/pool{i}/conv{layer}" for i in range(5) for layer in (1, 2)]
    assert report.missing == layers_of(["logits/semantic", *new])
    encoder = [f"vgg_16/{name[:5]}/{name}" for name in ENCODER]
    assert report.loaded == layers_of([*encoder, "fc6", "fc7"])
    assert report.unused == []
    kind = "classification head"
    assert report.skipped == {"predictions/biases": kind, "predictions/weights": kind}
    after = values(model)
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == set(report.missing)


@pytest.mark.usefixtures("as_download")
def test_every_branch_of_v2_begins_with_the_same():
    rates = (6, 12, 18, 24)
    config = dataclasses.replace(LARGE_FOV, atrous_rates=rates)
    model = build_deeplab(config)
    report = initialize_from_keras(model, "keras_vgg16")
    assert {name.split("/")[0] for name in report.missing} == {"logits"}
    found = values(model)
    for suffix in ("_1", "_2", "_3"):
        for name in layers_of(["fc6", "fc7"]):
            branch = name.replace("/", f"{suffix}/")
            assert branch in report.loaded
            np.testing.assert_array_equal(found[branch], found[name])


@pytest.mark.usefixtures("as_download")
@pytest.mark.parametrize("config", [LARGE_FOV, ModelConfig("vgg_16", aspp_with_batch_norm=False)])
@pytest.mark.parametrize("backbone_only", [False, True])
def test_fc6_and_fc7_may_be_left_out(config, backbone_only):
    """As they are not asked for, or the network has none."""
    model = build_deeplab(config)
    report = initialize_from_keras(model, "keras_vgg16", backbone_only=backbone_only)
    has_fc, fc = config.fc_filters > 0, layers_of(["fc1", "fc2"])
    assert ("fc6/weights" in report.loaded) == (has_fc and not backbone_only)
    assert ("fc6/weights" in report.missing) == (has_fc and backbone_only)
    assert report.unused == ([] if has_fc or backbone_only else fc)
    assert [name for name, kind in report.skipped.items() if kind == "last layers"] == (
        fc if backbone_only else []
    )


def test_a_file_of_keras(tmp_path):
    """One without fc1 and fc2, in the layout that Keras's files have."""
    vgg = keras.applications.VGG16(weights=None, include_top=False)
    path = tmp_path / FILE.replace(".h5", "_notop.h5")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in vgg.layers]
        for layer in vgg.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_{i}:0" for i in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = make_weight(name, weight.shape)
    model = build_deeplab(LARGE_FOV)
    report = initialize_from_keras(model, str(path))
    assert report.checkpoint == str(path)
    assert report.missing == layers_of(["fc6", "fc7", "logits/semantic"])
    found = values(model)
    for name in ENCODER:
        theirs = f"block{name[4]}_{name[:4]}{name[-1]}"
        kernel = found[f"vgg_16/{name[:5]}/{name}/weights"]
        expected = make_weight(f"{theirs}_0:0", kernel.shape)
        np.testing.assert_array_equal(
            kernel, expected[:, :, ::-1] if name == "conv1_1" else expected
        )
        bias = found[f"vgg_16/{name[:5]}/{name}/biases"]
        np.testing.assert_array_equal(bias, make_weight(f"{theirs}_1:0", bias.shape))


# --- A run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tfrecord"
    tiny_run.write_dataset(folder)
    return str(folder)


@pytest.mark.usefixtures("as_download")
@pytest.mark.parametrize(
    ("settings", "has_fc"),
    [
        ({}, True),
        ({"initialize_last_layer": False}, False),
        ({"initialize_last_layer": False, "last_layers_contain_logits_only": True}, True),
    ],
)
def test_a_run_begins_with_them(dataset_dir, tmp_path, monkeypatch, capsys, settings, has_fc):
    monkeypatch.setattr(training, "TrainStep", tiny_run.NoStep)
    card = dataclasses.replace(
        tiny_run.card(training_number_of_steps=1, **settings), model=LARGE_FOV
    )
    training.train(
        card,
        dataset_dir=dataset_dir,
        train_split="train",
        val_split=None,
        logdir=str(tmp_path),
        initial_checkpoint="keras_vgg16",
    )
    number = 30 if has_fc else 26
    assert f"{number} weights loaded from keras_vgg16" in capsys.readouterr().out


def test_the_flag_takes_the_name(dataset_dir, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "train", lambda card, **options: calls.append((card, options)))
    for start in ("keras_vgg16", f"weights/{FILE}"):
        succeed(
            "train.py",
            f"--dataset_dir={dataset_dir}",
            f"--train_logdir={tmp_path}/never",
            "--preset=deeplabv1_vgg16_largefov",
            "--train_crop_size=321,321",
            f"--tf_initial_checkpoint={start}",
        )
        card, options = calls.pop()
        assert isinstance(card, ModelCard)
        assert options["initial_checkpoint"] == start
        assert options["initial_class_names"] is None


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_download")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("mobilenet_v2"), "mobilenet_v2 has no VGG-16, .* --model_variant=vgg_16"),
        (
            dataclasses.replace(LARGE_FOV, fc_filters=32),
            r"shape \[3, 3, 512, 32\], .* only \[7, 7, 512, 16\]: lower fc_filters",
        ),
        (dataclasses.replace(LARGE_FOV, fc_kernel_size=9), r"\[9, 9, 512, 4\], .* or fc_kernel"),
    ],
)
def test_a_network_they_are_not_for_stays_as_it_is(config, message):
    model = build_deeplab(config)
    before = values(model)
    with pytest.raises(ValueError, match=message):
        initialize_from_keras(model, "keras_vgg16")
    assert all(np.array_equal(before[name], value) for name, value in values(model).items())


def test_a_file_that_is_not_there_or_not_keras_s(tmp_path):
    model = build_deeplab(LARGE_FOV)
    with pytest.raises(FileNotFoundError, match=f"no file gone.h5: expected {FILE} of https://"):
        initialize_from_keras(model, "gone.h5")
    (tmp_path / "html_notop.h5").write_bytes(b"<html>")
    with h5py.File(tmp_path / "mobilenet_notop.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        file.create_group("conv1").attrs["weight_names"] = [b"kernel"]
        file["conv1/kernel"] = np.zeros(3)
    for name in ("html_notop.h5", "mobilenet_notop.h5"):
        with pytest.raises(ValueError, match=f"{name} is damaged, or not of Keras's VGG-16"):
            initialize_from_keras(model, str(tmp_path / name))


def test_without_a_network_a_run_says_what_to_download(dataset_dir, tmp_path, monkeypatch):
    def fail(weights):
        raise Exception("URL fetch failure on https://...: None -- Name or service not known")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    done = run(
        "train.py",
        f"--dataset_dir={dataset_dir}",
        f"--train_logdir={tmp_path}/run",
        "--preset=deeplabv1_vgg16_largefov",
        "--train_crop_size=33,33",
        "--tf_initial_checkpoint=keras_vgg16",
    )
    assert done.code == 1
    assert "keras_vgg16 could not be downloaded: URL fetch failure" in done.err
    assert f"/vgg16/{FILE} elsewhere, then give the path of that file" in done.err
    assert list(tmp_path.iterdir()) == []

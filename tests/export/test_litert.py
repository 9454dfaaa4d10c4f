"""What a LiteRT file computes, by the LiteRT interpreter, is what was evaluated."""

import dataclasses
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from deeplab_tf import InferenceConfig
from deeplab_tf.config import CRFParams
from deeplab_tf.export import litert
from deeplab_tf.export.litert import export_litert, fit_image
from deeplab_tf.predictors import image_predictor
from tests.export.exported_network import CARD, build_network, noise

SIZE = (50, 65)  # padded to 57x65 inside


@pytest.fixture(scope="module")
def model():
    return build_network()


@pytest.fixture(scope="module")
def export(model, tmp_path_factory):
    """Writes a file and gives its interpreter."""

    def write(card=CARD, network=model, **options):
        path = tmp_path_factory.mktemp("litert") / "new" / "model.tflite"
        export_litert(network, card, export_path=path, **options)
        return Interpreter(str(path))

    return write


@pytest.fixture(scope="module")
def fixed(export):
    return export(size=SIZE)


def run(interpreter, images):
    """Labels and probabilities of one image, [1, h, w, c]."""
    runner = interpreter.get_signature_runner("serving_default")
    outputs = runner(ImageTensor=images)
    return outputs["SemanticPredictions"], outputs.get("SemanticProbabilities")


def assert_equals_evaluation(interpreter, images, model, card=CARD, *, atol=1e-4, share=0.999):
    expected = image_predictor(model, card.model, card.inference)(tf.constant(images))
    labels, probabilities = run(interpreter, images)
    assert labels.dtype == np.int32
    assert labels.shape == images.shape[:3]
    assert (labels == np.asarray(expected.labels)).mean() >= share
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=atol)


def operations(interpreter):
    # Once XNNPACK has it, its nodes come on top.
    return Counter(op["op_name"] for op in interpreter._get_ops_details())


def test_equals_evaluation(fixed, model):
    images = noise(1, *SIZE)
    assert_equals_evaluation(fixed, images, model)
    assert set(np.unique(run(fixed, images)[0])) == set(range(5))


def test_names_and_types(fixed):
    (signature,) = fixed.get_signature_list().values()
    assert signature["inputs"] == ["ImageTensor"]
    assert signature["outputs"] == ["SemanticPredictions", "SemanticProbabilities"]
    (image,) = fixed.get_input_details()
    assert (image["dtype"], tuple(image["shape"])) == (np.uint8, (1, *SIZE, 3))


def test_xnnpack_runs_all_but_the_ends_in_one_piece(fixed):
    run(fixed, noise(1, *SIZE))
    found = operations(fixed)
    assert found["DELEGATE"] == 1
    assert set(found) == {
        *("CAST", "PADV2", "RESHAPE", "ADD", "MUL"),  # the image
        *("CONV_2D", "DEPTHWISE_CONV_2D", "CONCATENATION", "MEAN", "RESIZE_BILINEAR"),
        *("STRIDED_SLICE", "ARG_MAX", "SOFTMAX", "DELEGATE"),
    }


def test_nothing_is_padded_that_fits(export):
    found = operations(export(size=(49, 65)))
    assert not {"PADV2", "STRIDED_SLICE"} & set(found)


@pytest.mark.parametrize("shape", [(1, 1), (50, 31), (97, 20), (33, 49)])
def test_any_size(export, model, shape, any_size):
    assert_equals_evaluation(any_size, noise(1, *shape), model)
    assert "SPACE_TO_BATCH_ND" not in operations(any_size)


@pytest.fixture(scope="module")
def any_size(export):
    return export(size=None)


def test_fp16(export, model, fixed):
    half = export(size=SIZE, precision="fp16")
    assert_equals_evaluation(half, noise(1, *SIZE), model, atol=0.1, share=0.97)
    assert (run(half, noise(1, *SIZE))[1] != run(fixed, noise(1, *SIZE))[1]).any()


def test_int8(export, model):
    images = noise(1, *SIZE)
    quantised = export(size=SIZE, precision="int8", representative_images=images)
    assert_equals_evaluation(quantised, images, model, atol=1, share=0.6)
    tensors = quantised.get_tensor_details()
    kernels = [t for t in tensors if len(t["shape"]) == 4 and t["name"].endswith("kernel")]
    assert {tensor["dtype"] for tensor in quantised.get_tensor_details()} >= {np.int8}
    # All that is computed in between is in 8 bits.
    floats = [tensor for tensor in tensors if tensor["dtype"] == np.float32]
    assert all(tensor["shape"].tolist()[-1:] in ([], [3], [5]) for tensor in floats), floats
    assert all(tensor["dtype"] == np.int8 for tensor in kernels)


def test_precisions_differ_in_size(model, tmp_path):
    sizes = {}
    for precision in litert.PRECISIONS:
        path = tmp_path / f"{precision}.tflite"
        options = {"size": (33, 33), "representative_images": noise(1, 33, 33)}
        export_litert(model, CARD, export_path=path, precision=precision, **options)
        sizes[precision] = path.stat().st_size
    assert sizes["fp32"] > 1.3 * sizes["fp16"] > 1.3 * sizes["int8"]


@pytest.mark.parametrize(
    "inference",
    [
        InferenceConfig(eval_scales=(0.75, 1.0), add_flipped_images=True),
        InferenceConfig(min_resize_value=41, max_resize_value=97, resize_factor=8),
    ],
    ids=["scales and flip", "resized to a range"],
)
def test_other_inference(export, model, inference):
    card = dataclasses.replace(CARD, inference=inference)
    assert_equals_evaluation(export(card, size=SIZE), noise(1, *SIZE), model, card)


def test_labels_before_the_upsampling(export, model):
    config = dataclasses.replace(CARD.model, prediction_with_upsampled_logits=False)
    card = dataclasses.replace(CARD, model=config)
    assert_equals_evaluation(export(card, size=SIZE), noise(1, *SIZE), model, card)


def test_channels_of_16_bits(export):
    dataset = dataclasses.replace(
        CARD.dataset, input_channels=4, bit_depth=16, value_range=(100, 3000)
    )
    config = dataclasses.replace(CARD.model, input_channels=4)
    card = dataclasses.replace(CARD, model=config, dataset=dataset)
    model = build_network(config)
    images = noise(1, *SIZE, channels=4).astype(np.uint16) * 13
    labels, probabilities = run(export(card, model, size=SIZE), images)
    scaled = (np.clip(images.astype(np.float64), 100, 3000) - 100) * (255 / 2900)
    expected = image_predictor(model, config, card.inference)(scaled.astype(np.float32))
    assert (labels == np.asarray(expected.labels)).mean() >= 0.999
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-4)


def test_labels_alone(export):
    lean = export(size=SIZE, probabilities=False)
    labels, probabilities = run(lean, noise(1, *SIZE))
    assert probabilities is None
    assert "SOFTMAX" not in operations(lean)
    assert labels.shape == (1, *SIZE)


def test_a_file_without_weights_is_an_error(model, tmp_path, monkeypatch):
    """What the converter makes of a function whose variables are not constants."""

    def empty(*args, **kwargs):
        @tf.function(input_signature=[tf.TensorSpec([1, 9, 9, 3], tf.uint8, name="ImageTensor")])
        def function(images):
            return {"SemanticPredictions": tf.cast(images[..., 0], tf.int32)}

        return function.get_concrete_function()

    monkeypatch.setattr(litert, "frozen_function", empty)
    with pytest.raises(ValueError, match=r"weights of fp32 are .*: they are not in the file"):
        export_litert(model, CARD, export_path=tmp_path / "model.tflite", size=(9, 9))
    assert list(tmp_path.iterdir()) == []


def test_errors(model, tmp_path):
    path = tmp_path / "model.tflite"
    refined = dataclasses.replace(
        CARD, inference=InferenceConfig(crf=CRFParams(3, 1, 4, 67, 3, 10))
    )
    with pytest.raises(ValueError, match=r"dense CRF .* leave out --crf_params"):
        export_litert(model, refined, export_path=path, size=SIZE)
    for options in ({"size": SIZE}, {"size": None, "representative_images": noise(1, 9, 9)}):
        with pytest.raises(ValueError, match="--export_size and --dataset_dir"):
            export_litert(model, CARD, export_path=path, precision="int8", **options)
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="give another file"):
        export_litert(model, CARD, export_path=path, size=SIZE)
    assert path.read_bytes() == b"mine"


def test_fitted_images_are_cropped_and_padded():
    image = noise(1, 20, 60)[0]
    fitted = fit_image(image, (30, 40), CARD)
    np.testing.assert_array_equal(fitted[:20], image[:, :40])
    assert set(fitted[20:].ravel()) <= {127, 128}
    assert fitted.dtype == np.uint8


def test_the_model_is_left_as_it_is(model, export):
    before = [weight.copy() for weight in model.get_weights()]
    export(size=SIZE)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)

"""What an ONNX file computes, by ONNX Runtime, is what was evaluated."""

import dataclasses
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from deeplab_tf import InferenceConfig
from deeplab_tf.config import CRFParams
from deeplab_tf.export.onnx import export_onnx
from deeplab_tf.predictors import image_predictor
from tests.export.exported_network import CARD, build_network, noise

SIZE = (50, 65)  # padded to 57x65 inside
# Of the standard domain; what runtimes on other devices are told to have.
OPERATORS = {
    *("Conv", "Relu", "Clip", "Add", "Sub", "Mul", "Div", "Concat", "Resize", "ReduceMean"),
    *("Softmax", "ArgMax", "Cast", "Transpose", "Reshape", "Pad", "Slice", "Shape", "Gather"),
    *("Max", "Unsqueeze", "Squeeze", "Less", "Equal", "And", "Where"),
}


@pytest.fixture(scope="module")
def model():
    return build_network()


@pytest.fixture(scope="module")
def any_size(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    export_onnx(model, CARD, export_path=path)
    return path


@pytest.fixture(scope="module")
def fixed(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, CARD, export_path=path, size=SIZE)
    return path


def assert_equals_evaluation(path, images, model, card=CARD):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(
        ["SemanticPredictions", "SemanticProbabilities"], {"ImageTensor": images}
    )
    expected = image_predictor(model, card.model, card.inference)(tf.constant(images))
    assert labels.dtype == np.int32
    assert labels.shape == images.shape[:3]
    assert (labels == np.asarray(expected.labels)).mean() >= 0.999
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-4)


# Also of a size whose factor, 65 / 9, does not give 65 again.
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 50, 31), (1, 97, 20), (3, 33, 49), (1, 65, 65)])
def test_any_size(any_size, model, shape):
    assert_equals_evaluation(any_size, noise(*shape), model)


def test_a_fixed_size(fixed, model):
    assert_equals_evaluation(fixed, noise(1, *SIZE), model)


def test_names_and_sizes(any_size, fixed):
    def described(path):
        graph = onnx.load(path).graph
        return {
            tensor.name: [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]
            for tensor in (*graph.input, *graph.output)
        }

    assert described(any_size) == {
        "ImageTensor": ["batch", "height", "width", 3],
        "SemanticPredictions": ["batch", "height", "width"],
        "SemanticProbabilities": ["batch", "height", "width", 5],
    }
    assert described(fixed) == {
        "ImageTensor": [1, *SIZE, 3],
        "SemanticPredictions": [1, *SIZE],
        "SemanticProbabilities": [1, *SIZE, 5],
    }


def test_operators_are_standard_ones(any_size, fixed):
    for path in (any_size, fixed):
        proto = onnx.load(path)
        onnx.checker.check_model(proto, full_check=True)
        assert {node.domain for node in proto.graph.node} == {""}
        assert {node.op_type for node in proto.graph.node} <= OPERATORS
        convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
        dilations = [
            list(a.ints) for node in convolutions for a in node.attribute if a.name == "dilations"
        ]
        assert [2, 2] in dilations and [3, 3] in dilations


@pytest.mark.parametrize(
    "inference",
    [
        InferenceConfig(eval_scales=(0.75, 1.0), add_flipped_images=True),
        InferenceConfig(min_resize_value=41, max_resize_value=97, resize_factor=8),
    ],
    ids=["scales and flip", "resized to a range"],
)
def test_other_inference(model, inference, tmp_path):
    card = dataclasses.replace(CARD, inference=inference)
    export_onnx(model, card, export_path=tmp_path / "model.onnx", size=SIZE)
    assert_equals_evaluation(tmp_path / "model.onnx", noise(1, *SIZE), model, card)


def test_errors(model, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    refined = dataclasses.replace(
        CARD, inference=InferenceConfig(crf=CRFParams(3, 1, 4, 67, 3, 10))
    )
    with pytest.raises(ValueError, match=r"dense CRF .* leave out --crf_params"):
        export_onnx(model, refined, export_path=path)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'deeplab-tf\[onnx\]'"):
        export_onnx(model, CARD, export_path=path)
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="give another file"):
        export_onnx(model, CARD, export_path=path)
    assert path.read_bytes() == b"mine"

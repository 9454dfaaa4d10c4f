"""The signatures of a SavedModel agree with one another, in everything that can load it."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from deeplab_tf.model_card import ModelCard
from tests.test_export import CARD, SHAPES, compile_client, noise_images

from .conftest import MAX_PIXELS

# Nothing of this package: every signature in a TF1 session.
IN_A_TF1_SESSION = """
import sys
import numpy as np
import tensorflow as tf

folder, inputs_file, results_file = sys.argv[1:]
inputs, results = np.load(inputs_file, allow_pickle=True), {}
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    for name in ("serving_default", "labels", "logits", "encoded", "metadata"):
        signature = loaded.signature_def[name]
        ((key, tensor),) = signature.inputs.items()
        fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
        for key, value in session.run(fetches, {tensor.name: inputs[key]}).items():
            results[f"{name}/{key}"] = value
assert "deeplab_tf" not in sys.modules
np.savez(results_file, **results)
"""


def file_of(image, kind="PNG", **options):
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind, **options)
    return data.getvalue()


def opened(mask):
    image = Image.open(io.BytesIO(mask))
    assert image.mode == "L"
    return np.asarray(image)


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_and_logits_are_those_of_the_default_signature(loaded, shape):
    images = tf.constant(noise_images(*shape))
    outputs = loaded.signatures["serving_default"](ImageTensor=images)
    labels = loaded.signatures["labels"](ImageTensor=images)
    assert list(labels) == ["SemanticPredictions"]
    np.testing.assert_array_equal(labels["SemanticPredictions"], outputs["SemanticPredictions"])
    logits = loaded.signatures["logits"](ImageTensor=images)["logits"].numpy()
    assert (logits.dtype, logits.shape) == (np.float32, (*shape, 5))
    np.testing.assert_array_equal(logits.argmax(-1), outputs["SemanticPredictions"])
    exponentials = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(
        exponentials / exponentials.sum(-1, keepdims=True),
        outputs["SemanticProbabilities"],
        atol=1e-6,
    )


def test_files_of_many_sizes_in_one_batch(encoded, labels):
    images = [noise_images(1, *shape[1:])[0] for shape in SHAPES]
    masks, errors = encoded([file_of(image) for image in images])
    assert errors == [""] * len(images)
    for image, mask in zip(images, masks, strict=True):
        np.testing.assert_array_equal(opened(mask), labels(image))


def test_a_jpeg_is_decoded_as_in_evaluation(encoded, labels):
    file = file_of(noise_images(1, 50, 31)[0], "JPEG")
    image = tf.io.decode_image(file, channels=3, expand_animations=False).numpy()
    (mask,), _ = encoded([file])
    np.testing.assert_array_equal(opened(mask), labels(image))


def test_no_files(encoded):
    assert encoded([]) == ([], [])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_metadata(loaded, rows):
    facts = loaded.signatures["metadata"](request=tf.constant([""] * rows, tf.string))
    assert {len(value) for value in facts.values()} == {rows}
    for row in range(rows):
        names = [name.decode() for name in facts["class_names"][row].numpy()]
        assert names == list(CARD.dataset.class_names)
        np.testing.assert_array_equal(facts["palette"][row], CARD.dataset.palette)
        assert facts["max_pixels"][row] == MAX_PIXELS
        card = json.loads(facts["model_card"][row].numpy())
        assert card == json.loads(CARD.to_json())


def test_assets(exported):
    text = (exported / "assets" / "labels.txt").read_text(encoding="utf-8")
    assert text.splitlines() == list(CARD.dataset.class_names)
    assert ModelCard.load(exported / "assets.extra") == CARD


def test_weights_are_in_the_file_once(exported, seasoned):
    saved_model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    (graph,) = saved_model.meta_graphs
    nodes = [
        *graph.graph_def.node,
        *(n for f in graph.graph_def.library.function for n in f.node_def),
    ]
    parameters = sum(weight.shape.num_elements() for weight in seasoned.trainable_weights)
    constants = sum(len(node.attr["value"].tensor.tensor_content) for node in nodes)
    assert 4 * 0.9 * parameters < constants < 4 * 1.1 * parameters


def test_a_tf1_session_of_a_fresh_process(exported, loaded, tmp_path):
    images = noise_images(2, 50, 31)
    inputs = {
        "ImageTensor": images,
        "image_bytes": np.array([file_of(images[0]), b"", file_of(images[1][:20])], object),
        "request": np.array(["", ""], object),
    }
    np.savez(tmp_path / "inputs.npz", **inputs)
    files = [exported, tmp_path / "inputs.npz", tmp_path / "results.npz"]
    subprocess.run([sys.executable, "-I", "-c", IN_A_TF1_SESSION, *files], check=True, cwd=tmp_path)
    results = np.load(tmp_path / "results.npz", allow_pickle=True)
    for name, signature in loaded.signatures.items():
        (key,) = signature.structured_input_signature[1]
        outputs = signature(**{key: tf.constant(inputs[key])})
        assert {f"{name}/{output}" for output in outputs} <= set(results)
        for output, value in outputs.items():
            result = results[f"{name}/{output}"]
            if value.dtype == tf.float32:
                np.testing.assert_allclose(result, value, atol=1e-5)
            else:
                np.testing.assert_array_equal(result, value.numpy())


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compile a C program")
def test_files_through_the_c_api(exported, encoded, tmp_path):
    program = compile_client(Path(__file__).parents[1] / "encoded_client.c", tmp_path)
    saved_model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    signature = saved_model.meta_graphs[0].signature_def["encoded"]
    tensors = [
        signature.inputs["image_bytes"].name,
        signature.outputs["mask_bytes"].name,
        signature.outputs["error"].name,
    ]
    for file in (file_of(noise_images(1, 50, 31)[0]), b"no image"):
        done = subprocess.run(
            [program, exported, *tensors], input=file, capture_output=True, check=True
        )
        (mask,), (error,) = encoded([file])
        assert done.stdout == mask
        assert done.stderr.decode().endswith(f"error: {error}\n")


def test_nothing_is_left_beside_it(exported):
    assert os.listdir(exported.parent) == ["1"]

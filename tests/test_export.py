"""What is exported computes what was evaluated, in everything that can load it."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig, build_deeplab, crf
from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import CRFParams
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.export import export_frozen_graph, export_saved_model
from deeplab_tf.export.fresh_process import CLIENT, compile_client
from deeplab_tf.inference import predict
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import label_predictor, probability_predictor
from tests.export.exported_network import season

CARD = ModelCard(
    model=ModelConfig(
        depth_multiplier=0.25,
        num_classes=5,
        atrous_rates=(1, 2),
        aspp_convs_filters=16,
        decoder_output_stride=(4,),
        decoder_filters=16,
    ),
    data=DataConfig(),
    train=TrainConfig(),
    # Some images are smaller in both directions, some in one, some in none.
    inference=InferenceConfig(crop_size=(33, 49)),
    dataset=DatasetInfo(
        name="shapes",
        class_names=("background", "disc", "ring", "star", "dé"),
        palette=((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)),
        ignore_label=255,
        splits={"val": 1},
    ),
)
# Batch, height, width: one pixel, less than the output stride, k * 16 + 1, odd, even, long.
SHAPES = [(1, 1, 1), (3, 7, 5), (2, 33, 49), (3, 50, 31), (2, 64, 65), (1, 97, 20)]
MEAN_PIXEL = get_backbone(CARD.model.model_variant).mean_pixel

# Nothing of this package.
SERVE_ELSEWHERE = """
import sys
import numpy as np
import tensorflow as tf

folder, images_file, results_file = sys.argv[1:]
images, results = dict(np.load(images_file)), {}

served = tf.saved_model.load(folder).signatures["serving_default"]
for i, image in images.items():
    for name, value in served(ImageTensor=tf.constant(image)).items():
        results[f"tf2/{i}/{name}"] = value.numpy()

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = loaded.signature_def["serving_default"]
    fetches = {name: tensor.name for name, tensor in signature.outputs.items()}
    for i, image in images.items():
        feed = {signature.inputs["ImageTensor"].name: image}
        for name, value in session.run(fetches, feed).items():
            results[f"tf1/{i}/{name}"] = value

assert "deeplab_tf" not in sys.modules
np.savez(results_file, **results)
"""


def seasoned_model():
    """Untrained, but batch norms have seen images and every class is among the predictions."""
    return season(build_deeplab(CARD.model), noise_images(4, 97, 97))


@pytest.fixture(scope="module")
def model():
    return seasoned_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "new" / "1"
    export_saved_model(model, CARD, export_path=folder)
    return folder


@pytest.fixture(scope="module")
def signature(exported):
    """What TensorFlow Serving looks up: keys, types and the tensors behind them."""
    saved_model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    (graph,) = saved_model.meta_graphs
    return graph.signature_def["serving_default"]


@pytest.fixture(scope="module")
def served(exported):
    """Images to labels and probabilities, by the export."""
    loaded = tf.saved_model.load(str(exported))
    names = {"serving_default", "labels", "encoded", "logits", "metadata"}
    assert set(loaded.signatures) == names

    def call(images):
        outputs = loaded.signatures["serving_default"](ImageTensor=tf.constant(images))
        return outputs["SemanticPredictions"].numpy(), outputs["SemanticProbabilities"].numpy()

    return call


@pytest.fixture(scope="module")
def compiled(model):
    """`predict`, compiled as evaluation compiles it: eager batch norms round otherwise."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    def call(images):
        return predict(model, images, output_stride=16, mean_pixel=MEAN_PIXEL, crop_size=(33, 49))

    return call


@pytest.fixture(scope="module")
def predict_labels(model):
    return label_predictor(model, CARD.model, CARD.inference)


def test_signature(signature):
    def described(tensors):
        return {
            key: (tf.as_dtype(t.dtype).name, [d.size for d in t.tensor_shape.dim])
            for key, t in tensors.items()
        }

    assert described(signature.inputs) == {"ImageTensor": ("uint8", [-1, -1, -1, 3])}
    assert described(signature.outputs) == {
        "SemanticPredictions": ("int32", [-1, -1, -1]),
        "SemanticProbabilities": ("float32", [-1, -1, -1, 5]),
    }
    assert signature.method_name == "tensorflow/serving/predict"


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_evaluation(shape, served, compiled, predict_labels):
    images = noise_images(*shape)
    labels, probabilities = served(images)
    expected = compiled(images)
    # Folded batch norms round otherwise.
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    first, second = np.sort(probabilities)[..., :-3:-1].transpose(3, 0, 1, 2)
    sure = first - second > 1e-3
    assert sure.mean() > 0.98
    for evaluated in (expected.labels.numpy(), [predict_labels(image) for image in images]):
        np.testing.assert_array_equal(labels[sure], np.asarray(evaluated)[sure])


def test_equals_the_network_on_an_image_padded_by_hand(model, served):
    image = noise_images(1, 40, 50)
    padded = np.broadcast_to(np.float32(MEAN_PIXEL), (1, 49, 65, 3)).copy()
    padded[:, :40, :50] = image
    logits = np.asarray(model(padded, training=False), np.float64)[:, :40, :50]
    exponentials = np.exp(logits)

    labels, probabilities = served(image)
    assert (labels == logits.argmax(-1)).mean() > 0.999
    assert set(np.unique(labels)) == set(range(5))
    np.testing.assert_allclose(
        probabilities, exponentials / exponentials.sum(-1, keepdims=True), atol=1e-4
    )


def test_images_of_a_batch_do_not_meet(served):
    images = noise_images(3, 50, 31)
    labels, probabilities = served(images)
    for i in range(3):
        alone_labels, alone_probabilities = served(images[i : i + 1])
        np.testing.assert_array_equal(labels[i], alone_labels[0])
        np.testing.assert_allclose(probabilities[i], alone_probabilities[0], atol=1e-5)
    assert (labels[0] != labels[1]).any()


def test_tf2_and_a_tf1_session_of_a_fresh_process(exported, served, tmp_path):
    images = {str(i): noise_images(*shape) for i, shape in enumerate(SHAPES)}
    np.savez(tmp_path / "images.npz", **images)
    files = [exported, tmp_path / "images.npz", tmp_path / "results.npz"]
    subprocess.run([sys.executable, "-I", "-c", SERVE_ELSEWHERE, *files], check=True, cwd=tmp_path)
    results = np.load(tmp_path / "results.npz")
    for i, batch in images.items():
        labels, probabilities = served(batch)
        for loader in ("tf2", "tf1"):
            np.testing.assert_array_equal(results[f"{loader}/{i}/SemanticPredictions"], labels)
            np.testing.assert_allclose(
                results[f"{loader}/{i}/SemanticProbabilities"], probabilities, atol=1e-5
            )


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compile a C program")
def test_c_api(exported, signature, served, tmp_path):
    """The nearest thing to TensorFlow Serving that runs where only the wheel is installed."""
    program = compile_client(CLIENT, tmp_path)
    batches = [noise_images(2, 50, 31), noise_images(1, 20, 33)]
    tensors = [
        signature.inputs["ImageTensor"].name,
        signature.outputs["SemanticPredictions"].name,
        signature.outputs["SemanticProbabilities"].name,
    ]
    results = subprocess.run(
        [program, exported, *tensors, "3", "1", *(str(n) for b in batches for n in b.shape[:3])],
        input=b"".join(batch.tobytes() for batch in batches),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout

    for images in batches:
        labels, probabilities = served(images)
        end = labels.nbytes + probabilities.nbytes
        c_labels = np.frombuffer(results[: labels.nbytes], np.int32)
        np.testing.assert_array_equal(c_labels, labels.ravel())
        c_probabilities = np.frombuffer(results[labels.nbytes : end], np.float32)
        np.testing.assert_allclose(c_probabilities, probabilities.ravel(), atol=1e-5)
        (milliseconds,) = np.frombuffer(results[end : end + 8], np.float64)
        assert 0 < milliseconds < 60_000
        results = results[end + 8 :]
    assert results == b""


def test_a_frozen_graph_in_a_tf1_session(model, served, tmp_path):
    export_frozen_graph(model, CARD, export_path=tmp_path / "new" / "frozen.pb")
    graph = tf.compat.v1.GraphDef.FromString((tmp_path / "new" / "frozen.pb").read_bytes())
    assert not any("Variable" in node.op for node in graph.node)
    tensors = ["SemanticPredictions:0", "SemanticProbabilities:0"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        results = [
            session.run(tensors, {"ImageTensor:0": noise_images(*shape)}) for shape in SHAPES
        ]
    for shape, (labels, probabilities) in zip(SHAPES, results, strict=True):
        expected_labels, expected_probabilities = served(noise_images(*shape))
        # Batch norms between constants are folded into the convolutions, which rounds otherwise.
        assert (labels == expected_labels).mean() > 0.999
        np.testing.assert_allclose(probabilities, expected_probabilities, atol=1e-4)
    assert os.listdir(tmp_path / "new") == ["frozen.pb"]


def test_the_inference_graph_is_text(model, tmp_path):
    export_frozen_graph(model, CARD, export_path=tmp_path / "frozen.pb", inference_graph=True)
    text = (tmp_path / "inference_graph.pbtxt").read_text()
    graph = text_format.Parse(text, tf.compat.v1.GraphDef())
    assert "ImageTensor" in {node.name for node in graph.node}
    with pytest.raises(FileExistsError, match="give another file"):
        export_frozen_graph(model, CARD, export_path=tmp_path / "frozen.pb")


def test_the_card_travels_with_the_model(exported):
    assert ModelCard.load(exported / "assets.extra") == CARD


def test_nothing_is_left_beside_the_export(exported):
    assert os.listdir(exported.parent) == ["1"]


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_exists_is_not_touched(model, tmp_path, kind):
    path = tmp_path / "export"
    if kind == "folder":
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"mine")
    elif kind == "file":
        path.write_bytes(b"mine")
    else:
        path.symlink_to("nowhere")
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}

    with pytest.raises(FileExistsError, match=r"--export_path=.*export exists: give another"):
        export_saved_model(model, CARD, export_path=path)

    assert before == {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}


def test_an_interrupted_write_leaves_nothing(model, tmp_path, monkeypatch):
    def write_half(trackable, folder, **kwargs):
        Path(folder, "saved_model.pb").write_bytes(b"half")
        assert not (tmp_path / "export").exists()
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", write_half)
    with pytest.raises(OSError, match="No space left"):
        export_saved_model(model, CARD, export_path=tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


# --- With the dense CRF ---------------------------------------------------------------------------

# The network sees these images at another size, the CRF at their own.
REFINED_CARD = dataclasses.replace(
    CARD,
    inference=InferenceConfig(
        min_resize_value=56,
        max_resize_value=97,
        crf=CRFParams(pos_w=2, pos_xy=2, bi_w=4, bi_xy=20, bi_rgb=13, iterations=10),
    ),
)
REFINED_SHAPES = [(2, 50, 31), (1, 64, 65), (1, 1, 1)]


@pytest.fixture(scope="module")
def refined(model):
    """Labels and probabilities of evaluation for the images of each shape, by the numba CRF."""
    inference = REFINED_CARD.inference
    predict_labels = label_predictor(model, CARD.model, inference)
    predict_probabilities = probability_predictor(model, CARD.model, inference)
    results = []
    for shape in REFINED_SHAPES:
        images = noise_images(*shape)
        probabilities = [
            crf.dense_crf(image, predict_probabilities(image), inference.crf) for image in images
        ]
        labels = np.stack([predict_labels(image) for image in images])
        before = np.stack([predict_probabilities(image).argmax(-1) for image in images])
        assert shape == (1, 1, 1) or 0.02 < (labels != before).mean() < 0.9
        results.append((labels, np.stack(probabilities)))
    return results


def assert_refined_alike(labels, probabilities, expected_labels, expected_probabilities):
    """Within what two lattices agree to (tests/golden/crf/README.md)."""
    error = np.abs(probabilities - expected_probabilities)
    assert error.mean() <= 1e-5
    assert np.quantile(error, 0.999) <= 1e-3
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    first, second = np.sort(expected_probabilities)[..., :-3:-1].transpose(3, 0, 1, 2)
    sure = first - second > 1e-2
    np.testing.assert_array_equal(labels[sure], expected_labels[sure])


def test_the_refined_export_in_a_fresh_process(model, refined, tmp_path):
    export_saved_model(model, REFINED_CARD, export_path=tmp_path / "1")
    images = {str(i): noise_images(*shape) for i, shape in enumerate(REFINED_SHAPES)}
    np.savez(tmp_path / "images.npz", **images)
    files = [tmp_path / "1", tmp_path / "images.npz", tmp_path / "results.npz"]
    subprocess.run([sys.executable, "-I", "-c", SERVE_ELSEWHERE, *files], check=True, cwd=tmp_path)
    results = np.load(tmp_path / "results.npz")
    for i, expected in enumerate(refined):
        for loader in ("tf2", "tf1"):
            labels = results[f"{loader}/{i}/SemanticPredictions"]
            assert labels.dtype == np.int32
            assert_refined_alike(labels, results[f"{loader}/{i}/SemanticProbabilities"], *expected)


def test_a_refined_frozen_graph(model, refined, tmp_path):
    export_frozen_graph(model, REFINED_CARD, export_path=tmp_path / "frozen.pb")
    graph = tf.compat.v1.GraphDef.FromString((tmp_path / "frozen.pb").read_bytes())
    tensors = ["SemanticPredictions:0", "SemanticProbabilities:0"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        for shape, expected in zip(REFINED_SHAPES, refined, strict=True):
            results = session.run(tensors, {"ImageTensor:0": noise_images(*shape)})
            assert_refined_alike(*results, *expected)


def noise_images(batch, height, width):
    """Patches of noise, uint8 [b, h, w, 3], other ones for each image."""
    rng = np.random.default_rng([batch, height, width])
    patches = rng.integers(0, 256, (batch, height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return patches.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].copy()

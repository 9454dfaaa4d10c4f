"""What TensorFlow Serving finds in its folder of a model, with its own messages."""

import base64
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from deeplab_tf.cli import flag_table
from deeplab_tf.export import MAX_PIXELS, export_saved_model, next_version
from examples import serving_client
from tests.test_export import CARD, noise_images

from .test_signatures import file_of, opened


def warmup_requests(folder):
    records = tf.data.TFRecordDataset(
        str(folder / "assets.extra" / "tf_serving_warmup_requests")
    ).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log"] * len(logs)
    return [log.predict_log.request for log in logs]


def test_warmup_requests_run_every_signature(exported, loaded):
    requests = warmup_requests(exported)
    names = [request.model_spec.signature_name for request in requests]
    assert sorted(names) == sorted(loaded.signatures)
    for request in requests:
        signature = loaded.signatures[request.model_spec.signature_name]
        ((name, spec),) = signature.structured_input_signature[1].items()
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        assert {key: value.dtype for key, value in inputs.items()} == {name: spec.dtype}
        outputs = signature(**inputs)
        if "error" in outputs:
            assert list(outputs["error"].numpy()) == [b""]
        if "SemanticPredictions" in outputs:
            assert outputs["SemanticPredictions"].shape == (1, *CARD.inference.crop_size)


def test_without_its_package(seasoned, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.prediction_log_pb2", None)
    with pytest.raises(ImportError, match=r"pip install 'deeplab-tf\[serving\]'"):
        export_saved_model(seasoned, CARD, export_path=tmp_path / "model" / "1", warmup=True)
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("names", "version"),
    [([], 1), (["1"], 2), (["9", "10", "2"], 11), (["1", "latest", ".2.partial-7", "x3"], 2)],
)
def test_the_next_version(tmp_path, names, version):
    for name in names:
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == version
    assert next_version(tmp_path / "missing") == 1


def test_the_flag_and_the_function_have_one_limit():
    (flag,) = (flag for flag in flag_table.EXPORT if flag.name == "export_max_pixels")
    assert flag.default == MAX_PIXELS


# --- The clients of examples/, against the two protocols ------------------------------------------
# tensorflow_model_server itself is in no pip package. What stands in for it runs the SavedModel
# behind the server's own gRPC service, and behind JSON as its REST documentation has it.


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The gRPC service, with requests and replies of the real protos."""

    def __init__(self, loaded):
        self.loaded = loaded

    def Predict(self, request, context):
        outputs = self.loaded.signatures[request.model_spec.signature_name](
            **{key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        )
        assert request.model_spec.name == "shapes"
        assert set(request.output_filter) <= set(outputs)
        response = predict_pb2.PredictResponse()
        for key in request.output_filter or outputs:
            response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key].numpy()))
        return response


def rest_reply(loaded, body):
    """JSON to JSON: {"b64": ...} are bytes, and so are outputs whose name ends in _bytes."""
    request = json.loads(body)
    assert set(request) == {"signature_name", "instances"}
    signature = loaded.signatures[request["signature_name"]]
    ((name, spec),) = signature.structured_input_signature[1].items()
    instances = request["instances"]
    if spec.dtype == tf.string:
        instances = [base64.b64decode(x["b64"]) if isinstance(x, dict) else x for x in instances]
    outputs = signature(**{name: tf.constant(instances, spec.dtype)})
    assert {len(value) for value in outputs.values()} == {len(instances)}
    return rest_json(outputs, rows=len(instances))


def rest_json(outputs, *, rows):
    def cell(key, value):
        if isinstance(value, bytes):
            in_base64 = {"b64": base64.b64encode(value).decode()}
            return in_base64 if key.endswith("_bytes") else value.decode()
        return [cell(key, part) for part in value] if value.dtype == object else value.tolist()

    columns = {key: value.numpy() for key, value in outputs.items()}
    cells = [{key: cell(key, value[i]) for key, value in columns.items()} for i in range(rows)]
    if len(columns) == 1:
        cells = [value for row in cells for value in row.values()]
    return json.dumps({"predictions": cells}).encode()


@pytest.fixture(scope="module")
def grpc_address(loaded):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(loaded), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


@pytest.fixture(scope="module")
def rest_address(loaded):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/models/shapes:predict"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = rest_reply(loaded, body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args):
            pass

    server = HTTPServer(("localhost", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_client_writes_masks(protocol, request, labels, tmp_path, capsys):
    images = [noise_images(1, 50, 31)[0], noise_images(1, 7, 64)[0]]
    for i, image in enumerate(images):
        (tmp_path / f"{i}.png").write_bytes(file_of(image))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    files = [str(tmp_path / name) for name in ("0.png", "broken.png", "1.png")]
    address = request.getfixturevalue(f"{protocol}_address")

    serving_client.main([protocol, address, "shapes", *files])

    for i, image in enumerate(images):
        mask = (tmp_path / f"{i}_mask.png").read_bytes()
        np.testing.assert_array_equal(opened(mask), labels(image))
    assert f"{files[1]}: no JPEG or PNG file" in capsys.readouterr().out
    assert not (tmp_path / "broken_mask.png").exists()


def test_metadata_over_rest(loaded):
    body = json.dumps({"signature_name": "metadata", "instances": [""]}).encode()
    (row,) = json.loads(rest_reply(loaded, body))["predictions"]
    assert row["class_names"] == list(CARD.dataset.class_names)
    assert row["palette"] == [list(color) for color in CARD.dataset.palette]
    assert json.loads(row["model_card"])["dataset"]["name"] == "shapes"


def test_masks_are_a_twentieth_of_the_tensors_reply(loaded):
    """Of a photo-like image of 513 x 513: smooth, with noise on it."""
    rng = np.random.default_rng(0)
    smooth = tf.image.resize(rng.uniform(0, 255, (8, 8, 3)), (513, 513), "bicubic").numpy()
    image = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    outputs = loaded.signatures["serving_default"](ImageTensor=tf.constant(image[None]))
    as_tensors = rest_json(outputs, rows=1)
    as_labels = rest_json({"SemanticPredictions": outputs["SemanticPredictions"]}, rows=1)
    as_file = rest_reply(loaded, serving_client.rest_body([file_of(image)]))
    ((mask, error),) = serving_client.rest_masks(as_file)
    assert error == ""
    np.testing.assert_array_equal(opened(mask), outputs["SemanticPredictions"][0])
    assert len(as_file) < 0.05 * len(as_tensors)
    assert len(as_file) < 0.1 * len(as_labels)  # though this network's borders are ragged

"""Sends image files to TensorFlow Serving and writes the masks beside them.

The signature "encoded" takes JPEG and PNG files of any sizes in one request, and returns PNG files
of class indices. REST needs nothing but Python; gRPC needs `pip install tensorflow-serving-api`.

Usage: python examples/serving_client.py rest localhost:8501 MODEL IMAGE_FILE...
       python examples/serving_client.py grpc localhost:8500 MODEL IMAGE_FILE...
"""

import base64
import json
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def rest_body(files: Sequence[bytes]) -> bytes:
    """The JSON that is posted to /v1/models/MODEL:predict."""
    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    return json.dumps({"signature_name": "encoded", "instances": instances}).encode()


def rest_masks(reply: bytes) -> list[tuple[bytes, str]]:
    """For each file its mask, a PNG file, and what is wrong with it: one of them is empty."""
    rows = json.loads(reply)["predictions"]
    return [(base64.b64decode(row["mask_bytes"]["b64"]), row["error"]) for row in rows]


def over_rest(address: str, model: str, files: Sequence[bytes]) -> list[tuple[bytes, str]]:
    """Masks and errors of files."""
    url = f"http://{address}/v1/models/{model}:predict"
    with urllib.request.urlopen(urllib.request.Request(url, rest_body(files))) as reply:
        return rest_masks(reply.read())


def grpc_request(model: str, files: Sequence[bytes]) -> Any:
    """The PredictRequest."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "encoded"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(files), tf.string))
    return request


def grpc_masks(response: Any) -> list[tuple[bytes, str]]:
    """As `rest_masks`, of a PredictResponse."""
    masks, errors = (response.outputs[key].string_val for key in ("mask_bytes", "error"))
    return [(mask, error.decode()) for mask, error in zip(masks, errors, strict=True)]


def over_grpc(address: str, model: str, files: Sequence[bytes]) -> list[tuple[bytes, str]]:
    """Masks and errors of files."""
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    # Messages are limited to 4 MB otherwise, on either side.
    options = [(f"grpc.max_{side}_message_length", -1) for side in ("send", "receive")]
    with grpc.insecure_channel(address, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return grpc_masks(stub.Predict(grpc_request(model, files), timeout=60))


def main(arguments: Sequence[str]) -> None:
    """Writes IMAGE_mask.png for each IMAGE, or says why there is none."""
    protocol, address, model, *paths = arguments
    send = {"rest": over_rest, "grpc": over_grpc}[protocol]
    masks = send(address, model, [Path(path).read_bytes() for path in paths])
    for path, (mask, error) in zip(map(Path, paths), masks, strict=True):
        if error:
            print(f"{path}: {error}")
            continue
        target = path.with_name(f"{path.stem}_mask.png")
        target.write_bytes(mask)
        print(f"{path} -> {target}")


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[1] not in ("rest", "grpc"):
        sys.exit(__doc__)
    main(sys.argv[1:])

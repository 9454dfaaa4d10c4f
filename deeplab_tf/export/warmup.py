"""Requests that TensorFlow Serving runs when it loads a model, so that no client waits for it."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf.data.channels import encode_png
from deeplab_tf.export.serving import images_spec
from deeplab_tf.model_card import ModelCard

FILENAME = "tf_serving_warmup_requests"
_DEFAULT_SIZE = (513, 513)


def write_warmup_requests(folder: Path, card: ModelCard) -> None:
    """Writes `folder`/tf_serving_warmup_requests, a record of a request for each signature.

    Images are of the size that the card's inference pads to, 513x513 if it does not say.

    Raises:
        ImportError: tensorflow-serving-api is not installed.
    """
    logs = _serving_api("prediction_log_pb2")
    with tf.io.TFRecordWriter(str(folder / FILENAME)) as writer:
        for request in _requests(card):
            log = logs.PredictionLog(predict_log=logs.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _requests(card: ModelCard) -> list[Any]:
    """One for each signature."""
    spec, size = images_spec(card), card.inference.crop_size or _DEFAULT_SIZE
    image = np.full([1, *size, spec.shape[-1]], 127, spec.dtype.as_numpy_dtype)
    inputs = {
        "serving_default": (spec.name, image),
        "labels": (spec.name, image),
        "logits": (spec.name, image),
        "encoded": ("image_bytes", np.array([encode_png(image[0])], object)),
        "metadata": ("request", np.array([""], object)),
    }
    predict = _serving_api("predict_pb2")
    requests = []
    for signature, (name, value) in inputs.items():
        request = predict.PredictRequest()
        request.model_spec.name = card.model.model_variant
        request.model_spec.signature_name = signature
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        requests.append(request)
    return requests


def _serving_api(module: str) -> Any:
    try:
        return importlib.import_module(f"tensorflow_serving.apis.{module}")
    except ImportError as error:
        raise ImportError(
            "Warm-up requests need TensorFlow Serving's messages: pip install 'deeplab-tf[serving]'"
        ) from error

"""Predictions of image files, videos and cameras, written as files."""

from deeplab_tf.prediction.exported import ExportedNetwork, card_of_export, find_export
from deeplab_tf.prediction.outputs import OUTPUTS, Style
from deeplab_tf.prediction.run import (
    PredictionReport,
    find_inputs,
    predict_inputs,
    weights_digest,
)

__all__ = [
    "OUTPUTS",
    "ExportedNetwork",
    "PredictionReport",
    "Style",
    "card_of_export",
    "find_export",
    "find_inputs",
    "predict_inputs",
    "weights_digest",
]

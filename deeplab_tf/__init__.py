"""DeepLab for Keras 3 and TensorFlow 2."""

import importlib
import os
from types import ModuleType

# TensorFlow reports real errors as exceptions; what it logs beside them hides the progress bar.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from deeplab_tf.config import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.inference import predict_probabilities
from deeplab_tf.model_info import model_info

__all__ = [
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "TrainConfig",
    "build_deeplab",
    "model_info",
    "predict_probabilities",
]


def __getattr__(name: str) -> ModuleType:
    """Loads a package that needs more than Keras (TensorFlow, numba) when it is asked for."""
    if name in ("crf", "weights"):
        return importlib.import_module(f"deeplab_tf.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

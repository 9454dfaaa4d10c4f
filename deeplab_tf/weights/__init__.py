"""Reading and writing weights, strictly: every value is used exactly once, or it is an error.

Starting points for training take what fits, and report what does not.
"""

from deeplab_tf.weights.checkpoint import LoadReport, is_of_a_run, reference_name
from deeplab_tf.weights.classifier import initialize_from_classifier, is_classifier
from deeplab_tf.weights.keras_applications import (
    initialize_from_keras,
    is_from_keras,
)
from deeplab_tf.weights.locate import locate_checkpoint
from deeplab_tf.weights.native import load_weights, training_checkpoint
from deeplab_tf.weights.tf1 import (
    initialize_from_checkpoint,
    load_tf1_checkpoint,
    save_tf1_checkpoint,
)
from deeplab_tf.weights.zoo import find_model as find_zoo_model

__all__ = [
    "LoadReport",
    "find_zoo_model",
    "initialize_from_checkpoint",
    "initialize_from_classifier",
    "initialize_from_keras",
    "is_classifier",
    "is_from_keras",
    "is_of_a_run",
    "load_tf1_checkpoint",
    "load_weights",
    "locate_checkpoint",
    "reference_name",
    "save_tf1_checkpoint",
    "training_checkpoint",
]

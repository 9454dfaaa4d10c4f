"""Reading and writing weights, strictly: every value is used exactly once, or it is an error."""

from deeplab_tf.weights.native import latest_checkpoint, load_weights, training_checkpoint

__all__ = ["latest_checkpoint", "load_weights", "training_checkpoint"]

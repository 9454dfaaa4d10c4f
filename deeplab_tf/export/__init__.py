"""Writing a trained network in forms that are served without this package."""

from deeplab_tf.export.frozen_graph import export_frozen_graph
from deeplab_tf.export.network import frozen_network, fused_network
from deeplab_tf.export.saved_model import EXTRA_FOLDER, export_saved_model, next_version
from deeplab_tf.export.serving import MAX_PIXELS
from deeplab_tf.folding import fold_batch_norm

__all__ = [
    "EXTRA_FOLDER",
    "MAX_PIXELS",
    "export_frozen_graph",
    "export_saved_model",
    "fold_batch_norm",
    "frozen_network",
    "fused_network",
    "next_version",
]

"""DeepLab's heads, one module per system they came with; layer names are the reference's scopes."""

from deeplab_tf.heads.classifier import classifier
from deeplab_tf.heads.decoder import decoder
from deeplab_tf.heads.fully_connected import fully_connected, multi_scale_features
from deeplab_tf.heads.pyramid import aspp, dense_prediction_cell, image_gate, image_pooling

__all__ = [
    "aspp",
    "classifier",
    "decoder",
    "dense_prediction_cell",
    "fully_connected",
    "image_gate",
    "image_pooling",
    "multi_scale_features",
]

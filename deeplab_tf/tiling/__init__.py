"""Images of any size, tile by tile, around any model."""

from deeplab_tf.tiling.network import TiledNetwork
from deeplab_tf.tiling.predict import TiledPrediction, predict_tiled
from deeplab_tf.tiling.receptive_field import Field, ReceptiveField, receptive_field
from deeplab_tf.tiling.seams import Seams

__all__ = [
    "Field",
    "ReceptiveField",
    "Seams",
    "TiledNetwork",
    "TiledPrediction",
    "predict_tiled",
    "receptive_field",
]

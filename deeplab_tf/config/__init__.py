"""Every setting of a run, as frozen dataclasses. Standard library only."""

from deeplab_tf.config.model import ENCODER_OPTIONS, CellBranch, ModelConfig
from deeplab_tf.config.run import DataConfig, InferenceConfig, TrainConfig

__all__ = [
    "ENCODER_OPTIONS",
    "CellBranch",
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "TrainConfig",
]

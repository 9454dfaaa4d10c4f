"""Every setting of a run, as frozen dataclasses. Standard library only."""

from deeplab_tf.config.cell import CellBranch
from deeplab_tf.config.model import ENCODER_OPTIONS, ModelConfig
from deeplab_tf.config.pretrain import PretrainConfig
from deeplab_tf.config.run import (
    CRF_V1,
    CRF_V2,
    AugmentationConfig,
    CRFParams,
    DataConfig,
    InferenceConfig,
)
from deeplab_tf.config.train import TrainConfig

__all__ = [
    "CRF_V1",
    "CRF_V2",
    "ENCODER_OPTIONS",
    "AugmentationConfig",
    "CRFParams",
    "CellBranch",
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "PretrainConfig",
    "TrainConfig",
]

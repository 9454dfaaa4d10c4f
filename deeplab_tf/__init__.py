"""DeepLab for Keras 3 and TensorFlow 2."""

from deeplab_tf.config import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.deeplab import build_deeplab

__all__ = ["DataConfig", "InferenceConfig", "ModelConfig", "TrainConfig", "build_deeplab"]

"""Rows of the papers by name: networks to build, and recipes to train them.

ModelConfig.from_preset("deeplabv3plus_xception65", num_classes=19)
train.py --recipe=deeplabv2_vgg16_aspp_l_crf --dry_run
"""

from deeplab_tf.presets.networks import PRESETS, Preset
from deeplab_tf.presets.recipes import RECIPES, Recipe

__all__ = ["PRESETS", "RECIPES", "Preset", "Recipe"]

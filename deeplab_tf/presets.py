"""Named networks: each a row of the papers, with what can be checked without data.

ModelConfig.from_preset("deeplabv3plus_xception65", num_classes=19)
"""

from dataclasses import dataclass

from deeplab_tf.config import ModelConfig


@dataclass(frozen=True)
class Preset:
    """A named network.

    Attributes:
        model: Its config, for the 21 classes of PASCAL VOC at output stride 16.
        source: Where it is described.
        parameters: Weights in all, batch norm's moving statistics included.
    """

    model: ModelConfig
    source: str
    parameters: int


_V3 = "DeepLabv3 (arXiv 1706.05587)"
_V3PLUS = "DeepLabv3+ (arXiv 1802.02611)"
_ZOO = "the reference's model zoo"

_RATES = (6, 12, 18)
_GRID = (1, 2, 4)


def _v3_resnet(model_variant: str) -> ModelConfig:
    return ModelConfig(
        model_variant, atrous_rates=_RATES, multi_grid=_GRID, aspp_with_separable_conv=False
    )


def _v3plus_resnet(model_variant: str) -> ModelConfig:
    return ModelConfig(
        model_variant,
        atrous_rates=_RATES,
        multi_grid=_GRID,
        aspp_with_separable_conv=False,
        decoder_output_stride=(4,),
        decoder_use_separable_conv=False,
    )


def _v3plus(model_variant: str) -> ModelConfig:
    return ModelConfig(model_variant, atrous_rates=_RATES, decoder_output_stride=(4,))


# ResNet is the papers' own, with three 3x3 convolutions in its stem (the reference's "beta").
PRESETS = {
    "deeplabv3_mobilenet_v2": Preset(ModelConfig("mobilenet_v2"), _ZOO, 2_146_645),
    "deeplabv3_resnet50": Preset(
        _v3_resnet("resnet_v1_50_beta"), f"{_V3}, Table 1's encoder with Table 5's head", 39_228_885
    ),
    "deeplabv3_resnet101": Preset(
        _v3_resnet("resnet_v1_101_beta"), f"{_V3}, Table 5, last row", 58_273_237
    ),
    "deeplabv3plus_mobilenet_v2": Preset(_v3plus("mobilenet_v2"), _V3PLUS, 2_764_357),
    "deeplabv3plus_resnet50": Preset(_v3plus_resnet("resnet_v1_50_beta"), _V3PLUS, 40_533_653),
    "deeplabv3plus_resnet101": Preset(
        _v3plus_resnet("resnet_v1_101_beta"), f"{_V3PLUS}, Table 3", 59_578_005
    ),
    "deeplabv3plus_xception41": Preset(_v3plus("xception_41"), _ZOO, 28_241_573),
    "deeplabv3plus_xception65": Preset(
        _v3plus("xception_65"), f"{_V3PLUS}, Table 5, third row", 41_258_213
    ),
    "deeplabv3plus_xception71": Preset(_v3plus("xception_71"), f"{_V3PLUS}, Table 7", 43_694_413),
}

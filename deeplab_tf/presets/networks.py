"""Named networks, and what they can be checked by without data."""

from dataclasses import dataclass

from deeplab_tf.config import ModelConfig


@dataclass(frozen=True)
class Preset:
    """A named network.

    Attributes:
        model: Its config, for the 21 classes of PASCAL VOC, at the output stride it is trained at.
        source: Where it is described.
        parameters: Weights in all, batch norm's moving statistics included.
    """

    model: ModelConfig
    source: str
    parameters: int


V1 = "DeepLabv1 (arXiv 1412.7062)"
V2 = "DeepLabv2 (arXiv 1606.00915)"
V3 = "DeepLabv3 (arXiv 1706.05587)"
V3PLUS = "DeepLabv3+ (arXiv 1802.02611)"
_ZOO = "the reference's model zoo"

_RATES = (6, 12, 18)
_GRID = (1, 2, 4)


def _vgg(*, filters: int, side: int, rates: tuple[int, ...], msc: bool = False) -> ModelConfig:
    return ModelConfig(
        "vgg_16",
        output_stride=8,
        atrous_rates=rates,
        fc_filters=filters,
        fc_kernel_size=side,
        multi_scale_features=msc,
    )


def _v2_resnet(rates: tuple[int, ...]) -> ModelConfig:
    """The 7x7 stem of the original ResNet, and three scales merged (v2, section 4.1.2)."""
    return ModelConfig(
        "resnet_v1_101",
        output_stride=8,
        atrous_rates=rates,
        aspp_with_batch_norm=False,
        logits_kernel_size=3,
        image_pyramid=(0.5, 0.75, 1.0),
        merge_method="max",
    )


def _v3_cascaded(model_variant: str, multi_grid: tuple[int, ...]) -> ModelConfig:
    """Blocks 5 to 7, and the logits right behind them (v3, section 3.2)."""
    return ModelConfig(
        model_variant, multi_grid=multi_grid, cascade_blocks=3, aspp_with_batch_norm=False
    )


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


# From v3 on, ResNet is the papers' own, with three 3x3 convolutions in its stem (the reference's
# "beta").
PRESETS = {
    "deeplabv1_vgg16": Preset(
        _vgg(filters=4096, side=4, rates=(4,)), f"{V1}, section 3", 65_140_565
    ),
    "deeplabv1_vgg16_4x4": Preset(
        _vgg(filters=4096, side=4, rates=(8,)), f"{V1}, Table 2, third row", 65_140_565
    ),
    "deeplabv1_vgg16_7x7": Preset(
        _vgg(filters=4096, side=7, rates=(4,)), f"{V1}, Table 2, first row", 134_346_581
    ),
    "deeplabv1_vgg16_largefov": Preset(
        _vgg(filters=1024, side=3, rates=(12,)), f"{V1}, Table 2, last row", 20_505_429
    ),
    "deeplabv1_vgg16_largefov_msc": Preset(
        _vgg(filters=1024, side=3, rates=(12,), msc=True), f"{V1}, section 4.3", 21_711_445
    ),
    "deeplabv2_vgg16_aspp_s": Preset(
        _vgg(filters=1024, side=3, rates=(2, 4, 8, 12)), f"{V2}, Table 3", 37_877_652
    ),
    "deeplabv2_vgg16_aspp_l": Preset(
        _vgg(filters=1024, side=3, rates=(6, 12, 18, 24)), f"{V2}, Table 3", 37_877_652
    ),
    "deeplabv2_resnet101": Preset(_v2_resnet((6, 12, 18, 24)), f"{V2}, Table 4", 44_153_876),
    "deeplabv2_resnet101_largefov": Preset(_v2_resnet((12,)), f"{V2}, Table 4", 42_992_597),
    "deeplabv3_mobilenet_v2": Preset(ModelConfig("mobilenet_v2"), _ZOO, 2_146_645),
    "deeplabv3_resnet50_cascaded": Preset(
        _v3_cascaded("resnet_v1_50_beta", ()), f"{V3}, Table 1", 63_946_965
    ),
    "deeplabv3_resnet101_cascaded": Preset(
        _v3_cascaded("resnet_v1_101_beta", (1, 2, 1)), f"{V3}, Table 4", 82_991_317
    ),
    "deeplabv3_resnet50": Preset(
        _v3_resnet("resnet_v1_50_beta"), f"{V3}, Table 1's encoder with Table 5's head", 39_228_885
    ),
    "deeplabv3_resnet101": Preset(
        _v3_resnet("resnet_v1_101_beta"), f"{V3}, Table 5, last row", 58_273_237
    ),
    "deeplabv3plus_mobilenet_v2": Preset(_v3plus("mobilenet_v2"), V3PLUS, 2_764_357),
    "deeplabv3plus_resnet50": Preset(_v3plus_resnet("resnet_v1_50_beta"), V3PLUS, 40_533_653),
    "deeplabv3plus_resnet101": Preset(
        _v3plus_resnet("resnet_v1_101_beta"), f"{V3PLUS}, Table 3", 59_578_005
    ),
    "deeplabv3plus_xception41": Preset(_v3plus("xception_41"), _ZOO, 28_241_573),
    "deeplabv3plus_xception65": Preset(
        _v3plus("xception_65"), f"{V3PLUS}, Table 5, third row", 41_258_213
    ),
    "deeplabv3plus_xception71": Preset(_v3plus("xception_71"), f"{V3PLUS}, Table 7", 43_694_413),
}

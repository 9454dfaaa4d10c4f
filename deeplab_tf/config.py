"""Every setting of a run, as frozen dataclasses. Standard library only."""

import dataclasses
from typing import Any

_OUTPUT_STRIDES = (8, 16, 32)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One DeepLab network; field names are those of the reference's `ModelOptions`.

    Attributes:
        model_variant: Encoder, a key of `deeplab_tf.backbones.BACKBONES`.
        num_classes: Channels of the logits.
        output_stride: Input size over encoder feature size: 8, 16 or 32 (v3, section 3.1).
        atrous_rates: Rates of ASPP's 3x3 branches at this output stride; empty for none (v3,
            section 3.3).
        multi_grid: Unit rates inside the encoder's last block, three numbers, or empty for
            (1, 1, 1) (v3, section 3.2.1). ResNet and Xception only.
        depth_multiplier: Width of the encoder. MobileNet only.
        add_image_level_feature: Whether ASPP has the image pooling branch.
        aspp_with_separable_conv: Atrous branches as depthwise and pointwise convolutions (v3+,
            section 3.1).
        aspp_convs_filters: Channels of every ASPP branch and of their projection.
        decoder_output_stride: Strides of the low-level features the decoder refines with, in
            descending order; empty for DeepLabv3, which has no decoder (v3+, section 3.1).
        decoder_use_separable_conv: Decoder convolutions as depthwise and pointwise.
        decoder_filters: Channels of the decoder.
    """

    model_variant: str = "mobilenet_v2"
    num_classes: int = 21
    output_stride: int = 16
    atrous_rates: tuple[int, ...] = ()
    multi_grid: tuple[int, ...] = ()
    depth_multiplier: float = 1.0
    add_image_level_feature: bool = True
    aspp_with_separable_conv: bool = True
    aspp_convs_filters: int = 256
    decoder_output_stride: tuple[int, ...] = ()
    decoder_use_separable_conv: bool = True
    decoder_filters: int = 256

    def __post_init__(self) -> None:
        _require(self.num_classes >= 1, f"num_classes is {self.num_classes}; at least 1 is needed.")
        _require(
            self.output_stride in _OUTPUT_STRIDES,
            f"output_stride is {self.output_stride}; DeepLab's encoders have {_OUTPUT_STRIDES}.",
        )
        _require(
            all(rate >= 1 for rate in self.atrous_rates),
            f"atrous_rates are {self.atrous_rates}; each must be 1 or more.",
        )
        strides = self.decoder_output_stride
        _require(
            all(stride in (4, 8, 16) and stride < self.output_stride for stride in strides)
            and list(strides) == sorted(set(strides), reverse=True),
            f"decoder_output_stride is {strides}; expected strides out of (16, 8, 4), descending "
            f"and below output_stride={self.output_stride}.",
        )

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "ModelConfig":
        """The config of a named network of `deeplab_tf.presets`, with some fields changed.

        An `output_stride` without `atrous_rates` rescales the preset's rates (`at_output_stride`).

        Raises:
            ValueError: if there is no such preset.
        """
        from deeplab_tf.presets import PRESETS  # presets are made of configs

        if name not in PRESETS:
            raise ValueError(f"There is no preset {name!r}; there are {', '.join(PRESETS)}.")
        config = PRESETS[name].model
        if "output_stride" in overrides and "atrous_rates" not in overrides:
            config = config.at_output_stride(overrides["output_stride"])
        return dataclasses.replace(config, **overrides)

    def at_output_stride(self, output_stride: int) -> "ModelConfig":
        """The same network (and weights) at another output stride.

        Halving the stride doubles the rates, so that every branch keeps its field of view
        (v3, section 4.2: rates (6, 12, 18) at 16 are (12, 24, 36) at 8).
        """
        scaled = [rate * self.output_stride / output_stride for rate in self.atrous_rates]
        _require(
            all(rate.is_integer() for rate in scaled),
            f"atrous_rates {self.atrous_rates} of output_stride={self.output_stride} are no whole "
            f"numbers at {output_stride}; give atrous_rates yourself.",
        )
        rates = tuple(int(rate) for rate in scaled)
        return dataclasses.replace(self, output_stride=output_stride, atrous_rates=rates)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What happens to a training image between the record and the network.

    Attributes:
        crop_size: Height and width of a training crop; best k * output_stride + 1.
        batch_size: Crops in a batch.
        min_scale_factor: Lower end of the random scale.
        max_scale_factor: Upper end of the random scale.
        scale_factor_step_size: Step between the possible scales; 0 draws them uniformly.
    """

    crop_size: tuple[int, int] = (513, 513)
    batch_size: int = 8
    min_scale_factor: float = 0.5
    max_scale_factor: float = 2.0
    scale_factor_step_size: float = 0.25

    def __post_init__(self) -> None:
        _require(
            self.batch_size >= 1, f"train_batch_size is {self.batch_size}; at least 1 is needed."
        )
        _require(
            0 < self.min_scale_factor <= self.max_scale_factor,
            f"min_scale_factor={self.min_scale_factor} and "
            f"max_scale_factor={self.max_scale_factor} must be positive and in this order.",
        )
        _require(
            self.scale_factor_step_size >= 0,
            f"scale_factor_step_size is {self.scale_factor_step_size}; it cannot be negative.",
        )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The optimisation: SGD with momentum under the poly schedule (v3, section 4.1).

    Attributes:
        training_number_of_steps: Steps in all; the schedule ends there.
        base_learning_rate: Learning rate of the first step.
        end_learning_rate: Learning rate the schedule ends at.
        learning_power: Exponent of the poly schedule.
        momentum: Momentum of SGD, without Nesterov.
        weight_decay: L2 factor on convolution kernels, depthwise ones excepted.
        batch_norm_decay: Decay of the moving statistics; None for each part's own.
        label_weights: Weight of each class in the loss; empty for all alike.
        seed: Seed of initial weights, dropout, data order and augmentation.
    """

    training_number_of_steps: int = 30000
    base_learning_rate: float = 0.0001
    end_learning_rate: float = 0.0
    learning_power: float = 0.9
    momentum: float = 0.9
    weight_decay: float = 0.00004
    batch_norm_decay: float | None = None
    label_weights: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _require(
            self.training_number_of_steps >= 1,
            f"training_number_of_steps is {self.training_number_of_steps}; at least 1 is needed.",
        )
        _require(
            self.base_learning_rate > 0,
            f"base_learning_rate is {self.base_learning_rate}; it must be above 0.",
        )
        _require(
            self.batch_norm_decay is None or 0 < self.batch_norm_decay < 1,
            f"batch_norm_decay is {self.batch_norm_decay}; it must lie between 0 and 1.",
        )
        _require(
            all(weight >= 0 for weight in self.label_weights),
            f"label_weights are {self.label_weights}; none may be negative.",
        )


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """How an image of any size meets the network in eval, vis and export.

    Attributes:
        crop_size: Least height and width that images are padded to; beyond it, and when None, they
            are padded to the next k * output_stride + 1, where feature grids and image corners
            align.
    """

    crop_size: tuple[int, int] | None = None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)

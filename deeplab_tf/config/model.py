"""Which network: every option of the reference's `ModelOptions`, and those of DeepLabv1 and v2."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from deeplab_tf.config.cell import CellBranch
from deeplab_tf.config.checks import require

_OUTPUT_STRIDES = (8, 16, 32, 64, 128, 256)

# Options that some encoders have; each says which in `Backbone.options`.
ENCODER_OPTIONS = (
    "multi_grid",
    "cascade_blocks",
    "depth_multiplier",
    "divisible_by",
    "nas_stem_output_num_conv_filters",
    "nas_use_classification_head",
    "nas_remove_os32_stride",
    "drop_path_keep_prob",
)
# Fields of the reference's `ModelOptions` that no network of it depends on.
_NOT_OF_A_NETWORK = ("label_weights", "sync_batch_norm_method", "batch_norm_decay")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One DeepLab network; field names are those of the reference's `ModelOptions`.

    Fields that the reference has not, because it has neither DeepLabv1 nor cascaded blocks, and
    RGB images only: `cascade_blocks`, `fc_filters`, `fc_kernel_size`, `multi_scale_features`,
    `input_channels`.

    Attributes:
        model_variant: Encoder, a key of `deeplab_tf.backbones.BACKBONES`.
        num_classes: Channels of the logits.
        input_channels: Channels of the images.
        output_stride: Input size over encoder feature size: 8, 16 or 32 (v3, section 3.1); twice
            as much for each of the cascade_blocks.
        crop_size: Height and width of the only input the network takes; None for any size.
        atrous_rates: Rates of ASPP's 3x3 branches at this output stride; empty for none (v3,
            section 3.3). In the heads of v1 and v2, rates of fc6 or of the classifiers.
        multi_grid: Unit rates inside the encoder's last block, or empty for ones (v3, section
            3.2.1). ResNet (as many as that block has units) and Xception (three) only.
        cascade_blocks: Copies of the last block that follow it, block5 to block7 (v3, section
            3.2). ResNet only.
        depth_multiplier: Width of the encoder. MobileNet only.
        divisible_by: Channels are rounded to multiples of this; None for 8 at full width, else 1.
            MobileNetV2 only.
        use_bounded_activation: ReLU6 in place of ReLU in head and decoder; in Xception, sums are
            bounded too. Suits quantisation.
        nas_stem_output_num_conv_filters: Base width of the NAS encoders.
        nas_use_classification_head: The NAS encoders' last 1x1 convolution, for their ImageNet
            weights.
        nas_remove_os32_stride: Drops the last stride of the NAS encoders.
        drop_path_keep_prob: Share of paths that the NAS encoders keep in training.
        add_image_level_feature: Whether ASPP has the image pooling branch.
        image_pooling_crop_size: Part of the image, in pixels, that image pooling averages over;
            None for all of it.
        image_pooling_stride: Steps down and across of that average, in features.
        aspp_with_batch_norm: False for DeepLabv2's head, which has no image pooling and no
            projection: one convolution to the logits for each rate, summed (v2, section 3.2).
        aspp_with_separable_conv: Atrous branches as depthwise and pointwise convolutions (v3+,
            section 3.1).
        aspp_convs_filters: Channels of every ASPP branch and of their projection.
        aspp_with_concat_projection: Whether a 1x1 convolution follows ASPP's concatenation.
        aspp_with_squeeze_and_excitation: Image pooling becomes a gate that ASPP's output is
            multiplied with (Lite R-ASPP; MobileNetV3, arXiv 1905.02244, section 6.4).
        image_se_uses_qsigmoid: The gate is a piecewise linear sigmoid.
        dense_prediction_cell_config: Branches that stand in ASPP's place (arXiv 1809.04184).
        decoder_output_stride: Strides of the low-level features the decoder refines with, in
            descending order; empty for DeepLabv3, which has no decoder (v3+, section 3.1).
        decoder_use_separable_conv: Decoder convolutions as depthwise and pointwise.
        decoder_filters: Channels of the decoder.
        decoder_use_sum_merge: The decoder adds deep and low-level features after one convolution
            each, in place of two convolutions on their concatenation.
        decoder_output_is_logits: The decoder is linear and ends in the logits; needs
            decoder_filters == num_classes.
        logits_kernel_size: Side of the last convolutions of DeepLabv2's head; otherwise 1.
        fc_filters: Channels of fc6 and fc7, the fully connected layers of VGG-16 as convolutions;
            0 for the heads without them. There is a pair for each of the atrous_rates (v1, section
            3.1; v2, Figure 7).
        fc_kernel_size: Side of fc6: 7 as in VGG-16, 4, or 3 for a large field of view.
        multi_scale_features: Two small convolutions on the image and on each of the first four
            poolings, concatenated with fc7 (v1, section 4.3).
        image_pyramid: Scales of the image whose logits are merged in the network (v2, section
            3.2); empty for the image as it is.
        merge_method: How they are merged: "max" or "avg".
        prediction_with_upsampled_logits: Whether labels are chosen after upsampling; False
            chooses them at the logits' stride and repeats them.
    """

    model_variant: str = "mobilenet_v2"
    num_classes: int = 21
    input_channels: int = 3
    output_stride: int = 16
    crop_size: tuple[int, int] | None = None
    atrous_rates: tuple[int, ...] = ()
    multi_grid: tuple[int, ...] = ()
    cascade_blocks: int = 0
    depth_multiplier: float = 1.0
    divisible_by: int | None = None
    use_bounded_activation: bool = False
    nas_stem_output_num_conv_filters: int = 20
    nas_use_classification_head: bool = False
    nas_remove_os32_stride: bool = False
    drop_path_keep_prob: float = 1.0
    add_image_level_feature: bool = True
    image_pooling_crop_size: tuple[int, int] | None = None
    image_pooling_stride: tuple[int, int] = (1, 1)
    aspp_with_batch_norm: bool = True
    aspp_with_separable_conv: bool = True
    aspp_convs_filters: int = 256
    aspp_with_concat_projection: bool = True
    aspp_with_squeeze_and_excitation: bool = False
    image_se_uses_qsigmoid: bool = False
    dense_prediction_cell_config: tuple[CellBranch, ...] = ()
    decoder_output_stride: tuple[int, ...] = ()
    decoder_use_separable_conv: bool = True
    decoder_filters: int = 256
    decoder_use_sum_merge: bool = False
    decoder_output_is_logits: bool = False
    logits_kernel_size: int = 1
    fc_filters: int = 0
    fc_kernel_size: int = 3
    multi_scale_features: bool = False
    image_pyramid: tuple[float, ...] = ()
    merge_method: str = "max"
    prediction_with_upsampled_logits: bool = True

    def __post_init__(self) -> None:
        require(self.num_classes >= 1, f"num_classes is {self.num_classes}; at least 1 is needed.")
        require(
            self.input_channels >= 1,
            f"input_channels is {self.input_channels}; at least 1 is needed.",
        )
        self._check_output_stride()
        require(
            all(rate >= 1 for rate in self.atrous_rates),
            f"atrous_rates are {self.atrous_rates}; each must be 1 or more.",
        )
        require(
            self.depth_multiplier > 0,
            f"depth_multiplier is {self.depth_multiplier}; it must be above 0.",
        )
        require(
            self.divisible_by is None or self.divisible_by >= 1,
            f"divisible_by is {self.divisible_by}; at least 1 is needed.",
        )
        for i, branch in enumerate(self.dense_prediction_cell_config):
            require(
                -1 <= branch.input < i,
                f"Branch {i} of the dense prediction cell has input {branch.input}; expected an "
                "earlier branch, or -1 for the features.",
            )
        require(
            all(scale > 0 for scale in self.image_pyramid),
            f"image_pyramid is {self.image_pyramid}; scales must be above 0.",
        )
        require(
            self.merge_method in ("max", "avg"),
            f"merge_method is {self.merge_method!r}; expected max or avg.",
        )
        self._check_head()
        self._check_fully_connected()
        self._check_decoder()

    def _check_output_stride(self) -> None:
        require(
            0 <= self.cascade_blocks <= 3,
            f"cascade_blocks is {self.cascade_blocks}; expected 0 to 3, for block5 to block7.",
        )
        strides = _OUTPUT_STRIDES[: 3 + self.cascade_blocks]
        require(
            self.output_stride in strides,
            f"output_stride is {self.output_stride}; DeepLab's encoders have {strides}, and with "
            "cascade_blocks more.",
        )

    def _check_head(self) -> None:
        require(
            self.logits_kernel_size == 1
            or (not self.aspp_with_batch_norm and bool(self.atrous_rates)),
            f"logits_kernel_size is {self.logits_kernel_size}; other than 1 is for DeepLabv2's "
            "head: aspp_with_batch_norm=False with atrous_rates.",
        )
        require(
            self.aspp_with_batch_norm or not self.dense_prediction_cell_config,
            "A dense prediction cell has batch norm: leave aspp_with_batch_norm at True.",
        )
        require(
            self.output_stride <= 16 or not self.dense_prediction_cell_config,
            f"output_stride is {self.output_stride}; a dense prediction cell needs 16 or 8.",
        )

    def _check_fully_connected(self) -> None:
        require(
            self.fc_filters >= 0 and self.fc_kernel_size >= 1,
            f"fc_filters is {self.fc_filters} and fc_kernel_size {self.fc_kernel_size}; expected 0 "
            "or more channels, and a side of 1 or more.",
        )
        require(
            not self.fc_filters
            or (
                bool(self.atrous_rates)
                and not self.decoder_output_stride
                and not self.dense_prediction_cell_config
            ),
            "fc_filters is for the heads of DeepLabv1 and v2: give fc6's atrous_rates, and neither "
            "a decoder (decoder_output_stride) nor a dense prediction cell.",
        )
        require(
            not self.multi_scale_features or (self.fc_filters > 0 and len(self.atrous_rates) == 1),
            "multi_scale_features are concatenated with fc7: they need fc_filters and one of the "
            f"atrous_rates, found fc_filters={self.fc_filters}, atrous_rates={self.atrous_rates}.",
        )

    def _check_decoder(self) -> None:
        strides = self.decoder_output_stride
        require(
            all(stride in (4, 8, 16) and stride <= self.output_stride for stride in strides)
            and list(strides) == sorted(set(strides), reverse=True),
            f"decoder_output_stride is {strides}; expected strides out of (16, 8, 4), descending "
            f"and not above output_stride={self.output_stride}.",
        )
        require(
            not self.decoder_output_is_logits
            or (bool(strides) and self.decoder_filters == self.num_classes),
            "decoder_output_is_logits needs a decoder (decoder_output_stride) with as many "
            f"decoder_filters ({self.decoder_filters}) as there are classes ({self.num_classes}).",
        )

    @classmethod
    def from_reference_options(
        cls, options: Mapping[str, Any], image_pyramid: Sequence[float] | None = None
    ) -> "ModelConfig":
        """The config of the network that the reference builds from its `ModelOptions`.

        Options that the reference does not read for this encoder (`multi_grid` of a MobileNet, and
        so on), or nowhere in a network (`batch_norm_decay`, `label_weights`), do nothing here too.

        Args:
            options: `ModelOptions` as a mapping; what is missing has its flag's default.
            image_pyramid: Scales of the image pyramid, or None.

        Raises:
            ValueError: if an option is unknown, or has a value that no network is built from.
        """
        from deeplab_tf.backbones import get_backbone  # configs are otherwise made without Keras

        given = {name: _frozen(value) for name, value in options.items() if value is not None}
        classes = given.pop("outputs_to_num_classes", {"semantic": 21})
        require(
            list(classes) == ["semantic"],
            f"outputs_to_num_classes is {classes}; expected only the output semantic.",
        )
        dtype = str(given.pop("preprocessed_images_dtype", "float32"))
        require(
            "float32" in dtype, f"preprocessed_images_dtype is {dtype}; networks here take float32."
        )
        for name in _NOT_OF_A_NETWORK:
            given.pop(name, None)
        given |= given.pop("nas_architecture_options", {})
        cell = given.pop("dense_prediction_cell_config", ())
        unknown = set(given) - {field.name for field in dataclasses.fields(cls)}
        require(not unknown, f"ModelOptions has no {sorted(unknown)}.")
        backbone = get_backbone(given.get("model_variant", cls.model_variant))
        return cls(
            num_classes=classes["semantic"],
            image_pyramid=tuple(image_pyramid or ()),
            dense_prediction_cell_config=tuple(map(CellBranch.from_reference, cell)),
            **{
                name: value
                for name, value in given.items()
                if name not in ENCODER_OPTIONS or name in backbone.options
            },
        )

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "ModelConfig":
        """The config of a named network of `deeplab_tf.presets`, with some fields `changed`.

        Raises:
            ValueError: if there is no such preset.
        """
        from deeplab_tf.presets import PRESETS  # presets are made of configs

        if name not in PRESETS:
            raise ValueError(f"There is no preset {name!r}; there are {', '.join(PRESETS)}.")
        return PRESETS[name].model.changed(**overrides)

    def changed(self, **fields: Any) -> "ModelConfig":
        """A copy with some fields changed.

        An `output_stride` without `atrous_rates` rescales the rates (`at_output_stride`).
        """
        config = self
        if "output_stride" in fields and "atrous_rates" not in fields:
            config = config.at_output_stride(fields["output_stride"])
        return dataclasses.replace(config, **fields)

    def at_output_stride(self, output_stride: int) -> "ModelConfig":
        """The same network (and weights) at another output stride.

        Halving the stride doubles the rates, so that every branch keeps its field of view
        (v3, section 3.3: rates (6, 12, 18) at 16 are (12, 24, 36) at 8).
        """
        scaled = [rate * self.output_stride / output_stride for rate in self.atrous_rates]
        require(
            all(rate.is_integer() for rate in scaled),
            f"atrous_rates {self.atrous_rates} of output_stride={self.output_stride} are no whole "
            f"numbers at {output_stride}; give atrous_rates yourself.",
        )
        rates = tuple(int(rate) for rate in scaled)
        return dataclasses.replace(self, output_stride=output_stride, atrous_rates=rates)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value

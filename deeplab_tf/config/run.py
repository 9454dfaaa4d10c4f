"""How images are prepared for training, and met after it."""

import dataclasses
import math

from deeplab_tf.config.checks import require


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """What may happen to a training image beyond the reference's scale, crop and flip; here: none.

    Attributes:
        brightness_jitter: The brightness is multiplied by 1 - jitter to 1 + jitter.
        contrast_jitter: The same of the distance to the mean grey.
        saturation_jitter: The same of the distance to each pixel's own grey.
        hue_jitter: Largest turn of the hue either way, in turns of the colour circle, up to 0.5.
        max_rotation_degrees: Largest rotation either way.
        blur_probability: Share of the images that are blurred.
        blur_min_sigma: Smallest standard deviation of the Gaussian, in pixels of the crop.
        blur_max_sigma: Largest one.
        class_balanced_crops: Share of the crops that are placed where all classes of the image are
            equally likely to be met.
    """

    brightness_jitter: float = 0.0
    contrast_jitter: float = 0.0
    saturation_jitter: float = 0.0
    hue_jitter: float = 0.0
    max_rotation_degrees: float = 0.0
    blur_probability: float = 0.0
    blur_min_sigma: float = 0.1
    blur_max_sigma: float = 2.0
    class_balanced_crops: float = 0.0

    def __post_init__(self) -> None:
        for name, limit in (
            ("brightness_jitter", math.inf),
            ("contrast_jitter", math.inf),
            ("saturation_jitter", math.inf),
            ("hue_jitter", 0.5),
            ("max_rotation_degrees", 180),
            ("blur_probability", 1),
            ("class_balanced_crops", 1),
        ):
            value = getattr(self, name)
            bounds = "0 or more" if limit == math.inf else f"0 to {limit}"
            require(
                0 <= value <= limit and value < math.inf, f"{name} is {value}; expected {bounds}."
            )
        require(
            0 < self.blur_min_sigma <= self.blur_max_sigma < math.inf,
            f"blur_min_sigma={self.blur_min_sigma} and blur_max_sigma={self.blur_max_sigma} must "
            "be positive and in this order.",
        )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What happens to a training image between the record and the network.

    Attributes:
        crop_size: Height and width of a training crop; best k * output_stride + 1.
        batch_size: Crops in a batch.
        min_scale_factor: Lower end of the random scale.
        max_scale_factor: Upper end of the random scale.
        scale_factor_step_size: Step between the possible scales; 0 draws them uniformly.
        min_resize_value: Shorter side to which images are resized first; None for no such resize.
        max_resize_value: Largest longer side after that; None for no limit.
        resize_factor: That resize ends at sides of k * resize_factor + 1; None for any.
        augmentations: What else may happen to an image, beyond the reference.
    """

    crop_size: tuple[int, int] = (513, 513)
    batch_size: int = 8
    min_scale_factor: float = 0.5
    max_scale_factor: float = 2.0
    scale_factor_step_size: float = 0.25
    min_resize_value: int | None = None
    max_resize_value: int | None = None
    resize_factor: int | None = None
    augmentations: AugmentationConfig = AugmentationConfig()

    def __post_init__(self) -> None:
        require(
            self.batch_size >= 1, f"train_batch_size is {self.batch_size}; at least 1 is needed."
        )
        require(
            0 < self.min_scale_factor <= self.max_scale_factor,
            f"min_scale_factor={self.min_scale_factor} and "
            f"max_scale_factor={self.max_scale_factor} must be positive and in this order.",
        )
        require(
            self.scale_factor_step_size >= 0,
            f"scale_factor_step_size is {self.scale_factor_step_size}; it cannot be negative.",
        )
        _check_resize(self.min_resize_value, self.max_resize_value, self.resize_factor)


@dataclasses.dataclass(frozen=True)
class CRFParams:
    """The fully connected CRF that refines predictions (arXiv 1210.5644; v1, section 4).

    Defaults are those of DeepLabv2's ResNet-101. Names are pydensecrf's and, in the papers: w2,
    sigma_gamma, w1, sigma_alpha, sigma_beta.

    Attributes:
        pos_w: Weight of the smoothness kernel.
        pos_xy: Its standard deviation in pixels.
        bi_w: Weight of the appearance kernel.
        bi_xy: Its standard deviation in pixels.
        bi_rgb: Its standard deviation in grey levels, 0..255.
        iterations: Steps of mean field.
    """

    pos_w: float = 3.0
    pos_xy: float = 1.0
    bi_w: float = 4.0
    bi_xy: float = 67.0
    bi_rgb: float = 3.0
    iterations: int = 10

    def __post_init__(self) -> None:
        for name in ("pos_xy", "bi_xy", "bi_rgb"):
            sigma = getattr(self, name)
            require(
                0 < sigma < math.inf,
                f"{name} of the CRF is {sigma}; it is a standard deviation and must be above 0.",
            )
        for name in ("pos_w", "bi_w"):
            weight = getattr(self, name)
            require(
                0 <= weight < math.inf,
                f"{name} of the CRF is {weight}; it is a weight and cannot be negative.",
            )
        require(
            isinstance(self.iterations, int) and self.iterations >= 0,
            f"iterations of the CRF are {self.iterations}; expected a whole number, 0 or more.",
        )


CRF_V1 = CRFParams(pos_w=3, pos_xy=3, bi_w=4, bi_xy=121, bi_rgb=5)
CRF_V2 = CRFParams()

TILE_IMAGE_LEVELS = ("exact", "reduced", "tile")


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """How an image of any size meets the network in eval, vis and export.

    Attributes:
        crop_size: Least height and width that images are padded to; beyond it, and when None, they
            are padded to the next k * output_stride + 1, where feature grids and image corners
            align.
        min_resize_value: Shorter side to which images are resized first; None for no such resize.
        max_resize_value: Largest longer side after that; None for no limit.
        resize_factor: That resize ends at sides of k * resize_factor + 1; None for any.
        eval_scales: Scales of the image whose probabilities are averaged (v3, section 4.1).
        add_flipped_images: Whether those of the mirrored image are averaged in too.
        crf: The CRF that refines these probabilities, or None.
        eval_output_stride: Output stride of the network after training; None for the one it is
            trained at (v3, section 4.1). Rates of ASPP change with it.
        tile_size: Largest height and width that the network sees at once; larger images are
            predicted tile by tile (`deeplab_tf.tiling`). None: every image is seen whole. An
            exported model always does that.
        tile_overlap: Pixels that neighbouring tiles share; None for what its receptive field needs.
        tile_image_level: Where means over the image come from then: "exact", "reduced" or "tile"
            (`tiling.TiledNetwork`).
    """

    crop_size: tuple[int, int] | None = None
    min_resize_value: int | None = None
    max_resize_value: int | None = None
    resize_factor: int | None = None
    eval_scales: tuple[float, ...] = (1.0,)
    add_flipped_images: bool = False
    crf: CRFParams | None = None
    eval_output_stride: int | None = None
    tile_size: tuple[int, int] | None = None
    tile_overlap: int | None = None
    tile_image_level: str = "exact"

    def __post_init__(self) -> None:
        require(
            len(self.eval_scales) >= 1 and all(scale > 0 for scale in self.eval_scales),
            f"eval_scales are {self.eval_scales}; expected one or more, all above 0.",
        )
        _check_resize(self.min_resize_value, self.max_resize_value, self.resize_factor)
        self._check_tiles()

    def _check_tiles(self) -> None:
        require(
            self.tile_size is None or min(self.tile_size) >= 1,
            f"tile_size is {self.tile_size}; expected height and width, 1 or more.",
        )
        require(
            self.tile_overlap is None or self.tile_overlap >= 0,
            f"tile_overlap is {self.tile_overlap}; expected 0 pixels or more.",
        )
        require(
            self.tile_image_level in TILE_IMAGE_LEVELS,
            f"tile_image_level is {self.tile_image_level!r}; expected one of {TILE_IMAGE_LEVELS}.",
        )
        require(
            self.tile_size is not None
            or (self.tile_overlap, self.tile_image_level) == (None, "exact"),
            f"tile_overlap={self.tile_overlap} and tile_image_level={self.tile_image_level} need "
            "tile_size.",
        )


def _check_resize(smallest: int | None, largest: int | None, factor: int | None) -> None:
    """The settings of the resize to a range, which image and label get before anything else."""
    require(
        smallest is not None or (largest is None and factor is None),
        f"max_resize_value={largest} and resize_factor={factor} need min_resize_value.",
    )
    for name, value in (
        ("min_resize_value", smallest),
        ("max_resize_value", largest),
        ("resize_factor", factor),
    ):
        require(value is None or value >= 1, f"{name} is {value}; expected 1 or more, or None.")

"""How images are prepared, networks trained, and images met after training."""

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
class TrainConfig:
    """The optimisation: SGD with momentum under the poly schedule (v3, section 4.1), or else.

    Attributes:
        training_number_of_steps: Steps in all.
        optimizer: "momentum", which follows the schedule, or "adam", which has a constant rate.
        learning_policy: Schedule of the learning rate: "poly", "step", "cosine" or "multi_steps".
        base_learning_rate: Learning rate that poly, step and cosine start with.
        decay_steps: Steps that poly takes; 0 for all that are left after the slow start.
        end_learning_rate: Learning rate that poly ends at.
        learning_power: Exponent of poly.
        learning_rate_decay_factor: What step multiplies the rate with.
        learning_rate_decay_step: Steps between two such multiplications.
        boundaries: Steps after which multi_steps takes the next rate.
        boundary_learning_rates: Rates of multi_steps, one more than there are boundaries.
        slow_start_step: Steps of the slow start, after which the schedule begins.
        slow_start_learning_rate: Learning rate of the slow start.
        slow_start_burnin_type: "none", or "linear" for a slow start that rises to
            base_learning_rate.
        momentum: Momentum of SGD, without Nesterov.
        adam_learning_rate: Learning rate of Adam.
        adam_epsilon: Epsilon of Adam.
        weight_decay: L2 factor on convolution kernels, depthwise ones excepted.
        last_layer_gradient_multiplier: Factor of the gradients of the last layers.
        last_layers_contain_logits_only: Whether the last layers are the logits alone, or all of
            the head and the decoder.
        initialize_last_layer: Whether an initial checkpoint sets the last layers too.
        fine_tune_batch_norm: Whether batch norm takes the statistics of the batch and averages
            them; False leaves it with its moving statistics, while gamma and beta still learn.
        batch_norm_decay: Decay of the moving statistics; None for each part's own.
        upsample_logits: Whether the loss sees logits of the labels' size; False shrinks the labels
            to the logits' size.
        hard_example_mining_step: Step at which hard pixel mining has come down to
            top_k_percent_pixels, from all pixels at step 0; 0 begins with it.
        top_k_percent_pixels: Share of a batch's pixels, those of the largest loss, that count in
            the loss; 1 for no mining.
        label_weights: Weight of each class in the loss; empty for all alike.
        trained_layers: Beginnings of the names of the layers that learn; empty for all of them.
        seed: Seed of initial weights, dropout, data order and augmentation.
    """

    training_number_of_steps: int = 30000
    optimizer: str = "momentum"
    learning_policy: str = "poly"
    base_learning_rate: float = 0.0001
    decay_steps: float = 0.0
    end_learning_rate: float = 0.0
    learning_power: float = 0.9
    learning_rate_decay_factor: float = 0.1
    learning_rate_decay_step: int = 2000
    boundaries: tuple[int, ...] = ()
    boundary_learning_rates: tuple[float, ...] = ()
    slow_start_step: int = 0
    slow_start_learning_rate: float = 0.0001
    slow_start_burnin_type: str = "none"
    momentum: float = 0.9
    adam_learning_rate: float = 0.001
    adam_epsilon: float = 1e-08
    weight_decay: float = 0.00004
    last_layer_gradient_multiplier: float = 1.0
    last_layers_contain_logits_only: bool = False
    initialize_last_layer: bool = True
    fine_tune_batch_norm: bool = True
    batch_norm_decay: float | None = None
    upsample_logits: bool = True
    hard_example_mining_step: int = 0
    top_k_percent_pixels: float = 1.0
    label_weights: tuple[float, ...] = ()
    trained_layers: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "training_number_of_steps",
            "base_learning_rate",
            "learning_rate_decay_factor",
            "learning_rate_decay_step",
            "adam_learning_rate",
            "adam_epsilon",
        ):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}; it must be above 0.")
        for name in (
            "decay_steps",
            "end_learning_rate",
            "learning_power",
            "slow_start_step",
            "slow_start_learning_rate",
            "weight_decay",
            "last_layer_gradient_multiplier",
            "hard_example_mining_step",
        ):
            value = getattr(self, name)
            require(value >= 0, f"{name} is {value}; it cannot be negative.")
        for name, choices in (
            ("optimizer", ("momentum", "adam")),
            ("learning_policy", ("poly", "step", "cosine", "multi_steps")),
            ("slow_start_burnin_type", ("none", "linear")),
        ):
            value = getattr(self, name)
            require(value in choices, f"{name} is {value!r}; expected one of {choices}.")
        self._check_shares()
        require(
            all(weight >= 0 for weight in self.label_weights),
            f"label_weights are {self.label_weights}; none may be negative.",
        )
        rates, boundaries = self.boundary_learning_rates, self.boundaries
        if self.learning_policy == "multi_steps":
            require(
                0 < len(boundaries) == len(rates) - 1
                and list(boundaries) == sorted(set(boundaries)),
                f"boundaries are {boundaries}, boundary_learning_rates {rates}; multi_steps needs "
                "rising steps, and one rate more.",
            )

    def _check_shares(self) -> None:
        require(
            0 <= self.momentum < 1, f"momentum is {self.momentum}; expected 0 or more, below 1."
        )
        require(
            self.batch_norm_decay is None or 0 < self.batch_norm_decay < 1,
            f"batch_norm_decay is {self.batch_norm_decay}; it must lie between 0 and 1.",
        )
        require(
            0 < self.top_k_percent_pixels <= 1,
            f"top_k_percent_pixels is {self.top_k_percent_pixels}; expected a share of the pixels, "
            "above 0 and up to 1.",
        )


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
    """

    crop_size: tuple[int, int] | None = None
    min_resize_value: int | None = None
    max_resize_value: int | None = None
    resize_factor: int | None = None
    eval_scales: tuple[float, ...] = (1.0,)
    add_flipped_images: bool = False
    crf: CRFParams | None = None
    eval_output_stride: int | None = None

    def __post_init__(self) -> None:
        require(
            len(self.eval_scales) >= 1 and all(scale > 0 for scale in self.eval_scales),
            f"eval_scales are {self.eval_scales}; expected one or more, all above 0.",
        )
        _check_resize(self.min_resize_value, self.max_resize_value, self.resize_factor)


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

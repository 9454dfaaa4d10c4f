"""How networks are trained."""

import dataclasses

from deeplab_tf.config.checks import require


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The optimisation: SGD with momentum under the poly schedule (v3, section 4.1), or else.

    Attributes:
        training_number_of_steps: Steps in all.
        optimizer: "momentum" or "adamw", which follow the schedule, or "adam", which has a constant
            rate.
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
        adam_epsilon: Epsilon of Adam and AdamW.
        weight_decay: L2 factor on convolution kernels, depthwise ones excepted; of AdamW what they
            shrink by in a step, times the learning rate.
        clip_gradient_norm: Largest norm of all gradients together, which longer ones are scaled
            down to; 0 for none.
        ema_decay: Decay of the average of the weights over the steps, which validation and all
            that comes after training then use; 0 for no average.
        last_layer_gradient_multiplier: Factor of the gradients of the last layers.
        last_layers_contain_logits_only: Whether the last layers are the logits alone, or all of
            the head and the decoder.
        initialize_last_layer: Whether an initial checkpoint sets the last layers too.
        fine_tune_batch_norm: Whether batch norm takes the statistics of the batch and averages
            them; False leaves it with its moving statistics, while gamma and beta still learn.
        freeze_batch_norm: Whether batch norm is left as it is altogether, gamma and beta too.
        batch_norm_decay: Decay of the moving statistics; None for each part's own.
        loss: "cross_entropy" or "focal", of each pixel.
        label_smoothing: Share of a pixel's target that the cross entropy spreads over all classes.
        focal_gamma: Exponent of the focal loss; 0 makes it the cross entropy.
        dice_weight: Factor of the soft Dice loss that is added; 0 for none.
        lovasz_weight: Factor of the Lovász-softmax loss that is added; 0 for none.
        upsample_logits: Whether the loss sees logits of the labels' size; False shrinks the labels
            to the logits' size.
        hard_example_mining_step: Step at which hard pixel mining has come down to
            top_k_percent_pixels, from all pixels at step 0; 0 begins with it.
        top_k_percent_pixels: Share of a batch's pixels, those of the largest loss, that count in
            the loss; 1 for no mining.
        label_weights: Weight of each class in the loss; empty for all alike.
        gradient_accumulation_steps: Number of parts that a batch comes in, one after the other, so
            that memory holds the features of one; batch norm sees the parts.
        mixed_precision: "none", or "bfloat16" or "float16" for the features; weights, logits and
            losses are float32.
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
    clip_gradient_norm: float = 0.0
    ema_decay: float = 0.0
    last_layer_gradient_multiplier: float = 1.0
    last_layers_contain_logits_only: bool = False
    initialize_last_layer: bool = True
    fine_tune_batch_norm: bool = True
    freeze_batch_norm: bool = False
    batch_norm_decay: float | None = None
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    dice_weight: float = 0.0
    lovasz_weight: float = 0.0
    upsample_logits: bool = True
    hard_example_mining_step: int = 0
    top_k_percent_pixels: float = 1.0
    label_weights: tuple[float, ...] = ()
    gradient_accumulation_steps: int = 1
    mixed_precision: str = "none"
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
            "clip_gradient_norm",
            "focal_gamma",
            "dice_weight",
            "lovasz_weight",
            "last_layer_gradient_multiplier",
            "hard_example_mining_step",
        ):
            value = getattr(self, name)
            require(value >= 0, f"{name} is {value}; it cannot be negative.")
        for name, choices in (
            ("optimizer", ("momentum", "adam", "adamw")),
            ("loss", ("cross_entropy", "focal")),
            ("learning_policy", ("poly", "step", "cosine", "multi_steps")),
            ("slow_start_burnin_type", ("none", "linear")),
            ("mixed_precision", ("none", "bfloat16", "float16")),
        ):
            value = getattr(self, name)
            require(value in choices, f"{name} is {value!r}; expected one of {choices}.")
        require(
            self.gradient_accumulation_steps >= 1,
            f"gradient_accumulation_steps is {self.gradient_accumulation_steps}; at least 1 is "
            "needed.",
        )
        require(
            self.gradient_accumulation_steps == 1 or self.top_k_percent_pixels == 1,
            "Hard pixel mining (top_k_percent_pixels) chooses among all pixels of a batch, which "
            "gradient_accumulation_steps never have together: give one of them.",
        )
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
        for name in ("momentum", "ema_decay", "label_smoothing"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} is {value}; expected 0 or more, below 1.")
        require(
            self.loss == "cross_entropy" or self.label_smoothing == 0,
            f"label_smoothing={self.label_smoothing} is of the cross entropy, but loss is "
            f"{self.loss!r}: leave one of them out.",
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

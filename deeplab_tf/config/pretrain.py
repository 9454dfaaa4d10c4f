"""How encoders are pretrained."""

import dataclasses

from deeplab_tf.config.checks import require


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Classification of whole images, as the Xceptions were pretrained (v3+, section 4).

    The paper says optimizer, rates, batch and size of the images; dropout is that of Xception
    (arXiv 1610.02357, section 4.3) and crops are Inception's (arXiv 1409.4842, section 6). No
    paper says for how many epochs.

    Attributes:
        image_size: Side of the square images.
        batch_size: Images in a batch.
        epochs: Passes over the training images.
        base_learning_rate: Learning rate in the beginning.
        learning_rate_decay_factor: What it is multiplied with at each decay.
        learning_rate_decay_epochs: Epochs between two of them.
        momentum: Nesterov's momentum; 0 for none.
        weight_decay: L2 factor on convolution kernels, depthwise ones excepted.
        dropout_rate: Share of the pooled features that are dropped.
        label_smoothing: Share of the target that is spread over all classes.
        min_area: Smallest share of an image's area that a training crop has.
        max_aspect_ratio: Largest ratio of a crop's sides, either way.
        central_fraction: Side of the square that validation sees, over an image's shorter side.
        batch_norm_decay: Decay of the moving statistics; None for the encoder's own, or a shorter
            one in a short run.
        mixed_precision: "none", or "bfloat16" or "float16" for the features.
        seed: Seed of initial weights, dropout, data order and crops.
    """

    image_size: int = 299
    batch_size: int = 32
    epochs: float = 120.0
    base_learning_rate: float = 0.05
    learning_rate_decay_factor: float = 0.94
    learning_rate_decay_epochs: float = 2.0
    momentum: float = 0.9
    weight_decay: float = 0.00004
    dropout_rate: float = 0.5
    label_smoothing: float = 0.0
    min_area: float = 0.08
    max_aspect_ratio: float = 4 / 3
    central_fraction: float = 0.875
    batch_norm_decay: float | None = None
    mixed_precision: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "image_size",
            "batch_size",
            "epochs",
            "base_learning_rate",
            "learning_rate_decay_factor",
            "learning_rate_decay_epochs",
        ):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}; it must be above 0.")
        for name in ("momentum", "dropout_rate", "label_smoothing"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} is {value}; expected 0 or more, below 1.")
        for name in ("min_area", "central_fraction"):
            value = getattr(self, name)
            require(0 < value <= 1, f"{name} is {value}; expected above 0, up to 1.")
        require(
            self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; it cannot be negative."
        )
        require(
            self.max_aspect_ratio >= 1,
            f"max_aspect_ratio is {self.max_aspect_ratio}; expected 1 or more.",
        )
        decay = self.batch_norm_decay
        require(
            decay is None or 0 < decay < 1,
            f"batch_norm_decay is {decay}; it must lie between 0 and 1.",
        )
        choices = ("none", "bfloat16", "float16")
        require(
            self.mixed_precision in choices,
            f"mixed_precision is {self.mixed_precision!r}; expected one of {choices}.",
        )

"""How much memory a training step takes, estimated from the shapes in the network's graph."""

from dataclasses import dataclass

import keras

from deeplab_tf.model_info.calls import output_sizes

# Copies of the full-size logits that are alive at the loss: resized logits, probabilities, and the
# gradients of both.
_LOGITS_COPIES = 4


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step takes on one device.

    Attributes:
        weights: Weights, their gradients, and what the optimizer and averages keep of each.
        features: What the backward pass needs of the forward pass.
        loss: Logits at the labels' size, and what the loss makes of them.
    """

    weights: int
    features: int
    loss: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.features + self.loss

    def __str__(self) -> str:
        """One line, in GB."""
        parts = ((self.weights, "weights"), (self.features, "features"), (self.loss, "loss"))
        listed = ", ".join(f"{name} {size / 1e9:.1f}" for size, name in parts)
        return f"about {self.total / 1e9:.1f} GB ({listed})"


def training_memory(
    model: keras.Model,
    *,
    crop_size: tuple[int, int],
    images: int,
    feature_bytes: int = 4,
    slots: int = 1,
) -> TrainingMemory:
    """Estimates the memory of one training step.

    Counted are the outputs of all layers but batch norm, whose gradient needs its input and whose
    output only an activation reads; an activation's gradient needs its output.

    Args:
        model: The network.
        crop_size: Height and width of the images.
        images: Number of images that are in memory at once: those of a replica, in one part.
        feature_bytes: Bytes of a feature: 4, or 2 in mixed precision.
        slots: Copies of each weight beside it and its gradient: 1 for momentum, 2 for Adam, one
            more for averaged weights.
    """
    height, width = crop_size
    kept = (keras.layers.BatchNormalization, keras.layers.Rescaling)
    features = sum(
        values for layer, values in output_sizes(model, crop_size) if not isinstance(layer, kept)
    )
    weights = sum(variable.shape.num_elements() for variable in model.weights)
    return TrainingMemory(
        weights=4 * (2 + slots) * weights,
        features=feature_bytes * images * features,
        loss=4 * images * height * width * model.output_shape[-1] * _LOGITS_COPIES,
    )

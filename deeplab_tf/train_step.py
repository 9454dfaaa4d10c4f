"""One step of training: loss, gradients and update, and what batch norm does in it."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from deeplab_tf import optimizers
from deeplab_tf.backbones.nas_cells import DropPath
from deeplab_tf.config import TrainConfig
from deeplab_tf.layers import BatchNormalization
from deeplab_tf.losses import softmax_cross_entropy
from deeplab_tf.model_card import ModelCard
from deeplab_tf.weights import reference_name

_PAPER_STEPS = 30_000

# Of images, uint8 or float32 [b, h, w, c], and labels, uint8 [b, h, w].
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def train_step(model: keras.Model, optimizer: keras.optimizers.Optimizer, card: ModelCard) -> Loss:
    """A compiled function that takes one optimisation step and returns the loss before it.

    Its arguments are images, uint8 or float32 [b, h, w, c] in 0..255, and labels, uint8 [b, h, w].
    Gradients are multiplied as the reference does: see `optimizers.gradient_multiplier`.
    """
    loss_function = training_loss(model, optimizer, card)
    variables = model.trainable_variables
    multipliers = [
        optimizers.gradient_multiplier(
            reference_name(variable),
            last_layer_gradient_multiplier=card.train.last_layer_gradient_multiplier,
            last_layers_contain_logits_only=card.train.last_layers_contain_logits_only,
        )
        for variable in variables
    ]

    # jit_compile: XLA is eight times slower on a CPU.
    @tf.function(jit_compile=False)
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_function(images, labels)
        gradients = tape.gradient(loss, variables)
        optimizer.apply([g * m for g, m in zip(gradients, multipliers, strict=True)], variables)
        return loss

    return step


def training_loss(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, card: ModelCard
) -> Loss:
    """What training minimises, as a function of images and labels as `train_step` takes them.

    It is the cross entropy of the logits plus weight decay. An image pyramid has a cross entropy
    for each of its scales as well, all of weight 1 (reference: `_build_deeplab`). What changes in
    the course of training, hard pixel mining and drop path, goes by the optimizer's steps.
    """
    config = card.train
    scales = card.model.image_pyramid if len(card.model.image_pyramid) > 1 else ()
    names = [*(f"logits_{scale:.2f}" for scale in scales), "logits"]
    network = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    kernels = optimizers.regularized_kernels(model)
    _drop_paths(model, optimizer, config)

    def loss(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        cross_entropies = [
            softmax_cross_entropy(
                labels,
                logits,
                ignore_label=card.dataset.ignore_label,
                label_weights=config.label_weights or 1.0,
                upsample_logits=config.upsample_logits,
                top_k_percent_pixels=config.top_k_percent_pixels,
                hard_example_mining_step=config.hard_example_mining_step,
                step=optimizer.iterations,
            )
            for logits in network(tf.cast(images, tf.float32), training=True).values()
        ]
        return sum(cross_entropies) + optimizers.l2_loss(kernels, config.weight_decay)

    return loss


def set_batch_norm(model: keras.Model, config: TrainConfig) -> None:
    """Gives every batch norm the decay of the config, or one that suits the run's length.

    The networks' own decays (up to 0.9997) are made for the papers' 30,000 steps from pretrained
    weights. In a shorter run such an average is full of what the network was long before, and a
    network that trains well looks broken in evaluation (docs/camvid.md has an example).

    Without `fine_tune_batch_norm`, the statistics are frozen instead.

    Differs: the reference keeps the networks' own decays and does not read `batch_norm_decay`.
    """
    steps = config.training_number_of_steps
    longest = 1.0 if steps >= _PAPER_STEPS else max(0.9, 1 - 90 / steps)
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.momentum = config.batch_norm_decay or min(layer.momentum, longest)
            layer.frozen_statistics = not config.fine_tune_batch_norm


def freeze_layers(model: keras.Model, trained_layers: Sequence[str]) -> None:
    """Leaves all weights as they are, but for those of layers whose names begin so.

    Args:
        model: The network.
        trained_layers: Beginnings of names; none for a network that learns as a whole.

    Raises:
        ValueError: No layer's name begins with one of them.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    for beginning in trained_layers:
        if not any(name.startswith(beginning) for name in names):
            raise ValueError(
                f"--trained_layers={beginning}: no layer of {model.name} begins so; there are "
                f"{', '.join(sorted({name.split('.')[0] for name in names}))}."
            )
    if trained_layers:
        for layer in model.layers:
            layer.trainable = layer.name.startswith(tuple(trained_layers))


def _drop_paths(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, config: TrainConfig
) -> None:
    """Ties drop path to the optimizer's steps; as the reference, not with frozen statistics."""

    def progress() -> tf.Tensor:
        return optimizer.iterations / config.training_number_of_steps

    for layer in model.layers:
        if isinstance(layer, DropPath):
            layer.progress = progress if config.fine_tune_batch_norm else 0.0

"""Our side of benchmarks.accelerator: the networks on Keras's JAX backend, in mixed bfloat16."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from deeplab_tf import ModelConfig, build_deeplab, model_info
from deeplab_tf.folding import fold_batch_norm

NUM_CLASSES = 21
ENCODERS = {"resnet101": "resnet_v1_101", "xception65": "xception_65"}
LEARNING_RATE, MOMENTUM = 1e-3, 0.9


def card() -> str:
    """What it runs on, and with what."""
    return f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, Keras {keras.__version__}"


def wait(result: Any) -> None:
    """Returns when all of it is computed."""
    jax.block_until_ready(result)


def matmul_rate(size: int) -> float:
    """Operations per second of a bfloat16 matrix product."""
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size), jnp.bfloat16) for key in keys)
    product = jax.jit(jnp.matmul)
    wait(product(a, b))
    start, count = time.perf_counter(), 30
    for _ in range(count):
        result = product(a, b)
    wait(result)
    return 2 * size**3 * count / (time.perf_counter() - start)


def prepare(
    side: str, network: str, task: str, size: int, batch_size: int
) -> tuple[Callable[[], Any], int]:
    """A step of a task, on a batch in the card's memory, and the network's Multiply-Adds."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    config = ModelConfig(
        ENCODERS[network],
        num_classes=NUM_CLASSES,
        atrous_rates=(12, 24, 36),
        decoder_output_stride=(4,),
    )
    model = build_deeplab(config)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (batch_size, size, size, 3), np.uint8))
    labels = jnp.asarray(rng.integers(0, NUM_CLASSES, (batch_size, size, size), np.int32))
    make = _inference if task == "inference" else _training
    return make(model, images, labels), model_info(config, image_size=(size, size)).multiply_adds


def _inference(model: keras.Model, images: jax.Array, labels: jax.Array) -> Callable[[], Any]:
    model = fold_batch_norm(model)  # as exports are
    trainable = [v.value for v in model.trainable_variables]
    other = [v.value for v in model.non_trainable_variables]

    @jax.jit
    def predict(trainable: list[jax.Array], other: list[jax.Array], images: jax.Array) -> jax.Array:
        logits, _ = model.stateless_call(trainable, other, images.astype("float32"), training=False)
        return logits.argmax(axis=-1)

    return lambda: predict(trainable, other, images)


def _training(model: keras.Model, images: jax.Array, labels: jax.Array) -> Callable[[], Any]:
    def loss_of(
        trainable: list[jax.Array], other: list[jax.Array], images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, list[jax.Array]]:
        logits, other = model.stateless_call(
            trainable, other, images.astype("float32"), training=True
        )
        losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return losses.mean(), other

    def step(
        state: tuple[list[jax.Array], ...], images: jax.Array, labels: jax.Array
    ) -> tuple[tuple[list[jax.Array], ...], jax.Array]:
        trainable, other, velocities = state
        (loss, other), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, other, images, labels
        )
        velocities = [MOMENTUM * v + g for v, g in zip(velocities, gradients, strict=True)]
        trainable = [w - LEARNING_RATE * v for w, v in zip(trainable, velocities, strict=True)]
        return (trainable, other, velocities), loss

    compiled = jax.jit(step, donate_argnums=0)
    weights = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]
    state = (weights, others, [jnp.zeros_like(weight) for weight in weights])

    def take_step() -> jax.Array:
        nonlocal state
        state, loss = compiled(state, images, labels)
        return loss

    return take_step

"""Kernels of networks for RGB images, for images of other channels."""

import keras
import numpy as np
from keras import KerasTensor

from deeplab_tf.weights.checkpoint import reference_name


def image_kernels(model: keras.Model) -> set[str]:
    """Names of the kernels that see the image itself, by the reference's names.

    Those of the encoder's first convolution and, in DeepLabv1, of the multi-scale features of the
    image.
    """
    return {
        reference_name(layer.kernel)
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
        and any(_is_image(node.input_tensors[0]) for node in layer._inbound_nodes)
    }


def inflated(kernel: np.ndarray, input_channels: int) -> np.ndarray:
    """A kernel for RGB, [h, w, 3, filters], for images of other channels.

    For grey, the sum over RGB: grey is then what the three equal channels were. For others, RGB in
    turn, divided by as many: RGBRGB is then what RGB was. As in timm and
    segmentation_models_pytorch.

    Returns:
        [h, w, input_channels, filters], of the kernel's type.
    """
    if input_channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    channels = np.arange(input_channels) % 3
    return kernel[:, :, channels] * kernel.dtype.type(3 / input_channels)


def is_inflatable(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a kernel is one for RGB that other channels are wanted of, and nothing else."""
    return stored != wanted and stored == (*wanted[:2], 3, *wanted[3:])


def _is_image(tensor: KerasTensor) -> bool:
    """Whether there is nothing with weights between the image and a tensor."""
    layer, node, _ = tensor._keras_history
    if getattr(layer, "weights", ()):
        return False
    inputs = layer._inbound_nodes[node].input_tensors
    return not inputs or _is_image(inputs[0])

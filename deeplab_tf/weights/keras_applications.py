"""ImageNet's weights of Keras's own VGG-16, for the networks of DeepLabv1 and v2."""

import math
import os
import re
from collections.abc import Collection, Mapping

import keras
import numpy as np

from deeplab_tf.weights.checkpoint import LoadReport, reference_name
from deeplab_tf.weights.inflation import image_kernels, inflated, is_inflatable

KERAS_VGG16 = "keras_vgg16"

_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{_FILE}"
_FC1_CHANNELS = 512  # of the features that are flattened for it


def is_keras_vgg16(path_or_name: str) -> bool:
    """Whether it is for `initialize_from_keras_vgg16`: "keras_vgg16", or a .h5 file."""
    return path_or_name == KERAS_VGG16 or path_or_name.endswith(".h5")


def initialize_from_keras_vgg16(
    model: keras.Model, path_or_name: str = KERAS_VGG16, *, backbone_only: bool = False
) -> LoadReport:
    """Sets the weights that `keras.applications.VGG16` has, to train from (v1, section 3).

    Keras's images are BGR, ours RGB; its fc1 and fc2 are our fc6 and fc7, with which every branch
    of v2 begins. Where ours are smaller they have evenly spaced rows, columns and channels of them
    (v1, section 3.2): so fc6 of 4x4 at rate 8, or of 3x3 at rate 12, looks at what the 7x7 one at
    rate 4 looks at. For images of other channels the first kernel is inflated
    (`weights.inflation`). The logits and the multi-scale features keep the values they have.

    Args:
        model: A network with the encoder vgg_16.
        path_or_name: "keras_vgg16", whose 553 MB Keras downloads into its cache once; or the path
            of that file, or of the one with "notop" in its name, which has no fc1 and fc2.
        backbone_only: Leaves fc6 and fc7 as they are.

    Returns:
        What was loaded. The names of what was not are Keras's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network or the file is not of VGG-16, or fc6 or fc7 is larger than VGG-16's.
            Nothing has been changed then.
        ConnectionError: The weights cannot be downloaded.
    """
    weights = {reference_name(weight): weight for weight in model.weights}
    sources = {name: source for name in weights if (source := _source(name))}
    if not any(name.startswith("vgg_16/") for name in sources):
        raise ValueError(
            f"{model.name} has no VGG-16, which {path_or_name} has the weights of: expected a "
            "network of --model_variant=vgg_16."
        )
    classifier = _downloaded() if path_or_name == KERAS_VGG16 else _from_file(path_or_name)
    stored = {reference_name(weight): weight for weight in classifier.weights}
    skipped = {name: "classification head" for name in stored if name.startswith("predictions/")}
    if backbone_only:
        skipped |= {name: "last layers" for name in stored if name.startswith("fc")}
    found = {name: s for name, s in sources.items() if s in stored.keys() - skipped.keys()}
    shapes = {name: _shape(stored[source]) for name, source in found.items()}
    rgb_kernels = {
        name
        for name in image_kernels(model) & found.keys()
        if is_inflatable(shapes[name], tuple(weights[name].shape))
    }
    _check_sizes(weights, {name: shapes[name] for name in shapes if name not in rgb_kernels})
    for name, source in found.items():
        value = keras.ops.convert_to_numpy(stored[source]).reshape(shapes[name])
        if source == "block1_conv1/weights":
            value = value[:, :, ::-1]
        if name in rgb_kernels:
            value = inflated(value, weights[name].shape[2])
        weights[name].assign(_subsampled(value, tuple(weights[name].shape)))
    return _report(path_or_name, weights, found, stored, skipped, rgb_kernels)


def _source(name: str) -> str | None:
    """The name of a weight in Keras's VGG-16; None where it has no such weight."""
    if match := re.fullmatch(r"vgg_16/conv(\d)/conv\d_(\d)/(\w+)", name):
        return f"block{match[1]}_conv{match[2]}/{match[3]}"
    if match := re.fullmatch(r"fc([67])(_\d+)?/(\w+)", name):
        return f"fc{int(match[1]) - 5}/{match[3]}"
    return None


def _downloaded() -> keras.Model:
    try:
        return keras.applications.VGG16(weights="imagenet")
    except Exception as error:  # which is what Keras raises when a download fails
        raise ConnectionError(
            f"{KERAS_VGG16} could not be downloaded: {error}. Without a network, download {_URL} "
            f"elsewhere, then give the path of that file in place of {KERAS_VGG16}, or put it into "
            "~/.keras/models."
        ) from error


def _from_file(path: str) -> keras.Model:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path}: expected {_FILE} of {_URL}.")
    include_top = "notop" not in os.path.basename(path)
    try:
        return keras.applications.VGG16(include_top=include_top, weights=path)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or not of Keras's VGG-16 ({error}): expected {_FILE} of {_URL}."
        ) from error


def _shape(stored: keras.Variable) -> tuple[int, ...]:
    """Shape of a weight of Keras's, as that of a convolution where its layer is dense."""
    if len(stored.shape) != 2:
        return tuple(stored.shape)
    inputs, outputs = stored.shape
    side = math.isqrt(inputs // _FC1_CHANNELS) if stored.path.startswith("fc1/") else 1
    return side, side, inputs // side**2, outputs


def _check_sizes(
    weights: Mapping[str, keras.Variable], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    for name, shape in shapes.items():
        if any(ours > theirs for ours, theirs in zip(weights[name].shape, shape, strict=True)):
            raise ValueError(
                f"{name} has the shape {list(weights[name].shape)}, but that of VGG-16 only "
                f"{list(shape)}: lower fc_filters or fc_kernel_size."
            )


def _subsampled(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for axis, kept in enumerate(shape):
        spaced = _spread if axis < len(shape) - 2 else _decimated
        if kept < value.shape[axis]:
            value = value.take(spaced(value.shape[axis], kept), axis=axis)
    return value


def _spread(size: int, kept: int) -> np.ndarray:
    """Rows or columns that lie around the centre: of seven, three are 0, 3, 6."""
    reach = (size - 1) / 2 if kept > 1 else 0
    return np.rint(np.linspace(-reach, reach, kept)).astype(int) + size // 2


def _decimated(size: int, kept: int) -> np.ndarray:
    """Channels: for a quarter of them, every fourth."""
    return np.arange(kept) * size // kept


def _report(
    path_or_name: str,
    weights: Collection[str],
    found: Mapping[str, str],
    stored: Collection[str],
    skipped: Mapping[str, str],
    rgb_kernels: Collection[str],
) -> LoadReport:
    return LoadReport(
        checkpoint=path_or_name,
        step=None,
        loaded=sorted(found),
        missing=sorted(set(weights) - set(found)),
        unused=sorted(set(stored) - set(found.values()) - set(skipped)),
        skipped=dict(sorted(skipped.items())),
        transferred=[],
        inflated=sorted(rgb_kernels),
    )

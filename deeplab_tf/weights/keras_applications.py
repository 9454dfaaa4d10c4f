"""ImageNet's weights of Keras's own networks, for encoders that are the same networks.

VGG-16 of DeepLabv1 and v2, ResNet-50 and -101 with the 7x7 stem, and MobileNetV2.
"""

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

from deeplab_tf.weights.checkpoint import LoadReport, reference_name
from deeplab_tf.weights.inflation import image_kernels, inflated, is_inflatable
from deeplab_tf.weights.keras_networks import KERAS_NETWORKS, KerasNetwork, Shapes
from deeplab_tf.weights.native import listed


def is_from_keras(path_or_name: str) -> bool:
    """Whether it is for `initialize_from_keras`: a name such as "keras_vgg16", or a .h5 file."""
    return path_or_name in KERAS_NETWORKS or path_or_name.endswith(".h5")


def initialize_from_keras(
    model: keras.Model, path_or_name: str, *, backbone_only: bool = False
) -> LoadReport:
    """Sets the weights that a network of `keras.applications` has, to train from.

    The encoder then computes what Keras's network does (docs/pretraining.md says for which images,
    and with what differences). For images of other channels the first kernel is inflated
    (`weights.inflation`). The head keeps the values it has, except with VGG-16, whose fc1 and fc2
    are our fc6 and fc7, with which every branch of v2 begins. Where ours are smaller they have
    evenly spaced rows, columns and channels of them (v1, section 3.2): so fc6 of 4x4 at rate 8, or
    of 3x3 at rate 12, looks at what the 7x7 one at rate 4 looks at.

    Args:
        model: A network with the encoder that the weights are of.
        path_or_name: A name of `KERAS_NETWORKS`, whose weights Keras downloads into its cache once;
            or the path of such a file, or of the one with "notop" or "no_top" in its name, which
            has no fully connected layers.
        backbone_only: Leaves fc6 and fc7 as they are.

    Returns:
        What was loaded. The names of what was not are Keras's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network and the file are not of one kind, or the shape of a weight is
            another one. Nothing has been changed then.
        ConnectionError: The weights cannot be downloaded.
    """
    weights = {reference_name(weight): weight for weight in model.weights}
    network = _network(model, path_or_name, weights)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    options = network.options(shapes)
    if path_or_name in KERAS_NETWORKS:
        theirs = _downloaded(network, options)
    else:
        theirs = _from_file(network, options, path_or_name)
    stored = {reference_name(weight): weight for weight in theirs.weights}
    skipped = _skipped(network, stored, backbone_only=backbone_only)
    available = stored.keys() - skipped.keys()
    sources = {name: network.sources(name) or () for name in weights}
    found = {name: of for name, of in sources.items() if of and available.issuperset(of)}
    values = {
        name: network.value(name, *(_array(stored[s]) for s in found[name])) for name in found
    }
    rgb_kernels = {
        name
        for name in image_kernels(model) & found.keys()
        if is_inflatable(values[name].shape, shapes[name])
    }
    for name in rgb_kernels:
        values[name] = inflated(values[name], shapes[name][2])
    _check_shapes(network, shapes, values)
    for name, value in values.items():
        weights[name].assign(_subsampled(value, shapes[name]))
    return _report(path_or_name, weights, found, stored, skipped, rgb_kernels)


def _network(model: keras.Model, path_or_name: str, weights: Collection[str]) -> KerasNetwork:
    """The network that the weights are of: that of the name, or of a file that of the encoder."""
    first = next(iter(weights))
    ours = [n for n in KERAS_NETWORKS.values() if re.match(n.scope, first)]
    if path_or_name not in KERAS_NETWORKS and not ours:
        raise ValueError(
            f"Keras has no network with the encoder of {model.name}, so that {path_or_name} cannot "
            f"be for it: there are {', '.join(KERAS_NETWORKS)}."
        )
    network = KERAS_NETWORKS.get(path_or_name) or ours[0]
    if network.differs:
        raise ValueError(
            f"{path_or_name}: Keras's {network.title} is no encoder here: {network.differs}."
        )
    variants = " or ".join(f"--model_variant={variant}" for variant in network.model_variants)
    if network not in ours:
        raise ValueError(
            f"{model.name} has no {network.title}, which {path_or_name} has the weights of: "
            f"expected a network of {variants}."
        )
    encoder = [name for name in weights if re.match(network.scope, name)]
    if foreign := [name for name in encoder if network.sources(name) is None]:
        raise ValueError(
            f"{model.name} is not Keras's {network.title}, which has no {listed(foreign, 3)}: "
            f"expected a network of {variants}."
        )
    return network


def _downloaded(network: KerasNetwork, options: Mapping[str, Any]) -> keras.Model:
    try:
        return getattr(keras.applications, network.function)(weights="imagenet", **options)
    except Exception as error:  # which is what Keras raises when a download fails
        raise ConnectionError(
            f"{network.name} could not be downloaded: {error}. Without a network, download "
            f"{network.url(options)} elsewhere, then give the path of that file in place of "
            f"{network.name}, or put it into ~/.keras/models."
        ) from error


def _from_file(network: KerasNetwork, options: Mapping[str, Any], path: str) -> keras.Model:
    url = network.url(options)
    expected = f"expected {os.path.basename(url)} of {url}."
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path}: {expected}")
    include_top = "notop" not in os.path.basename(path).replace("no_top", "notop")
    try:
        function = getattr(keras.applications, network.function)
        return function(include_top=include_top, weights=path, **options)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or not of Keras's {network.title} ({error}): {expected}"
        ) from error


def _skipped(
    network: KerasNetwork, stored: Collection[str], *, backbone_only: bool
) -> dict[str, str]:
    """What is left out on purpose, and what it is."""
    skipped = {n: "classification head" for n in stored if re.fullmatch(network.classifier, n)}
    if backbone_only:
        skipped |= {n: "last layers" for n in stored if re.fullmatch(network.last_layers, n)}
    return skipped


def _array(weight: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight)


def _check_shapes(network: KerasNetwork, shapes: Shapes, values: Mapping[str, np.ndarray]) -> None:
    for name, value in values.items():
        ours, theirs = shapes[name], value.shape
        smaller = all(a <= b for a, b in zip(ours, theirs, strict=True))
        if ours != theirs and not (network.may_shrink and smaller):
            only = "only " if network.may_shrink else ""
            raise ValueError(
                f"{name} has the shape {list(ours)}, but that of {network.title} {only}"
                f"{list(theirs)}: {network.remedy}."
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
    found: Mapping[str, tuple[str, ...]],
    stored: Collection[str],
    skipped: Mapping[str, str],
    rgb_kernels: Collection[str],
) -> LoadReport:
    used = {source for sources in found.values() for source in sources}
    return LoadReport(
        checkpoint=path_or_name,
        step=None,
        loaded=sorted(found),
        missing=sorted(set(weights) - set(found)),
        unused=sorted(set(stored) - used - set(skipped)),
        skipped=dict(sorted(skipped.items())),
        transferred=[],
        inflated=sorted(rgb_kernels),
    )

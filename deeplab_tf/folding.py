"""Batch norms folded into the convolutions before them: the same function at inference, faster.

    gamma * (conv(x, kernel) + bias - mean) / sqrt(variance + epsilon) + beta

is a convolution with the kernel times, and the bias after, one factor for each channel.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers


class _Call(NamedTuple):
    """One call of a layer, within the graph of a model."""

    layer: str
    number: int


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """A copy of a network without the batch norms that directly follow a convolution.

    Those that normalise something else stay, and so do those after a convolution whose output has
    an activation, or is used elsewhere too. Other layers keep their names, weights and dtypes; a
    convolution that takes up its batch norm has a bias. Layers that an image pyramid shares stay
    shared.

    Args:
        model: A functional model, such as `build_deeplab` returns. It is left as it is.

    Returns:
        A model that returns what `model` returns at inference, to rounding: products are taken in
        float64 and kept in the type of the weights. It is not for training.
    """
    pairs = dict(_foldable(model))
    convolutions = set(pairs.values())

    def clone(layer: layers.Layer) -> Any:
        if layer.name in pairs:
            return _identity
        config = layer.get_config()
        if layer.name in convolutions:
            config["use_bias"] = True
        return type(layer).from_config(config)

    folded = keras.models.clone_model(model, clone_function=clone)
    batch_norms = {convolution: model.get_layer(name) for name, convolution in pairs.items()}
    for layer in filter(lambda layer: layer.weights, folded.layers):
        original = model.get_layer(layer.name)
        if layer.name in batch_norms:
            layer.set_weights(_folded_weights(original, batch_norms[layer.name]))
        else:
            layer.set_weights(original.get_weights())
    return folded


def _identity(x: Any, mask: Any = None) -> Any:
    return x


def _foldable(model: keras.Model) -> Iterator[tuple[str, str]]:
    """The names of batch norms and of the convolutions that can take them up."""
    config = model.get_config()
    calls: dict[str, list[_Call]] = {}  # of each layer
    inputs: dict[str, list[_Call]] = {}  # what each layer is called on
    users: dict[_Call, list[str]] = defaultdict(list)
    for layer in config["layers"]:
        nodes = layer["inbound_nodes"]
        calls[layer["name"]] = [_Call(layer["name"], i) for i in range(len(nodes))]
        inputs[layer["name"]] = list(_sources(nodes))
        for call in inputs[layer["name"]]:
            users[call].append(layer["name"])
    for call in _outputs(config["output_layers"]):
        users[call].append("output")

    for layer in model.layers:
        if not isinstance(layer, layers.BatchNormalization):
            continue
        source = model.get_layer(inputs[layer.name][0].layer)
        alone = all(users[call] == [layer.name] for call in calls[source.name])
        if alone and set(inputs[layer.name]) == set(calls[source.name]) and _takes_factors(source):
            yield layer.name, source.name


def _takes_factors(layer: layers.Layer) -> bool:
    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
    return isinstance(layer, kinds) and layer.activation is keras.activations.linear


def _sources(nodes: Any) -> Iterator[_Call]:
    """The calls whose outputs some serialised calls take, in their order."""
    if isinstance(nodes, dict) and nodes.get("class_name") == "__keras_tensor__":
        name, index, _ = nodes["config"]["keras_history"]
        yield _Call(name, index)
    elif isinstance(nodes, dict):
        yield from _sources(list(nodes.values()))
    elif isinstance(nodes, list | tuple):
        for node in nodes:
            yield from _sources(node)


def _outputs(output_layers: Any) -> Iterator[_Call]:
    """The calls that make a model's outputs, which may be one, or a list or dict of them."""
    if isinstance(output_layers, dict):
        output_layers = list(output_layers.values())
    if output_layers and isinstance(output_layers[0], str):
        yield _Call(*output_layers[:2])
        return
    for layer in output_layers:
        yield from _outputs(layer)


def _folded_weights(
    convolution: layers.Layer, batch_norm: layers.BatchNormalization
) -> list[np.ndarray]:
    """Kernels and bias of the convolution with the batch norm in it."""
    kernels = [np.float64(weight) for weight in convolution.get_weights()]
    bias = kernels.pop() if convolution.use_bias else 0.0
    gamma = np.float64(batch_norm.gamma) if batch_norm.scale else 1.0
    beta = np.float64(batch_norm.beta) if batch_norm.center else 0.0
    variance = np.float64(batch_norm.moving_variance) + batch_norm.epsilon
    factors = gamma / np.sqrt(variance)
    last = kernels[-1]  # of a separable convolution the pointwise one
    depthwise = isinstance(convolution, layers.DepthwiseConv2D)
    kernels[-1] = last * (factors.reshape(last.shape[-2:]) if depthwise else factors)
    return [*kernels, (bias - np.float64(batch_norm.moving_mean)) * factors + beta]

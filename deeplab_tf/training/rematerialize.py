"""Training with less memory: features are computed again in the backward pass, not kept.

The graph of a network is cut where only few features are alive, as between the units of an encoder
(arXiv 1604.06174). Forward, what lies between two cuts is forgotten; backward, it is computed once
more. A step takes about a third longer, and its gradients are the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import KerasTensor, layers, ops

from deeplab_tf.layers import BatchNormalization

# Cuts closer than this save little.
_LEAST_LAYERS = 6


@dataclass(frozen=True)
class _Segment:
    """Some layers that follow each other, as a function of the features alive before them."""

    inputs: list[KerasTensor]
    outputs: list[KerasTensor]
    model: keras.Model

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        outputs = self.model(list(values), training=True)
        return [outputs] if len(self.outputs) == 1 else list(outputs)


class Rematerialized:
    """A network, in training, that keeps only the features at its cuts.

    Args:
        network: A functional model with one input and a dictionary of outputs, each of whose layers
            is called once.

    Raises:
        ValueError: A layer is called several times, as in an image pyramid.
    """

    def __init__(self, network: keras.Model) -> None:
        self._network = network
        self._segments = list(_segments(network))

    def __len__(self) -> int:
        return len(self._segments)

    def __call__(self, images: Any) -> dict[str, Any]:
        """Images, float [b, h, w, c], to the network's outputs."""
        values = {id(self._network.input): images}
        for segment in self._segments:
            inputs = [values[id(tensor)] for tensor in segment.inputs]
            run = segment if _draws(segment.model) else _forgetful(segment)
            for tensor, value in zip(segment.outputs, run(inputs), strict=True):
                values[id(tensor)] = value
        outputs: Mapping[str, KerasTensor] = self._network.output
        return {name: values[id(tensor)] for name, tensor in outputs.items()}


def _forgetful(segment: _Segment) -> Any:
    """The segment, computed once more in the backward pass."""
    statistics = [
        variable
        for layer in segment.model.layers
        if isinstance(layer, BatchNormalization)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]
    calls = 0

    def run(*values: Any) -> tuple[Any, ...]:
        nonlocal calls
        calls += 1
        again = calls > 1
        kept = [ops.copy(variable) for variable in statistics] if again else []
        outputs = segment(values)
        # Averages that took in a batch in the forward pass must not take it in once more.
        for variable, value in zip(statistics, kept, strict=again):
            variable.assign(value)
        return tuple(outputs)

    return lambda values: keras.remat(run)(*values)


def _draws(model: keras.Model) -> bool:
    """Whether a layer is random: drawn again, it would be another one."""
    return any(
        isinstance(layer, layers.Dropout) or hasattr(layer, "seed_generator")
        for layer in model.layers
    )


def _segments(network: keras.Model) -> Iterator[_Segment]:
    calls = [layer for layer in network.layers if not isinstance(layer, layers.InputLayer)]
    if any(len(layer._inbound_nodes) != 1 for layer in calls):
        raise ValueError(
            "a network whose layers are called several times, as in an image pyramid, cannot be "
            "rematerialised"
        )
    needed = [{id(tensor) for tensor in _flat(layer.input)} for layer in calls]
    results = {id(tensor) for tensor in _flat(network.output)}
    alive: list[list[KerasTensor]] = []
    made = _flat(network.input)
    for index, layer in enumerate(calls):
        made = [*made, *_flat(layer.output)]
        later = results.union(*needed[index + 1 :])
        made = [tensor for tensor in made if id(tensor) in later]
        alive.append(made)
    start, inputs = 0, _flat(network.input)
    for end in _cuts([len(tensors) for tensors in alive]):
        used = set().union(*needed[start : end + 1])
        made_here = {id(t) for layer in calls[start : end + 1] for t in _flat(layer.output)}
        segment_inputs = [tensor for tensor in inputs if id(tensor) in used]
        outputs = [tensor for tensor in alive[end] if id(tensor) in made_here]
        yield _Segment(segment_inputs, outputs, keras.Model(segment_inputs, outputs))
        start, inputs = end + 1, alive[end]


def _cuts(alive: Sequence[int]) -> list[int]:
    """Indices of the layers to cut after: where fewest features are alive, and not too close."""
    cuts = []
    last = -1
    for index, count in enumerate(alive[:-1]):
        near = alive[max(0, index - _LEAST_LAYERS) : index + _LEAST_LAYERS + 1]
        if count == min(near) and index - last >= _LEAST_LAYERS and index < len(alive) - 1:
            cuts.append(index)
            last = index
    return [*cuts, len(alive) - 1]


def _flat(tensors: Any) -> list[KerasTensor]:
    if isinstance(tensors, dict):
        tensors = list(tensors.values())
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]

"""The calls in a network's graph, with the shapes that images of one size give them."""

import math
from collections.abc import Iterator
from typing import Any

import keras


class _Spy(keras.Operation):
    """Stands for a layer in a copy of its graph, and notes the output of every call."""

    def __init__(self, layer: keras.Operation, calls: list[tuple[Any, Any]]) -> None:
        super().__init__(name=layer.name)
        self._layer = layer
        self._calls = calls

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        outputs = self._layer.compute_output_spec(*args, **kwargs)
        self._calls.append((self._layer, outputs))
        return outputs


def graph_calls(model: keras.Model, image_size: tuple[int, int]) -> list[tuple[Any, Any]]:
    """Every call in the graph, in order: the layer (or operation) and its symbolic output."""
    _, *sides, channels = model.input.shape
    if any(side not in (None, given) for side, given in zip(sides, image_size, strict=True)):
        raise ValueError(
            f"image_size is {image_size}, but {model.name} is built for {tuple(sides)}: count it "
            "at that size, or build it without crop_size."
        )
    calls: list[tuple[Any, Any]] = []
    keras.models.clone_model(
        model,
        input_tensors=keras.Input((*image_size, channels), dtype=model.input.dtype),
        clone_function=lambda layer: _Spy(layer, calls),
    )
    return calls


def output_sizes(model: keras.Model, image_size: tuple[int, int]) -> Iterator[tuple[Any, int]]:
    """Yields every layer and the number of values in its output, for one image."""
    for layer, output in graph_calls(model, image_size):
        outputs = output if isinstance(output, list | tuple) else [output]
        yield layer, sum(math.prod(tensor.shape[1:]) for tensor in outputs)

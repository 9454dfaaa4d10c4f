"""Our own checkpoints: a flat TensorFlow checkpoint of named variables.

Names are the layers' (the reference's scopes with "." for "/"), under "model"; what only training
needs lies beside them under "optimizer" and "random". A run that averages its weights has the
averages under "average", by the same names: they are what others read, training goes on with
"model".
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

# How TensorFlow stores the variable of a name: with "." doubled, which is its escape sign.
_PREFIX, _AVERAGE_PREFIX = "model/", "average/"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def training_checkpoint(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    averages: Mapping[str, keras.Variable] | None = None,
) -> tf.train.Checkpoint:
    """Everything a run needs to go on exactly: weights, optimizer, step, dropout's seeds.

    `tf.train.Checkpoint(model=model)` would leave out the seeds, which Keras keeps outside the
    weights and numbers by process, so they are stored by position.

    Args:
        model: The network.
        optimizer: Its optimizer, built.
        averages: Of weights, by their paths: `ema.WeightAverage.averages`.
    """
    weights = {id(weight) for weight in model.weights}
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    parts = {
        "model": _named(model.weights),
        "optimizer": _named(optimizer.variables),
        "random": {str(i): seed.value for i, seed in enumerate(seeds)},
    }
    if averages:
        parts["average"] = {
            path.replace("/", "."): average.value for path, average in averages.items()
        }
    return tf.train.Checkpoint(**parts)


def load_weights(model: keras.Model, checkpoint: str) -> None:
    """Sets every weight of a model from a checkpoint of the same network.

    Where the run averaged its weights, these are the averages.

    Args:
        model: The network.
        checkpoint: Prefix of a checkpoint that train.py wrote.

    Raises:
        ValueError: A weight of one is missing in the other, or has another shape, or the
            checkpoint is damaged. Nothing has been changed then.
    """
    stored = _read(checkpoint)
    weights = _named(model.weights)
    misfit = find_misfit(weights, {name: value.shape for name, value in stored.items()})
    if any(misfit):
        raise misfit.error(model, checkpoint)
    for name, weight in weights.items():
        weight.assign(stored[name])


class Misfit(NamedTuple):
    """How a network's weights and a checkpoint's variables differ.

    Attributes:
        missing: Weights that the checkpoint has not.
        unused: Variables that the network has not.
        differing: What has another shape, with both shapes.
    """

    missing: list[str]
    unused: list[str]
    differing: dict[str, str]

    def error(self, model: keras.Model, checkpoint: str, hint: str = "") -> ValueError:
        """The error that says so."""
        return ValueError(
            f"{checkpoint} is not of this network ({model.name}, {model.output_shape[-1]} classes)."
            f"\n  missing in the checkpoint: {listed(self.missing)}"
            f"\n  not used by the network: {listed(self.unused)}"
            f"\n  of another shape: {listed(list(self.differing.values()))}"
            f"{hint}"
        )


def find_misfit(
    weights: Mapping[str, keras.Variable], shapes: Mapping[str, tuple[int, ...]]
) -> Misfit:
    """Compares weights with the shapes of stored variables, both by name."""
    return Misfit(
        missing=sorted(set(weights) - set(shapes)),
        unused=sorted(set(shapes) - set(weights)),
        differing={
            name: f"{name} ({list(shapes[name])} there, {list(weights[name].shape)} here)"
            for name in sorted(set(weights) & set(shapes))
            if tuple(shapes[name]) != tuple(weights[name].shape)
        },
    )


def weight_paths(keys: Collection[str]) -> dict[str, str]:
    """The keys of a network's weights, or of their averages where there are any, with their paths.

    Args:
        keys: The names inside of a checkpoint's file, ours or not.

    Returns:
        Of some keys the paths, with "." for "/", each once.
    """
    found = {}
    for prefix in (_PREFIX, _AVERAGE_PREFIX):
        for key in keys:
            if key.startswith(prefix) and key.endswith(_SUFFIX):
                path = key.removeprefix(prefix).removesuffix(_SUFFIX).replace("..", ".")
                found[path] = key
    return {key: path for path, key in found.items()}


@contextlib.contextmanager
def damage_reported(checkpoint: str) -> Iterator[None]:
    """Turns TensorFlow's errors in reading a checkpoint into a ValueError that names it."""
    try:
        yield
    except (tf.errors.OpError, IndexError) as error:  # IndexError: the file is too short
        raise ValueError(
            f"{checkpoint} is incomplete or damaged ({error}): copy or download its files again, "
            "or take another checkpoint."
        ) from error


def _read(checkpoint: str) -> dict[str, np.ndarray]:
    """All weights by name, so that damage is found before any is used."""
    with damage_reported(checkpoint):
        reader = tf.train.load_checkpoint(checkpoint)
        paths = weight_paths(reader.get_variable_to_shape_map())
        return {path: reader.get_tensor(key) for key, path in paths.items()}


def _named(variables: list[keras.Variable]) -> dict[str, tf.Variable]:
    """TensorFlow's variables by path, dotted because "/" would be escaped in a checkpoint."""
    return {variable.path.replace("/", "."): variable.value for variable in variables}


def listed(names: list[str], limit: int = 8) -> str:
    """The first few of some names, as a message has them."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "none"

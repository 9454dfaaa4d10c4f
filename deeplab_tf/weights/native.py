"""Our own checkpoints: a flat TensorFlow checkpoint of named variables.

Names are the layers' (the reference's scopes with "." for "/"), under "model"; what only training
needs lies beside them under "optimizer" and "random".
"""

import os

import keras
import numpy as np
import tensorflow as tf

# How TensorFlow stores the variable of a name: with "." doubled, which is its escape sign.
_PREFIX, _SUFFIX = "model/", "/.ATTRIBUTES/VARIABLE_VALUE"


def training_checkpoint(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> tf.train.Checkpoint:
    """Everything a run needs to go on exactly: weights, optimizer, step, dropout's seeds.

    `tf.train.Checkpoint(model=model)` would leave out the seeds, which Keras keeps outside the
    weights and numbers by process, so they are stored by position.
    """
    weights = {id(weight) for weight in model.weights}
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    return tf.train.Checkpoint(
        model=_named(model.weights),
        optimizer=_named(optimizer.variables),
        random={str(i): seed.value for i, seed in enumerate(seeds)},
    )


def latest_checkpoint(path: str | os.PathLike[str]) -> str:
    """The checkpoint prefix that a path means: the newest of a folder, or the path itself.

    Raises:
        FileNotFoundError: There is no checkpoint.
    """
    path = os.fspath(path)
    found = tf.train.latest_checkpoint(path) if os.path.isdir(path) else path
    if found is None or not os.path.isfile(f"{found}.index"):
        raise FileNotFoundError(
            f"There is no checkpoint at {path}: expected a folder that train.py wrote, or a prefix "
            "such as RUN/model.ckpt-3000."
        )
    return found


def load_weights(model: keras.Model, checkpoint: str) -> None:
    """Sets every weight of a model from a checkpoint of the same network.

    Args:
        model: The network.
        checkpoint: Prefix of a checkpoint that train.py wrote.

    Raises:
        ValueError: A weight of one is missing in the other, or has another shape, or the
            checkpoint is damaged. Nothing has been changed then.
    """
    stored = _read(checkpoint)
    weights = _named(model.weights)
    missing = sorted(set(weights) - set(stored))
    unused = sorted(set(stored) - set(weights))
    differing = [
        f"{name} ({list(stored[name].shape)} there, {weights[name].shape.as_list()} here)"
        for name in sorted(set(weights) & set(stored))
        if stored[name].shape != tuple(weights[name].shape)
    ]
    if missing or unused or differing:
        raise ValueError(
            f"{checkpoint} is not of this network ({model.name}, {model.output_shape[-1]} classes)."
            f"\n  missing in the checkpoint: {_listed(missing)}"
            f"\n  not used by the network: {_listed(unused)}"
            f"\n  of another shape: {_listed(differing)}"
        )
    for name, weight in weights.items():
        weight.assign(stored[name])


def _read(checkpoint: str) -> dict[str, np.ndarray]:
    """The values under "model" by name; all of them, so that damage is found before any is used."""
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        return {
            name.removeprefix(_PREFIX).removesuffix(_SUFFIX).replace("..", "."): reader.get_tensor(
                name
            )
            for name in reader.get_variable_to_shape_map()
            if name.startswith(_PREFIX)
        }
    except (tf.errors.OpError, IndexError) as error:  # IndexError: the file is too short
        raise ValueError(
            f"{checkpoint} is incomplete or damaged ({error}): copy its .index and .data files "
            "again, or take another checkpoint of the run."
        ) from error


def _named(variables: list[keras.Variable]) -> dict[str, tf.Variable]:
    """TensorFlow's variables by path, dotted because "/" would be escaped in a checkpoint."""
    return {variable.path.replace("/", "."): variable.value for variable in variables}


def _listed(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "none"

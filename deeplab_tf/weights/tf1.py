"""TF1 checkpoints of the reference: strict loading, starting points for training, writing."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.data.output import temporary_sibling, write_file
from deeplab_tf.weights.checkpoint import Checkpoint, LoadReport, is_of_a_run, reference_name
from deeplab_tf.weights.inflation import image_kernels, inflated, is_inflatable
from deeplab_tf.weights.native import Misfit, find_misfit, listed

# What slim's classifiers have in the encoder's scope and our encoders have not.
_CLASSIFIER = r"(logits|Logits|Conv_\d|mean_rgb|downsample_os\d+_\w+|classification_head_\w+)(/.+)?"


def load_tf1_checkpoint(
    model: keras.Model, path: str | os.PathLike[str], *, backbone_only: bool = False
) -> LoadReport:
    """Sets a network's weights from a checkpoint of the reference.

    Args:
        model: The network.
        path: Prefix of the checkpoint, in either format of TF1; train.py's are read too.
        backbone_only: Sets the encoder's weights only, from an ImageNet classifier or any other
            network with this encoder.

    Returns:
        What was loaded. `missing` and `unused` are empty, but for the head with `backbone_only`.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: A weight is missing in the checkpoint, or a variable of it in the network, or
            one has another shape or is not finite, or the checkpoint is damaged. Nothing has been
            changed then.
    """
    checkpoint, weights, encoder = Checkpoint.open(path), _by_name(model), _encoder_scope(model)
    wanted = weights
    if backbone_only:
        wanted = {name: weight for name, weight in weights.items() if name.startswith(encoder)}
        heads = {name: _head_kind(name, encoder) for name in checkpoint.shapes.keys() - wanted}
        checkpoint = checkpoint.without({name: kind for name, kind in heads.items() if kind})
    misfit = find_misfit(wanted, checkpoint.shapes)
    if any(misfit):
        raise misfit.error(model, checkpoint.path, _strict_hint(model, checkpoint, misfit))
    values = checkpoint.read(wanted)
    for name, value in values.items():
        weights[name].assign(value)
    return checkpoint.report(weights, loaded=values)


def initialize_from_checkpoint(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    initialize_last_layer: bool = True,
    last_layers_contain_logits_only: bool = False,
    class_names: Sequence[str] | None = None,
    checkpoint_class_names: Sequence[str] | None = None,
) -> LoadReport:
    """Sets the weights that a checkpoint has, to train from (the reference's `get_model_init_fn`).

    Differs: what is missing is reported; to find nothing of the encoder is an error; the channels
    of the logits follow their classes if both sides' names are known; kernels for RGB images are
    inflated where the network's images have other channels (`weights.inflation`).

    Args:
        model: The network.
        path: Prefix of a checkpoint of the reference, or of one that train.py wrote.
        initialize_last_layer: False leaves the head's weights as they are.
        last_layers_contain_logits_only: Only the last convolution counts as the head then.
        class_names: Classes of the network.
        checkpoint_class_names: Classes of the checkpoint. If they are not the network's, in order,
            the last convolution is set for the classes of the same names only.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: Nothing fits the encoder, or something has another shape or is not finite, or
            the checkpoint is damaged. Nothing has been changed then.
    """
    checkpoint, weights, encoder = Checkpoint.open(path), _by_name(model), _encoder_scope(model)
    logits = _logits_weights(model)
    here, there = list(class_names or ()), list(checkpoint_class_names or ())
    common: list[str] = []
    if not initialize_last_layer:
        head = {name for name in weights if not name.startswith(encoder)}
        left_out = logits if last_layers_contain_logits_only else head
        checkpoint = checkpoint.without(dict.fromkeys(left_out, "last layers"))
    elif here and there and here != there and logits & checkpoint.shapes.keys():
        common = [name for name in here if name in there]
        if not common:
            checkpoint = checkpoint.without(dict.fromkeys(logits, "logits of other classes"))

    found = {name: weight for name, weight in weights.items() if name in checkpoint.shapes}
    if not any(name.startswith(encoder) for name in found):
        raise ValueError(
            f"{checkpoint.path} has nothing of the encoder of {model.name}."
            + _both_scopes(weights, checkpoint)
        )
    values = checkpoint.read(found)
    if common:
        _check_class_names(model, checkpoint, here, there)
        for name in logits & values.keys():
            values[name] = _transferred(weights[name], values[name], here, there)
    rgb_kernels = {
        name
        for name in image_kernels(model) & values.keys()
        if is_inflatable(values[name].shape, tuple(weights[name].shape))
    }
    for name in rgb_kernels:
        values[name] = inflated(values[name], weights[name].shape[2])
    misfit = find_misfit(found, {name: value.shape for name, value in values.items()})
    if misfit.differing:
        raise ValueError(
            f"{checkpoint.path} does not fit {model.name}.\n  of another shape: "
            f"{listed(list(misfit.differing.values()))}{_remedy(model, checkpoint, misfit)}"
        )
    for name, value in values.items():
        weights[name].assign(value)
    return checkpoint.report(weights, loaded=values, transferred=common, inflated=rgb_kernels)


def save_tf1_checkpoint(
    model: keras.Model, prefix: str | os.PathLike[str], *, step: int | None = None
) -> str:
    """Writes a network's weights as a checkpoint that the reference's code restores.

    The files are `prefix`.index and `prefix`.data-00000-of-00001, float32 in the reference's names
    and layouts, and beside them `checkpoint`, which names the prefix as the newest.

    Args:
        model: The network.
        prefix: Where to; its folder is made if need be.
        step: Written as `global_step`, int64, if given.

    Returns:
        The prefix.

    Raises:
        FileExistsError: There is a checkpoint at the prefix, or a run of train.py in its folder,
            which could not go on from this one.
    """
    target = Path(prefix)
    if os.path.exists(f"{target}.index"):
        raise FileExistsError(f"There is a checkpoint at {target} already: give another prefix.")
    latest = tf.train.latest_checkpoint(target.parent)
    if latest and is_of_a_run(latest):
        raise FileExistsError(f"{target.parent} is the folder of a run: give a prefix elsewhere.")
    values = {name: keras.ops.convert_to_numpy(weight) for name, weight in _by_name(model).items()}
    if step is not None:
        values["global_step"] = np.asarray(step, np.int64)
    with temporary_sibling(target) as temporary:
        tf.raw_ops.SaveV2(
            prefix=str(temporary / target.name),
            tensor_names=list(values),
            shape_and_slices=[""] * len(values),
            tensors=list(values.values()),
        )
        for suffix in (".data-00000-of-00001", ".index"):  # in this order: readers want an index
            os.replace(temporary / f"{target.name}{suffix}", f"{target}{suffix}")
    state = tf.compat.v1.train.generate_checkpoint_state_proto("", target.name)
    write_file(target.with_name("checkpoint"), str(state).encode())
    return os.fspath(prefix)


def _by_name(model: keras.Model) -> dict[str, keras.Variable]:
    return {reference_name(weight): weight for weight in model.weights}


def _encoder_scope(model: keras.Model) -> str:
    """What the names of the encoder's variables start with: the first of the network is one."""
    return f"{reference_name(model.weights[0]).split('/')[0]}/"


def _logits_weights(model: keras.Model) -> set[str]:
    """Weights that have a channel for each class: those of the last layers before the output."""
    names, waiting = set(), [model.output]
    while waiting:
        layer, node, _ = waiting.pop()._keras_history
        names |= {reference_name(weight) for weight in layer.weights}
        if not layer.weights:
            waiting += layer._inbound_nodes[node].input_tensors
    return names


def _head_kind(name: str, encoder: str) -> str | None:
    if not name.startswith(encoder):
        return "head"
    if re.fullmatch(_CLASSIFIER, name.removeprefix(encoder)):
        return "classification head"
    return None


def _check_class_names(
    model: keras.Model, checkpoint: Checkpoint, here: list[str], there: list[str]
) -> None:
    counts = model.output_shape[-1], _class_count(model, checkpoint)
    if (len(here), len(there)) != counts:
        raise ValueError(
            f"{checkpoint.path} has {counts[1]} classes, and {model.name} {counts[0]}, but there "
            f"are names of {len(there)} and {len(here)}: give the names of all classes, or none."
        )


def _transferred(
    weight: keras.Variable, stored: np.ndarray, here: list[str], there: list[str]
) -> np.ndarray:
    """A weight's value with the stored channels of the classes that both sides have."""
    if stored.shape[:-1] != tuple(weight.shape[:-1]):
        return stored  # is refused for its shape
    value = keras.ops.convert_to_numpy(weight).copy()
    common = [name for name in here if name in there]
    channels = [there.index(name) for name in common]
    value[..., [here.index(name) for name in common]] = stored[..., channels]
    return value


def _strict_hint(model: keras.Model, checkpoint: Checkpoint, misfit: Misfit) -> str:
    """What to do if a checkpoint is not of the network, where the cause can be told."""
    encoder, weights = _encoder_scope(model), _by_name(model)
    if not any(name.startswith(encoder) for name in checkpoint.shapes):
        return _both_scopes(weights, checkpoint)
    if misfit.differing and misfit.differing.keys() <= _logits_weights(model):
        classes = _class_count(model, checkpoint)
        return (
            f"\nThe checkpoint has {classes} classes: build the network with num_classes={classes},"
            " or train it from there with --tf_initial_checkpoint and "
            "--initialize_last_layer=false."
        )
    if misfit.differing and misfit.differing.keys() <= image_kernels(model):
        channels = _image_channels(model, checkpoint)
        return (
            f"\nThe checkpoint is for images of {channels} channels: build the network with "
            f"input_channels={channels}"
            + (", or train it from there with --tf_initial_checkpoint." if channels == 3 else ".")
        )
    if misfit.missing and not any(name.startswith(encoder) for name in misfit.missing):
        return "\nThe encoder is there: backbone_only=True loads only that."
    return ""


def _remedy(model: keras.Model, checkpoint: Checkpoint, misfit: Misfit) -> str:
    """What to do if the shapes of a starting point are not the network's."""
    if misfit.differing.keys() <= image_kernels(model):
        return (
            f"\nThe checkpoint is for images of {_image_channels(model, checkpoint)} channels, the "
            f"network for {model.input_shape[-1]}: give one for RGB images, of which any others "
            "can be made, or for as many channels."
        )
    if any(name.startswith(_encoder_scope(model)) for name in misfit.differing):
        return "\nGive a checkpoint of the same encoder: --model_variant, --depth_multiplier."
    if misfit.differing.keys() <= _logits_weights(model):
        return (
            f"\nThe checkpoint has {_class_count(model, checkpoint)} classes, the network "
            f"{model.output_shape[-1]}: add --initialize_last_layer=false to train these layers "
            "anew, and --last_layers_contain_logits_only to keep the rest of the head. Where the "
            "names of both sides' classes are known, those of the same name are taken over."
        )
    return (
        "\nAdd --initialize_last_layer=false, without --last_layers_contain_logits_only, to train "
        "the head anew."
    )


def _image_channels(model: keras.Model, checkpoint: Checkpoint) -> int:
    return next(
        checkpoint.shapes[name][2]
        for name in sorted(image_kernels(model))
        if name in checkpoint.shapes
    )


def _class_count(model: keras.Model, checkpoint: Checkpoint) -> int:
    return next(
        checkpoint.shapes[name][-1]
        for name in sorted(_logits_weights(model))
        if name in checkpoint.shapes
    )


def _both_scopes(weights: Mapping[str, keras.Variable], checkpoint: Checkpoint) -> str:
    return (
        f"\n  scopes in the checkpoint: {_scopes(checkpoint.shapes)}"
        f"\n  scopes in the network: {_scopes(weights)}"
    )


def _scopes(names: Iterable[str]) -> str:
    return listed(sorted({name.split("/")[0] for name in names}))

"""Checkpoints of pretraining, `python -m deeplab_tf.pretrain`: an encoder with its classifier."""

import os
import re

import keras

from deeplab_tf.weights.checkpoint import Checkpoint, LoadReport, is_of_a_run, reference_name
from deeplab_tf.weights.inflation import image_kernels, inflated, is_inflatable
from deeplab_tf.weights.native import find_misfit, listed

# The classifier, as in slim's checkpoints; and copies of a ResNet's last block, for DeepLabv3's
# cascade, which classifiers have not.
_CLASSIFIER = r"[^/]+/logits/(weights|biases)"
_CASCADE = r"resnet_v1_\d+/block[5-9]/.+"

_HINT = (
    "\nGive a checkpoint of the same encoder: --model_variant, --depth_multiplier, --divisible_by "
    "and the nas_ flags must be those of pretraining; of nas_pnasnet the --output_stride too."
)


def is_classifier(prefix: str) -> bool:
    """Whether a checkpoint is of pretraining: one scope of names, the classifier's among them."""
    if not is_of_a_run(prefix):
        return False
    names = Checkpoint.open(prefix).shapes
    scopes = {name.split("/")[0] for name in names}
    return len(scopes) == 1 and any(re.fullmatch(_CLASSIFIER, name) for name in names)


def initialize_from_classifier(model: keras.Model, path: str | os.PathLike[str]) -> LoadReport:
    """Sets all weights of a network's encoder from a checkpoint of pretraining.

    Output stride and rates of the network are free. For images of other channels the first kernel
    is inflated (`weights.inflation`).

    Args:
        model: The network.
        path: Prefix of the checkpoint.

    Returns:
        What was loaded: the encoder. `missing` is the head, and the copies of a ResNet's last
        block if there are any; `unused` is empty, and the classifier is `skipped`.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: A weight of the encoder is missing in the checkpoint, or a variable of it in
            the network, or one has another shape or is not finite, or the checkpoint is damaged.
            Nothing has been changed then.
    """
    checkpoint = Checkpoint.open(path)
    heads = [name for name in checkpoint.shapes if re.fullmatch(_CLASSIFIER, name)]
    checkpoint = checkpoint.without(dict.fromkeys(heads, "classification head"))
    weights = {reference_name(weight): weight for weight in model.weights}
    encoder = next(iter(weights)).split("/")[0]
    wanted = {
        name: weight
        for name, weight in weights.items()
        if name.startswith(f"{encoder}/") and not re.fullmatch(_CASCADE, name)
    }
    rgb_kernels = {
        name
        for name in image_kernels(model) & wanted.keys() & checkpoint.shapes.keys()
        if is_inflatable(checkpoint.shapes[name], tuple(wanted[name].shape))
    }
    shapes = {
        name: tuple(wanted[name].shape) if name in rgb_kernels else shape
        for name, shape in checkpoint.shapes.items()
    }
    misfit = find_misfit(wanted, shapes)
    if any(misfit):
        scopes = listed(sorted({name.split("/")[0] for name in checkpoint.shapes}))
        raise ValueError(
            f"{checkpoint.path} is not of the encoder of {model.name}."
            f"\n  encoder of the checkpoint: {scopes}\n  encoder of the network: {encoder}"
            f"\n  missing in the checkpoint: {listed(misfit.missing)}"
            f"\n  not used by the network: {listed(misfit.unused)}"
            f"\n  of another shape: {listed(list(misfit.differing.values()))}{_HINT}"
        )
    values = checkpoint.read(wanted)
    for name, value in values.items():
        if name in rgb_kernels:
            value = inflated(value, weights[name].shape[2])
        weights[name].assign(value)
    return checkpoint.report(weights, loaded=values, inflated=rgb_kernels)

"""The reference's recorded networks (tests/golden), as configs, weights and images of ours."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.layers import resize_bilinear, scale_dimension
from deeplab_tf.weights import reference_name
from tests.golden.rules import make_image, make_weight

FOLDER = Path(__file__).parent / "golden"


def load_case(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays of a case."""
    facts = json.loads((FOLDER / f"{name}.json").read_text())
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return facts, dict(arrays)


def case_config(facts: dict[str, Any]) -> ModelConfig:
    """The config of a case."""
    return ModelConfig.from_reference_options(
        facts["model_options"], image_pyramid=facts["extra"].get("image_pyramid")
    )


def case_image(facts: dict[str, Any]) -> np.ndarray:
    """float32 [1, h, w, 3] in [0, 255]."""
    image = facts["input"]
    return make_image(image["seed"], image["height"], image["width"])[None].astype(np.float32)


def set_case_weights(model: keras.Model) -> None:
    """Gives every weight the value the rules draw for the reference's variable of its name."""
    for weight in model.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))


def first_difference(model: keras.Model, facts: dict[str, Any], *, tolerance: float = 1e-3) -> str:
    """Where a network parts from the recorded one, told by the end points in their order.

    Args:
        model: The network of the case, with its weights.
        facts: Of the case.
        tolerance: Error of an end point, over its standard deviation, that still counts as equal.
    """
    compared = 0
    for name, error in _end_point_errors(model, facts):
        if error > tolerance:
            return f"the graphs part at {name} (error {error:.1e}), after {compared} equal ones"
        compared += 1
    return f"all {compared} end points are equal"


def _end_point_errors(model: keras.Model, facts: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The recorded end points that are a tensor of ours, in order, and how far ours is off."""
    config, image = replace(case_config(facts), image_pyramid=(), crop_size=None), case_image(facts)
    # What is recorded of several scales is the first of them.
    scale = [*facts["extra"].get("image_pyramid", facts["extra"].get("eval_scales", [])), 1][0]
    image = resize_bilinear(image, *(scale_dimension(side, scale) for side in image.shape[1:3]))
    single = build_deeplab(config)
    single.set_weights(model.get_weights())

    tensors = {name: end_point(single, name) for name in facts["endpoints"]}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    values = keras.Model(single.input, tensors)(image, training=False)
    for name in tensors:
        recorded, value = facts["endpoints"][name], np.asarray(values[name], np.float64)
        row, column = value.shape[1] // 2, value.shape[2] // 2
        errors = [
            value.mean() - recorded["mean"],
            value.std() - recorded["std"],
            *(value[0, row, column, :4] - recorded["probe"]),
        ]
        yield name, np.abs(errors).max() / max(recorded["std"], 1e-6)


def end_point(model: keras.Model, name: str) -> Any:
    """Our tensor of one of the reference's end points: the last one of its scope."""
    kind, _, scope = name.rpartition(":")
    if kind == "op":
        scope, _, operation = scope.rpartition("/")
        suffix = {"Relu": ".relu", "Relu6": ".relu6", "Sigmoid": ".sigmoid", "BiasAdd": ""}
        ours = scope.replace("/", ".") + suffix.get(operation, f".{operation}")
        return next((layer.output for layer in model.layers if layer.name == ours), None)
    root = model.weights[0].path.split(".")[0]
    tensors = (_last_of(model, ours) for ours in _our_scopes(scope, root))
    return next((tensor for tensor in tensors if tensor is not None), None)


def _last_of(model: keras.Model, scope: str) -> Any:
    found = [layer for layer in model.layers if f"{layer.name}.".startswith(f"{scope}.")]
    return found[-1].output if found else None


def _our_scopes(scope: str, root: str) -> list[str]:
    """Where an end point may lie; MobileNet's layers and NAS's cells are no scopes there."""
    if match := re.fullmatch(r"layer_(\d+)(?:/output|/(\w+)_output)?", scope):
        unit = f"expanded_conv_{int(match[1]) - 2}".removesuffix("_0")
        unit = "Conv" if match[1] == "1" else unit
        part = {None: "", "expansion": ".expand", "depthwise": ".depthwise"}[match[2]]
        return [f"{root}.{unit}{part}", f"{root}.Conv_1"]
    if scope == "Stem":
        return [f"{root}.conv2_bn"]
    if scope.startswith("Cell_"):
        return [f"{root}.{scope.lower()}.cell_output"]
    return [scope.replace("/", "."), f"{root}.{scope.replace('/', '.')}"]

"""The reference's recorded networks (tests/golden), as configs, weights and images of ours."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplab_tf import ModelConfig
from tests.golden.rules import make_image, make_weight

FOLDER = Path(__file__).parent / "golden"


def load_case(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays of a case."""
    facts = json.loads((FOLDER / f"{name}.json").read_text())
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return facts, dict(arrays)


def case_config(facts: dict[str, Any]) -> ModelConfig:
    """The config of a case: the reference's options have our fields' names."""
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in facts["overridden"].items()
    }
    variant = facts["model_options"]["model_variant"]
    return ModelConfig(model_variant=variant, num_classes=facts["num_classes"], **options)


def case_image(facts: dict[str, Any]) -> np.ndarray:
    """float32 [1, h, w, 3] in [0, 255]."""
    image = facts["input"]
    return make_image(image["seed"], image["height"], image["width"])[None].astype(np.float32)


def reference_name(weight: keras.Variable) -> str:
    """The reference's variable name of one of our weights."""
    layer, kind = weight.path.split("/")
    layer = {"logits": "logits.semantic"}.get(layer, layer).replace(".", "/")
    if kind == "kernel":
        kind = "depthwise_weights" if layer.endswith("depthwise") else "weights"
    return f"{layer}/{kind.replace('bias', 'biases')}"


def set_case_weights(model: keras.Model) -> None:
    """Gives every weight the value the rules draw for the reference's variable of its name."""
    for weight in model.weights:
        weight.assign(make_weight(reference_name(weight), weight.shape))

"""Writing a trained network as a SavedModel."""

import os
import re
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from deeplab_tf.data.output import temporary_sibling
from deeplab_tf.export.network import DType, frozen_network, fused_network
from deeplab_tf.export.serving import MAX_PIXELS, signatures
from deeplab_tf.export.warmup import write_warmup_requests
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import network_config

# Where a SavedModel carries files that are no part of its graph.
EXTRA_FOLDER = "assets.extra"


def export_saved_model(
    model: keras.Model,
    card: ModelCard,
    *,
    export_path: str | os.PathLike[str],
    dtype: DType = "float32",
    max_pixels: int = MAX_PIXELS,
    warmup: bool = False,
) -> None:
    """Writes a SavedModel that predicts what evaluation predicts, for images of any size.

    Its signatures are described in docs/serving.md. "serving_default" maps "ImageTensor", uint8
    [b, h, w, 3] RGB (or what else the card's data set has: other channels, and uint16 for 16 bits,
    scaled by its range of values), to "SemanticPredictions", int32 [b, h, w], and
    "SemanticProbabilities", float32 [b, h, w, classes]; both after the CRF, if the card has one,
    which sees the images as they come. "labels" computes the first only, "encoded" maps files to
    files, "logits" images to what probabilities are made of, and "metadata" says what labels mean.

    Batch norms are folded, and weights are constants, so it loads where variables do not: in TF1
    sessions and through the C API too. It holds the model card, with class names and palette, as
    `assets.extra/config.json`, and the class names, one a line, as `assets/labels.txt`.

    Differs: the reference's `export_model.py` writes a frozen graph (`export_frozen_graph`) that
    takes one image.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        export_path: Folder to write; it appears complete or not at all.
        dtype: What weights are kept, and features computed, in: bfloat16 is for GPUs and TPUs.
        max_pixels: How many pixels the network may see at once, padding and scales included.
        warmup: Whether to add requests that TensorFlow Serving runs before it serves.

    Raises:
        FileExistsError: `export_path` exists.
        ImportError: `warmup` needs tensorflow-serving-api, which is not installed.
    """
    if os.path.lexists(export_path):
        raise FileExistsError(
            f"--export_path={export_path} exists: give another folder, or remove this one."
        )
    config = network_config(card.model, card.inference)
    network = frozen_network(fused_network(model, config, dtype=dtype))
    with temporary_sibling(export_path) as folder, tempfile.TemporaryDirectory() as assets:
        labels = Path(assets) / "labels.txt"
        labels.write_text("".join(f"{name}\n" for name in card.dataset.class_names), "utf-8")
        module = tf.Module()
        module.labels = tf.saved_model.Asset(str(labels))
        tf.saved_model.save(
            module, folder, signatures=signatures(network, card, max_pixels=max_pixels)
        )
        (folder / EXTRA_FOLDER).mkdir()
        card.save(folder / EXTRA_FOLDER)
        if warmup:
            write_warmup_requests(folder / EXTRA_FOLDER, card)
        folder.rename(export_path)


def versions(folder: str | os.PathLike[str]) -> list[str]:
    """The names in TensorFlow Serving's folder of a model, the version that it prefers last."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted((name for name in names if re.fullmatch(r"[0-9]+", name)), key=int)


def next_version(folder: str | os.PathLike[str]) -> int:
    """The version that TensorFlow Serving prefers to all those in its folder of a model; or 1."""
    return max(map(int, versions(folder)), default=0) + 1

"""Writing a trained network as a SavedModel or a frozen graph, served without this package."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_tf.crf.graph import dense_crf_graph
from deeplab_tf.data.channels import shown_channels
from deeplab_tf.data.output import temporary_sibling, write_file
from deeplab_tf.data.records import scale_values
from deeplab_tf.evaluation import image_predictor
from deeplab_tf.model_card import ModelCard

# Where a SavedModel carries files that are no part of its graph.
EXTRA_FOLDER = "assets.extra"


def export_saved_model(
    model: keras.Model, card: ModelCard, *, export_path: str | os.PathLike[str]
) -> None:
    """Writes a SavedModel that predicts what evaluation predicts, for images of any size.

    Its only signature, "serving_default", maps "ImageTensor", uint8 [b, h, w, 3] RGB (or what else
    the card's data set has: other channels, and uint16 for 16 bits, scaled by its range of values),
    to "SemanticPredictions", int32 [b, h, w], and "SemanticProbabilities", float32
    [b, h, w, classes]; both after the CRF, if the card has one, which sees the images as they
    come. The model card, with class names and palette, is written into it as
    `assets.extra/config.json`.

    Differs: the reference's `export_model.py` writes a frozen graph (`export_frozen_graph`) that
    takes one image.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        export_path: Folder to write; it appears complete or not at all.

    Raises:
        FileExistsError: `export_path` exists.
    """
    if os.path.lexists(export_path):
        raise FileExistsError(
            f"--export_path={export_path} exists: give another folder, or remove this one."
        )
    # tf.saved_model.save(model) would load in TF2 only: TF1 sessions and the C API, which
    # TensorFlow Serving uses, do not find the variables of a Keras model written so.
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", _serving_function(model, card), [_images(card)])
    with temporary_sibling(export_path) as folder:
        archive.write_out(folder, verbose=False)
        (folder / EXTRA_FOLDER).mkdir()
        card.save(folder / EXTRA_FOLDER)
        folder.rename(export_path)


def export_frozen_graph(
    model: keras.Model,
    card: ModelCard,
    *,
    export_path: str | os.PathLike[str],
    inference_graph: bool = False,
) -> None:
    """Writes the same function as the reference's `export_model.py` does: one frozen GraphDef.

    Its tensors are "ImageTensor:0", "SemanticPredictions:0" and "SemanticProbabilities:0", with the
    types and shapes of `export_saved_model`.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        export_path: File to write.
        inference_graph: Whether to write the graph as text too, with variables not yet replaced by
            constants, as inference_graph.pbtxt beside it.

    Raises:
        FileExistsError: `export_path` exists.
    """
    if os.path.lexists(export_path):
        raise FileExistsError(
            f"--export_path={export_path} exists: give another file, or remove this one."
        )
    serve = _serving_function(model, card)

    @tf.function(input_signature=[_images(card)])
    def named(images: tf.Tensor) -> list[tf.Tensor]:
        return [tf.identity(tensor, name) for name, tensor in serve(images).items()]

    function = named.get_concrete_function()
    frozen = convert_variables_to_constants_v2(function)
    if inference_graph:
        text = text_format.MessageToString(function.graph.as_graph_def())
        write_file(Path(export_path).parent / "inference_graph.pbtxt", text.encode())
    write_file(export_path, frozen.graph.as_graph_def().SerializeToString())


def _images(card: ModelCard) -> tf.TensorSpec:
    """The input; its name is the signature's key."""
    dtype = tf.uint16 if card.dataset.bit_depth == 16 else tf.uint8
    return tf.TensorSpec([None, None, None, card.model.input_channels], dtype, name="ImageTensor")


def _serving_function(
    model: keras.Model, card: ModelCard
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    predictor = image_predictor(model, card.model, card.inference)
    crf, info = card.inference.crf, card.dataset
    shown = shown_channels(card.model.input_channels)

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        if not info.stores_input:
            images = scale_values(images, info.value_range)
        labels, probabilities = predictor(images)
        if crf is not None:
            rgb = tf.gather(images, shown, axis=-1)
            probabilities = dense_crf_graph(rgb, probabilities, **dataclasses.asdict(crf))
            labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return {"SemanticPredictions": labels, "SemanticProbabilities": probabilities}

    return serve

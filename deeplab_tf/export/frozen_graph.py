"""One file with the whole function, as the reference's `export_model.py` writes it."""

import os
from pathlib import Path

import keras
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_tf.data.output import write_file
from deeplab_tf.export.network import fused_network
from deeplab_tf.export.serving import images_spec, serving_function
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import network_config


def export_frozen_graph(
    model: keras.Model,
    card: ModelCard,
    *,
    export_path: str | os.PathLike[str],
    inference_graph: bool = False,
) -> None:
    """Writes the same function as the reference's `export_model.py` does: one frozen GraphDef.

    Its tensors are "ImageTensor:0", "SemanticPredictions:0" and "SemanticProbabilities:0", with the
    types and shapes of `export_saved_model`. Batch norms are folded.

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
    network = fused_network(model, network_config(card.model, card.inference))
    serve = serving_function(network, card)

    @tf.function(input_signature=[images_spec(card)])
    def named(images: tf.Tensor) -> list[tf.Tensor]:
        return [tf.identity(tensor, name) for name, tensor in serve(images).items()]

    function = named.get_concrete_function()
    frozen = convert_variables_to_constants_v2(function)
    if inference_graph:
        text = text_format.MessageToString(function.graph.as_graph_def())
        write_file(Path(export_path).parent / "inference_graph.pbtxt", text.encode())
    write_file(export_path, frozen.graph.as_graph_def().SerializeToString())

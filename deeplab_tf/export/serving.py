"""The function that is exported: what evaluation computes, from the bytes that clients send."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from deeplab_tf.crf.graph import dense_crf_graph
from deeplab_tf.data.channels import shown_channels
from deeplab_tf.data.records import scale_values
from deeplab_tf.evaluation import image_predictor
from deeplab_tf.model_card import ModelCard


def images_spec(card: ModelCard) -> tf.TensorSpec:
    """The input; its name is the signature's key."""
    dtype = tf.uint16 if card.dataset.bit_depth == 16 else tf.uint8
    return tf.TensorSpec([None, None, None, card.model.input_channels], dtype, name="ImageTensor")


def serving_function(
    model: keras.Model, card: ModelCard
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A function from images, as `images_spec` has them, to the outputs by their keys."""
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

"""What evaluation makes of an image that comes as clients send it."""

from collections.abc import Callable

import keras
import numpy as np

from deeplab_tf.data.channels import display_rgb
from deeplab_tf.data.records import scale_values
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import label_predictor, probability_predictor


def stored_image_predictor(
    model: keras.Model, card: ModelCard
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function from an image, [h, w, c] as stored, to labels and probabilities.

    They are int32 [h, w], by the very function that `eval.py` scores, and float32
    [h, w, classes]; both after the CRF, if the card has one.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
    """
    labels_of = label_predictor(model, card.model, card.inference)
    probabilities_of = probability_predictor(model, card.model, card.inference)

    def predict(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not card.dataset.stores_input:
            image = scale_values(image, card.dataset.value_range).numpy()
        probabilities = probabilities_of(image)
        if card.inference.crf is not None:
            from deeplab_tf import crf

            probabilities = crf.dense_crf(display_rgb(image), probabilities, card.inference.crf)
        return labels_of(image), probabilities

    return predict

"""A network with its settings, as a function from a few images to what it says of them."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.config import CRFParams
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.inference import Prediction
from deeplab_tf.mixed_sizes import predict_each
from deeplab_tf.model_card import ModelCard
from deeplab_tf.prediction.outputs import Predicted
from deeplab_tf.predictors import image_predictor, prediction_options, tiled_predictor
from deeplab_tf.tiling import Seams

Predictor = Callable[[Sequence[np.ndarray]], list[Predicted]]
_Predict = Callable[[Sequence[np.ndarray]], list[Prediction]]


def batch_predictor(
    model: keras.Model, card: ModelCard, *, with_probabilities: bool = False
) -> tuple[Predictor, Seams | None]:
    """A function from images of any sizes to predictions; and the seams, where it sees tiles.

    With a CRF, labels and probabilities are those after it, as in an exported model.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        with_probabilities: Whether they are needed.

    The function raises ValueError if memory is not enough.
    """
    crf = card.inference.crf
    needed = with_probabilities or crf is not None
    predict, seams = (
        _whole_images(model, card, with_probabilities=needed)
        if card.inference.tile_size is None
        else _tiled_images(model, card, with_probabilities=needed)
    )
    if crf is not None:
        predict = _refined(predict, crf)

    def predictor(images: Sequence[np.ndarray]) -> list[Predicted]:
        try:
            predictions = predict(images)
        except tf.errors.ResourceExhaustedError as error:
            height, width = max((image.shape[:2] for image in images), key=math.prod)
            raise ValueError(
                f"An image of {width}x{height} pixels (width x height) is more than memory holds: "
                "let the network see it in tiles (--tile_size=1025,1025), or fewer images at once "
                "(--batch_size)."
            ) from error
        return [
            Predicted(image, labels, probabilities if with_probabilities else None)
            for image, (labels, probabilities) in zip(images, predictions, strict=True)
        ]

    return predictor, seams


def _whole_images(
    model: keras.Model, card: ModelCard, *, with_probabilities: bool
) -> tuple[_Predict, None]:
    predictor = image_predictor(model, card.model, card.inference)
    options = prediction_options(card.model, card.inference)
    spec = tf.TensorSpec([None, None, None, card.model.input_channels], tf.float32)

    @tf.function(input_signature=[spec])
    def compiled(images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        labels, probabilities = predictor(images)
        return (labels, probabilities) if with_probabilities else (labels,)

    def predict_batch(images: np.ndarray) -> Prediction:
        labels, *probabilities = compiled(images)
        return Prediction(labels, *probabilities or [None])

    def predict(images: Sequence[np.ndarray]) -> list[Prediction]:
        return predict_each(
            predict_batch,
            images,
            output_stride=card.model.output_stride,
            mean_pixel=options["mean_pixel"],
            crop_size=options["crop_size"],
            resizes=options["resized_size"] is not None,
        )

    return predict, None


def _tiled_images(
    model: keras.Model, card: ModelCard, *, with_probabilities: bool
) -> tuple[_Predict, Seams]:
    seams = Seams()
    tiled = tiled_predictor(model, card.model, card.inference, seams=seams)

    def predict(images: Sequence[np.ndarray]) -> list[Prediction]:
        return [
            Prediction(*tiled(image, with_probabilities=with_probabilities)) for image in images
        ]

    return predict, seams


def _refined(predict: _Predict, params: CRFParams) -> _Predict:
    from deeplab_tf import crf

    crf.compile_kernels()

    def refine(images: Sequence[np.ndarray]) -> list[Prediction]:
        refined = []
        for image, (_, probabilities) in zip(images, predict(images), strict=True):
            after = crf.dense_crf(display_rgb(image), probabilities, params)
            refined.append(Prediction(after.argmax(axis=-1).astype(np.int32), after))
        return refined

    return refine

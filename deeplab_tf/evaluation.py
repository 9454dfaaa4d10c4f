"""Scoring a model on a split of records."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import InferenceConfig, ModelConfig
from deeplab_tf.inference import predict
from deeplab_tf.metrics import SegmentationScores, confusion_matrix, scores_from_confusion


def label_predictor(
    model: keras.Model, config: ModelConfig, inference: InferenceConfig
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image, uint8 [h, w, 3] of any size, to its labels, int32 [h, w].

    It is compiled once for all sizes.
    """
    mean_pixel = get_backbone(config.model_variant).mean_pixel

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def compiled(image: tf.Tensor) -> tf.Tensor:
        prediction = predict(
            model,
            image[None],
            output_stride=config.output_stride,
            mean_pixel=mean_pixel,
            crop_size=inference.crop_size,
        )
        return prediction.labels[0]

    return lambda image: compiled(image).numpy()


def evaluate(
    predict_labels: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Mapping[str, Any]],
    *,
    num_classes: int,
    ignore_label: int,
    total: int | None = None,
) -> SegmentationScores:
    """Scores predictions over a whole split, in one confusion matrix.

    Args:
        predict_labels: Image, uint8 [h, w, 3], to labels, integer [h, w].
        examples: Dictionaries with "image" and "label", uint8 [h, w], as numpy arrays.
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        total: Number of examples, for the progress bar.
    """
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for example in tqdm(examples, total=total, desc="evaluate", unit="image", leave=False):
        matrix += confusion_matrix(
            example["label"],
            predict_labels(example["image"]),
            num_classes=num_classes,
            ignore_label=ignore_label,
        )
    return scores_from_confusion(matrix)

"""Scoring a model on a split of records."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.backbones import get_backbone
from deeplab_tf.boundary import Border, trimaps
from deeplab_tf.config import InferenceConfig, ModelConfig
from deeplab_tf.data.augment import resize_to_range_size
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.inference import Prediction, predict
from deeplab_tf.metrics import SegmentationScores, confusion_matrix, scores_from_confusion


def image_predictor(
    model: keras.Model, config: ModelConfig, inference: InferenceConfig, *, resize: bool = True
) -> functools.partial[Prediction]:
    """A function from images, [b, h, w, c] of any size and number type, to their prediction.

    It is `predict` with its arguments for this network.

    Args:
        model: The network of `config`, with its weights. Where images are seen at several scales
            or flipped, it must have no image pyramid (`network_config`).
        config: What the network is.
        inference: How images meet it.
        resize: False for images that come resized to range already, as those of records do.
    """
    resized_size = None
    if resize and inference.min_resize_value is not None:
        resized_size = functools.partial(
            resize_to_range_size,
            min_size=inference.min_resize_value,
            max_size=inference.max_resize_value,
            factor=inference.resize_factor,
        )
    # Image pooling needs images that its window fits into, the smallest scale included.
    smallest = min(1.0, *inference.eval_scales, *config.image_pyramid)
    window = [math.ceil(side / smallest) for side in config.image_pooling_crop_size or ()]
    least_sizes = [size for size in (inference.crop_size, window) if size]
    return functools.partial(
        predict,
        model,
        output_stride=config.output_stride,
        mean_pixel=get_backbone(config.model_variant).padding_color(config.input_channels),
        crop_size=tuple(map(max, zip(*least_sizes, strict=True))) if least_sizes else None,
        resized_size=resized_size,
        scales=inference.eval_scales,
        flip=inference.add_flipped_images,
        upsampled_logits=config.prediction_with_upsampled_logits,
    )


def network_config(config: ModelConfig, inference: InferenceConfig) -> ModelConfig:
    """The network to predict with: without its image pyramid where it sees several scales anyway.

    As in the reference, whose multi-scale inference does not read `image_pyramid`. The weights are
    the same.
    """
    if inference.eval_scales == (1.0,) and not inference.add_flipped_images:
        return config
    return dataclasses.replace(config, image_pyramid=())


def label_predictor(
    model: keras.Model, config: ModelConfig, inference: InferenceConfig, *, resize: bool = True
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image, [h, w, c] of any size, to its labels, int32 [h, w].

    It is compiled once for all sizes; arguments as in `image_predictor`. With a CRF, labels are the
    most probable classes after it.
    """
    if inference.crf is not None:
        return _refined_label_predictor(model, config, inference, resize=resize)
    predictor = image_predictor(model, config, inference, resize=resize)
    return _compiled(lambda images: predictor(images).labels, config.input_channels)


def probability_predictor(
    model: keras.Model, config: ModelConfig, inference: InferenceConfig, *, resize: bool = True
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image, [h, w, c] of any size, to probabilities, float32 [h, w, classes].

    They are the network's, before the CRF. Compiled once for all sizes; arguments as in
    `image_predictor`.
    """
    predictor = image_predictor(model, config, inference, resize=resize)
    return _compiled(lambda images: predictor(images).probabilities, config.input_channels)


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
        predict_labels: Image, [h, w, c], to labels, integer [h, w].
        examples: Dictionaries with "image" and "label", uint8 [h, w], as numpy arrays.
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        total: Number of examples, for the progress bar.
    """
    return scores_from_confusion(
        split_confusion(
            predict_labels,
            examples,
            num_classes=num_classes,
            ignore_label=ignore_label,
            total=total,
        )
    )


def split_confusion(
    predict_labels: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Mapping[str, Any]],
    *,
    num_classes: int,
    ignore_label: int,
    total: int | None = None,
) -> np.ndarray:
    """The confusion matrix of a whole split, int64 [classes, classes]; arguments of `evaluate`."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for example in _with_progress(examples, total):
        matrix += confusion_matrix(
            example["label"],
            predict_labels(example["image"]),
            num_classes=num_classes,
            ignore_label=ignore_label,
        )
    return matrix


def evaluate_trimaps(
    predict_labels: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Mapping[str, Any]],
    *,
    widths: Sequence[int],
    around: Border = "void",
    num_classes: int,
    ignore_label: int,
    total: int | None = None,
) -> tuple[SegmentationScores, dict[int, SegmentationScores]]:
    """As `evaluate`, and in the same pass in bands around borders, by their width.

    Args:
        predict_labels: As in `evaluate`.
        examples: As in `evaluate`.
        widths: Widths of the bands in pixels of the examples.
        around: What the bands lie around, see `boundary.trimaps`.
        num_classes: Number of classes.
        ignore_label: Label of the pixels that do not count.
        total: Number of examples, for the progress bar.
    """
    matrices = np.zeros((1 + len(widths), num_classes, num_classes), np.int64)
    for example in _with_progress(examples, total):
        label, prediction = example["label"], predict_labels(example["image"])
        bands = trimaps(label, widths=widths, ignore_label=ignore_label, around=around)
        counted = [label, *(np.where(band, label, np.uint8(ignore_label)) for band in bands)]
        for matrix, labels in zip(matrices, counted, strict=True):
            matrix += confusion_matrix(
                labels, prediction, num_classes=num_classes, ignore_label=ignore_label
            )
    whole, *in_bands = map(scores_from_confusion, matrices)
    return whole, dict(zip(widths, in_bands, strict=True))


def _with_progress(
    examples: Iterable[Mapping[str, Any]], total: int | None
) -> Iterable[Mapping[str, Any]]:
    return tqdm(examples, total=total, desc="evaluate", unit="image", leave=False)


def _compiled(
    predict: Callable[[tf.Tensor], tf.Tensor], channels: int
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of batches as one of a single image, compiled once for all sizes."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, channels], tf.float32)])
    def compiled(image: tf.Tensor) -> tf.Tensor:
        return predict(image[None])[0]

    return lambda image: compiled(tf.cast(image, tf.float32)).numpy()


def _refined_label_predictor(
    model: keras.Model, config: ModelConfig, inference: InferenceConfig, *, resize: bool
) -> Callable[[np.ndarray], np.ndarray]:
    from deeplab_tf import crf

    params = inference.crf
    assert params is not None
    crf.compile_kernels()
    predict_probabilities = probability_predictor(model, config, inference, resize=resize)

    def predict_labels(image: np.ndarray) -> np.ndarray:
        refined = crf.dense_crf(display_rgb(image), predict_probabilities(image), params)
        return refined.argmax(axis=-1).astype(np.int32)

    return predict_labels

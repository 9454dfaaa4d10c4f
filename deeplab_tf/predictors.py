"""A network with its settings of inference as a function of one image."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import InferenceConfig, ModelConfig
from deeplab_tf.data.augment import resize_to_range_size
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.inference import Prediction, predict
from deeplab_tf.tiling import Seams, TiledNetwork, TiledPrediction, predict_tiled


def image_predictor(
    model: keras.Model, config: ModelConfig, inference: InferenceConfig, *, resize: bool = True
) -> functools.partial[Prediction]:
    """A function from images, [b, h, w, c] of any size and number type, to their prediction.

    It is `predict` with its arguments for this network.

    Args:
        model: The network of `config`, with its weights. Where images are seen at several scales
            or flipped, it must have no image pyramid (`network_config`).
        config: What the network is.
        inference: How images meet it; each as a whole, whatever its `tile_size`.
        resize: False for images that come resized to range already, as those of records do.
    """
    return functools.partial(
        predict,
        model,
        output_stride=config.output_stride,
        **prediction_options(config, inference, resize=resize),
    )


def tiled_predictor(
    model: keras.Model,
    config: ModelConfig,
    inference: InferenceConfig,
    *,
    resize: bool = True,
    seams: Seams | None = None,
) -> Callable[..., TiledPrediction]:
    """A function from an image, [h, w, c], to its prediction tile by tile.

    It also takes `with_probabilities`, see `tiling.predict_tiled`. Arguments are those of
    `image_predictor`, with a `tile_size`; `seams`, if they are given, grow with every call.
    """
    assert inference.tile_size is not None
    network = TiledNetwork(
        model,
        tile_size=inference.tile_size,
        overlap=inference.tile_overlap,
        image_level=inference.tile_image_level,
        seams=seams,
        compile_call=lambda call: tf.function(call, reduce_retracing=True),
    )
    options = prediction_options(config, inference, resize=resize)
    return functools.partial(predict_tiled, network, **options)


def prediction_options(
    config: ModelConfig, inference: InferenceConfig, *, resize: bool = True
) -> dict[str, Any]:
    """Arguments that `inference.predict` and `tiling.predict_tiled` share, by those given here."""
    # Image pooling needs images that its window fits into, the smallest scale included.
    smallest = min(1.0, *inference.eval_scales, *config.image_pyramid)
    window = [math.ceil(side / smallest) for side in config.image_pooling_crop_size or ()]
    least_sizes = [size for size in (inference.crop_size, window) if size]
    return {
        "mean_pixel": get_backbone(config.model_variant).padding_color(config.input_channels),
        "crop_size": tuple(map(max, zip(*least_sizes, strict=True))) if least_sizes else None,
        "resized_size": resized_size(inference) if resize else None,
        "scales": inference.eval_scales,
        "flip": inference.add_flipped_images,
        "upsampled_logits": config.prediction_with_upsampled_logits,
    }


def resized_size(inference: InferenceConfig) -> functools.partial | None:
    """From an image's height and width to those it is resized to; None if it stays as it is."""
    if inference.min_resize_value is None:
        return None
    return functools.partial(
        resize_to_range_size,
        min_size=inference.min_resize_value,
        max_size=inference.max_resize_value,
        factor=inference.resize_factor,
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
    model: keras.Model,
    config: ModelConfig,
    inference: InferenceConfig,
    *,
    resize: bool = True,
    seams: Seams | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image, [h, w, c] of any size, to its labels, int32 [h, w].

    It is compiled once for all sizes; arguments as in `image_predictor`. With a CRF, labels are the
    most probable classes after it. With a `tile_size`, larger images are seen tile by tile, and
    `seams`, if they are given, grow with every call.
    """
    if inference.crf is not None:
        refine = _refined_predictor(model, config, inference, resize=resize, seams=seams)
        return lambda image: refine(image).argmax(axis=-1).astype(np.int32)
    if inference.tile_size is not None:
        tiled = tiled_predictor(model, config, inference, resize=resize, seams=seams)
        return lambda image: tiled(image, with_probabilities=False).labels
    predictor = image_predictor(model, config, inference, resize=resize)
    return _compiled(lambda images: predictor(images).labels, config.input_channels)


def probability_predictor(
    model: keras.Model,
    config: ModelConfig,
    inference: InferenceConfig,
    *,
    resize: bool = True,
    seams: Seams | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image, [h, w, c] of any size, to probabilities, float32 [h, w, classes].

    They are the network's, before the CRF. Compiled once for all sizes; arguments as in
    `label_predictor`.
    """
    if inference.tile_size is not None:
        tiled = tiled_predictor(model, config, inference, resize=resize, seams=seams)
        return lambda image: np.asarray(tiled(image).probabilities)
    predictor = image_predictor(model, config, inference, resize=resize)
    return _compiled(lambda images: predictor(images).probabilities, config.input_channels)


def full_predictor(
    model: keras.Model,
    config: ModelConfig,
    inference: InferenceConfig,
    *,
    resize: bool = True,
    seams: Seams | None = None,
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function from an image, [h, w, c] of any size, to its labels and probabilities.

    The labels are those of `label_predictor`, int32 [h, w], the probabilities, float32
    [h, w, classes], what they were chosen by: with a CRF, those after it. Compiled once for all
    sizes; arguments as in `label_predictor`.
    """
    if inference.crf is not None:
        refine = _refined_predictor(model, config, inference, resize=resize, seams=seams)

        def predict_refined(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            probabilities = refine(image)
            return probabilities.argmax(axis=-1).astype(np.int32), probabilities

        return predict_refined
    if inference.tile_size is not None:
        tiled = tiled_predictor(model, config, inference, resize=resize, seams=seams)

        def predict_tiles(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            labels, probabilities = tiled(image)
            return np.asarray(labels), np.asarray(probabilities)

        return predict_tiles
    predictor = image_predictor(model, config, inference, resize=resize)

    @tf.function(input_signature=[tf.TensorSpec([None, None, config.input_channels], tf.float32)])
    def compiled(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        predicted = predictor(image[None])
        return predicted.labels[0], predicted.probabilities[0]

    def predict_both(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels, probabilities = compiled(tf.cast(image, tf.float32))
        return labels.numpy(), probabilities.numpy()

    return predict_both


def _compiled(
    predict: Callable[[tf.Tensor], tf.Tensor], channels: int
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of batches as one of a single image, compiled once for all sizes."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, channels], tf.float32)])
    def compiled(image: tf.Tensor) -> tf.Tensor:
        return predict(image[None])[0]

    return lambda image: compiled(tf.cast(image, tf.float32)).numpy()


def _refined_predictor(
    model: keras.Model,
    config: ModelConfig,
    inference: InferenceConfig,
    *,
    resize: bool,
    seams: Seams | None,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image to the probabilities after the CRF, float32 [h, w, classes]."""
    from deeplab_tf import crf

    params = inference.crf
    assert params is not None
    crf.compile_kernels()
    predict_probabilities = probability_predictor(
        model, config, inference, resize=resize, seams=seams
    )
    return lambda image: crf.dense_crf(display_rgb(image), predict_probabilities(image), params)

"""The functions that are exported: what evaluation computes, from what clients send."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.crf.graph import dense_crf_graph
from deeplab_tf.data.channels import shown_channels
from deeplab_tf.data.records import scale_values
from deeplab_tf.export.encoded import decode
from deeplab_tf.inference import padded_size, predict_logits
from deeplab_tf.layers import scale_dimension
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import image_predictor

# 4096 x 4096, or 63 images of 513 x 513.
MAX_PIXELS = 2**24

Outputs = dict[str, tf.Tensor]
_VIEW = ("output_stride", "crop_size", "resized_size")


def images_spec(card: ModelCard) -> tf.TensorSpec:
    """The input; its name is the signature's key."""
    dtype = tf.uint16 if card.dataset.bit_depth == 16 else tf.uint8
    return tf.TensorSpec([None, None, None, card.model.input_channels], dtype, name="ImageTensor")


def serving_function(
    model: keras.Model, card: ModelCard, *, max_pixels: int = MAX_PIXELS
) -> Callable[[tf.Tensor], Outputs]:
    """A function from images, as `images_spec` has them, to labels and probabilities by their keys.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        max_pixels: How many pixels the network may see at once, with the padding and at the largest
            scale: more are an error, InvalidArgumentError where it runs.
    """
    predictor = image_predictor(model, card.model, card.inference)
    crf = card.inference.crf
    shown = shown_channels(card.model.input_channels)

    def serve(images: tf.Tensor) -> Outputs:
        images = _checked(images, predictor.keywords, max_pixels=max_pixels)
        images = _scaled(images, card)
        labels, probabilities = predictor(images)
        if crf is not None:
            rgb = tf.gather(images, shown, axis=-1)
            probabilities = dense_crf_graph(rgb, probabilities, **dataclasses.asdict(crf))
            labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return {"SemanticPredictions": labels, "SemanticProbabilities": probabilities}

    return serve


def signatures(
    model: keras.Model, card: ModelCard, *, max_pixels: int
) -> dict[str, tf.types.experimental.GenericFunction]:
    """The functions of a SavedModel by their names; arguments as in `serving_function`."""
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    request = tf.TensorSpec([None], tf.string, name="request")
    serve = serving_function(model, card, max_pixels=max_pixels)
    return {
        "serving_default": tf.function(serve, input_signature=[images_spec(card)]),
        "labels": tf.function(
            # TensorFlow computes all outputs of a signature, whichever are asked for.
            lambda images: {"SemanticPredictions": serve(images)["SemanticPredictions"]},
            input_signature=[images_spec(card)],
        ),
        "encoded": tf.function(
            _files_function(model, card, max_pixels=max_pixels), input_signature=[files]
        ),
        "logits": tf.function(
            _logits_function(model, card, max_pixels=max_pixels),
            input_signature=[images_spec(card)],
        ),
        "metadata": tf.function(
            _metadata_function(card, max_pixels=max_pixels), input_signature=[request]
        ),
    }


def _files_function(
    model: keras.Model, card: ModelCard, *, max_pixels: int
) -> Callable[[tf.Tensor], Outputs]:
    """From JPEG and PNG files to masks as PNG files; one that is refused spares the others."""
    serve = serving_function(model, card, max_pixels=max_pixels)
    options = image_predictor(model, card.model, card.inference).keywords

    def fault_of_size(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        pixels, (seen_height, seen_width) = _seen(height, width, options)
        too_large = tf.strings.format(
            f"{{}}x{{}} (width x height), which the network sees at {{}}x{{}}{_at_scale(options)}: "
            f"{{}} pixels; at most {max_pixels} are accepted",
            (width, height, seen_width, seen_height, pixels),
        )
        return tf.where(pixels > max_pixels, too_large, "")

    def mask_of(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, fault = decode(
            file,
            channels=card.model.input_channels,
            bit_depth=card.dataset.bit_depth,
            fault_of_size=fault_of_size,
        )

        def mask() -> tf.Tensor:
            labels = serve(pixels[None])["SemanticPredictions"][0]
            return tf.io.encode_png(tf.cast(labels, tf.uint8)[..., None])

        return tf.cond(fault == "", mask, lambda: ""), fault

    def serve_files(files: tf.Tensor) -> Outputs:
        # One after the other: their sizes differ, and so memory is that of one image.
        masks, faults = tf.map_fn(
            mask_of, files, fn_output_signature=(tf.string, tf.string), parallel_iterations=1
        )
        return {"mask_bytes": masks, "error": faults}

    return serve_files


def _logits_function(
    model: keras.Model, card: ModelCard, *, max_pixels: int
) -> Callable[[tf.Tensor], Outputs]:
    """The network's own output at the images' size, whatever the scales, the flip and the CRF."""
    options = image_predictor(model, card.model, card.inference).keywords
    options = {**options, "scales": (1.0,)}
    view = {name: options[name] for name in (*_VIEW, "mean_pixel")}

    def serve_logits(images: tf.Tensor) -> Outputs:
        images = _checked(images, options, max_pixels=max_pixels)
        return {"logits": predict_logits(model, _scaled(images, card), **view)}

    return serve_logits


def _metadata_function(card: ModelCard, *, max_pixels: int) -> Callable[[tf.Tensor], Outputs]:
    """What the labels mean, once for each element of a request that says nothing.

    TensorFlow Serving answers no REST request to a signature without inputs, and wants one row for
    each instance.
    """
    facts = {
        "class_names": tf.constant(card.dataset.class_names),
        "palette": tf.constant(card.dataset.palette, tf.int32),
        "model_card": tf.constant(card.to_json()),
        "max_pixels": tf.constant(max_pixels, tf.int64),
    }

    def tell(request: tf.Tensor) -> Outputs:
        rows = tf.size(request)
        return {
            name: tf.tile(value[None], [rows, *[1] * value.shape.rank])
            for name, value in facts.items()
        }

    return tell


def _scaled(images: tf.Tensor, card: ModelCard) -> tf.Tensor:
    info = card.dataset
    return images if info.stores_input else scale_values(images, info.value_range)


def _seen(
    height: tf.Tensor, width: tf.Tensor, options: Mapping[str, Any]
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """How many pixels an image of this size has, or the network sees of it if more; int64.

    Also the height and width that it sees: with the padding, at the largest scale if that is more.
    """
    longest = 2**24  # a float32, in which sides are scaled, is exact up to there; more is too large
    sides = [tf.minimum(side, longest) for side in (height, width)]
    padded = padded_size(*sides, **{name: options[name] for name in _VIEW})
    scale = _largest_scale(options)
    seen = tuple(tf.cast(scale_dimension(side, scale), tf.int64) for side in padded)
    own = tf.minimum(height, 2**31) * tf.minimum(width, 2**31)
    return tf.maximum(seen[0] * seen[1], own), (seen[0], seen[1])


def _largest_scale(options: Mapping[str, Any]) -> float:
    return max(1.0, *options["scales"])


def _at_scale(options: Mapping[str, Any]) -> str:
    scale = _largest_scale(options)
    return f" at the scale {scale:g}" if scale > 1 else ""


def _checked(images: tf.Tensor, options: Mapping[str, Any], *, max_pixels: int) -> tf.Tensor:
    """The images, if they are neither empty nor, as the network sees them, too large."""
    batch, height, width, _ = tf.unstack(tf.shape(images, tf.int64))
    pixels, seen = _seen(height, width, options)
    sizes = ["batch, height, width:", batch, height, width]
    checks = [
        tf.debugging.Assert(batch * height * width > 0, ["Images without pixels;", *sizes]),
        tf.debugging.Assert(
            batch * pixels <= max_pixels,
            [
                f"Too many pixels at once, more than the {max_pixels} of --export_max_pixels:",
                batch * pixels,
                *sizes,
                f"height, width with the padding{_at_scale(options)}:",
                *seen,
            ],
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(images)

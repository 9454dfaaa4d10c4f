"""Writing a trained network for LiteRT (TensorFlow Lite), on phones and on CPUs."""

import os
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.backbones import get_backbone
from deeplab_tf.data.output import write_file
from deeplab_tf.export.portable import frozen_function
from deeplab_tf.model_card import ModelCard

PRECISIONS = ("fp32", "fp16", "int8")
_BYTES_PER_WEIGHT = {"fp32": 4, "fp16": 2, "int8": 1}


def export_litert(
    model: keras.Model,
    card: ModelCard,
    *,
    export_path: str | os.PathLike[str],
    size: tuple[int, int] | None,
    precision: str = "fp32",
    representative_images: Iterable[np.ndarray] = (),
    probabilities: bool = True,
) -> None:
    """Writes a LiteRT file that predicts one image at a time.

    It maps "ImageTensor", [1, h, w, 3] of the type that the SavedModel takes, to
    "SemanticPredictions", int32 [1, h, w], and "SemanticProbabilities", float32
    [1, h, w, classes]. Batch norms are folded and weights are constants before the conversion,
    which so finds the dilated convolutions: XNNPACK then runs all of the network in one piece.

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        export_path: File to write.
        size: Height and width of the images. None for any: dilated convolutions then become
            several operations, which takes longer, and int8 is not possible.
        precision: Of weights and activations, one of `PRECISIONS`. fp16 has its weights in 16
            bits and computes as the device does; int8 has both in 8 bits.
        representative_images: Images, [h, w, c] of the type of the input, whose activations set
            the ranges of int8; see `fit_image`.
        probabilities: Whether there are "SemanticProbabilities", which take longer than labels.

    Raises:
        FileExistsError: `export_path` exists.
        ValueError: The card has a CRF, or int8 lacks images or a size.
    """
    if os.path.lexists(export_path):
        raise FileExistsError(
            f"--export_path={export_path} exists: give another file, or remove this one."
        )
    images = list(representative_images)
    if precision == "int8" and (size is None or not images):
        raise ValueError(
            "int8 needs a fixed size and images that are representative of those to come: "
            "give --export_size and --dataset_dir or --images."
        )
    function = frozen_function(model, card, size=size, batch=1, probabilities=probabilities)
    # The module, which holds nothing, is what makes the converter keep the names of the signature.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8" and size is not None:
        converter.representative_dataset = _samples(images, size, card)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    data = converter.convert()
    _check_weights(data, model, precision)
    write_file(export_path, data)


def fit_image(image: np.ndarray, size: tuple[int, int], card: ModelCard) -> np.ndarray:
    """An image, [h, w, c], cropped and padded at the bottom and right to a size.

    The padding is what the network sees as nothing, rounded to the type of the image.
    """
    padding = padding_color(card).astype(image.dtype)
    fitted = np.broadcast_to(padding, (*size, image.shape[-1])).copy()
    height, width = np.minimum(image.shape[:2], size)
    fitted[:height, :width] = image[:height, :width]
    return fitted


def padding_color(card: ModelCard) -> np.ndarray:
    """What the network sees as nothing, as a stored pixel, [c]; not rounded."""
    low, high = card.dataset.value_range
    mean = np.array(get_backbone(card.model.model_variant).padding_color(card.model.input_channels))
    return low + mean / 255 * (high - low)


def _samples(
    images: Iterable[np.ndarray], size: tuple[int, int], card: ModelCard
) -> Callable[[], Iterator[list[np.ndarray]]]:
    def samples() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [fit_image(image, size, card)[None]]

    return samples


def _check_weights(data: bytes, model: keras.Model, precision: str) -> None:
    """The converter drops variables without a word, should the graph have any left."""
    kernels = sum(
        int(np.prod(weight.shape)) for weight in model.trainable_weights if len(weight.shape) > 1
    )
    expected = kernels * _BYTES_PER_WEIGHT[precision]
    if len(data) < expected:
        raise ValueError(
            f"the LiteRT converter wrote {len(data)} bytes, but {kernels} weights of {precision} "
            f"are {expected}: they are not in the file. Use a TensorFlow that requirements.txt "
            f"allows; this one is {tf.__version__}."
        )

"""Writing a trained network as a SavedModel, which is served without this package."""

import os
from collections.abc import Callable

import keras
import tensorflow as tf

from deeplab_tf.backbones import get_backbone
from deeplab_tf.data.output import temporary_sibling
from deeplab_tf.inference import predict
from deeplab_tf.model_card import ModelCard

# Where a SavedModel carries files that are no part of its graph.
EXTRA_FOLDER = "assets.extra"

# The name is the signature's input key.
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="ImageTensor")


def export_saved_model(
    model: keras.Model, card: ModelCard, *, export_path: str | os.PathLike[str]
) -> None:
    """Writes a SavedModel that predicts what evaluation predicts, for images of any size.

    Its only signature, "serving_default", maps "ImageTensor", uint8 [b, h, w, 3] RGB, to
    "SemanticPredictions", int32 [b, h, w], and "SemanticProbabilities", float32
    [b, h, w, classes]. The model card, with class names and palette, is written into it as
    `assets.extra/config.json`.

    Differs: the reference's `export_model.py` writes a frozen graph that takes one image.

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
    archive.add_endpoint("serving_default", _serving_function(model, card), [_IMAGES])
    with temporary_sibling(export_path) as folder:
        archive.write_out(folder, verbose=False)
        (folder / EXTRA_FOLDER).mkdir()
        card.save(folder / EXTRA_FOLDER)
        folder.rename(export_path)


def _serving_function(
    model: keras.Model, card: ModelCard
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    mean_pixel = get_backbone(card.model.model_variant).mean_pixel

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        prediction = predict(
            model,
            images,
            output_stride=card.model.output_stride,
            mean_pixel=mean_pixel,
            crop_size=card.inference.crop_size,
        )
        return {
            "SemanticPredictions": prediction.labels,
            "SemanticProbabilities": prediction.probabilities,
        }

    return serve

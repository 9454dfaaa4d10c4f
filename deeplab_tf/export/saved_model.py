"""Writing a trained network as a SavedModel."""

import os

import keras

from deeplab_tf.data.output import temporary_sibling
from deeplab_tf.export.serving import images_spec, serving_function
from deeplab_tf.model_card import ModelCard

# Where a SavedModel carries files that are no part of its graph.
EXTRA_FOLDER = "assets.extra"


def export_saved_model(
    model: keras.Model, card: ModelCard, *, export_path: str | os.PathLike[str]
) -> None:
    """Writes a SavedModel that predicts what evaluation predicts, for images of any size.

    Its only signature, "serving_default", maps "ImageTensor", uint8 [b, h, w, 3] RGB (or what else
    the card's data set has: other channels, and uint16 for 16 bits, scaled by its range of values),
    to "SemanticPredictions", int32 [b, h, w], and "SemanticProbabilities", float32
    [b, h, w, classes]; both after the CRF, if the card has one, which sees the images as they
    come. The model card, with class names and palette, is written into it as
    `assets.extra/config.json`.

    Differs: the reference's `export_model.py` writes a frozen graph (`export_frozen_graph`) that
    takes one image.

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
    archive.add_endpoint("serving_default", serving_function(model, card), [images_spec(card)])
    with temporary_sibling(export_path) as folder:
        archive.write_out(folder, verbose=False)
        (folder / EXTRA_FOLDER).mkdir()
        card.save(folder / EXTRA_FOLDER)
        folder.rename(export_path)

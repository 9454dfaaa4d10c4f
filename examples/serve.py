"""Predicts one image with an exported model. Needs TensorFlow and Pillow, not this package.

Usage: python examples/serve.py MODEL_FOLDER IMAGE_FILE
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image


def main(model_folder: str, image_file: str) -> None:
    """Prints how much of the image each class takes."""
    serve = tf.saved_model.load(model_folder).signatures["serving_default"]
    card = json.loads((Path(model_folder) / "assets.extra/config.json").read_text())
    image = np.asarray(Image.open(image_file).convert("RGB"))

    outputs = serve(ImageTensor=tf.constant(image[None]))

    labels = outputs["SemanticPredictions"].numpy()[0]
    probabilities = outputs["SemanticProbabilities"].numpy()[0]
    print(f"{image_file}: {labels.shape[1]}x{labels.shape[0]} pixels")
    for label in np.unique(labels):
        name, here = card["dataset"]["class_names"][label], labels == label
        confidence = probabilities[here, label].mean()
        print(f"  {name:<12} {here.mean():6.1%} of the image, mean probability {confidence:.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])

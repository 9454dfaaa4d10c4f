"""Predicting a folder of images, end to end, against the bare network on the same images.

    python -m benchmarks.predict

64 generated JPEG photos of 500 x 375, MobileNetV2 v3+ with random weights. The bare network is the
compiled function from an image in memory to its labels. End to end are reading and decoding, that
function, and encoding and writing the mask and the overlay. The two take turns; what counts is the
ratio of the best rates. Compiling, once in a run, is in neither.
"""

import functools
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

from benchmarks.comparison import Comparison
from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig, build_deeplab
from deeplab_tf.data.images import read_rgb
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.model_card import ModelCard
from deeplab_tf.prediction.files import Work, predict_files
from deeplab_tf.prediction.folder import PredictionFolder
from deeplab_tf.prediction.network import batch_predictor
from deeplab_tf.prediction.outputs import Style
from deeplab_tf.prediction.reading import read_bounded
from deeplab_tf.predictors import label_predictor

IMAGES, HEIGHT, WIDTH = 64, 375, 500
ROUNDS = 3
LIMIT = 0.9

CARD = ModelCard(
    ModelConfig.from_preset("deeplabv3plus_mobilenet_v2"),
    DataConfig(),
    TrainConfig(),
    InferenceConfig(),
    KNOWN_DATASETS["pascal_voc_seg"],
)


def write_photos(folder: Path) -> None:
    """Smooth colours with some noise: JPEGs of about the size that photos have."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(IMAGES):
        coarse = cv2.resize(rng.random((12, 16, 3), np.float32) * 255, (WIDTH, HEIGHT))
        photo = np.clip(coarse + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:03d}.jpg"), photo)


def rates() -> tuple[float, float]:
    """Images per second of the bare network, and end to end."""
    model = build_deeplab(CARD.model)
    bare, whole = [], []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_photos(place / "photos")
        paths = sorted((place / "photos").iterdir())
        images = [read_rgb(path) for path in paths]
        predict_labels = label_predictor(model, CARD.model, CARD.inference)
        predictor, _ = batch_predictor(model, CARD)
        for number in range(1 + ROUNDS):  # the first round warms up
            start = time.perf_counter()
            for image in images:
                predict_labels(image)
            bare.append(IMAGES / (time.perf_counter() - start))
            start = time.perf_counter()
            predict_files(
                paths,
                [path.stem for path in paths],
                predictor,
                functools.partial(read_bounded, info=CARD.dataset),
                folder=PredictionFolder(place / f"out{number}", ["mask", "overlay"]),
                style=Style(CARD.dataset.palette),
                work=Work(np.zeros(CARD.dataset.num_classes, np.int64)),
            )
            whole.append(IMAGES / (time.perf_counter() - start))
    return max(bare[1:]), max(whole[1:])


def comparisons() -> list[Comparison]:
    """Seconds of an image end to end, beside the bare network."""
    of_network, end_to_end = rates()
    return [
        Comparison(
            "predict.py, an image", 1 / end_to_end, "bare network", 1 / of_network, 1 / LIMIT
        )
    ]


def main() -> None:
    """Prints both rates."""
    of_network, end_to_end = rates()
    print("| | images/s |")
    print("|---|---:|")
    print(f"| the bare network | {of_network:.2f} |")
    print(f"| predict.py, masks and overlays | {end_to_end:.2f} |")
    print(f"\nratio {end_to_end / of_network:.3f}, at least {LIMIT} is wanted")


if __name__ == "__main__":
    main()

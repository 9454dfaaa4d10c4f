"""Confusion matrix of a validation split: ours against TensorFlow's, Keras's and torchmetrics'.

    python -m benchmarks.confusion_matrix --peer_python=/path/to/python

Generated 500 x 375 label maps of 21 classes with a void border round each region, and predictions
that err along those borders. The contenders take turns over the same images; each must find the
same mean IoU. torchmetrics (extra "bench") runs in a process of its own, in the Python that
--peer_python names; without it the table lacks its row.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import tensorflow as tf

from benchmarks.comparison import Comparison
from benchmarks.peer import start
from deeplab_tf.evaluation.metrics import confusion_matrix, scores_from_confusion

CLASSES, IGNORE = 21, 255
HEIGHT, WIDTH = 375, 500
IMAGES, ROUNDS = 32, 31
OURS, TORCHMETRICS = "deeplab_tf.evaluation.metrics.confusion_matrix", "torchmetrics JaccardIndex"

Pair = tuple[np.ndarray, np.ndarray]


def make_pair(rng: np.random.Generator) -> Pair:
    coarse = cv2.resize(rng.random((6, 8, CLASSES), np.float32), (WIDTH, HEIGHT))
    noise = cv2.resize(rng.random((50, 66, CLASSES), np.float32), (WIDTH, HEIGHT))
    label = coarse.argmax(axis=-1).astype(np.uint8)
    border = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    label[border] = IGNORE
    return label, (coarse + 0.2 * noise).argmax(axis=-1).astype(np.int32)


def ours(pairs: list[Pair]) -> float:
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for label, prediction in pairs:
        matrix += confusion_matrix(label, prediction, num_classes=CLASSES, ignore_label=IGNORE)
    return scores_from_confusion(matrix).mean_iou


def tensorflow(pairs: list[Pair]) -> float:
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for label, prediction in pairs:
        valid = label != IGNORE
        matrix += tf.math.confusion_matrix(
            label[valid], prediction[valid], num_classes=CLASSES, dtype=tf.int64
        ).numpy()
    return scores_from_confusion(matrix).mean_iou


def keras_mean_iou(pairs: list[Pair]) -> float:
    metric = keras.metrics.MeanIoU(CLASSES, ignore_class=IGNORE)
    for label, prediction in pairs:
        metric.update_state(label, prediction)
    return float(metric.result())


def timed(contender: Callable[[list[Pair]], float], pairs: list[Pair]) -> tuple[float, float]:
    """Mean IoU, and the seconds that it took."""
    start = time.perf_counter()
    result = contender(pairs)
    return result, time.perf_counter() - start


def measure(contenders: dict[str, Callable[[], tuple[float, float]]]) -> dict[str, list[float]]:
    """Seconds of each round, by contender."""
    # The first round warms up and compares: some count in float32.
    results = [contender()[0] for contender in contenders.values()]
    np.testing.assert_allclose(results, results[0], rtol=1e-5)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            seconds[name].append(contender()[1])
    return seconds


def medians(peer_python: str) -> dict[str, float]:
    """Seconds per image of each contender, the median of the rounds."""
    rng = np.random.default_rng(0)
    pairs = [make_pair(rng) for _ in range(IMAGES)]
    contenders: dict[str, Callable[[], tuple[float, float]]] = {
        OURS: partial(timed, ours, pairs),
        "tf.math.confusion_matrix": partial(timed, tensorflow, pairs),
        "keras.metrics.MeanIoU": partial(timed, keras_mean_iou, pairs),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pairs.npz")
        labels, predictions = map(np.stack, zip(*pairs, strict=True))
        np.savez(path, labels=labels, predictions=predictions)
        peer = start(peer_python, "confusion_matrix_peer.py", path, str(CLASSES), str(IGNORE))
        if peer is not None:
            contenders[TORCHMETRICS] = partial(peer.ask, None)
        seconds = measure(contenders)
        if peer is not None:
            peer.close()
    return {name: statistics.median(times) / IMAGES for name, times in seconds.items()}


def comparisons(peer_python: str) -> list[Comparison]:
    """Ours beside torchmetrics, where that is installed."""
    found = medians(peer_python)
    if TORCHMETRICS not in found:
        return []
    return [
        Comparison(
            "confusion matrix, an image", found[OURS], TORCHMETRICS, found[TORCHMETRICS], 1 / 3
        )
    ]


def main() -> None:
    """Prints a row for each contender."""
    parser = argparse.ArgumentParser(description="Measures the confusion matrix against others.")
    parser.add_argument("--peer_python", default=sys.executable, help="Python with torchmetrics.")
    found = medians(parser.parse_args().peer_python)
    print(f"{IMAGES} images {WIDTH} x {HEIGHT}, {CLASSES} classes, median of {ROUNDS} rounds")
    print(f"{'':<36}{'ms/image':>10}{'ratio':>8}")
    for name, median in found.items():
        print(f"{name:<36}{1000 * median:10.3f}{median / found[OURS]:8.1f}")


if __name__ == "__main__":
    main()

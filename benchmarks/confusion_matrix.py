"""Confusion matrix of a validation split: ours against TensorFlow's and Keras's.

    python -m benchmarks.confusion_matrix

Generated 500 x 375 label maps of 21 classes with a void border round each region, and predictions
that err along those borders. The contenders take turns over the same images in the same process;
each must find the same mean IoU.
"""

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.metrics import confusion_matrix, scores_from_confusion

CLASSES, IGNORE = 21, 255
HEIGHT, WIDTH = 375, 500
IMAGES, ROUNDS = 32, 11

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


def main() -> None:
    rng = np.random.default_rng(0)
    pairs = [make_pair(rng) for _ in range(IMAGES)]
    contenders: dict[str, Callable[[list[Pair]], float]] = {
        "deeplab_tf.metrics.confusion_matrix": ours,
        "tf.math.confusion_matrix": tensorflow,
        "keras.metrics.MeanIoU": keras_mean_iou,
    }
    # The first round warms up and compares: Keras counts in float32.
    results = {name: contender(pairs) for name, contender in contenders.items()}
    np.testing.assert_allclose(list(results.values()), ours(pairs), rtol=1e-5)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender(pairs)
            seconds[name].append(time.perf_counter() - start)
    best = statistics.median(seconds["deeplab_tf.metrics.confusion_matrix"])
    print(f"{IMAGES} images {WIDTH} x {HEIGHT}, {CLASSES} classes, median of {ROUNDS} rounds")
    print(f"{'':<36}{'ms/image':>10}{'ratio':>8}{'mean IoU':>10}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:<36}{1000 * median / IMAGES:10.3f}{median / best:8.1f}{results[name]:10.4f}")


if __name__ == "__main__":
    main()

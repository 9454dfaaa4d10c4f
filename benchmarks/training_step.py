"""Measures a training step against segmentation-models-pytorch (smp), in one run.

    python -m benchmarks.training_step --peer_python=/path/to/python

Both train DeepLabv3+ (`benchmarks.networks`) on a batch of 512x512 in memory, by SGD with momentum
and weight decay, with 21 classes and ignored pixels, in float32 on all cores: ours is the step that
`train.py` takes, with its gradient norms, smp's a loop of the usual five lines in channels_last.
The two take steps in turns, a few at a time; the medians count. --peer_python is a Python that has
torch and segmentation-models-pytorch.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from benchmarks.comparison import Comparison, print_table
from benchmarks.networks import DATASET, MOBILENET_V2, RESNET_50, Network, card_of
from benchmarks.peer import Peer, start
from deeplab_tf import build_deeplab, model_info
from deeplab_tf.training import optimizers
from deeplab_tf.training.step import TrainStep, set_batch_norm

SIZE, BATCH_SIZE = 512, 4
STEPS = 3  # in a turn
LIMITS = {MOBILENET_V2: 0.72, RESNET_50: 0.75}


class OurTraining:
    """The step of `train.py` on one batch."""

    def __init__(self, network: Network) -> None:
        keras.utils.set_random_seed(0)
        card = card_of(network, size=SIZE, batch_size=BATCH_SIZE)
        model = build_deeplab(card.model)
        set_batch_norm(model, card.train)
        optimizer = optimizers.build_optimizer(card.train, model.trainable_variables)
        self._step = TrainStep(model, optimizer, card)
        rng = np.random.default_rng(0)
        shape = (BATCH_SIZE, SIZE, SIZE)
        labels = rng.integers(0, DATASET.num_classes, shape, np.uint8)
        labels[:, :8] = DATASET.ignore_label
        self._batch = tf.constant(rng.integers(0, 256, (*shape, 3), np.uint8)), tf.constant(labels)

    def measure(self, times: int) -> list[float]:
        """Seconds of each step, its loss waited for."""
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            float(self._step([self._batch]).loss)
            seconds.append(time.perf_counter() - start)
        return seconds


def comparisons(peer: Peer, turns: int) -> Iterator[Comparison]:
    """Measures the networks one after the other, each in turns with smp's."""
    for network, limit in LIMITS.items():
        ours = OurTraining(network)
        question = {
            "run": "training",
            "encoder": network.encoder,
            "num_classes": DATASET.num_classes,
            "size": SIZE,
            "batch_size": BATCH_SIZE,
        }
        ours.measure(2)
        about_peer = peer.ask({**question, "times": 2})
        times, peer_times = [], []
        for _ in range(turns):
            times += ours.measure(STEPS)
            peer_times += peer.ask({**question, "times": STEPS})["seconds"]
        info = model_info(card_of(network, size=SIZE).model, image_size=(SIZE, SIZE))
        print(
            f"{network.model_variant}: {info.multiply_adds / 1e9:.2f} billion Multiply-Adds, "
            f"smp's {about_peer['multiply_adds'] / 1e9:.2f}"
        )
        yield Comparison(
            f"training step, {network.model_variant}",
            statistics.median(times),
            "smp",
            statistics.median(peer_times),
            limit,
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measures a training step against smp's.")
    parser.add_argument("--peer_python", default=sys.executable, help="Python that has smp.")
    parser.add_argument("--turns", type=int, default=4, help="Turns of three steps each.")
    options = parser.parse_args()
    peer = start(options.peer_python, "torch_peer.py")
    if peer is not None:
        print_table(list(comparisons(peer, options.turns)))
        peer.close()


if __name__ == "__main__":
    main()

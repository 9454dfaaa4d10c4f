"""Measures a training step against segmentation-models-pytorch (smp), in one run.

    python -m benchmarks.training_step --peer_python=/path/to/python

Both train DeepLabv3+ on a batch of 512x512 in memory, by SGD with momentum and weight decay, with
21 classes and ignored pixels, in float32 on all cores: ours is the step that `train.py` takes, with
its gradient norms, smp's a loop of the usual five lines in channels_last. The networks are built
alike: smp's encoder, rates (12, 24, 36), atrous separable convolutions in ASPP and decoder. Where
smp's has other layers nevertheless, the Multiply-Adds of both sides, which are printed, tell.

The two take steps in turns, a few at a time; the medians count. --peer_python is a Python that has
torch and segmentation-models-pytorch.
"""

import argparse
import statistics
import sys
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peer import Peer
from deeplab_tf import (
    DataConfig,
    InferenceConfig,
    ModelConfig,
    TrainConfig,
    build_deeplab,
    model_info,
    optimizers,
)
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard
from deeplab_tf.train_step import TrainStep, set_batch_norm

NUM_CLASSES, IGNORE_LABEL = 21, 255
SIZE, BATCH_SIZE = 512, 4
STEPS = 3  # in a turn


class Pair(NamedTuple):
    """Two networks that are measured against each other, and what ours may take of smp's time."""

    model_variant: str
    encoder: str
    limit: float


PAIRS = (Pair("mobilenet_v2", "mobilenet_v2", 0.72), Pair("resnet_v1_50", "resnet50", 0.75))


class OurTraining:
    """The step of `train.py` on one batch."""

    def __init__(self, model_variant: str) -> None:
        keras.utils.set_random_seed(0)
        config = ModelConfig(
            model_variant,
            num_classes=NUM_CLASSES,
            atrous_rates=(12, 24, 36),
            decoder_output_stride=(4,),
        )
        card = ModelCard(
            model=config,
            data=DataConfig((SIZE, SIZE), batch_size=BATCH_SIZE),
            train=TrainConfig(),
            inference=InferenceConfig(),
            dataset=DatasetInfo(
                name="benchmark",
                class_names=tuple(f"class {index}" for index in range(NUM_CLASSES)),
                palette=((0, 0, 0),) * NUM_CLASSES,
                ignore_label=IGNORE_LABEL,
                splits={"train": BATCH_SIZE},
            ),
        )
        info = model_info(config, image_size=(SIZE, SIZE))
        self.multiply_adds, self.parameters = info.multiply_adds, info.trainable_parameters
        model = build_deeplab(config)
        set_batch_norm(model, card.train)
        optimizer = optimizers.build_optimizer(card.train, model.trainable_variables)
        self._step = TrainStep(model, optimizer, card)
        rng = np.random.default_rng(0)
        shape = (BATCH_SIZE, SIZE, SIZE)
        labels = rng.integers(0, NUM_CLASSES, shape, np.uint8)
        labels[:, :8] = IGNORE_LABEL
        self._batch = tf.constant(rng.integers(0, 256, (*shape, 3), np.uint8)), tf.constant(labels)

    def measure(self, steps: int) -> list[float]:
        """Seconds of each step, its loss waited for."""
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            float(self._step([self._batch]).loss)
            times.append(time.perf_counter() - start)
        return times


def measure(pair: Pair, peer: Peer, turns: int) -> str:
    """Measures two networks in turns; returns their row of the table."""
    ours = OurTraining(pair.model_variant)
    question = {
        "encoder": pair.encoder,
        "num_classes": NUM_CLASSES,
        "size": SIZE,
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
    }
    ours.measure(2)
    answer = peer.ask({**question, "steps": 2})
    times, peer_times = [], []
    for _ in range(turns):
        times += ours.measure(STEPS)
        peer_times += peer.ask(question)["seconds"]
    median, peer_median = statistics.median(times), statistics.median(peer_times)
    return (
        f"{pair.model_variant:14}{1e3 * median:10.0f}{1e3 * peer_median:10.0f}"
        f"{median / peer_median:8.2f}{pair.limit:8.2f}"
        f"{ours.multiply_adds / 1e9:14.2f}{answer['multiply_adds'] / 1e9:8.2f}"
        f"{ours.parameters / 1e6:10.2f}{answer['parameters'] / 1e6:8.2f}"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measures a training step against smp's.")
    parser.add_argument("--peer_python", default=sys.executable, help="Python that has smp.")
    parser.add_argument("--turns", type=int, default=4, help="Turns of three steps each.")
    parser.add_argument(
        "--only", choices=[pair.model_variant for pair in PAIRS], help="One of the pairs."
    )
    options = parser.parse_args()
    peer = Peer(options.peer_python, "torch_peer.py")
    print("TensorFlow {}, PyTorch {torch}, smp {smp}".format(tf.__version__, **peer.versions))
    print(
        f"{'':14}{'ours, ms':>10}{'smp, ms':>10}{'ratio':>8}{'limit':>8}"
        f"{'GMAdds: ours':>14}{'smp':>8}{'M weights':>10}{'smp':>8}"
    )
    for pair in PAIRS:
        if options.only in (None, pair.model_variant):
            print(measure(pair, peer, options.turns), flush=True)
    peer.close()


if __name__ == "__main__":
    main()

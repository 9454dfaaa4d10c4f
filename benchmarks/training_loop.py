"""What the training loop costs beside the compiled steps that it takes.

    python -m benchmarks.training_loop

`train` runs as it is, with history, curves, progress bar and checks, on one batch in memory. Before
each of its steps the same compiled step is taken bare on the same batch: called, and its loss
waited for. Both are timed, the loop's share being all the time from one bare step to the next, so
that whatever slows the machine down slows both down. The table has medians over groups of ten
steps, each of which has a point of the curves in it.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import run as training
from deeplab_tf.training.step import StepResult, TrainStep

CROP = 65
BATCH_SIZE = 4
STEPS = 620
LOG_STEPS = 10  # as train.py has it
WARM_UP = 20
NUM_CLASSES = 4
# A network as small as anyone trains: MobileNetV2 at a quarter of its width.
MODEL = ModelConfig(
    num_classes=NUM_CLASSES, depth_multiplier=0.25, atrous_rates=(1,), decoder_output_stride=(4,)
)


class MeasuredStep(TrainStep):
    """Takes every step twice, first bare, and notes how long the two took."""

    bare: list[float] = []  # noqa: RUF012 - of the one run of this process
    loop: list[float] = []  # noqa: RUF012
    _left: float | None = None

    def __call__(self, parts: Any, vote: float = 0.0) -> StepResult:
        """Takes the steps."""
        started = time.perf_counter()
        float(self._whole(*parts[0], tf.constant(0.0)).loss)
        ended = time.perf_counter()
        if self._left is not None:
            self.loop.append(started - self._left)
            self.bare.append(ended - started)
        self._left = ended
        return super().__call__(parts, vote)


def _by_group(times: list[float]) -> list[float]:
    """Means over as many steps as lie between two points of the curves, which cost time, too."""
    return [
        statistics.fmean(times[i : i + LOG_STEPS])
        for i in range(0, len(times) - LOG_STEPS + 1, LOG_STEPS)
    ]


def main() -> None:
    """Trains, and prints the medians."""
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (BATCH_SIZE, CROP, CROP, 3), np.uint8))
    labels = tf.constant(rng.integers(0, NUM_CLASSES, (BATCH_SIZE, CROP, CROP), np.uint8))

    def batches(*args: Any, **options: Any) -> Iterator[Any]:
        return itertools.repeat((images, labels))

    training.training_parts = batches
    training.TrainStep = MeasuredStep
    info = DatasetInfo(
        name="benchmark",
        class_names=tuple(f"class {index}" for index in range(NUM_CLASSES)),
        palette=((0, 0, 0),) * NUM_CLASSES,
        ignore_label=255,
        splits={"train": BATCH_SIZE},
    )
    card = ModelCard(
        model=MODEL,
        data=DataConfig((CROP, CROP), batch_size=BATCH_SIZE),
        train=TrainConfig(training_number_of_steps=STEPS),
        inference=InferenceConfig(),
        dataset=info,
    )
    with tempfile.TemporaryDirectory() as folder:
        training.train(
            card,
            dataset_dir=folder,
            train_split="train",
            val_split=None,
            logdir=str(Path(folder) / "run"),
            log_steps=LOG_STEPS,
        )
    bare, loop = (_by_group(times[WARM_UP:]) for times in (MeasuredStep.bare, MeasuredStep.loop))
    own = statistics.median(loop[i] - bare[i] for i in range(len(bare)))
    bare_median, loop_median = statistics.median(bare), statistics.median(loop)
    print(f"bare step {1e3 * bare_median:8.2f} ms")
    print(f"in train  {1e3 * loop_median:8.2f} ms")
    print(f"own work  {1e3 * own:8.2f} ms, {own / bare_median:.1%} of the bare step")


if __name__ == "__main__":
    main()

"""The end of a run whose loss or weights are no longer finite, and what to look at then."""

import json
import math
import os
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from deeplab_tf.data.output import write_file
from deeplab_tf.data.records import READ_ERRORS
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training.optimizers import learning_rate

_STEPS_KEPT = 5


class _Step(NamedTuple):
    step: int
    loss: float
    gradient_norms: Any


class FiniteCheck:
    """Sees every step, and ends the run at the first that is not finite, with a report on disk.

    The gradient norms stay where they were computed until a report needs them.

    Args:
        model: The network.
        card: The run.
        logdir: Where the report is written; None to write none, as all workers but one.
        batch_of: Of a step (from 0), the names of its images, the images, [b, h, w, channels], and
            their labels, uint8 [b, h, w].
    """

    def __init__(
        self,
        model: keras.Model,
        card: ModelCard,
        logdir: str | None,
        batch_of: Callable[[int], tuple[list[str], np.ndarray, np.ndarray]],
    ) -> None:
        self._weights = model.trainable_variables
        self._card = card
        self._logdir = logdir
        self._batch_of = batch_of
        self._steps: deque[_Step] = deque(maxlen=_STEPS_KEPT)

    def loss(self, step: int, loss: float, gradient_norms: Any) -> None:
        """Takes note of a step.

        Args:
            step: Its number, from 1.
            loss: Its loss.
            gradient_norms: float32 [trainable variables].

        Raises:
            FloatingPointError: The loss is not finite.
        """
        self._steps.append(_Step(step, loss, gradient_norms))
        if not math.isfinite(loss):
            rate = learning_rate(self._card.train, step - 1)
            self._stop(step, f"The loss of step {step} is {loss}, at the learning rate {rate:g}.")

    def weights(self, step: int) -> None:
        """Looks at the weights after a step, because they are to be saved.

        Raises:
            FloatingPointError: One is not finite.
        """
        # All at once, so that the device is waited for once.
        finite = ops.convert_to_numpy([ops.all(ops.isfinite(weight)) for weight in self._weights])
        broken = [w.path for w, good in zip(self._weights, finite, strict=True) if not good]
        if broken:
            self._stop(
                step,
                f"After step {step}, {len(broken)} of {len(finite)} weights are not finite, such "
                f"as {broken[0]}: they are not saved.",
            )

    def _stop(self, step: int, what: str) -> None:
        path = ""
        if self._logdir is not None:
            path = os.path.join(self._logdir, f"nonfinite-step-{step}.json")
            write_file(path, json.dumps(self._report(step), indent=2, ensure_ascii=False).encode())
        raise FloatingPointError("\n".join([what, *_advice(self._card, path)]))

    def _report(self, step: int) -> dict[str, Any]:
        names = [weight.path for weight in self._weights]
        try:
            batch = _describe(*self._batch_of(step - 1), card=self._card)
        except (OSError, ValueError, *READ_ERRORS) as error:
            # What follows is worth having all the same.
            batch = {"batch": f"could not be read again: {error}"}
        return {
            "step": step,
            "learning_rate": learning_rate(self._card.train, step - 1),
            **batch,
            "last_steps": [
                {
                    "step": taken.step,
                    "loss": _number(taken.loss),
                    "learning_rate": learning_rate(self._card.train, taken.step - 1),
                    "gradient_norms": {
                        name: _number(norm)
                        for name, norm in zip(names, np.asarray(taken.gradient_norms), strict=True)
                    },
                }
                for taken in self._steps
            ],
        }


def _describe(
    names: list[str], images: np.ndarray, labels: np.ndarray, *, card: ModelCard
) -> dict[str, Any]:
    info = card.dataset

    def histogram(labels: np.ndarray) -> dict[str, int]:
        counts = np.bincount(labels.ravel(), minlength=256)
        void, counts[info.ignore_label] = int(counts[info.ignore_label]), 0
        by_class = zip(info.class_names, counts.tolist(), strict=False)
        return {**{name: count for name, count in by_class if count}, "void": void}

    return {
        "labels": histogram(labels),
        "images": [
            {
                "file": name,
                "pixel_range": [_number(image.min()), _number(image.max())],
                "labels": histogram(label),
            }
            for name, image, label in zip(names, images, labels, strict=True)
        ],
    }


def _advice(card: ModelCard, path: str) -> list[str]:
    rate = {"adam": "--adam_learning_rate"}.get(card.train.optimizer, "--base_learning_rate")
    lines = []
    if path:
        lines += [f"The images of that step and the gradients of the last ones are in {path}."]
    lines += [
        "The usual causes, in this order:",
        f"  - a rate that is too high: lower {rate}, begin slowly (--slow_start_step), or clip the",
        "    gradients (--clip_gradient_norm=1);",
    ]
    if card.train.mixed_precision == "float16":
        lines += ["  - numbers beyond float16's 65504: --mixed_precision=bfloat16;"]
    if card.train.fine_tune_batch_norm is False or card.train.freeze_batch_norm:
        lines += [
            "  - frozen batch norm without a pretrained checkpoint (--tf_initial_checkpoint);"
        ]
    lines += [
        "  - damaged images, or labels that are nearly all of one class (the report has both).",
        "Checkpoints are as they were. The same command takes the same steps again: start anew in",
        "another --train_logdir with other settings, perhaps from the last checkpoint of this run",
        "(--tf_initial_checkpoint).",
    ]
    return lines


def _number(value: float) -> float | str:
    """JSON has no word for inf and nan."""
    return float(value) if math.isfinite(value) else str(float(value))

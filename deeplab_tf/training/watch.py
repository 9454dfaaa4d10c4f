"""What a run tells of itself, and the ends that it comes to by what is seen."""

import dataclasses
import os
from collections.abc import Callable

import keras
from tqdm import tqdm

from deeplab_tf.config import InferenceConfig
from deeplab_tf.data.damage import SoundRecords
from deeplab_tf.data.output import write_file
from deeplab_tf.evaluation.metrics import SegmentationScores
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import label_predictor
from deeplab_tf.training.best import FOLDER
from deeplab_tf.training.early_stop import forget_stopped_early, note_stopped_early
from deeplab_tf.training.ema import WeightAverage
from deeplab_tf.training.history import History
from deeplab_tf.training.summaries import Summaries
from deeplab_tf.training.validation import Validation
from deeplab_tf.visualization.plots import curves_png


class Watch:
    """Logs the steps of a run, validates on a schedule, and says when it gets no better.

    Of several workers, one writes, draws and validates; the others only know the schedule.

    Args:
        model: The network.
        card: The run.
        step: Steps taken so far.
        logdir: Folder of the run; None for the workers that write nothing.
        dataset_dir: Folder of records.
        val_split: Split to validate on; None for no validation.
        sound: The split's records to read; None for all.
        average: Weights to validate with.
        val_interval_steps: Steps between validations; there is always one at the end.
        log_steps: Steps between the points of the curves.
        early_stop_patience: Validations in a row without a better mean IoU than the best before
            them that end the run; 0 for any number.
        any_worker: Whether any worker says so, of what this one says.

    Attributes:
        scores: Of the last validation; None if there was none.
    """

    def __init__(
        self,
        model: keras.Model,
        card: ModelCard,
        *,
        step: int,
        logdir: str | None,
        dataset_dir: str,
        val_split: str | None,
        sound: SoundRecords | None,
        average: WeightAverage,
        val_interval_steps: int,
        log_steps: int,
        early_stop_patience: int,
        any_worker: Callable[[bool], bool],
    ) -> None:
        self.scores: SegmentationScores | None = None
        self._card = card
        self._logdir = logdir
        self._average = average
        self._interval = val_interval_steps if val_split else None
        self._log_steps = log_steps
        self._patience = early_stop_patience
        self._any_worker = any_worker
        self._history = History(logdir, step)
        self._summaries = Summaries(logdir)
        self._validation = None
        if val_split and logdir is not None:
            inference = _validation_inference(card.inference)
            self._validation = Validation(
                label_predictor(model, card.model, inference, resize=False),
                card,
                dataset_dir=dataset_dir,
                split=val_split,
                sound=sound,
                logdir=logdir,
                history=self._history,
                summaries=self._summaries,
            )

    def begin(self, step: int) -> bool:
        """Does what an earlier part of the run left undone; returns whether it ended by itself.

        A run that was killed in a validation has saved the step before it.
        """
        if step and self.is_due(step) and not self._history.has_validation(step):
            self._validate(step)
        ends = self._gets_no_better()
        if self._logdir is not None and not ends:
            forget_stopped_early(self._logdir)
        return ends

    def log(self, step: int, curves: dict[str, float]) -> None:
        """Adds a step to the curves, if it is one of those that are."""
        if step % self._log_steps == 0:
            self._history.add(step, **curves)
            self._summaries.scalars(step, **curves)

    def is_due(self, step: int) -> bool:
        """Whether a step is validated, for which it must be saved."""
        last_step = self._card.train.training_number_of_steps
        return self._interval is not None and (step % self._interval == 0 or step == last_step)

    def validate(self, step: int) -> bool:
        """Validates a step if it is due; returns whether the run is to end."""
        if not self.is_due(step):
            return False
        self._validate(step)
        return self._gets_no_better()

    def end(self, step: int, *, early: bool) -> None:
        """Draws the curves, and says why a run ended before its last step, to an eval.py, too."""
        self._draw_curves()
        best = self._history.best
        if early and best is not None and self._logdir is not None:
            note_stopped_early(self._logdir, step)
            tqdm.write(
                f"Stopped early after step {step}: none of the last "
                f"{self._history.validations_since_best} validations was better than that of step "
                f"{best['step']}, mIoU {best['miou']:.4f}, whose checkpoint is in "
                f"{os.path.join(self._logdir, FOLDER)}. With a larger --early_stop_patience, or 0, "
                "the same command goes on."
            )

    def _validate(self, step: int) -> None:
        if self._validation is not None:
            with self._average.applied():
                self.scores = self._validation(step)
            self._draw_curves()

    def _draw_curves(self) -> None:
        if self._logdir is not None:
            title = os.path.basename(os.path.abspath(self._logdir))
            curves = curves_png(self._history.rows, title=title)
            write_file(os.path.join(self._logdir, "curves.png"), curves)

    def _gets_no_better(self) -> bool:
        if not self._patience:
            return False
        return self._any_worker(self._patience <= self._history.validations_since_best)


def _validation_inference(inference: InferenceConfig) -> InferenceConfig:
    """Once, as it is: several scales, mirror images and the CRF would take longer than training."""
    return dataclasses.replace(
        inference, eval_scales=(1.0,), add_flipped_images=False, crf=None, eval_output_stride=None
    )

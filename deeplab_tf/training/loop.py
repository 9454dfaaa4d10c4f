"""How a run goes from step to step, whatever it trains."""

from collections.abc import Callable, Iterable
from typing import Protocol

from tqdm import tqdm

from deeplab_tf.training.saver import Saver

# A step's number, whether any worker wants to stop, and what to plot of the step.
Step = tuple[int, bool, dict[str, float]]


class RunWatch(Protocol):
    """What looks after a run; see `watch.Watch`."""

    def begin(self, step: int) -> bool:
        """Does what an earlier part of the run left undone; returns whether it ended by itself."""

    def log(self, step: int, curves: dict[str, float]) -> None:
        """Adds a step to the curves, if it is one of those that are."""

    def is_due(self, step: int) -> bool:
        """Whether a step is validated, for which it must be saved."""

    def validate(self, step: int) -> bool:
        """Validates a step if it is due; returns whether the run is to end."""

    def end(self, step: int, *, early: bool) -> None:
        """Draws the curves, and says why a run ended before its last step."""


def take_steps(
    steps: Iterable[Step], saver: Saver, watch: RunWatch, steps_taken: Callable[[], int]
) -> None:
    """Takes the steps that are left, with all that is due on the way and in the end.

    Args:
        steps: Takes a step each time that one is asked for.
        saver: Saves checkpoints; also at Ctrl-C.
        watch: Looks after the run.
        steps_taken: Number of the steps that the run has taken, earlier parts of it included.
    """
    step, stopping = steps_taken(), False
    try:
        early = watch.begin(step)
        for step, stopping, curves in () if early else steps:
            watch.log(step, curves)
            if stopping:
                break  # a validation that is due is for the run that goes on
            if watch.is_due(step) or saver.is_due(step):
                saver.save(step)
            if early := watch.validate(step):
                break
    except KeyboardInterrupt:
        step = steps_taken()
        saver.save(step)
        _tell_stopped(step)
        raise
    saver.save(step)
    watch.end(step, early=early)
    if stopping:
        _tell_stopped(step)


def smoothed(average: float, value: float) -> float:
    """A running average that takes in a value; 0 is none yet."""
    return 0.9 * average + 0.1 * value if average else value


def _tell_stopped(step: int) -> None:
    tqdm.write(f"Stopped after step {step}; the same command goes on from there.")

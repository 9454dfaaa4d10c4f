"""The checkpoints of a training run as they appear, for an evaluation beside it that has an end."""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

_STEP = re.compile(r"-(\d+)$")
_POLL_SECS = 1.0


class Stopped(BaseException):
    """This process was asked to end (SIGTERM); as KeyboardInterrupt, no error to be handled."""


def step_of(checkpoint: str) -> int | None:
    """The step in the name of a checkpoint; None if there is none."""
    match = _STEP.search(checkpoint)
    return int(match[1]) if match else None


def new_checkpoints(
    locate: Callable[[], str],
    *,
    interval_secs: float,
    timeout_secs: float,
    wanted: int,
    is_last: Callable[[str], bool],
    say: Callable[[str], None] = print,
) -> Iterator[str]:
    """Yields the newest checkpoint, and later ones as they appear; those between are passed over.

    Ends after `wanted` of them, after the last one of the run, or when none has come for a time,
    and says which.

    Differs: the reference (`slim.evaluation.evaluation_loop`) waits for ever by default.

    Args:
        locate: Returns the newest checkpoint; FileNotFoundError while there is none.
        interval_secs: Least seconds between two checkpoints that are taken up.
        timeout_secs: Seconds without a new checkpoint that end it; 0 for any number.
        wanted: Number of checkpoints to take up; 0 for any number.
        is_last: Whether none will follow a checkpoint; asked when that one has been dealt with, and
            then again and again, because a run may find out later that it was.
        say: Prints a line.
    """
    done, last, not_before = 0, None, time.monotonic()
    while checkpoint := _next(locate, last, not_before, timeout_secs, is_last, say):
        not_before = time.monotonic() + interval_secs
        yield checkpoint
        done, last = done + 1, checkpoint
        if done == wanted:
            return
    if last is not None and is_last(last):
        say(f"{os.path.basename(last)} is the last one of the run: evaluation ends.")
        return
    say(
        f"No new checkpoint for {timeout_secs:g} seconds: the evaluation ends ({done} evaluated). "
        "--eval_timeout_secs is how long it waits."
    )


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Raises `Stopped` in the main thread on SIGTERM, as KeyboardInterrupt on SIGINT."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped

    # Python takes signals in its main thread only; elsewhere the process has another owner.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _next(
    locate: Callable[[], str],
    last: str | None,
    not_before: float,
    timeout_secs: float,
    is_last: Callable[[str], bool],
    say: Callable[[str], None],
) -> str | None:
    """The newest checkpoint when it is another one than the last; None if none comes (in time)."""
    started, told = max(time.monotonic(), not_before), False
    while last is None or not is_last(last):
        if (early := not_before - time.monotonic()) > 0:
            time.sleep(min(early, _POLL_SECS))
            continue
        try:
            checkpoint = locate()
        except FileNotFoundError as error:
            # None yet; or it went while it was looked at, since a run keeps its newest three.
            if last is None and not told:
                say(f"Waiting: {error}")
        else:
            if checkpoint != last:
                return checkpoint
            if not told:
                say(f"Waiting for a checkpoint after {os.path.basename(checkpoint)}.")
        told = True
        if timeout_secs and time.monotonic() - started > timeout_secs:
            return None
        time.sleep(_POLL_SECS)
    return None

"""SIGTERM, by which schedulers end a job, as a wish that a training run can grant in order."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class StopRequest:
    """Whether this process was asked to end."""

    received: bool = False


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Yields what SIGTERM sets in place of ending the process; a second SIGTERM ends it."""
    request = StopRequest()

    def note(number: int, frame: Any) -> None:
        request.received = True
        signal.signal(signal.SIGTERM, before)

    # Python takes signals in its main thread only; elsewhere the process has another owner.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)

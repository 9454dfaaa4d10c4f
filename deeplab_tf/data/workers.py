"""Runs a function over many tasks, in this process or in several."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any

# Tasks handed out ahead of the workers: enough to keep them busy, and memory stays flat.
_TASKS_AHEAD = 4


# Of a function and tasks, yields what the function makes of them, in any order.
TaskRunner = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(
    function: Callable[[Any], Any], tasks: Iterable[Any], *, num_workers: int
) -> Iterator[Any]:
    """Yields `function(task)` of all tasks, in their order.

    Args:
        function: A function of a module, or a partial of one: it travels to other processes.
        tasks: As many as you like; they are taken as workers become free.
        num_workers: Number of processes. 1 is this one, without the seconds that others need to
            start.

    Raises:
        ChildProcessError: A worker was killed, most likely because memory ran out.
    """
    if num_workers == 1:
        yield from map(function, tasks)
        return
    executor = ProcessPoolExecutor(num_workers, _context(), initializer=_begin_worker)
    waiting: deque[Future[Any]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(function, task))
            if len(waiting) > _TASKS_AHEAD * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process was killed, most likely because memory ran out: give fewer "
            f"workers than --num_workers={num_workers}"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """How processes begin: from a server that imports TensorFlow once, where that is safe.

    Forks of this process itself would inherit TensorFlow's locks without the threads that hold
    them.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deeplab_tf.data.parts"])
    return context


def _begin_worker() -> None:
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed tells its workers nothing: they would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

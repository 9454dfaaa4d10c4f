"""Runs a function over many tasks on a cluster, as an Apache Beam pipeline."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deeplab_tf.data.output import temporary_sibling, write_file

_SECONDS_BETWEEN_LOOKS = 0.5


def run_on_beam(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    *,
    options: Sequence[str],
    folder: str | Path,
) -> Iterator[Any]:
    """Yields `function(task)` of all tasks, in the order in which they are done.

    Tasks and results travel as files: runners limit the size of what is in the pipeline itself.

    Args:
        function: What to do; it is given this package on every worker.
        tasks: What to do it with.
        options: Beam's own, such as ["--runner=FlinkRunner", "--flink_master=host:8081"].
        folder: Beside it, tasks and results lie while the pipeline runs; all workers see it.

    Raises:
        ImportError: Apache Beam is not installed.
    """
    try:
        import apache_beam
        import cloudpickle
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ImportError(
            f'Apache Beam is not installed: pip install "deeplab-tf[beam]" ({error})'
        ) from error
    with temporary_sibling(folder) as shared, ThreadPoolExecutor(1) as executor:
        waiting = set()
        for number, task in enumerate(tasks):
            path = shared / f"{number:08d}.task"
            path.write_bytes(cloudpickle.dumps((function, task)))
            waiting.add(path)
        pipeline = apache_beam.Pipeline(options=PipelineOptions(list(options)))
        paths = pipeline | apache_beam.Create(sorted(map(str, waiting)))
        # Without it, some runners give all tasks to the worker that lists them.
        _ = paths | apache_beam.Reshuffle() | apache_beam.Map(_run_task)
        # In a thread, because some runners return at once and some when all is done.
        running = executor.submit(lambda: pipeline.run().wait_until_finish())
        while waiting:
            ended = running.done()
            if ended:
                running.result()
            done = {path for path in waiting if _result_path(path).exists()}
            waiting -= done
            for path in done:
                yield cloudpickle.loads(_result_path(path).read_bytes())
            if ended and not done and waiting:
                raise ChildProcessError(
                    f"the pipeline ended, but {len(waiting)} of its results are not in {shared}: "
                    "all workers must see that folder"
                )
            if not ended:
                time.sleep(_SECONDS_BETWEEN_LOOKS)


def _run_task(path: str) -> None:
    """Does a task that lies in a file, on a worker."""
    import cloudpickle

    function, task = cloudpickle.loads(Path(path).read_bytes())
    write_file(_result_path(Path(path)), cloudpickle.dumps(function(task)))


def _result_path(task: Path) -> Path:
    return task.with_suffix(".result")

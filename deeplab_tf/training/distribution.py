"""Where a training run computes: one device, several, several machines, or a TPU.

Whatever the strategy, there is one training loop. Each replica takes its part of the batch; losses
are divided by the number of pixels of the whole batch, batch norm takes the statistics of the whole
batch, and gradients are summed, so that the number of replicas changes nothing but the speed.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

# What TensorFlow raises where another worker has gone or a connection broke.
LOST_WORKER_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


def build_strategy(
    name: str, *, num_devices: int | None = None, tpu: str = ""
) -> tf.distribute.Strategy:
    """Makes a strategy; it must be the first that a process does with TensorFlow.

    Args:
        name: "one_device", "mirrored" for the devices of this machine, "multi_worker" for the
            workers that the environment variable TF_CONFIG lists, or "tpu".
        num_devices: Number of devices of "mirrored"; None for all GPUs. Without a GPU, the CPU
            stands for as many as are wanted.
        tpu: Name or address of the TPU; empty for the one of this machine.

    Raises:
        ValueError: There is no such strategy, device or TF_CONFIG.
    """
    match name:
        case "one_device":
            return tf.distribute.get_strategy()
        case "mirrored":
            return tf.distribute.MirroredStrategy(_devices(num_devices))
        case "multi_worker":
            _check_cluster(os.environ.get("TF_CONFIG"))
            return tf.distribute.MultiWorkerMirroredStrategy()
        case "tpu":
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
            return tf.distribute.TPUStrategy(resolver)
    raise ValueError(f"strategy is {name!r}; expected one_device, mirrored, multi_worker or tpu")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints, summaries and messages: one of all workers does."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "tpu_worker"):
        return True
    cluster = resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or (
        "chief" not in cluster and resolver.task_type == "worker" and resolver.task_id == 0
    )


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Number of processes that train together."""
    return getattr(strategy.extended, "_num_workers", 1)


def any_worker(strategy: tf.distribute.Strategy, says_so: bool) -> bool:
    """Whether any of all workers says so; each has to ask at the same point of its work."""
    if num_workers(strategy) == 1:
        return says_so
    votes = strategy.run(lambda vote: vote, (tf.constant(float(says_so)),))
    return float(strategy.reduce("sum", votes, axis=None)) > 0


def total_over_replicas(values: Any) -> Any:
    """The sum of a tensor, or of each of several, over all replicas; to be called in each."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def distribute(
    strategy: tf.distribute.Strategy,
    batches_of: Callable[[int, int], tf.data.Dataset],
) -> Any:
    """A data set of which every replica is given its part.

    Args:
        strategy: Who trains.
        batches_of: Of the number of workers and the index of one, its batches, each of which is for
            one replica.
    """
    return strategy.distribute_datasets_from_function(
        lambda context: batches_of(context.num_input_pipelines, context.input_pipeline_id)
    )


@contextlib.contextmanager
def checkpoint_folder(strategy: tf.distribute.Strategy, logdir: str) -> Iterator[str]:
    """Yields where this process saves: all workers save together, and one of them for good."""
    if is_chief(strategy):
        yield logdir
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@contextlib.contextmanager
def lost_worker_reported(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns TensorFlow's errors where another worker is gone into one that says so.

    Raises:
        ConnectionError: Another worker is gone.
    """
    try:
        yield
    except LOST_WORKER_ERRORS as error:
        if num_workers(strategy) == 1:
            raise
        raise ConnectionError(
            f"Another worker is gone ({error.message.splitlines()[0]}). Start all workers "
            "again with the same command: training goes on from the last checkpoint."
        ) from error


def _devices(count: int | None) -> list[str]:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and (count or 0) > len(gpus):
        raise ValueError(f"--num_clones={count}, but there are {len(gpus)} GPUs")
    if gpus:
        return [f"GPU:{index}" for index in range(count or len(gpus))]
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count or 1)]
    tf.config.set_logical_device_configuration(cpu, parts)
    return [f"CPU:{index}" for index in range(len(parts))]


def _check_cluster(config: str | None) -> None:
    """Raises ValueError if TF_CONFIG does not say who the workers are."""
    example = (
        '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
        '"task": {"type": "worker", "index": 0}}, with another index on each host'
    )
    if not config:
        raise ValueError(
            f"--strategy=multi_worker needs the environment variable TF_CONFIG: {example}"
        )
    try:
        fields = json.loads(config)
        workers = fields["cluster"]["worker"]
        task = fields["task"]
        known = task["type"] in fields["cluster"] and (
            0 <= task["index"] < len(fields["cluster"][task["type"]])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"TF_CONFIG is {config}; expected {example}") from error
    if not known or not workers:
        raise ValueError(f"TF_CONFIG's task {task} is none of its cluster {fields['cluster']}")

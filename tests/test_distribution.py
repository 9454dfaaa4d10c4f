"""However many devices or workers share a run, and however it is ended, it is the same run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training import distribution
from tests import tiny_run
from tests.datasets.conftest import ROOT

STEPS = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tfrecord"
    tiny_run.write_dataset(folder)
    return str(folder)


@pytest.fixture(scope="module")
def start(data):
    """A function that starts runs, one after the other, in a process of their own.

    A run is its folder and options. Processes cost more than runs. All are ended in the end.
    """
    processes = []

    def start_runs(*runs, tf_config=None, **process_options):
        losses = [f"{run[0]}.{len(processes)}.{i}.json" for i, run in enumerate(runs)]
        arguments = process_options | {
            "runs": [
                {"data": data, "logdir": str(logdir), "losses": path, **options}
                for (logdir, options), path in zip(runs, losses, strict=True)
            ]
        }
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        if tf_config is not None:
            environment["TF_CONFIG"] = json.dumps(tf_config)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.distributed_run", json.dumps(arguments)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        process.losses = losses
        processes.append(process)
        return process

    yield start_runs
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def start_workers(start, *runs, **process_options):
    """Two workers on this machine."""
    ports = []
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return [
        start(
            *runs,
            tf_config={"cluster": cluster, "task": {"type": "worker", "index": index}},
            strategy="multi_worker",
            **process_options,
        )
        for index in range(2)
    ]


def finished(process):
    """What a run printed, when it has ended in order."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def losses_of(process):
    """Of each run of a process."""
    if process.poll() is None:
        finished(process)
    return [json.loads(Path(path).read_text()) for path in process.losses]


def stored(logdir, step=STEPS):
    reader = tf.train.load_checkpoint(str(logdir / f"model.ckpt-{step}"))
    names = [name for name in reader.get_variable_to_shape_map() if name[0] not in "_s"]
    return {name: reader.get_tensor(name) for name in names}


def wait_for_checkpoint(logdir, process):
    deadline = time.monotonic() + 200
    while not (logdir / "checkpoint").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.01)


# Frozen statistics; clipped, so that the length of the whole gradient counts.
FROZEN = {"fine_tune_batch_norm": False, "clip_gradient_norm": 0.05, "dice_weight": 0.5}
IN_PARTS = FROZEN | {"gradient_accumulation_steps": 2}


@pytest.fixture(scope="module")
def on_one_device(start, tmp_path_factory):
    """Folders and losses of three runs: as it is, frozen, and frozen in parts of a batch."""
    place = tmp_path_factory.mktemp("one_device")
    runs = [(place / "run", {}), (place / "frozen", FROZEN), (place / "parts", IN_PARTS)]
    losses = losses_of(start(*runs))
    return [(logdir, of_run) for (logdir, _), of_run in zip(runs, losses, strict=True)]


@pytest.fixture(scope="module")
def alone(on_one_device):
    """Losses and folder of the run on one device."""
    logdir, losses = on_one_device[0]
    assert len(losses) == STEPS
    assert losses[-1] < 0.6 * losses[0], "it has to learn, or all runs would agree"
    return losses, logdir


def test_devices_that_share_a_batch_change_nothing(start, alone, tmp_path):
    losses, logdir = alone
    (shared,) = losses_of(start((tmp_path / "run", {}), strategy="mirrored", devices=4))
    np.testing.assert_allclose(shared, losses, rtol=0, atol=1e-5)
    weights, expected = stored(tmp_path / "run"), stored(logdir)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_workers_that_share_a_batch_change_nothing(start, alone, tmp_path):
    losses, logdir = alone
    for worker in start_workers(start, (tmp_path / "run", {})):
        (shared,) = losses_of(worker)
        np.testing.assert_allclose(shared, losses, rtol=0, atol=1e-5)
    for name, value in stored(logdir).items():
        found = stored(tmp_path / "run")[name]
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-5, err_msg=name)
    # One of them writes.
    assert sorted(path.name for path in (tmp_path / "run").glob("model.ckpt*.index")) == [
        "model.ckpt-10.index",
        "model.ckpt-20.index",
    ]


def test_accumulated_gradients_are_those_of_the_whole_batch(start, on_one_device, tmp_path):
    """On one device and on two."""
    _, (_, whole), (_, parts) = on_one_device
    (of_two,) = losses_of(start((tmp_path / "parts", IN_PARTS), strategy="mirrored", devices=2))
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(of_two, whole, rtol=0, atol=1e-5)


def test_a_worker_that_dies_ends_the_others_and_all_can_go_on(start, alone, tmp_path):
    logdir = tmp_path / "run"
    first, second = start_workers(start, (logdir, {"save": 5}), seconds=0.3)
    wait_for_checkpoint(logdir, first)
    second.send_signal(signal.SIGKILL)
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == 1, printed
    assert "Another worker is gone" in printed
    assert "with the same command" in printed

    again = [losses_of(worker)[0] for worker in start_workers(start, (logdir, {}))]
    losses, _ = alone
    assert again[0] == again[1]
    assert len(again[0]) in (5, 10, 15)
    np.testing.assert_allclose(again[0], losses[-len(again[0]) :], rtol=0, atol=1e-5)


def test_sigterm_saves_and_ends_in_order(start, alone, tmp_path):
    logdir = tmp_path / "run"
    process = start((logdir, {"save": 3}), seconds=0.2)
    wait_for_checkpoint(logdir, process)
    process.send_signal(signal.SIGTERM)
    printed = finished(process)
    assert "the same command goes on from there" in printed
    losses, whole = alone
    (again,) = losses_of(start((logdir, {})))
    assert 0 < len(again) < STEPS - 3
    assert again == losses[-len(again) :]
    for name, value in stored(whole).items():
        np.testing.assert_array_equal(stored(logdir)[name], value, err_msg=name)


def test_sigterm_to_one_worker_ends_all(start, tmp_path):
    logdir = tmp_path / "run"
    workers = start_workers(start, (logdir, {"save": 3}), seconds=0.3)
    wait_for_checkpoint(logdir, workers[0])
    workers[1].send_signal(signal.SIGTERM)
    said = [finished(worker) for worker in workers]
    assert "Stopped after step" in said[0]
    newest = tf.train.latest_checkpoint(str(logdir))
    assert 3 < int(newest.rpartition("-")[2]) < STEPS


def test_workers_stop_early_together(start, alone, tmp_path):
    """Only one of them validates. They stay ended, and with more patience both go on."""
    logdir = tmp_path / "run"
    options = {"val_interval": 2, "wrong": [500, 100, 200, 300, 50, 60, 70], "patience": 2}
    more_patience = options | {"wrong": [400], "patience": 3}
    losses, _ = alone
    workers = start_workers(start, (logdir, options), (logdir, options), (logdir, more_patience))
    said = [finished(worker) for worker in workers]
    for worker in workers:
        stopped, again, longer = losses_of(worker)
        np.testing.assert_allclose(stopped, losses[:8], rtol=0, atol=1e-5)
        assert again == []
        np.testing.assert_allclose(longer, losses[8:10], rtol=0, atol=1e-5)
    assert said[0].count("Stopped early after step 8") == 2
    assert "Stopped early" not in said[1]
    assert tf.train.latest_checkpoint(str(logdir)) == str(logdir / "model.ckpt-10")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "needs the environment variable TF_CONFIG"),
        ("{", "TF_CONFIG is {; expected"),
        ('{"cluster": {"worker": ["a:1"]}}', "expected"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "is none of its cluster",
        ),
    ],
)
def test_a_wrong_tf_config_says_what_is_expected(monkeypatch, config, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=message):
        distribution.build_strategy("multi_worker")


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="'horovod'; expected one_device, mirrored"):
        distribution.build_strategy("horovod")

"""Watching a folder of checkpoints: which are taken up, and the ways it ends."""

import os
import signal
import threading
import time

import pytest

from deeplab_tf.evaluation import new_checkpoints
from deeplab_tf.evaluation.new_checkpoints import Stopped, step_of, stopped_by_sigterm


class Run:
    """A training run whose clock is that of the test; it sleeps when the evaluation does.

    Args:
        appear: Time at which each checkpoint is there, by its step.
    """

    def __init__(self, monkeypatch, appear):
        self.now, self.appear = 0.0, appear
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.pass_time)
        self.said = []

    def pass_time(self, seconds):
        self.now += seconds

    def locate(self):
        steps = [step for step, at in self.appear.items() if at <= self.now]
        if not steps:
            raise FileNotFoundError("There is no checkpoint at run")
        return f"run/model.ckpt-{max(steps)}"

    def watched(self, *, takes=1.0, **options):
        """Steps that are evaluated, each of which takes a time, and when."""
        options = {"interval_secs": 10, "timeout_secs": 100, "wanted": 0, **options}
        options.setdefault("is_last", lambda checkpoint: False)
        seen = []
        for checkpoint in new_checkpoints.new_checkpoints(
            self.locate, say=self.said.append, **options
        ):
            seen.append((step_of(checkpoint), self.now))
            self.pass_time(takes)
        return seen


def test_each_newest_checkpoint_is_taken_up_once(monkeypatch):
    """Those that appear while another one is evaluated, but the last of them, are passed over."""
    run = Run(monkeypatch, {1: 0, 2: 5, 3: 8, 4: 40})
    assert run.watched() == [(1, 0), (3, 10), (4, 40)]
    assert run.now == pytest.approx(40 + 10 + 100, abs=3)
    assert "No new checkpoint for 100 seconds" in run.said[-1] and "3 evaluated" in run.said[-1]
    assert sum("Waiting for a checkpoint after model.ckpt-3" in line for line in run.said) == 1


def test_it_ends_with_the_last_checkpoint_of_the_run(monkeypatch):
    run = Run(monkeypatch, {10: 0, 20: 30, 30: 60})
    seen = run.watched(is_last=lambda checkpoint: step_of(checkpoint) >= 20)
    assert [step for step, _ in seen] == [10, 20]
    assert run.now < 40 and "is the last one of the run" in run.said[-1]


@pytest.mark.parametrize("at", [20.5, 100])
def test_it_ends_when_a_checkpoint_turns_out_to_be_the_last(monkeypatch, at):
    """Between two evaluations, or in a wait for another checkpoint."""
    run = Run(monkeypatch, {10: 0, 20: 5})
    ended = lambda checkpoint: run.now >= at and step_of(checkpoint) == 20  # noqa: E731
    seen = run.watched(interval_secs=15, timeout_secs=1000, is_last=ended)
    assert [step for step, _ in seen] == [10, 20]
    assert run.now == pytest.approx(at, abs=1.01)
    assert "model.ckpt-20 is the last one of the run" in run.said[-1]


def test_it_ends_after_as_many_as_are_wanted(monkeypatch):
    run = Run(monkeypatch, {10: 0, 20: 30, 30: 60})
    assert len(run.watched(wanted=2)) == 2
    assert run.now < 40


def test_it_waits_for_the_first_checkpoint_but_not_for_ever(monkeypatch):
    run = Run(monkeypatch, {10: 50})
    assert run.watched(wanted=1) == [(10, 50)]
    assert run.said == ["Waiting: There is no checkpoint at run"]
    run = Run(monkeypatch, {})
    assert run.watched() == [] and run.now == pytest.approx(100, abs=3)


def test_without_a_time_it_goes_on(monkeypatch):
    run = Run(monkeypatch, {10: 0, 20: 1e5})
    assert [step for step, _ in run.watched(timeout_secs=0, wanted=2)] == [10, 20]


def test_a_long_evaluation_is_not_followed_by_a_wait(monkeypatch):
    run = Run(monkeypatch, {10: 0, 20: 20})
    assert run.watched(takes=30, wanted=2) == [(10, 0), (20, 30)]


def test_sigterm_ends_a_wait_at_once():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before, started = signal.getsignal(signal.SIGTERM), time.monotonic()
    with pytest.raises(Stopped), stopped_by_sigterm():
        time.sleep(20)
    assert time.monotonic() - started < 5
    assert signal.getsignal(signal.SIGTERM) == before


def test_steps():
    assert step_of("run-7/model.ckpt-1200") == 1200
    assert step_of("run-7/model.ckpt") is None

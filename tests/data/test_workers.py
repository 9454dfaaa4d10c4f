import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeplab_tf.data.workers import run_tasks


def square(number):
    return number * number, os.getpid()


def refuse(number):
    raise ValueError(f"number {number}")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_task_is_done_once(num_workers):
    done = list(run_tasks(square, iter(range(40)), num_workers=num_workers))
    assert sorted(result for result, _ in done) == [number**2 for number in range(40)]
    assert (os.getpid() in {process for _, process in done}) == (num_workers == 1)


def test_tasks_are_taken_only_as_workers_need_them():
    taken = []
    tasks = (taken.append(number) or number for number in range(1000))
    results = run_tasks(square, tasks, num_workers=2)
    next(results)
    assert len(taken) < 20
    results.close()


def test_an_error_reaches_the_caller():
    with pytest.raises(ValueError, match="number 3"):
        list(run_tasks(refuse, [3], num_workers=2))


def test_a_killed_worker_is_an_error_with_its_likely_cause():
    with pytest.raises(ChildProcessError, match=r"memory ran out.*--num_workers=2"):
        list(run_tasks(die, [1], num_workers=2))


PARENT = """
import os, time
from deeplab_tf.data.workers import run_tasks
def wait(folder):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(300)
if __name__ == "__main__":
    list(run_tasks(wait, [FOLDER] * 2, num_workers=2))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    folder = tmp_path / "pids"
    folder.mkdir()
    script.write_text(PARENT.replace("FOLDER", repr(str(folder))))
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": root})
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    parent.kill()
    parent.wait()
    workers = [int(path.name) for path in folder.iterdir()]
    wait_until(lambda: not any(map(is_running, workers)))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)

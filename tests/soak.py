"""Kills a training run again and again, and compares where it ends with an undisturbed run.

    python -m tests.soak [--kills=10] [--steps=400] [--seed=0]

Each kill is SIGKILL after a random time, also while a checkpoint is written. The same command goes
on each time. In the end everything in the last checkpoint must be the same, bit for bit.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tests import tiny_run

ROOT = Path(__file__).parent.parent


def start(place: Path, name: str, steps: int) -> subprocess.Popen:
    options = {
        "data": str(place / "data"),
        "logdir": str(place / name),
        "losses": str(place / f"{name}.json"),
        "save": 5,
        "steps": steps,
        "small": False,
    }
    command = [sys.executable, "-m", "tests.distributed_run", json.dumps({"runs": [options]})]
    with (place / f"{name}.log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def finish(process: subprocess.Popen, log: Path) -> None:
    if process.wait() != 0:
        raise SystemExit(f"a run failed:\n{log.read_text()[-3000:]}")


def stored(folder: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder))
    names = [name for name in reader.get_variable_to_shape_map() if name[0] not in "_s"]
    return {name: reader.get_tensor(name) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills a training run again and again.")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tiny_run.write_dataset(place / "data")
        finish(start(place, "whole", options.steps), place / "whole.log")
        reached = []
        for _ in tqdm(range(options.kills), unit="kill"):
            process = start(place, "killed", options.steps)
            try:
                process.wait(rng.uniform(4, 16))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            latest = tf.train.latest_checkpoint(str(place / "killed"))
            reached.append(latest.rpartition("-")[2] if latest else "0")
        finish(start(place, "killed", options.steps), place / "killed.log")
        whole, killed = stored(place / "whole"), stored(place / "killed")
        if whole.keys() != killed.keys():
            raise SystemExit("the checkpoints hold other variables")
        differing = [name for name in whole if not np.array_equal(whole[name], killed[name])]
    print(f"killed with checkpoints of the steps {', '.join(reached)}")
    if differing:
        raise SystemExit(f"{len(differing)} of {len(whole)} variables differ: {differing[:5]}")
    print(f"all {len(whole)} variables are those of the undisturbed run")


if __name__ == "__main__":
    main()

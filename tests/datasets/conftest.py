"""Runs the converter scripts as a user does."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from deeplab_tf.cli import conversion

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load_script():
    """A function that imports datasets/<name>.py; its flags are forgotten afterwards."""
    known = set(flags.FLAGS)

    def forget_flags():
        for flag in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()

    def load(name):
        forget_flags()
        path = ROOT / f"datasets/{name}.py"
        spec = importlib.util.spec_from_file_location(f"{name}_under_test", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    forget_flags()


@pytest.fixture
def script(load_script):
    """A function that runs a script in this process: start-up would take most of the time."""

    def run(name, **values):
        module = load_script(name)
        flags.FLAGS([name, *[f"--{flag}={value}" for flag, value in values.items()]])
        conversion.checked(module.main)([name])

    return run


@pytest.fixture
def script_process():
    """A function that runs a script as a command; returns the finished process."""

    def run(name, **values):
        arguments = [f"--{flag}={value}" for flag, value in values.items()]
        return subprocess.run(
            [sys.executable, f"datasets/{name}.py", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run

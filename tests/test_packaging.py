"""The project's own files: requirements, lint rules, Makefile and package list."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "deeplab_tf"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def banned_lines(source: str, filename: str) -> list[int]:
    """Lines of `source` that break the banned-api rule if it stood in `filename`."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=json"]
    result = subprocess.run(
        [*command, f"--stdin-filename={filename}", "-"],
        input=source,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    findings = json.loads(result.stdout)
    return [f["location"]["row"] for f in findings if f["code"] == "TID251"]


def imported_names(path: Path) -> set[str]:
    """Dotted names of everything a module imports, at any depth of nesting."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_requirements_and_pyproject_agree():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = [line.partition("#")[0].strip() for line in lines]
    requirements = [line for line in requirements if line]
    assert requirements == [*PYPROJECT["project"]["dependencies"], "-e ."]


BANNED_IN_MODEL_CODE = """\
import tensorflow as tf
from tensorflow.io import gfile
from absl import flags
def build():
    import tensorflow
    from absl.flags import FLAGS
"""


@pytest.mark.parametrize("filename", ["layers.py", "backbones/new.py", "crf/dense.py"])
def test_model_code_may_import_neither_tensorflow_nor_flags(filename):
    found = banned_lines(BANNED_IN_MODEL_CODE, f"deeplab_tf/{filename}")
    assert found == [1, 2, 3, 5, 6]


@pytest.mark.parametrize(
    ("statement", "filename"),
    [
        ("import tensorflow as tf", "deeplab_tf/data/new.py"),
        ("import tensorflow as tf", "deeplab_tf/export/serving.py"),
        ("import tensorflow as tf", "deeplab_tf/crf/graph.py"),
        ("from absl import flags", "deeplab_tf/cli/new.py"),
        ("from absl import flags", "datasets/build_new_data.py"),
        ("import keras\nfrom absl import logging", "deeplab_tf/deeplab.py"),
    ],
)
def test_the_places_that_need_them_may(statement, filename):
    assert banned_lines(statement, filename) == []


def test_only_cli_reads_flags_and_it_needs_no_tensorflow():
    # ruff excuses cli/ and the TensorFlow modules from both bans at once.
    modules = sorted(PACKAGE.rglob("*.py"))
    flag_readers = [path for path in modules if "absl.flags" in imported_names(path)]
    assert {path.relative_to(PACKAGE).parts[0] for path in flag_readers} == {"cli"}
    imported = set().union(*map(imported_names, (PACKAGE / "cli").rglob("*.py")))
    assert not [name for name in imported if name.split(".")[0] == "tensorflow"]


def test_the_package_knows_its_weights_when_asked():
    program = "import deeplab_tf; print(deeplab_tf.weights.load_tf1_checkpoint.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "load_tf1_checkpoint\n", done.stderr


def test_makefile_has_the_promised_targets():
    targets = ["help", "demo", "test", "slow", "soak", "golden", "fuzz", "bench"]
    targets += ["check", "format", "clean"]
    command = ["make", "--dry-run", *targets]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr


def test_every_folder_with_code_is_in_the_wheel():
    include = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = setuptools.find_packages(str(ROOT), include=include)
    folders = {path.parent.relative_to(ROOT) for path in PACKAGE.rglob("*.py")}
    assert sorted(packages) == sorted(".".join(folder.parts) for folder in folders)

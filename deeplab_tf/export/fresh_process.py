"""Every reader of exported files, each in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from deeplab_tf.export import reader as script

CLIENT = Path(__file__).with_name("saved_model_client.c")


class NotRunError(Exception):
    """A reader that is not here; why."""


class Reader(NamedTuple):
    """One reader.

    Attributes:
        name: Its name.
        run: From an artefact, images, each [h, w, c], and a folder for files, to
            "<i>/SemanticPredictions" [1, h, w] and, if the artefact has them,
            "<i>/SemanticProbabilities" [1, h, w, classes] of image i, and "milliseconds", the times
            of the first. Raises `NotRunError`, or RuntimeError if the reader ends with an error.
    """

    name: str
    run: Callable[[str, Sequence[np.ndarray], Path], dict[str, np.ndarray]]


def readers_of(path: str) -> list[Reader]:
    """What can read an artefact, by its name.

    Raises:
        ValueError: Nothing can.
    """
    names = {".pb": ["frozen"], ".tflite": ["litert"], ".onnx": ["onnx"]}
    if os.path.isdir(path):
        return [*map(_python_reader, ("tf2", "tf1")), Reader("C API", _run_c_api)]
    suffix = Path(path).suffix
    if suffix not in names:
        raise ValueError(
            f"--verify: {path} is no SavedModel folder and ends in none of {', '.join(names)}."
        )
    return [_python_reader(name) for name in names[suffix]]


def _python_reader(name: str) -> Reader:
    def run(path: str, images: Sequence[np.ndarray], folder: Path) -> dict[str, np.ndarray]:
        inputs, results = folder / "images.npz", folder / f"{name}.npz"
        np.savez(inputs, **{str(i): image[None] for i, image in enumerate(images)})  # type: ignore[arg-type]
        _fresh_process(name, path, str(inputs), str(results))
        with np.load(results) as arrays:
            return dict(arrays)

    return Reader(name, run)


def describe(path: str, name: str) -> dict[str, Any]:
    """The "size" of images that an artefact wants, None for any, and whether it is "int8"."""
    if os.path.isdir(path) or path.endswith(".pb"):
        return {"size": None, "int8": False}
    return json.loads(_fresh_process(name, path, "describe").splitlines()[-1])


def _fresh_process(*arguments: str) -> str:
    command = [sys.executable, "-I", script.__file__, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    words = (ended.stderr.strip().splitlines() or ["no message"])[-1]
    if ended.returncode == script.NOT_INSTALLED:
        raise NotRunError(f"not installed: {words}")
    if ended.returncode:
        raise RuntimeError(f"exit code {ended.returncode}: {words}")
    return ended.stdout


def _run_c_api(path: str, images: Sequence[np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """The nearest thing to TensorFlow Serving that runs where only the wheel is installed."""
    program = compile_client(CLIENT, folder)
    signature = _signature(path)
    outputs = ("SemanticPredictions", "SemanticProbabilities")
    tensors = [signature.inputs["ImageTensor"].name, *(signature.outputs[n].name for n in outputs)]
    batches = [*images, *[images[0]] * script.RUNS]
    classes = signature.outputs[outputs[1]].tensor_shape.dim[-1].size
    ended = subprocess.run(
        [
            *(program, path, *tensors, str(images[0].shape[-1]), str(images[0].itemsize)),
            *(str(side) for image in batches for side in (1, *image.shape[:2])),
        ],
        input=b"".join(image.tobytes() for image in batches),
        capture_output=True,
    )
    if ended.returncode:
        words = ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise RuntimeError(f"exit code {ended.returncode}: {words[-1]}")
    results: dict[str, np.ndarray] = {}
    milliseconds, at = [], 0
    for i, image in enumerate(batches):
        pixels = image.shape[0] * image.shape[1]
        labels = np.frombuffer(ended.stdout, np.int32, pixels, at)
        floats = np.frombuffer(ended.stdout, np.float32, pixels * classes, at + labels.nbytes)
        at += labels.nbytes + floats.nbytes
        milliseconds.append(np.frombuffer(ended.stdout, np.float64, 1, at)[0])
        at += 8
        results[f"{i}/{outputs[0]}"] = labels.reshape(1, *image.shape[:2])
        results[f"{i}/{outputs[1]}"] = floats.reshape(1, *image.shape[:2], classes)
    return {**results, "milliseconds": np.array(milliseconds[len(images) :])}


def compile_client(source: Path, folder: Path) -> Path:
    """Compiles a client of the C API, such as `CLIENT`, and returns the program."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    library = Path(tf.sysconfig.get_lib())
    parts = [library / f"libtensorflow_{part}.so.2" for part in ("cc", "framework")]
    if compiler is None:
        raise NotRunError("no C compiler")
    if not all(part.exists() for part in parts):
        raise NotRunError(f"no {parts[0].name} in this TensorFlow")
    program = folder / source.stem
    # GNU ld takes five times as long over the library's 1.1 GB; not every system has gold.
    linker = ["-fuse-ld=gold"] if shutil.which("ld.gold") else []
    command: list[Any] = [compiler, "-Wall", "-Werror", *linker, "-o", program, source]
    command += [
        "-I",
        tf.sysconfig.get_include(),
        "-I",
        CLIENT.parent,
        f"-Wl,-rpath,{library}",
        *parts,
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{compiler}: {ended.stderr.strip()}")
    return program


def _signature(path: str) -> Any:
    saved_model = saved_model_pb2.SavedModel.FromString(
        (Path(path) / "saved_model.pb").read_bytes()
    )
    return saved_model.meta_graphs[0].signature_def["serving_default"]

"""Reads an exported network with nothing of this package, in a process of its own.

usage: python -I reader.py READER ARTEFACT describe
       python -I reader.py READER ARTEFACT IMAGES RESULTS

The first prints what the input of the artefact is, as JSON; the second runs the network on each
array of the file IMAGES, [1, h, w, c], and writes what it returns, with the times, to RESULTS. A
package that is missing ends it with exit code 3.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

NOT_INSTALLED = 3
THREADS = 2
RUNS = 5  # of the first image, after all, for the time that it takes
_LABELS, _PROBABILITIES = "SemanticPredictions", "SemanticProbabilities"

Results = dict[str, np.ndarray]
# Images to outputs by name, and what the network is: the size of its images, whether weights are in
# 8 bits and, of files that may lack some, the names of its outputs.
Loaded = tuple[Callable[[np.ndarray], Results], dict[str, Any]]
_ANY: dict[str, Any] = {"size": None, "int8": False}


def load_tf2(path: str) -> Loaded:
    """A SavedModel, as TensorFlow 2 loads it."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # kept, or its variables would be gone
    served = loaded.signatures["serving_default"]

    def call(images: np.ndarray, loaded: Any = loaded) -> Results:
        outputs = served(ImageTensor=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}

    return call, _ANY


def load_tf1(path: str) -> Loaded:
    """A SavedModel in a session of TensorFlow 1."""
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], path)
    signature = loaded.signature_def["serving_default"]
    fetches = {name: signature.outputs[name].name for name in (_LABELS, _PROBABILITIES)}
    feed = signature.inputs["ImageTensor"].name
    return lambda images: session.run(fetches, {feed: images}), _ANY


def load_frozen(path: str) -> Loaded:
    """A frozen graph in a session of TensorFlow 1."""
    import tensorflow as tf

    with open(path, "rb") as file:
        graph_def = tf.compat.v1.GraphDef.FromString(file.read())
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        tf.import_graph_def(graph_def, name="")
    fetches = {name: f"{name}:0" for name in (_LABELS, _PROBABILITIES)}
    return lambda images: session.run(fetches, {"ImageTensor:0": images}), _ANY


def load_litert(path: str, threads: int = THREADS) -> Loaded:
    """A LiteRT file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    (image,) = interpreter.get_input_details()
    size = [int(side) for side in image["shape_signature"][1:3]]
    types = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    runner = interpreter.get_signature_runner("serving_default")
    about = {
        "size": None if -1 in size else size,
        "int8": np.int8 in types,
        "outputs": list(runner.get_output_details()),
    }
    return lambda images: runner(ImageTensor=images), about


def load_onnx(path: str, threads: int = THREADS) -> Loaded:
    """An ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    size = session.get_inputs()[0].shape[1:3]
    about = {
        "size": size if all(isinstance(side, int) for side in size) else None,
        "int8": False,
        "outputs": names,
    }
    return (
        lambda images: dict(zip(names, session.run(names, {"ImageTensor": images}), strict=True)),
        about,
    )


LOADERS = {
    "tf2": load_tf2,
    "tf1": load_tf1,
    "frozen": load_frozen,
    "litert": load_litert,
    "onnx": load_onnx,
}


def main(reader: str, artefact: str, images_file: str, results_file: str = "") -> None:
    """Describes an artefact, or runs it."""
    call, about = LOADERS[reader](artefact)
    if images_file == "describe":
        print(json.dumps(about))
        return
    results: Results = {}
    milliseconds = []
    with np.load(images_file) as images:
        for key in images:
            for name, value in call(images[key]).items():
                results[f"{key}/{name}"] = value
        first = images[next(iter(images))]
        for _ in range(RUNS):
            start = time.perf_counter()
            call(first)
            milliseconds.append(1e3 * (time.perf_counter() - start))
    results["milliseconds"] = np.array(milliseconds)
    np.savez(results_file, **results)  # type: ignore[arg-type]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)

"""Measures what is exported against DeepLabs of PyTorch and Keras, in one run.

    python -m benchmarks.inference --peer_python=... [--keras_hub_python=...] [--only=resnet_v1_50]

The networks are DeepLabv3+ (`benchmarks.networks`) with random weights, on one image, on all cores:
of 512x512 for the peers, some of which refuse 513x513, and of 513x513 for us. Ours are what
`export_model.py` writes: a SavedModel, whose signature "logits" is called, LiteRT files in float32
and int8, and an ONNX file, which end in labels. segmentation-models-pytorch (smp) as it is, in
channels_last, and keras-hub's ResNet-50, compiled, whose output stride is 32, end in logits of the
same size; smp by ONNX Runtime ends in labels. Python interpreters that have the peers are named by
flags; a peer that is not there costs its rows.

All take turns after ten calls of warm-up; of each, the best median of a turn counts, because the
machine has slow moments.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks.comparison import Comparison, print_table
from benchmarks.networks import (
    DATASET,
    MOBILENET_V2,
    RESNET_50,
    RESNET_101,
    XCEPTION_65,
    Network,
    card_of,
)
from benchmarks.peer import Peer, start
from deeplab_tf import build_deeplab
from deeplab_tf.export import export_saved_model
from deeplab_tf.export.litert import export_litert
from deeplab_tf.export.onnx import export_onnx
from deeplab_tf.export.reader import load_onnx

SIZE, PEER_SIZE = 513, 512
WARM_UP, CALLS = 10, 7  # calls in a turn

Timer = Callable[[int], list[float]]


class Limit(NamedTuple):
    """What ours may take of a peer's time; of several forms the quickest."""

    network: Network
    ours: tuple[str, ...]
    peer: str
    ratio: float


LIMITS = (
    Limit(MOBILENET_V2, ("SavedModel",), "smp", 0.75),
    Limit(MOBILENET_V2, ("LiteRT fp32",), "smp, ONNX Runtime", 0.87),
    Limit(MOBILENET_V2, ("LiteRT int8",), "smp, ONNX Runtime", 0.35),
    Limit(RESNET_50, ("SavedModel",), "smp", 0.82),
    Limit(RESNET_50, ("LiteRT fp32", "ONNX"), "smp, ONNX Runtime", 1.0),
    Limit(RESNET_50, ("LiteRT int8",), "smp, ONNX Runtime", 0.35),
    Limit(RESNET_50, ("SavedModel",), "keras-hub", 0.65),
    Limit(RESNET_101, ("SavedModel",), "smp", 0.78),
    Limit(XCEPTION_65, ("SavedModel",), "smp", 0.65),
    Limit(XCEPTION_65, ("LiteRT fp32",), "smp, ONNX Runtime", 0.96),
)
NETWORKS = tuple(dict.fromkeys(limit.network for limit in LIMITS))


def timer(call: Callable[[], Any]) -> Timer:
    """A function that measures a call so many times, in seconds."""

    def measure(times: int) -> list[float]:
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds

    return measure


def saved_model(path: Path, image: np.ndarray) -> Callable[[], Any]:
    """Calls a SavedModel's logits."""
    loaded = tf.saved_model.load(str(path))
    logits, images = loaded.signatures["logits"], tf.constant(image)

    def call() -> Any:
        _ = loaded  # which owns what the signature uses
        return logits(ImageTensor=images)["logits"].numpy()

    return call


def litert(path: Path, image: np.ndarray) -> Callable[[], Any]:
    """Calls a LiteRT file."""
    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]

    def call() -> None:
        interpreter.set_tensor(index, image)
        interpreter.invoke()

    return call


def with_statistics(model: keras.Model, rng: np.random.Generator) -> keras.Model:
    """The model with batch norms as training leaves them.

    New ones fold into biases of zero. TensorFlow leaves those out, and then does not see what it
    makes one operation of in a trained network: convolution, bias and activation.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def our_timers(network: Network, folder: Path, wanted: set[str]) -> dict[str, Timer]:
    """Exports a network in the forms that are wanted."""
    card = card_of(network, size=SIZE)
    rng = np.random.default_rng(0)
    model = with_statistics(build_deeplab(card.model), rng)
    image = rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    timers = {}
    if "SavedModel" in wanted:
        export_saved_model(model, card, export_path=folder / "model")
        timers["SavedModel"] = timer(saved_model(folder / "model", image))
    for precision in ("fp32", "int8"):
        if (name := f"LiteRT {precision}") in wanted:
            path = folder / f"{precision}.tflite"
            export_litert(
                model,
                card,
                export_path=path,
                size=(SIZE, SIZE),
                precision=precision,
                representative_images=[image[0]] if precision == "int8" else (),
                probabilities=False,
            )
            timers[name] = timer(litert(path, image))
    if "ONNX" in wanted:
        path = folder / "model.onnx"
        export_onnx(model, card, export_path=path, size=(SIZE, SIZE), probabilities=False)
        call, _ = load_onnx(str(path), threads=os.cpu_count())
        timers["ONNX"] = timer(partial(call, image))
    return timers


def smp_timers(network: Network, peer: Peer) -> dict[str, Timer]:
    """Asks smp's process."""

    def asks(run: str) -> Timer:
        question = {
            "run": run,
            "encoder": network.encoder,
            "num_classes": DATASET.num_classes,
            "size": PEER_SIZE,
            "batch_size": 1,
        }
        return lambda times: peer.ask({**question, "times": times})["seconds"]

    return {"smp": asks("eager"), "smp, ONNX Runtime": asks("onnx")}


def comparisons(
    networks: tuple[Network, ...], smp: Peer | None, keras_hub: Peer | None, turns: int
) -> Iterator[Comparison]:
    """Measures the networks one after the other, each in turns with its peers."""
    for network in networks:
        theirs = {} if smp is None else smp_timers(network, smp)
        if keras_hub is not None:
            theirs["keras-hub"] = keras_hub.ask
        limits = [x for x in LIMITS if x.network == network and x.peer in theirs]
        with tempfile.TemporaryDirectory() as folder:
            wanted = {name for limit in limits for name in limit.ours}
            timers = {
                **our_timers(network, Path(folder), wanted),
                **{name: theirs[name] for name in {limit.peer for limit in limits}},
            }
            for measure in timers.values():
                measure(WARM_UP)
            medians = dict.fromkeys(timers, math.inf)
            for _ in range(turns):
                for name, measure in timers.items():
                    medians[name] = min(medians[name], statistics.median(measure(CALLS)))
        for limit in limits:
            quickest = min(limit.ours, key=medians.__getitem__)
            yield Comparison(
                f"{network.model_variant}, {quickest}",
                medians[quickest],
                limit.peer,
                medians[limit.peer],
                limit.ratio,
            )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measures exported networks against others.")
    parser.add_argument("--peer_python", default=sys.executable, help="Python that has smp.")
    parser.add_argument("--keras_hub_python", default=sys.executable, help="Python with keras_hub.")
    parser.add_argument("--turns", type=int, default=8, help="Turns of seven calls each.")
    parser.add_argument("--only", choices=[x.model_variant for x in NETWORKS], help="A network.")
    options = parser.parse_args()
    smp = start(options.peer_python, "torch_peer.py")
    keras_hub = start(options.keras_hub_python, "keras_hub_peer.py", str(PEER_SIZE))
    networks = tuple(x for x in NETWORKS if options.only in (None, x.model_variant))
    print_table(list(comparisons(networks, smp, keras_hub, options.turns)))
    for peer in filter(None, (smp, keras_hub)):
        peer.close()


if __name__ == "__main__":
    main()

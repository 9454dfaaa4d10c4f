"""The dense CRF against pydensecrf: ours on one and two threads, and as a TensorFlow graph.

    python -m benchmarks.crf
    python -m benchmarks.crf --image photo.jpg

Ten steps on a generated image and on a photograph, or noise with the spectrum of one, with
generated probabilities: the cost follows the number of lattice vertices, and with it the texture.
Everyone starts with an image and probabilities and ends with refined ones; they take turns in the
same process, because machines drift, and the medians count. The graph, on all cores, has its turns
after the others have had theirs: TensorFlow's threads stay busy for a while after each. pydensecrf
uses one thread.

pydensecrf's package holds C++ that does not compile on Python 3.11 and later; let Cython make it
anew:

    pip install "cython<3" "setuptools>=77,<81" wheel
    CYTHON_FORCE_REGEN=1 pip install --no-build-isolation pydensecrf==1.0rc3
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numba
import numpy as np
import tensorflow as tf

from benchmarks.input_pipeline import make_image
from deeplab_tf import crf
from deeplab_tf.crf.graph import dense_crf_graph

try:
    import pydensecrf.densecrf
    import pydensecrf.utils
except ImportError:
    pydensecrf = None

ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH, CLASSES = 375, 500, 21
SETTINGS = (crf.CRF_V2, crf.CRF_V1, crf.CRFParams(pos_w=3, pos_xy=3, bi_w=5, bi_xy=49, bi_rgb=4))
ROUNDS = 7

# Times pydensecrf's speed that we must reach on one thread and on two.
BIG_LIMITS, SMALL_LIMITS = (1.7, 2.8), (1.0, 1.0)

Refine = Callable[[np.ndarray, np.ndarray, crf.CRFParams], np.ndarray]


class Case(NamedTuple):
    name: str
    image: np.ndarray
    probabilities: np.ndarray
    params: crf.CRFParams
    limits: tuple[float, float]


def theirs(image: np.ndarray, probabilities: np.ndarray, params: crf.CRFParams) -> np.ndarray:
    height, width, classes = probabilities.shape
    model = pydensecrf.densecrf.DenseCRF2D(width, height, classes)
    planes = np.ascontiguousarray(probabilities.transpose(2, 0, 1))
    model.setUnaryEnergy(pydensecrf.utils.unary_from_softmax(planes))
    model.addPairwiseGaussian(sxy=params.pos_xy, compat=params.pos_w)
    model.addPairwiseBilateral(
        sxy=params.bi_xy, srgb=params.bi_rgb, rgbim=image, compat=params.bi_w
    )
    q = np.array(model.inference(params.iterations))
    return q.reshape(classes, height, width).transpose(1, 2, 0)


def ours(threads: int) -> Refine:
    def refine(image: np.ndarray, probabilities: np.ndarray, params: crf.CRFParams) -> np.ndarray:
        numba.set_num_threads(threads)
        return crf.dense_crf(image, probabilities, params)

    return refine


@tf.function(reduce_retracing=True)
def graph(images: tf.Tensor, probabilities: tf.Tensor, *settings: tf.Tensor) -> tf.Tensor:
    pos_w, pos_xy, bi_w, bi_xy, bi_rgb, iterations = settings
    return dense_crf_graph(
        images,
        probabilities,
        pos_w=pos_w,
        pos_xy=pos_xy,
        bi_w=bi_w,
        bi_xy=bi_xy,
        bi_rgb=bi_rgb,
        iterations=iterations,
    )


def in_tensorflow(
    image: np.ndarray, probabilities: np.ndarray, params: crf.CRFParams
) -> np.ndarray:
    settings = (params.pos_w, params.pos_xy, params.bi_w, params.bi_xy, params.bi_rgb)
    settings = tuple(float(setting) for setting in settings)
    batch = tf.constant(image[None]), tf.constant(probabilities[None])
    return graph(*batch, *settings, params.iterations)[0].numpy()


def make_cases(photo: np.ndarray, photo_name: str) -> list[Case]:
    path = ROOT / "tests" / "golden" / "crf" / "synth.py"
    spec = importlib.util.spec_from_file_location("synth", path)
    synth = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synth)
    image, probabilities = synth.make_case(HEIGHT, WIDTH, CLASSES, seed=7, noise=8.0)
    cases = [
        Case(name, pixels, probabilities, params, BIG_LIMITS)
        for name, pixels in (("generated", image), (photo_name, photo))
        for params in SETTINGS
    ]
    for height, width, classes in ((60, 80, 21), (60, 80, 2), (24, 32, 3)):
        pair = synth.make_case(height, width, classes, seed=2)
        cases += [Case("generated", *pair, params, SMALL_LIMITS) for params in SETTINGS]
    return cases


def measure(case: Case, contenders: dict[str, Refine]) -> dict[str, float]:
    """Median milliseconds of each contender, which must all come to the same result."""
    inputs = case.image, case.probabilities, case.params
    results = [refine(*inputs) for refine in contenders.values()]  # warms up, too
    for result in results[1:]:
        error = np.abs(result - results[0])
        assert np.quantile(error, 0.9999) < 1e-3, f"{case.name} {case.params}: {error.max()}"
    times = {name: [] for name in contenders}
    for group in ([name for name in contenders if name != "graph"], ["graph"]):
        time.sleep(0.2)
        for name in ROUNDS * group:
            start = time.perf_counter()
            contenders[name](*inputs)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def read_photo(path: str | None) -> tuple[np.ndarray, str]:
    """An RGB photograph at the size of the others, or noise with the spectrum of one."""
    if path is None:
        return make_image(np.random.default_rng(0)), "1/f noise"
    pixels = cv2.imread(path)
    if pixels is None:
        raise SystemExit(f"--image={path} is no image that OpenCV can read.")
    pixels = cv2.resize(pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels[..., ::-1]), "photograph"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image", help="a photograph; default: noise with the spectrum of one")
    cases = make_cases(*read_photo(parser.parse_args().image))
    crf.compile_kernels()
    cores = min(2, numba.config.NUMBA_NUM_THREADS)
    contenders = {"1 thread": ours(1), f"{cores} threads": ours(cores), "graph": in_tensorflow}
    if pydensecrf is None:
        print('pydensecrf is not installed: pip install "cython<3" "setuptools>=77,<81" wheel')
        print("CYTHON_FORCE_REGEN=1 pip install --no-build-isolation pydensecrf==1.0rc3")
    else:
        contenders = {"pydensecrf": theirs, **contenders}

    print(f"ms, median of {ROUNDS} rounds; in brackets times pydensecrf's speed, and what we want")
    print(f"{'':43}" + "".join(f"{name:>{20 if 'thr' in name else 12}}" for name in contenders))
    for case in cases:
        medians = measure(case, contenders)
        size = "x".join(map(str, case.probabilities.shape))
        numbers = (
            f"{case.params.pos_w:g},{case.params.pos_xy:g},{case.params.bi_w:g},"
            f"{case.params.bi_xy:g},{case.params.bi_rgb:g}"
        )
        line = f"{case.name:<12}{size:<13}{numbers:<18}"
        limits = dict(zip(("1 thread", "2 threads"), case.limits, strict=True))
        for name, median in medians.items():
            if name == "pydensecrf" or "pydensecrf" not in medians:
                line += f"{median:>{20 if 'thr' in name else 12}.1f}"
                continue
            ratio = medians["pydensecrf"] / median
            wanted = f" >{limits[name]}" if name in limits else ""
            line += f"{median:>{8 if wanted else 6}.1f} ({ratio:.2f}{wanted})"
        print(line, flush=True)


if __name__ == "__main__":
    main()

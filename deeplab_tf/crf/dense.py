"""The fully connected CRF that DeepLabv1 and v2 refine their predictions with."""

import functools
import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from deeplab_tf.config import CRF_V2, CRFParams


class DenseCRF:
    """The CRF of one image, for several weights or probabilities under the same deviations.

    It builds its lattices once, about an eighth of the work of ten steps.

    Args:
        image: uint8 [h, w, 3] RGB.
        pos_xy: Standard deviation of the smoothness kernel in pixels.
        bi_xy: Standard deviation of the appearance kernel in pixels.
        bi_rgb: Standard deviation of the appearance kernel in grey levels.

    Raises:
        ValueError: The image is no such array, or too large for these deviations.
        ImportError: Numba is not installed.
    """

    def __init__(self, image: Any, *, pos_xy: float, bi_xy: float, bi_rgb: float) -> None:
        CRFParams(pos_xy=pos_xy, bi_xy=bi_xy, bi_rgb=bi_rgb)  # checks them
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(
                f"image is {image.dtype} {list(image.shape)}; expected uint8 [h, w, 3], RGB from 0 "
                "to 255, of one pixel or more."
            )
        compile_kernels()
        self._size = image.shape[:2]
        positions, colours = _positions(self._size), image.reshape(-1, 3)
        with np.errstate(all="ignore"):  # what is not finite is too far for the lattice
            near = positions / np.float32(pos_xy)
            alike = np.hstack([positions / np.float32(bi_xy), colours / np.float32(bi_rgb)])
        with _numba_module("jit").threads_for(len(positions)):
            self._smoothness, self._appearance = _lattice(near), _lattice(alike)

    def mean_field(
        self, probabilities: Any, *, pos_w: float, bi_w: float, iterations: int
    ) -> np.ndarray:
        """Refines probabilities; arguments, result and errors are those of `dense_crf`."""
        CRFParams(pos_w=pos_w, bi_w=bi_w, iterations=iterations)  # checks them
        probabilities = np.asarray(probabilities)
        shape = probabilities.shape
        if probabilities.dtype.kind != "f" or shape[:2] != self._size or not shape[2:] > (0,):
            height, width = self._size
            raise ValueError(
                f"probabilities are {probabilities.dtype} {list(shape)}; expected floating point "
                f"[{height}, {width}, classes], as the image is {height} x {width}."
            )
        # Kernels are compiled for writeable arrays only.
        rows = np.require(probabilities, np.float32, ["C", "A", "W"]).reshape(-1, shape[2])
        with _numba_module("jit").threads_for(len(rows)):
            refined = _numba_module("mean_field").mean_field(
                rows,
                self._smoothness,
                self._appearance,
                pos_w=pos_w,
                bi_w=bi_w,
                iterations=iterations,
            )
        if refined is None:
            raise ValueError(_not_probabilities(rows))
        return refined.reshape(shape)


def dense_crf(image: Any, probabilities: Any, params: CRFParams = CRF_V2) -> np.ndarray:
    """Refines the class probabilities of an image with a fully connected CRF.

    Mean field (Krähenbühl, Koltun 2011, arXiv 1210.5644) of the CRF of DeepLabv1, section 4, with
    unary energies -log(P), P clipped to 1e-5 and above, and two Potts terms: a smoothness kernel
    on positions and an appearance kernel on positions and colours. Kernels are filters on a
    permutohedral lattice (Adams, Baek, Davis 2010): a step is within 0.01 of true Gaussians' on
    average, single pixels within 0.2.

    Differs from the paper as pydensecrf does, whose results these are: kernels are normalised to
    D^-1/2 K D^-1/2, D being the row sums of K, and a pixel sends a message to itself as well.

    It runs on numba's threads (NUMBA_NUM_THREADS, numba.set_num_threads), on one for small images;
    the result does not depend on their number. The first call ever compiles, see `compile_kernels`.

    Args:
        image: uint8 [h, w, 3] RGB.
        probabilities: Floating point [h, w, c], summing to 1 over the classes.
        params: Weights and standard deviations of the kernels, and the number of steps.

    Returns:
        float32 [h, w, c], summing to 1 over the classes.

    Raises:
        ValueError: The image or the probabilities are no such arrays; they differ in size; the
            probabilities are negative, not finite or do not sum to 1; the image is too large, or
            the standard deviations are too small, for the lattice's integers.
        ImportError: Numba is not installed.
    """
    crf = DenseCRF(image, pos_xy=params.pos_xy, bi_xy=params.bi_xy, bi_rgb=params.bi_rgb)
    return crf.mean_field(
        probabilities, pos_w=params.pos_w, bi_w=params.bi_w, iterations=params.iterations
    )


def refine(
    images_and_probabilities: Iterable[tuple[Any, Any]],
    params: CRFParams = CRF_V2,
    *,
    total: int | None = None,
) -> Iterator[np.ndarray]:
    """Refines image after image under a progress bar, holding one of them at a time.

    Args:
        images_and_probabilities: Pairs as for `dense_crf`, of any sizes.
        params: As for `dense_crf`.
        total: Number of pairs, for the bar; not needed for what has a length.

    Yields:
        float32 [h, w, c], in the order of the pairs.
    """
    compile_kernels()
    pairs = tqdm(images_and_probabilities, desc="dense CRF", total=total, unit="image")
    for image, probabilities in pairs:
        yield dense_crf(image, probabilities, params)


@functools.cache
def compile_kernels() -> None:
    """Makes the kernels ready, and says so on stderr if that means to compile them.

    They are compiled once for a machine, and cached on disk (see NUMBA_CACHE_DIR). Other functions
    call this themselves; call it before you measure time.

    Raises:
        ImportError: Numba is not installed.
    """
    with _numba_module("jit").announced_compilation():
        lattices = [_lattice(np.zeros((1, d), np.float32)) for d in (2, 5)]
        one_pixel = np.ones((1, 1), np.float32)
        _numba_module("mean_field").mean_field(
            one_pixel, *lattices, pos_w=1.0, bi_w=1.0, iterations=1
        )


def _numba_module(name: str) -> ModuleType:
    """A module of this package that needs numba, imported when it is first needed."""
    try:
        return importlib.import_module(f"deeplab_tf.crf.{name}")
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        raise ImportError(
            "the dense CRF needs numba, which is not installed: pip install 'deeplab-tf[crf]', or "
            "pip install -e '.[crf]' in a checkout."
        ) from error


def _lattice(features: np.ndarray) -> Any:
    lattice = _numba_module("lattice").build_lattice(features)
    _numba_module("mean_field").normalize(lattice)
    return lattice


def _positions(size: tuple[int, int]) -> np.ndarray:
    """Columns and rows of all pixels, float32 [h * w, 2]."""
    height, width = size
    positions = np.empty((height, width, 2), np.float32)
    positions[..., 0] = np.arange(width)
    positions[..., 1] = np.arange(height)[:, None]
    return positions.reshape(-1, 2)


def _not_probabilities(rows: np.ndarray) -> str:
    """What is wrong with probabilities [n, c] that the mean field refused."""
    if not np.isfinite(rows).all():
        found = f"NaN or infinite in {np.count_nonzero(~np.isfinite(rows).all(axis=1))} pixels"
    elif rows.min() < 0:
        found = f"as low as {rows.min():.4g}"
    else:
        sums = rows.sum(axis=1)
        found = f"such that their sums range from {sums.min():.4g} to {sums.max():.4g}"
    return (
        f"probabilities are {found}; expected 0 or more, with sum 1 over the last axis. Take the "
        "softmax of logits first."
    )

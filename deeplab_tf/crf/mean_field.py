"""Mean field of the dense CRF on two lattices (Krähenbühl, Koltun 2011, algorithm 1).

Below, n are the pixels and c the classes of a row, padded with zeros to whole vectors.
"""

from typing import Any

import numba
import numpy as np

from deeplab_tf.crf.jit import BLOCKS, block_bounds, kernel, prefetch_row
from deeplab_tf.crf.lattice import Lattice

# Sums may be reordered into vectors. NaN do not occur: the door rejects them.
_FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}

# The unary term is -log(P), of P no smaller than this.
_MIN_PROBABILITY = np.float32(1e-5)

# How far from 1 probabilities may sum: half precision comes closer, logits do not.
_SUM_TOLERANCE = np.float32(0.01)

# A thread splats so many pixels to one of its classes, then to the next: they stay in its cache.
_SPLAT_PIXELS = 4096

# Rows of vertices lie anywhere: they are asked for so many pixels ahead, if the lattice has more
# values than this. A slice reads six rows at once and gains early; a splat waits for one only.
_SLICE_AHEAD, _SLICE_FAR = 8, 2**17
_SPLAT_AHEAD, _SPLAT_FAR = 32, 2**21


def _empty_rows(count: int, c: int) -> np.ndarray:
    """float32 [count, c] that begins with a cache line, so that rows touch as few as they can."""
    buffer = np.empty(count * c + 16, np.float32)
    start = -buffer.ctypes.data % 64 // 4
    return buffer[start : start + count * c].reshape(count, c)


def normalize(lattice: Lattice) -> None:
    """Scales the weights in place, so that the filter K becomes D^-1/2 K D^-1/2.

    D are the row sums of K. Differs from the paper, which leaves K as it is.
    """
    values, spare = np.empty((2, lattice.num_vertices + 1, 1), np.float32)
    _splat_and_blur(np.ones((lattice.vertices.shape[1], 1), np.float32), lattice, values, spare)
    _divide_by_root(values, lattice)


def mean_field(
    probabilities: np.ndarray,
    smoothness: Lattice,
    appearance: Lattice,
    *,
    pos_w: float,
    bi_w: float,
    iterations: int,
) -> np.ndarray | None:
    """Refines class probabilities.

    Args:
        probabilities: float32 [n, classes], C-contiguous; writeable, though nothing is written.
        smoothness: Lattice of the positions, normalised.
        appearance: Lattice of the positions and colours, normalised.
        pos_w: Weight of the smoothness kernel.
        bi_w: Weight of the appearance kernel.
        iterations: Number of steps.

    Returns:
        float32 [n, classes], or None if a pixel's probabilities do not sum to 1.
    """
    n, classes = probabilities.shape
    c = classes if classes <= 4 else -(-classes // 8) * 8
    prior, q = _empty_rows(n, c), _empty_rows(n, c)
    if not _start(probabilities, prior, q):
        return None
    if iterations == 0:
        return q[:, :classes].copy()
    smooth = _empty_rows(smoothness.num_vertices + 1, c)
    alike = _empty_rows(appearance.num_vertices + 1, c)
    spare = _empty_rows(max(len(smooth), len(alike)), c)
    refined = np.empty((n, classes), np.float32)
    for step in range(iterations):
        _splat_and_blur(q, smoothness, smooth, spare)
        _splat_and_blur(q, appearance, alike, spare)
        out = refined if step == iterations - 1 else q
        weights = np.float32(pos_w), np.float32(bi_w)
        _slice_and_update(smooth, smoothness, alike, appearance, weights, prior, out)
    return refined


def _splat_and_blur(q: np.ndarray, lattice: Lattice, values: np.ndarray, spare: np.ndarray) -> None:
    """Writes values [vertices + 1, c], whose last row stands for all absent vertices: zeros."""
    axes = lattice.neighbours.shape[1]
    if axes % 2:  # so that the last blur ends in `values`
        values, spare = spare, values
    values[lattice.num_vertices] = spare[lattice.num_vertices] = 0
    _splat(q, lattice, min(axes, numba.get_num_threads()), values)
    _blur(values, spare, lattice.neighbours)


@kernel(fastmath=_FAST)
def _splat(q: np.ndarray, lattice: Lattice, tasks: int, values: np.ndarray) -> None:
    """Splat: every vertex sums the rows of the pixels round it by their weights.

    A vertex is of one class and a class of one task, so that no two threads meet, and sums have
    the same order whatever their number. q [n, c]; writes values [vertices + 1, c].
    """
    n, c = q.shape
    starts = lattice.class_starts
    far = values.size > _SPLAT_FAR
    for index in numba.prange(tasks):
        task = np.int64(index)
        for k in range(task, len(starts) - 1, tasks):
            values[starts[k] : starts[k + 1]] = 0
        for first in range(0, n, _SPLAT_PIXELS):
            for k in range(task, len(starts) - 1, tasks):
                for p in range(first, min(first + _SPLAT_PIXELS, n)):
                    vertex = lattice.vertices[k // 3, p, k % 3]
                    weight = lattice.weights[k // 3, p, k % 3]
                    if far:
                        later = min(p + _SPLAT_AHEAD, n - 1)
                        prefetch_row(values, lattice.vertices[k // 3, later, k % 3])
                    for i in range(c):
                        values[vertex, i] += weight * q[p, i]


@kernel(fastmath=_FAST)
def _blur(values: np.ndarray, blurred: np.ndarray, neighbours: np.ndarray) -> None:
    """Blur: along each axis in turn, every vertex gains half of its two neighbours.

    The paper's [1 2 1] / 4 but for a factor, which normalisation takes away.

    values, blurred [vertices + 1, c], where the result is in the one or the other by turns.
    """
    _, axes, vertices = neighbours.shape
    c = values.shape[1]
    for axis in range(axes):
        for block in numba.prange(BLOCKS):
            first, last = block_bounds(vertices, block)
            for v in range(first, last):
                u, w = neighbours[0, axis, v], neighbours[1, axis, v]
                for i in range(c):
                    blurred[v, i] = values[v, i] + np.float32(0.5) * (values[u, i] + values[w, i])
        values, blurred = blurred, values


@kernel()
def _divide_by_root(values: np.ndarray, lattice: Lattice) -> None:
    """Slices a single value per pixel, and divides the pixel's weights by its root.

    values [vertices + 1, 1]; changes lattice.weights.
    """
    vertices, weights = lattice.vertices, lattice.weights
    groups, n, _ = vertices.shape
    for block in numba.prange(BLOCKS):
        first, last = block_bounds(n, block)
        for p in range(first, last):
            total = np.float32(0)
            for g in range(groups):
                for j in range(3):
                    total += weights[g, p, j] * values[vertices[g, p, j], 0]
            scale = np.float32(1) / np.sqrt(total)
            for g in range(groups):
                for j in range(3):
                    weights[g, p, j] *= scale


@kernel()
def _start(probabilities: np.ndarray, prior: np.ndarray, q: np.ndarray) -> bool:
    """Initialises Q to softmax(-U), that is to the clipped probabilities, normalised.

    probabilities [n, classes]; writes prior [n, c], which is exp(-U), and q [n, c]. Returns
    whether the probabilities of all pixels sum to 1, none of them negative.
    """
    n, classes = probabilities.shape
    wrong = 0
    for block in numba.prange(BLOCKS):
        first, last = block_bounds(n, block)
        prior[first:last] = 0
        q[first:last] = 0
        for p in range(first, last):
            total, clipped_total, lowest = np.float32(0), np.float32(0), np.float32(0)
            for i in range(classes):
                probability = probabilities[p, i]
                prior[p, i] = min(max(probability, _MIN_PROBABILITY), np.float32(1))
                total += probability
                clipped_total += prior[p, i]
                lowest = min(lowest, probability)
            wrong += not (lowest >= 0 and abs(total - np.float32(1)) <= _SUM_TOLERANCE)
            scale = np.float32(1) / clipped_total
            for i in range(classes):
                q[p, i] = scale * prior[p, i]
    return wrong == 0


@numba.njit(inline="always")
def _triple(table: np.ndarray, g: int, p: int) -> tuple:
    """What three vertices have in table [g, n, 3]."""
    return table[g, p, 0], table[g, p, 1], table[g, p, 2]


@numba.njit(inline="always")
def _weighted(values: np.ndarray, vertices: tuple, weights: tuple, i: int) -> float:
    """Class i of a pixel, as far as it comes from three vertices."""
    return (
        weights[0] * values[vertices[0], i]
        + weights[1] * values[vertices[1], i]
        + weights[2] * values[vertices[2], i]
    )


@numba.njit(inline="always")
def _exp(x: Any) -> Any:
    """The exponential of x <= 0, to 2e-7 of it, in terms that LLVM can turn into vectors.

    Below -50 it stays at 2e-22: denormals, which processors are slow at, never arise from it.
    """
    x = max(x, np.float32(-50))
    exponent = np.floor(x * np.float32(1 / np.log(2)) + np.float32(0.5))
    # log(2) in two parts, of which the first has so few digits that its product is exact.
    x = x - exponent * np.float32(0.693359375) - exponent * np.float32(-2.12194440e-4)
    series = np.float32(1 / 720)
    series = series * x + np.float32(1 / 120)
    series = series * x + np.float32(1 / 24)
    series = series * x + np.float32(1 / 6)
    series = series * x + np.float32(1 / 2)
    series = series * x * x + x + np.float32(1)
    power_of_two = np.int32((np.int32(exponent) + 127) << 23)  # the bits of 2 to the exponent
    return series * power_of_two.view(np.float32)


@kernel(fastmath=_FAST)
def _slice_and_update(
    smooth: np.ndarray,
    smoothness: Lattice,
    alike: np.ndarray,
    appearance: Lattice,
    kernel_weights: tuple,
    prior: np.ndarray,
    q: np.ndarray,
) -> None:
    """Slice, then the update of algorithm 1: Q = exp(-U + pos_w S + bi_w A) / Z.

    smooth, alike [vertices + 1, c] are the blurred lattices, prior [n, c]; writes q, [n, c] or
    without the padding.
    """
    pos_w, bi_w = kernel_weights
    n, c = prior.shape
    width = q.shape[1]
    far = alike.size > _SLICE_FAR
    for block in numba.prange(BLOCKS):
        first, last = block_bounds(n, block)
        row = np.empty(c, np.float32)
        for p in range(first, last):
            if far:
                later = min(p + _SLICE_AHEAD, n - 1)
                for g in range(2):
                    for j in range(3):
                        prefetch_row(alike, appearance.vertices[g, later, j])
            s, s_weights = _triple(smoothness.vertices, 0, p), _triple(smoothness.weights, 0, p)
            a, a_weights = _triple(appearance.vertices, 0, p), _triple(appearance.weights, 0, p)
            b, b_weights = _triple(appearance.vertices, 1, p), _triple(appearance.weights, 1, p)
            for i in range(c):
                row[i] = pos_w * _weighted(smooth, s, s_weights, i) + bi_w * (
                    _weighted(alike, a, a_weights, i) + _weighted(alike, b, b_weights, i)
                )
            largest = np.float32(0)  # messages are positive
            for i in range(c):
                largest = row[i] if row[i] > largest else largest
            total = np.float32(0)
            for i in range(c):
                row[i] = prior[p, i] * _exp(row[i] - largest)
                total += row[i]
            scale = np.float32(1) / total
            for i in range(width):
                q[p, i] = scale * row[i]

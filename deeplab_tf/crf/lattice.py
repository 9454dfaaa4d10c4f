"""The permutohedral lattice round the pixels of an image (Adams, Baek, Davis 2010).

The lattice of d dimensions lies in the plane of R^(d+1) whose coordinates sum to zero. Its
coordinates are integers that leave the same remainder modulo d + 1, which is the vertex's class. A
point lies in a simplex with one vertex of each class. That serves us twice: threads that own one
class each never meet at a vertex, and a vertex is known by its class and the quotients.

Vertices are numbered in the order of their keys, in which a step along an axis adds the same to all
keys of a class: the blur runs through memory in order, and merging finds the neighbours.
"""

import itertools
import math
import operator
from typing import NamedTuple

import numba
import numpy as np

from deeplab_tf.crf.jit import BLOCKS, block_bounds, kernel

# Below it, float32 coordinates keep four binary places.
_MAX_COORDINATE = 2.0**20
_MAX_KEY = 2**62

# Points that are embedded together.
_EMBED_POINTS = 256
_HASH = np.int64(-0x61C8864680B583EB)  # 2^64 over the golden ratio, odd and signed


class Lattice(NamedTuple):
    """The vertices near n points in d dimensions, d + 1 a multiple of three.

    Attributes:
        vertices: int32 [(d + 1) / 3, n, 3], the simplex round each point; its vertex of class k is
            at [k // 3, :, k % 3].
        weights: float32, likewise: what the vertex has of the point, and the point of the vertex.
        class_starts: int64 [d + 2], the first vertex of each class, and the number of vertices.
        neighbours: int32 [2, d + 1, vertices], the vertex before and after each along each axis of
            the lattice, or the number of vertices where there is none.
    """

    vertices: np.ndarray
    weights: np.ndarray
    class_starts: np.ndarray
    neighbours: np.ndarray

    @property
    def num_vertices(self) -> int:
        return int(self.class_starts[-1])


def build_lattice(features: np.ndarray) -> Lattice:
    """Finds the simplex round each point, and how the vertices lie to each other.

    Args:
        features: float32 [n, d], in units of the Gaussian's standard deviation; d is 2 or 5.

    Raises:
        ValueError: There are too many vertices, or they lie too far apart, to be numbered.
    """
    n, d = features.shape
    if n * (d + 1) >= 2**31:
        raise ValueError(
            f"image has {n} pixels; the CRF numbers lattice vertices with 31 bits, enough for "
            f"{(2**31 - 1) // (d + 1)}. Refine it in tiles or at a smaller size."
        )
    scale = _embedding_scale(d)
    strides = _key_strides(features, scale)
    keys = np.empty((d + 1, n), np.int64)
    weights = np.empty(((d + 1) // 3, n, 3), np.float32)
    _embed(features, scale, strides, keys, weights)

    # At most three quarters full.
    table = np.full((d + 1, 1 << math.ceil(math.log2(4 * n / 3 + 1))), -1, np.int32)
    vertices = np.empty(weights.shape, np.int32)
    vertex_keys = np.empty(keys.shape, np.int64)
    class_sizes = np.empty(d + 1, np.int64)
    _number_vertices(keys, table, vertices, vertex_keys, class_sizes)

    class_starts = np.concatenate([[0], np.cumsum(class_sizes)])
    vertices += class_starts[:-1].astype(np.int32).reshape(-1, 1, 3)
    total = int(class_starts[-1])
    neighbours = np.full((2, d + 1, total), total, np.int32)
    _find_neighbours(vertex_keys, class_starts, strides, neighbours)
    return Lattice(vertices, weights, class_starts, neighbours)


def _embedding_scale(d: int) -> np.ndarray:
    """Length of a feature's unit on the lattice, float32 [d].

    The triangular basis of the plane is normalised, and the lattice is as fine as to make splat,
    blur and slice together a Gaussian of standard deviation 1.
    """
    i = np.arange(d)
    return (math.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2))).astype(np.float32)


def _key_strides(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """What a step in each quotient adds to a vertex's key, int64 [d + 1].

    A key is a number in a mixed base: the first quotient follows from the others, and these are the
    digits, the last one counting most. Each place has room for all values that these features can
    give it, neighbours included, so that keys in a class are equal only if the vertices are.
    """
    d = len(scale)
    # Column by column: numpy is slow along the first of two axes.
    reach = np.array([np.abs(column).max() for column in features.T], np.float64) * scale
    # Coordinate i is the sum of the features from i on, less i times the one before.
    reaches = [reach[i:].sum() + (i * reach[i - 1] if i else 0.0) for i in range(d + 1)]
    if all(r < _MAX_COORDINATE for r in reaches):
        # A vertex's quotient lies between 2 below and 1 above its point's, a neighbour's 1 further.
        bases = [math.ceil(2 * r / (d + 1)) + 6 for r in reaches[1:]]
        if math.prod(bases) < _MAX_KEY:
            return np.array([0, *itertools.accumulate(bases[:-1], operator.mul, initial=1)])
    raise ValueError(
        "the standard deviations of the CRF are too small for an image of this size: the "
        f"coordinates of its lattice reach {max(reaches):.3g}, too far for the 24 bits of a float "
        "or the 62 bits of a key. Raise pos_xy, bi_xy or bi_rgb, or refine the image in tiles."
    )


@numba.njit
def _nearest_points(
    features: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    quotient: np.ndarray,
    rank: np.ndarray,
) -> None:
    """Finds the vertex of class 0 of the simplex round each point.

    features [m, d]; writes [d + 1, m or more]: the point's offset from the vertex, the quotients of
    the vertex, and the rank of each coordinate of the offset, the greatest first. Points are the
    inner loops, which LLVM turns into vectors.
    """
    m, d = features.shape
    side = np.float32(d + 1)
    offset[0] = 0
    for i in range(d, 0, -1):
        for p in range(m):
            x = features[p, i - 1] * scale[i - 1]
            offset[i, p] = offset[0, p] - np.float32(i) * x
            offset[0, p] += x
    rank[:] = 0
    for i in range(d + 1):
        for p in range(m):
            nearest = np.floor(offset[i, p] / side + np.float32(0.5))
            offset[i, p] -= nearest * side
            quotient[i, p] = np.int32(nearest)
            rank[0, p] += np.int32(nearest)
    # The quotients should sum to zero. By how much they do not, that many coordinates, those that
    # were rounded the furthest, go the other way.
    for i in range(1, d + 1):
        rank[i] = rank[0]
    for i in range(d):
        for j in range(i + 1, d + 1):
            for p in range(m):
                less = np.int32(offset[i, p] < offset[j, p])
                rank[i, p] += less
                rank[j, p] += np.int32(1) - less
    for i in range(d + 1):
        for p in range(m):
            shift = np.int32(rank[i, p] < 0) - np.int32(rank[i, p] > d)
            quotient[i, p] += shift
            offset[i, p] -= np.float32(shift) * side
            rank[i, p] += shift * np.int32(d + 1)


@kernel()
def _embed(
    features: np.ndarray,
    scale: np.ndarray,
    strides: np.ndarray,
    keys: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Finds the simplex round each point, and the point's barycentric coordinates in it.

    features [n, d]; writes keys [d + 1, n] and weights [(d + 1) / 3, n, 3].
    """
    n, d = features.shape
    for block in numba.prange(BLOCKS):
        offset = np.empty((d + 1, _EMBED_POINTS), np.float32)
        quotient = np.empty((d + 1, _EMBED_POINTS), np.int32)
        rank = np.empty((d + 1, _EMBED_POINTS), np.int32)
        ranked = np.empty(d + 1, np.int64)
        first, last = block_bounds(n, block)
        for start in range(first, last, _EMBED_POINTS):
            m = min(_EMBED_POINTS, int(last - start))
            _nearest_points(features[start : start + m], scale, offset, quotient, rank)
            for p in range(m):
                key = np.int64(0)
                for i in range(d + 1):
                    ranked[rank[i, p]] = i
                    key += quotient[i, p] * strides[i]
                keys[0, start + p] = key
                # From class to class, the vertex moves along the least coordinate that is left.
                spread = offset[ranked[0], p] - offset[ranked[d], p]
                weights[0, start + p, 0] = np.float32(1) - spread / np.float32(d + 1)
                for k in range(1, d + 1):
                    least = ranked[d + 1 - k]
                    key -= strides[least]
                    keys[k, start + p] = key
                    gap = offset[ranked[d - k], p] - offset[least, p]
                    weights[k // 3, start + p, k % 3] = gap / np.float32(d + 1)


@numba.njit(inline="always")
def _slot(table: np.ndarray, known_keys: np.ndarray, key: np.int64) -> np.int64:
    """Where a key is in the hash table of its class, or the free slot it would go to.

    table [2^k] holds numbers of vertices, or -1; known_keys their keys.
    """
    mask = len(table) - 1
    slot = (key * _HASH >> 32) & mask
    while table[slot] >= 0 and known_keys[table[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@kernel()
def _number_vertices(
    keys: np.ndarray,
    table: np.ndarray,
    vertices: np.ndarray,
    vertex_keys: np.ndarray,
    class_sizes: np.ndarray,
) -> None:
    """Numbers the vertices of each class in the order of their keys.

    keys [d + 1, n]; writes table [d + 1, 2^k], vertices [(d + 1) / 3, n, 3] counted within the
    class, vertex_keys [d + 1, n] and class_sizes [d + 1].
    """
    for index in numba.prange(len(keys)):
        k = np.int64(index)
        size = 0
        vertex = 0
        for p in range(keys.shape[1]):
            key = keys[k, p]
            if p == 0 or key != keys[k, p - 1]:
                slot = _slot(table[k], vertex_keys[k], key)
                if table[k, slot] < 0:
                    table[k, slot] = size
                    vertex_keys[k, size] = key
                    size += 1
                vertex = table[k, slot]
            vertices[k // 3, p, k % 3] = vertex
        class_sizes[k] = size
        order = np.argsort(vertex_keys[k, :size])
        vertex_keys[k, :size] = vertex_keys[k, :size][order]
        rank = np.empty(size, np.int32)
        rank[order] = np.arange(size)
        for p in range(keys.shape[1]):
            vertices[k // 3, p, k % 3] = rank[vertices[k // 3, p, k % 3]]


@kernel()
def _find_neighbours(
    vertex_keys: np.ndarray,
    class_starts: np.ndarray,
    strides: np.ndarray,
    neighbours: np.ndarray,
) -> None:
    """Merges the sorted keys of each class, moved along each axis, with those of the next class.

    A step along axis j adds 1 to all coordinates, but -d to coordinate j. It leads from class k to
    k + 1, where quotient j is one less, or from class d to 0, where all others are one more.

    vertex_keys [d + 1, n], strides [d + 1]; writes neighbours [2, d + 1, vertices].
    """
    classes = len(strides)
    for task in numba.prange(classes * classes):
        axis, k = np.int64(task) // classes, np.int64(task) % classes
        other = (k + 1) % classes
        step = -strides[axis]
        if other == 0:
            step += strides.sum()
        start, other_start = class_starts[k], class_starts[other]
        size, other_size = class_starts[k + 1] - start, class_starts[other + 1] - other_start
        candidate = 0
        for v in range(size):
            key = vertex_keys[k, v] + step
            while candidate < other_size and vertex_keys[other, candidate] < key:
                candidate += 1
            if candidate < other_size and vertex_keys[other, candidate] == key:
                neighbours[1, axis, start + v] = other_start + candidate
                neighbours[0, axis, other_start + candidate] = start + v

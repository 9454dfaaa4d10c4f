"""The dense CRF in plain TensorFlow ops, to live inside a SavedModel.

Mean field of a fully connected CRF (Krähenbühl, Koltun 2011, arXiv 1210.5644), whose Gaussian
filters run on the permutohedral lattice (Adams, Baek, Davis 2010). An image fixes the lattice, so
that a filter is a product of constant sparse matrices, slice @ blur_d @ ... @ blur_0 @ splat, and
the mean field only multiplies with them.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Keys of lattice vertices are int64.
_MAX_KEY = 2.0**62
# A digit of a key. Lattice coordinates below it leave a float32 four binary places or more.
_MAX_DIGIT = 2.0**20


class _Filter(NamedTuple):
    """A Gaussian filter as matrices in compressed row form, which are scalar variant tensors.

    Attributes:
        splat: [vertices, pixels].
        blurs: [vertices, vertices] along each lattice axis, in the order they act.
        slice: [pixels, vertices], splat transposed.
    """

    splat: tf.Tensor
    blurs: list[tf.Tensor]
    slice: tf.Tensor


def dense_crf_graph(
    images: tf.Tensor,
    probabilities: tf.Tensor,
    *,
    pos_w: float,
    pos_xy: float,
    bi_w: float,
    bi_xy: float,
    bi_rgb: float,
    iterations: int,
) -> tf.Tensor:
    """Refines class probabilities, image by image, with a fully connected CRF.

    The model is pydensecrf's. Differs from arXiv 1210.5644 in that kernels are normalised, to
    D^-1/2 K D^-1/2 where D are K's row sums, and that a pixel sends a message to itself too.

    Everything runs on the CPU, also where there is a GPU.

    Args:
        images: [b, h, w, 3] RGB, uint8 or float in 0..255; floats are rounded, so that an image
            gives one result whatever its type.
        probabilities: float32 [b, h, w, c].
        pos_w: Weight of the smoothness kernel.
        pos_xy: Its standard deviation in pixels.
        bi_w: Weight of the appearance kernel.
        bi_xy: Its standard deviation in pixels.
        bi_rgb: Its standard deviation in grey levels.
        iterations: Steps of mean field.

    Returns:
        float32 [b, h, w, c], summing to 1.

    Raises:
        tf.errors.InvalidArgumentError: The image is so large, or a standard deviation so small,
            that lattice vertices are too many for an int64; raised when the graph runs.
    """

    def refine(example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, probability = example
        size = tf.shape(probability)
        position = _positions(size[0], size[1])
        colour = tf.reshape(tf.round(tf.cast(image, tf.float32)), [-1, 3])
        both = tf.concat([position / bi_xy, colour / bi_rgb], 1)
        filters = [
            _gaussian_filter(position / pos_xy, weight=pos_w),
            _gaussian_filter(both, weight=bi_w),
        ]
        flat = tf.reshape(probability, [-1, size[2]])
        return tf.reshape(_mean_field(flat, filters, iterations), size)

    with tf.device("/CPU:0"):
        refined = tf.map_fn(
            refine,
            (images, probabilities),
            parallel_iterations=1,
            fn_output_signature=tf.TensorSpec(probabilities.shape[1:], tf.float32),
        )
        return tf.ensure_shape(refined, probabilities.shape)


def _positions(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The x and y of all pixels, row by row: float32 [height * width, 2]."""
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    return tf.cast(tf.reshape(tf.stack([x, y], 2), [-1, 2]), tf.float32)


def _mean_field(probabilities: tf.Tensor, filters: list[_Filter], iterations: int) -> tf.Tensor:
    """Algorithm 1 of arXiv 1210.5644 with Potts compatibility: [n, c] -> [n, c].

    The Potts message, minus the sum over all other labels, differs from the label's own by a
    constant, which the softmax does not see.
    """
    classes = tf.shape(probabilities)[1]
    scores = tf.math.log(tf.clip_by_value(probabilities, 1e-5, 1.0))
    # Classes of probability 0 fill the vector registers: products are up to twice as fast.
    scores = tf.pad(scores, [[0, 0], [0, -classes % 8]], constant_values=-1e9)

    # Unrolled: the matrices do not survive freezing where they enter the body of a loop.
    marginals = tf.nn.softmax(scores)
    for _ in range(iterations):
        messages = [_apply(kernel, marginals) for kernel in filters]
        marginals = tf.nn.softmax(tf.add_n([scores, *messages]))
    return marginals[:, :classes]


def _gaussian_filter(features: tf.Tensor, *, weight: float) -> _Filter:
    """The filter weight * D^-1/2 K D^-1/2, K a Gaussian of deviation 1 of features, [n, d]."""
    keys, shares, steps = _simplices(features)
    vertices, corners = tf.unique(tf.reshape(keys, [-1]))
    # In the order of their keys, vertices and their neighbours stay close in memory.
    order = tf.argsort(vertices)
    vertices = tf.gather(vertices, order)
    corners = tf.reshape(tf.gather(tf.math.invert_permutation(order), corners), tf.shape(keys))
    blurs = [_blur(vertices, step) for step in tf.unstack(steps)]

    def with_shares(shares: tf.Tensor) -> _Filter:
        onto = _sparse(corners, shares, num_columns=tf.size(vertices))
        return _Filter(tf.raw_ops.SparseMatrixTranspose(input=onto, type=tf.float32), blurs, onto)

    row_sums = _apply(with_shares(shares), tf.ones_like(shares[:, :1]))
    return with_shares(shares * math.sqrt(weight) / tf.sqrt(row_sums + 1e-20))


def _apply(kernel: _Filter, values: tf.Tensor) -> tf.Tensor:
    """The three stages of Adams et al., splat, blur and slice: [n, c] -> [n, c]."""
    for matrix in (kernel.splat, *kernel.blurs, kernel.slice):
        values = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=values)
    return values


def _simplices(features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The lattice simplex around each point, where it splats to and slices from (Adams et al.).

    A lattice vertex is known by a key, which is linear in its coordinates, so that a step along
    one of the d + 1 axes of the lattice adds a constant to it. From a simplex's corner of
    remainder 0, steps along all axes, the one with the least offset first, visit its corners.

    Args:
        features: float32 [n, d], d known.

    Returns:
        Keys of the corners, int64 [n, d + 1]; their barycentric weights, float32 [n, d + 1]; and
        what the key gains along each axis, int64 [d + 1].
    """
    dims = features.shape[1]
    basis = _plane_basis(dims)
    # In the paper's lattice, splat, blur and slice together have a deviation of
    # sqrt(2 / 3) * (d + 1). Coordinates here are the paper's divided by d + 1.
    lengths = np.sqrt((basis**2).sum(1, keepdims=True))
    elevation = (math.sqrt(2 / 3) * basis / lengths).astype(np.float32)
    # A step along axis j adds 1 / (d + 1) to all coordinates, which keys do not see, as their
    # coefficients sum to 0, and takes 1 from coordinate j.
    steps = -_key_coefficients(features)
    with tf.control_dependencies([steps]):  # It checks features.
        elevated = features @ elevation
    nearest, offsets, axes = _nearest_remainder_0(elevated)
    along = tf.gather(steps, axes)
    origin = -tf.reduce_sum(tf.cast(nearest, tf.int64) * along, 1, keepdims=True)
    keys = origin + tf.cumsum(along, 1, exclusive=True)
    differences = offsets[:, 1:] - offsets[:, :-1]
    first = 1 + offsets[:, :1] - offsets[:, -1:]
    return keys, tf.concat([first, differences], 1), steps


def _nearest_remainder_0(elevated: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The closest lattice point of remainder 0, as Adams et al. find it.

    Coordinates are rounded one by one. Their sum, which must be 0, is then off by some excess: as
    many coordinates, those that rounding moved the farthest that way, are moved back by 1.

    Args:
        elevated: float32 [n, d + 1], coordinates that sum to 0, in units of d + 1.

    Returns:
        Coordinates of the closest point, float32 [n, d + 1]; the offsets from it to `elevated`,
        float32 [n, d + 1]; and which coordinates they are, int32 [n, d + 1]. All are sorted by
        ascending offset.
    """
    multiples = tf.round(elevated)
    excess = tf.reduce_sum(multiples, 1, keepdims=True)
    count = elevated.shape[1]
    places = tf.range(count, dtype=tf.float32)

    def overrun(places: tf.Tensor) -> tf.Tensor:
        return tf.cast(places < 0, tf.float32) - tf.cast(places >= count, tf.float32)

    # Equal offsets stay in order, as in pydensecrf: it decides which corners of weight 0 exist.
    offsets, axes = tf.math.top_k(elevated - multiples, k=count)
    correction = overrun(places + excess)
    multiples = tf.gather(multiples, axes, batch_dims=1) + correction
    # Corrected coordinates go to the other end of the order: it rotates by the excess.
    sources = count - 1 - places - excess
    sources = tf.cast(sources + count * overrun(sources), tf.int32)
    return tuple(
        tf.gather(values, sources, batch_dims=1)
        for values in (multiples, offsets - correction, axes)
    )


def _key_coefficients(features: tf.Tensor) -> tf.Tensor:
    """Coefficients of a vertex's coordinates in its key, int64 [d + 1], for features [n, d].

    The digits of a key are the vertex's products with the basis of the hyperplane, the last one
    foremost. For positions that is y: pixels and vertices lie in memory in the same order.
    """
    basis = _plane_basis(features.shape[1])
    lengths = np.sqrt((basis**2).sum(1))
    farthest = tf.reduce_max(tf.abs(features), 0) * math.sqrt(2 / 3) * lengths
    # A corner is less than 1 away in every coordinate, and a blur looks one step further.
    margin = np.abs(basis).sum(1) + np.abs(basis).max(1) + 1
    extents = 2 * tf.math.ceil(tf.cast(farthest, tf.float64) + margin) + 1
    fits = tf.reduce_all(extents < _MAX_DIGIT) & (tf.reduce_prod(extents) < _MAX_KEY)
    message = (
        "The standard deviations of the dense CRF (pos_xy, bi_xy, bi_rgb) are too small for an "
        "image of this size. Largest x and y, or x, y, r, g and b, divided by them:"
    )
    with tf.control_dependencies(
        [tf.debugging.Assert(fits, [message, tf.reduce_max(features, 0)], summarize=5)]
    ):
        strides = tf.math.cumprod(tf.cast(extents, tf.int64), exclusive=True)
    return tf.linalg.matvec(basis.T.astype(np.int64), strides)


def _plane_basis(dims: int) -> np.ndarray:
    """The orthogonal basis in which Adams et al. elevate features: [d, d + 1].

    It spans the hyperplane of coordinates with sum 0. Row i has i + 1 ones, -(i + 1), and zeros.
    """
    basis = np.tril(np.ones((dims, dims + 1)))
    basis[np.arange(dims), np.arange(1, dims + 1)] = -np.arange(1, dims + 1)
    return basis


def _blur(vertices: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """The blur of Adams et al., (1/4, 1/2, 1/4), along one axis: a sparse matrix [m, m].

    Args:
        vertices: Keys, int64 [m], ascending.
        step: What a key gains along the axis.
    """
    count = tf.size(vertices)
    lower, upper = (
        tf.minimum(tf.searchsorted(vertices, keys), count - 1)
        for keys in (vertices - step, vertices + step)
    )
    columns = tf.stack([lower, tf.range(count), upper], 1)
    wanted = tf.stack([vertices - step, vertices, vertices + step], 1)
    exists = tf.cast(tf.gather(vertices, columns) == wanted, tf.float32)
    return _sparse(columns, exists * [0.25, 0.5, 0.25], num_columns=count)


def _sparse(columns: tf.Tensor, values: tf.Tensor, *, num_columns: tf.Tensor) -> tf.Tensor:
    """A sparse matrix from the columns and the values of its rows' entries, both [rows, k]."""
    num_rows = tf.shape(columns)[0]
    rows = tf.broadcast_to(tf.range(num_rows)[:, None], tf.shape(columns))
    return tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=tf.cast(tf.reshape(tf.stack([rows, columns], 2), [-1, 2]), tf.int64),
        values=tf.reshape(values, [-1]),
        dense_shape=tf.cast([num_rows, num_columns], tf.int64),
    )

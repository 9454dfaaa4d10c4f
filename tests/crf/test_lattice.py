"""The permutohedral lattice: its simplices, its neighbours, and keys that never collide."""

import itertools

import numpy as np
import pytest

from deeplab_tf.crf.lattice import _MAX_KEY, Lattice, _embedding_scale, _key_strides, build_lattice


def elevate(features):
    """Onto the plane in R^(d+1), in units in which lattice points are integers; the paper's E."""
    d = features.shape[1]
    basis = np.zeros((d + 1, d))
    for i in range(1, d + 1):
        basis[:i, i - 1] = 1
        basis[i, i - 1] = -i
    basis /= np.linalg.norm(basis, axis=0)
    return features @ (basis * np.sqrt(2 / 3) * (d + 1)).T


def make_features(d, n=400, spread=4.0):
    rng = np.random.default_rng(d)
    return (spread * rng.normal(size=(n, d))).astype(np.float32)


def solve_vertices(features, lattice: Lattice):
    """Where each vertex lies: the point from which its pixels' barycentric coordinates follow.

    A pixel is the weighted mean of its vertices; all pixels together are a linear system in the
    vertices' places, of which only those count that the system determines.
    """
    n, d = features.shape
    matrix = np.zeros((n, lattice.num_vertices))
    for g, j in itertools.product(range((d + 1) // 3), range(3)):
        matrix[np.arange(n), lattice.vertices[g, :, j]] = lattice.weights[g, :, j]
    places, _, rank, _ = np.linalg.lstsq(matrix, elevate(features.astype(np.float64)), rcond=1e-6)
    return matrix, places, rank


@pytest.mark.parametrize("d", [2, 5])
def test_embedding_scale_is_that_of_the_orthonormal_basis(d):
    units = elevate(np.eye(d))
    np.testing.assert_allclose(units[:, 0], _embedding_scale(d), rtol=1e-6)
    np.testing.assert_allclose(units @ units.T, np.eye(d) * 2 / 3 * (d + 1) ** 2, atol=1e-9)


def test_points_are_weighted_means_of_lattice_points():
    """Many points in few simplices determine the vertices: they come out as lattice points."""
    features = make_features(2, n=600, spread=0.8)
    lattice = build_lattice(features)
    matrix, places, rank = solve_vertices(features, lattice)
    assert rank == lattice.num_vertices
    np.testing.assert_allclose(matrix @ places, elevate(features.astype(float)), atol=1e-4)
    seen = matrix.sum(axis=0) > 0.5
    assert seen.sum() > 10
    np.testing.assert_allclose(places[seen], places[seen].round(), atol=2e-3)
    classes = np.repeat(np.arange(3), np.diff(lattice.class_starts))
    remainders = places[seen].round().astype(int) % 3
    np.testing.assert_array_equal(remainders, np.tile(classes[seen][:, None], 3))

    # A step along axis j adds 1 to all coordinates but -2 to coordinate j.
    places = places.round().astype(int)
    where = {tuple(place): v for v, place in enumerate(places)}
    for axis in range(3):
        step = np.ones(3, int)
        step[axis] = -2
        for v in np.flatnonzero(seen):
            for side, sign in ((0, -1), (1, 1)):
                expected = where.get(tuple(places[v] + sign * step), lattice.num_vertices)
                found = lattice.neighbours[side, axis, v]
                if expected == lattice.num_vertices or seen[expected]:
                    assert found == expected


@pytest.mark.parametrize("d", [2, 5])
def test_simplices_have_one_vertex_of_each_class(d):
    lattice = build_lattice(make_features(d))
    vertices = np.moveaxis(lattice.vertices, 1, 0).reshape(-1, d + 1)
    weights = np.moveaxis(lattice.weights, 1, 0).reshape(-1, d + 1)
    starts = lattice.class_starts
    assert (vertices >= starts[:-1]).all() and (vertices < starts[1:]).all()
    assert set(vertices.ravel()) == set(range(lattice.num_vertices))
    assert weights.min() >= -1e-5
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("d", [2, 5])
def test_neighbours_are_each_others(d):
    lattice = build_lattice(make_features(d, n=2000, spread=1.5))
    nobody = lattice.num_vertices
    found = 0
    for before, after in zip(*lattice.neighbours, strict=True):
        for there, back in ((before, after), (after, before)):
            v = np.flatnonzero(there < nobody)
            np.testing.assert_array_equal(back[there[v]], v)
            found += len(v)
    assert found > lattice.num_vertices


@pytest.mark.parametrize("d", [2, 5])
def test_points_far_apart_share_nothing(d):
    """Up to the largest coordinates that are let in."""
    grid = np.array(list(itertools.product((0.0, 7.0, 9000.0), repeat=2)), np.float32)
    features = np.zeros((len(grid), d), np.float32)
    features[:, :2] = grid
    lattice = build_lattice(features)
    assert lattice.num_vertices == (d + 1) * len(grid)
    owner = np.full(lattice.num_vertices + 1, -1)
    for point in range(len(grid)):
        owner[lattice.vertices[:, point]] = point
    for side in range(2):
        for there in lattice.neighbours[side]:
            v = np.flatnonzero(there < lattice.num_vertices)
            np.testing.assert_array_equal(owner[there[v]], owner[v])


def test_key_places_hold_all_that_features_reach():
    scale = _embedding_scale(5)
    for reach in (0.0, 1.0, 100.0, 170.0, 400.0):
        features = np.full((1, 5), reach, np.float32)
        strides = _key_strides(features, scale)
        bases = strides[2:] // strides[1:-1]
        assert strides[0] == 0 and (strides[2:] % strides[1:-1] == 0).all()
        # Coordinates of points in the box [-reach, reach]^5, whose corners are the furthest.
        corners = np.array(list(itertools.product((-reach, reach), repeat=5)))
        quotients = np.abs(elevate(corners)).max(axis=0) / 6
        assert (bases >= 2 * quotients[1:-1] + 5).all()
        assert (quotients[1:] + 3) @ strides[1:] < _MAX_KEY < 2**63


@pytest.mark.parametrize("d", [2, 5])
def test_what_no_key_can_hold_is_refused(d):
    scale = _embedding_scale(d)
    allowed, refused = 1.0, 1e7
    for _ in range(60):
        middle = (allowed + refused) / 2
        try:
            strides = _key_strides(np.full((1, d), middle, np.float32), scale)
        except ValueError:
            refused = middle
        else:
            allowed = middle
            assert 0 < strides[-1] < _MAX_KEY
    assert refused - allowed < 1
    assert allowed > {2: 2e5, 5: 1e3}[d]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_features_that_are_not_finite_are_refused(bad):
    features = make_features(5)
    features[7, 3] = bad
    with pytest.raises(ValueError, match="too small for an image of this size"):
        build_lattice(features)


def test_more_points_than_integers_are_refused():
    features = np.broadcast_to(np.zeros((1, 5), np.float32), (2**29, 5))
    with pytest.raises(
        ValueError, match=r"image has 536870912 pixels.*31 bits, enough for 357913941"
    ):
        build_lattice(features)

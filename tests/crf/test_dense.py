"""The dense CRF against pydensecrf's recorded results, and against a mean field by brute force."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from deeplab_tf import crf
from deeplab_tf.crf import mean_field

GOLDEN = Path(__file__).parents[1] / "golden" / "crf"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
RECORDED = sorted(path.stem for path in GOLDEN.glob("*.npz"))

spec = importlib.util.spec_from_file_location("synth", GOLDEN / "synth.py")
synth = importlib.util.module_from_spec(spec)
spec.loader.exec_module(synth)
SYNTH_CASES = {name: rest for name, *rest in synth.CASES}


def golden_case(name):
    """Image, probabilities, parameters and what is recorded of a case."""
    height, width, classes, seed, noise, params, iterations = SYNTH_CASES[name]
    image, probabilities = synth.make_case(height, width, classes, seed, noise)
    pos_w, pos_xy, bi_w, bi_xy, bi_rgb = params
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        recorded = dict(arrays)
    return (
        image,
        probabilities,
        crf.CRFParams(pos_w, pos_xy, bi_w, bi_xy, bi_rgb, iterations),
        recorded,
    )


def compare(q, recorded, prefix):
    """Yields (ours, theirs) of every recorded float32 array `prefix`, whole or each k-th pixel."""
    for step in (1, 4, 8):
        key = prefix if step == 1 else f"{prefix}_ds{step}"
        if key in recorded:
            yield q[::step, ::step], recorded[key]


@pytest.fixture(scope="module", params=RECORDED)
def refined_case(request):
    image, probabilities, params, recorded = golden_case(request.param)
    return crf.dense_crf(image, probabilities, params), recorded


@pytest.mark.golden
@pytest.mark.parametrize("name", RECORDED)
def test_one_step_equals_pydensecrf(name):
    image, probabilities, params, recorded = golden_case(name)
    q = crf.dense_crf(image, probabilities, dataclasses.replace(params, iterations=1))
    pairs = list(compare(q, recorded, "Q_iter1"))
    assert pairs
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-5)


@pytest.mark.golden
def test_ten_steps_equal_pydensecrf(refined_case):
    q, recorded = refined_case
    clear = recorded["margin_f16"] > 1e-2
    np.testing.assert_array_equal(q.argmax(axis=-1)[clear], recorded["argmax"][clear])
    pairs = list(compare(q, recorded, "Q"))
    assert pairs
    for ours, theirs in pairs:
        error = np.abs(ours - theirs)
        assert np.quantile(error, 0.9999) <= 1e-4
        assert error.mean() <= 1e-6
    if "Q_chan_mean" in recorded:
        means = q.mean(axis=(0, 1), dtype=np.float64)
        np.testing.assert_allclose(means, recorded["Q_chan_mean"], atol=1e-6)


@pytest.mark.golden
def test_results_are_probabilities(refined_case):
    q, _ = refined_case
    assert q.dtype == np.float32 and q.flags.c_contiguous
    assert q.min() >= 0
    np.testing.assert_allclose(q.sum(axis=-1), 1, atol=2e-6)


def exact_mean_field(image, probabilities, params):
    """The model by brute force in float64: every pixel with every pixel, true Gaussians."""
    height, width, classes = probabilities.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(float)
    position, colour = np.stack([x, y], -1), image.reshape(-1, 3).astype(float)

    def kernel(*scaled):
        features = np.concatenate(scaled, axis=1)
        squares = ((features[:, None] - features) ** 2).sum(-1)
        gaussian = np.exp(-squares / 2)
        root = np.sqrt(gaussian.sum(1))
        return gaussian / root / root[:, None]

    message = params.pos_w * kernel(position / params.pos_xy) + params.bi_w * kernel(
        position / params.bi_xy, colour / params.bi_rgb
    )
    unary = -np.log(np.clip(probabilities.reshape(-1, classes).astype(float), 1e-5, 1))

    def softmax(logits):
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    q = softmax(-unary)
    for _ in range(params.iterations):
        q = softmax(-unary + message @ q)
    return q.reshape(probabilities.shape)


@pytest.mark.golden
def test_brute_force_equals_the_recorded_one():
    image, probabilities, params, recorded = golden_case("tiny_c3")
    for iterations, key in ((1, "Q_exact_iter1"), (10, "Q_exact")):
        exact = exact_mean_field(
            image, probabilities, dataclasses.replace(params, iterations=iterations)
        )
        np.testing.assert_allclose(exact, recorded[key], atol=1e-6)


@pytest.mark.parametrize(
    "params",
    [
        crf.CRF_V1,
        crf.CRF_V2,
        crf.CRFParams(pos_w=3, pos_xy=3, bi_w=5, bi_xy=49, bi_rgb=4),
        crf.CRFParams(pos_w=0),
        crf.CRFParams(bi_w=0),
        crf.CRFParams(pos_w=3, pos_xy=3, bi_w=0),
    ],
    ids=str,
)
def test_one_step_is_near_brute_force(params):
    image, probabilities = synth.make_case(24, 32, 4, seed=21)
    params = dataclasses.replace(params, iterations=1)
    q = crf.dense_crf(image, probabilities, params)
    exact = exact_mean_field(image, probabilities, params)
    error = np.abs(q - exact)
    assert error.mean() <= 0.008
    assert error.max() <= 0.2
    assert (q.argmax(-1) == exact.argmax(-1)).mean() >= 0.98


@pytest.mark.parametrize("classes", [1, 2, 4, 5, 8, 21, 33])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (6, 5)])
def test_far_pixels_only_hear_themselves(size, classes):
    """Where kernels reach no other pixel they are the identity, and the mean field a formula."""
    rng = np.random.default_rng(classes)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    probabilities = rng.dirichlet(np.ones(classes), size)
    params = crf.CRFParams(pos_w=2, pos_xy=0.05, bi_w=1, bi_xy=0.05, bi_rgb=2, iterations=4)
    prior = np.clip(probabilities, 1e-5, 1)
    expected = prior / prior.sum(-1, keepdims=True)
    for _ in range(params.iterations):
        expected = prior * np.exp(3 * expected)
        expected /= expected.sum(-1, keepdims=True)
    q = crf.dense_crf(image, probabilities, params)
    np.testing.assert_allclose(q, expected, atol=2e-6)


def test_equal_pixels_agree():
    """Kernels wide as the image is small leave one result everywhere, whatever came in."""
    image = np.full((3, 4, 3), 77, np.uint8)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (3, 4))
    params = crf.CRFParams(pos_w=0, bi_w=50, bi_xy=1e30, bi_rgb=1e30, iterations=3)
    q = crf.dense_crf(image, probabilities, params)
    winner = probabilities.mean(axis=(0, 1)).argmax()
    assert (q[..., winner] > 0.99).all()


def test_no_steps_give_the_clipped_probabilities():
    image = np.zeros((1, 2, 3), np.uint8)
    q = crf.dense_crf(image, [[[1.0, 0.0], [0.25, 0.75]]], crf.CRFParams(iterations=0))
    expected = [[[1 / 1.00001, 1e-5 / 1.00001], [0.25, 0.75]]]
    np.testing.assert_allclose(q, expected, atol=1e-7)


def test_large_weights_neither_overflow_nor_vanish():
    image, probabilities = synth.make_case(12, 16, 3, seed=5)
    q = crf.dense_crf(image, probabilities, crf.CRFParams(pos_w=1e4, bi_w=1e4))
    assert np.isfinite(q).all()
    np.testing.assert_allclose(q.sum(-1), 1, atol=2e-6)


def test_number_of_threads_does_not_matter():
    image, probabilities, params, _ = golden_case("mid_c2_v1")  # not small: see `threads_for`
    available = numba.get_num_threads()
    results = []
    try:
        for threads in {1, available}:
            numba.set_num_threads(threads)
            results.append(crf.dense_crf(image, probabilities, params))
    finally:
        numba.set_num_threads(available)
    results.append(crf.dense_crf(image, probabilities, params))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_tasks_of_the_splat_do_not_matter():
    """More threads than this machine may have."""
    dense = crf.DenseCRF(synth.make_case(9, 11, 2, 3)[0], pos_xy=1, bi_xy=20, bi_rgb=5)
    q = np.random.default_rng(0).random((99, 3), np.float32)
    for lattice in (dense._smoothness, dense._appearance):
        sums = []
        for tasks in (1, 2, 3, 5, 6):
            values = np.full((lattice.num_vertices + 1, 3), np.nan, np.float32)
            values[-1] = 0
            mean_field._splat(q, lattice, tasks, values)
            sums.append(values)
        for values in sums[1:]:
            np.testing.assert_array_equal(values, sums[0])


def test_lattices_serve_several_weights():
    image, probabilities = synth.make_case(20, 30, 5, seed=8)
    dense = crf.DenseCRF(image, pos_xy=1, bi_xy=40, bi_rgb=6)
    for pos_w, bi_w in ((3, 4), (1, 8), (3, 4)):
        params = crf.CRFParams(pos_w, 1, bi_w, 40, 6, 3)
        np.testing.assert_array_equal(
            dense.mean_field(probabilities, pos_w=pos_w, bi_w=bi_w, iterations=3),
            crf.dense_crf(image, probabilities, params),
        )


def test_any_layout_and_precision():
    image, probabilities = synth.make_case(20, 30, 5, seed=9)
    params = crf.CRFParams(iterations=2)
    expected = crf.dense_crf(image, probabilities, params)
    frozen = probabilities.copy()
    frozen.setflags(write=False)
    compiled = len(mean_field._start.signatures)
    for same in (
        frozen,
        np.asfortranarray(probabilities),
        np.repeat(probabilities, 2, axis=1)[:, ::2],
        probabilities.astype(np.float64),
        probabilities.astype(">f4"),
    ):
        np.testing.assert_array_equal(crf.dense_crf(image, same, params), expected)
    mirrored = crf.dense_crf(image[:, ::-1][:, ::-1], probabilities, params)
    np.testing.assert_array_equal(mirrored, expected)
    half = crf.dense_crf(image, probabilities.astype(np.float16), params)
    np.testing.assert_allclose(half, expected, atol=5e-3)
    assert len(mean_field._start.signatures) == compiled == 1
    np.testing.assert_array_equal(probabilities, synth.make_case(20, 30, 5, seed=9)[1])


def test_refine_takes_images_one_by_one(capsys):
    pairs = [synth.make_case(h, 12, c, seed=h) for h, c in ((8, 2), (9, 3), (10, 2))]
    taken = []

    def lazily():
        for pair in pairs:
            taken.append(pair)
            yield pair

    params = crf.CRFParams(iterations=2)
    refined = crf.refine(lazily(), params, total=3)
    for count, (image, probabilities) in enumerate(pairs, start=1):
        expected = crf.dense_crf(image, probabilities, params)
        np.testing.assert_array_equal(next(refined), expected)
        assert len(taken) == count
    assert next(refined, None) is None
    assert "3/3" in capsys.readouterr().err


IMAGE = np.zeros((4, 6, 3), np.uint8)
UNIFORM = np.full((4, 6, 2), 0.5, np.float32)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (IMAGE.astype(np.float32), r"image is float32 \[4, 6, 3\]; expected uint8"),
        (IMAGE[..., 0], r"image is uint8 \[4, 6\]"),
        (IMAGE[..., :1], r"image is uint8 \[4, 6, 1\]"),
        (IMAGE[None], r"image is uint8 \[1, 4, 6, 3\]"),
        (IMAGE[:0], r"image is uint8 \[0, 6, 3\]"),
    ],
)
def test_images_that_are_none(image, found):
    with pytest.raises(ValueError, match=found):
        crf.dense_crf(image, UNIFORM)


def with_pixel(*values):
    changed = UNIFORM.copy()
    changed[2, 3] = values
    return changed


@pytest.mark.parametrize(
    ("probabilities", "found"),
    [
        (
            UNIFORM.argmax(-1),
            r"probabilities are int64 \[4, 6\]; expected floating point \[4, 6, c",
        ),
        (UNIFORM[..., 0], r"probabilities are float32 \[4, 6\]"),
        (UNIFORM[None], r"probabilities are float32 \[1, 4, 6, 2\]"),
        (UNIFORM[:, :5], r"probabilities are float32 \[4, 5, 2\].* image is 4 x 6"),
        (UNIFORM[..., :0], r"probabilities are float32 \[4, 6, 0\]"),
        (UNIFORM * 8 - 2, r"sums range from 4 to 4; .*softmax of logits"),
        (with_pixel(0.5, 0.4), r"sums range from 0.9 to 1; "),
        (with_pixel(np.nan, 0.5), r"NaN or infinite in 1 pixels"),
        (with_pixel(np.inf, -np.inf), r"NaN or infinite in 1 pixels"),
        (with_pixel(1.25, -0.25), r"as low as -0.25"),
    ],
)
def test_probabilities_that_are_none(probabilities, found):
    with pytest.raises(ValueError, match=found):
        crf.dense_crf(IMAGE, probabilities)


@pytest.mark.parametrize("sigma", ["pos_xy", "bi_xy", "bi_rgb"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_sigmas_that_are_none(sigma, value):
    sigmas = {"pos_xy": 1.0, "bi_xy": 1.0, "bi_rgb": 1.0, sigma: value}
    with pytest.raises(ValueError, match=f"{sigma} of the CRF"):
        crf.CRFParams(**sigmas)
    with pytest.raises(ValueError, match=f"{sigma} of the CRF"):
        crf.DenseCRF(IMAGE, **sigmas)


@pytest.mark.parametrize("sigma", ["pos_xy", "bi_xy", "bi_rgb"])
@pytest.mark.parametrize("value", [1e-5, 1e-30, 1e-300])
def test_sigmas_that_are_too_small_for_the_lattice(sigma, value):
    with pytest.raises(ValueError, match=r"too small for an image of this size.*Raise pos_xy"):
        crf.dense_crf(IMAGE + np.uint8(200), UNIFORM, crf.CRFParams(**{sigma: value}))


def test_without_numba(monkeypatch):
    for name in ("jit", "lattice", "mean_field"):
        monkeypatch.delitem(sys.modules, f"deeplab_tf.crf.{name}")
    monkeypatch.setitem(sys.modules, "numba", None)
    crf.compile_kernels.cache_clear()
    with pytest.raises(ImportError, match=r"needs numba.*pip install 'deeplab-tf\[crf\]'"):
        crf.dense_crf(IMAGE, UNIFORM)

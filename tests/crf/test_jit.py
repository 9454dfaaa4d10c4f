"""Compilation of the CRF's kernels: announced once, and possible without a cache folder."""

import numba
import numpy as np

from deeplab_tf import crf
from deeplab_tf.crf.jit import BLOCKS, announced_compilation, block_bounds, kernel


def test_compilation_is_announced_once(capsys):
    first, second = numba.njit(lambda x: x + 1), numba.njit(lambda x: x + 2)
    with announced_compilation():
        assert first(1) == second(0) == 2
    assert capsys.readouterr().err.count("Compiling the CRF (once, about") == 1
    with announced_compilation():
        assert first(2) == 3
    assert capsys.readouterr().err == ""


def test_nothing_is_compiled_after_compile_kernels(capsys):
    crf.compile_kernels()
    capsys.readouterr()
    with announced_compilation():
        for shape in ((1, 1, 1), (5, 7, 3), (70, 80, 21)):
            image = np.zeros((*shape[:2], 3), np.uint8)
            crf.dense_crf(image, np.full(shape, 1 / shape[2]), crf.CRFParams(iterations=2))
    assert capsys.readouterr().err == ""


def test_kernels_work_where_nothing_can_be_cached(monkeypatch):
    compile_now = numba.njit

    def no_locator(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'double': no locator available for file")
        return compile_now(**options)

    monkeypatch.setattr(numba, "njit", no_locator)

    @kernel()
    def double(x):
        for i in numba.prange(len(x)):
            x[i] *= 2

    x = np.arange(4.0)
    double(x)
    np.testing.assert_array_equal(x, [0, 2, 4, 6])


def test_blocks_cover_everything_once():
    for size in (0, 1, BLOCKS - 1, BLOCKS, 1000):
        bounds = [block_bounds(size, block) for block in range(BLOCKS)]
        covered = [i for first, last in bounds for i in range(first, last)]
        assert covered == list(range(size))

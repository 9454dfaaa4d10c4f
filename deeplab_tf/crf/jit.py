"""How the kernels of the dense CRF are compiled: cached on disk, and never without a word."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

# GNU's OpenMP, on which numba's threads are, spins for milliseconds wherever threads wait for each
# other. Where other work holds a core, its waiting thread keeps the awaited one from running, and
# an image takes five times as long. Asleep they cost a few percent on an idle machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.event import Event, Listener, install_listener
from numba.extending import intrinsic

# A kernel shares its work out in this many blocks, whatever the number of threads.
BLOCKS = 64

_ROUGH_SECONDS = 15

# On smaller images, to wake a thread up takes longer than its share of the work.
_MIN_PIXELS = 2**14


def kernel(*, fastmath: Any = False) -> Callable[[Callable], Callable]:
    """Compiles a function in parallel when it is first called, and caches it.

    Numba caches in NUMBA_CACHE_DIR, in the `__pycache__` beside the module or, where that cannot be
    written, in the user's own cache. Without any of them it compiles anew in each process.
    """

    def decorate(function: Callable) -> Callable:
        options = {"parallel": True, "error_model": "numpy", "fastmath": fastmath}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "cannot cache function: no locator available"
            return numba.njit(**options)(function)

    return decorate


@numba.njit(inline="always")
def block_bounds(size: int, block: int) -> tuple[np.int64, np.int64]:
    """Begin and end of a block's share of so many things."""
    index = np.int64(block)  # prange counts unsigned, which would mix with signed to a float
    return size * index // BLOCKS, size * (index + 1) // BLOCKS


@contextlib.contextmanager
def threads_for(pixels: int) -> Iterator[None]:
    """Within it, kernels of a small image run on one thread; results are the same."""
    threads = numba.get_num_threads()
    numba.set_num_threads(threads if pixels >= _MIN_PIXELS else 1)
    try:
        yield
    finally:
        numba.set_num_threads(threads)


@intrinsic
def _prefetch_line(typing_context: Any, address: Any) -> Any:
    """Asks for the cache line at an address (uintp), which takes no time and changes nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], function_type)
        read, soon, data = i32(0), i32(3), i32(1)
        builder.call(prefetch, [pointer, read, soon, data])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


@numba.njit(inline="always")
def prefetch_row(rows: np.ndarray, row: int) -> None:
    """Asks for a row of float32 rows [n, c] to be in the cache soon."""
    size = 4 * rows.shape[1]
    start = rows.ctypes.data + np.uintp(row * size)
    for offset in range(0, size, 64):
        _prefetch_line(start + np.uintp(offset))  # type: ignore[call-arg]  # numba adds the context


class _Announcement(Listener):
    """Prints a line when the first kernel is compiled rather than read from the cache."""

    def __init__(self) -> None:
        self.made = False

    def on_start(self, event: Event) -> None:
        if not self.made:
            self.made = True
            print(f"Compiling the CRF (once, about {_ROUGH_SECONDS} s) ...", file=sys.stderr)

    def on_end(self, event: Event) -> None:
        pass


@contextlib.contextmanager
def announced_compilation() -> Iterator[None]:
    """Says so if something has to be compiled within it."""
    with install_listener("numba:compile", _Announcement()):
        yield

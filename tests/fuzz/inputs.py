"""Damaged inputs: how they are made, counted and kept from running for ever.

FUZZ_SEED chooses other ones: `FUZZ_SEED=7 make fuzz`.
"""

import collections
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

SEED = int(os.environ.get("FUZZ_SEED", "0"))

# Of all inputs that were tried, by kind.
counts: collections.Counter[str] = collections.Counter()

# Bytes that mean something in lengths, sizes and markers.
_TELLING = (0x00, 0x01, 0x7F, 0x80, 0xFF)


def both_sizes(smoke: int, full: int) -> pytest.MarkDecorator:
    """Runs a test of `count` inputs on a few of them, and under `make fuzz` on many."""
    params = [
        pytest.param(smoke, id="smoke"),
        pytest.param(full, id="full", marks=pytest.mark.fuzz),
    ]
    return pytest.mark.parametrize("count", params)


def random_numbers(kind: str, count: int) -> Iterator[np.random.Generator]:
    """One generator for each input, so that an input is known by its number."""
    for number in range(count):
        counts[kind] += 1
        yield np.random.default_rng([SEED, number])


def examples(count: int) -> settings:
    """Hypothesis's settings for a number of inputs: no clock, no files, the same every time."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=SEED == 0,
        suppress_health_check=list(HealthCheck),
    )


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes bytes in one to three ways, as disks, networks and editors do, or keeps them."""
    content = bytearray(data)
    for _ in range(rng.integers(0, 4)):
        rng.choice(_MUTATIONS)(content, rng)
    return bytes(content)


def within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; fails if it does not end in time, where its thread is left to itself."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append((function(*arguments), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"still running after {seconds} seconds"
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def _place(content: bytearray, rng: np.random.Generator) -> int:
    # Half of them near the beginning, where the headers are.
    reach = len(content) if rng.random() < 0.5 else min(len(content), 64)
    return int(rng.integers(0, reach + 1))


def _flip_bit(content: bytearray, rng: np.random.Generator) -> None:
    if content:
        content[_place(content, rng) % len(content)] ^= 1 << int(rng.integers(0, 8))


def _set_byte(content: bytearray, rng: np.random.Generator) -> None:
    if content:
        content[_place(content, rng) % len(content)] = int(rng.choice(_TELLING))


def _truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[_place(content, rng) :]


def _delete(content: bytearray, rng: np.random.Generator) -> None:
    start = _place(content, rng)
    del content[start : start + int(rng.integers(1, 20))]


def _insert(content: bytearray, rng: np.random.Generator) -> None:
    start = _place(content, rng)
    content[start:start] = rng.bytes(int(rng.integers(1, 20)))


def _repeat(content: bytearray, rng: np.random.Generator) -> None:
    start = _place(content, rng)
    content[start:start] = content[start : start + int(rng.integers(1, 200))]


def _zero(content: bytearray, rng: np.random.Generator) -> None:
    start = _place(content, rng)
    length = len(content[start : start + int(rng.integers(1, 200))])
    content[start : start + length] = bytes(length)


_MUTATIONS = [_flip_bit, _flip_bit, _set_byte, _truncate, _delete, _insert, _repeat, _zero]

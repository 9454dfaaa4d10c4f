"""The number types that a network is built in."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def dtype_policy(policy: str) -> Iterator[None]:
    """Layers that are made inside have this Keras policy, such as "mixed_bfloat16"."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def training_policy(precision: str) -> str:
    """The policy of `--mixed_precision`: "none", "bfloat16" or "float16"."""
    return "float32" if precision == "none" else f"mixed_{precision}"

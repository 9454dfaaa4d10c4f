"""Settings every test shares."""

import os
import sys

import pytest

# Read by TensorFlow when it is first imported, so it is set before any test module is.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="module", autouse=True)
def _fixed_seed():
    """Seeds each test file, so that it draws the same numbers alone as among the others.

    Keras is seeded only where a test file has imported it: the others start without its delay.
    """
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)

"""Settings every test shares."""

import gc
import os
import sys
from pathlib import Path

import pytest

# Read by TensorFlow when it is first imported, so it is set before any test module is.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_collection_finish():
    """Spares the collector what lives as long as the tests, and lets it look less often.

    Networks are cycles of many objects: at Python's own thresholds an eighth of the time goes into
    looking for garbage among TensorFlow's objects and theirs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="module", autouse=True)
def _fixed_seed():
    """Seeds each test file, so that it draws the same numbers alone as among the others.

    Keras is seeded only where a test file has imported it: the others start without its delay.
    """
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)


_GOLDEN = pytest.StashKey[dict[str, tuple[float, float]]]()
_PARITY = Path(__file__).parents[1] / "docs" / "parity.md"


def pytest_addoption(parser):
    parser.addoption(
        "--write-parity", action="store_true", help="write the errors of this run to docs/parity.md"
    )


def pytest_configure(config):
    config.stash[_GOLDEN] = {}


@pytest.fixture
def record_golden_error(pytestconfig):
    """A function that notes a case's error, over the standard deviation, and label agreement."""

    def record(case, error, agreement):
        pytestconfig.stash[_GOLDEN][case] = float(error), float(agreement)

    return record


def pytest_terminal_summary(terminalreporter, config):
    errors = config.stash[_GOLDEN]
    if not errors:
        return
    worst, (error, _) = max(errors.items(), key=lambda item: item[1][0])
    terminalreporter.write_line(
        f"golden: {len(errors)} networks; the worst, {worst}, is off by {error:.1e} standard "
        f"deviations; labels agree on at least {min(a for _, a in errors.values()):.3%} of pixels"
    )
    if config.getoption("--write-parity"):
        rows = [f"| {case} | {e:.1e} | {a:.3%} |" for case, (e, a) in sorted(errors.items())]
        head, _, tail = _PARITY.read_text().partition("<!-- cases -->\n")
        _, _, tail = tail.partition("<!-- end of cases -->\n")
        table = ["| case | max error / std | equal labels |", "|---|---:|---:|", *rows]
        lines = "\n".join(["<!-- cases -->", *table, "<!-- end of cases -->", ""])
        _PARITY.write_text(head + lines + tail)

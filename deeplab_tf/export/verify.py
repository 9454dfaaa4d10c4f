"""Whether exported files compute what evaluation computes, by whatever can read them."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deeplab_tf.data.output import write_file
from deeplab_tf.export.fresh_process import NotRunError, Reader, describe, readers_of

# Least shares of equal labels: of floats, and of 8 bits, whose roundings are the price.
FLOAT_THRESHOLD, INT8_THRESHOLD = 0.999, 0.98
_PACKAGES = ("deeplab-tf", "tensorflow", "keras", "numpy", "ai-edge-litert", "onnxruntime")

# Images, each [h, w, c] as stored, to labels, [h, w], and probabilities, [h, w, classes].
Predictor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# An image and a size to the image at that size.
Fit = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one reader makes of an artefact.

    Attributes:
        reader: Its name.
        status: "equal", "differs" (below the threshold), "failed" or "not run".
        reason: Why it failed or was not run.
        equal_labels: Share of the pixels whose label is evaluation's.
        max_difference: Largest difference of a probability; None without probabilities.
        mean_difference: Their mean; likewise.
        milliseconds: Median time of the first image.
    """

    reader: str
    status: str
    reason: str = ""
    equal_labels: float | None = None
    max_difference: float | None = None
    mean_difference: float | None = None
    milliseconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Verification:
    """What all readers make of an artefact.

    Attributes:
        artefact: Its path.
        threshold: Least share of equal labels.
        images: How many images were compared.
        size: Height and width that the artefact wants, and images were brought to; None for any.
        readings: One for each reader of such an artefact.
    """

    artefact: str
    threshold: float
    images: int
    size: tuple[int, int] | None
    readings: tuple[Reading, ...]

    @property
    def passed(self) -> bool:
        """Whether a reader has read it, and none found it wrong."""
        found = {reading.status for reading in self.readings}
        return "equal" in found and not found & {"differs", "failed"}


def verify(
    artefact: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    predict: Predictor,
    *,
    fit: Fit,
    threshold: float | None = None,
) -> Verification:
    """Runs an artefact in a fresh process of each of its readers, and compares with evaluation.

    Args:
        artefact: SavedModel folder, frozen graph (.pb), LiteRT (.tflite) or ONNX file.
        images: Each [h, w, c], as the artefact takes them.
        predict: What evaluation makes of an image.
        fit: Brings an image to the size of an artefact that takes one size only; evaluation sees
            it so too.
        threshold: Least share of equal labels; None for `FLOAT_THRESHOLD` or `INT8_THRESHOLD`.

    Raises:
        FileNotFoundError: There is no such artefact.
    """
    path = os.fspath(artefact)
    if not os.path.exists(path):
        raise FileNotFoundError(f"--export_path={path} not found: there is nothing to verify.")
    readings, size, int8 = [], None, False
    with tempfile.TemporaryDirectory() as folder:
        readers = readers_of(path)
        try:
            about = describe(path, readers[0].name)
            size, int8 = about["size"] and tuple(about["size"]), about["int8"]
        except NotRunError as reason:
            return _nothing_read(path, "not run", readers, str(reason))
        except RuntimeError as error:
            return _nothing_read(path, "failed", readers, str(error))
        least = threshold or (INT8_THRESHOLD if int8 else FLOAT_THRESHOLD)
        fitted = [fit(image, size) if size else image for image in images]
        expected = [predict(image) for image in fitted]
        for reader in readers:
            try:
                results = reader.run(path, fitted, Path(folder))
                readings.append(_compare(reader.name, results, expected, least))
            except NotRunError as reason:
                readings.append(Reading(reader.name, "not run", str(reason)))
            except (RuntimeError, ValueError) as error:
                readings.append(Reading(reader.name, "failed", str(error)))
    return Verification(path, least, len(images), size, tuple(readings))


def format_verification(found: Verification) -> str:
    """A table, a row for each reader."""
    lines = [
        f"{found.artefact}, {found.images} images"
        + (f" of {found.size[0]}x{found.size[1]}" if found.size else ""),
        f"{'reader':<8}{'':<9}{'equal labels':>13}{'max |dp|':>10}{'mean |dp|':>11}{'ms':>9}",
    ]
    for reading in found.readings:
        if reading.reason:
            lines.append(f"{reading.reader:<8}{reading.status:<9}{reading.reason}")
            continue
        cells = [
            f"{reading.equal_labels:>13.5%}",
            *(
                f"{'-':>{width}}" if value is None else f"{value:>{width}.1e}"
                for value, width in ((reading.max_difference, 10), (reading.mean_difference, 11))
            ),
            f"{reading.milliseconds:>9.1f}",
        ]
        lines.append(f"{reading.reader:<8}{reading.status:<9}{''.join(cells)}")
    return "\n".join(lines)


def write_manifest(found: Verification, *, checkpoint: str) -> Path:
    """Writes what was found beside the artefact, as <artefact>.verified.json."""
    path = Path(found.artefact)
    files = sorted(file for file in path.rglob("*") if file.is_file()) or [path]
    manifest = {
        "artefact": path.name,
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": {
            os.path.relpath(file, path.parent): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
        },
        "checkpoint": checkpoint,
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "images": found.images,
        "size": found.size,
        "threshold": found.threshold,
        "passed": found.passed,
        "readers": [dataclasses.asdict(reading) for reading in found.readings],
    }
    target = path.with_name(f"{path.name}.verified.json")
    write_file(target, f"{json.dumps(manifest, indent=2)}\n".encode())
    return target


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nothing_read(path: str, status: str, readers: Sequence[Reader], reason: str) -> Verification:
    readings = tuple(Reading(reader.name, status, reason) for reader in readers)
    return Verification(path, FLOAT_THRESHOLD, 0, None, readings)


def _compare(
    name: str,
    results: dict[str, np.ndarray],
    expected: Sequence[tuple[np.ndarray, np.ndarray]],
    threshold: float,
) -> Reading:
    """Raises ValueError if a result has another shape than evaluation's."""
    equal, pixels, sums, values, largest = 0, 0, 0.0, 0, 0.0
    for i, (labels, probabilities) in enumerate(expected):
        found = results[f"{i}/SemanticPredictions"]
        _check_shape("labels", found, labels)
        equal += int((found[0] == labels).sum())
        pixels += labels.size
        if (key := f"{i}/SemanticProbabilities") in results:
            _check_shape("probabilities", results[key], probabilities)
            difference = np.abs(results[key][0] - probabilities)
            if not np.isfinite(difference).all():
                raise ValueError("its probabilities are not finite")
            largest = max(largest, float(difference.max()))
            sums, values = sums + float(difference.sum(dtype=np.float64)), values + difference.size
    share = equal / pixels
    return Reading(
        name,
        "equal" if share >= threshold else "differs",
        equal_labels=share,
        max_difference=largest if values else None,
        mean_difference=sums / values if values else None,
        milliseconds=float(np.median(results["milliseconds"])),
    )


def _check_shape(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    if found.shape[1:] != expected.shape:
        raise ValueError(f"its {what} are {found.shape[1:]}, evaluation's {expected.shape}")

"""What is written of a prediction: one record for each kind of file."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deeplab_tf.colormap import colorize
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.data.output import write_file
from deeplab_tf.image_files import write_label_png, write_png
from deeplab_tf.visualization.run import overlay

_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Predicted:
    """An image and what a network says of it.

    Attributes:
        image: [h, w, c] in 0..255.
        labels: Integer [h, w], class ids.
        probabilities: Float [h, w, classes], or None where they are not wanted.
    """

    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None


@dataclass(frozen=True)
class Style:
    """How class ids are shown and numbered.

    Attributes:
        palette: RGB colours in 0..255, one for each class.
        ids: What `ids` files have in place of each class id; None for the id itself.
    """

    palette: Sequence[Sequence[int]]
    ids: Sequence[int] | None = None


@dataclass(frozen=True)
class Output:
    """A kind of file that a prediction may be written as.

    Attributes:
        suffix: Of its files.
        write: Writes a prediction to a path, complete or not at all.
        frame: Paints a frame of a video; None for kinds that are a file for each frame.
    """

    suffix: str
    write: Callable[[Path, Predicted, Style], None]
    frame: Callable[[Predicted, Style], np.ndarray] | None = None


def _colors(predicted: Predicted, style: Style) -> np.ndarray:
    return colorize(predicted.labels, style.palette)


def _overlay(predicted: Predicted, style: Style) -> np.ndarray:
    return overlay(display_rgb(predicted.image), predicted.labels, style.palette)


def _write_mask(path: Path, predicted: Predicted, style: Style) -> None:
    write_label_png(path, predicted.labels, style.palette)


def _write_ids(path: Path, predicted: Predicted, style: Style) -> None:
    labels = predicted.labels
    ids = labels if style.ids is None else np.asarray(style.ids)[labels]
    write_label_png(path, ids, palette=None)


def _write_colors(path: Path, predicted: Predicted, style: Style) -> None:
    write_png(path, _colors(predicted, style))


def _write_overlay(path: Path, predicted: Predicted, style: Style) -> None:
    bgr = cv2.cvtColor(_overlay(predicted, style), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    write_file(path, data.tobytes())


def _write_probabilities(path: Path, predicted: Predicted, style: Style) -> None:
    assert predicted.probabilities is not None
    data = io.BytesIO()
    np.save(data, predicted.probabilities.astype(np.float16))
    write_file(path, data.getvalue())


# By name, which is also that of their folder. Half precision keeps probabilities to 0.00025, in a
# file that is read without decoding it, or mapped into memory.
OUTPUTS = {
    "mask": Output(".png", _write_mask),
    "color": Output(".png", _write_colors, _colors),
    "overlay": Output(".jpg", _write_overlay, _overlay),
    "ids": Output(".png", _write_ids),
    "probabilities": Output(".npy", _write_probabilities),
}

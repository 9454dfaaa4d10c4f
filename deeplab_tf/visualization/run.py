"""Pictures of predictions: overlays, panels with a class legend, and writing them for many images.

Arrays are RGB throughout.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from deeplab_tf.colormap import VOID_COLOR, colorize
from deeplab_tf.data.channels import EXTENSIONS, display_rgb
from deeplab_tf.evaluation.degenerate import warn_of_pictures
from deeplab_tf.image_files import write_label_png, write_png
from deeplab_tf.visualization.panel_layout import (
    fit,
    legend,
    percent,
    sheet,
    side_by_side,
    text_height,
)

Palette = np.ndarray | Sequence[Sequence[int]]


@dataclass(frozen=True)
class VisualizationSummary:
    """What `visualize_predictions` saw; as text, the shares and a warning if all is one class.

    Attributes:
        count: Number of images.
        class_names: One name per class.
        pixels: Number of predicted pixels per class, over all images.
    """

    count: int
    class_names: tuple[str, ...]
    pixels: tuple[int, ...]

    def __str__(self) -> str:
        """Lists the predicted classes, the largest first."""
        seen = [(n, name) for n, name in zip(self.pixels, self.class_names, strict=True) if n]
        total = sum(self.pixels)
        lines = [f"{self.count} images, {len(seen)} of {len(self.pixels)} classes predicted:"]
        lines += [f"  {n / total:7.2%}  {name}" for n, name in sorted(seen, reverse=True)]
        if len(seen) == 1 and len(self.pixels) > 1:
            lines += warn_of_pictures(seen[0][1])
        return "\n".join(lines)


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: Palette, *, alpha: float = 0.5
) -> np.ndarray:
    """Blends the colours of the classes over the image.

    Args:
        image: uint8 [h, w, 3], RGB.
        labels: Integer [h, w], class ids in [0, len(palette)).
        palette: RGB colours in 0..255, [classes, 3].
        alpha: Weight of the colours, 0 (only the image) to 1 (only the colours).

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        ValueError: If the sizes differ or a label has no colour.
    """
    _check_pair(image, labels, "label map")
    return cv2.addWeighted(colorize(labels, palette), alpha, image, 1 - alpha, 0)


def panel(
    image: np.ndarray,
    prediction: np.ndarray,
    *,
    class_names: Sequence[str],
    palette: Palette,
    label: np.ndarray | None = None,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Draws the input, the ground truth (if any) and the prediction side by side over a legend.

    The legend names the classes that occur, with their share of the pixels. Small images are
    enlarged by a whole factor and large ones reduced, so that text and images fit each other.

    Args:
        image: uint8 [h, w, 3], RGB.
        prediction: Integer [h, w], class ids in [0, classes).
        class_names: One name per class.
        palette: RGB colours in 0..255, [classes, 3].
        label: Integer [h, w], class ids or `ignore_label`.
        ignore_label: Id shown as void in the ground truth and left out of "correct".

    Returns:
        uint8 [panel height, panel width, 3], RGB.

    Raises:
        ValueError: If the sizes differ or a class id has no colour.
    """
    _check_pair(image, prediction, "prediction")
    panes = [fit(image, cv2.INTER_AREA), fit(colorize(prediction, palette), cv2.INTER_NEAREST)]
    titles = ["input", "prediction"]
    heading = ""
    if label is not None:
        _check_pair(image, label, "label")
        truth = colorize(label, palette, ignore_label=ignore_label)
        panes.insert(1, fit(truth, cv2.INTER_NEAREST))
        titles.insert(1, "ground truth")
        valid = label != ignore_label
        if valid.any():
            titles[-1] += f": {percent(np.mean(prediction[valid] == label[valid]))} correct"
        heading = "share of the pixels: predicted (ground truth)"
    height = text_height(panes[0])
    row = side_by_side(panes, titles, height)
    entries = _legend_entries(prediction, label, class_names, palette, ignore_label)
    return sheet(row, legend(entries, heading, row.shape[1], height), height)


def visualize_predictions(
    examples: Iterable[Mapping[str, Any]],
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    output_dir: str | Path,
    class_names: Sequence[str],
    palette: Palette,
    ignore_label: int | None,
    save_raw: bool = False,
    raw_ids: Sequence[int] | None = None,
    total: int | None = None,
) -> VisualizationSummary:
    """Writes pictures of the predictions, one example at a time.

    For the example `a/b.jpg` it writes `a/b_prediction.png` (palette image: its values are the
    class ids, viewers show the colours), `a/b_overlay.png` and `a/b_panel.png`. Examples of one
    name get `_2`, `_3`, ... behind it.

    Args:
        examples: Dicts with `filename` (str or bytes), `image` ([h, w, c] in 0..255, shown as
            `channels.display_rgb` says) and perhaps `label` (integer [h, w]).
        predict: Maps an image to class ids, integer [h, w].
        output_dir: New or empty folder.
        class_names: One name per class, at most 256.
        palette: RGB colours in 0..255, [classes, 3].
        ignore_label: Id of the label pixels without a class.
        save_raw: Also write `raw_segmentation_results/a/b.png`, class ids as grey values, as the
            reference's `--also_save_raw_predictions`.
        raw_ids: What to write there in place of each class id; None for the id itself.
        total: Number of examples, for the remaining time; not needed if `examples` has a length.

    Raises:
        FileExistsError: If `output_dir` is not empty.
        ValueError: If an example, named in the message, does not fit its prediction or label.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and any(output_dir.iterdir()):
        raise FileExistsError(
            f"The output folder {output_dir} is not empty: delete it or choose another one."
        )
    pixels = np.zeros(len(class_names), np.int64)
    names: set[str] = set()
    for example in tqdm(examples, total=total, desc="pictures", unit="image"):
        filename = os.fsdecode(example["filename"])
        name = output_name(filename, names)
        prediction = np.asarray(predict(example["image"]))
        image = display_rgb(example["image"])
        try:
            drawn = panel(
                image,
                prediction,
                class_names=class_names,
                palette=palette,
                label=example.get("label"),
                ignore_label=ignore_label,
            )
        except ValueError as error:
            raise ValueError(f"{filename}: {error}") from error
        write_png(output_dir / f"{name}_panel.png", drawn)
        write_png(output_dir / f"{name}_overlay.png", overlay(image, prediction, palette))
        write_label_png(output_dir / f"{name}_prediction.png", prediction, palette)
        if save_raw:
            raw_path = output_dir / "raw_segmentation_results" / f"{name}.png"
            raw = prediction if raw_ids is None else np.asarray(raw_ids)[prediction]
            write_label_png(raw_path, raw, palette=None)
        pixels += np.bincount(prediction.ravel(), minlength=len(class_names))
    return VisualizationSummary(len(names), tuple(class_names), tuple(pixels.tolist()))


def output_name(filename: str, taken: set[str]) -> str:
    """Returns a relative path without suffix that is in no case outside the folder or taken."""
    path = PurePosixPath(filename.replace("\\", "/"))
    if path.is_absolute():  # as ADE20K's records have it
        path = PurePosixPath(path.name)
    if path.suffix.lower() in EXTENSIONS:
        path = path.with_suffix("")
    base = "/".join(part for part in path.parts if part not in ("/", "..")) or "image"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name


def _check_pair(image: np.ndarray, labels: np.ndarray, what: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"Expected a uint8 image [h, w, 3], found {image.dtype} {image.shape}.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected the {what} to be integer class ids, found {labels.dtype}.")
    if labels.shape != image.shape[:2]:
        raise ValueError(f"The {what} is {labels.shape} but the image {image.shape[:2]} (h, w).")


def _legend_entries(
    prediction: np.ndarray,
    label: np.ndarray | None,
    class_names: Sequence[str],
    palette: Palette,
    ignore_label: int | None,
) -> list[tuple[Sequence[int], str]]:
    """Returns colour and text of each class that occurs in the prediction or in the label."""
    predicted = np.bincount(prediction.ravel(), minlength=256) / prediction.size
    if label is None:
        return [
            (palette[c], f"{class_names[c]}  {percent(predicted[c])}")
            for c in np.flatnonzero(predicted).tolist()
        ]
    true = np.bincount(label.ravel(), minlength=256) / label.size
    void = 0.0
    if ignore_label is not None:
        void, true[ignore_label] = true[ignore_label], 0.0
    entries = [
        (palette[c], f"{class_names[c]}  {percent(predicted[c])} ({percent(true[c])})")
        for c in np.flatnonzero(predicted + true).tolist()
    ]
    return entries + ([(VOID_COLOR, f"void  ({percent(void)})")] if void else [])

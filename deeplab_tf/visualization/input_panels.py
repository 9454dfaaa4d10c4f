"""Pictures of what a training run sees: an example as it is, as the network gets it, its labels."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from deeplab_tf.colormap import VOID_COLOR, colorize
from deeplab_tf.data.channels import display_rgb
from deeplab_tf.image_files import write_png
from deeplab_tf.visualization.panel_layout import (
    fit,
    legend,
    percent,
    sheet,
    side_by_side,
    text_height,
)
from deeplab_tf.visualization.run import Palette, output_name

_FRAME_COLOR = (255, 60, 0)
_ROOM = 232
_STRIPE_WIDTH = 4


@dataclass(frozen=True)
class Placement:
    """How a crop lies in its image.

    Attributes:
        scaled_size: Height and width of the scaled image.
        offset: Row and column of the crop in the scaled image.
        flip: Whether the crop is then mirrored left to right.
        degrees: By how much it is then rotated about its centre, counter-clockwise.
    """

    scaled_size: tuple[int, int]
    offset: tuple[int, int]
    flip: bool
    degrees: float

    def corners(self, image_size: tuple[int, int], crop_size: tuple[int, int]) -> np.ndarray:
        """Where the crop's corners, clockwise from the top left one, lie in the unscaled image.

        Args:
            image_size: Height and width of the image.
            crop_size: Height and width of the crop.

        Returns:
            float64 [4, 2], x and y in pixels.
        """
        bottom, right = crop_size[0] - 1, crop_size[1] - 1
        centre = np.array([right / 2, bottom / 2])
        angle = np.deg2rad(self.degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)]) - centre
        corners = corners @ turn.T + centre
        if self.flip:
            corners[:, 0] = right - corners[:, 0]
        scaled = corners + self.offset[::-1]
        return (
            scaled
            * (np.array(image_size[::-1]) - 1)
            / np.maximum(np.array(self.scaled_size[::-1]) - 1, 1)
        )

    def __str__(self) -> str:
        """Scale, crop, flip and rotation in words."""
        parts = [f"scaled to {self.scaled_size[1]}x{self.scaled_size[0]}"]
        parts += [f"cropped at {self.offset[1]},{self.offset[0]}"]
        parts += ["flipped"] if self.flip else []
        parts += [f"rotated {self.degrees:+.1f} degrees"] if self.degrees else []
        return ", ".join(parts)


@dataclass(frozen=True)
class InputSummary:
    """What `visualize_inputs` saw; as text, the share of each class and of void.

    Attributes:
        class_names: One name per class.
        pixels: Number of pixels of each class in the network's inputs, and of void at the end.
        source_pixels: The same of the images as they are in the records.
    """

    class_names: tuple[str, ...]
    pixels: tuple[int, ...]
    source_pixels: tuple[int, ...]

    def __str__(self) -> str:
        """Lists the classes and their shares."""
        rows = [f"{'class':24}{'in the inputs':>14}{'in the images':>15}"]
        totals = max(sum(self.pixels), 1), max(sum(self.source_pixels), 1)
        names = (*self.class_names, "void (with padding)")
        for name, seen, there in zip(names, self.pixels, self.source_pixels, strict=True):
            rows.append(f"{name:24}{seen / totals[0]:14.2%}{there / totals[1]:15.2%}")
        return "\n".join(rows)


def label_overlay(
    image: np.ndarray, label: np.ndarray, palette: Palette, *, ignore_label: int
) -> np.ndarray:
    """Blends the colours of the classes over the image; void gets stripes.

    Args:
        image: uint8 [h, w, 3], RGB.
        label: Integer [h, w], class ids or `ignore_label`.
        palette: RGB colours in 0..255, [classes, 3].
        ignore_label: Id of void.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        ValueError: If a label has no colour.
    """
    blended = cv2.addWeighted(
        colorize(label, palette, ignore_label=ignore_label), 0.5, image, 0.5, 0
    )
    stripes = np.add.outer(*map(np.arange, label.shape)) // _STRIPE_WIDTH % 2 == 0
    void = label == ignore_label
    blended[void] = image[void] // 2
    blended[void & stripes] = VOID_COLOR
    return blended


def input_panel(
    source: np.ndarray,
    image: np.ndarray,
    label: np.ndarray,
    *,
    placement: Placement,
    name: str,
    class_names: Sequence[str],
    palette: Palette,
    ignore_label: int,
) -> np.ndarray:
    """Draws an image with the frame of its crop, the network's input, and the labels over it.

    Args:
        source: uint8 [h, w, 3], RGB, the whole image.
        image: uint8 [crop_h, crop_w, 3], RGB, what the network gets.
        label: Integer [crop_h, crop_w], class ids or `ignore_label`.
        placement: How the crop lies in the image.
        name: What to call the image.
        class_names: One name per class.
        palette: RGB colours in 0..255, [classes, 3].
        ignore_label: Id of void.

    Returns:
        uint8 [panel height, panel width, 3], RGB.
    """
    panes = [
        _framed(source, placement.corners(source.shape[:2], image.shape[:2])),
        fit(image, cv2.INTER_AREA),
        fit(label_overlay(image, label, palette, ignore_label=ignore_label), cv2.INTER_AREA),
    ]
    titles = [
        f"{name}, {source.shape[1]}x{source.shape[0]}",
        f"input of the network, {image.shape[1]}x{image.shape[0]}",
        "its labels; void is striped",
    ]
    height = text_height(panes[1])
    row = side_by_side(panes, titles, height)
    counts = _pixels(label, len(class_names), ignore_label) / label.size
    colors = [*palette, VOID_COLOR]
    entries = [
        (colors[i], f"{(*class_names, 'void')[i]}  {percent(counts[i])}")
        for i in np.flatnonzero(counts).tolist()
    ]
    return sheet(row, legend(entries, str(placement), row.shape[1], height), height)


def visualize_inputs(
    examples: Iterable[Mapping[str, Any]],
    *,
    output_dir: str | Path,
    class_names: Sequence[str],
    palette: Palette,
    ignore_label: int,
    total: int,
) -> InputSummary:
    """Writes a panel for each example, `0003_name_input.png` for number 3 of the run.

    Args:
        examples: Dicts with `filename` (str or bytes), `source` and `source_label` (the image and
            label of the records), `image` and `label` (the network's) and `placement`.
        output_dir: New or empty folder.
        class_names: One name per class.
        palette: RGB colours in 0..255, [classes, 3].
        ignore_label: Id of the label pixels without a class.
        total: Number of examples.

    Raises:
        FileExistsError: If `output_dir` is not empty.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and any(output_dir.iterdir()):
        raise FileExistsError(
            f"The output folder {output_dir} is not empty: delete it or choose another one."
        )
    seen, there = np.zeros((2, len(class_names) + 1), np.int64)
    for number, example in enumerate(tqdm(examples, total=total, desc="inputs", unit="image")):
        filename = os.fsdecode(example["filename"])
        drawn = input_panel(
            display_rgb(example["source"]),
            display_rgb(example["image"]),
            example["label"],
            placement=example["placement"],
            name=filename,
            class_names=class_names,
            palette=palette,
            ignore_label=ignore_label,
        )
        stem = output_name(filename, set()).replace("/", "_")
        write_png(output_dir / f"{number:04d}_{stem}_input.png", drawn)
        seen += _pixels(example["label"], len(class_names), ignore_label)
        there += _pixels(example["source_label"], len(class_names), ignore_label)
    return InputSummary(tuple(class_names), tuple(seen.tolist()), tuple(there.tolist()))


def _framed(source: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The image with the outline of a crop, whose first corner has a dot.

    Around the image there is room for as much of the crop as reaches beyond it.
    """
    size = np.array(source.shape[1::-1])
    before = np.maximum(np.ceil(-corners.min(axis=0)), 0).astype(int) + 2
    after = np.maximum(np.ceil(corners.max(axis=0) - size), 0).astype(int) + 2
    (left, top), (right, bottom) = before.tolist(), after.tolist()
    room = ((top, bottom), (left, right), (0, 0))
    pane = fit(np.pad(source, room, constant_values=_ROOM), cv2.INTER_AREA)
    enlargement = pane.shape[0] / (top + source.shape[0] + bottom)
    # Pixel centres stay pixel centres.
    points = np.rint((corners + before + 0.5) * enlargement - 0.5).astype(np.int32)
    framed = np.ascontiguousarray(pane)
    width = max(2, text_height(pane) // 6)
    cv2.polylines(framed, [points], True, _FRAME_COLOR, width, cv2.LINE_AA)
    cv2.circle(framed, tuple(points[0].tolist()), 3 * width, _FRAME_COLOR, cv2.FILLED, cv2.LINE_AA)
    return framed


def _pixels(label: np.ndarray, num_classes: int, ignore_label: int) -> np.ndarray:
    """Number of pixels of each class, and of void at the end."""
    counts = np.bincount(label.ravel(), minlength=256)
    void = counts[ignore_label]
    counts[ignore_label] = 0
    return np.append(counts[:num_classes], void)

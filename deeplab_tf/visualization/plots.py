"""Charts as PNG files: the curves of a run, and what an evaluation finds.

Matplotlib is imported when something is drawn. Figures are made without pyplot, which would ask for
a screen, or keep them for ever.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_tf.evaluation.boundary import Border
from deeplab_tf.evaluation.calibration import BINS, Reliability
from deeplab_tf.evaluation.metrics import SegmentationScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More classes than this have cells too small for numbers.
_MOST_WITH_NUMBERS = 21


def curves_png(
    rows: Sequence[dict[str, Any]],
    *,
    title: str = "",
    score: str = "miou",
    score_name: str = "mIoU",
) -> bytes:
    """Draws loss, learning rate and the score of validations over the steps.

    Args:
        rows: Those of a `History`.
        title: What stands above.
        score: That of the validations' rows.
        score_name: What the axis calls it.
    """
    steps = [row for row in rows if "loss" in row]
    validations = [row for row in rows if row.get(score) is not None]
    panels = [_draw_loss, _draw_learning_rate]
    figure = _figure(8, 8 if validations else 5.5)
    axes = figure.subplots(3 if validations else 2, 1, sharex=True)
    for axis, draw in zip(axes, panels, strict=False):
        draw(axis, steps)
    if validations:
        _draw_score(axes[-1], validations, score, score_name)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.margins(x=0.02)
    axes[-1].set_xlabel("step")
    figure.suptitle(title)
    return _png(figure)


def confusion_png(confusion: np.ndarray, class_names: Sequence[str], *, title: str = "") -> bytes:
    """Draws of each class's label pixels the shares that are predicted as each class.

    Args:
        confusion: Integer [classes, classes], rows = labels, columns = predictions.
        class_names: One name per class.
        title: What stands above.
    """
    count = len(class_names)
    pixels = confusion.sum(axis=1, keepdims=True)
    shares = np.where(pixels > 0, confusion / np.maximum(pixels, 1), np.nan)
    side = min(16.0, 3 + 0.5 * count)
    figure = _figure(side + 1, side)
    axis = figure.subplots()
    colours = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # Points are 1/72 inch; names take three quarters of their row.
    size = min(9.0, 0.75 * 72 * (side - 2) / count)
    axis.set_xticks(range(count), class_names, rotation=90, fontsize=size)
    axis.set_yticks(range(count), class_names, fontsize=size)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    if count <= _MOST_WITH_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                ink = "white" if share > 0.5 else "black"
                axis.text(
                    column, row, f"{share:.0%}", ha="center", va="center", fontsize=7, color=ink
                )
    figure.colorbar(colours, fraction=0.04, label="share of the label's pixels")
    axis.set_title(title)
    return _png(figure)


def trimap_png(
    bands: Mapping[int, SegmentationScores], whole: SegmentationScores, *, around: Border
) -> bytes:
    """Draws mean IoU and pixel accuracy over the width of the band (v1, Fig. 5; v3+, Fig. 5).

    Args:
        bands: Scores by the width in pixels, rising.
        whole: Those of all pixels, as dashed lines.
        around: What the bands lie around.
    """
    figure = _figure(8, 5)
    axis = figure.subplots()
    widths = list(bands)
    for name, color in (("mean IoU", "tab:blue"), ("pixel accuracy", "tab:orange")):
        field = name.lower().replace(" ", "_")
        values = [100 * getattr(scores, field) for scores in bands.values()]
        axis.plot(widths, values, marker="o", color=color, label=name)
        axis.axhline(100 * getattr(whole, field), color=color, linestyle="--", linewidth=1)
    axis.set_xlabel(f"width of the band around {around}, pixels")
    axis.set_ylabel("% (dashed: all pixels)")
    axis.set_xlim(0, None)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    return _png(figure)


def reliability_png(reliability: Reliability) -> bytes:
    """Draws the accuracy of the pixels of each bin of confidence, and how many there are.

    Bars below the diagonal are of a network that is surer than it is right.
    """
    figure = _figure(8, 6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = np.maximum(reliability.weight, 1)
    centres = (np.arange(BINS) + 0.5) / BINS
    shares = reliability.weight / max(reliability.weight.sum(), 1)
    bars = {"width": 0.9 / BINS, "color": "tab:blue"}
    above.bar(centres, reliability.correct / filled, label="accuracy", **bars)
    seen = reliability.weight > 0
    above.plot(
        (reliability.confidence / filled)[seen],
        (reliability.confidence / filled)[seen],
        "_",
        color="tab:red",
        markersize=18,
        label="mean confidence",
    )
    above.plot((0, 1), (0, 1), "--", color="gray", linewidth=1)
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1)
    above.legend(loc="upper left")
    below.bar(centres, shares, **bars)
    below.set_ylabel("share of pixels")
    below.set_xlabel("confidence, the probability of the predicted class")
    below.set_xlim(0, 1)
    for axis in (above, below):
        axis.grid(alpha=0.3)
    return _png(figure)


def decode_png(data: bytes) -> np.ndarray:
    """The pixels of a picture, uint8 [h, w, 3]."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _draw_loss(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    axis.set_ylabel("loss")
    # The loss of one batch says little: the line is the mean of a fiftieth of the run.
    window = math.ceil(len(losses) / 50)
    if window > 1:
        axis.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.8)
        sums = np.cumsum([0.0, *losses])
        means = (sums[window:] - sums[:-window]) / window
        axis.plot(steps[window - 1 :], means, color="tab:blue")
    else:
        axis.plot(steps, losses, color="tab:blue")


def _draw_learning_rate(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    axis.set_ylabel("learning rate")
    axis.plot([row["step"] for row in rows], [row["learning_rate"] for row in rows], "tab:orange")
    axis.ticklabel_format(axis="y", scilimits=(-2, 2))


def _draw_score(axis: Any, rows: Sequence[dict[str, Any]], score: str, name: str) -> None:
    axis.set_ylabel(f"validation {name}")
    steps, scores = [row["step"] for row in rows], [row[score] for row in rows]
    axis.plot(steps, scores, color="tab:green", marker=".")
    best = int(np.argmax(scores))
    axis.plot(
        steps[best],
        scores[best],
        "*",
        color="tab:red",
        markersize=11,
        label=f"best: {scores[best]:.4f} at step {steps[best]}",
    )
    axis.legend(loc="lower right")


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _png(figure: "Figure") -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", bbox_inches="tight")
    return data.getvalue()

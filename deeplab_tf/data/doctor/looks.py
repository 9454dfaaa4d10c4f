"""What one image and its label look like: their faults, and what the sums need."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.kinds import Finding, Kind
from deeplab_tf.data.faults import FaultyFileError

# Of the pixels beside a change of label, the share that lies between both neighbours. CamVid's
# masks have at most 0.013; resized bilinearly or bicubically they have 0.2 to 0.4.
_SMOOTH_SHARE = 0.1
_LEAST_SMOOTH_VALUES = 3

Color = tuple[int, int, int]


@dataclass
class Look:
    """What was seen of one image and its label; small, whatever they are.

    Attributes:
        splits: The splits that they are in.
        image: What findings call the image.
        mask: What findings call the mask.
        findings: What is wrong with them.
        counts: int64 [256], pixels by label; None if the label cannot be read.
        colors: RGB of the labels that occur, if the mask is a palette image.
        size: (height, width) of the image, upright; None if it cannot be read.
        digest: Hash of the upright image's size and pixels.
        extremes: Lowest and highest value of the image, where the range of values matters.
    """

    splits: tuple[str, ...]
    image: str
    mask: str
    findings: list[Finding] = field(default_factory=list)
    counts: np.ndarray | None = None
    colors: dict[int, Color] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    digest: bytes = b""
    extremes: tuple[int, int] | None = None

    def add(self, kind: Kind, file: str, found: str) -> None:
        """Adds a finding about one file."""
        self.findings.append(Finding(kind, (file,), found))

    def add_fault(self, error: Exception, file: str, path: str | os.PathLike[str]) -> None:
        """Adds what a reader refused."""
        kind = kinds.UNDECODABLE
        if isinstance(error, FaultyFileError):
            kind = kinds.kind_named(error.fault)
        self.add(kind, file, str(error).removeprefix(f"{path}: "))


def look_at_labels(look: Look, labels: np.ndarray, *, ignore_label: int) -> None:
    """Counts the pixels of uint8 [h, w] labels, and finds masks of one class and smooth ones."""
    look.counts = np.bincount(labels.ravel(), minlength=256)
    classes = [label for label in np.flatnonzero(look.counts).tolist() if label != ignore_label]
    if not classes:
        look.add(kinds.MASK_IS_VOID, look.mask, f"all pixels have the ignore label {ignore_label}")
    elif len(classes) == 1:
        void = int(look.counts[ignore_label])
        beside = f"but for {void / labels.size:.0%} of void" if void else "everywhere"
        look.add(kinds.MASK_HAS_ONE_CLASS, look.mask, f"label {classes[0]} {beside}")
    else:
        _look_for_smoothing(look, labels)


def below(path: Path, root: Path) -> str:
    """A path as findings show it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _look_for_smoothing(look: Look, labels: np.ndarray) -> None:
    """Finds edges that pass through values in between.

    Regions of two classes touch, so a pixel at their border equals one of its two neighbours. Only
    a region one pixel wide has pixels between both by chance.
    """
    steps, between, values = 0, 0, set[int]()
    for pixels in (labels.astype(np.int16), labels.T.astype(np.int16)):
        before, here, after = pixels[:-2], pixels[1:-1], pixels[2:]
        rising = (before < here) & (here < after)
        falling = (before > here) & (here > after)
        steps += int(((before != here) | (here != after)).sum())
        between += int((rising | falling).sum())
        values.update(np.unique(here[rising | falling]).tolist())
    if len(values) >= _LEAST_SMOOTH_VALUES and between > _SMOOTH_SHARE * steps:
        shown = ", ".join(map(str, sorted(values)[:6]))
        look.add(
            kinds.MASK_IS_SMOOTHED,
            look.mask,
            f"{between / steps:.0%} of the pixels along edges lie between their neighbours, with "
            f"{len(values)} values such as {shown}",
        )

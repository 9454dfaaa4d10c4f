"""What all looks add up to: pixels by class and split, and what only a comparison finds."""

from dataclasses import dataclass, field

import numpy as np

from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.classes import Classes, belong_apart
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.kinds import Finding
from deeplab_tf.data.doctor.looks import Color, Look
from deeplab_tf.data.masks import describe_values

# Of each label, so many masks are remembered by name.
_REMEMBERED = 1000


def _no_pixels() -> np.ndarray:
    return np.zeros(256, np.int64)


@dataclass
class SplitSurvey:
    """Sums over a split.

    Attributes:
        images: Images in it.
        pixels: int64 [256], pixels by label.
        shown: int64 [256], images that show a label.
        pixels_of_shown: int64 [256], pixels but void of the images that show a label.
    """

    images: int = 0
    pixels: np.ndarray = field(default_factory=_no_pixels)
    shown: np.ndarray = field(default_factory=_no_pixels)
    pixels_of_shown: np.ndarray = field(default_factory=_no_pixels)


class Survey:
    """Sums over a data set, a hash per image, and the findings.

    Attributes:
        splits: Sums by split.
        findings: What is wrong with single images, and with images beside others.
        no_class: Findings of masks with labels that are no class: their cause may be one for all.
        largest: Largest height and largest width of the images.
        decoded_bytes: Size of all images, with the bits they have, and of all labels, as uint8.
        extremes: Lowest and highest value of the images, where they were looked at.
        outside: The first thousand images with values outside the range of values.
    """

    def __init__(self, splits: tuple[str, ...], classes: Classes, images: ImageSpec) -> None:
        self.splits = {split: SplitSurvey() for split in splits}
        self.findings: list[Finding] = []
        self.no_class: list[Finding] = []
        self.largest = (0, 0)
        self.decoded_bytes = 0
        self.extremes: tuple[int, int] | None = None
        self.outside: list[str] = []
        self._classes = classes
        self._images = images
        self._first_with: dict[bytes, tuple[tuple[str, ...], str]] = {}
        self._first_color: dict[int, tuple[Color, str]] = {}
        self._masks_with: dict[int, list[str]] = {}

    def add(self, look: Look) -> None:
        """Adds an image and its label."""
        self.findings += look.findings
        if look.size is not None:
            height, width = look.size
            self.largest = (max(self.largest[0], height), max(self.largest[1], width))
            self.decoded_bytes += (self._images.pixel_bytes() + 1) * height * width
        if look.digest:
            self._compare_pictures(look)
        if look.extremes is not None:
            self._add_values(look.image, look.extremes)
        for split in look.splits:
            self.splits[split].images += 1
        if look.counts is not None:
            self._add_labels(look, look.counts)

    def labels(self) -> list[int]:
        """The labels that occur, void included, sorted."""
        total = sum((split.pixels for split in self.splits.values()), _no_pixels())
        return np.flatnonzero(total).tolist()

    def masks_with(self, label: int) -> tuple[str, ...]:
        """The first thousand masks with a label."""
        return tuple(self._masks_with.get(label, ()))

    def _add_values(self, image: str, extremes: tuple[int, int]) -> None:
        both = (*(self.extremes or ()), *extremes)
        self.extremes = (min(both), max(both))
        low, high = self._images.value_range
        if (extremes[0] < low or extremes[1] > high) and len(self.outside) < _REMEMBERED:
            self.outside.append(image)

    def _add_labels(self, look: Look, counts: np.ndarray) -> None:
        found = np.flatnonzero(counts)
        labelled = counts.sum() - counts[self._classes.ignore_label]
        for name in look.splits:
            split = self.splits[name]
            split.pixels += counts
            split.shown[found] += 1
            split.pixels_of_shown[found] += labelled
        for label in found.tolist():
            masks = self._masks_with.setdefault(label, [])
            if len(masks) < _REMEMBERED:
                masks.append(look.mask)
        wrong = [label for label in found.tolist() if not self._classes.is_class(label)]
        if wrong:
            text = f"holds {describe_values(np.array(wrong))}"
            if look.colors:
                text += f", a palette's indices; the first is the colour {look.colors[wrong[0]]}"
            self.no_class.append(Finding(kinds.LABEL_IS_NO_CLASS, (look.mask,), text))
        if look.colors:
            self._compare_colors(look)

    def _compare_pictures(self, look: Look) -> None:
        splits, image = self._first_with.setdefault(look.digest, (look.splits, look.image))
        if image == look.image:
            return
        pair = (image, look.image)
        where = f"in {', '.join(splits)} and in {', '.join(look.splits)}"
        if belong_apart(splits, look.splits):
            self.findings.append(Finding(kinds.PICTURE_IN_TWO_SPLITS, pair, where))
        elif shared := sorted(set(splits) & set(look.splits)):
            self.findings.append(Finding(kinds.PICTURE_TWICE, pair, f"in {', '.join(shared)}"))

    def _compare_colors(self, look: Look) -> None:
        palette, ignore_label = self._classes.palette, self._classes.ignore_label
        colors = {label: color for label, color in look.colors.items() if label != ignore_label}
        for label, color in colors.items():
            first, mask = self._first_color.setdefault(label, (color, look.mask))
            if first != color:
                found = f"index {label} is the colour {color}, and {first} in {mask}"
                self.findings.append(Finding(kinds.PALETTES_DIFFER, (look.mask,), found))
                break
        if palette is None or not set(colors.values()) <= set(palette):
            return
        for label, color in colors.items():
            expected = palette.index(color)
            if label != expected:
                found = f"index {label} is {color}, the colour of {self._classes.name(expected)}"
                self.findings.append(Finding(kinds.PALETTE_IN_OTHER_ORDER, (look.mask,), found))
                break

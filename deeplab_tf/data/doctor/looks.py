"""One image and its label, looked at by themselves: their faults, and what the sums need."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_tf.data import images
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.kinds import Finding, Kind
from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.data.masks import labels_of, palette_of
from deeplab_tf.data.pairing import Sample
from deeplab_tf.data.reading import FileReader

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
        digest: Hash of the upright image's size and RGB pixels.
    """

    splits: tuple[str, ...]
    image: str
    mask: str
    findings: list[Finding] = field(default_factory=list)
    counts: np.ndarray | None = None
    colors: dict[int, Color] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    digest: bytes = b""

    def add(self, kind: Kind, file: str, found: str) -> None:
        """Adds a finding about one file."""
        self.findings.append(Finding(kind, (file,), found))

    def add_fault(self, error: Exception, file: str, path: str | os.PathLike[str]) -> None:
        """Adds what a reader refused."""
        kind = kinds.UNDECODABLE
        if isinstance(error, FaultyFileError):
            kind = kinds.kind_named(error.fault)
        self.add(kind, file, str(error).removeprefix(f"{path}: "))


@dataclass(frozen=True)
class FilePair:
    """An image file and a mask file.

    Attributes:
        sample: The files.
        splits: The splits that they are in.
        read: How masks are read.
        root: The folder that is examined.
    """

    sample: Sample
    splits: tuple[str, ...]
    read: FileReader
    root: Path

    def look(self) -> Look:
        """Decodes both."""
        image_path, mask_path = self.sample.image_path, self.sample.mask_path
        look = Look(self.splits, below(image_path, self.root), below(mask_path, self.root))
        labels = None
        try:
            labels = self._look_at_mask(look)
        except (OSError, FaultyFileError) as error:
            look.add_fault(error, look.mask, mask_path)
        try:
            data = image_path.read_bytes()
            image = images.load_image(data, image_path)
            _look_at_kind(look, image, data)
            _look_at_orientation(look, image, image_path, labels)
            _look_at_pixels(look, images.upright(images.to_rgb(image, image_path)))
        except (OSError, FaultyFileError) as error:
            look.add_fault(error, look.image, image_path)
        return look

    def _look_at_mask(self, look: Look) -> np.ndarray:
        path = self.sample.mask_path
        data = path.read_bytes()
        image = images.load_image(data, path)
        labels = labels_of(
            image,
            data,
            path,
            mask_type=self.read.mask_type,
            ignore_label=self.read.ignore_label,
            color_table=self.read.color_table,
            label_map=self.read.label_map,
        )
        look_at_labels(look, labels, ignore_label=self.read.ignore_label)
        look.colors = self._colors(image, look.counts)
        return labels

    def _colors(self, image: Image.Image, counts: np.ndarray | None) -> dict[int, Color]:
        """The colours of the labels that occur, where the labels are a palette's indices."""
        palette = palette_of(image)
        if palette is None or counts is None or self.read.label_map or self.read.color_table:
            return {}
        used = np.flatnonzero(counts).tolist()
        return {
            label: (r, g, b) for label, (r, g, b) in zip(used, palette[used].tolist(), strict=True)
        }


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


def look_at_stored_image(
    look: Look, data: bytes, path: str, labels: np.ndarray | None, *, pixels: bool
) -> None:
    """Looks at an image in a record, where TensorFlow takes the pixels as they are stored.

    Raises:
        FaultyFileError: The image cannot be decoded; its header, unless `pixels`.
    """
    image = images.load_image(data, path) if pixels else images.open_image(data, path)
    look.size = (image.height, image.width)
    if not (fits := labels is None or labels.shape == look.size):
        height, width = labels.shape
        found = (
            f"the image is {image.width}x{image.height} (width x height), its label "
            f"{width}x{height}; they must be the same"
        )
        look.add(kinds.SIZE_MISMATCH, look.image, found)
    if pixels:
        _look_at_kind(look, image, data)
        if fits:
            _look_at_orientation(look, image, path, labels)
        _look_at_pixels(look, images.to_rgb(image, path))


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


def _look_at_kind(look: Look, image: Image.Image, data: bytes) -> None:
    mode = image.mode
    # Pillow reads PNGs of 16-bit RGB as 8-bit ones.
    if mode.startswith("I") or (image.format == "PNG" and data[24] == 16):
        look.add(kinds.IMAGE_IS_16_BIT, look.image, f"a {image.format} of 16 bits per channel")
    if mode in ("1", "L", "LA") or mode.startswith("I"):
        look.add(kinds.IMAGE_IS_GREY, look.image, f"a {image.format} of one channel")
    if mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        look.add(kinds.IMAGE_HAS_ALPHA, look.image, f"a {image.format} with transparency")
    if mode == "CMYK":
        look.add(kinds.IMAGE_IS_CMYK, look.image, f"a {image.format} in CMYK")
    frames = _frames(image)
    if frames > 1 and image.format != "MPO":  # the other pictures of an MPO are views of the first
        look.add(kinds.IMAGE_IS_ANIMATED, look.image, f"a {image.format} of {frames} frames")


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # Damaged frames behind the first raise much; they are not read.
        return 1


def _look_at_orientation(
    look: Look, image: Image.Image, path: str | os.PathLike[str], labels: np.ndarray | None
) -> None:
    if labels is None:
        return
    height, width = labels.shape
    try:
        images.is_turned(image, path, mask_size=(height, width))
    except FaultyFileError as error:
        look.add_fault(error, look.image, path)
        return
    orientation = images.orientation_of(image)
    if orientation != 1:
        size_tells = orientation >= 5 and image.width != image.height
        kind = kinds.EXIF_ORIENTATION if size_tells else kinds.EXIF_AMBIGUOUS
        look.add(kind, look.image, f"EXIF orientation {orientation}")


def _look_at_pixels(look: Look, image: Image.Image) -> None:
    look.size = (image.height, image.width)
    digest = hashlib.blake2b(repr(look.size).encode(), digest_size=16)
    digest.update(image.tobytes())
    look.digest = digest.digest()

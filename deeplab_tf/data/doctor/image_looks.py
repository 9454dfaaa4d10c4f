"""What is looked at in an image, whether it is in a file or in a record."""

import hashlib
import os

import numpy as np
from PIL import Image

from deeplab_tf.data import images
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.looks import Look
from deeplab_tf.data.faults import FaultyFileError


def look_at_kind(look: Look, image: Image.Image, data: bytes, *, spec: ImageSpec) -> None:
    """Finds what becomes 8-bit RGB, or grey, but was something else."""
    mode = image.mode
    # Pillow reads PNGs of 16-bit RGB as 8-bit ones.
    if mode.startswith("I") or (image.format == "PNG" and data[24] == 16):
        look.add(kinds.IMAGE_IS_16_BIT, look.image, f"a {image.format} of 16 bits per channel")
    is_grey = mode in ("1", "L", "LA") or mode.startswith("I")
    if is_grey and spec.input_channels == 3:
        look.add(kinds.IMAGE_IS_GREY, look.image, f"a {image.format} of one channel")
    if not (is_grey or mode == "F") and spec.input_channels == 1:
        look_for_colors(look, np.asarray(images.to_rgb(image, look.image)))
    if mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        look.add(kinds.IMAGE_HAS_ALPHA, look.image, f"a {image.format} with transparency")
    if mode == "CMYK":
        look.add(kinds.IMAGE_IS_CMYK, look.image, f"a {image.format} in CMYK")
    look_for_frames(look, image)


def look_for_colors(look: Look, rgb: np.ndarray) -> None:
    """Finds colours in [h, w, 3], where grey is expected."""
    if (rgb != rgb[..., :1]).any():
        look.add(kinds.IMAGE_HAS_COLORS, look.image, "its red, green and blue differ")


def look_for_frames(look: Look, image: Image.Image) -> None:
    """Finds images behind the first."""
    frames = _frames(image)
    if frames > 1 and image.format != "MPO":  # the other pictures of an MPO are views of the first
        look.add(kinds.IMAGE_IS_ANIMATED, look.image, f"a {image.format} of {frames} frames")


def look_at_orientation(
    look: Look, image: Image.Image, path: str | os.PathLike[str], labels: np.ndarray | None
) -> None:
    """Finds images that are turned by EXIF, and those that fit their labels in neither way."""
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


def look_at_size(
    look: Look, size: tuple[int, int], labels: np.ndarray | None, *, mask: str = "mask"
) -> bool:
    """Whether an image of this (height, width), which the look gets, fits its labels."""
    look.size = size
    if labels is None or labels.shape == size:
        return True
    height, width = labels.shape
    found = (
        f"the image is {size[1]}x{size[0]} (width x height), its {mask} {width}x{height}; they "
        "must be the same"
    )
    look.add(kinds.SIZE_MISMATCH, look.image, found)
    return False


def look_at_pixels(look: Look, pixels: np.ndarray, *, spec: ImageSpec) -> None:
    """Takes size, hash and values of an image, [h, w, c] or [h, w]."""
    look.size = (pixels.shape[0], pixels.shape[1])
    digest = hashlib.blake2b(repr(look.size).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    look.digest = digest.digest()
    if spec.has_range:
        look.extremes = (int(pixels.min()), int(pixels.max()))


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # Damaged frames behind the first raise much; they are not read.
        return 1

"""Image files of any common kind -> upright 8-bit RGB, as bytes that every reader decodes alike."""

import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")

# What the reference's reader knows; MPO is what many phones call a JPEG with a second picture.
_RECORD_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class EncodedImage:
    """An image as it goes into a record.

    Attributes:
        data: JPEG or PNG bytes that decode to 8-bit RGB.
        image_format: "jpeg" or "png".
        size: (height, width) in pixels.
        turned: True if an EXIF orientation was applied to the pixels.
    """

    data: bytes
    image_format: str
    size: tuple[int, int]
    turned: bool


def load_image(data: bytes, path: str | os.PathLike[str]) -> Image.Image:
    """Decodes image bytes completely, so that truncated ones do not go unnoticed.

    Raises:
        ValueError: The bytes are no image, or a damaged or truncated one; the message names `path`.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        if image.format == "PNG":
            _check_png(data)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: no image of a known kind, or a damaged one") from None
    except Exception as error:  # Damaged files raise OSError, SyntaxError, struct.error and others.
        raise ValueError(f"{path}: damaged or truncated ({error})") from error
    return image


def _check_png(data: bytes) -> None:
    """Raises ValueError if a chunk of a PNG is damaged.

    Pillow does not look at all of them; TensorFlow does, and would refuse the file in a record.
    """
    start, kind = 8, b""
    while kind != b"IEND":
        end = start + 12 + int.from_bytes(data[start : start + 4])
        if end > len(data):
            raise ValueError("the PNG ends early")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(data[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise ValueError(f"wrong checksum in the PNG's chunk {kind!r}")
        start = end


def read_rgb(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image file as it is shown: EXIF orientation applied, alpha dropped.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, a damaged one, or one of floats.
    """
    image = load_image(Path(path).read_bytes(), path)
    rgb = _to_rgb(image, path)
    return np.asarray(rgb if _orientation(image) == 1 else ImageOps.exif_transpose(rgb))


def encode_image(path: str | os.PathLike[str], *, mask_size: tuple[int, int]) -> EncodedImage:
    """Reads an image file for a record.

    8-bit RGB and grey JPEG and PNG files keep their bytes, as in the reference. Everything else
    (alpha, palette, CMYK, 16-bit grey, other file formats, turned by EXIF) is encoded again: lossy
    files as JPEG, the others as PNG.

    TensorFlow ignores the EXIF orientation that phones write, while people and annotation tools see
    the image turned by it. So it is applied to the pixels, unless the mask fits only the stored
    ones.

    Args:
        path: The image file.
        mask_size: (height, width) of its mask.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, of floats, or not of the mask's size.
    """
    data = Path(path).read_bytes()
    image = load_image(data, path)
    stored_size = (image.height, image.width)
    orientation = _orientation(image)
    shown_size = stored_size[::-1] if orientation >= 5 else stored_size
    if mask_size not in (stored_size, shown_size):
        raise ValueError(
            f"{path}: the image is {shown_size[1]}x{shown_size[0]} (width x height), "
            f"its mask {mask_size[1]}x{mask_size[0]}; they must be the same"
        )
    turned = orientation != 1 and mask_size == shown_size
    if image.format in _RECORD_FORMATS and image.mode in ("RGB", "L") and not turned:
        return EncodedImage(data, _RECORD_FORMATS[image.format], mask_size, turned)

    rgb = _to_rgb(image, path)
    if turned:
        rgb = ImageOps.exif_transpose(rgb)
    # Only the pixels go on: an orientation or a transparent colour must not come along.
    pixels = Image.fromarray(np.asarray(rgb))
    buffer = io.BytesIO()
    lossy = image.format in _LOSSY_FORMATS
    if lossy:
        pixels.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        pixels.save(buffer, "PNG")
    return EncodedImage(buffer.getvalue(), "jpeg" if lossy else "png", mask_size, turned)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none that can be read, as viewers take it."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # Damaged EXIF raises SyntaxError, struct.error and others.
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _to_rgb(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    if image.mode == "F":
        raise ValueError(f"{path}: an image of floats; expected 8 or 16 bits per channel")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette with transparency makes Pillow warn otherwise
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    # Pillow clips 16-bit grey at 255; TensorFlow takes the high byte, as is done here.
    high_byte = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
    rgb = Image.fromarray(high_byte).convert("RGB")
    rgb.info = image.info
    return rgb


def as_uint8(image: np.ndarray) -> np.ndarray:
    """An image of 0..255 as uint8: one that was resized is floating point, and is rounded."""
    return np.rint(image).astype(np.uint8)

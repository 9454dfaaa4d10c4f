"""Image files of any common kind -> upright 8-bit RGB, as bytes that every reader decodes alike.

Or 8-bit grey; other kinds of images are in `channels`.
"""

import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deeplab_tf.data.faults import FaultyFileError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")

# What the reference's reader knows; MPO is what many phones call a JPEG with a second picture.
_RECORD_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class EncodedImage:
    """An image as it goes into a record.

    Attributes:
        data: JPEG or PNG bytes that `records.decode_image` decodes.
        image_format: "jpeg" or "png".
        size: (height, width) in pixels.
        turned: True if an EXIF orientation was applied to the pixels.
        channels: How many channels they are decoded to.
        bit_depth: Bits of each, 8 or 16.
        extremes: Lowest and highest value, where they were looked at.
    """

    data: bytes
    image_format: str
    size: tuple[int, int]
    turned: bool
    channels: int = 3
    bit_depth: int = 8
    extremes: tuple[int, int] | None = None


def load_image(data: bytes, path: str | os.PathLike[str]) -> Image.Image:
    """Decodes image bytes completely, so that truncated ones do not go unnoticed.

    Raises:
        FaultyFileError: The bytes are no image, or a damaged or truncated one; the message names
            `path`.
    """
    image = open_image(data, path)
    try:
        image.load()
        if image.format == "PNG":
            _check_png(data)
    except Exception as error:  # Damaged files raise OSError, SyntaxError, struct.error and others.
        raise _damaged(path, error) from error
    return image


def open_image(data: bytes, path: str | os.PathLike[str]) -> Image.Image:
    """Reads the header of image bytes, for the size and the kind of the image.

    Raises:
        FaultyFileError: The bytes are no image, or their header is damaged.
    """
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        message = f"{path}: no image of a known kind, or a damaged one"
        raise FaultyFileError(message, "undecodable") from None
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> FaultyFileError:
    return FaultyFileError(f"{path}: damaged or truncated ({error})", "undecodable")


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
    return np.asarray(upright(to_rgb(image, path)))


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image file as `read_rgb` does, as uint8 [h, w, 1]; colours become luminance.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, a damaged one, of floats or 16 bits, or partly transparent.
    """
    image = load_image(Path(path).read_bytes(), path)
    return np.asarray(upright(to_grey(image, path)))[..., None]


def encode_image(
    path: str | os.PathLike[str], *, mask_size: tuple[int, int], input_channels: int = 3
) -> EncodedImage:
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
        input_channels: 3, or 1 to make it grey, as `read_grey` does.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, of floats, or not of the mask's size.
    """
    data = Path(path).read_bytes()
    return encode_image_bytes(data, path, mask_size=mask_size, input_channels=input_channels)


def encode_image_bytes(
    data: bytes,
    path: str | os.PathLike[str],
    *,
    mask_size: tuple[int, int],
    input_channels: int = 3,
) -> EncodedImage:
    """As `encode_image`, of a file's bytes; `path` is what messages call it."""
    image = load_image(data, path)
    turned = is_turned(image, path, mask_size=mask_size)
    kept = ("RGB", "L") if input_channels == 3 else ("L",)
    if image.format in _RECORD_FORMATS and image.mode in kept and not turned:
        return EncodedImage(
            data, _RECORD_FORMATS[image.format], mask_size, turned, channels=input_channels
        )

    converted = to_rgb(image, path) if input_channels == 3 else to_grey(image, path)
    if turned:
        converted = upright(converted)
    # Only the pixels go on: an orientation or a transparent colour must not come along.
    pixels = Image.fromarray(np.asarray(converted))
    buffer = io.BytesIO()
    lossy = image.format in _LOSSY_FORMATS
    if lossy:
        pixels.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        pixels.save(buffer, "PNG")
    return EncodedImage(
        buffer.getvalue(),
        "jpeg" if lossy else "png",
        mask_size,
        turned,
        channels=input_channels,
    )


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; from 5 on width and height change places."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Damaged EXIF raises much; viewers show the image all the same.
        return 1
    return orientation if orientation in range(1, 9) else 1


def upright(image: Image.Image) -> Image.Image:
    """An image as viewers show it: turned by its EXIF orientation."""
    return image if orientation_of(image) == 1 else ImageOps.exif_transpose(image)


def is_turned(
    image: Image.Image, path: str | os.PathLike[str], *, mask_size: tuple[int, int]
) -> bool:
    """Whether an image fits its mask as it is shown, turned by its EXIF orientation.

    Raises:
        FaultyFileError: It fits neither so nor as it is stored.
    """
    stored_size = (image.height, image.width)
    orientation = orientation_of(image)
    shown_size = stored_size[::-1] if orientation >= 5 else stored_size
    if mask_size not in (stored_size, shown_size):
        raise FaultyFileError(
            f"{path}: the image is {shown_size[1]}x{shown_size[0]} (width x height), "
            f"its mask {mask_size[1]}x{mask_size[0]}; they must be the same",
            "size-mismatch",
        )
    return orientation != 1 and mask_size == shown_size


def to_rgb(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """An image as 8-bit RGB, not turned.

    Raises:
        FaultyFileError: It is an image of floats.
    """
    if image.mode == "F":
        message = f"{path}: an image of floats; expected 8 or 16 bits per channel"
        raise FaultyFileError(message, "image-of-floats")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette with transparency makes Pillow warn otherwise
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    # Pillow clips 16-bit grey at 255; TensorFlow takes the high byte, as is done here.
    high_byte = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
    rgb = Image.fromarray(high_byte).convert("RGB")
    rgb.info = image.info
    return rgb


def to_grey(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """An image as 8-bit grey, not turned; colours become luminance.

    Raises:
        FaultyFileError: It is of floats or 16 bits, or partly transparent.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        raise FaultyFileError(
            f"{path}: expected 8 bits per channel, found an image of mode {image.mode}; for 16 "
            "bits give --bit_depth=16",
            "image-of-other-bits",
        )
    if image.mode == "P":
        image = image.convert("RGBA")
    if "A" in image.getbands() and (np.asarray(image.getchannel("A")) < 255).any():
        raise FaultyFileError(
            f"{path}: is transparent in places, and --input_channels=1 has no room for that; give "
            "--input_channels=2 for grey and alpha, 4 for RGB and alpha, or store it without",
            "image-of-other-channels",
        )
    return image.convert("L")


def as_uint8(image: np.ndarray) -> np.ndarray:
    """An image of 0..255 as uint8: one that was resized is floating point, and is rounded."""
    return image if image.dtype == np.uint8 else np.rint(image).astype(np.uint8)

"""Image files of any number of channels, of 8 or 16 bits each: reading, storing, showing."""

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deeplab_tf.data import images
from deeplab_tf.data.channel_files import (
    NPY,
    TIFF,
    blue_first,
    decode_stored,
    png_bits,
    with_channels,
)
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.data.images import EncodedImage, as_uint8

EXTENSIONS = (*images.EXTENSIONS, ".npy")

# By number of channels, those that are shown as red, green and blue.
_SHOWN = {1: (0, 0, 0), 2: (0, 1, 1)}


def extensions(*, input_channels: int, bit_depth: int) -> tuple[str, ...]:
    """Extensions of the files that such images may come in."""
    return images.EXTENSIONS if (input_channels, bit_depth) == (3, 8) else EXTENSIONS


def read_image(
    path: str | os.PathLike[str], *, input_channels: int = 3, bit_depth: int = 8
) -> np.ndarray:
    """Reads an image file.

    8-bit RGB is read as `images.read_rgb` does, 8-bit grey as `read_grey`, all else as stored: PNG,
    TIFF of up to four channels or of one page for each, and .npy of [h, w, channels] or [h, w]. An
    opaque alpha channel too many is dropped, one grey channel becomes RGB, and equal RGB one.

    Returns:
        uint8 or uint16 [h, w, input_channels].

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, a damaged one, or has other channels or bits.
    """
    data = Path(path).read_bytes()
    if is_photo(data, input_channels=input_channels, bit_depth=bit_depth):
        return images.read_rgb(path) if input_channels == 3 else images.read_grey(path)
    return fit_channels(
        decode_stored(data, path), path, input_channels=input_channels, bit_depth=bit_depth
    )


def encode_channels(
    path: str | os.PathLike[str],
    *,
    mask_size: tuple[int, int],
    input_channels: int = 3,
    bit_depth: int = 8,
) -> EncodedImage:
    """Reads an image file, as `read_image` does, for a record.

    8-bit grey and RGB: see `images.encode_image`. All else is a PNG as `records.decode_image`
    describes, without loss.

    Args:
        path: The image file.
        mask_size: (height, width) of its mask.
        input_channels: Channels it is to have.
        bit_depth: Bits of each, 8 or 16.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, of other channels or bits, or not of the mask's size.
    """
    data = Path(path).read_bytes()
    if is_photo(data, input_channels=input_channels, bit_depth=bit_depth):
        return images.encode_image(path, mask_size=mask_size, input_channels=input_channels)
    pixels = fit_channels(
        decode_stored(data, path), path, input_channels=input_channels, bit_depth=bit_depth
    )
    height, width = pixels.shape[:2]
    if mask_size != (height, width):
        raise FaultyFileError(
            f"{path}: the image is {width}x{height} (width x height), its mask "
            f"{mask_size[1]}x{mask_size[0]}; they must be the same",
            "size-mismatch",
        )
    return EncodedImage(
        data=encode_png(pixels),
        image_format="png",
        size=mask_size,
        turned=False,
        channels=input_channels,
        bit_depth=bit_depth,
        extremes=(int(pixels.min()), int(pixels.max())),
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes uint8 or uint16 [h, w, c] as the PNG that `records.decode_image` describes."""
    channels = pixels.shape[2]
    if channels in (3, 4):
        stored = pixels[..., blue_first(channels)]
    else:
        stored = pixels.transpose(2, 0, 1).reshape(-1, pixels.shape[1])
    _, data = cv2.imencode(".png", np.ascontiguousarray(stored))
    return data.tobytes()


def describe_range(found: tuple[int, int], value_range: tuple[float, float]) -> str:
    """Says which values images hold and which are used, and whether that looks wrong."""
    (lowest, highest), (low, high) = found, value_range
    text = (
        f"The images hold the values {lowest} to {highest}; {low:g} to {high:g} become 0 to 255 "
        "for the network."
    )
    fault = range_fault(found, value_range)
    if fault == "values-are-clipped":
        return f"{text} What lies outside is clipped: --value_range={lowest},{highest} keeps it."
    if fault == "values-are-few":
        return (
            f"{text} That is little of it, as where sensors of 12 bits are taken for 16: few grey "
            f"levels. --value_range={lowest},{highest} uses all of it."
        )
    return text


def range_fault(found: tuple[int, int], value_range: tuple[float, float]) -> str | None:
    """The kind of fault, as of `FaultyFileError`, if values do not suit the range; else None."""
    (lowest, highest), (low, high) = found, value_range
    if lowest < low or highest > high:
        return "values-are-clipped"
    return "values-are-few" if 0 < highest - lowest < (high - low) / 4 else None


def display_rgb(image: np.ndarray) -> np.ndarray:
    """What people, and the CRF, see of an image of any channels.

    Args:
        image: [h, w, c] in 0..255, of any number type.

    Returns:
        uint8 [h, w, 3], rounded: the first three channels; grey for one; of two, the first as red,
        the second as green and blue, so that grey is where they are equal.
    """
    return as_uint8(image)[..., shown_channels(image.shape[-1])]


def shown_channels(channels: int) -> list[int]:
    """Which of so many channels `display_rgb` shows as red, green and blue."""
    return list(_SHOWN.get(channels, (0, 1, 2)))


def stored_pixels(image: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Pixels as files have them, uint8 or uint16, of an image whose values are 0..255."""
    if info.stores_input:
        return image.astype(np.uint8, copy=False)
    low, high = info.value_range
    stored = np.round(low + image.astype(np.float64) / 255 * (high - low))
    return stored.astype(np.uint16 if info.bit_depth == 16 else np.uint8)


def is_photo(data: bytes, *, input_channels: int, bit_depth: int) -> bool:
    """Whether the module `images` is to read a file that holds `data`, not this one."""
    eight_bits_grey = input_channels == 1 and bit_depth == 8 and png_bits(data) < 16
    return (input_channels, bit_depth) == (3, 8) or (
        eight_bits_grey and not data.startswith((NPY, *TIFF))
    )


def fit_channels(
    pixels: np.ndarray, path: str | os.PathLike[str], *, input_channels: int, bit_depth: int
) -> np.ndarray:
    """Pixels [h, w, c] with so many channels, if they keep all they say.

    Raises:
        FaultyFileError: They would not, or they have other bits; the message names `path`.
    """
    bits, channels = 8 * pixels.dtype.itemsize, pixels.shape[2]
    if bits != bit_depth:
        raise FaultyFileError(
            f"{path}: has {bits} bits per channel; expected {bit_depth}, by --bit_depth",
            "image-of-other-bits",
        )
    if channels == input_channels:
        return pixels
    opaque = (pixels[..., -1] == np.iinfo(pixels.dtype).max).all()
    if (channels, input_channels) in ((2, 1), (4, 3)) and opaque:
        return pixels[..., :-1]
    if (channels, input_channels) == (1, 3):
        return pixels.repeat(3, axis=2)
    if (channels, input_channels) == (3, 1):
        if (pixels == pixels[..., :1]).all():
            return pixels[..., :1]
        if bits == 8:
            return with_channels(np.asarray(Image.fromarray(pixels).convert("L")))
    raise FaultyFileError(
        f"{path}: has {channels} channel(s); expected {input_channels}, by --input_channels",
        "image-of-other-channels",
    )

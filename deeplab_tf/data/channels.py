"""Image files of any number of channels, of 8 or 16 bits each: reading, storing, showing.

Pillow makes 8 bits of 16-bit RGB without a word, and OpenCV fewer channels of a TIFF's, so every
file is read by the one that keeps its values, or refused.
"""

import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from deeplab_tf.data import images
from deeplab_tf.data.images import EncodedImage, as_uint8, load_image

EXTENSIONS = (*images.EXTENSIONS, ".npy")

_PNG, _NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_GREY_ALPHA = 4  # colour type of a PNG
_ORIENTATION = 0x0112
_PILLOW_MODES = ("L", "LA", "RGB", "RGBA")
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
    if _is_photo(data, input_channels=input_channels, bit_depth=bit_depth):
        return images.read_rgb(path) if input_channels == 3 else images.read_grey(path)
    return _fitted(_decode(data, path), path, input_channels=input_channels, bit_depth=bit_depth)


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
    if _is_photo(data, input_channels=input_channels, bit_depth=bit_depth):
        return images.encode_image(path, mask_size=mask_size, input_channels=input_channels)
    pixels = _fitted(_decode(data, path), path, input_channels=input_channels, bit_depth=bit_depth)
    height, width = pixels.shape[:2]
    if mask_size != (height, width):
        raise ValueError(
            f"{path}: the image is {width}x{height} (width x height), its mask "
            f"{mask_size[1]}x{mask_size[0]}; they must be the same"
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
        stored = pixels[..., _blue_first(channels)]
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
    if lowest < low or highest > high:
        return f"{text} What lies outside is clipped: --value_range={lowest},{highest} keeps it."
    if 0 < highest - lowest < (high - low) / 4:
        return (
            f"{text} That is little of it, as where sensors of 12 bits are taken for 16: few grey "
            f"levels. --value_range={lowest},{highest} uses all of it."
        )
    return text


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


def _is_photo(data: bytes, *, input_channels: int, bit_depth: int) -> bool:
    """Whether the module `images` is to read it."""
    eight_bits_grey = input_channels == 1 and bit_depth == 8 and _png_bits(data) < 16
    return (input_channels, bit_depth) == (3, 8) or (
        eight_bits_grey and not data.startswith((_NPY, *_TIFF))
    )


def _decode(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels as stored, uint8 or uint16 [h, w, c], RGB where there are colours."""
    if data.startswith(_NPY):
        return _decode_npy(data, path)
    if data.startswith(_TIFF):
        return _decode_tiff(data, path)
    image = load_image(data, path)
    _check_upright(image.getexif().get(_ORIENTATION, 1), path)
    if _png_bits(data) == 16:
        pixels = _decode_by_opencv(data, path)
        return pixels[..., [0, 3]] if data[25] == _GREY_ALPHA else pixels
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in _PILLOW_MODES:
        raise ValueError(
            f"{path}: an image of mode {image.mode}; expected grey or RGB, with or without alpha"
        )
    return _with_channels(np.asarray(image))


def _decode_npy(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: damaged or truncated ({error})") from error
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(
            f"{path}: an array of the shape {list(array.shape)}; expected [height, width] or "
            "[height, width, channels]"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{path}: an array of {array.dtype}; expected uint8 or uint16. Scale other numbers to "
            "0..65535 and store them as uint16"
        )
    return _with_channels(array.astype(array.dtype.newbyteorder("=")))


def _decode_tiff(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """Pages of one size are channels, behind each other."""
    channels, bits, orientations = _tiff_pages(data, path)
    _check_upright(max(orientations), path)
    if set(bits) - {8, 16} or len(set(bits)) > 1 or set(channels) - {1, 3, 4}:
        raise ValueError(
            f"{path}: a TIFF of {sum(channels)} channels in {len(channels)} page(s), of "
            f"{', '.join(map(str, sorted(set(bits))))} bits; read are pages of 1, 3 or 4 channels "
            "of 8 or 16 bits. Store it as .npy: an array of uint8 or uint16, [height, width, "
            "channels]"
        )
    if len(channels) == 1 and bits[0] == 8:
        # OpenCV multiplies colours with their alpha there.
        image = load_image(data, path)
        if image.mode in _PILLOW_MODES:
            return _with_channels(np.asarray(image))
        raise ValueError(
            f"{path}: a TIFF of mode {image.mode}; expected grey or RGB, with or without alpha, or "
            ".npy: an array of uint8 or uint16, [height, width, channels]"
        )
    found, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    pages = [_rgb_first(_with_channels(page)) for page in pages]
    if not found or [page.shape[2] for page in pages] != channels:
        raise ValueError(f"{path}: damaged or truncated")
    kinds = {(page.shape[:2], page.dtype) for page in pages}
    if len(kinds) > 1 or pages[0].dtype not in (np.uint8, np.uint16):
        found_kinds = ", ".join(sorted(f"{list(shape)} {dtype}" for shape, dtype in kinds))
        raise ValueError(f"{path}: pages of {found_kinds}; expected one size, and uint8 or uint16")
    return np.concatenate(pages, axis=2)


def _tiff_pages(
    data: bytes, path: str | os.PathLike[str]
) -> tuple[list[int], list[int], list[int]]:
    """Channels, bits and orientation of every page of a TIFF, by its tags."""
    channels, bits, orientations = [], [], []
    file = io.BytesIO(data)
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if data[2:3] == b"+" else 8))
    try:
        while tags.next:
            file.seek(tags.next)
            tags.load(file)
            channels.append(int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)))
            bits.append(max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))))
            orientations.append(int(tags.get(_ORIENTATION, 1)))
    except Exception as error:  # Damaged tags raise OSError, struct.error and others.
        raise ValueError(f"{path}: damaged or truncated ({error})") from error
    if not channels:
        raise ValueError(f"{path}: damaged or truncated: a TIFF without a page")
    return channels, bits, orientations


def _decode_by_opencv(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path}: damaged or truncated")
    return _rgb_first(_with_channels(pixels))


def _fitted(
    pixels: np.ndarray, path: str | os.PathLike[str], *, input_channels: int, bit_depth: int
) -> np.ndarray:
    """The pixels with so many channels, if they keep all they say."""
    bits, channels = 8 * pixels.dtype.itemsize, pixels.shape[2]
    if bits != bit_depth:
        raise ValueError(
            f"{path}: has {bits} bits per channel; expected {bit_depth}, by --bit_depth"
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
            return _with_channels(np.asarray(Image.fromarray(pixels).convert("L")))
    raise ValueError(
        f"{path}: has {channels} channel(s); expected {input_channels}, by --input_channels"
    )


def _check_upright(orientation: int, path: str | os.PathLike[str]) -> None:
    if orientation != 1:
        raise ValueError(
            f"{path}: carries the orientation {orientation}, by which viewers turn it; store it "
            "upright, without that tag"
        )


def _png_bits(data: bytes) -> int:
    return data[24] if data.startswith(_PNG) else 0


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _rgb_first(pixels: np.ndarray) -> np.ndarray:
    """OpenCV's BGR as RGB, and the reverse; grey as it is."""
    channels = pixels.shape[2]
    return pixels[..., _blue_first(channels)] if channels in (3, 4) else pixels


def _blue_first(channels: int) -> list[int]:
    return [2, 1, 0, 3][:channels]

"""Decoding of image files whose channels and bits are kept as they are stored.

Pillow makes 8 bits of 16-bit RGB without a word, and OpenCV fewer channels of a TIFF's, so every
file is read by the one that keeps its values, or refused.
"""

import io
import os

import cv2
import numpy as np
from PIL import TiffImagePlugin

from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.data.images import load_image, orientation_of

PNG, NPY = b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_GREY_ALPHA = 4  # colour type of a PNG
_ORIENTATION = 0x0112
_PILLOW_MODES = ("L", "LA", "RGB", "RGBA")


def decode_stored(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels of a file as stored, uint8 or uint16 [h, w, c], RGB where there are colours.

    Raises:
        FaultyFileError: They are no image, a damaged one, or one that is not read here.
    """
    if data.startswith(NPY):
        return _decode_npy(data, path)
    if data.startswith(TIFF):
        return _decode_tiff(data, path)
    image = load_image(data, path)
    _check_upright(orientation_of(image), path)
    if png_bits(data) == 16:
        pixels = _decode_by_opencv(data, path)
        return pixels[..., [0, 3]] if data[25] == _GREY_ALPHA else pixels
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in _PILLOW_MODES:
        raise FaultyFileError(
            f"{path}: an image of mode {image.mode}; expected grey or RGB, with or without alpha",
            "image-of-another-kind",
        )
    return with_channels(np.asarray(image))


def _decode_npy(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # Damaged headers raise ValueError, TokenError and others.
        raise _damaged(path, f" ({error})") from error
    if array.ndim not in (2, 3) or not array.size:
        raise FaultyFileError(
            f"{path}: an array of the shape {list(array.shape)}; expected [height, width] or "
            "[height, width, channels]",
            "image-of-another-kind",
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise FaultyFileError(
            f"{path}: an array of {array.dtype}; expected uint8 or uint16. Scale other numbers to "
            "0..65535 and store them as uint16",
            "image-of-another-kind",
        )
    return with_channels(array.astype(array.dtype.newbyteorder("=")))


def _decode_tiff(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    """Pages of one size are channels, behind each other."""
    channels, bits, orientations = _tiff_pages(data, path)
    _check_upright(max(orientations), path)
    if set(bits) - {8, 16} or len(set(bits)) > 1 or set(channels) - {1, 3, 4}:
        raise FaultyFileError(
            f"{path}: a TIFF of {sum(channels)} channels in {len(channels)} page(s), of "
            f"{', '.join(map(str, sorted(set(bits))))} bits; read are pages of 1, 3 or 4 channels "
            "of 8 or 16 bits. Store it as .npy: an array of uint8 or uint16, [height, width, "
            "channels]",
            "image-of-another-kind",
        )
    if len(channels) == 1 and bits[0] == 8:
        # OpenCV multiplies colours with their alpha there.
        image = load_image(data, path)
        if image.mode in _PILLOW_MODES:
            return with_channels(np.asarray(image))
        raise FaultyFileError(
            f"{path}: a TIFF of mode {image.mode}; expected grey or RGB, with or without alpha, or "
            ".npy: an array of uint8 or uint16, [height, width, channels]",
            "image-of-another-kind",
        )
    try:
        found, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _damaged(path, f" ({error.err})") from error
    pages = [_rgb_first(with_channels(page)) for page in pages]
    if not found or [page.shape[2] for page in pages] != channels:
        raise _damaged(path)
    kinds = {(page.shape[:2], page.dtype) for page in pages}
    if len(kinds) > 1 or pages[0].dtype not in (np.uint8, np.uint16):
        found_kinds = ", ".join(sorted(f"{list(shape)} {dtype}" for shape, dtype in kinds))
        raise FaultyFileError(
            f"{path}: pages of {found_kinds}; expected one size, and uint8 or uint16",
            "image-of-another-kind",
        )
    return np.concatenate(pages, axis=2)


def _tiff_pages(
    data: bytes, path: str | os.PathLike[str]
) -> tuple[list[int], list[int], list[int]]:
    """Channels, bits and orientation of every page of a TIFF, by its tags."""
    channels, bits, orientations = [], [], []
    file = io.BytesIO(data)
    seen: set[int] = set()
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if data[2:3] == b"+" else 8))
        while tags.next:
            if tags.next in seen:
                raise ValueError("its list of pages does not end")
            seen.add(tags.next)
            file.seek(tags.next)
            tags.load(file)
            channels.append(int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)))
            bits.append(max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))))
            orientations.append(int(tags.get(_ORIENTATION, 1)))
    except Exception as error:  # Damaged tags raise OSError, struct.error and others.
        raise _damaged(path, f" ({error})") from error
    if not channels:
        raise _damaged(path, ": a TIFF without a page")
    return channels, bits, orientations


def _decode_by_opencv(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _damaged(path, f" ({error.err})") from error
    if pixels is None:
        raise _damaged(path)
    return _rgb_first(with_channels(pixels))


def _check_upright(orientation: int, path: str | os.PathLike[str]) -> None:
    if orientation != 1:
        raise FaultyFileError(
            f"{path}: carries the orientation {orientation}, by which viewers turn it; store it "
            "upright, without that tag",
            "image-of-another-kind",
        )


def _damaged(path: str | os.PathLike[str], how: str = "") -> FaultyFileError:
    return FaultyFileError(f"{path}: damaged or truncated{how}", "undecodable")


def png_bits(data: bytes) -> int:
    """Bits per channel of a PNG, 0 if it is none."""
    return data[24] if data.startswith(PNG) else 0


def with_channels(pixels: np.ndarray) -> np.ndarray:
    """Pixels [h, w] or [h, w, c] as [h, w, c]."""
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _rgb_first(pixels: np.ndarray) -> np.ndarray:
    """OpenCV's BGR as RGB, and the reverse; grey as it is."""
    channels = pixels.shape[2]
    return pixels[..., blue_first(channels)] if channels in (3, 4) else pixels


def blue_first(channels: int) -> list[int]:
    """The order of OpenCV's channels, of three or four, and back from it."""
    return [2, 1, 0, 3][:channels]

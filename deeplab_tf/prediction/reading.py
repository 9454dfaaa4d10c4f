"""Reading image files from anywhere: of bounded size, and with an error that names the file."""

import contextlib
import os
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.image_files import read_input

# The most that Pillow opens without being told to; and what a network of the usual width can see
# at once in some 10 GB.
MAX_PIXELS, MAX_PIXELS_WHOLE = 178_956_970, 25_000_000
_OVERHEAD = 2**20  # bytes of a file beside its pixels


def read_bounded(
    path: str | os.PathLike[str],
    *,
    info: DatasetInfo,
    max_pixels: int = MAX_PIXELS,
    resized_size: Callable[[int, int], tuple[int, int]] | None = None,
) -> np.ndarray:
    """Reads an image file as a network sees it, unless it is larger than it may be.

    Of an animation, the first picture.

    Args:
        path: The file.
        info: The data set that images are to be like.
        max_pixels: Largest number of pixels, as stored and as the network is to see it.
        resized_size: Height and width of an image to those that the network is to see it at.

    Returns:
        [h, w, c] in 0..255; see `image_files.file_examples`.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no image, a damaged one, has other channels or bits, or is too large.
    """
    size = os.path.getsize(path)
    if not size:
        raise FaultyFileError(f"{path}: is empty (0 bytes)", "undecodable")
    values = max_pixels * max(info.input_channels, 4)
    if size > 2 * values + _OVERHEAD:
        raise FaultyFileError(
            f"{path}: has {size / 1e6:.0f} MB, more than an image of {max_pixels / 1e6:.0f} "
            "megapixels can need; --max_megapixels allows more",
            "image-is-too-large",
        )
    _check_header(path, max_pixels=max_pixels, values=values)
    image = read_input(
        path,
        input_channels=info.input_channels,
        bit_depth=info.bit_depth,
        value_range=info.value_range,
    )
    height, width = image.shape[:2]
    _check_pixels(path, width, height, max_pixels)
    if resized_size is not None:
        _check_resized(
            path, (height, width), tuple(map(int, resized_size(height, width))), max_pixels
        )
    return image


@contextlib.contextmanager
def own_pixel_limit() -> Iterator[None]:
    """Leaves the limit of an image's size to `read_bounded`, in place of Pillow's fixed one."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_header(path: str | os.PathLike[str], *, max_pixels: int, values: int) -> None:
    """Refuses a file that says it is larger, before anything of it is decoded."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    except Exception:  # Whatever is wrong with it, reading it says so in better words.
        return
    _check_pixels(path, width, height, max_pixels)
    if pages * width * height > values:
        raise FaultyFileError(
            f"{path}: has {pages} pages of {width}x{height} pixels (width x height); "
            "--max_megapixels allows more",
            "image-is-too-large",
        )


def _check_pixels(path: str | os.PathLike[str], width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise FaultyFileError(
            f"{path}: is of {width}x{height} pixels (width x height), {width * height / 1e6:.0f} "
            f"megapixels; at most {max_pixels / 1e6:.0f} are read, in tiles (--tile_size) "
            f"{MAX_PIXELS / 1e6:.0f}, and --max_megapixels sets another limit",
            "image-is-too-large",
        )


def _check_resized(
    path: str | os.PathLike[str],
    size: tuple[int, int],
    resized: tuple[int, ...],
    max_pixels: int,
) -> None:
    height, width = resized
    if min(resized) < 1 or height * width > max_pixels:
        raise FaultyFileError(
            f"{path}: is {size[1]}x{size[0]} (width x height), of which --min_resize_value and "
            f"--max_resize_value would make {width}x{height}",
            "image-is-too-large",
        )

"""Image files: finding and reading what users name, and writing PNGs that are never partial."""

import glob
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data import images, records
from deeplab_tf.data.channels import read_image
from deeplab_tf.data.output import write_file


def find_images(
    paths: Iterable[str | Path], *, extensions: Sequence[str] = images.EXTENSIONS
) -> list[Path]:
    """Lists the image files in files, folders (with their subfolders) and glob patterns.

    Files named directly are taken whatever their suffix; hidden files, and those of none of the
    extensions, are left out otherwise.

    Returns:
        Paths in the given order, sorted within a folder or pattern, each once.

    Raises:
        FileNotFoundError: If a path does not exist or yields no image.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = _images_in(path.rglob("*"), extensions)
        else:
            files = _images_in(map(Path, glob.glob(str(path), recursive=True)), extensions)
        if not files:
            raise FileNotFoundError(
                f"No images found in {path}: expected an image file, a folder or a pattern "
                f"with files of the type {', '.join(extensions)}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def file_examples(
    files: Sequence[Path],
    *,
    input_channels: int = 3,
    bit_depth: int = 8,
    value_range: tuple[float, float] = (0, 255),
) -> Iterator[dict[str, Any]]:
    """Reads image files one by one, as records hold them and as the network sees them.

    Args:
        files: Their paths.
        input_channels: Channels that images are to have.
        bit_depth: Bits of each, 8 or 16.
        value_range: Values that become 0 and 255.

    Yields:
        Dicts of `filename` (the path below the files' common folder) and `image` ([h, w,
        input_channels] in 0..255: uint8, or float32 where values were scaled).

    Raises:
        ValueError: If a file, named in the message, is no image, a damaged one, or one of other
            channels or bits.
    """
    absolute = [os.path.abspath(file) for file in files]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    for path in absolute:
        image = read_input(
            path, input_channels=input_channels, bit_depth=bit_depth, value_range=value_range
        )
        yield {"filename": os.path.relpath(path, root), "image": image}


def read_input(
    path: str | os.PathLike[str],
    *,
    input_channels: int = 3,
    bit_depth: int = 8,
    value_range: tuple[float, float] = (0, 255),
) -> np.ndarray:
    """Reads one file as `file_examples` does: [h, w, input_channels] in 0..255."""
    image = read_image(path, input_channels=input_channels, bit_depth=bit_depth)
    if (bit_depth, value_range) == (8, (0, 255)):
        return image
    return records.scale_values(image, value_range).numpy()


def write_png(path: str | Path, rgb: np.ndarray) -> None:
    """Writes a uint8 [h, w, 3] RGB image; the file appears complete or not at all."""
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    write_file(path, data.tobytes())


def write_label_png(
    path: str | Path, labels: np.ndarray, palette: np.ndarray | Sequence[Sequence[int]] | None
) -> None:
    """Writes class ids [h, w] in 0..255 as the values of an 8 bit PNG, complete or not at all.

    Args:
        path: File to write; its folder is made.
        labels: Integer [h, w], class ids in 0..255.
        palette: RGB colours [classes, 3] for viewers to show. None: grey values.
    """
    image = Image.fromarray(labels.astype(np.uint8))
    if palette is not None:
        # All 256 colours: with fewer, Pillow packs several pixels into a byte.
        colors = voc_colormap(256)
        colors[: len(palette)] = palette
        image.putpalette(colors.tobytes())
    data = io.BytesIO()
    # A third larger than at Pillow's level 6, in a third of the time.
    image.save(data, "PNG", compress_level=3)
    write_file(path, data.getvalue())


def _images_in(paths: Iterable[Path], extensions: Sequence[str]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in extensions and not path.name.startswith(".") and path.is_file()
    )

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
from deeplab_tf.data.images import EXTENSIONS, read_rgb
from deeplab_tf.data.output import write_file


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Lists the image files in files, folders (with their subfolders) and glob patterns.

    Files named directly are taken whatever their suffix; hidden files are left out otherwise.

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
            files = sorted(filter(_looks_like_image, path.rglob("*")))
        else:
            files = sorted(
                filter(_looks_like_image, map(Path, glob.glob(str(path), recursive=True)))
            )
        if not files:
            raise FileNotFoundError(
                f"No images found in {path}: expected an image file, a folder or a pattern "
                f"with files of the type {', '.join(EXTENSIONS)}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def file_examples(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Reads image files one by one.

    Yields:
        Dicts of `filename` (the path below the files' common folder) and `image` (uint8 [h, w, 3],
        RGB).

    Raises:
        ValueError: If a file, named in the message, is no image or a damaged one.
    """
    absolute = [os.path.abspath(file) for file in files]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    for path in absolute:
        yield {"filename": os.path.relpath(path, root), "image": read_rgb(path)}


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
    image.save(data, "PNG")
    write_file(path, data.getvalue())


def _looks_like_image(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS and not file.name.startswith(".") and file.is_file()

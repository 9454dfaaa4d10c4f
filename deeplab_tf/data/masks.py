"""Mask files (index, palette, RGB) -> class indices, with errors for what would be misread."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from deeplab_tf.data.class_table import ColorTable
from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.data.images import load_image

EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg", ".webp")

MaskType = Literal["auto", "index", "palette", "rgb"]

# JPEG and WebP invent values along edges; GIF writers renumber the palette.
_INEXACT_FORMATS = ("JPEG", "MPO", "WEBP", "GIF")


@dataclass(frozen=True)
class Mask:
    """A mask as it goes into a record.

    Attributes:
        labels: uint8 [h, w], class indices and the ignore label.
        png: 8-bit grey PNG that decodes to `labels`.
        palette: uint8 [256, 3], RGB by label, if the file was a palette image; else None.
    """

    labels: np.ndarray
    png: bytes
    palette: np.ndarray | None


def read_mask(
    path: str | os.PathLike[str],
    *,
    mask_type: MaskType = "auto",
    ignore_label: int = 255,
    color_table: ColorTable | None = None,
    label_map: dict[int, int] | None = None,
) -> Mask:
    """Reads a mask file as class indices.

    An 8-bit grey PNG whose values are not mapped keeps its bytes, as in the reference.

    Args:
        path: The mask file, of a lossless format.
        mask_type: What a pixel holds: "index" (grey, the value is the class), "palette" (palette
            index is the class), "rgb" (a colour of `color_table`). "auto" is "rgb" if there is a
            colour table, else "palette" for palette images and "index" for others. A grey picture
            stored as RGB counts as index.
        ignore_label: Value that `label_map` need not name.
        color_table: Classes by colour, for "rgb".
        label_map: Label by value in the mask, for "index" and "palette"; None keeps all values.

    Raises:
        OSError: The file cannot be read.
        FaultyFileError: It is damaged, of a format that changes values, of another type, or holds
            colours or values without a class.
    """
    return decode_mask(
        Path(path).read_bytes(),
        path,
        mask_type=mask_type,
        ignore_label=ignore_label,
        color_table=color_table,
        label_map=label_map,
    )


def decode_mask(
    data: bytes,
    path: str | os.PathLike[str],
    *,
    mask_type: MaskType = "auto",
    ignore_label: int = 255,
    color_table: ColorTable | None = None,
    label_map: dict[int, int] | None = None,
) -> Mask:
    """As `read_mask`, of a file's bytes; `path` is what messages call it."""
    image = load_image(data, path)
    labels = labels_of(
        image,
        data,
        path,
        mask_type=mask_type,
        ignore_label=ignore_label,
        color_table=color_table,
        label_map=label_map,
    )
    if label_map is not None or _is_by_color(mask_type, color_table):
        return encode_mask(labels)
    if is_eight_bit_grey_png(data):
        return Mask(labels, data, None)
    return Mask(labels, _encode_png(labels), palette_of(image))


def labels_of(
    image: Image.Image,
    data: bytes,
    path: str | os.PathLike[str],
    *,
    mask_type: MaskType,
    ignore_label: int,
    color_table: ColorTable | None,
    label_map: dict[int, int] | None,
) -> np.ndarray:
    """The labels, uint8 [h, w], of a mask that is decoded; arguments and errors as `read_mask`."""
    if image.format in _INEXACT_FORMATS:
        raise FaultyFileError(
            f"{path}: a {image.format} mask, a format that does not keep label values "
            "exactly. Export the masks as PNG again (converting these does not repair them)",
            "mask-is-lossy",
        )
    if _is_by_color(mask_type, color_table):
        if color_table is None:
            raise ValueError("mask_type rgb needs a colour table")
        return _labels_of_colors(np.asarray(image.convert("RGB")), color_table, path)
    values = _stored_values(image, data, mask_type, path)
    if label_map is not None:
        return _map_labels(values, {ignore_label: ignore_label} | label_map, path)
    if values.min() < 0 or values.max() > 255:
        raise FaultyFileError(
            f"{path}: found the values {describe_values(np.unique(values))}; labels must be 0..255",
            "label-is-no-class",
        )
    return values.astype(np.uint8)


def encode_mask(labels: np.ndarray) -> Mask:
    """The mask of uint8 labels [h, w], which have no file of their own."""
    return Mask(labels, _encode_png(labels), None)


def describe_values(values: np.ndarray, limit: int = 8) -> str:
    """Formats sorted values for a message, "3, 7, 9", cut after `limit` of them."""
    shown = ", ".join(str(value) for value in values[:limit].tolist())
    return shown + (f", ... ({len(values)} values)" if len(values) > limit else "")


def palette_of(image: Image.Image) -> np.ndarray | None:
    """The palette, uint8 [256, 3], of a palette image, else None."""
    if image.mode != "P":
        return None
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return np.concatenate([colors, np.zeros((256 - len(colors), 3), np.uint8)])


def _is_by_color(mask_type: MaskType, color_table: ColorTable | None) -> bool:
    return mask_type == "rgb" or (mask_type == "auto" and color_table is not None)


def _stored_values(
    image: Image.Image, data: bytes, mask_type: MaskType, path: str | os.PathLike[str]
) -> np.ndarray:
    """Returns integers [h, w]: palette indices or grey values."""
    if mask_type == "palette" and image.mode != "P":
        message = f"{path}: expected a palette image, found mode {image.mode}"
        raise FaultyFileError(message, "mask-of-another-type")
    if mask_type == "index" and image.mode == "P":
        raise FaultyFileError(
            f"{path}: expected a grey index mask, found a palette image; if its palette indices "
            "are the classes, use mask_type palette (or auto)",
            "mask-of-another-type",
        )
    if image.mode in ("L", "P", "1") or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int32)
        return values // _grey_scale(data) if image.mode == "L" else values
    if image.mode == "F":
        message = f"{path}: a mask of floats; expected integers"
        raise FaultyFileError(message, "mask-of-another-type")
    rgb = np.asarray(image.convert("RGB"))
    if (rgb == rgb[..., :1]).all():
        return rgb[..., 0].astype(np.int32)
    colors = np.unique(rgb.reshape(-1, 3), axis=0)
    raise FaultyFileError(
        f"{path}: a colour (RGB) mask where class indices are expected; it holds {len(colors)} "
        f"colours, such as {_format_colors(colors)}. Use datasets/build_folder_data.py "
        "--mask_type=rgb --color_table=FILE with one line `r g b name` per class",
        "mask-is-rgb",
    )


def _labels_of_colors(
    rgb: np.ndarray, table: ColorTable, path: str | os.PathLike[str]
) -> np.ndarray:
    shifts = np.array([16, 8, 0])
    table_codes = (np.array(list(table.labels), np.int32) << shifts).sum(-1)
    order = np.argsort(table_codes)
    table_codes = table_codes[order]
    table_labels = np.array(list(table.labels.values()), np.uint8)[order]

    codes = (rgb.astype(np.int32) << shifts).sum(-1)
    position = np.searchsorted(table_codes, codes).clip(max=len(table_codes) - 1)
    unknown = table_codes[position] != codes
    if unknown.any():
        colors, counts = np.unique(rgb[unknown], axis=0, return_counts=True)
        colors = colors[np.argsort(-counts)]
        cause = (
            " So many colours mean anti-aliased, resized or once JPEG-compressed masks: export "
            "them again without smoothing, in a lossless format"
            if len(colors) > len(table.labels)
            else " Add them to the colour table (a line named void for pixels to ignore)"
        )
        raise FaultyFileError(
            f"{path}: {unknown.sum()} of {unknown.size} pixels have {len(colors)} colours that are "
            f"not in the colour table, such as {_format_colors(colors)}.{cause}",
            "color-not-in-table",
        )
    return table_labels[position]


def _map_labels(
    values: np.ndarray, label_map: dict[int, int], path: str | os.PathLike[str]
) -> np.ndarray:
    found, inverse = np.unique(values, return_inverse=True)
    missing = np.array([value for value in found.tolist() if value not in label_map])
    if missing.size:
        raise FaultyFileError(
            f"{path}: the label map has no entry for the values {describe_values(missing)}",
            "label-is-no-class",
        )
    labels = np.array([label_map[value] for value in found.tolist()], np.uint8)
    return labels[inverse].reshape(values.shape)


def _grey_scale(data: bytes) -> int:
    """Returns what Pillow multiplies the values of a grey PNG of 1, 2 or 4 bits with, else 1."""
    bit_depth = data[24] if data.startswith(b"\x89PNG") else 8
    return 255 // (2**bit_depth - 1) if bit_depth < 8 else 1


def is_eight_bit_grey_png(data: bytes) -> bool:
    """Whether encoded bytes are what records hold labels as."""
    return data.startswith(b"\x89PNG") and data[24:26] == b"\x08\x00"


def _encode_png(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def _format_colors(colors: np.ndarray) -> str:
    return ", ".join(str(tuple(color)) for color in colors[:4].tolist())

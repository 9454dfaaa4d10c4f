import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.class_table import ColorTable
from deeplab_tf.data.masks import read_mask
from deeplab_tf.data.records import decode_label

LABELS = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
TABLE = ColorTable(
    class_names=("road", "car"),
    palette=((10, 20, 30), (200, 0, 0)),
    labels={(200, 0, 0): 1, (10, 20, 30): 0, (0, 0, 0): 255, (200, 0, 1): 1},
)


def check(mask, expected):
    """Compares labels, and what TensorFlow makes of the PNG that goes into the record."""
    np.testing.assert_array_equal(mask.labels, expected)
    assert mask.labels.dtype == np.uint8
    np.testing.assert_array_equal(decode_label(mask.png), expected)


def grey_png(bit_depth, rows):
    """Writes by hand what Pillow does not: grey PNGs of few bits."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    width = len(rows[0]) * 8 // bit_depth
    header = struct.pack(">IIBBBBB", width, len(rows), bit_depth, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_grey_png_keeps_its_bytes(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(LABELS).save(path, compress_level=1)
    mask = read_mask(path)
    check(mask, LABELS)
    assert mask.png == path.read_bytes()
    assert mask.palette is None


@pytest.mark.parametrize("mask_type", ["auto", "palette"])
def test_palette_indices_are_the_labels(tmp_path, mask_type):
    # Colours in an order that luminance or colour matching would not reproduce.
    image = Image.fromarray(LABELS)
    image.putpalette([255, 255, 255, 0, 0, 128, 0, 128, 0] + [9] * 3 * 253)
    image.save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png", mask_type=mask_type)
    check(mask, LABELS)
    assert mask.palette[:3].tolist() == [[255, 255, 255], [0, 0, 128], [0, 128, 0]]


@pytest.mark.parametrize(
    ("bit_depth", "row", "values"),
    [
        (1, 0b00011011, [0, 0, 0, 1, 1, 0, 1, 1]),
        (2, 0b00011011, [0, 1, 2, 3]),
        (4, 0x2F, [2, 15]),
    ],
)
def test_grey_png_of_few_bits_is_not_scaled(tmp_path, bit_depth, row, values):
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(bit_depth, [bytes([row])]))
    check(read_mask(path), [values])


@pytest.mark.parametrize("extension", ["png", "bmp", "tif"])
def test_lossless_formats(tmp_path, extension):
    Image.fromarray(LABELS).save(tmp_path / f"a.{extension}")
    check(read_mask(tmp_path / f"a.{extension}"), LABELS)


def test_grey_stored_as_rgb_is_an_index_mask(tmp_path):
    Image.fromarray(LABELS).convert("RGBA").save(tmp_path / "a.png")
    check(read_mask(tmp_path / "a.png"), LABELS)


def test_label_map(tmp_path):
    Image.fromarray(np.array([[0, 128, 255]], np.uint8)).save(tmp_path / "a.png")
    check(read_mask(tmp_path / "a.png", label_map={0: 0, 128: 1}), [[0, 1, 255]])
    check(read_mask(tmp_path / "a.png", label_map={0: 255, 128: 0, 255: 1}), [[255, 0, 1]])
    with pytest.raises(ValueError, match=r"a\.png: the label map has no entry for the values 128"):
        read_mask(tmp_path / "a.png", label_map={0: 0})


def test_sixteen_bit_values(tmp_path):
    Image.fromarray(np.array([[0, 7, 1000]], np.uint16)).save(tmp_path / "a.png")
    check(read_mask(tmp_path / "a.png", label_map={0: 0, 7: 1, 1000: 2}), [[0, 1, 2]])
    with pytest.raises(ValueError, match=r"a\.png: found the values 0, 7, 1000"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize("mask_type", ["auto", "rgb"])
def test_colors(tmp_path, mask_type):
    rgb = np.array([[[200, 0, 0], [0, 0, 0]], [[10, 20, 30], [200, 0, 1]]], np.uint8)
    for mode in ("RGB", "RGBA", "P"):
        Image.fromarray(rgb).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
        mask = read_mask(tmp_path / "a.png", mask_type=mask_type, color_table=TABLE)
        check(mask, [[1, 255], [0, 1]])


def test_colors_without_a_class_are_an_error(tmp_path):
    rgb = np.full((4, 4, 3), (10, 20, 30), np.uint8)
    rgb[0, :3] = (10, 20, 31)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: 3 of 16 pixels.*\(10, 20, 31\).*Add them"):
        read_mask(tmp_path / "a.png", color_table=TABLE)
    smooth = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(smooth).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png: 16 of 16 pixels.*anti-aliased"):
        read_mask(tmp_path / "b.png", color_table=TABLE)


@pytest.mark.parametrize(
    ("mode", "mask_type", "message"),
    [
        ("RGB", "auto", r"colour \(RGB\) mask.*\(1, 2, 3\).*--mask_type=rgb"),
        ("RGB", "index", r"colour \(RGB\) mask"),
        ("RGB", "palette", "expected a palette image"),
        ("L", "palette", "expected a palette image"),
        ("P", "index", "expected a grey index mask, found a palette image"),
        ("RGB", "rgb", "needs a colour table"),
    ],
)
def test_masks_of_another_type_are_refused(tmp_path, mode, mask_type, message):
    Image.new("RGB", (2, 2), (1, 2, 3)).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        read_mask(tmp_path / "a.png", mask_type=mask_type)


@pytest.mark.parametrize("extension", ["jpg", "webp", "gif"])
def test_formats_that_change_values_are_refused(tmp_path, extension):
    Image.fromarray(LABELS).save(tmp_path / f"a.{extension}")
    with pytest.raises(ValueError, match=rf"a\.{extension}: .* does not keep label values"):
        read_mask(tmp_path / f"a.{extension}")


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_damaged_masks_are_named(tmp_path, keep):
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (20, 20), np.uint8)).save(
        tmp_path / "a.png"
    )
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=r"a\.png: (no image of a known kind|damaged or truncated)"
    ):
        read_mask(tmp_path / "a.png")

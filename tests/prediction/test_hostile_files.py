"""Files that are damaged, huge or strange: predicted, or named in an error."""

import dataclasses
import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab_tf import InferenceConfig
from deeplab_tf.prediction.reading import (
    MAX_PIXELS,
    MAX_PIXELS_WHOLE,
    own_pixel_limit,
    read_bounded,
)
from deeplab_tf.prediction.run import pixel_limit
from tests import tiny_run
from tests.prediction.predicting import predict_arguments, write_run
from tests.test_cli import succeed


def saved(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def encoded(pixels, kind, **options):
    return saved(Image.fromarray(pixels), kind, **options)


def animated(kind):
    first, second = (Image.new("RGB", (30, 20), color) for color in ("red", "blue"))
    return saved(first, kind, save_all=True, append_images=[second])


def png_of_size(width, height):
    """A PNG whose header claims a size that its pixels do not have."""
    data = bytearray(encoded(PHOTO, "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown turned by a quarter, clockwise
# Name of the file: its bytes, and what the mask's size is or a part of the error.
HOSTILE = {
    "zero.jpg": (b"", "is empty (0 bytes)"),
    "text.jpg": (b"I am no image.\n" * 9, "no image of a known kind"),
    "truncated.jpg": (encoded(PHOTO, "JPEG")[:-200], "damaged or truncated"),
    "truncated.png": (encoded(PHOTO, "PNG")[:-20], "damaged or truncated"),
    "bomb.png": (png_of_size(60000, 60000), "is of 60000x60000 pixels"),
    "large.png": (png_of_size(6000, 5000), "at most 25 are read, in tiles (--tile_size) 179"),
    "bomb_line.png": (png_of_size(2**31 - 1, 1), "2147483647x1 pixels"),
    "floats.tif": (encoded(PHOTO[..., 0].astype(np.float32), "TIFF"), "an image of floats"),
    "cmyk.jpg": (saved(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"), (20, 30)),
    "animated.gif": (animated("GIF"), (20, 30)),
    "animated.png": (animated("PNG"), (20, 30)),
    "animated.webp": (animated("WEBP"), (20, 30)),
    "one.png": (encoded(PHOTO[:1, :1], "PNG"), (1, 1)),
    "line.png": (encoded(np.zeros((1, 20000, 3), np.uint8), "PNG"), (1, 20000)),
    "column.png": (encoded(np.zeros((20000, 1, 3), np.uint8), "PNG"), (20000, 1)),
    "sixteen.png": (encoded(PHOTO[..., 0].astype(np.uint16) * 257, "PNG"), (20, 30)),
    "grey.png": (encoded(PHOTO[..., 0], "PNG"), (20, 30)),
    "alpha.png": (encoded(PHOTO[..., [0, 1, 2, 0]], "PNG"), (20, 30)),
    "turned.jpg": (encoded(PHOTO, "JPEG", exif=TURNED), (30, 20)),
    "with space, ü and\nline.png": (encoded(PHOTO, "PNG"), (20, 30)),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    write_run(place / "run")
    (place / "photos").mkdir()
    for name, (data, _) in HOSTILE.items():
        (place / "photos" / name).write_bytes(data)
    printed = succeed("predict.py", *predict_arguments(place, "--skip_corrupt", "--outputs=mask"))
    left_out = json.loads((place / "out/left_out.json").read_text())
    reasons = {os.path.basename(row["file"]): row["reason"] for row in left_out}
    return place, printed, reasons


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_predicted_or_named(hostile, name):
    place, printed, reasons = hostile
    expected = HOSTILE[name][1]
    stem = os.path.splitext(name)[0]
    stem = name if sum(other.startswith(f"{stem}.") for other in HOSTILE) > 1 else stem
    mask = place / "out/mask" / f"{stem}.png"
    if isinstance(expected, str):
        assert expected in reasons[name] and name in reasons[name]
        assert not mask.exists()
    else:
        assert name not in reasons
        assert np.asarray(Image.open(mask)).shape == expected
    wrong = sum(isinstance(expected, str) for _, expected in HOSTILE.values())
    assert f"{wrong} files were left out" in printed


def test_a_turned_image_is_predicted_as_it_is_shown(hostile):
    place, *_ = hostile
    shown = np.asarray(
        Image.open(place / "photos/turned.jpg").transpose(Image.Transpose.ROTATE_270)
    )
    assert (read_bounded(place / "photos/turned.jpg", info=tiny_run.INFO) == shown).all()


def test_wrong_channels_are_named(hostile, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((5, 6, 7), np.uint8))
    four = dataclasses.replace(tiny_run.INFO, input_channels=4)
    with pytest.raises(ValueError, match=r"many\.npy: has 7 channel\(s\); expected 4"):
        read_bounded(tmp_path / "many.npy", info=four)
    with pytest.raises(ValueError, match=r"grey\.png: has 1 channel\(s\); expected 4"):
        read_bounded(hostile[0] / "photos/grey.png", info=four)


def test_sizes_are_bounded(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    with own_pixel_limit(), pytest.raises(ValueError, match="--max_megapixels sets another limit"):
        read_bounded(tmp_path / "photo.png", info=tiny_run.INFO, max_pixels=599)
    assert read_bounded(tmp_path / "photo.png", info=tiny_run.INFO, max_pixels=600).any()
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(10**10)
    with pytest.raises(ValueError, match="has 10000 MB, more than an image of 179 megapixels"):
        read_bounded(tmp_path / "sparse.png", info=tiny_run.INFO)
    with pytest.raises(ValueError, match="--min_resize_value and --max_resize_value would make"):
        read_bounded(tmp_path / "photo.png", info=tiny_run.INFO, resized_size=lambda h, w: (0, 513))
    pages = [Image.fromarray(PHOTO[..., 0])] * 50
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    many = dataclasses.replace(tiny_run.INFO, input_channels=50)
    assert read_bounded(tmp_path / "pages.tif", info=many, max_pixels=600).shape == (20, 30, 50)
    with pytest.raises(ValueError, match="has 50 pages"):
        read_bounded(tmp_path / "pages.tif", info=tiny_run.INFO, max_pixels=600)


def test_tiles_allow_larger_images():
    card = tiny_run.card()
    assert pixel_limit(card.inference) == MAX_PIXELS_WHOLE
    assert pixel_limit(InferenceConfig(tile_size=(769, 769))) == MAX_PIXELS


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"gone\.png"):
        read_bounded(tmp_path / "gone.png", info=tiny_run.INFO)

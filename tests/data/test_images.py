import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data.images import encode_image, read_rgb
from deeplab_tf.data.records import decode_image

ORIENTATION = 0x0112


@pytest.fixture
def pixels():
    """A smooth picture, 20 x 30, in which no two corners look alike."""
    y, x = np.mgrid[:20, :30]
    return np.stack([8 * x, 12 * y, 4 * (x + y)], axis=-1).astype(np.uint8)


def decoded(encoded):
    """What a record's reader gets."""
    return decode_image(tf.constant(encoded.data)).numpy().astype(int)


@pytest.mark.parametrize(
    ("name", "mode", "image_format"),
    [
        ("a.jpg", "RGB", "jpeg"),
        ("a.jpg", "L", "jpeg"),
        ("a.png", "RGB", "png"),
        ("a.png", "L", "png"),
        # The content counts, not the name.
        ("a.jpeg", "RGB", "png"),
    ],
)
def test_plain_jpeg_and_png_keep_their_bytes(tmp_path, pixels, name, mode, image_format):
    path = tmp_path / name
    Image.fromarray(pixels).convert(mode).save(path, image_format)
    encoded = encode_image(path, mask_size=(20, 30))
    assert encoded.data == path.read_bytes()
    assert (encoded.image_format, encoded.size, encoded.turned) == (image_format, (20, 30), False)
    assert np.abs(decoded(encoded) - read_rgb(path)).mean() < 1.5


@pytest.mark.parametrize(
    ("name", "mode", "image_format"),
    [
        ("a.png", "RGBA", "png"),
        ("a.png", "LA", "png"),
        ("a.png", "P", "png"),
        ("a.png", "1", "png"),
        ("a.jpg", "CMYK", "jpeg"),
        ("a.bmp", "RGB", "png"),
        ("a.tif", "RGB", "png"),
        ("a.gif", "P", "png"),
        ("a.webp", "RGB", "jpeg"),
        ("a.webp", "RGBA", "jpeg"),
    ],
)
def test_everything_else_becomes_plain_rgb(tmp_path, pixels, name, mode, image_format):
    path = tmp_path / name
    Image.fromarray(pixels).convert(mode).save(path)
    encoded = encode_image(path, mask_size=(20, 30))
    assert encoded.image_format == image_format
    assert Image.open(io.BytesIO(encoded.data)).mode == "RGB"
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    np.testing.assert_array_equal(read_rgb(path), expected)
    tolerance = 0 if image_format == "png" else 3
    assert np.abs(decoded(encoded) - expected).mean() <= tolerance


def test_sixteen_bit_grey_keeps_the_high_byte(tmp_path, pixels):
    values = pixels[..., 0].astype(np.uint16) * 256 + 77
    Image.fromarray(values).save(tmp_path / "a.png")
    encoded = encode_image(tmp_path / "a.png", mask_size=(20, 30))
    np.testing.assert_array_equal(decoded(encoded), np.tile(pixels[..., :1], 3))


# What a camera stores for each orientation, so that the picture is upright when shown.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(tmp_path, pixels, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](pixels))
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    encoded = encode_image(tmp_path / "a.jpg", mask_size=(20, 30))
    assert encoded.turned == (orientation != 1)
    assert np.abs(decoded(encoded) - pixels).mean() < 3
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - pixels).mean() < 3
    # Nobody may turn it again.
    assert Image.open(io.BytesIO(encoded.data)).getexif().get(ORIENTATION, 1) == 1


def test_a_mask_of_the_stored_pixels_keeps_the_image_as_stored(tmp_path, pixels):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    encoded = encode_image(tmp_path / "a.jpg", mask_size=(20, 30))
    assert not encoded.turned
    assert encoded.data == (tmp_path / "a.jpg").read_bytes()


def test_errors_name_the_file(tmp_path, pixels):
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match=r"a\.jpg: the image is 30x20 .*its mask 20x30"):
        encode_image(path, mask_size=(30, 20))
    data = path.read_bytes()
    for damaged in (b"", b"no image", data[:50], data[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"a\.jpg: (no image of a known kind|damaged or truncated)"
        ):
            encode_image(path, mask_size=(20, 30))
    Image.fromarray(np.zeros((20, 30), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match=r"f\.tif: an image of floats"):
        encode_image(tmp_path / "f.tif", mask_size=(20, 30))


def test_a_png_with_a_damaged_chunk_is_an_error_although_pillow_reads_it(tmp_path, pixels):
    """TensorFlow does not, so it would stop a training."""
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    end = data.index(b"IEND") + 4
    for damaged, message in (
        (data[:end] + b"\xff" + data[end + 1 :], r"chunk b'IEND'"),
        (data[:-12], "ends early"),
        (data[:-3], "ends early"),
    ):
        path.write_bytes(damaged)
        assert Image.open(path).convert("RGB").size == (30, 20)
        with pytest.raises(tf.errors.InvalidArgumentError):
            tf.io.decode_png(damaged)
        with pytest.raises(ValueError, match=rf"a\.png: damaged or truncated .*{message}"):
            encode_image(path, mask_size=(20, 30))
    path.write_bytes(data + b"what some programs leave there")
    assert encode_image(path, mask_size=(20, 30)).size == (20, 30)


@pytest.mark.parametrize(
    "orientation", [b"MX\0*", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x4d\0\0\0\0\0\0"]
)
def test_an_exif_orientation_that_means_nothing_is_none(tmp_path, pixels, orientation):
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, exif=b"Exif\0\0" + orientation)
    encoded = encode_image(path, mask_size=(20, 30))
    assert (encoded.turned, encoded.data) == (False, path.read_bytes())
    assert read_rgb(path).shape == (20, 30, 3)
    with pytest.raises(ValueError, match="must be the same"):
        encode_image(path, mask_size=(30, 20))

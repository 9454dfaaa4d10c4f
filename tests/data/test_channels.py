"""Images of any channels and bits: what is in the file is in the record, or it is an error."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import channels, records
from deeplab_tf.data.channels import display_rgb, encode_channels, read_image
from deeplab_tf.data.images import encode_image

SIZE = 12, 17
DTYPES = {8: np.uint8, 16: np.uint16}


def noise(count, bits=16, size=SIZE):
    rng = np.random.default_rng(count)
    return rng.integers(0, 2**bits, (*size, count)).astype(DTYPES[bits])


def png_of(pixels):
    """A PNG of any colour type and depth, by the letter of its specification."""
    height, width, count = pixels.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    bits = 8 * pixels.dtype.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def tiff_of(*pages, orientation=1, sample_format=1):
    """An uncompressed TIFF of interleaved channels, by the letter of its specification."""
    file = b"II*\0" + struct.pack("<I", 0)
    link = 4
    for pixels in pages:
        height, width, count = pixels.shape
        strip = len(file)
        file += pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        bits_at = len(file)
        file += struct.pack(f"<{count}H", *[8 * pixels.dtype.itemsize] * count)
        formats_at = len(file)
        file += struct.pack(f"<{count}H", *[sample_format] * count)
        color = 2 if count in (3, 4) else 1
        extra = count - (3 if color == 2 else 1)
        tags = [
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, count, bits_at if count > 2 else _inline(8 * pixels.dtype.itemsize, count)),
            (259, 3, 1, 1),
            (262, 3, 1, color),
            (273, 4, 1, strip),
            (274, 3, 1, orientation),
            (277, 3, 1, count),
            (278, 4, 1, height),
            (279, 4, 1, pixels.nbytes),
            (284, 3, 1, 1),
        ]
        if extra:
            # Two is alpha that colours are not multiplied with.
            extra_at = len(file)
            file += struct.pack(f"<{extra}H", *[2] + [0] * (extra - 1))
            tags.append((338, 3, extra, extra_at if extra > 2 else _inline(2, 1)))
        tags.append((339, 3, count, formats_at if count > 2 else _inline(sample_format, count)))
        file += b"\0" * (len(file) % 2)
        file = file[:link] + struct.pack("<I", len(file)) + file[link + 4 :]
        file += struct.pack("<H", len(tags))
        file += b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(file)
        file += struct.pack("<I", 0)
    return file


def _inline(value, count):
    return value * (1 + 2**16 * (count == 2))


def npy_of(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def saved(array, kind, mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    if mode is not None:
        image = Image.merge(mode, image.split())
    image.save(buffer, kind)
    return buffer.getvalue()


def encode(path, content, input_channels, bit_depth, mask_size=SIZE):
    path.write_bytes(content)
    return encode_channels(
        path, mask_size=mask_size, input_channels=input_channels, bit_depth=bit_depth
    )


def decoded(encoded, bit_depth):
    image = records.decode_image(
        tf.constant(encoded.data), channels=encoded.channels, bit_depth=bit_depth
    )
    return image.numpy()


# --- Records --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "bits"),
    [(1, 8), (2, 8), (4, 8), (6, 8), (1, 16), (2, 16), (3, 16), (4, 16), (6, 16)],
)
def test_arrays_come_back_from_records_as_they_were(tmp_path, count, bits):
    pixels = noise(count, bits)
    encoded = encode(tmp_path / "a.npy", npy_of(pixels), count, bits)
    image = decoded(encoded, bits)
    assert image.dtype == DTYPES[bits]
    np.testing.assert_array_equal(image, pixels)
    assert (encoded.size, encoded.channels) == (SIZE, count)
    assert encoded.extremes == (pixels.min(), pixels.max())
    # Any reader of PNG sees the same.
    stored = cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_UNCHANGED)
    if count in (3, 4):
        np.testing.assert_array_equal(stored[..., [2, 1, 0, 3][:count]], pixels)
    else:
        np.testing.assert_array_equal(stored, np.concatenate(list(np.moveaxis(pixels, -1, 0))))


@pytest.mark.parametrize(
    ("kind", "count", "bits"),
    [
        *(("png", *each) for each in [(1, 8), (2, 8), (4, 8), (1, 16), (2, 16), (3, 16), (4, 16)]),
        *(("tif", *each) for each in [(1, 8), (4, 8), (1, 16), (3, 16), (4, 16)]),
    ],
)
def test_files_are_read_as_they_are_stored(tmp_path, kind, count, bits):
    pixels = noise(count, bits)
    content = png_of(pixels) if kind == "png" else tiff_of(pixels)
    encoded = encode(tmp_path / f"a.{kind}", content, count, bits)
    np.testing.assert_array_equal(decoded(encoded, bits), pixels)
    np.testing.assert_array_equal(
        read_image(tmp_path / f"a.{kind}", input_channels=count, bit_depth=bits), pixels
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_pages_of_a_tiff_are_channels(tmp_path, bits):
    pixels = noise(5, bits)
    pages = [np.ascontiguousarray(pixels[..., i : i + 1]) for i in range(5)]
    encoded = encode(tmp_path / "a.tif", tiff_of(*pages), 5, bits)
    np.testing.assert_array_equal(decoded(encoded, bits), pixels)
    # RGB and near infrared, compressed, as OpenCV writes them.
    written = [pixels[..., 2::-1], pixels[..., 3]]
    assert cv2.imwritemulti(str(tmp_path / "b.tif"), written)
    np.testing.assert_array_equal(
        read_image(tmp_path / "b.tif", input_channels=4, bit_depth=bits), pixels[..., :4]
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_pictures_keep_their_bytes(tmp_path, kind):
    content = saved(noise(1, 8)[..., 0], kind)
    encoded = encode(tmp_path / "a.png", content, 1, 8)
    assert encoded.data == content
    assert encoded.image_format == kind.lower()
    expected = np.asarray(Image.open(io.BytesIO(content)))[..., None]
    assert np.abs(decoded(encoded, 8).astype(int) - expected).mean() < 1
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", input_channels=1), expected)


def test_pictures_become_grey_by_luminance(tmp_path):
    pixels = noise(3, 8)
    for content in (png_of(pixels), tiff_of(pixels), npy_of(pixels)):
        encoded = encode(tmp_path / "a", content, 1, 8)
        # ITU-R 601-2, as everyone has it.
        expected = np.rint(pixels @ [0.299, 0.587, 0.114])
        assert np.abs(decoded(encoded, 8)[..., 0] - expected).max() <= 1
    encoded = encode(tmp_path / "a", saved(pixels, "JPEG"), 1, 8)
    assert encoded.image_format == "jpeg"
    assert cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_UNCHANGED).ndim == 2


def test_a_turned_grey_picture_is_turned_as_one_of_colours(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(1, 8)[..., 0]).save(tmp_path / "a.png", exif=exif)
    encoded = encode_channels(tmp_path / "a.png", mask_size=SIZE[::-1], input_channels=1)
    assert encoded.turned
    np.testing.assert_array_equal(decoded(encoded, 8), np.rot90(noise(1, 8), -1))
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png", input_channels=1), np.rot90(noise(1, 8), -1)
    )


def test_rgb_of_8_bits_is_encoded_as_ever(tmp_path):
    for name, content in {
        "a.png": png_of(noise(3, 8)),
        "b.png": png_of(noise(4, 8)),
        "c.png": png_of(noise(3, 16)),
        "d.jpg": saved(noise(3, 8), "JPEG"),
        "e.tif": tiff_of(noise(3, 8)),
    }.items():
        assert encode(tmp_path / name, content, 3, 8) == encode_image(
            tmp_path / name, mask_size=SIZE
        )


def test_channels_that_say_nothing_are_dropped_or_added(tmp_path):
    pixels, opaque = noise(3), np.full((*SIZE, 1), 65535, np.uint16)
    cases = [
        (png_of(np.concatenate([pixels, opaque], 2)), 3, pixels),
        (png_of(np.concatenate([pixels[..., :1], opaque], 2)), 1, pixels[..., :1]),
        (png_of(pixels[..., :1]), 3, pixels[..., [0, 0, 0]]),
        (png_of(pixels[..., [0, 0, 0]]), 1, pixels[..., :1]),
    ]
    for content, count, expected in cases:
        encoded = encode(tmp_path / "a.png", content, count, 16)
        np.testing.assert_array_equal(decoded(encoded, 16), expected)
    grey = saved(np.dstack([noise(1, 8), np.full(SIZE, 255, np.uint8)]), "PNG")
    np.testing.assert_array_equal(decoded(encode(tmp_path / "a", grey, 1, 8), 8), noise(1, 8))


def test_transparent_palettes_are_four_channels(tmp_path):
    image = Image.fromarray(noise(3, 8)).quantize(16)
    image.save(tmp_path / "a.png", transparency=3)
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA"))
    assert len(np.unique(expected[..., 3])) == 2
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", input_channels=4), expected)


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "input_channels", "bit_depth", "message"),
    [
        (png_of(noise(3, 16)), 4, 16, r"has 3 channel\(s\); expected 4, by --input_channels"),
        (png_of(noise(4, 16)), 3, 16, r"has 4 channel\(s\); expected 3"),
        (png_of(noise(3, 16)), 1, 16, r"has 3 channel\(s\); expected 1"),
        (png_of(noise(4, 8)), 4, 16, r"has 8 bits per channel; expected 16, by --bit_depth"),
        (png_of(noise(4, 16)), 4, 8, r"has 16 bits per channel; expected 8"),
        (png_of(noise(1, 16)), 1, 8, r"has 16 bits per channel; expected 8"),
        (saved(noise(3, 8), "JPEG"), 3, 16, r"has 8 bits per channel; expected 16"),
        (png_of(noise(2, 8)), 1, 8, "transparent in places, and --input_channels=1"),
        (png_of(noise(4, 8)), 1, 8, "transparent in places, and --input_channels=1"),
        (tiff_of(noise(2, 16)), 2, 16, "2 channels in 1 page.*Store it as .npy: an array of uint8"),
        (tiff_of(noise(6, 8)), 6, 8, "6 channels in 1 page.*Store it as .npy"),
        (tiff_of(noise(1, 16), noise(1, 8)), 2, 16, "of 8, 16 bits"),
        (tiff_of(noise(1, 16), noise(1, 16, (5, 5))), 2, 16, "expected one size"),
        (tiff_of(noise(1, 16), sample_format=2), 1, 16, "of .* int16; expected one size, and"),
        (tiff_of(noise(3, 16), orientation=6), 3, 16, "carries the orientation 6"),
        (npy_of(noise(2).astype(np.float32)), 2, 16, "array of float32; expected uint8 or uint16"),
        (npy_of(np.array([{}])), 2, 16, "damaged or truncated .Object arrays"),
        (npy_of(noise(2)[0, 0]), 2, 16, r"shape \[2\]; expected \[height, width\]"),
        (npy_of(np.moveaxis(noise(2), 2, 0)), 2, 16, r"has 17 channel\(s\); expected 2"),
        (npy_of(noise(2))[:-9], 2, 16, "damaged or truncated"),
        (npy_of(noise(2, size=(3, 4))), 2, 16, "the image is 4x3 .*, its mask 17x12"),
        (saved(noise(4, 8), "TIFF", "CMYK"), 4, 8, "a TIFF of mode CMYK"),
        (saved(noise(4, 8), "JPEG", "CMYK"), 4, 8, "an image of mode CMYK"),
        (b"GIF8", 4, 8, "no image of a known kind"),
    ],
)
def test_what_does_not_fit_is_an_error(tmp_path, content, input_channels, bit_depth, message):
    with pytest.raises(ValueError, match=f"a.png: {message}|a.png: .*{message}"):
        encode(tmp_path / "a.png", content, input_channels, bit_depth)


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path, kind, count):
    content = png_of(noise(count)) if kind == "png" else tiff_of(noise(count), noise(count))
    for length in range(9, len(content) - 12, 41):
        with pytest.raises(ValueError, match=r"truncated|no image of a known kind"):
            encode(tmp_path / "a", content[:length], 2 * count if kind == "tif" else count, 16)


@pytest.mark.parametrize("content", [npy_of(noise(4)), png_of(noise(4)), tiff_of(noise(4))])
def test_damage_anywhere_is_an_error_that_names_the_file_or_none(tmp_path, content):
    path = tmp_path / "a"
    rng = np.random.default_rng(0)
    # Headers are in front, and those of TIFFs at the end.
    places = [*range(8, 130), *range(len(content) - 180, len(content))]
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_image(path, input_channels=4, bit_depth=16)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 20


def test_pages_that_go_round_in_a_circle_are_an_error(tmp_path):
    content = tiff_of(noise(1), noise(1))
    first = content[4:8]
    with pytest.raises(ValueError, match=r"a.tif: damaged .*its list of pages does not end"):
        encode(tmp_path / "a.tif", content[:-4] + first, 2, 16)


@pytest.mark.parametrize(
    ("stored", "count", "bits"),
    [
        (noise(3, 8), 4, 8),
        (noise(4, 8), 4, 16),
        (noise(4, 16), 4, 8),
        (noise(3, 8), 3, 16),
        (noise(1, 16), 3, 16),
        (noise(3, 8), 2, 8),
        (noise(1, 8, (13, 5)), 6, 8),
    ],
)
def test_a_record_of_other_channels_does_not_decode(stored, count, bits):
    with pytest.raises(tf.errors.InvalidArgumentError, match="The image in the record is not"):
        records.decode_image(tf.constant(png_of(stored)), channels=count, bit_depth=bits)


# --- Values and pictures --------------------------------------------------------------------------


def test_scaled_values():
    image = np.array([[[0, 100], [2148, 4195], [5000, 65535]]], np.uint16)
    scaled = records.scale_values(tf.constant(image), (100, 4195)).numpy()
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.ravel(), [0, 0, 127.53, 255, 255, 255], atol=0.01)


@pytest.mark.parametrize(
    ("found", "value_range", "ending"),
    [
        ((3, 65000), (0, 65535), "for the network."),
        ((3, 4000), (0, 65535), "uses all of it."),
        ((3, 4000), (0, 4095), "for the network."),
        ((7, 7), (0, 255), "for the network."),
        ((3, 4100), (0, 4095), "is clipped: --value_range=3,4100 keeps it."),
    ],
)
def test_the_range_of_the_values_is_told(found, value_range, ending):
    text = channels.describe_range(found, value_range)
    assert text.startswith(f"The images hold the values {found[0]} to {found[1]};")
    assert text.endswith(ending)


def test_what_people_see():
    image = noise(6, 8) * np.float32(0.999)
    rounded = np.rint(image).astype(np.uint8)
    np.testing.assert_array_equal(display_rgb(image), rounded[..., :3])
    np.testing.assert_array_equal(display_rgb(image[..., :1]), rounded[..., [0, 0, 0]])
    np.testing.assert_array_equal(display_rgb(image[..., :2]), rounded[..., [0, 1, 1]])
    np.testing.assert_array_equal(display_rgb(noise(3, 8)), noise(3, 8))

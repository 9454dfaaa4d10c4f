"""Whatever a client sends: a right answer or a clear error, for each file of a batch by itself."""

import dataclasses
import io
import resource
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from deeplab_tf.export import export_saved_model
from deeplab_tf.export.encoded import decode
from deeplab_tf.prediction.reading import read_bounded
from tests.test_export import CARD, noise_images

from .test_signatures import file_of, opened

GOOD = noise_images(1, 50, 31)[0]
PNG, JPEG = file_of(GOOD), file_of(GOOD, "JPEG")
DAMAGED = "damaged or truncated, or of other channels or bits"
UNKNOWN = "no JPEG or PNG file"


def with_png_size(width, height):
    """A PNG whose header, checksum included, says what its pixels do not."""
    header = PNG[12:16] + struct.pack(">II", width, height) + PNG[24:29]
    return PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]


def with_jpeg_size(width, height):
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def animated_gif():
    data = io.BytesIO()
    frames = [Image.fromarray(GOOD), Image.fromarray(255 - GOOD)]
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    return data.getvalue()


def bomb(width, height):
    return f"{width}x{height} (width x height), "


HOSTILE = {
    "no bytes": (b"", UNKNOWN),
    "one byte": (b"\xff", UNKNOWN),
    "text": (b"<html>404</html>", UNKNOWN),
    "an animated GIF": (animated_gif(), UNKNOWN),
    "a BMP": (file_of(GOOD, "BMP"), UNKNOWN),
    "the start of a JPEG": (JPEG[:11], DAMAGED),
    "a JPEG's header": (JPEG[: JPEG.index(b"\xff\xda")], DAMAGED),
    "half a JPEG": (JPEG[: len(JPEG) // 2], DAMAGED),
    "the start of a PNG": (PNG[:8], DAMAGED),
    "a PNG's header": (PNG[:33], DAMAGED),
    "half a PNG": (PNG[: len(PNG) // 2], DAMAGED),
    "a PNG with a wrong checksum": (PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:], DAMAGED),
    "a PNG without pixels": (with_png_size(0, 7), DAMAGED),
    "a PNG that says 60000x60000": (with_png_size(60000, 60000), bomb(60000, 60000)),
    "a PNG of the greatest sides": (
        with_png_size(2**32 - 1, 2**32 - 1),
        bomb(2**32 - 1, 2**32 - 1),
    ),
    "a JPEG that says 60000x60000": (with_jpeg_size(60000, 60000), bomb(60000, 60000)),
    "one that only its padding makes too large": (with_png_size(40000, 1), bomb(40000, 1)),
}


def test_each_file_of_a_batch_by_itself(encoded, labels):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = [PNG, *(file for file, _ in HOSTILE.values()), PNG]
    masks, errors = encoded(files)
    assert (errors[0], errors[-1]) == ("", "")
    for mask in (masks[0], masks[-1]):
        np.testing.assert_array_equal(opened(mask), labels(GOOD))
    for (name, (_, error)), mask, found in zip(
        HOSTILE.items(), masks[1:-1], errors[1:-1], strict=True
    ):
        assert mask == b"", name
        assert found.startswith(error), name
    # 60000x60000 pixels would be 10 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


def test_how_much_is_too_much_is_said(encoded):
    _, (error,) = encoded([with_png_size(60000, 60000)])
    assert error == (
        "60000x60000 (width x height), which the network sees at 60001x60001: 3600120001 pixels; "
        "at most 1048576 are accepted"
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 20000), (20000, 1)])
def test_odd_sizes(encoded, labels, shape):
    image = noise_images(1, *shape)[0]
    (mask,), errors = encoded([file_of(image)])
    assert errors == [""]
    np.testing.assert_array_equal(opened(mask), labels(image))


def test_damage_anywhere(encoded):
    """Every file gives a mask of its size or an error, and none takes the batch with it."""
    rng = np.random.default_rng(0)
    files = []
    turned = jpeg_with_orientation(6, "little"), png_with_orientation(6)
    for good in (PNG, JPEG, *turned):
        for _ in range(60):
            bad = np.frombuffer(good, np.uint8).copy()
            places = rng.integers(0, min(len(bad), rng.choice([40, 200, len(bad)])), 3)
            bad[places] = rng.integers(0, 256, len(places))
            files.append(
                bad[: rng.integers(1, len(bad) + 1) if rng.random() < 0.3 else None].tobytes()
            )
    masks, errors = encoded(files)
    assert any(errors)
    assert not all(errors)
    for mask, error in zip(masks, errors, strict=True):
        assert (mask == b"") == (error != "")


# --- Kinds of images that are not what networks eat -----------------------------------------------


def test_cmyk(encoded, labels):
    channels = [Image.fromarray(GOOD[..., i]) for i in (0, 1, 2, 1)]
    data = io.BytesIO()
    Image.merge("CMYK", channels).save(data, "JPEG", quality=95)
    decoded = tf.io.decode_image(data.getvalue(), channels=3).numpy()
    as_shown = np.asarray(Image.open(data).convert("RGB"))
    assert np.abs(decoded.astype(float) - as_shown).mean() < 2
    (mask,), errors = encoded([data.getvalue()])
    assert errors == [""]
    np.testing.assert_array_equal(opened(mask), labels(decoded))


@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits(encoded, labels, grey):
    import cv2

    deep = GOOD.astype(np.uint16) * 256 + 200
    stored = deep[..., 0] if grey else deep[..., ::-1]
    _, data = cv2.imencode(".png", np.ascontiguousarray(stored))
    expected = GOOD[..., :1].repeat(3, axis=2) if grey else GOOD
    (mask,), errors = encoded([data.tobytes()])
    assert errors == [""]
    np.testing.assert_array_equal(opened(mask), labels(expected))


def test_alpha_and_palettes(encoded, labels):
    transparent = Image.fromarray(GOOD)
    transparent.putalpha(77)
    few = Image.fromarray(GOOD).quantize(16)
    data = [io.BytesIO(), io.BytesIO()]
    transparent.save(data[0], "PNG")
    few.save(data[1], "PNG")
    masks, errors = encoded([file.getvalue() for file in data])
    assert errors == ["", ""]
    np.testing.assert_array_equal(opened(masks[0]), labels(GOOD))
    np.testing.assert_array_equal(opened(masks[1]), labels(np.asarray(few.convert("RGB"))))


def jpeg_with_orientation(orientation, order="big", first=b"", fields=()):
    """A JPEG with EXIF by hand: `fields` come before the orientation, `first` before all."""
    endian = ">" if order == "big" else "<"
    entries = [*fields, (0x0112, 3, 1, orientation)]
    tiff = (b"MM" if order == "big" else b"II") + struct.pack(f"{endian}HI", 42, 8)
    tiff += struct.pack(f"{endian}H", len(entries))
    for tag, kind, count, value in entries:
        tiff += struct.pack(f"{endian}HHIHH", tag, kind, count, value, 0)
    exif = b"Exif\x00\x00" + tiff + b"\0" * 4
    return JPEG[:2] + first + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]


def png_with_orientation(orientation, order="big", *, at_end=False, jpeg_like=False):
    """A PNG with EXIF by hand, before its pixels or behind them."""
    exif = jpeg_with_orientation(orientation, order)[12 : -len(JPEG) + 2]
    exif = (b"Exif\x00\x00" if jpeg_like else b"") + exif
    chunk = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    place = len(PNG) - 12 if at_end else 33
    return PNG[:place] + chunk + PNG[place:]


def assert_shown_upright(encoded, labels, file):
    stored = tf.io.decode_image(file, channels=3, expand_animations=False).numpy()
    orientation = Image.open(io.BytesIO(file)).getexif().get(0x0112, 1)
    turned = Image.fromarray(stored)
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    (mask,), errors = encoded([file])
    assert errors == [""]
    np.testing.assert_array_equal(opened(mask), labels(expected))


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("turned", [jpeg_with_orientation, png_with_orientation])
def test_exif_is_applied(encoded, labels, turned, orientation, order):
    assert_shown_upright(encoded, labels, turned(orientation, order))


@pytest.mark.parametrize(
    "file",
    [
        png_with_orientation(6, at_end=True),
        png_with_orientation(8, "little", jpeg_like=True),
        file_of(GOOD, "PNG", exif=jpeg_with_orientation(5)[6 : -len(JPEG) + 2]),
    ],
    ids=["behind the pixels", "as in a JPEG", "by Pillow"],
)
def test_exif_of_png_wherever_it_is(encoded, labels, file):
    assert Image.open(io.BytesIO(file)).getexif()[0x0112] > 1
    assert_shown_upright(encoded, labels, file)


@pytest.mark.parametrize(
    ("turned", "tolerance"), [(jpeg_with_orientation, 2), (png_with_orientation, 0)]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_predict_reads_what_the_export_sees(tmp_path, turned, tolerance, orientation):
    """predict.py's reader turns the same files in the same way; decoders of JPEG are not alike."""
    (tmp_path / "image").write_bytes(turned(orientation))
    image = read_bounded(tmp_path / "image", info=CARD.dataset)
    seen, fault = decode(
        tf.constant(turned(orientation)),
        channels=3,
        bit_depth=8,
        fault_of_size=lambda height, width: tf.constant(""),
    )
    assert fault == "" and seen.shape == image.shape
    assert np.abs(seen.numpy().astype(float) - image).mean() <= tolerance


def test_damaged_chunks_are_no_exif(encoded, labels):
    for chunk in (b"\xff\xff\xff\xffeXIf", b"\x00\x00\x00\x02eXIfMM", b"\x00\x00\x00\x00eXIf"):
        masks, errors = encoded([PNG[:33] + chunk + PNG[33:], PNG])
        assert (errors[0] == "") == (masks[0] != b"")
        np.testing.assert_array_equal(opened(masks[1]), labels(GOOD))


def test_exif_as_pillow_writes_it_and_after_other_segments(encoded, labels):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    assert_shown_upright(encoded, labels, file_of(GOOD, "JPEG", exif=exif))
    comment = b"\xff\xfe" + struct.pack(">H", 9) + b"\xff\xe1Exif"[:7].ljust(7, b"\0")
    fields = [(0x0100, 3, 1, 31), (0x0101, 3, 1, 50)]
    assert_shown_upright(
        encoded, labels, jpeg_with_orientation(8, "little", first=comment, fields=fields)
    )


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_left_alone(encoded, labels, orientation):
    file = jpeg_with_orientation(orientation)
    stored = tf.io.decode_image(file, channels=3, expand_animations=False).numpy()
    (mask,), _ = encoded([file])
    np.testing.assert_array_equal(opened(mask), labels(stored))


# --- Tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", ["serving_default", "labels", "logits"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 1, 40000, 3), np.uint8), "Too many pixels at once"),
        (np.zeros((700, 1, 1, 3), np.uint8), "Too many pixels at once"),
        (np.zeros((0, 5, 7, 3), np.uint8), "Images without pixels"),
        (np.zeros((1, 0, 5, 3), np.uint8), "Images without pixels"),
        (np.zeros((1, 5, 0, 3), np.uint8), "Images without pixels"),
    ],
)
def test_images_that_are_refused(loaded, signature, images, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loaded.signatures[signature](ImageTensor=tf.constant(images))


OTHERS = {
    "float32": np.zeros((1, 5, 5, 3), np.float32),
    "int32": np.zeros((1, 5, 5, 3), np.int32),
    "strings": np.array(["image"]),
    "one image": np.zeros((5, 5, 3), np.uint8),
    "videos": np.zeros((1, 1, 5, 5, 3), np.uint8),
    "four channels": np.zeros((1, 5, 5, 4), np.uint8),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_types_and_ranks(loaded, kind):
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
        loaded.signatures["serving_default"](ImageTensor=tf.constant(OTHERS[kind]))


def test_other_types_and_ranks_in_a_tf1_session(exported):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        signature = graph.signature_def["serving_default"]
        name = signature.inputs["ImageTensor"].name
        fetch = signature.outputs["SemanticPredictions"].name
        for kind in ("strings", "one image", "videos", "four channels"):
            with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
                session.run(fetch, {name: OTHERS[kind]})
        assert session.run(fetch, {name: GOOD[None]}).shape == (1, 50, 31)


# --- The largest scale ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scaled(seasoned, tmp_path_factory):
    """An export that sees images at several scales, of which 1.5 is the largest."""
    inference = dataclasses.replace(CARD.inference, eval_scales=(0.5, 1.5, 1.0))
    folder = tmp_path_factory.mktemp("scaled") / "1"
    # 49 x 65 pixels become 73 x 97.
    card = dataclasses.replace(CARD, inference=inference)
    export_saved_model(seasoned, card, export_path=folder, max_pixels=73 * 97)
    return tf.saved_model.load(str(folder)).signatures


def test_the_largest_scale_counts(scaled):
    for name in ("serving_default", "labels"):
        scaled[name](ImageTensor=tf.constant(noise_images(1, 49, 65)))
        for shape in ((1, 49, 66), (2, 49, 65)):
            with pytest.raises(tf.errors.InvalidArgumentError) as error:
                scaled[name](ImageTensor=tf.constant(noise_images(*shape)))
            assert "more than the 7081 of --export_max_pixels" in error.value.message
            width = 97 if shape[2] == 65 else 121
            words = f"height, width with the padding at the scale 1.5:] [73] [{width}]"
            assert words in error.value.message


def test_logits_are_of_one_scale(scaled):
    scaled["logits"](ImageTensor=tf.constant(noise_images(1, 65, 96)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Too many pixels"):
        scaled["logits"](ImageTensor=tf.constant(noise_images(1, 81, 97)))


def test_files_are_refused_by_the_largest_scale(scaled):
    files = [file_of(noise_images(1, *size)[0]) for size in ((49, 65), (49, 66))]
    outputs = scaled["encoded"](image_bytes=tf.constant(files))
    assert [bool(mask) for mask in outputs["mask_bytes"].numpy()] == [True, False]
    assert outputs["error"].numpy()[1].decode() == (
        "66x49 (width x height), which the network sees at 121x73 at the scale 1.5: 8833 pixels; "
        "at most 7081 are accepted"
    )

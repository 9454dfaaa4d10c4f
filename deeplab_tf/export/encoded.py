"""Files of images decoded within a graph, whatever they hold: a damaged one is no error there."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from deeplab_tf.data.records import decode_image

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_APP1, _SOS = 0xE1, 0xDA  # the JPEG segment that holds EXIF, and the one after which none is
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112
# Where a JPEG's EXIF is looked for: it comes first, and a segment has up to 64 KiB.
_HEAD = 2**17
_MOST_SEGMENTS = 32
# A PNG may have it behind its pixels, which come in chunks of some 8 KiB.
_MOST_CHUNKS = 2**14
_MOST_FIELDS = 512


class Decoded(NamedTuple):
    """What became of the bytes of one file.

    Attributes:
        pixels: [h, w, channels], uint8 or uint16; [0, 0, channels] where there is a fault.
        fault: Scalar string, why the file was refused; empty if it was not.
    """

    pixels: tf.Tensor
    fault: tf.Tensor


def decode(
    data: tf.Tensor,
    *,
    channels: int,
    bit_depth: int,
    fault_of_size: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> Decoded:
    """Decodes a JPEG or PNG file as evaluation does, and turns it upright as its EXIF says.

    The size is read from the header, and judged before any memory is taken for pixels.

    Args:
        data: Scalar string tensor, any bytes.
        channels: Channels of the image.
        bit_depth: Bits of each, 8 or 16.
        fault_of_size: Height and width, int64 scalars, to what is wrong with them: a scalar string,
            empty if nothing is.
    """
    dtype = tf.uint16 if bit_depth == 16 else tf.uint8
    nothing = tf.zeros([0, 0, channels], dtype)

    def decode_sound(data: tf.Tensor) -> Decoded:
        height, width = _size(data)
        fault = fault_of_size(height, width)
        pixels = tf.cond(
            fault == "",
            lambda: upright(decode_image(data, channels=channels, bit_depth=bit_depth), data),
            lambda: nothing,
        )
        return Decoded(tf.ensure_shape(pixels, [None, None, channels]), fault)

    damaged = Decoded(nothing, tf.constant("damaged or truncated, or of other channels or bits"))
    unknown = Decoded(nothing, tf.constant("no JPEG or PNG file"))
    known = tf.logical_or(_starts_with(data, _PNG), _starts_with(data, _JPEG))
    decoded = tf.cond(known, lambda: _attempt(decode_sound, data, damaged), lambda: unknown)
    return Decoded(tf.ensure_shape(decoded[0], [None, None, channels]), decoded[1])


def _attempt(
    function: Callable[[tf.Tensor], Decoded], data: tf.Tensor, otherwise: Decoded
) -> Decoded:
    """What `function` returns, or `otherwise` if an operation in it fails.

    A graph has no try; but a data set leaves out the elements that fail, if it is told to.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.private_threadpool_size = 1
    results = tf.data.Dataset.from_tensors(data).map(function).ignore_errors()
    results = results.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1)
    return Decoded(*results.with_options(options).get_single_element())


def _starts_with(data: tf.Tensor, start: bytes) -> tf.Tensor:
    # Padded, because a substring that the bytes do not have is an error.
    return tf.strings.substr(tf.strings.join([data, b"\0" * len(start)]), 0, len(start)) == start


def _size(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width as the header has them, int64 scalars."""

    def png() -> tf.Tensor:
        octets = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8)
        return _number(tf.reshape(tf.cast(octets, tf.int64), [2, 4]))[::-1]

    def jpeg() -> tf.Tensor:
        return tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.int64)

    height, width = tf.unstack(tf.cond(_starts_with(data, _PNG), png, jpeg))
    return height, width


def upright(pixels: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """An image [h, w, c] as viewers show it: turned by the EXIF orientation of its file."""
    exif = tf.cond(_starts_with(data, _JPEG), lambda: _jpeg_exif(data), lambda: _png_exif(data))
    orientation = _orientation(exif)
    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    mirrored = tf.reduce_any(orientation == tf.constant([2, 3, 6, 7], tf.int64))
    upside_down = tf.reduce_any(orientation == tf.constant([3, 4, 7, 8], tf.int64))
    return pixels[:: 1 - 2 * tf.cast(upside_down, tf.int32), :: 1 - 2 * tf.cast(mirrored, tf.int32)]


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in EXIF data, int64, 1 (upright) to 8; 1 if there is none in it."""
    at = _octets(exif)
    little_endian = at(tf.constant(0, tf.int64), 1)[0] == ord("I")

    def number(start: tf.Tensor, count: int) -> tf.Tensor:
        octets = at(start, count)
        return _number(tf.where(little_endian, tf.reverse(octets, [-1]), octets))

    directory = number(tf.constant(4, tf.int64), 4)
    fields = directory + 2 + 12 * tf.range(_MOST_FIELDS, dtype=tf.int64)
    inside = tf.range(_MOST_FIELDS, dtype=tf.int64) < number(directory, 2)
    found = inside & (number(fields, 2) == _ORIENTATION)
    value = tf.reduce_max(tf.where(found, number(fields + 8, 2), 0))
    return tf.where((value >= 1) & (value <= 8), value, tf.constant(1, tf.int64))


def _octets(data: tf.Tensor) -> Callable[[tf.Tensor, int], tf.Tensor]:
    """A function to octets, int64, at one or more places in the beginning; 0 where there are none.

    Its arguments are the places, int64, and how many follow each.
    """
    # Padded, or it might be empty.
    padded = tf.strings.join([tf.strings.substr(data, 0, _HEAD), b"\0"])
    head = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int64)

    def at(start: tf.Tensor, count: int) -> tf.Tensor:
        places = tf.expand_dims(start, -1) + tf.range(count, dtype=tf.int64)
        inside = (places >= 0) & (places < tf.size(head, tf.int64))
        return tf.where(inside, tf.gather(head, tf.where(inside, places, 0)), 0)

    return at


def _jpeg_exif(data: tf.Tensor) -> tf.Tensor:
    """The EXIF data of a JPEG file and what follows them; no bytes if there are none."""
    segment = _exif_segment(_octets(data))
    start = segment + 10
    return tf.cond(segment > 0, lambda: tf.strings.substr(data, start, _HEAD), lambda: "")


def _png_exif(data: tf.Tensor) -> tf.Tensor:
    """The EXIF data of a PNG file; no bytes if there are none."""
    total = tf.strings.length(data)
    padded = tf.strings.join([data, b"\0" * 8])

    def header(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Length, int64, and kind of the chunk that starts somewhere; zeros behind the file."""
        octets = tf.strings.substr(padded, tf.minimum(start, tf.cast(total, tf.int64)), 8)
        length = tf.io.decode_raw(tf.strings.substr(octets, 0, 4), tf.uint8)
        length = _number(tf.cast(tf.ensure_shape(length, [4]), tf.int64))
        return length, tf.strings.substr(octets, 4, 4)

    def goes_on(start: tf.Tensor) -> tf.Tensor:
        kind = header(start)[1]
        return (kind != b"eXIf") & (kind != b"IEND") & (kind != b"\0" * 4)

    def following(start: tf.Tensor) -> tuple[tf.Tensor]:
        return (start + header(start)[0] + 12,)  # length, kind and checksum have 4 each

    first = tf.constant(len(_PNG), tf.int64)
    (start,) = tf.while_loop(goes_on, following, (first,), maximum_iterations=_MOST_CHUNKS)
    length, kind = header(start)

    def found() -> tf.Tensor:
        # Some writers leave the beginning there that JPEG has.
        exif = tf.strings.substr(padded, start + 8, length)
        skipped = tf.where(_starts_with(exif, _EXIF), len(_EXIF), 0)
        return tf.strings.substr(exif, skipped, _HEAD)

    return tf.cond(kind == b"eXIf", found, lambda: "")


def _exif_segment(at: Callable[[tf.Tensor, int], tf.Tensor]) -> tf.Tensor:
    """Where the segment with EXIF starts in a JPEG file, int64; 0 if there is none."""
    exif = tf.constant(list(_EXIF), tf.int64)

    def is_exif(start: tf.Tensor) -> tf.Tensor:
        return (at(start + 1, 1)[0] == _APP1) & tf.reduce_all(at(start + 4, len(_EXIF)) == exif)

    def goes_on(start: tf.Tensor) -> tf.Tensor:
        marker = at(start, 2)
        return (marker[0] == 0xFF) & (marker[1] != _SOS) & ~is_exif(start)

    def following(start: tf.Tensor) -> tuple[tf.Tensor]:
        return (start + 2 + _number(at(start + 2, 2)),)

    first = tf.constant(2, tf.int64)
    (start,) = tf.while_loop(goes_on, following, (first,), maximum_iterations=_MOST_SEGMENTS)
    return tf.where(is_exif(start), start, tf.constant(0, tf.int64))


def _number(octets: tf.Tensor) -> tf.Tensor:
    """Octets [..., n], the highest first, as integers."""
    count = octets.shape[-1]
    places = [256 ** (count - 1 - i) for i in range(count)]
    return tf.reduce_sum(octets * tf.constant(places, tf.int64), axis=-1)

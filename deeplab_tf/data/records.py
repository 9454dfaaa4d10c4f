"""TFRecord schema of the reference: one example per image, sharded files per split.

Records written here are byte-identical to the reference's (`datasets/build_data.py`), and records
written there are read here.
"""

import os
import re
from pathlib import Path

import tensorflow as tf
from google.protobuf import wrappers_pb2

from deeplab_tf.data.record_files import count_records

# What TensorFlow raises for damaged records, labels that are no class, incomplete checkpoints.
READ_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
)

IMAGE = "image/encoded"
LABEL = "image/segmentation/class/encoded"
# What pipelines say of a sound record that is wrong all the same. These messages name the image.
WRONG_VALUE = " holds the value "
WRONG_SIZE = "must have one size, found (height, width)"

_FILENAME = "image/filename"
_HEIGHT = "image/height"
_WIDTH = "image/width"

_SHARD_SUFFIX = re.compile(r"-(\d{5})-of-(\d{5})\.tfrecord")

_SHOWN_FILES = 5

_PLACE_IN_GRAPH = re.compile(r"(\{\{.*?\}\} ?)+(?P<words>.*?)( \[Op:\w+\].*)?")

# A PNG's bytes 24 and 25 are bit depth and colour type; type 0 is grey.
EIGHT_BIT_GREY = b"\x08\x00"
_COLOR_TYPES = {3: 2, 4: 6}


def shard_name(split: str, index: int, num_shards: int) -> str:
    """File name of shard `index` (from 0) of a split."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def is_shard(name: str, split: str) -> bool:
    """Tells whether `name` is a file name that `shard_name` gives a shard of `split`."""
    return name.startswith(split) and _SHARD_SUFFIX.fullmatch(name, len(split)) is not None


def make_example(
    *,
    image_bytes: bytes,
    label_bytes: bytes,
    filename: str,
    height: int,
    width: int,
    image_format: str,
    channels: int = 3,
) -> bytes:
    """Serializes one image and its label (reference: `build_data.image_seg_to_tfexample`).

    Args:
        image_bytes: The encoded JPEG or PNG image, as `decode_image` reads it.
        label_bytes: The label as an encoded 8-bit grey PNG of class indices.
        filename: Name of the image, without folder and extension.
        height: Height of image and label in pixels.
        width: Width of image and label in pixels.
        image_format: "jpeg" or "png".
        channels: Channels of the image.

    Returns:
        A serialized tf.train.Example.
    """
    # The order of a protobuf map on the wire is unspecified and differs between protobuf versions.
    # Serializing entry by entry in the order of the reference's files makes it a constant.
    features = (
        ("image/channels", _int64_feature(channels)),
        ("image/segmentation/class/format", _bytes_feature(b"png")),
        (_FILENAME, _bytes_feature(filename.encode())),
        ("image/format", _bytes_feature(image_format.encode())),
        (LABEL, _bytes_feature(label_bytes)),
        (IMAGE, _bytes_feature(image_bytes)),
        (_HEIGHT, _int64_feature(height)),
        (_WIDTH, _int64_feature(width)),
    )
    entries = [tf.train.Features(feature={key: value}) for key, value in features]
    # Example has one field, number 1, as BytesValue has; so this is the Example around the map.
    body = b"".join(entry.SerializeToString() for entry in entries)
    return wrappers_pb2.BytesValue(value=body).SerializeToString()


def parse_example(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses one serialized example (reference: `data_generator.Dataset._parse_function`).

    Args:
        serialized: Scalar string tensor.

    Returns:
        Scalars: "image_bytes", "label_bytes" and "filename" (string), "height" and "width" (int64).
        A missing feature is the empty string or 0, as in the reference.
    """
    text = tf.io.FixedLenFeature((), tf.string, default_value="")
    number = tf.io.FixedLenFeature((), tf.int64, default_value=0)
    parsed = tf.io.parse_single_example(
        serialized, {IMAGE: text, LABEL: text, _FILENAME: text, _HEIGHT: number, _WIDTH: number}
    )
    return {
        "image_bytes": parsed[IMAGE],
        "label_bytes": parsed[LABEL],
        "filename": parsed[_FILENAME],
        "height": parsed[_HEIGHT],
        "width": parsed[_WIDTH],
    }


def decode_image(image_bytes: tf.Tensor, *, channels: int = 3, bit_depth: int = 8) -> tf.Tensor:
    """Decodes the image of a record to [h, w, channels].

    8-bit grey and RGB images are JPEG or PNG (sniffed, the recorded format is not trusted), others
    PNG: grey, RGB or RGBA; of any other number of channels, one grey PNG of all channels, one above
    the other, [channels * h, w].

    Args:
        image_bytes: Scalar string tensor.
        channels: Channels of the image.
        bit_depth: 8 or 16.

    Returns:
        uint8, or uint16 for 16 bits.

    Raises:
        tf.errors.InvalidArgumentError: (at run time) it is no such image.
    """
    if bit_depth == 8 and channels in (1, 3):
        image = tf.io.decode_image(image_bytes, channels=channels, expand_animations=False)
        return tf.ensure_shape(image, (None, None, channels))
    header = tf.strings.substr(image_bytes, 24, 2)
    # TensorFlow would fill up a channel or a byte that is not there.
    check = tf.debugging.Assert(
        tf.equal(header, bytes([bit_depth, color_type(channels)])),
        [
            f"The image in the record is not the PNG that images of {channels} channels of "
            f"{bit_depth} bits are stored as. Correct input_channels and bit_depth in "
            "dataset.json, or convert the data again. PNG bit depth and colour type found:",
            header,
        ],
    )
    dtype = tf.uint16 if bit_depth == 16 else tf.uint8
    with tf.control_dependencies([check]):
        if channels in (1, 3, 4):
            return tf.io.decode_png(image_bytes, channels=channels, dtype=dtype)
        planes = tf.io.decode_png(image_bytes, channels=1, dtype=dtype)
    rows, width = tf.unstack(tf.shape(planes)[:2])
    check = tf.debugging.Assert(
        rows % channels == 0,
        [f"The image in the record is not of {channels} channels. Rows of its PNG:", rows],
    )
    with tf.control_dependencies([check]):
        planes = tf.reshape(planes, [channels, rows // channels, width])
    return tf.ensure_shape(tf.transpose(planes, [1, 2, 0]), (None, None, channels))


def color_type(channels: int) -> int:
    """The colour type of the PNG that images of so many channels are stored as."""
    return _COLOR_TYPES.get(channels, 0)


def planes(channels: int) -> int:
    """How many images of one channel are above one another in it; 1 if it is one image."""
    return 1 if channels in _COLOR_TYPES else channels


def scale_values(image: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    """Stored values of any number type as float32 0..255, which `value_range` becomes; clipped."""
    low, high = value_range
    return tf.clip_by_value((tf.cast(image, tf.float32) - low) * (255 / (high - low)), 0.0, 255.0)


def decode_label(label_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes an 8-bit grey PNG to uint8 [h, w] class indices.

    Differs: any other PNG is an error. The reference turns palette and RGB masks into luminance
    and scales 1-bit masks to 0 and 255, and then trains on that.

    Raises:
        tf.errors.InvalidArgumentError: (at run time) the label is no 8-bit grey PNG.
    """
    # Padded, because TensorFlow's error about shorter bytes quotes all of them.
    start = tf.strings.join([tf.strings.substr(label_bytes, 0, 26), b"\0" * 26])
    header = tf.strings.substr(start, 24, 2)
    tf.debugging.Assert(
        tf.equal(header, EIGHT_BIT_GREY),
        [
            "The label in the record is not an 8-bit grey PNG of class indices (palette and RGB "
            "masks are not read as indices). Convert the data again with a script of datasets/. "
            "PNG bit depth and colour type found:",
            header,
        ],
    )
    return tf.squeeze(tf.io.decode_png(label_bytes, channels=1), axis=-1)


def split_files(dataset_dir: str | os.PathLike[str], split: str) -> list[str]:
    """Lists the record files of a split, in order.

    Args:
        dataset_dir: Folder of records.
        split: Name of the split, such as "train".

    Returns:
        Sorted paths of `<split>-xxxxx-of-yyyyy.tfrecord`, or, where there is none, of `<split>-*`
        (the reference's pattern).

    Raises:
        FileNotFoundError: The folder or the split's files are missing.
        ValueError: Some shards are missing, or two conversions are mixed in the folder.
    """
    paths, missing = present_and_missing_files(dataset_dir, split)
    if missing:
        shown = ", ".join(os.path.basename(path) for path in missing[:_SHOWN_FILES])
        more = f" and {len(missing) - _SHOWN_FILES} more" if len(missing) > _SHOWN_FILES else ""
        raise ValueError(
            f"{dataset_dir} holds {len(paths)} of the {len(paths) + len(missing)} shards of the "
            f"split {split!r}; missing: {shown}{more}. Copy them or convert again; --skip_corrupt "
            "does without them"
        )
    return paths


def present_and_missing_files(
    dataset_dir: str | os.PathLike[str], split: str
) -> tuple[list[str], list[str]]:
    """As `split_files`, and the paths of shards that are missing in place of an error."""
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder of records {folder} not found")
    candidates = sorted(name for name in os.listdir(folder) if name.startswith(f"{split}-"))
    shards = {name: _SHARD_SUFFIX.fullmatch(name, len(split)) for name in candidates}
    names = [name for name, match in shards.items() if match] or candidates
    if not names:
        raise FileNotFoundError(f"no record files {folder}/{split}-*.tfrecord found")
    totals = {int(match[2]) for match in shards.values() if match}
    if len(totals) > 1:
        raise ValueError(
            f"{folder} mixes conversions of the split {split!r} into {sorted(totals)} shards; "
            "delete the files of the old one"
        )
    expected = [shard_name(split, index, total) for total in totals for index in range(total)]
    missing = [name for name in expected if name not in names]
    return [str(folder / name) for name in names], [str(folder / name) for name in missing]


def error_words(error: Exception) -> str:
    """What an error says, without what TensorFlow adds about places in its graph."""
    first_line = getattr(error, "message", str(error)).partition("\n")[0]
    _, asserted, words = first_line.partition("assertion failed: ")
    if asserted:
        return words.strip("[]").replace("] [", " ")
    place = _PLACE_IN_GRAPH.fullmatch(first_line)
    return place["words"] if place else str(error)


def _bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64_feature(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def splits_in(dataset_dir: str | os.PathLike[str]) -> dict[str, int]:
    """The splits that a folder of records has files of, and how many records are in them.

    Only the lengths that the records begin with are read; they are not checked.
    """
    folder = Path(dataset_dir)
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    splits: dict[str, int] = {}
    for name in names:
        if match := _SHARD_SUFFIX.search(name):
            split = name[: match.start()]
            splits[split] = splits.get(split, 0) + count_records(folder / name)
    return {split: count for split, count in splits.items() if count}

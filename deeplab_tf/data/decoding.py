"""From a record to image and label: decoding, and the checks that both are what they should be."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from deeplab_tf.data import augment, records
from deeplab_tf.data.dataset_info import DatasetInfo

_JPEG_START = b"\xff\xd8\xff"

Resizer = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def decode_example(
    serialized: tf.Tensor, *, info: DatasetInfo, resize: Resizer | None
) -> dict[str, tf.Tensor]:
    """Image, label and filename of a record, whole."""
    example = records.parse_example(serialized)
    label = decode_label(example, info=info)
    image = decode_image(example, info=info, size=tf.shape(label))
    if resize is not None:
        image, label = resize(image, label)
    return {"image": image, "label": label, "filename": example["filename"]}


def decode_label(example: dict[str, tf.Tensor], *, info: DatasetInfo) -> tf.Tensor:
    """Decodes a label and checks its values."""
    label = records.decode_label(example["label_bytes"])
    wrong = (label > info.num_classes - 1) & (label != info.ignore_label)

    def fail() -> None:
        value = tf.reduce_max(tf.where(wrong, label, tf.zeros_like(label)))
        message = tf.strings.join(
            [
                "The label of ",
                example["filename"],
                records.WRONG_VALUE,
                tf.strings.as_string(value),
                f", which is neither one of the {info.num_classes} classes of {info.name} "
                f"(0 to {info.num_classes - 1}) nor the ignore label {info.ignore_label}. Correct "
                "the mask and convert again, or correct class_names or ignore_label in "
                "dataset.json.",
            ]
        )
        tf.debugging.Assert(value == 0, [message])

    tf.cond(tf.reduce_any(wrong), fail, lambda: None)
    return label


def decode_image(example: dict[str, tf.Tensor], *, info: DatasetInfo, size: tf.Tensor) -> tf.Tensor:
    """Decodes a whole image and checks that its size is the label's."""
    image = records.decode_image(
        example["image_bytes"], channels=info.input_channels, bit_depth=info.bit_depth
    )
    _check_size(tf.shape(image)[:2], size, filename=example["filename"])
    return image if info.stores_input else records.scale_values(image, info.value_range)


def decode_image_rows(
    example: dict[str, tf.Tensor],
    rows: augment.AxisSamples,
    *,
    info: DatasetInfo,
    size: tf.Tensor,
) -> tf.Tensor:
    """Decodes the rows of an image that a crop needs: of a large JPEG up to 40 % less work."""
    encoded = example["image_bytes"]

    def decode_all_rows() -> tf.Tensor:
        image = decode_image(example, info=info, size=size)
        return image[rows.start : rows.start + rows.length]

    if not (info.stores_input and info.input_channels in (1, 3)):
        return decode_all_rows()

    def decode_jpeg_rows() -> tf.Tensor:
        image_size = tf.image.extract_jpeg_shape(encoded)[:2]
        # Whole rows: where a row is cut, the decoder interpolates its chroma differently.
        window = tf.stack([rows.start, 0, rows.length, size[1]])
        # First the check: the decoder's own error about such a window does not name the image.
        with tf.control_dependencies([_check_size(image_size, size, filename=example["filename"])]):
            return tf.image.decode_and_crop_jpeg(encoded, window, channels=info.input_channels)

    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG_START)) == _JPEG_START
    return tf.cond(is_jpeg, decode_jpeg_rows, decode_all_rows)


def _check_size(
    image_size: tf.Tensor, label_size: tf.Tensor, *, filename: tf.Tensor
) -> tf.Operation:
    return tf.debugging.Assert(
        tf.reduce_all(image_size == label_size),
        [
            "Image and label of",
            filename,
            records.WRONG_SIZE,
            image_size,
            label_size,
            "Convert the data again with a script of datasets/, which finds such pairs.",
        ],
    )


def resizer(min_size: int | None, max_size: int | None, factor: int | None) -> Resizer | None:
    """The resize to range of an image (to float32) and its label; None if there is to be none."""
    if min_size is None:
        if max_size is not None or factor is not None:
            raise ValueError(
                "max_resize_value and resize_factor need min_resize_value: found "
                f"{max_size} and {factor} without it"
            )
        return None

    def resize(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        height, width = tf.unstack(tf.shape(label))
        size = augment.resize_to_range_size(
            height, width, min_size=min_size, max_size=max_size, factor=factor
        )
        return augment.resize_image(image, size), augment.resize_label(label, size)

    return resize


def image_canvas(
    crop_size: tuple[int, int], mean_pixel: Sequence[float], *, info: DatasetInfo
) -> np.ndarray:
    """A crop of padding, [crop_h, crop_w, channels], of the type that images have."""
    if len(mean_pixel) != info.input_channels:
        raise ValueError(
            f"mean_pixel has {len(mean_pixel)} values for images of {info.input_channels} channels"
        )
    color = (
        np.rint(mean_pixel).astype(np.uint8)
        if info.stores_input
        else np.asarray(mean_pixel, np.float32)
    )
    return np.full((*crop_size, info.input_channels), color)

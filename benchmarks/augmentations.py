"""Measures what each augmentation beyond the reference's costs: processor time per image.

    python -m benchmarks.augmentations

The records, crops and batches are those of `benchmarks.input_pipeline`. All settings run in turns
in one process, because machines drift; the medians count. The first row decodes and nothing else.
"""

import statistics
import tempfile
from collections.abc import Callable
from functools import partial

import tensorflow as tf

from benchmarks.input_pipeline import BATCH_SIZE, CROP, measure, write_records
from deeplab_tf.config import AugmentationConfig
from deeplab_tf.data import records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.pipeline import training_batches

REPEATS = 3
EVERYTHING = {
    "brightness_jitter": 0.4,
    "contrast_jitter": 0.4,
    "saturation_jitter": 0.4,
    "hue_jitter": 0.1,
    "max_rotation_degrees": 10.0,
    "blur_probability": 1.0,
    "class_balanced_crops": 1.0,
}


def decoded(folder: str) -> tf.data.Dataset:
    """Image and label of each record, decoded whole; batches are lists of sizes."""

    def decode(serialized: tf.Tensor) -> tf.Tensor:
        example = records.parse_example(serialized)
        image = records.decode_image(example["image_bytes"])
        return tf.shape(image)[:2] + tf.shape(records.decode_label(example["label_bytes"]))

    return (
        tf.data.TFRecordDataset(records.split_files(folder, "train"))
        .repeat()
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )


def augmented(folder: str, info: DatasetInfo, **fields: float) -> tf.data.Dataset:
    """The library's pipeline with some augmentations."""
    return training_batches(
        folder,
        "train",
        info=info,
        batch_size=BATCH_SIZE,
        crop_size=(CROP, CROP),
        min_scale_factor=0.5,
        max_scale_factor=2.0,
        scale_factor_step_size=0.25,
        mean_pixel=(127.5, 127.5, 127.5),
        seed=0,
        augmentations=AugmentationConfig(**fields),
    )


def main() -> None:
    """Makes the records, measures in turns, prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        info = write_records(folder)
        settings: dict[str, Callable[[], tf.data.Dataset]] = {
            "decoding": partial(decoded, folder),
            "none": partial(augmented, folder, info),
        }
        for name, value in EVERYTHING.items():
            settings[f"{name}={value}"] = partial(augmented, folder, info, **{name: value})
        wide = "max_rotation_degrees=180.0"
        settings[wide] = partial(augmented, folder, info, max_rotation_degrees=180.0)
        settings["all but the last"] = partial(augmented, folder, info, **EVERYTHING)
        measured: dict[str, list[float]] = {name: [] for name in settings}
        for _ in range(REPEATS):
            for name, make_batches in settings.items():
                measured[name].append(measure(make_batches)[1])
    medians = {name: statistics.median(values) for name, values in measured.items()}
    print(f"{'':28}{'CPU ms/image':>14}{'more than none':>16}")
    for name, milliseconds in medians.items():
        print(f"{name:28}{milliseconds:14.2f}{milliseconds - medians['none']:16.2f}")


if __name__ == "__main__":
    main()

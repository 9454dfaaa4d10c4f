"""Converts ADE20K (the scene parsing challenge's ADEChallengeData2016) to TFRecords.

    python datasets/build_ade20k_data.py \
        --train_image_folder=ADEChallengeData2016/images/training \
        --train_image_label_folder=ADEChallengeData2016/annotations/training \
        --val_image_folder=ADEChallengeData2016/images/validation \
        --val_image_label_folder=ADEChallengeData2016/annotations/validation \
        --output_dir=records

The masks hold 1..150 for the classes and 0 for everything else, which is ignored: 151 names and the
ignore label 0, as in the reference. --reduce_zero_label writes the other usual form, 150 names with
labels 0..149 and the ignore label 255, for networks without an output that means nothing.

Differs from the reference: the order of the training images is shuffled, but the same each time,
validation images keep theirs, and the image format is taken from the files.
"""

import dataclasses
import hashlib
import os
from collections.abc import Collection
from functools import partial
from pathlib import Path

from absl import flags

from deeplab_tf.cli import conversion
from deeplab_tf.data import images
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.data.pairing import Sample, raise_problems
from deeplab_tf.data.reading import FileReader

_ADE20K = KNOWN_DATASETS["ade20k"]
_REDUCED = dataclasses.replace(
    _ADE20K,
    name="ade20k_150",
    class_names=_ADE20K.class_names[1:],
    palette=_ADE20K.palette[1:],
    ignore_label=255,
)
_REDUCED_LABELS = {0: 255} | {label: label - 1 for label in range(1, 151)}

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "train_image_folder",
    "./ADE20K/ADEChallengeData2016/images/training",
    "Folder of training images.",
)
flags.DEFINE_string(
    "train_image_label_folder",
    "./ADE20K/ADEChallengeData2016/annotations/training",
    "Folder of their masks.",
)
flags.DEFINE_string(
    "val_image_folder",
    "./ADE20K/ADEChallengeData2016/images/validation",
    "Folder of validation images.",
)
flags.DEFINE_string(
    "val_image_label_folder",
    "./ADE20K/ADEChallengeData2016/annotations/validation",
    "Folder of their masks.",
)
conversion.define_flags(output_dir="./ADE20K/tfrecord")
flags.DEFINE_enum(
    "image_format",
    "png",
    ["jpg", "jpeg", "png"],
    "Extension of the images. Unless it is given, any; the format is recognised by the content.",
)
flags.DEFINE_enum("label_format", "png", ["png"], "Extension of the masks.")
flags.DEFINE_bool(
    "reduce_zero_label",
    False,
    "Write labels 0..149 for the classes 1..150, and 255 in place of 0, which is ignored.",
)


def find_samples(
    image_folder: str, label_folder: str, *, image_extensions: Collection[str]
) -> list[Sample]:
    """Finds the images of a folder, in alphabetical order, and their masks.

    Samples are named by the image's whole path, as in the reference.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: There is no image, or an image has no mask.
    """
    for folder in (image_folder, label_folder):
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"folder {folder} not found")
    samples = [
        Sample(os.path.join(image_folder, path.name), path, Path(label_folder, f"{path.stem}.png"))
        for path in sorted(Path(image_folder).iterdir())
        if path.suffix.lower() in image_extensions and not path.name.startswith(".")
    ]
    if not samples:
        raise ValueError(f"folder {image_folder} holds no {', '.join(image_extensions)} file")
    raise_problems(
        [
            f"{sample.name}: no mask {sample.mask_path}"
            for sample in samples
            if not sample.mask_path.is_file()
        ]
    )
    return samples


def _shuffled(samples: list[Sample]) -> list[Sample]:
    """Returns the samples in an order that depends on nothing but the file names."""
    return sorted(samples, key=lambda s: hashlib.sha256(s.image_path.name.encode()).digest())


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    any_kind = FLAGS["image_format"].using_default_value
    extensions = images.EXTENSIONS if any_kind else (f".{FLAGS.image_format}",)
    info = _REDUCED if FLAGS.reduce_zero_label else _ADE20K
    find = partial(find_samples, image_extensions=extensions)
    conversion.convert(
        {
            "train": _shuffled(find(FLAGS.train_image_folder, FLAGS.train_image_label_folder)),
            "val": find(FLAGS.val_image_folder, FLAGS.val_image_label_folder),
        },
        name=info.name,
        read=FileReader(
            ignore_label=_ADE20K.ignore_label,  # masks with 255 are reduced already: an error
            label_map=_REDUCED_LABELS if FLAGS.reduce_zero_label else None,
        ),
        class_names=info.class_names,
        palette=info.palette,
        ignore_label=info.ignore_label,
    )


if __name__ == "__main__":
    conversion.run(main)

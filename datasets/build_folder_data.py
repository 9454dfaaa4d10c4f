"""Converts a folder of images and a folder of masks, of any data set, to TFRecords.

The mask of `images/a.jpg` is `masks/a.png` (`--mask_suffix=_mask`: `masks/a_mask.png`).

Masks whose pixel values (or palette indices) are the classes 0, 1, 2, ..., with 255 for void:

    python datasets/build_folder_data.py --image_folder=images --mask_folder=masks \
        --class_names_file=names.txt --output_dir=records

Binary masks of black and white:

    python datasets/build_folder_data.py --image_folder=images --mask_folder=masks \
        --label_map=0:0,255:1 --class_names=background,object --output_dir=records

Coloured masks, with a file of one line `r g b name` per class (a line named void: ignored pixels):

    python datasets/build_folder_data.py --image_folder=images --mask_folder=masks \
        --color_table=colors.txt --output_dir=records

One image in five goes to the split "val", chosen by a hash of its name; --train_list and --val_list
choose otherwise. EXIF orientations are applied to the images, as every viewer does.

Images of other channels than RGB, or of 16 bits (docs/data.md says which files):

    python datasets/build_folder_data.py --image_folder=images --mask_folder=masks \
        --input_channels=4 --bit_depth=16 --value_range=0,4095 --output_dir=records
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from absl import flags

from deeplab_tf.cli import conversion, image_flags
from deeplab_tf.data.class_table import (
    ColorTable,
    parse_label_map,
    read_class_names,
    read_color_table,
)
from deeplab_tf.data.masks import MaskType
from deeplab_tf.data.pairing import folder_splits
from deeplab_tf.data.reading import FileReader

FLAGS = flags.FLAGS
flags.DEFINE_string("image_folder", None, "Folder of images.", required=True)
flags.DEFINE_string("mask_folder", None, "Folder of masks.", required=True)
conversion.define_flags(output_dir=None)
image_flags.define_flags()
flags.DEFINE_string("mask_suffix", "", "What mask names have after the image's, such as _mask.")
flags.DEFINE_enum(
    "mask_type",
    "auto",
    get_args(MaskType),
    "What a mask's pixel holds: index (its grey value is the class), palette (its palette index "
    "is the class), rgb (a colour of --color_table). auto: rgb if there is a --color_table, else "
    "palette or index, as the file says.",
)
flags.DEFINE_string("color_table", None, "File with one line `r g b name` per colour, for rgb.")
flags.DEFINE_string(
    "class_names_file", None, "File with one class name a line, for labels 0, 1, 2."
)
flags.DEFINE_list("class_names", None, "Class names, instead of a file.")
flags.DEFINE_list(
    "label_map",
    None,
    "Pairs <value in the mask>:<label>, such as 0:0,255:1. Every value must be named, but the "
    "ignore label, which stays if it is not.",
)
flags.DEFINE_integer("ignore_label", 255, "Label of void pixels.", lower_bound=0, upper_bound=255)
flags.DEFINE_float("val_ratio", 0.2, "Share of the images that go to the split val.")
flags.DEFINE_integer("seed", 0, "Seed of the choice of the split val.")
flags.DEFINE_string("train_list", None, "File with one image name a line, for the split train.")
flags.DEFINE_string("val_list", None, "File with one image name a line, for the split val.")
flags.DEFINE_string("dataset_name", None, "Name of the data set. Default: the output folder's.")


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    _check_flags()
    class_names, color_table = _classes()
    list_files = {"train": FLAGS.train_list, "val": FLAGS.val_list} if FLAGS.train_list else None
    splits = folder_splits(
        image_dir=FLAGS.image_folder,
        mask_dir=FLAGS.mask_folder,
        mask_suffix=FLAGS.mask_suffix,
        list_files=list_files,
        val_ratio=FLAGS.val_ratio,
        seed=FLAGS.seed,
        image_extensions=image_flags.extensions(),
    )
    read = FileReader(
        mask_type=FLAGS.mask_type,
        ignore_label=FLAGS.ignore_label,
        color_table=color_table,
        label_map=parse_label_map(FLAGS.label_map) if FLAGS.label_map else None,
        **image_flags.stored(),
    )
    conversion.convert(
        splits,
        name=FLAGS.dataset_name or Path(FLAGS.output_dir).resolve().name,
        read=read,
        class_names=class_names,
        palette=color_table.palette if color_table else None,
        ignore_label=FLAGS.ignore_label,
        value_range=image_flags.value_range(),
        **image_flags.stored(),
    )


def _check_flags() -> None:
    given = {name for name in FLAGS if FLAGS[name].value is not None}
    naming = sorted(given & {"class_names", "class_names_file", "color_table"})
    if len(naming) > 1:
        raise ValueError(f"--{' and --'.join(naming)} both name the classes; give one of them")
    if FLAGS.mask_type == "rgb" and "color_table" not in given:
        raise ValueError("--mask_type=rgb needs --color_table, a file with lines `r g b name`")
    if FLAGS.mask_type in ("index", "palette") and "color_table" in given:
        raise ValueError(f"--color_table is for RGB masks; --mask_type is {FLAGS.mask_type}")
    if {"label_map", "color_table"} <= given:
        raise ValueError("--label_map is for index and palette masks, --color_table for RGB masks")
    if len(given & {"train_list", "val_list"}) == 1:
        raise ValueError("--train_list and --val_list go together; found one of them")


def _classes() -> tuple[Sequence[str] | None, ColorTable | None]:
    """Returns the class names, None if they are to be derived, and the colour table."""
    if FLAGS.color_table:
        table = read_color_table(FLAGS.color_table, ignore_label=FLAGS.ignore_label)
        return table.class_names, table
    if FLAGS.class_names_file:
        return read_class_names(FLAGS.class_names_file), None
    return FLAGS.class_names, None


if __name__ == "__main__":
    conversion.run(main)

"""The flags that say what masks hold: the same for the converter of folders and for the doctor."""

from collections.abc import Sequence
from typing import get_args

from absl import flags

from deeplab_tf.data.class_table import (
    ColorTable,
    parse_label_map,
    read_class_names,
    read_color_table,
)
from deeplab_tf.data.masks import MaskType
from deeplab_tf.data.reading import FileReader

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags that `classes_and_reader` reads, and --mask_suffix."""
    flags.DEFINE_string("mask_suffix", "", "What mask names have after the image's, such as _mask.")
    flags.DEFINE_enum(
        "mask_type",
        "auto",
        get_args(MaskType),
        "What a mask's pixel holds: index (its grey value is the class), palette (its palette "
        "index is the class), rgb (a colour of --color_table). auto: rgb if there is a "
        "--color_table, else palette or index, as the file says.",
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
    flags.DEFINE_integer(
        "ignore_label", 255, "Label of void pixels.", lower_bound=0, upper_bound=255
    )


def classes_and_reader() -> tuple[Sequence[str] | None, FileReader]:
    """The class names, None if they are to be derived, and how masks are read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The flags contradict each other, or a file is no such table.
    """
    _check_flags()
    class_names, color_table = _classes()
    read = FileReader(
        mask_type=FLAGS.mask_type,
        ignore_label=FLAGS.ignore_label,
        color_table=color_table,
        label_map=parse_label_map(FLAGS.label_map) if FLAGS.label_map else None,
    )
    return class_names, read


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


def _classes() -> tuple[Sequence[str] | None, ColorTable | None]:
    """Returns the class names, None if they are to be derived, and the colour table."""
    if FLAGS.color_table:
        table = read_color_table(FLAGS.color_table, ignore_label=FLAGS.ignore_label)
        return table.class_names, table
    if FLAGS.class_names_file:
        return read_class_names(FLAGS.class_names_file), None
    return FLAGS.class_names, None

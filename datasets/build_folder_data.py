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
choose otherwise, or --val_image_folder and --val_mask_folder, if the splits have folders of their
own. EXIF orientations are applied to the images, as every viewer does.

Images of other channels than RGB, or of 16 bits (docs/data.md says which files):

    python datasets/build_folder_data.py --image_folder=images --mask_folder=masks \
        --input_channels=4 --bit_depth=16 --value_range=0,4095 --output_dir=records
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from absl import flags

from deeplab_tf.cli import conversion, image_flags, mask_flags
from deeplab_tf.data.pairing import Sample, folder_samples, folder_splits

FLAGS = flags.FLAGS
flags.DEFINE_string("image_folder", None, "Folder of images.", required=True)
flags.DEFINE_string("mask_folder", None, "Folder of masks.", required=True)
flags.DEFINE_string("val_image_folder", None, "Folder of the images of val, if it has its own.")
flags.DEFINE_string("val_mask_folder", None, "Folder of their masks.")
conversion.define_flags(output_dir=None)
image_flags.define_flags()
mask_flags.define_flags()
flags.DEFINE_float("val_ratio", 0.2, "Share of the images that go to the split val.")
flags.DEFINE_integer("seed", 0, "Seed of the choice of the split val.")
flags.DEFINE_string("train_list", None, "File with one image name a line, for the split train.")
flags.DEFINE_string("val_list", None, "File with one image name a line, for the split val.")
flags.DEFINE_string("dataset_name", None, "Name of the data set. Default: the output folder's.")


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    _check_flags()
    class_names, read = mask_flags.classes_and_reader()
    read = replace(read, **image_flags.stored())
    conversion.convert(
        _find_splits(),
        name=FLAGS.dataset_name or Path(FLAGS.output_dir).resolve().name,
        read=read,
        class_names=class_names,
        palette=read.color_table.palette if read.color_table else None,
        ignore_label=FLAGS.ignore_label,
        value_range=image_flags.value_range(),
        **image_flags.stored(),
    )


def _find_splits() -> dict[str, list[Sample]]:
    find = partial(
        folder_samples,
        mask_suffix=FLAGS.mask_suffix,
        image_extensions=image_flags.extensions(),
    )
    if FLAGS.val_image_folder:
        return {
            "train": find(image_dir=FLAGS.image_folder, mask_dir=FLAGS.mask_folder),
            "val": find(image_dir=FLAGS.val_image_folder, mask_dir=FLAGS.val_mask_folder),
        }
    list_files = {"train": FLAGS.train_list, "val": FLAGS.val_list} if FLAGS.train_list else None
    return folder_splits(
        image_dir=FLAGS.image_folder,
        mask_dir=FLAGS.mask_folder,
        mask_suffix=FLAGS.mask_suffix,
        list_files=list_files,
        val_ratio=FLAGS.val_ratio,
        seed=FLAGS.seed,
        image_extensions=image_flags.extensions(),
    )


def _check_flags() -> None:
    given = {name for name in FLAGS if FLAGS[name].value is not None}
    for pair in (("train_list", "val_list"), ("val_image_folder", "val_mask_folder")):
        if len(given & set(pair)) == 1:
            raise ValueError(f"--{' and --'.join(pair)} go together; found one of them")
    if {"train_list", "val_image_folder"} <= given:
        raise ValueError("--train_list and --val_image_folder both choose the splits; give one")


if __name__ == "__main__":
    conversion.run(main)

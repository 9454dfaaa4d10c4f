"""Converts a data set in PASCAL VOC layout to TFRecords.

    python datasets/build_voc2012_data.py \
        --image_folder=VOC2012/JPEGImages \
        --semantic_segmentation_folder=VOC2012/SegmentationClass \
        --list_folder=VOC2012/ImageSets/Segmentation \
        --output_dir=records/voc2012

Every `<split>.txt` in the list folder becomes a split. With `--sbd_root=benchmark_RELEASE` there is
a split train_aug as well: VOC's train and what the Semantic Boundaries Dataset adds to it, 10582
images. Differs from the reference: palette PNGs are read as class indices (no remove_gt_colormap.py
needed), the image format is taken from the files, and SBD's own files are read, where the reference
expects a folder of masks that someone made of them.
"""

from pathlib import Path

from absl import flags

from deeplab_tf.cli import conversion, image_flags
from deeplab_tf.data.class_table import read_class_names
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.data.pairing import voc_splits
from deeplab_tf.data.sbd import VocReader, augmented_train_split

_VOC = KNOWN_DATASETS["pascal_voc_seg"]

FLAGS = flags.FLAGS
flags.DEFINE_string("image_folder", "./VOCdevkit/VOC2012/JPEGImages", "Folder of images.")
flags.DEFINE_string(
    "semantic_segmentation_folder",
    "./VOCdevkit/VOC2012/SegmentationClassRaw",
    "Folder of masks: palette PNGs (SegmentationClass) or grey PNGs of class indices.",
)
flags.DEFINE_string(
    "list_folder",
    "./VOCdevkit/VOC2012/ImageSets/Segmentation",
    "Folder of lists; every <split>.txt in it becomes a split.",
)
flags.DEFINE_string(
    "sbd_root",
    None,
    "Folder of the Semantic Boundaries Dataset as unpacked (benchmark_RELEASE), for train_aug.",
)
conversion.define_flags()
image_flags.define_flags()
flags.DEFINE_enum(
    "image_format",
    "png",
    ["jpg", "jpeg", "png"],
    "Extension of the images. Unless it is given, any; the format is recognised by the content.",
)
flags.DEFINE_enum("label_format", "png", ["png"], "Extension of the masks.")
flags.DEFINE_string(
    "class_names_file", None, "File with one class name a line. Default: the 21 VOC classes."
)
flags.DEFINE_string(
    "dataset_name",
    None,
    "Name of the data set. Default: pascal_voc_seg with the VOC classes, else the output folder's.",
)
flags.DEFINE_integer("ignore_label", 255, "Label of void pixels.", lower_bound=0, upper_bound=255)


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    if FLAGS.class_names_file:
        class_names = read_class_names(FLAGS.class_names_file)
        name = FLAGS.dataset_name or Path(FLAGS.output_dir).resolve().name
    else:
        class_names = _VOC.class_names
        name = FLAGS.dataset_name or _VOC.name
    any_kind = FLAGS["image_format"].using_default_value
    extensions = image_flags.extensions() if any_kind else (f".{FLAGS.image_format}",)
    splits = voc_splits(
        image_dir=FLAGS.image_folder,
        mask_dir=FLAGS.semantic_segmentation_folder,
        list_dir=FLAGS.list_folder,
        image_extensions=extensions,
        mask_extensions=(f".{FLAGS.label_format}",),
    )
    if FLAGS.sbd_root:
        if "train_aug" in splits:
            raise ValueError(f"train_aug.txt in {FLAGS.list_folder} and --sbd_root both make it")
        splits["train_aug"] = augmented_train_split(splits, FLAGS.sbd_root)
        if (count := len(splits["train_aug"])) != _VOC.splits["train_aug"]:
            expected = _VOC.splits["train_aug"]
            print(f"Note: train_aug has {count} images; of all of VOC and SBD it has {expected}.")
    conversion.convert(
        splits,
        name=name,
        read=VocReader(ignore_label=FLAGS.ignore_label, **image_flags.stored()),
        class_names=class_names,
        ignore_label=FLAGS.ignore_label,
        value_range=image_flags.value_range(),
        **image_flags.stored(),
    )


if __name__ == "__main__":
    conversion.run(main)

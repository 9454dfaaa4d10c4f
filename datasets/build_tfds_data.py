"""Converts a data set of TensorFlow Datasets that has masks to TFRecords.

    python datasets/build_tfds_data.py --tfds_name=oxford_iiit_pet --output_dir=records

TFDS downloads it, unless it is in --data_dir already. oxford_iiit_pet, cityscapes/... and
scene_parse150 are known; of others, the only image and the only mask are taken, or those of
--image_key and --mask_key. Splits keep the names that TFDS gives them (eval.py --eval_split=test).

Needs tensorflow-datasets: pip install -e '.[tfds]'.
"""

import dataclasses

from absl import flags

from deeplab_tf.cli import conversion
from deeplab_tf.data.class_table import parse_label_map, read_class_names
from deeplab_tf.data.tfds_source import TfdsLayout, TfdsReader, find_layout, make_builder
from deeplab_tf.data.tfds_source import tfds_samples as find_samples

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "tfds_name", None, "Name in TFDS's catalogue, with configuration and version.", required=True
)
flags.DEFINE_string("data_dir", None, "TFDS's folder of data sets. Default: TFDS's own.")
conversion.define_flags(output_dir=None, num_shards=10)
flags.DEFINE_list("splits", None, "Splits to convert. Default: all.")
flags.DEFINE_string("image_key", None, "Feature of the image.")
flags.DEFINE_string("mask_key", None, "Feature of the mask.")
flags.DEFINE_list(
    "label_map",
    None,
    "Pairs <value in the mask>:<label>, such as 1:0,2:1. Every value must be named, but the ignore "
    "label, which stays if it is not. Default: that of a known data set, else values stay.",
)
flags.DEFINE_string(
    "class_names_file",
    None,
    "File with one class name a line, for labels 0, 1, 2. Default: those of the data set, else "
    "class_0 and so on.",
)
flags.DEFINE_integer("ignore_label", 255, "Label of void pixels.", lower_bound=0, upper_bound=255)


def _layout(layout: TfdsLayout) -> TfdsLayout:
    """The layout with what the flags say instead."""
    if FLAGS.label_map:
        layout = dataclasses.replace(layout, label_map=parse_label_map(FLAGS.label_map))
    if FLAGS.class_names_file:
        names = read_class_names(FLAGS.class_names_file)
        layout = dataclasses.replace(layout, class_names=names, palette=None)
    return layout


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    builder = make_builder(FLAGS.tfds_name, FLAGS.data_dir)
    layout = _layout(find_layout(builder, image_key=FLAGS.image_key, mask_key=FLAGS.mask_key))
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # TFDS's way to ask for a download by hand
        raise ValueError(f"{FLAGS.tfds_name} is not prepared: {error}") from error
    if layout.note:
        print(f"Note: {layout.note}")
    splits = FLAGS.splits or list(builder.info.splits)
    conversion.convert(
        {split: find_samples(builder, split, layout=layout) for split in splits},
        name=builder.name,
        read=TfdsReader(
            f"{FLAGS.tfds_name.partition(':')[0]}:{builder.version}",
            FLAGS.data_dir,
            layout,
            FLAGS.ignore_label,
        ),
        class_names=layout.class_names,
        palette=layout.palette,
        ignore_label=FLAGS.ignore_label,
    )


if __name__ == "__main__":
    conversion.run(main)

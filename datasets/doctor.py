"""Finds what is wrong with a data set, before or after it is converted.

    python -m datasets.doctor VOC2012
    python -m datasets.doctor my_data --class_names=background,cat,dog    # images/ and masks/ in it
    python -m datasets.doctor --image_folder=images --mask_folder=masks --label_map=0:0,255:1
    python -m datasets.doctor infrared --input_channels=4 --bit_depth=16 --value_range=0,4095
    python -m datasets.doctor records --json=report.json

The path is a tree in the layout of PASCAL VOC, a folder with images/ and masks/, or a folder of
records. Flags about masks and images are those of build_folder_data.py. All findings are in
docs/doctor.md.

The exit code is 0 if nothing was found that is worse than a note, 1 otherwise (see --fail_on), and
2 if the command is wrong.
"""

from dataclasses import replace

from absl import flags

from deeplab_tf.cli import examination, image_flags, mask_flags
from deeplab_tf.data import doctor
from deeplab_tf.data.output import write_file

FLAGS = flags.FLAGS
flags.DEFINE_string("image_folder", None, "Folder of images, instead of a path.")
flags.DEFINE_string("mask_folder", None, "Folder of their masks.")
mask_flags.define_flags()
image_flags.define_flags()
flags.DEFINE_string("train_list", None, "File with one image name a line, for the split train.")
flags.DEFINE_string("val_list", None, "File with one image name a line, for the split val.")
flags.DEFINE_integer(
    "output_stride", 16, "Output stride that the crop size is proposed for.", lower_bound=1
)
flags.DEFINE_integer(
    "num_workers",
    None,
    "Number of processes. Not given: one for each core, or one for less than 2000 images.",
    lower_bound=1,
)
flags.DEFINE_string("json", None, "File to write everything to, for scripts.")
flags.DEFINE_enum(
    "fail_on", "warning", doctor.SEVERITIES, "Least severity that makes the exit code 1."
)


def main(argv: list[str]) -> bool:
    """Examines what the command names; returns whether it passes."""
    if len(argv) > 2:
        raise ValueError(f"expected one path, found {argv[1:]}")
    pair = (FLAGS.image_folder, FLAGS.mask_folder)
    if any(pair) and (not all(pair) or len(argv) > 1):
        raise ValueError("--image_folder and --mask_folder go together, in place of a path")
    lists = {"train": FLAGS.train_list, "val": FLAGS.val_list}
    class_names, read = mask_flags.classes_and_reader()
    source = doctor.open_source(
        argv[1] if len(argv) > 1 else None,
        image_folder=FLAGS.image_folder,
        mask_folder=FLAGS.mask_folder,
        mask_suffix=FLAGS.mask_suffix,
        list_files={split: path for split, path in lists.items() if path},
        class_names=class_names,
        read=replace(read, **image_flags.stored()),
        value_range=image_flags.value_range(),
    )
    report = doctor.examine(source, output_stride=FLAGS.output_stride, workers=FLAGS.num_workers)
    if FLAGS.json:
        write_file(FLAGS.json, report.to_json().encode())
    print(report.text())
    return not report.fails(FLAGS.fail_on)


if __name__ == "__main__":
    examination.run(main)

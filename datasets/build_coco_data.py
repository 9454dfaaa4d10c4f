"""Converts COCO's instance annotations to TFRecords with the 21 classes of PASCAL VOC.

    python datasets/build_coco_data.py \
        --train_image_folder=train2017 --train_annotations=annotations/instances_train2017.json \
        --val_image_folder=val2017 --val_annotations=annotations/instances_val2017.json \
        --output_dir=records

This is what DeepLabv3 and v3+ are trained on before VOC: the images of train with more than 1000
annotated pixels. Objects of COCO's other categories are background, as in VOC; crowds, and pixels
that two classes claim, are void.

Needs pycocotools: pip install -e '.[coco]'.
"""

from absl import flags

from deeplab_tf.cli import conversion
from deeplab_tf.data.coco import CocoReader, CocoSample, coco_samples
from deeplab_tf.data.known_datasets import KNOWN_DATASETS

_VOC = KNOWN_DATASETS["pascal_voc_seg"]

FLAGS = flags.FLAGS
flags.DEFINE_string("train_image_folder", None, "Folder of training images.")
flags.DEFINE_string("train_annotations", None, "Their annotations, instances_*.json.")
flags.DEFINE_string("val_image_folder", None, "Folder of validation images.")
flags.DEFINE_string("val_annotations", None, "Their annotations, instances_*.json.")
conversion.define_flags(output_dir=None, num_shards=10)
flags.DEFINE_integer(
    "min_annotated_pixels",
    1000,
    "Training images need more pixels than this in regions of VOC's classes. 0: all images.",
    lower_bound=0,
)


def find_samples(*, min_annotated_pixels: int) -> dict[str, list[CocoSample]]:
    """Finds the samples of the splits that the flags name.

    Raises:
        OSError: A file is missing.
        ValueError: A flag lacks the other of its split, or annotations are damaged.
    """
    splits = {}
    for split, minimum in (("train", min_annotated_pixels), ("val", 0)):
        image_folder = FLAGS[f"{split}_image_folder"].value
        annotations = FLAGS[f"{split}_annotations"].value
        if bool(image_folder) != bool(annotations):
            raise ValueError(f"--{split}_image_folder and --{split}_annotations go together")
        if image_folder and annotations:
            splits[split] = coco_samples(image_folder, annotations, min_annotated_pixels=minimum)
            condition = f" with more than {minimum} annotated pixels" if minimum else ""
            print(f"{annotations}: {len(splits[split])} images{condition}.")
    if not splits:
        raise ValueError("nothing to convert: give --train_image_folder and --train_annotations")
    return splits


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    conversion.convert(
        find_samples(min_annotated_pixels=FLAGS.min_annotated_pixels),
        name="coco_voc",
        read=CocoReader(),
        class_names=_VOC.class_names,
        palette=_VOC.palette,
        ignore_label=_VOC.ignore_label,
    )


if __name__ == "__main__":
    conversion.run(main)

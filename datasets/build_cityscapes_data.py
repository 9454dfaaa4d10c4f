"""Converts Cityscapes (cityscapes-dataset.com) to TFRecords.

    python datasets/build_cityscapes_data.py --cityscapes_root=cityscapes --output_dir=records

The root holds leftImg8bit/<split>/<city>/ and gtFine/<split>/<city>/, as downloaded. The splits are
called train_fine, val_fine and test_fine; train.py, eval.py and vis.py understand train, val and
test too.

Differs from the reference: where there are no masks of train ids (`*_labelTrainIds.png`), those of
label ids are converted, so createTrainIdLabelImgs.py is needed no more; and test_fine is converted
if its masks (all void: the labels are not public) are there.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from deeplab_tf.cli import conversion
from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS, KNOWN_DATASETS
from deeplab_tf.data.pairing import Sample, raise_problems
from deeplab_tf.data.reading import FileReader, LabelledImage

_CITYSCAPES = KNOWN_DATASETS["cityscapes"]
_FOLDERS = {"train_fine": "train", "val_fine": "val", "test_fine": "test"}

# Label ids go to 33; those of no class are void (cityscapesScripts, labels.py).
_TRAIN_IDS = dict.fromkeys(range(34), _CITYSCAPES.ignore_label) | {
    label_id: train_id for train_id, label_id in enumerate(CITYSCAPES_LABEL_IDS)
}

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "cityscapes_root", "./cityscapes", "Folder that holds leftImg8bit/ and gtFine/."
)
conversion.define_flags(num_shards=10)
flags.DEFINE_enum("image_format", "png", ["jpg", "jpeg", "png"], "Extension of the images.")
flags.DEFINE_enum("label_format", "png", ["png"], "Extension of the masks.")


def find_samples(root: str | os.PathLike[str], *, image_format: str) -> dict[str, list[Sample]]:
    """Finds the images and masks of the splits that are there, cities in alphabetical order.

    Raises:
        FileNotFoundError: The root lacks leftImg8bit/.
        ValueError: There is no image, or an image has no mask.
    """
    image_root = Path(root) / "leftImg8bit"
    if not image_root.is_dir():
        raise FileNotFoundError(
            f"{image_root} not found; --cityscapes_root must be the folder of leftImg8bit/ and "
            "gtFine/, as downloaded"
        )
    suffix = f"_leftImg8bit.{image_format}"
    splits: dict[str, list[Sample]] = {}
    problems: list[str] = []
    for split, folder in _FOLDERS.items():
        samples = []
        unlabelled = []
        for image in sorted((image_root / folder).glob(f"*/*{suffix}")):
            name = image.name.removesuffix(suffix)
            mask_folder = Path(root) / "gtFine" / folder / image.parent.name
            if mask := _find_mask(mask_folder, name):
                samples.append(Sample(name, image, mask))
            else:
                unlabelled.append(f"{image}: no mask {mask_folder}/{name}_gtFine_labelIds.png")
        if unlabelled and split == "test_fine" and not samples:
            print(f"Note: {image_root / folder} has no masks in gtFine/; test_fine is left out.")
            continue
        problems += unlabelled
        if samples:
            splits[split] = samples
    raise_problems(problems, hint="gtFine_trainvaltest.zip holds the masks of all three splits.")
    if not splits:
        raise ValueError(f"{image_root} holds no <split>/<city>/*{suffix}")
    return splits


@dataclass(frozen=True)
class TrainIdReader:
    """Reads masks of train ids, and those of label ids as train ids."""

    def __call__(self, sample: Sample) -> LabelledImage:
        """Reads a sample; raises OSError or ValueError, naming the file."""
        of_label_ids = sample.mask_path.name.endswith("_labelIds.png")
        return FileReader(label_map=_TRAIN_IDS if of_label_ids else None)(sample)


def _find_mask(folder: Path, name: str) -> Path | None:
    """Returns the mask of train ids or, where there is none, that of label ids."""
    masks = [folder / f"{name}_gtFine_{kind}.png" for kind in ("labelTrainIds", "labelIds")]
    return next((mask for mask in masks if mask.is_file()), None)


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    conversion.convert(
        find_samples(FLAGS.cityscapes_root, image_format=FLAGS.image_format),
        name=_CITYSCAPES.name,
        read=TrainIdReader(),
        class_names=_CITYSCAPES.class_names,
        palette=_CITYSCAPES.palette,
        ignore_label=_CITYSCAPES.ignore_label,
    )


if __name__ == "__main__":
    conversion.run(main)

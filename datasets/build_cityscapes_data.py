"""Converts Cityscapes (cityscapes-dataset.com) to TFRecords.

    python datasets/build_cityscapes_data.py --cityscapes_root=cityscapes --output_dir=records

The root holds leftImg8bit/<split>/<city>/ and gtFine/<split>/<city>/, as downloaded, and
gtCoarse/<split>/<city>/ for the coarse splits. The splits are called train_fine, val_fine and
test_fine; train.py, eval.py and vis.py understand train, val and test too. Others only if named:
--splits=train_coarse,trainval_fine,trainval_coarse,val_fine.

Differs from the reference: where there are no masks of train ids (`*_labelTrainIds.png`), those of
label ids or else of colours are converted, so createTrainIdLabelImgs.py is needed no more; it
writes coarse splits, which the reference knows but does not convert; and test_fine is converted if
its masks (all void: the labels are not public) are there.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from deeplab_tf.cli import conversion
from deeplab_tf.data.class_table import ColorTable
from deeplab_tf.data.known_datasets import CITYSCAPES_TRAIN_IDS, KNOWN_DATASETS
from deeplab_tf.data.pairing import Sample, raise_problems
from deeplab_tf.data.reading import FileReader, LabelledImage

_CITYSCAPES = KNOWN_DATASETS["cityscapes"]

# By split, the folder of masks and the download's splits in it.
_SPLITS = {
    "train_fine": ("gtFine", ("train",)),
    "val_fine": ("gtFine", ("val",)),
    "test_fine": ("gtFine", ("test",)),
    "trainval_fine": ("gtFine", ("train", "val")),
    "train_coarse": ("gtCoarse", ("train", "train_extra")),
    "trainval_coarse": ("gtCoarse", ("train", "train_extra", "val")),
}
_DEFAULT_SPLITS = ("train_fine", "val_fine", "test_fine")
_DOWNLOADS = {"gtFine": "gtFine_trainvaltest.zip", "gtCoarse": "gtCoarse.zip"}

# Kinds of masks, the one preferred first: colours do not tell a group of poles from a pole.
_KINDS = ("labelTrainIds", "labelIds", "color")

# Colours of labels that are no class (cityscapesScripts, labels.py): unlabeled and the like,
# dynamic, ground, parking, rail track, guard rail, bridge, tunnel, caravan, trailer.
_VOID_COLORS = (
    *((0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140)),
    *((180, 165, 180), (150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110)),
)
_COLORS = ColorTable(
    _CITYSCAPES.class_names,
    _CITYSCAPES.palette,
    {color: label for label, color in enumerate(_CITYSCAPES.palette)}
    | dict.fromkeys(_VOID_COLORS, _CITYSCAPES.ignore_label),
)

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "cityscapes_root", "./cityscapes", "Folder that holds leftImg8bit/, gtFine/ and gtCoarse/."
)
flags.DEFINE_list(
    "splits",
    None,
    f"Splits to write, of {', '.join(_SPLITS)}. Default: {', '.join(_DEFAULT_SPLITS)}, as far as "
    "they are there.",
)
conversion.define_flags(num_shards=10)
flags.DEFINE_enum("image_format", "png", ["jpg", "jpeg", "png"], "Extension of the images.")
flags.DEFINE_enum("label_format", "png", ["png"], "Extension of the masks.")


def find_samples(
    root: str | os.PathLike[str], *, splits: Sequence[str] | None = None, image_format: str
) -> dict[str, list[Sample]]:
    """Finds the images and masks of splits, cities in alphabetical order.

    Args:
        root: Folder of leftImg8bit/ and of the masks.
        splits: Their names. None: those with fine masks that are there.
        image_format: Extension of the images.

    Raises:
        FileNotFoundError: The root lacks leftImg8bit/.
        ValueError: There is no such split, or an image has no mask.
    """
    image_root = Path(root) / "leftImg8bit"
    if not image_root.is_dir():
        raise FileNotFoundError(
            f"{image_root} not found; --cityscapes_root must be the folder of leftImg8bit/ and "
            "gtFine/, as downloaded"
        )
    if splits is None:
        splits = _complete_splits(Path(root), image_format)
        if not splits:
            raise ValueError(f"{image_root} holds no <split>/<city>/*_leftImg8bit.{image_format}")
    if unknown := sorted(set(splits) - _SPLITS.keys()):
        raise ValueError(f"no split {', '.join(unknown)}; there are {', '.join(_SPLITS)}")
    found: dict[str, list[Sample]] = {}
    problems: list[str] = []
    for split in splits:
        masks, folders = _SPLITS[split]
        parts = [
            _find_pairs(image_root / folder, Path(root) / masks, image_format) for folder in folders
        ]
        found[split] = [sample for samples, _ in parts for sample in samples]
        problems += [problem for _, missing in parts for problem in missing]
    downloads = " and ".join(sorted({_DOWNLOADS[_SPLITS[split][0]] for split in splits}))
    raise_problems(problems, hint=f"The masks are in {downloads}.")
    return found


def _complete_splits(root: Path, image_format: str) -> list[str]:
    """The splits with fine masks that there are images of; test only if it has masks, too."""
    splits = [
        split
        for split in _DEFAULT_SPLITS
        if any((root / "leftImg8bit" / _SPLITS[split][1][0]).glob(f"*/*.{image_format}"))
    ]
    if "test_fine" in splits and not any((root / "gtFine/test").glob("*/*.png")):
        print(f"Note: {root / 'leftImg8bit/test'} has no masks in gtFine/; test_fine is left out.")
        splits.remove("test_fine")
    return splits


def _find_pairs(
    image_folder: Path, mask_root: Path, image_format: str
) -> tuple[list[Sample], list[str]]:
    """Returns the samples of one split of the download, and what is missing."""
    suffix = f"_leftImg8bit.{image_format}"
    images = sorted(image_folder.glob(f"*/*{suffix}"))
    samples = []
    missing = [] if images else [f"no image {image_folder}/<city>/*{suffix}"]
    for image in images:
        name = image.name.removesuffix(suffix)
        folder = mask_root / image_folder.name / image.parent.name
        masks = [folder / f"{name}_{mask_root.name}_{kind}.png" for kind in _KINDS]
        if mask := next(filter(Path.is_file, masks), None):
            samples.append(Sample(name, image, mask))
        else:
            missing.append(f"{image}: no mask {folder}/{name}_{mask_root.name}_labelIds.png")
    return samples, missing


@dataclass(frozen=True)
class TrainIdReader:
    """Reads masks of train ids, and those of label ids and colours as train ids."""

    def __call__(self, sample: Sample) -> LabelledImage:
        """Reads a sample; raises OSError or ValueError, naming the file."""
        kind = sample.mask_path.stem.rpartition("_")[2]
        return FileReader(
            label_map=CITYSCAPES_TRAIN_IDS if kind == "labelIds" else None,
            color_table=_COLORS if kind == "color" else None,
        )(sample)


def main(_: list[str]) -> None:
    """Converts what the flags name and prints a summary."""
    conversion.convert(
        find_samples(FLAGS.cityscapes_root, splits=FLAGS.splits, image_format=FLAGS.image_format),
        name=_CITYSCAPES.name,
        read=TrainIdReader(),
        class_names=_CITYSCAPES.class_names,
        palette=_CITYSCAPES.palette,
        ignore_label=_CITYSCAPES.ignore_label,
    )


if __name__ == "__main__":
    conversion.run(main)

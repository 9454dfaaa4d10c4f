"""The data sets that the reference knows by name; the models of its zoo speak of their classes."""

import dataclasses
import os
from importlib import resources
from pathlib import Path

from deeplab_tf.colormap import cityscapes_colormap, voc_colormap
from deeplab_tf.data.dataset_info import FILENAME, DatasetInfo
from deeplab_tf.data.records import splits_in

_VOC_CLASSES = (
    "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, "
    "dog, horse, motorbike, person, pottedplant, sheep, sofa, train, tvmonitor"
)
_CITYSCAPES_CLASSES = (
    "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, "
    "terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle"
)

# By train id, what Cityscapes' test server expects in its place.
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

# The way back. Label ids go to 33; those of no class are void (cityscapesScripts, labels.py).
CITYSCAPES_TRAIN_IDS = dict.fromkeys(range(34), 255) | {
    label_id: train_id for train_id, label_id in enumerate(CITYSCAPES_LABEL_IDS)
}


def _pascal_voc_seg() -> DatasetInfo:
    class_names = tuple(_VOC_CLASSES.split(", "))
    return DatasetInfo(
        name="pascal_voc_seg",
        class_names=class_names,
        palette=tuple((r, g, b) for r, g, b in voc_colormap(len(class_names)).tolist()),
        ignore_label=255,
        splits={"train": 1464, "train_aug": 10582, "trainval": 2913, "val": 1449},
    )


def _cityscapes() -> DatasetInfo:
    return DatasetInfo(
        name="cityscapes",
        class_names=tuple(_CITYSCAPES_CLASSES.split(", ")),
        palette=tuple((r, g, b) for r, g, b in cityscapes_colormap().tolist()),
        ignore_label=255,
        splits={
            "train_fine": 2975,
            "train_coarse": 22973,
            "trainval_fine": 3475,
            "trainval_coarse": 23473,
            "val_fine": 500,
            "test_fine": 1525,
        },
    )


def _ade20k() -> DatasetInfo:
    # Lines "r g b name". Objects of the scene parsing benchmark have synonyms; these are the first.
    text = resources.files("deeplab_tf.data").joinpath("ade20k.txt").read_text(encoding="utf-8")
    rows = [line.split(maxsplit=3) for line in text.splitlines()]
    return DatasetInfo(
        name="ade20k",
        class_names=tuple(name for *_, name in rows),
        palette=tuple((int(r), int(g), int(b)) for r, g, b, _ in rows),
        ignore_label=0,
        splits={"train": 20210, "val": 2000},
    )


KNOWN_DATASETS = {info.name: info for info in (_pascal_voc_seg(), _cityscapes(), _ade20k())}


def describe_records(dataset_dir: str | os.PathLike[str], name: str) -> DatasetInfo:
    """The description in a folder of records, or, without one, that of the data set `name`.

    The reference's records have none; the splits are those there are files of.

    Args:
        dataset_dir: Folder of records.
        name: A key of `KNOWN_DATASETS`.

    Raises:
        FileNotFoundError: There is no description and no records, or `name` is unknown.
        ValueError: The description is damaged.
    """
    splits = {} if (Path(dataset_dir) / FILENAME).is_file() else splits_in(dataset_dir)
    if not splits or name not in KNOWN_DATASETS:
        return DatasetInfo.load(dataset_dir)
    info = KNOWN_DATASETS[name]
    print(
        f"There is no {FILENAME} in {dataset_dir}: taking its records for those of {name} "
        f"({info.num_classes} classes, ignored label {info.ignore_label}). If they are not, give "
        f"--dataset, or write {FILENAME}."
    )
    return dataclasses.replace(info, splits=splits)

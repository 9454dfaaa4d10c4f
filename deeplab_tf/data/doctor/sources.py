"""What a path holds: a tree in VOC's layout, a folder of images and one of masks, or records."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deeplab_tf.data import dataset_info
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.classes import Classes, belong_apart
from deeplab_tf.data.doctor.file_looks import FilePair
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.kinds import Finding
from deeplab_tf.data.doctor.looks import Look, below
from deeplab_tf.data.doctor.record_folder import open_records
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.data.pairing import Pairing, Sample, pair_folders, pair_voc
from deeplab_tf.data.reading import FileReader

_VOC = KNOWN_DATASETS["pascal_voc_seg"]
_LISTS = "ImageSets/Segmentation"


class Item(Protocol):
    """An image and its label; it travels to a worker process to be looked at."""

    def look(self) -> Look:
        """Decodes both."""


class Source(Protocol):
    """Where images and labels come from.

    Attributes:
        root: The folder that is examined.
        classes: What its labels mean.
        images: What its images are to be.
        description: What the path was taken for.
        splits: The names of the splits.
        findings: What is wrong with files and names; complete when `items` has run.
        count: About how many images there are.
    """

    root: Path
    classes: Classes
    images: ImageSpec
    description: str
    splits: tuple[str, ...]
    findings: list[Finding]
    count: int

    def items(self) -> Iterator[Item]:
        """Yields every image once, whatever the number of splits it is in."""


@dataclass
class FileTree:
    """Image files and mask files, paired."""

    root: Path
    classes: Classes
    images: ImageSpec
    description: str
    read: FileReader
    samples: dict[Sample, tuple[str, ...]]
    splits: tuple[str, ...]
    findings: list[Finding]
    count: int

    def items(self) -> Iterator[FilePair]:
        """Yields every pair of files once."""
        for sample, splits in self.samples.items():
            yield FilePair(sample, splits, self.read, self.images, self.root)


def open_source(
    path: str | os.PathLike[str] | None,
    *,
    image_folder: str | None = None,
    mask_folder: str | None = None,
    mask_suffix: str = "",
    list_files: Mapping[str, str] | None = None,
    class_names: Sequence[str] | None = None,
    read: FileReader,
    value_range: tuple[float, float] | None = None,
) -> Source:
    """Finds out what there is to examine.

    Args:
        path: A tree in VOC's layout, a folder with images/ and masks/, or a folder of records.
        image_folder: Folder of images, instead of `path`.
        mask_folder: Folder of their masks.
        mask_suffix: As for `pairing.folder_splits`.
        list_files: As for `pairing.folder_splits`; without them all images are one split.
        class_names: One name per class. None: dataset.json says them; VOC's 21 for a tree in VOC's
            layout, as its converter takes them; else the labels that occur are the classes.
        read: How masks are read, and what images are to be; of records dataset.json says it.
        value_range: Values of the images that are 0 and 255 to the network; None for all that they
            may have.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is none of these, or it is empty.
    """
    names = tuple(class_names) if class_names else None
    palette = read.color_table.palette if read.color_table else None
    classes = Classes(names, palette, read.ignore_label, "as given")
    spec = ImageSpec(read.input_channels, read.bit_depth, value_range or (0, 2**read.bit_depth - 1))
    if image_folder and mask_folder:
        root = Path(
            os.path.commonpath([os.path.abspath(image_folder), os.path.abspath(mask_folder)])
        )
        images, masks = Path(os.path.abspath(image_folder)), Path(os.path.abspath(mask_folder))
    elif path is None:
        raise ValueError("give a folder, or --image_folder and --mask_folder")
    else:
        root = Path(path)
        images, masks = root / "images", root / "masks"
        if not root.is_dir():
            raise FileNotFoundError(f"folder {root} not found")
        if (root / "JPEGImages").is_dir():
            return _voc_tree(root, classes, spec, read)
        if (root / dataset_info.FILENAME).is_file() or any(root.glob("*.tfrecord")):
            return open_records(root, classes=classes, images=spec)
        if not (images.is_dir() and masks.is_dir()):
            raise ValueError(
                f"{root} is nothing known here: expected a tree in VOC's layout (JPEGImages, "
                f"SegmentationClass, {_LISTS}), a folder with images/ and masks/, or a folder of "
                "records. Of other folders give --image_folder and --mask_folder; of Cityscapes "
                "and the like convert first, and examine the records"
            )
    pairing = pair_folders(
        image_dir=images,
        mask_dir=masks,
        image_extensions=spec.extensions(),
        mask_suffix=mask_suffix,
        list_files=list_files,
    )
    description = f"images in {below(images, root)}, masks in {below(masks, root)}"
    return _file_tree(pairing, root, classes, spec, description, read)


def _voc_tree(root: Path, classes: Classes, spec: ImageSpec, read: FileReader) -> FileTree:
    if classes.names is None:
        classes = Classes(
            _VOC.class_names,
            _VOC.palette,
            classes.ignore_label,
            "those of PASCAL VOC; --class_names_file names others",
        )
    masks = root / "SegmentationClass"
    if not masks.is_dir() and (root / "SegmentationClassRaw").is_dir():
        masks = root / "SegmentationClassRaw"
    pairing = pair_voc(
        image_dir=root / "JPEGImages",
        mask_dir=masks,
        list_dir=root / _LISTS,
        image_extensions=spec.extensions(),
    )
    description = f"a tree in VOC's layout (JPEGImages, {masks.name}, {_LISTS})"
    return _file_tree(pairing, root, classes, spec, description, read)


def _file_tree(
    pairing: Pairing,
    root: Path,
    classes: Classes,
    spec: ImageSpec,
    description: str,
    read: FileReader,
) -> FileTree:
    findings = []
    for problem in pairing.problems:
        file = below(problem.path, root)
        found = problem.message.replace(f"{root}{os.sep}", "").removeprefix(f"{file}: ")
        findings.append(Finding(kinds.kind_named(problem.fault), (file,), found))
    samples: dict[Sample, tuple[str, ...]] = {}
    for split, members in pairing.splits.items():
        for sample in members:
            samples[sample] = (*samples.get(sample, ()), split)
    for sample, splits in samples.items():
        pairs = itertools.combinations(splits, 2)
        if apart := [pair for pair in pairs if belong_apart(pair[:1], pair[1:])]:
            found = f"in {' and '.join(apart[0])}"
            image = below(sample.image_path, root)
            findings.append(Finding(kinds.NAME_IN_TWO_SPLITS, (image,), found))
    return FileTree(
        root=root,
        classes=classes,
        images=spec,
        description=description,
        read=read,
        samples=samples,
        splits=tuple(pairing.splits),
        findings=findings,
        count=len(samples),
    )

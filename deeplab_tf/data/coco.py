"""COCO's instance annotations -> masks of VOC's classes."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from deeplab_tf.data.images import encode_image
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.data.masks import encode_mask
from deeplab_tf.data.pairing import raise_problems
from deeplab_tf.data.reading import LabelledImage

_VOC = KNOWN_DATASETS["pascal_voc_seg"]

# COCO's names of VOC's classes, where they differ.
_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
_LABELS = {_COCO_NAMES.get(name, name): i for i, name in enumerate(_VOC.class_names) if i > 0}


@dataclass(frozen=True)
class CocoSample:
    """An image with its own part of the annotations: run lengths, a few hundred bytes a region.

    Attributes:
        name: The image's file name without its extension.
        image_path: The image.
        annotations_path: Where the regions are from.
        size: (height, width) in pixels, as the annotations say.
        regions: Label and run lengths (pycocotools' `counts`) of each of VOC's classes that occur.
        crowds: Run lengths of all crowds of those classes together; None if there are none.
    """

    name: str
    image_path: Path
    annotations_path: Path
    size: tuple[int, int]
    regions: tuple[tuple[int, bytes], ...]
    crowds: bytes | None


def coco_samples(
    image_dir: str | os.PathLike[str],
    annotations_path: str | os.PathLike[str],
    *,
    min_annotated_pixels: int = 0,
) -> list[CocoSample]:
    """Finds the images that a file of COCO's instance annotations (instances_*.json) names.

    Args:
        image_dir: Folder of its images.
        annotations_path: The file.
        min_annotated_pixels: Only images are returned that have more pixels in regions of VOC's
            classes, crowds apart (DeepLabv3, "Pretrained on COCO": 1000). 0 returns all images.

    Raises:
        FileNotFoundError: The file is missing.
        ImportError: pycocotools is not installed.
        ValueError: The file is no such file, lacks a class, a region is damaged, or an image is
            missing.
    """
    _mask_api()
    path, folder = Path(annotations_path), Path(image_dir)
    images, regions, labels = _read_annotations(path)
    problems, samples = [], []
    # disable=None: no bar where there is no terminal.
    for image in tqdm(images, desc=path.name, unit="image", disable=None):
        try:
            sample = _sample(image, regions[image["id"]], labels, folder=folder, path=path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if min_annotated_pixels and annotated_pixels(sample) <= min_annotated_pixels:
            continue
        if not sample.image_path.is_file():
            problems.append(f"{path}: no image {sample.image_path}")
        samples.append(sample)
    raise_problems(problems)
    if not samples:
        raise ValueError(f"{path}: no image has more than {min_annotated_pixels} annotated pixels")
    return samples


def annotated_pixels(sample: CocoSample) -> int:
    """Number of pixels in any region that is no crowd."""
    height, width = sample.size
    masks = [{"size": [height, width], "counts": counts} for _, counts in sample.regions]
    return int(_mask_api().area(_mask_api().merge(masks))) if masks else 0


@dataclass(frozen=True)
class CocoReader:
    """Reads samples as masks of VOC's labels.

    The annotations do not say which of two overlapping objects is in front, so pixels in regions of
    two classes are void (as in torchvision's reference training, which makes overlaps of one class
    void as well). A crowd's region holds what is between its members, too; its pixels are void
    unless another region has them. COCO's other 60 categories are background, as in VOC.
    """

    def __call__(self, sample: CocoSample) -> LabelledImage:
        """Reads a sample; raises OSError or ValueError, naming the file."""
        decode = _mask_api().decode
        height, width = sample.size
        labels = np.zeros(sample.size, np.uint8)
        claims = np.zeros(sample.size, np.uint8)
        for label, counts in sample.regions:
            region = decode({"size": [height, width], "counts": counts})
            labels[region == 1] = label
            claims += region
        labels[claims > 1] = _VOC.ignore_label
        if sample.crowds is not None:
            crowds = decode({"size": [height, width], "counts": sample.crowds})
            labels[(crowds == 1) & (claims == 0)] = _VOC.ignore_label
        image = encode_image(sample.image_path, mask_size=sample.size)
        source = f"{sample.annotations_path} ({sample.name})"
        return LabelledImage(image, encode_mask(labels), mask_source=source)


_Regions = Mapping[int, list[dict[str, Any]]]


def _read_annotations(path: Path) -> tuple[list[dict[str, Any]], _Regions, dict[int, int]]:
    """Images, regions of VOC's classes by image id, and VOC's label by category id."""
    if not path.is_file():
        raise FileNotFoundError(f"annotations {path} not found")
    regions = defaultdict(list)
    try:
        content = json.loads(path.read_bytes())
        by_name = {category["name"]: category["id"] for category in content["categories"]}
        labels = {by_name[name]: label for name, label in _LABELS.items() if name in by_name}
        for region in content["annotations"]:
            if region["category_id"] in labels:
                regions[region["image_id"]].append(region)
        images = sorted(content["images"], key=lambda image: image["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no file of COCO's instance annotations, such as instances_train2017.json "
            f"({type(error).__name__}: {error})"
        ) from error
    if missing := sorted(_LABELS.keys() - by_name.keys()):
        raise ValueError(
            f"{path}: no category {', '.join(missing)}; expected COCO's, whose names stand for "
            "VOC's classes"
        )
    return images, regions, labels


def _sample(
    image: Mapping[str, Any],
    regions: Iterable[Mapping[str, Any]],
    labels: Mapping[int, int],
    *,
    folder: Path,
    path: Path,
) -> CocoSample:
    size = (int(image["height"]), int(image["width"]))
    crowds: list[dict[str, Any]] = []
    by_label: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for region in regions:
        try:
            run_lengths = _run_lengths(region["segmentation"], size)
        except Exception as error:  # pycocotools raises bare ones.
            raise ValueError(f"{path}, annotation {region['id']}: {error}") from error
        members = crowds if region.get("iscrowd") else by_label[labels[region["category_id"]]]
        members.append(run_lengths)
    merge = _mask_api().merge
    file_name = Path(image["file_name"])
    return CocoSample(
        name=file_name.stem,
        image_path=folder / file_name,
        annotations_path=path,
        size=size,
        regions=tuple((label, merge(by_label[label])["counts"]) for label in sorted(by_label)),
        crowds=merge(crowds)["counts"] if crowds else None,
    )


def _run_lengths(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A region as pycocotools' compressed run lengths, whichever of COCO's three forms it has.

    pycocotools itself believes everything: it takes four numbers for a box, reads beyond the end of
    run lengths that are too short, and never returns from merging them.
    """
    api = _mask_api()
    if isinstance(segmentation, list):
        if not segmentation or min(map(len, segmentation)) < 6:
            raise ValueError("expected polygons of at least three points each")
        coordinates = np.concatenate(segmentation)
        if not (np.abs(coordinates) <= 2 * max(size)).all():  # NaN is neither
            raise ValueError(f"a polygon is far outside the image of {list(size)} (height, width)")
        return api.merge(api.frPyObjects(segmentation, *size))
    counts = segmentation["counts"]
    if not isinstance(counts, list):
        counts = parse_run_lengths(counts)
    if tuple(segmentation["size"]) != size or sum(counts) != math.prod(size) or min(counts) < 0:
        raise ValueError(
            f"run lengths of {sum(counts)} pixels for the size {segmentation['size']} "
            f"(height, width), in an image of {list(size)}"
        )
    return api.frPyObjects({"size": list(size), "counts": counts}, *size)


def parse_run_lengths(text: str) -> list[int]:
    """Run lengths of pycocotools' compressed form (`rleFrString` of maskApi.c).

    Characters hold five bits each, the lowest first, and whether more follow; from the fourth
    number on, they are differences from the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            negative = (1 << shift) if bits & 16 else 0
            counts.append(value - negative + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def _mask_api() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError(
            "COCO's annotations need pycocotools: pip install 'deeplab-tf[coco]', or "
            "pip install -e '.[coco]' in a checkout"
        ) from error
    return mask

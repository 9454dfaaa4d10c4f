"""The cheap part of the examination: some records of the splits that a training run reads."""

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeplab_tf.data import dataset_info, records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.classes import Classes
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.kinds import Finding
from deeplab_tf.data.doctor.labels import examine_labels
from deeplab_tf.data.doctor.record_looks import StoredRecord
from deeplab_tf.data.doctor.survey import Survey
from deeplab_tf.data.record_files import Damage, count_records, scan_records

_RECORDS_PER_SPLIT = 32
_FILES_PER_SPLIT = 8  # opening one takes as long as looking at some records
# Counting reads some bytes of each record, and a slow disk takes its time for each of them.
_COUNTED_RECORDS = 20_000

# Of these a sample can say nothing, or they are no news before every run.
_LEFT_OUT = (
    kinds.CLASS_NEVER_OCCURS,
    kinds.CLASS_NOT_IN_SPLIT,
    kinds.MASK_HAS_ONE_CLASS,
)


def examine_sample(
    dataset_dir: str | os.PathLike[str],
    *,
    info: DatasetInfo,
    splits: Sequence[str],
    crop_size: tuple[int, int],
    max_scale_factor: float,
) -> list[Finding]:
    """Looks at the first records of up to 8 files of each split, up to 32 records in all.

    Labels are decoded; of images only the headers are read.

    Args:
        dataset_dir: Folder of records.
        info: Its description.
        splits: The splits to look at.
        crop_size: Height and width of the training crops.
        max_scale_factor: Factor by which images are enlarged at most before they are cropped.
    """
    classes = Classes(info.class_names, info.palette, info.ignore_label, dataset_info.FILENAME)
    survey = Survey(tuple(splits), classes, ImageSpec.of(info))
    findings: list[Finding] = []
    for split in splits:
        try:
            paths = records.split_files(dataset_dir, split)
        except (FileNotFoundError, ValueError) as error:
            findings.append(Finding(kinds.SHARDS_INCOMPLETE, (f"{split}-*",), str(error)))
            continue
        findings += _check_count(split, paths, info.splits[split])
        for record in _first_records(split, paths, info, findings):
            survey.add(record.look(pixels=False))
    looked_at = sum(split.images for split in survey.splits.values())
    whole = looked_at == sum(info.splits[split] for split in splits)
    findings += survey.findings
    for finding in examine_labels(survey, classes):
        if whole or finding.kind is not kinds.ONE_CLASS_IN_ALL:
            findings.append(finding)
    findings += _unseen(survey, classes, looked_at)
    findings += _check_crop(survey.largest, crop_size, max_scale_factor)
    return [finding for finding in findings if finding.kind not in _LEFT_OUT]


def _first_records(
    split: str, paths: Sequence[str], info: DatasetInfo, findings: list[Finding]
) -> Iterator[StoredRecord]:
    filled = [path for path in paths if os.path.getsize(path)]
    chosen = filled[:: math.ceil(len(filled) / _FILES_PER_SPLIT) or 1]
    for path in chosen:
        name = Path(path).name
        first = itertools.islice(scan_records(path), _RECORDS_PER_SPLIT // len(chosen))
        for count, found in enumerate(first):
            if isinstance(found, Damage):
                place = f"{name}, record {count}"
                findings.append(Finding(kinds.RECORD_IS_DAMAGED, (place,), found.reason))
            else:
                yield StoredRecord(split, name, count, found, info.ignore_label, ImageSpec.of(info))


def _check_count(split: str, paths: Sequence[str], expected: int) -> list[Finding]:
    if expected > _COUNTED_RECORDS:
        return []
    count = sum(map(count_records, paths))
    if count == expected:
        return []
    files = tuple(Path(path).name for path in paths)
    found = f"{count} records of {split}; dataset.json says {expected}"
    return [Finding(kinds.COUNT_DIFFERS, files, found)]


def _unseen(survey: Survey, classes: Classes, looked_at: int) -> list[Finding]:
    seen = {*survey.labels(), classes.ignore_label}
    unseen = [name for label, name in enumerate(classes.names or ()) if label not in seen]
    # Without any label the reason is another one.
    if not unseen or not survey.labels():
        return []
    shown = ", ".join(unseen[:3]) + (", ..." if len(unseen) > 3 else "")
    found = f"{len(unseen)} of {len(classes.names or ())}, {shown}, in {looked_at} examples"
    return [Finding(kinds.CLASS_NOT_IN_SAMPLE, (), found)]


def _check_crop(
    largest: tuple[int, int], crop_size: tuple[int, int], max_scale_factor: float
) -> list[Finding]:
    height, width = (side * max_scale_factor for side in largest)
    if not any(largest) or (height >= crop_size[0] / 2 or width >= crop_size[1] / 2):
        return []
    found = (
        f"the largest image is {largest[1]}x{largest[0]} (width x height), enlarged at most "
        f"{max_scale_factor:g} times; crops are {crop_size[1]}x{crop_size[0]}"
    )
    return [Finding(kinds.CROP_IS_PADDING, (), found)]

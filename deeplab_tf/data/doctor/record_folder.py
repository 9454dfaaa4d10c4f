"""A folder of finished records: its files against dataset.json, and its records one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deeplab_tf.data import dataset_info, records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.classes import Classes
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.kinds import Finding
from deeplab_tf.data.doctor.record_looks import StoredRecord
from deeplab_tf.data.record_files import Damage, scan_records


@dataclass
class RecordFolder:
    """A folder of records.

    Attributes:
        root: The folder.
        classes: Its classes.
        images: What its images are to be.
        info: Its description, if it has a sound one.
        files: The files of each split.
        findings: What is wrong with the files; damage and wrong counts come while `items` runs.
        splits: The names of the splits.
        count: About how many records there are.
        description: What the folder was taken for.
    """

    root: Path
    classes: Classes
    images: ImageSpec
    info: DatasetInfo | None
    files: dict[str, list[Path]]
    findings: list[Finding]
    splits: tuple[str, ...]
    count: int
    description: str = "a folder of records"

    def items(self) -> Iterator[StoredRecord]:
        """Reads every file once, and yields the records that are not damaged."""
        for split, paths in self.files.items():
            counts = []
            for path in paths:
                count = 0
                for found in scan_records(path):
                    if isinstance(found, Damage):
                        place = f"{path.name}, record {found.record}"
                        self._add(kinds.RECORD_IS_DAMAGED, place, found.reason)
                    else:
                        yield StoredRecord(
                            split, path.name, count, found, self.classes.ignore_label, self.images
                        )
                    count += 1
                counts.append(count)
            self._check_counts(split, paths, counts)

    def _check_counts(self, split: str, paths: list[Path], counts: list[int]) -> None:
        for index, path in enumerate(paths):
            # Of a small split the last files are empty, if there are more files than images.
            if not counts[index] and any(counts[index:]):
                self._add(
                    kinds.SHARD_IS_EMPTY, path.name, "no record, but there are some behind it"
                )
        if self.info is not None and paths and sum(counts) != self.info.splits[split]:
            found = f"{sum(counts)} records of {split}; dataset.json says {self.info.splits[split]}"
            self.findings.append(
                Finding(kinds.COUNT_DIFFERS, tuple(path.name for path in paths), found)
            )

    def _add(self, kind: kinds.Kind, file: str, found: str) -> None:
        self.findings.append(Finding(kind, (file,), found))


def open_records(root: Path, *, classes: Classes, images: ImageSpec) -> RecordFolder:
    """Lists the files of a folder of records, whatever is wrong with them.

    Args:
        root: The folder.
        classes: What its labels mean, if there is no dataset.json to say it.
        images: What its images are to be, likewise.
    """
    findings: list[Finding] = []
    info = None
    try:
        info = DatasetInfo.load(root)
    except FileNotFoundError:
        findings.append(Finding(kinds.DESCRIPTION_MISSING, (dataset_info.FILENAME,), "not there"))
    except ValueError as error:
        found = str(error).removeprefix(f"{root / dataset_info.FILENAME}: ")
        findings.append(Finding(kinds.DESCRIPTION_DAMAGED, (dataset_info.FILENAME,), found))
    there = records.splits_in(root)
    if info is not None:
        images = ImageSpec.of(info)
        classes = Classes(info.class_names, info.palette, info.ignore_label, dataset_info.FILENAME)
        for split in there.keys() - info.splits.keys():
            shards = tuple(path.name for path in _shards(root, split))
            found = f"{len(shards)} files of {split}, {there[split]} records"
            findings.append(Finding(kinds.SPLIT_NOT_DESCRIBED, shards, found))
    files: dict[str, list[Path]] = {}
    for split in info.splits if info is not None else there:
        try:
            files[split] = [Path(path) for path in records.split_files(root, split)]
        except (FileNotFoundError, ValueError) as error:
            files[split] = _shards(root, split)
            named = tuple(path.name for path in files[split]) or (f"{split}-*",)
            findings.append(Finding(kinds.SHARDS_INCOMPLETE, named, str(error)))
    count = sum(there.get(split, 0) for split in files)
    return RecordFolder(root, classes, images, info, files, findings, tuple(files), count)


def _shards(root: Path, split: str) -> list[Path]:
    return sorted(path for path in root.iterdir() if records.is_shard(path.name, split))

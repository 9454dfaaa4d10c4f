"""The unit of work of a conversion: a few samples, written to a file of their own.

TFRecord files joined end to end are a TFRecord file. So parts of shards can be written by any
worker, in any order, on any machine, and the records are the same. A part is there completely or
not at all, and knows what it was made of, so that a conversion that was killed goes on with the
parts that are missing.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf.data.masks import describe_values
from deeplab_tf.data.output import write_file
from deeplab_tf.data.reading import LabelledImage, Reader
from deeplab_tf.data.records import make_example, shard_name

# A part takes seconds to write: that much is lost when a conversion is killed.
_SAMPLES_PER_PART = 32

# Parts of an older layout are written again.
_VERSION = 1

_COPIED_BYTES = 2**22


@dataclass(frozen=True)
class Part:
    """Some samples that follow each other in a shard; `name` tells it from all other parts."""

    name: str
    split: str
    samples: tuple[Any, ...]


@dataclass(frozen=True)
class Shard:
    """A file of records: its name, and those of its parts in order."""

    name: str
    parts: tuple[str, ...]


@dataclass
class Survey:
    """What masks and images turn out to hold.

    Attributes:
        pixels: Number of pixels by label that occurs.
        palettes: By palette, 768 bytes, the labels that masks with it show and their number.
        turned_images: Number of images turned by their EXIF orientation.
        extremes: Lowest and highest value of the images, where they were looked at.
    """

    pixels: dict[int, int] = dataclasses.field(default_factory=dict)
    palettes: dict[bytes, tuple[set[int], int]] = dataclasses.field(default_factory=dict)
    turned_images: int = 0
    extremes: tuple[int, int] | None = None

    def add(self, pair: LabelledImage) -> None:
        """Counts an image and its mask."""
        counts = np.bincount(pair.mask.labels.ravel(), minlength=256)
        found = set(np.flatnonzero(counts).tolist())
        for label in found:
            self.pixels[label] = self.pixels.get(label, 0) + int(counts[label])
        if pair.mask.palette is not None:
            colors = pair.mask.palette.tobytes()
            labels, number = self.palettes.get(colors, (set(), 0))
            self.palettes[colors] = labels | found, number + 1
        self.turned_images += pair.image.turned
        if pair.image.extremes is not None:
            both = (*(self.extremes or ()), *pair.image.extremes)
            self.extremes = min(both), max(both)

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes."""
        palettes = {
            colors.hex(): [sorted(labels), number]
            for colors, (labels, number) in self.palettes.items()
        }
        return {
            "pixels": self.pixels,
            "palettes": palettes,
            "turned_images": self.turned_images,
            "extremes": self.extremes,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Survey":
        """Returns the survey that `to_json` described."""
        pixels = {int(label): count for label, count in fields["pixels"].items()}
        palettes = {
            bytes.fromhex(colors): (set(labels), number)
            for colors, (labels, number) in fields["palettes"].items()
        }
        extremes = fields["extremes"]
        return cls(
            pixels,
            palettes,
            fields["turned_images"],
            None if extremes is None else (extremes[0], extremes[1]),
        )


@dataclass(frozen=True)
class Note:
    """What lies beside a part that is there whole.

    Attributes:
        fingerprint: What it was made of.
        size: Number of its bytes.
        problems: What is wrong with the samples that are not in it.
        survey: What it holds.
    """

    fingerprint: str
    size: int
    problems: tuple[str, ...]
    survey: Survey

    @classmethod
    def read(cls, folder: Path, part: str) -> "Note | None":
        """The note of a part; None if there is none, or a damaged one."""
        try:
            fields = json.loads(_note_path(folder, part).read_bytes())
            survey = Survey.from_json(fields["survey"])
            return cls(fields["fingerprint"], fields["size"], tuple(fields["problems"]), survey)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, folder: Path, part: str) -> None:
        """Writes it, at once."""
        fields = dataclasses.asdict(self) | {"survey": self.survey.to_json()}
        write_file(_note_path(folder, part), json.dumps(fields).encode())


@dataclass(frozen=True)
class Written:
    """A part that was written.

    Attributes:
        images: Number of its samples.
        problems: Number of those that could not be used.
        kept: Whether an earlier conversion wrote it.
    """

    images: int
    problems: int = 0
    kept: bool = False


def plan_shards(num_samples: int, split: str, num_shards: int) -> list[Shard]:
    """The shards of a split: ceil(samples / num_shards) in each but the last ones."""
    per_shard = math.ceil(num_samples / num_shards)
    shards = []
    for index in range(num_shards):
        count = max(0, min(per_shard, num_samples - index * per_shard))
        name = shard_name(split, index, num_shards)
        parts = range(math.ceil(count / _SAMPLES_PER_PART))
        shards.append(Shard(name, tuple(f"{name}.part-{part:06d}" for part in parts)))
    return shards


def plan_parts(samples: Sequence[Any], split: str, num_shards: int) -> Iterator[Part]:
    """The parts of all shards of a split, in order."""
    per_shard = math.ceil(len(samples) / num_shards)
    for index, shard in enumerate(plan_shards(len(samples), split, num_shards)):
        end = min((index + 1) * per_shard, len(samples))
        for number, name in enumerate(shard.parts):
            start = index * per_shard + number * _SAMPLES_PER_PART
            members = samples[start : min(start + _SAMPLES_PER_PART, end)]
            yield Part(name, split, tuple(members))


def write_part(
    part: Part,
    *,
    folder: Path,
    read: Reader,
    allowed_labels: Collection[int],
    stored_as: tuple[int, int],
) -> Written:
    """Writes the records of a part, and beside them a note of what they are.

    Samples that cannot be used are left out and named. A part without such is kept if it is there
    already, made of the same files by the same reader.

    Args:
        part: What to write.
        folder: Where; all workers see it.
        read: Reads a sample.
        allowed_labels: Classes and the ignore label.
        stored_as: Channels and bits of each that images are to have.
    """
    settings = (_VERSION, read, sorted(allowed_labels), stored_as)
    fingerprint = _fingerprint(part.samples, settings=settings)
    path = folder / part.name
    if _is_kept(path, Note.read(folder, part.name), fingerprint):
        return Written(len(part.samples), kept=True)
    # The note goes first: without it, what is there counts for nothing.
    _note_path(folder, part.name).unlink(missing_ok=True)
    survey, problems = Survey(), []
    temporary = folder / f"{part.name}.{os.getpid()}.tmp"
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        for sample in part.samples:
            try:
                pair = read(sample)
                # Counted even if they are not allowed: all labels together tell the cause.
                survey.add(pair)
                _check_labels(pair, allowed_labels)
                writer.write(_example(sample.name, pair, stored_as=stored_as))
            except (OSError, ValueError) as error:
                problems.append(str(error))
    size = temporary.stat().st_size
    temporary.replace(path)
    Note(fingerprint, size, tuple(problems), survey).write(folder, part.name)
    return Written(len(part.samples), len(problems))


def _is_kept(path: Path, note: Note | None, fingerprint: str) -> bool:
    """Whether a part is there whole, without problems, and made of the same."""
    if note is None or note.problems or note.fingerprint != fingerprint:
        return False
    return path.is_file() and path.stat().st_size == note.size


def join_parts(shard: Shard, *, folder: Path, output: Path) -> None:
    """Makes a shard of its parts; their notes stay."""
    temporary = output / f"{shard.name}.tmp"
    with temporary.open("wb") as joined:
        for name in shard.parts:
            with (folder / name).open("rb") as part:
                shutil.copyfileobj(part, joined, _COPIED_BYTES)
    temporary.replace(output / shard.name)
    for name in shard.parts:
        (folder / name).unlink()


def split_shard(shard: Shard, *, folder: Path, output: Path) -> None:
    """Undoes `join_parts`, as far as it was done: a killed conversion goes on from parts."""
    joined = output / shard.name
    if not joined.is_file():
        return
    notes = [Note.read(folder, name) for name in shard.parts]
    with joined.open("rb") as file:
        for name, note in zip(shard.parts, notes, strict=True):
            if note is None:
                break  # what follows begins nobody knows where, and is written again
            write_file(folder / name, file.read(note.size))
    joined.unlink()


def _check_labels(pair: LabelledImage, allowed_labels: Collection[int]) -> None:
    found = np.unique(pair.mask.labels).tolist()
    wrong = np.array([label for label in found if label not in allowed_labels])
    if wrong.size:
        raise ValueError(
            f"{pair.mask_source}: holds the labels {describe_values(wrong)}, which are neither "
            "a class nor the ignore label"
        )


def _example(name: str, pair: LabelledImage, *, stored_as: tuple[int, int]) -> bytes:
    found = pair.image.channels, pair.image.bit_depth
    if found != stored_as:
        raise ValueError(
            f"{name}: was read as (input_channels, bit_depth) = {found}, the data set has "
            f"{stored_as}; the reader and the conversion must agree"
        )
    height, width = pair.mask.labels.shape
    return make_example(
        image_bytes=pair.image.data,
        label_bytes=pair.mask.png,
        filename=name,
        height=height,
        width=width,
        image_format=pair.image.image_format,
        channels=pair.image.channels,
    )


def _fingerprint(samples: Sequence[Any], *, settings: tuple[Any, ...]) -> str:
    """What a part is made of: settings, samples, and size and time of their files."""
    digest = hashlib.sha256(repr(settings).encode())
    for sample in samples:
        values = [getattr(sample, field.name) for field in dataclasses.fields(sample)]
        paths = [value for value in values if isinstance(value, Path)]
        digest.update(repr((sample, [_state(path) for path in paths])).encode())
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # whoever reads it says what is wrong
    return status.st_size, status.st_mtime_ns


def _note_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.json"

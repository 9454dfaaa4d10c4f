"""Converts images and masks to a folder of TFRecords with its dataset.json.

All converters in datasets/ end here. A data set is written completely or not at all, and all its
problems are reported together.
"""

import contextlib
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data import dataset_info
from deeplab_tf.data.channels import describe_range
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.masks import describe_values
from deeplab_tf.data.output import check_output, move_into, temporary_sibling
from deeplab_tf.data.pairing import raise_problems
from deeplab_tf.data.reading import LabelledImage, Reader
from deeplab_tf.data.records import is_shard, make_example, shard_name


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        info: The description that lies beside the records.
        pixels: int64 [256] by split, number of pixels by label value.
        notes: What the user should know, in sentences.
    """

    info: DatasetInfo
    pixels: dict[str, np.ndarray]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Formats sizes and pixel shares as a table: misread masks are seen at a glance."""
        splits = self.info.splits
        lines = [f"{'split':<20}{'images':>8}"]
        lines += [f"{split:<20}{count:>8}" for split, count in splits.items()]
        rows = dict(enumerate(self.info.class_names))
        void = self.info.ignore_label
        rows[void] = f"{rows[void]} (void)" if void in rows else "(void)"
        width = max(map(len, rows.values()))
        lines += ["", f"{'label':>5}  {'class':<{width}}" + "".join(f"{s:>12}" for s in splits)]
        for label, name in rows.items():
            shares = [self.pixels[split][label] / self.pixels[split].sum() for split in splits]
            cells = "".join(f"{100 * share:>10.2f} %" for share in shares)
            absent = "" if any(shares) or label == void else "   <- never occurs"
            lines.append(f"{label:>5}  {name:<{width}}{cells}{absent}")
        return "\n".join(lines + [f"Note: {note}" for note in self.notes])


@dataclass
class _Survey:
    """What masks and images turn out to hold, gathered while they are written."""

    pixels: dict[str, np.ndarray]
    problems: list[str] = field(default_factory=list)
    palette: np.ndarray | None = None
    other_palettes: int = 0
    turned_images: int = 0
    extremes: tuple[int, int] | None = None

    def labels(self) -> list[int]:
        """Returns the label values found in any split, sorted."""
        return np.flatnonzero(sum(self.pixels.values())).tolist()

    def add(self, pair: LabelledImage, split: str, allowed_labels: Collection[int]) -> None:
        """Counts the mask's pixels; raises ValueError if it holds labels that are not allowed."""
        mask = pair.mask
        counts = np.bincount(mask.labels.ravel(), minlength=256)
        self.pixels[split] += counts
        found = np.flatnonzero(counts)
        if mask.palette is not None:
            if self.palette is None:
                self.palette = mask.palette
            self.other_palettes += bool((mask.palette[found] != self.palette[found]).any())
        wrong = np.array([label for label in found.tolist() if label not in allowed_labels])
        if wrong.size:
            raise ValueError(
                f"{pair.mask_source}: holds the labels {describe_values(wrong)}, which are neither "
                "a class nor the ignore label"
            )
        self.turned_images += pair.image.turned
        if pair.image.extremes is not None:
            both = (*(self.extremes or ()), *pair.image.extremes)
            self.extremes = min(both), max(both)

    def notes(self, value_range: tuple[float, float]) -> tuple[str, ...]:
        """Returns what is no error but may surprise."""
        notes = []
        if self.turned_images:
            notes.append(
                f"{self.turned_images} image(s) carry an EXIF orientation, which TensorFlow "
                "ignores; they were turned upright."
            )
        if self.other_palettes:
            notes.append(
                f"{self.other_palettes} mask(s) give a label another colour than the first mask "
                "does; palette indices were taken as labels. If the colours are the classes, "
                "convert with build_folder_data.py --mask_type=rgb --color_table=FILE."
            )
        if self.extremes is not None:
            notes.append(describe_range(self.extremes, value_range))
        return tuple(notes)


def convert_samples(
    splits: Mapping[str, Sequence[Any]],
    *,
    output_dir: str | os.PathLike[str],
    name: str,
    read: Reader,
    class_names: Sequence[str] | None,
    palette: tuple[tuple[int, int, int], ...] | None = None,
    ignore_label: int = 255,
    input_channels: int = 3,
    bit_depth: int = 8,
    value_range: tuple[float, float] = (0, 255),
    num_shards: int = 4,
    overwrite: bool = False,
) -> Conversion:
    """Writes `<split>-xxxxx-of-yyyyy.tfrecord` files and dataset.json (reference: `build_*.py`).

    Args:
        splits: Samples by split; they are written in this order.
        output_dir: Folder to write. It appears when everything is in it.
        name: What the data set is called.
        read: Reads a sample, such as a `reading.FileReader`.
        class_names: One name per label. None: "class_0", ... for the labels that occur, which must
            then be 0..n-1.
        palette: One RGB colour per class. None: that of the first palette mask, else VOC's.
        ignore_label: Label of void pixels, 0..255.
        input_channels: Channels of the images that `read` returns.
        bit_depth: Bits of each, 8 or 16.
        value_range: Their values that are 0 and 255 to the network.
        num_shards: Number of files per split; each holds ceil(images / num_shards) records but
            the last ones, which may be empty.
        overwrite: Replace the records in an existing folder; files of other names stay.

    Returns:
        The description written, pixel counts and notes.

    Raises:
        FileExistsError: The output folder holds something and `overwrite` is False.
        ValueError: Files are damaged, do not fit each other, or hold labels without a class.
    """
    output = Path(os.path.abspath(output_dir))
    check_output(output, overwrite=overwrite)
    if num_shards < 1:
        raise ValueError(f"num_shards must be at least 1, found {num_shards}")
    describe = partial(
        DatasetInfo,
        name=name,
        ignore_label=ignore_label,
        splits={split: len(samples) for split, samples in splits.items()},
        input_channels=input_channels,
        bit_depth=bit_depth,
        value_range=value_range,
    )
    if class_names is not None:
        # A wrong description is an error now, not after all files are read.
        colors = palette or _choose_palette(None, len(class_names))
        describe(class_names=tuple(class_names), palette=colors)
    allowed = {*range(256 if class_names is None else len(class_names)), ignore_label}
    with temporary_sibling(output) as temporary:
        survey = _write_records(
            splits,
            temporary,
            read=read,
            allowed_labels=allowed,
            stored_as=(input_channels, bit_depth),
            num_shards=num_shards,
        )
        found = survey.labels()
        hint = _label_hint(found, class_names=class_names, ignore_label=ignore_label)
        raise_problems(survey.problems, hint="" if allowed.issuperset(found) else hint)
        if class_names is None:
            class_names = _derive_class_names(found, ignore_label=ignore_label, hint=hint)
        if len(set(found) - {ignore_label}) < 2:
            raise ValueError(f"the masks show fewer than two classes. {hint}")
        colors = palette or _choose_palette(survey.palette, len(class_names))
        info = describe(class_names=tuple(class_names), palette=colors)
        info.save(temporary)
        _publish(temporary, output, splits=info.splits)
    return Conversion(info, survey.pixels, survey.notes(value_range))


def _write_records(
    splits: Mapping[str, Sequence[Any]],
    folder: Path,
    *,
    read: Reader,
    allowed_labels: Collection[int],
    stored_as: tuple[int, int],
    num_shards: int,
) -> _Survey:
    survey = _Survey(pixels={split: np.zeros(256, np.int64) for split in splits})
    # disable=None: no bar where there is no terminal.
    with tqdm(total=sum(map(len, splits.values())), unit="image", disable=None) as progress:
        for split, file_name, samples in _shards(splits, num_shards):
            with tf.io.TFRecordWriter(str(folder / file_name)) as writer:
                for sample in samples:
                    try:
                        pair = read(sample)
                        survey.add(pair, split, allowed_labels)
                        writer.write(_example(sample.name, pair, stored_as=stored_as))
                    except (OSError, ValueError) as error:
                        survey.problems.append(str(error))
                    progress.update()
    return survey


def _shards(
    splits: Mapping[str, Sequence[Any]], num_shards: int
) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Yields split, file name and samples of every shard."""
    for split, samples in splits.items():
        per_shard = math.ceil(len(samples) / num_shards)
        for shard in range(num_shards):
            members = samples[shard * per_shard : (shard + 1) * per_shard]
            yield split, shard_name(split, shard, num_shards), members


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


def _label_hint(
    found: Sequence[int], *, class_names: Sequence[str] | None, ignore_label: int
) -> str:
    """Guesses why the label values of all masks do not suit the classes, and says what helps."""
    values = [label for label in found if label != ignore_label]
    held = f"All masks together hold the values {describe_values(np.array(found))}"
    if class_names is not None:
        held += f"; there are {len(class_names)} classes (0..{len(class_names) - 1})"
    held += f", ignore label {ignore_label}. "
    script = "datasets/build_folder_data.py"
    if len(found) == 2 and found[0] == 0:
        return held + (
            f"They look like binary masks: {script} --label_map=0:0,{found[1]}:1 makes "
            f"{found[1]} class 1."
        )
    if len(values) > 40:
        return held + "So many mean grey pictures, or masks resized or smoothed by interpolation."
    if class_names is not None and values == list(range(len(class_names) + 1)):
        return held + (
            "There is one value more than names: does the list of class names lack the "
            "background (the name of value 0)?"
        )
    renumbered = ",".join(f"{value}:{index}" for index, value in enumerate(values))
    return held + (
        f"To number the values found from 0: {script} --label_map={renumbered} (a value to ignore: "
        f"<value>:{ignore_label}). Otherwise give a --class_names_file with a name for every label."
    )


def _derive_class_names(found: Sequence[int], *, ignore_label: int, hint: str) -> tuple[str, ...]:
    classes = set(found) - {ignore_label}
    if not classes:
        raise ValueError(f"the masks hold nothing but the ignore label {ignore_label}")
    num_classes = max(classes) + 1
    if not set(found) >= set(range(num_classes)) - {ignore_label}:
        raise ValueError(f"class names are not given, and the labels found have gaps. {hint}")
    return tuple(f"class_{index}" for index in range(num_classes))


def _choose_palette(
    mask_palette: np.ndarray | None, num_classes: int
) -> tuple[tuple[int, int, int], ...]:
    colors = voc_colormap(num_classes)
    if mask_palette is not None:
        candidate = mask_palette[:num_classes]
        # Palettes that are absent, incomplete or a grey ramp tell no classes apart.
        distinct = len(np.unique(candidate, axis=0)) == num_classes
        if distinct and (candidate != candidate[:, :1]).any():
            colors = candidate
    return tuple((r, g, b) for r, g, b in colors.tolist())


def _publish(temporary: Path, output: Path, *, splits: Collection[str]) -> None:
    """Moves finished records to `output`, deleting the shards of an older conversion only."""
    if output.exists():
        replaced = set(splits)
        with contextlib.suppress(OSError, ValueError):
            replaced |= DatasetInfo.load(output).splits.keys()
        # Without its description the folder is recognisably incomplete until the last move.
        (output / dataset_info.FILENAME).unlink(missing_ok=True)
        for path in list(output.iterdir()):
            if any(is_shard(path.name, split) for split in replaced):
                path.unlink()
    move_into(temporary, output, last=dataset_info.FILENAME)

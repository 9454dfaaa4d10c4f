"""Converts images and masks to a folder of TFRecords with its dataset.json.

All converters in datasets/ end here. A data set is written completely or not at all, and all its
problems are reported together.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deeplab_tf.data import dataset_info
from deeplab_tf.data.channels import describe_range
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.found_labels import choose_palette, derive_class_names, label_hint
from deeplab_tf.data.output import check_output, move_into, resumable_sibling
from deeplab_tf.data.pairing import raise_problems
from deeplab_tf.data.parts import (
    Note,
    Part,
    Shard,
    join_parts,
    plan_parts,
    plan_shards,
    split_shard,
    write_part,
)
from deeplab_tf.data.reading import Reader
from deeplab_tf.data.records import is_shard
from deeplab_tf.data.workers import TaskRunner, available_cores, run_tasks

# With fewer samples, this process is done before others have started.
_WORTH_WORKERS = 2000

# More say no more: most likely all masks have the same fault.
_ENOUGH_PROBLEMS = 1000


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
    run: TaskRunner | None = None,
) -> Conversion:
    """Writes `<split>-xxxxx-of-yyyyy.tfrecord` files and dataset.json (reference: `build_*.py`).

    The records are the same whoever writes them. Until everything is written, it lies beside the
    output folder in `.<output>.partial`, and the same call goes on with it.

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
        run: Runs a function over tasks, such as a partial of `workers.run_tasks`. None: in one
            process for each core, or in this one if there are few samples.

    Returns:
        The description written, pixel counts and notes.

    Raises:
        BlockingIOError: Another process is writing to the same folder.
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
        colors = palette or choose_palette(None, len(class_names))
        describe(class_names=tuple(class_names), palette=colors)
    run = run or _default_runner(sum(map(len, splits.values())))
    allowed = {*range(256 if class_names is None else len(class_names)), ignore_label}
    with resumable_sibling(output) as folder:
        plan = _Plan(splits, num_shards, folder / "parts", folder / "records")
        kept = _write_parts(
            plan,
            read=read,
            allowed_labels=allowed,
            stored_as=(input_channels, bit_depth),
            run=run,
        )
        survey = _merge_notes(plan)
        found = np.flatnonzero(sum(survey.pixels.values())).tolist()
        hint = label_hint(found, class_names=class_names, ignore_label=ignore_label)
        if survey.problems:
            hints = [] if allowed.issuperset(found) else [hint]
            if survey.sound_parts:
                hints.append(
                    f"What was read without problems is kept in {folder}, for another try."
                )
            else:
                shutil.rmtree(folder)
            raise_problems(survey.problems, hint="\n".join(hints))
        try:
            if class_names is None:
                class_names = derive_class_names(found, ignore_label=ignore_label, hint=hint)
            if len(set(found) - {ignore_label}) < 2:
                raise ValueError(f"the masks show fewer than two classes. {hint}")
        except ValueError:
            shutil.rmtree(folder)  # with other settings, all is to be read again
            raise
        colors = palette or choose_palette(survey.palette, len(class_names))
        info = describe(class_names=tuple(class_names), palette=colors)
        join = partial(join_parts, folder=plan.parts_folder, output=plan.records_folder)
        for _ in run(join, plan.shards()):
            pass
        info.save(plan.records_folder)
        _publish(plan.records_folder, output, splits=info.splits)
        shutil.rmtree(folder)
    return Conversion(info, survey.pixels, survey.remarks(kept, value_range))


@dataclass(frozen=True)
class _Plan:
    """Which parts and shards there are to be, and where."""

    splits: Mapping[str, Sequence[Any]]
    num_shards: int
    parts_folder: Path
    records_folder: Path

    def parts(self) -> Iterator[Part]:
        for split, samples in self.splits.items():
            yield from plan_parts(samples, split, self.num_shards)

    def shards(self) -> Iterator[Shard]:
        for split, samples in self.splits.items():
            yield from plan_shards(len(samples), split, self.num_shards)


@dataclass(frozen=True)
class _Survey:
    """What all parts hold together."""

    pixels: dict[str, np.ndarray]
    palette: np.ndarray | None
    other_palettes: int
    turned_images: int
    extremes: tuple[int, int] | None
    problems: tuple[str, ...]
    sound_parts: int

    def remarks(self, kept: int, value_range: tuple[float, float]) -> tuple[str, ...]:
        """Returns what is no error but may surprise."""
        remarks = []
        if kept:
            remarks.append(f"{kept} image(s) were there from an earlier run that did not finish.")
        if self.turned_images:
            remarks.append(
                f"{self.turned_images} image(s) carry an EXIF orientation, which TensorFlow "
                "ignores; they were turned upright."
            )
        if self.other_palettes:
            remarks.append(
                f"{self.other_palettes} mask(s) give a label another colour than the first mask "
                "does; palette indices were taken as labels. If the colours are the classes, "
                "convert with build_folder_data.py --mask_type=rgb --color_table=FILE."
            )
        if self.extremes is not None:
            remarks.append(describe_range(self.extremes, value_range))
        return tuple(remarks)


def _default_runner(num_samples: int) -> TaskRunner:
    num_workers = 1 if num_samples < _WORTH_WORKERS else available_cores()
    return partial(run_tasks, num_workers=num_workers)


def _write_parts(
    plan: _Plan,
    *,
    read: Reader,
    allowed_labels: Collection[int],
    stored_as: tuple[int, int],
    run: TaskRunner,
) -> int:
    """Writes the parts that are missing; returns how many images were there."""
    for folder in (plan.parts_folder, plan.records_folder):
        folder.mkdir(exist_ok=True)
    for shard in plan.shards():
        split_shard(shard, folder=plan.parts_folder, output=plan.records_folder)
    _remove_leftovers(plan)
    write = partial(
        write_part,
        folder=plan.parts_folder,
        read=read,
        allowed_labels=frozenset(allowed_labels),
        stored_as=stored_as,
    )
    kept = problems = 0
    total = sum(map(len, plan.splits.values()))
    # disable=None: no bar where there is no terminal.
    with tqdm(total=total, unit="image", disable=None) as progress:
        for written in run(write, plan.parts()):
            progress.update(written.images)
            kept += written.images * written.kept
            problems += written.problems
            if problems > _ENOUGH_PROBLEMS:
                break
    return kept


def _remove_leftovers(plan: _Plan) -> None:
    """Deletes what a conversion that was killed had only begun, and parts of another plan."""
    planned = {name for shard in plan.shards() for name in shard.parts}
    for path in plan.parts_folder.iterdir():
        if path.name.removesuffix(".json") not in planned:
            path.unlink()
    for path in plan.records_folder.iterdir():
        path.unlink()


def _merge_notes(plan: _Plan) -> _Survey:
    """What the parts hold, in their order: the first palette counts."""
    pixels = {split: np.zeros(256, np.int64) for split in plan.splits}
    first: np.ndarray | None = None
    other_palettes = turned_images = sound_parts = 0
    extremes: list[int] = []
    problems: list[str] = []
    for part in plan.parts():
        note = Note.read(plan.parts_folder, part.name)
        if note is None:
            continue  # there were too many problems to go on
        problems += note.problems
        sound_parts += not note.problems
        for label, count in note.survey.pixels.items():
            pixels[part.split][label] += count
        turned_images += note.survey.turned_images
        extremes += note.survey.extremes or ()
        for colors, (labels, number) in note.survey.palettes.items():
            palette = np.frombuffer(colors, np.uint8).reshape(-1, 3)
            first = palette if first is None else first
            shown = sorted(labels)
            other_palettes += number * bool((palette[shown] != first[shown]).any())
    return _Survey(
        pixels,
        first,
        other_palettes,
        turned_images,
        extremes=(min(extremes), max(extremes)) if extremes else None,
        problems=tuple(problems),
        sound_parts=sound_parts,
    )


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

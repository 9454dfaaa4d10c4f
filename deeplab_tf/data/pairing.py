"""Which image belongs to which mask and to which split, from folders and list files."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_tf.data import images, masks
from deeplab_tf.data.listing import (
    Problem,
    existing_folder,
    files_by_stem,
    listed_but_missing,
    read_list,
    strip_suffix,
)

_SHOWN_PROBLEMS = 10
_PAIRING_HINT = (
    "Complete or remove them, or name the images to use in list files. If mask names have an "
    "ending such as _mask, give it as --mask_suffix."
)


@dataclass(frozen=True)
class Sample:
    """One image with its mask; `name` is what the record calls it."""

    name: str
    image_path: Path
    mask_path: Path


@dataclass(frozen=True)
class Pairing:
    """The samples by split, in order, and what had to be left out of them."""

    splits: dict[str, list[Sample]]
    problems: tuple[Problem, ...]


def raise_problems(problems: Sequence[str], *, hint: str = "") -> None:
    """Raises one ValueError for all problems of a data set, if there are any."""
    distinct = list(dict.fromkeys(problems))
    if not distinct:
        return
    lines = [f"{len(distinct)} problem(s) in the data, nothing was written:"]
    lines += [f"  - {problem}" for problem in distinct[:_SHOWN_PROBLEMS]]
    if len(distinct) > _SHOWN_PROBLEMS:
        lines.append(f"  ... and {len(distinct) - _SHOWN_PROBLEMS} more")
    raise ValueError("\n".join(lines + ([hint] if hint else [])))


def voc_splits(
    *,
    image_dir: str | os.PathLike[str],
    mask_dir: str | os.PathLike[str],
    list_dir: str | os.PathLike[str],
    image_extensions: Sequence[str] = images.EXTENSIONS,
    mask_extensions: Sequence[str] = (".png",),
) -> dict[str, list[Sample]]:
    """Finds the samples of a VOC layout: every `<split>.txt` in `list_dir` names a split's images.

    Args:
        image_dir: Folder of images.
        mask_dir: Folder of masks with the images' names.
        list_dir: Folder of list files, one image name a line.
        image_extensions: Extensions that images may have.
        mask_extensions: Extensions that masks may have.

    Returns:
        Samples by split, in the order of the list files.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A folder or list is empty, a name is listed twice or lacks its image or mask.
    """
    pairing = pair_voc(
        image_dir=image_dir,
        mask_dir=mask_dir,
        list_dir=list_dir,
        image_extensions=image_extensions,
        mask_extensions=mask_extensions,
    )
    raise_problems([problem.message for problem in pairing.problems])
    return pairing.splits


def pair_voc(
    *,
    image_dir: str | os.PathLike[str],
    mask_dir: str | os.PathLike[str],
    list_dir: str | os.PathLike[str],
    image_extensions: Sequence[str] = images.EXTENSIONS,
    mask_extensions: Sequence[str] = (".png",),
) -> Pairing:
    """As `voc_splits`, but names and lists that do not fit are returned.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A folder is empty.
    """
    problems: list[Problem] = []
    image_files = files_by_stem(image_dir, image_extensions, problems, what="image")
    mask_files = files_by_stem(mask_dir, mask_extensions, problems, what="mask")
    list_files = sorted(existing_folder(list_dir, what="list").glob("*.txt"))
    if not list_files:
        raise ValueError(f"list folder {list_dir} holds no *.txt file, one per split")
    splits: dict[str, list[Sample]] = {}
    for list_file in list_files:
        names = read_list(list_file, image_files, problems)
        problems += listed_but_missing(
            names, image_files, mask_files, list_file, image_dir, mask_dir
        )
        splits[list_file.stem] = _samples(names, image_files, mask_files)
    return Pairing(splits, tuple(problems))


def folder_splits(
    *,
    image_dir: str | os.PathLike[str],
    mask_dir: str | os.PathLike[str],
    image_extensions: Sequence[str] = images.EXTENSIONS,
    mask_suffix: str = "",
    list_files: Mapping[str, str | os.PathLike[str]] | None = None,
    val_ratio: float = 0.2,
    seed: int = 0,
) -> dict[str, list[Sample]]:
    """Finds the samples of a folder of images and a folder of masks.

    Args:
        image_dir: Folder of images.
        mask_dir: Folder of masks; the mask of `a.jpg` is `a<mask_suffix>.<any extension>`.
        image_extensions: Extensions that images may have.
        mask_suffix: What mask names have after the image's name, such as "_mask".
        list_files: List file by split, one image name (with or without extension) a line. Without
            it every image goes to "train" or "val".
        val_ratio: Share of images that go to "val", 0 < val_ratio < 1. An image's split depends on
            its name and the seed only, so that it stays where it is when images are added.
        seed: Seed of that choice.

    Returns:
        Samples by split.

    Raises:
        FileNotFoundError: A folder or list file is missing.
        ValueError: A folder, list or split is empty, or an image and a mask lack each other.
    """
    if not list_files:
        samples = folder_samples(
            image_dir=image_dir,
            mask_dir=mask_dir,
            image_extensions=image_extensions,
            mask_suffix=mask_suffix,
        )
        return _hash_splits(samples, val_ratio=val_ratio, seed=seed)
    pairing = pair_folders(
        image_dir=image_dir,
        mask_dir=mask_dir,
        image_extensions=image_extensions,
        mask_suffix=mask_suffix,
        list_files=list_files,
    )
    raise_problems([problem.message for problem in pairing.problems], hint=_PAIRING_HINT)
    return pairing.splits


def folder_samples(
    *,
    image_dir: str | os.PathLike[str],
    mask_dir: str | os.PathLike[str],
    image_extensions: Sequence[str] = images.EXTENSIONS,
    mask_suffix: str = "",
) -> list[Sample]:
    """Finds all images of a folder and their masks; arguments and errors as `folder_splits`."""
    pairing = pair_folders(
        image_dir=image_dir,
        mask_dir=mask_dir,
        image_extensions=image_extensions,
        mask_suffix=mask_suffix,
    )
    raise_problems([problem.message for problem in pairing.problems], hint=_PAIRING_HINT)
    return pairing.splits["all"]


def pair_folders(
    *,
    image_dir: str | os.PathLike[str],
    mask_dir: str | os.PathLike[str],
    image_extensions: Sequence[str] = images.EXTENSIONS,
    mask_suffix: str = "",
    list_files: Mapping[str, str | os.PathLike[str]] | None = None,
) -> Pairing:
    """As `folder_splits`, but names and lists that do not fit are returned.

    Without list files there is one split, "all".

    Raises:
        FileNotFoundError: A folder or list file is missing.
        ValueError: A folder is empty.
    """
    problems: list[Problem] = []
    image_files = files_by_stem(image_dir, image_extensions, problems, what="image")
    mask_files = strip_suffix(
        files_by_stem(mask_dir, masks.EXTENSIONS, problems, what="mask"), mask_suffix, mask_dir
    )
    if not list_files:
        problems += [
            Problem("image-without-mask", path, f"no mask in {mask_dir} for the image {name}")
            for name, path in sorted(image_files.items())
            if name not in mask_files
        ]
        problems += [
            Problem("mask-without-image", path, f"no image in {image_dir} for the mask {name}")
            for name, path in sorted(mask_files.items())
            if name not in image_files
        ]
        return Pairing(
            {"all": _samples(sorted(image_files), image_files, mask_files)}, tuple(problems)
        )
    splits: dict[str, list[Sample]] = {}
    for split, path in list_files.items():
        names = read_list(Path(path), image_files, problems)
        problems += listed_but_missing(
            names, image_files, mask_files, Path(path), image_dir, mask_dir
        )
        splits[split] = _samples(names, image_files, mask_files)
    return Pairing(splits, tuple(problems))


def _hash_splits(
    samples: Sequence[Sample], *, val_ratio: float, seed: int
) -> dict[str, list[Sample]]:
    if not 0 < val_ratio < 1:
        raise ValueError(f"val_ratio must be between 0 and 1, found {val_ratio}")
    splits: dict[str, list[Sample]] = {"train": [], "val": []}
    for sample in samples:
        digest = hashlib.sha256(f"{seed}:{sample.name}".encode()).digest()
        fraction = int.from_bytes(digest[:8]) / 2**64
        splits["val" if fraction < val_ratio else "train"].append(sample)
    for split, members in splits.items():
        if not members:
            raise ValueError(
                f"val_ratio={val_ratio} of {len(samples)} images leaves the split {split!r} empty; "
                "choose another ratio or seed, or list the images of each split in a file"
            )
    return splits


def _samples(
    names: Iterable[str], image_files: Mapping[str, Path], mask_files: Mapping[str, Path]
) -> list[Sample]:
    """The samples of the names that have an image and a mask."""
    return [
        Sample(name, image_files[name], mask_files[name])
        for name in names
        if name in image_files and name in mask_files
    ]

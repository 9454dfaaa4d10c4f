"""Which image belongs to which mask and to which split, from folders and list files."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_tf.data import images, masks
from deeplab_tf.data.class_table import read_text

_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Sample:
    """One image with its mask; `name` is what the record calls it."""

    name: str
    image_path: Path
    mask_path: Path


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
    image_files = _files_by_stem(image_dir, image_extensions, what="image")
    mask_files = _files_by_stem(mask_dir, mask_extensions, what="mask")
    list_files = sorted(_existing_folder(list_dir, what="list").glob("*.txt"))
    if not list_files:
        raise ValueError(f"list folder {list_dir} holds no *.txt file, one per split")
    splits: dict[str, list[Sample]] = {}
    problems: list[str] = []
    for list_file in list_files:
        names = _read_list(list_file, image_files)
        problems += _missing(names, image_files, f"{list_file}: no image in {image_dir} for")
        problems += _missing(names, mask_files, f"{list_file}: no mask in {mask_dir} for")
        splits[list_file.stem] = [
            Sample(name, image_files[name], mask_files[name])
            for name in names
            if name in image_files and name in mask_files
        ]
    raise_problems(problems)
    return splits


def folder_splits(
    *,
    image_dir: str | os.PathLike[str],
    mask_dir: str | os.PathLike[str],
    mask_suffix: str = "",
    list_files: Mapping[str, str | os.PathLike[str]] | None = None,
    val_ratio: float = 0.2,
    seed: int = 0,
) -> dict[str, list[Sample]]:
    """Finds the samples of a folder of images and a folder of masks.

    Args:
        image_dir: Folder of images.
        mask_dir: Folder of masks; the mask of `a.jpg` is `a<mask_suffix>.<any extension>`.
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
    image_files = _files_by_stem(image_dir, images.EXTENSIONS, what="image")
    mask_files = _strip_suffix(
        _files_by_stem(mask_dir, masks.EXTENSIONS, what="mask"), mask_suffix, mask_dir
    )
    if list_files:
        names = {split: _read_list(Path(path), image_files) for split, path in list_files.items()}
        problems = []
        for split, path in list_files.items():
            problems += _missing(names[split], image_files, f"{path}: no image in {image_dir} for")
            problems += _missing(names[split], mask_files, f"{path}: no mask in {mask_dir} for")
    else:
        names = _hash_splits(sorted(image_files), val_ratio=val_ratio, seed=seed)
        problems = _missing(sorted(image_files), mask_files, f"no mask in {mask_dir} for the image")
        problems += _missing(
            sorted(mask_files), image_files, f"no image in {image_dir} for the mask"
        )
    raise_problems(
        problems,
        hint="Complete or remove them, or name the images to use in list files. If mask names "
        "have an ending such as _mask, give it as --mask_suffix.",
    )
    return {
        split: [Sample(name, image_files[name], mask_files[name]) for name in split_names]
        for split, split_names in names.items()
    }


def _hash_splits(names: Sequence[str], *, val_ratio: float, seed: int) -> dict[str, list[str]]:
    if not 0 < val_ratio < 1:
        raise ValueError(f"val_ratio must be between 0 and 1, found {val_ratio}")
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for name in names:
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        fraction = int.from_bytes(digest[:8]) / 2**64
        splits["val" if fraction < val_ratio else "train"].append(name)
    for split, members in splits.items():
        if not members:
            raise ValueError(
                f"val_ratio={val_ratio} of {len(names)} images leaves the split {split!r} empty; "
                "choose another ratio or seed, or list the images of each split in a file"
            )
    return splits


def _existing_folder(folder: str | os.PathLike[str], *, what: str) -> Path:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{what} folder {folder} not found")
    return Path(folder)


def _files_by_stem(
    folder: str | os.PathLike[str], extensions: Collection[str], *, what: str
) -> dict[str, Path]:
    files: dict[str, Path] = {}
    problems = []
    for path in sorted(_existing_folder(folder, what=what).iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in extensions:
            continue
        if path.stem in files:
            problems.append(f"{files[path.stem]} and {path.name} have the same name; keep one")
        files[path.stem] = path
    if not files:
        raise ValueError(f"{what} folder {folder} holds no {', '.join(extensions)} file")
    raise_problems(problems)
    return files


def _strip_suffix(
    files: Mapping[str, Path], suffix: str, folder: str | os.PathLike[str]
) -> dict[str, Path]:
    stripped = {
        stem.removesuffix(suffix): path for stem, path in files.items() if stem.endswith(suffix)
    }
    if not stripped:
        raise ValueError(f"mask folder {folder} holds no file whose name ends in {suffix!r}")
    return stripped


def _read_list(path: Path, image_files: Collection[str]) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"list file {path} not found")
    entries = [line.strip() for line in read_text(path).splitlines()]
    # Lists name images with or without extension, and names may contain dots.
    names = [
        entry if entry in image_files or Path(entry).stem not in image_files else Path(entry).stem
        for entry in entries
        if entry
    ]
    if not names:
        raise ValueError(f"list file {path} is empty; expected one image name a line")
    counts = Counter(names)
    raise_problems([f"{path}: {name} is listed {n} times" for name, n in counts.items() if n > 1])
    return names


def _missing(names: Sequence[str], files: Collection[str], message: str) -> list[str]:
    return [f"{message} {name}" for name in names if name not in files]

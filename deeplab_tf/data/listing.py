"""What folders hold and list files name, and what is wrong with that."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplab_tf.data.class_table import read_text


@dataclass(frozen=True)
class Problem:
    """What does not fit between images, masks and lists.

    Attributes:
        fault: Name of the kind of fault, as in `faults.FaultyFileError`.
        path: The file it is about.
        message: What is wrong, with the names.
    """

    fault: str
    path: Path
    message: str


def existing_folder(folder: str | os.PathLike[str], *, what: str) -> Path:
    """The folder, if there is one; `what` is what is in it, for the message."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{what} folder {folder} not found")
    return Path(folder)


def files_by_stem(
    folder: str | os.PathLike[str],
    extensions: Collection[str],
    problems: list[Problem],
    *,
    what: str,
) -> dict[str, Path]:
    """The files of a folder by their names without extension; `problems` gets names found twice."""
    files: dict[str, Path] = {}
    for path in sorted(existing_folder(folder, what=what).iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in extensions:
            continue
        if path.stem in files:
            message = f"{files[path.stem]} and {path.name} have the same name; keep one"
            problems.append(Problem("same-stem", path, message))
        files[path.stem] = path
    if not files:
        raise ValueError(f"{what} folder {folder} holds no {', '.join(extensions)} file")
    return files


def strip_suffix(
    files: Mapping[str, Path], suffix: str, folder: str | os.PathLike[str]
) -> dict[str, Path]:
    """The masks of a folder by the names of their images; those without the suffix are left out."""
    stripped = {
        stem.removesuffix(suffix): path for stem, path in files.items() if stem.endswith(suffix)
    }
    if not stripped:
        raise ValueError(f"mask folder {folder} holds no file whose name ends in {suffix!r}")
    return stripped


def read_list(path: Path, image_files: Collection[str], problems: list[Problem]) -> list[str]:
    """The names in a list file, each once; `problems` gets those found twice."""
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
        message = f"list file {path} is empty; expected one image name a line"
        problems.append(Problem("list-is-empty", path, message))
    counts = Counter(names)
    problems += [
        Problem("listed-twice", path, f"{path}: {name} is listed {count} times")
        for name, count in counts.items()
        if count > 1
    ]
    return list(counts)


def listed_but_missing(
    names: Sequence[str],
    image_files: Mapping[str, Path],
    mask_files: Mapping[str, Path],
    list_file: Path,
    image_dir: str | os.PathLike[str],
    mask_dir: str | os.PathLike[str],
) -> list[Problem]:
    """What a list names and is not there."""
    no_image = [
        Problem(
            "listed-image-missing", list_file, f"{list_file}: no image in {image_dir} for {name}"
        )
        for name in names
        if name not in image_files
    ]
    no_mask = [
        Problem(
            "image-without-mask",
            image_files[name],
            f"{list_file}: no mask in {mask_dir} for {name}",
        )
        for name in names
        if name in image_files and name not in mask_files
    ]
    return no_image + no_mask

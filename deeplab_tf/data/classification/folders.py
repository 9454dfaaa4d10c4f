"""Folders of classes: every class is a folder of images, whose name is the class's."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab_tf.data.classification.source import EncodedImage

# What TensorFlow decodes; the other kinds of images are an error, so that none is left out unseen.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
_OTHER_IMAGES = (".webp", ".tif", ".tiff")

_LAYOUT = (
    "expected train/ and val/ with a folder of images for each class, or these class folders alone"
)


class FolderSource:
    """The images of a split (`source.ImageSource`).

    Args:
        paths: Of the images.
        labels: Their classes.
    """

    def __init__(self, paths: Sequence[str], labels: Sequence[int]) -> None:
        self.paths, self.labels = tuple(paths), tuple(labels)
        self.count = len(self.paths)
        # Here and not in a graph, which would hold all paths as a constant.
        self._paths, self._labels = tf.constant(self.paths), tf.constant(self.labels)

    def endless(self, *, seed: int, first_example: int) -> tf.data.Dataset:
        """Any image can be read at any time, so that the order needs no memory."""

        def place(example: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            epoch, position = example // self.count, example % self.count
            seeds = tf.stack([tf.constant(seed, tf.int64), epoch])
            shuffled = tf.random.experimental.index_shuffle(position, seeds, self.count - 1)
            return example, shuffled

        return tf.data.Dataset.counter(first_example).map(place)

    def once(self) -> tf.data.Dataset:
        """The places in order of class and name."""
        return tf.data.Dataset.range(self.count)

    def read(self, place: tf.Tensor) -> EncodedImage:
        """Reads a file."""
        path = tf.gather(self._paths, place)
        return EncodedImage(tf.io.read_file(path), tf.gather(self._labels, place))

    def describe(self, place: Any) -> str:
        """The path."""
        return self.paths[int(place)]

    def find_damage(self) -> str | None:
        """Places are numbers, and nothing can be wrong with them."""
        return None


def open_folders(
    root: str | os.PathLike[str],
    *,
    train_split: str = "train",
    val_split: str = "val",
    val_fraction: float = 0.1,
    seed: int = 0,
) -> tuple[tuple[str, ...], dict[str, FolderSource]]:
    """Lists a folder of images by class.

    Args:
        root: Holds the folders of the splits with those of the classes in them, or these alone.
        train_split: Name of the folder to train on.
        val_split: Name of the folder to validate on, as split; empty for no validation.
        val_fraction: Where there are no folders of splits, the share of each class's images to
            validate on, drawn by the seed.
        seed: As said.

    Returns:
        The class names, sorted, and the splits that there are, by name.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There are no class folders, one class only, a class without images, one that is
            in the validation only, or images of a kind that is not read.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"--image_folder={root} is no folder: {_LAYOUT}.")
    if (folder / train_split).is_dir():
        classes = _list_classes(folder / train_split)
        splits = {train_split: classes}
        if val_split:
            if not (folder / val_split).is_dir():
                raise FileNotFoundError(
                    f"--image_folder={root} has {train_split}/ and no {val_split}/ to validate on: "
                    "give the name of that folder as --val_split, or an empty one for none."
                )
            splits[val_split] = _list_classes(folder / val_split)
            if foreign := sorted(splits[val_split].keys() - classes.keys()):
                raise ValueError(
                    f"{folder / val_split} has the classes {', '.join(foreign)}, which "
                    f"{folder / train_split} has not: expected no other ones."
                )
    else:
        classes = _list_classes(folder)
        splits = _split(classes, train_split, val_split, val_fraction=val_fraction, seed=seed)
    names = tuple(classes)
    return names, {split: _source(names, files) for split, files in splits.items()}


def _list_classes(folder: Path) -> dict[str, list[str]]:
    """The images of each class folder, also of folders in it; two or more, none of them empty."""
    folders = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not folders:
        raise ValueError(f"{folder} has no folders of classes: {_LAYOUT}.")
    classes = {path.name: _list_images(path) for path in folders}
    if len(classes) < 2:
        raise ValueError(
            f"{folder} has the class {folders[0].name} alone, and two or more are needed: "
            f"{_LAYOUT}."
        )
    return classes


def _list_images(folder: Path) -> list[str]:
    found, others = [], []
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or not path.is_file():
            continue
        if suffix in _EXTENSIONS:
            found.append(str(path))
        elif suffix in _OTHER_IMAGES:
            others.append(str(path))
    if others:
        raise ValueError(
            f"{others[0]} is one of {len(others)} images of kinds that are not read here: expected "
            f"{', '.join(_EXTENSIONS)}; convert them to JPEG or PNG."
        )
    if not found:
        raise ValueError(
            f"The class folder {folder} has no images: expected files of {', '.join(_EXTENSIONS)}; "
            "remove the folder if there is no such class."
        )
    return found


def _split(
    classes: dict[str, list[str]],
    train_split: str,
    val_split: str,
    *,
    val_fraction: float,
    seed: int,
) -> dict[str, dict[str, list[str]]]:
    """Draws of each class the share to validate on; one image stays to train on."""
    if not val_split or val_fraction == 0:
        return {train_split: classes}
    if not 0 < val_fraction < 1:
        raise ValueError(f"--val_fraction={val_fraction}: expected 0 or more, below 1.")
    train: dict[str, list[str]] = {}
    val: dict[str, list[str]] = {}
    for number, (name, files) in enumerate(classes.items()):
        drawn = np.random.default_rng([seed, number]).permutation(len(files))
        chosen = set(drawn[: min(round(val_fraction * len(files)), len(files) - 1)].tolist())
        train[name] = [file for i, file in enumerate(files) if i not in chosen]
        val[name] = [file for i, file in enumerate(files) if i in chosen]
    if not any(val.values()):
        raise ValueError(
            f"--val_fraction={val_fraction} of so few images is none: expected more images, a "
            "larger fraction, or 0 for no validation."
        )
    return {train_split: train, val_split: val}


def _source(names: Sequence[str], classes: dict[str, list[str]]) -> FolderSource:
    pairs = [(path, label) for label, name in enumerate(names) for path in classes.get(name, ())]
    return FolderSource([path for path, _ in pairs], [label for _, label in pairs])

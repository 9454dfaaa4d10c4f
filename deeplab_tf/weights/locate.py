"""Checkpoints by whatever name people give them."""

import glob
import hashlib
import os
import re
import struct
from pathlib import Path

import tensorflow as tf

from deeplab_tf.archives import default_cache, locked, unpack
from deeplab_tf.weights.zoo import ZOO, download, similar_names

_ARCHIVE = (".tar.gz", ".tgz")
_FILE_OF_A_CHECKPOINT = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")
_STEP = re.compile(r"-(\d+)$")
_TABLE_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def locate_checkpoint(path_or_name: str | os.PathLike[str]) -> str:
    """The prefix of the checkpoint that a path or a name means.

    Args:
        path_or_name: A prefix; one of the files that begin with it; a folder, whose state file
            `checkpoint` chooses, else the highest step; the folder around that one; a .tar.gz of
            such folders, which is unpacked into the cache once; or a name of the model zoo, which
            is downloaded into the cache once.

    Returns:
        The prefix. Checkpoints of TensorFlow's oldest format are one file, whose name it is.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: There are several and none is the latest, or it is in a damaged archive.
        ConnectionError: It is to be downloaded and cannot be.
    """
    path = os.fspath(path_or_name)
    prefix = _FILE_OF_A_CHECKPOINT.sub("", path)
    if _is_checkpoint(prefix):
        return _with_data(prefix)
    if os.path.isdir(path):
        return _with_data(_in_folder(path))
    if os.path.isfile(path) and path.endswith(_ARCHIVE):
        return _with_data(_in_folder(_unpacked(path)))
    if path in ZOO:
        return _with_data(_in_folder(os.fspath(download(path))))
    raise FileNotFoundError(
        f"There is no checkpoint at {path}: expected a prefix such as RUN/model.ckpt-3000 (beside "
        "RUN/model.ckpt-3000.index), a folder of checkpoints, a .tar.gz of one, or a name of the "
        f"model zoo{_suggestion(path)}."
    )


def _suggestion(name: str) -> str:
    similar = similar_names(name)
    return f", such as {', '.join(similar)}" if similar else " (docs/zoo.md)"


def _in_folder(folder: str) -> str:
    """The latest checkpoint of a folder, or of the one folder in it that has any."""
    if os.path.exists(os.path.join(folder, "saved_model.pb")):
        raise ValueError(
            f"{folder} is an exported model; expected the checkpoint that it was exported from."
        )
    if prefix := _latest(folder):
        return prefix
    inner = [os.path.join(folder, name) for name in _listed(folder)]
    found = [prefix for path in inner if os.path.isdir(path) and (prefix := _latest(path))]
    if not found:
        raise FileNotFoundError(
            f"There is no checkpoint in {folder}, nor in the folders in it: expected files such as "
            "model.ckpt-3000.index and model.ckpt-3000.data-00000-of-00001."
        )
    return _only(found, folder)


def _latest(folder: str) -> str | None:
    if state := tf.train.get_checkpoint_state(folder):
        # A folder that was moved still has its old place in there.
        name = re.split(r"[/\\]", state.model_checkpoint_path)[-1]
        for prefix in (os.path.join(folder, name), state.model_checkpoint_path):
            if _is_checkpoint(prefix):
                return prefix
    roots = {_FILE_OF_A_CHECKPOINT.sub("", name) for name in _listed(folder)}
    prefixes = filter(_is_checkpoint, (os.path.join(folder, root) for root in sorted(roots)))
    by_step: dict[int, list[str]] = {}
    for prefix in prefixes:
        match = _STEP.search(prefix)
        by_step.setdefault(int(match[1]) if match else -1, []).append(prefix)
    return _only(by_step[max(by_step)], folder) if by_step else None


def _only(prefixes: list[str], folder: str) -> str:
    if len(prefixes) > 1:
        raise ValueError(
            f"{folder} has several checkpoints; give one of them: {', '.join(prefixes)}."
        )
    return prefixes[0]


def _listed(folder: str) -> list[str]:
    # Hidden are what an archive from a Mac has beside each file, and unfinished work.
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _is_checkpoint(prefix: str) -> bool:
    return os.path.isfile(f"{prefix}.index") or _is_single_file(prefix)


def _is_single_file(path: str) -> bool:
    """Whether it is TensorFlow's oldest format: a sorted table, by its last bytes."""
    if not os.path.isfile(path) or os.path.getsize(path) < len(_TABLE_MAGIC):
        return False
    with open(path, "rb") as file:
        file.seek(-len(_TABLE_MAGIC), os.SEEK_END)
        return file.read() == _TABLE_MAGIC


def _with_data(prefix: str) -> str:
    if not _is_single_file(prefix) and not glob.glob(f"{glob.escape(prefix)}.data-*"):
        raise FileNotFoundError(
            f"{prefix}.index has no {prefix}.data-00000-of-00001 beside it, which has the weights: "
            "copy it, too."
        )
    return prefix


def _unpacked(archive: str) -> str:
    """The folder of the cache with what an archive holds; other contents, another folder."""
    path = Path(archive).resolve()
    stat = path.stat()
    key = hashlib.sha256(f"{path}:{stat.st_mtime_ns}:{stat.st_size}".encode()).hexdigest()[:12]
    folder = default_cache() / "unpacked" / f"{path.name.partition('.')[0]}-{key}"
    if not folder.is_dir():
        with locked(folder):
            if not folder.is_dir():
                unpack(path, folder)
    return os.fspath(folder)

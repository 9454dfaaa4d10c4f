"""Writing files and folders as wholes: complete or not there, and foreign files are safe."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from deeplab_tf.data.full_disk import full_disk_reported


def check_output(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuses an output folder that holds something, unless `overwrite`.

    Raises:
        FileExistsError: The folder is not empty, or is a file.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"output folder {path} is a file")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise FileExistsError(
            f"output folder {path} is not empty; choose another one, or add --overwrite to replace "
            "what an earlier run wrote there (files of other names stay)"
        )


@contextlib.contextmanager
def temporary_sibling(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty folder beside `folder`, on the same disk; what is left in it is deleted.

    Raises:
        DiskFullError: The disk is full, found in here or while the folder is in use.
    """
    path = Path(os.path.abspath(folder))
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    with full_disk_reported(path.parent):
        temporary.mkdir(parents=True)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def resumable_sibling(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields `.<folder>.partial` beside `folder`, for this process alone; what is in it stays.

    Raises:
        BlockingIOError: Another process has it.
        DiskFullError: The disk is full, found in here or while the folder is in use.
    """
    path = Path(os.path.abspath(folder))
    partial = path.with_name(f".{path.name}.partial")
    taken = BlockingIOError(f"another process is at work on {path}: wait until it is done")
    with full_disk_reported(path.parent):
        partial.mkdir(parents=True, exist_ok=True)
        with open(partial / "lock", "w") as lock:
            _lock(lock, taken)
            yield partial


def _lock(file: IO[str], taken: BlockingIOError) -> None:
    """Locks a file until it is closed; the system unlocks it too, however its holder dies."""
    try:
        import fcntl
    except ImportError:  # Windows; two conversions to one folder are then the user's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise taken from None


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file, and its folder if need be; no reader ever sees a part of it.

    Raises:
        DiskFullError: The disk is full; a file that was there stays as it is.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with full_disk_reported(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def move_into(temporary: Path, folder: str | os.PathLike[str], *, last: str) -> None:
    """Moves all files of `temporary` to `folder`, replacing files of the same names.

    Args:
        temporary: Folder on the same disk.
        folder: Where they go; a folder that does not exist appears with everything in it.
        last: Name of the file that is moved last: its presence says that the others are there.
    """
    target = Path(folder)
    if not target.exists():
        temporary.rename(target)
        return
    files = [path for path in temporary.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.name == last, path)):
        destination = target / path.relative_to(temporary)
        destination.parent.mkdir(parents=True, exist_ok=True)
        path.replace(destination)

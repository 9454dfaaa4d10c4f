"""A disk with no room left, however it shows itself, as one error that names the folder."""

import contextlib
import errno
import os
from collections.abc import Iterator

# What the system says where nothing more can be written, and what that means.
_CAUSES = {
    errno.ENOSPC: "the disk is full: free some space on it",
    errno.EDQUOT: "your quota of the disk is used up: free some of it",
    errno.EFBIG: "a file would be larger than is allowed there: raise the limit (ulimit -f)",
}


class DiskFullError(OSError):
    """Nothing more can be written to a folder."""


@contextlib.contextmanager
def full_disk_reported(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turns errors that mean a full disk into one that names the folder and says what to do.

    Args:
        folder: Where everything is written in the meantime.

    Raises:
        DiskFullError: Python or TensorFlow found no room for what they wrote.
    """
    try:
        yield
    except DiskFullError:  # names the folder already
        raise
    except Exception as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise DiskFullError(
            f"could not write to {os.fspath(folder)}, because {cause}, or choose a folder on "
            "another disk"
        ) from error


def _cause(error: Exception) -> str | None:
    """What error a full disk is depends on who writes; None if it is another error."""
    if isinstance(error, OSError):
        return _CAUSES.get(error.errno or 0)
    # TensorFlow is not imported here. Of its errors, which can as well be of a GPU's memory, only
    # the words tell: they end with the system's own.
    if type(error).__module__.partition(".")[0] == "tensorflow":
        for number, cause in _CAUSES.items():
            if os.strerror(number) in str(error):
                return cause
    return None

"""Archives from the web: fetched and unpacked as wholes, however the connection behaves."""

import contextlib
import glob
import gzip
import http.client
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from tqdm import tqdm

from deeplab_tf.data.full_disk import full_disk_reported
from deeplab_tf.data.output import temporary_sibling, write_file

_ATTEMPTS = 4
_FIRST_PAUSE = 1.0  # seconds, doubled each time
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 18
_TRY_AGAIN_LATER = (408, 429, 500, 502, 503, 504)  # HTTP status
_MAX_UNPACKED = 4 << 30  # bytes; the zoo's largest archive has an eighth of it
_DAMAGE = (
    *(tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError),
    NotImplementedError,  # zipfile's, of a compression that it does not know
)


class _Dropped(Exception):
    """An attempt that failed where another one may succeed."""


def default_cache() -> Path:
    """Folder of what is downloaded and unpacked: $DEEPLAB_TF_CACHE, or ~/.cache/deeplab_tf."""
    return Path(os.environ.get("DEEPLAB_TF_CACHE") or "~/.cache/deeplab_tf").expanduser()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lets one process, or thread, at a time work on `path`; the others wait.

    The lock is the system's, so it ends with its holder, however that dies.
    """
    import fcntl  # not on Windows, where everything else of the package works

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"Waiting for another process that is at work on {path}.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(url: str, path: Path) -> None:
    """Downloads a file with a progress bar, going on where an earlier attempt or process ended.

    Connections that drop are taken up again, as long as they bring new bytes; after four failures
    in a row the bytes so far are kept for the next call.

    Args:
        url: Its address, of http or https.
        path: Where it appears when it is complete. Until then `<path>.part` grows, beside
            `<path>.part.json`, which says what it is a part of.

    Raises:
        ConnectionError: The server cannot be reached, or does not give the file.
        DiskFullError: The disk is full; the bytes so far are kept for the next call.
    """
    part = path.with_name(f"{path.name}.part")
    most, failures = _size(part), 0
    while True:
        try:
            _receive(url, part)
            break
        except _Dropped as error:
            # Only new bytes are progress: a server that cannot resume would go on for ever.
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures == _ATTEMPTS:
                raise ConnectionError(f"{url} could not be downloaded: {error}") from error
            pause = _FIRST_PAUSE * 2 ** (failures - 1)
            _say(f"{error}; trying again in {pause:.0f} s.")
            time.sleep(pause)
    part.rename(path)
    _note(part).unlink()


def unpack(archive: Path, folder: Path, *, max_bytes: int = _MAX_UNPACKED) -> None:
    """Unpacks a .tar.gz, .tgz, .tar or .zip to a new folder, which appears with everything in it.

    The caller holds `locked(folder)`.

    Args:
        archive: The archive; its name says what it is.
        folder: The folder.
        max_bytes: What it may unpack to: a small archive can be made to fill any disk.

    Raises:
        ValueError: The archive is damaged, or holds what no model and no data set needs: links,
            devices, names that lead out of the folder, too many bytes. There is no folder then.
    """
    kind = archive.suffix if archive.suffix in (".zip", ".tar") else ".tar.gz"
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.partial-*"):
        shutil.rmtree(leftover)  # of a process that was killed
    with temporary_sibling(folder) as temporary:
        try:
            if kind == ".zip":
                _unpack_zip(archive, temporary, max_bytes)
            else:
                _unpack_tar(archive, temporary, max_bytes, zipped=kind == ".tar.gz")
        except _DAMAGE as error:
            raise ValueError(
                f"{archive} is damaged, or no {kind} ({error}): download it again."
            ) from error
        except ValueError as error:
            raise ValueError(
                f"{archive} was not unpacked: {error}. Expected folders of regular files and "
                "nothing else."
            ) from error
        temporary.rename(folder)


class _Limited:
    """The first bytes of a stream."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = self._left = limit

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {self._limit} bytes")
        return data


def _unpack_tar(archive: Path, folder: Path, max_bytes: int, *, zipped: bool) -> None:
    opener: Callable[..., Any] = gzip.open if zipped else open
    with opener(archive, "rb") as stream:
        limited: Any = _Limited(stream, max_bytes)
        with tarfile.open(fileobj=limited, mode="r|") as tar:
            for member in _shown(tar, archive):
                # A sparse file may claim any size.
                regular = member.isreg() and not member.issparse()
                if not (regular or member.isdir()):
                    raise ValueError(f"{member.name!r} is a link, a device or the like")
                _unpack_member(member.name, tar.extractfile(member) if regular else None, folder)
        while limited.read(_CHUNK):  # gzip's checksum comes last
            pass


def _unpack_zip(archive: Path, folder: Path, max_bytes: int) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        if sum(member.file_size for member in members) > max_bytes:  # none may be longer than said
            raise ValueError(f"it unpacks to more than {max_bytes} bytes")
        for member in _shown(members, archive, total=len(members)):
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
                raise ValueError(f"{member.filename!r} is a link, encrypted or the like")
            source = None if member.is_dir() else zipped.open(member)
            _unpack_member(member.filename, source, folder)


def _shown(members: Iterable[Any], archive: Path, *, total: int | None = None) -> Iterable[Any]:
    # disable=None: no bar where there is no terminal.
    return tqdm(members, desc=f"unpacking {archive.name}", total=total, unit="file", disable=None)


def _unpack_member(name: str, source: IO[bytes] | None, folder: Path) -> None:
    """Writes a file, without the archive's owner and mode; a folder has no source."""
    parts = PureWindowsPath(name)  # it knows both kinds of slash, and drives
    if parts.anchor or ".." in parts.parts:
        raise ValueError(f"{name!r} leads out of its folder")
    path = folder / name
    try:
        if source is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with source, open(path, "xb") as file:
            shutil.copyfileobj(source, file)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise ValueError(f"it has the name {name!r} twice") from None


def _receive(url: str, part: Path) -> None:
    """Asks once for the bytes that `part` lacks.

    Raises:
        _Dropped: It is still incomplete; the next attempt may complete it.
        ConnectionError: There is no such file.
    """
    known = _read_note(part)
    have = _size(part) if known.get("url") == url else 0
    if have and have == known["length"]:
        return
    with _open(url, part, offset=have, validator=known.get("validator")) as response:
        if response.status == 206:
            start, length = _content_range(response.headers["Content-Range"])
            if start != have or known["length"] not in (None, length):
                part.unlink(missing_ok=True)
                raise _Dropped(f"{url} has changed since its first part came")
        else:  # all of it, wanted or not
            have, length = 0, response.length
            part.unlink(missing_ok=True)
            headers = response.headers
            note = {"url": url, "length": length, "validator": _validator(headers)}
            write_file(_note(part), json.dumps(note).encode())
        _append(response, part, initial=have, total=length)
    if length is not None and _size(part) != length:
        raise _Dropped(f"the connection ended after {_size(part)} of {length} bytes")


def _open(url: str, part: Path, *, offset: int, validator: str | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": "deeplab-tf"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator  # all of it, should it be another file by now
    try:
        return urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise _Dropped(f"the server has less of {url} than came before") from error
        if error.code in _TRY_AGAIN_LATER:
            raise _Dropped(f"the server answered {error.code} {error.reason}") from error
        raise ConnectionError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(str(getattr(error, "reason", error))) from error


def _append(
    response: http.client.HTTPResponse, part: Path, *, initial: int, total: int | None
) -> None:
    name = part.name.removesuffix(".part")
    with (
        full_disk_reported(part.parent),
        open(part, "ab") as file,
        tqdm(total=total, initial=initial, desc=name, unit="B", unit_scale=True) as bar,
    ):
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _Dropped(f"the connection dropped: {error}") from error
            if not chunk:
                return
            file.write(chunk)
            bar.update(len(chunk))


def _content_range(value: str | None) -> tuple[int, int | None]:
    """First byte and length of the whole, of a header such as `bytes 100-199/200`."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", value or "")
    return (int(match[1]), int(match[2])) if match else (-1, None)


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What tells this version of a file from others; RFC 9110 wants no weak one in If-Range."""
    etag = headers["ETag"]
    return etag if etag and not etag.startswith("W/") else headers["Last-Modified"]


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, Any]:
    return json.loads(_note(part).read_bytes()) if _note(part).exists() else {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _say(message: str) -> None:
    tqdm.write(message, file=sys.stderr)

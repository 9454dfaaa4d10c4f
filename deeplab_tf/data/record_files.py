"""TFRecord files record by record, with what is damaged in them.

TensorFlow's reader stops at the first damage, does not say which record it is in, and under
`ignore_errors` reads some truncated files for ever. Here it still reads all sound files and the
beginning of the others. From the first damage on the lengths are followed in Python; checksums
still come from TensorFlow, which has no public function for them, but writes them.
"""

import itertools
import mmap
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

# A record: its length, that one's checksum, the data, their checksum.
_LENGTH, _CHECKSUM = 8, 4
_HEADER = _LENGTH + _CHECKSUM
_FRAME = _HEADER + _CHECKSUM

# The high half of the length of a record below 4 GB. Of longer runs of zeros only the ends.
_ZEROS = re.compile(rb"\0(?=\0\0\0(?!\0\0\0\0))")
_CANDIDATES_AT_ONCE = 1000


@dataclass(frozen=True)
class Damage:
    """Something in a file of records that cannot be used.

    Attributes:
        shard: Path of the file.
        record: Number of the record in the file, from 0.
        reason: What is wrong.
    """

    shard: str
    record: int
    reason: str

    def __str__(self) -> str:
        return f"{Path(self.shard).name}, record {self.record}: {self.reason}"


class Record(NamedTuple):
    """One record.

    Attributes:
        number: Its number in the file, from 0; a stretch of damage counts as one record.
        offset: Where its data begin in the file.
        data: The data.
    """

    number: int
    offset: int
    data: bytes


def scan_records(path: str | os.PathLike[str]) -> Iterator[bytes | Damage]:
    """Yields the records of a TFRecord file, and a `Damage` in place of what is no record.

    A record with a wrong checksum is one damage. Where a length is wrong or bytes are missing, the
    damage ends at the next length with a right checksum, and counts as one record whatever it held.
    A wrong length is never allocated, and every file is read to its end once.

    Args:
        path: An uncompressed TFRecord file; an empty one has no records.

    Raises:
        OSError: The file cannot be read.
    """
    return (found.data if isinstance(found, Record) else found for found in scan(path))


def scan(path: str | os.PathLike[str]) -> Iterator[Record | Damage]:
    """As `scan_records`, with the records' places."""
    shard, size = os.fspath(path), os.path.getsize(path)
    # TensorFlow allocates any length with a right checksum, so it is let at no longer ones.
    dataset = tf.data.TFRecordDataset(shard).take(count_records(path))
    number, offset = 0, 0
    try:
        for data in dataset.as_numpy_iterator():
            yield Record(number, offset + _HEADER, data)
            number, offset = number + 1, offset + _FRAME + len(data)
    except tf.errors.DataLossError:
        pass
    if offset < size:
        with (
            open(shard, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            yield from _scan_slowly(content, shard=shard, number=number, offset=offset)


def count_records(path: str | os.PathLike[str]) -> int:
    """Counts the records of a file by their lengths alone, which are not verified."""
    count, size = 0, os.path.getsize(path)
    with open(path, "rb") as file:
        end = _FRAME + int.from_bytes(file.read(_LENGTH), "little")
        while end <= size:
            count += 1
            file.seek(end)
            end += _FRAME + int.from_bytes(file.read(_LENGTH), "little")
    return count


def _scan_slowly(
    content: mmap.mmap, *, shard: str, number: int, offset: int
) -> Iterator[Record | Damage]:
    """As `scan` from a record on, whether it is damaged or not."""
    size = len(content)
    while offset < size:
        header = content[offset : offset + _HEADER]
        end = offset + _FRAME + int.from_bytes(header[:_LENGTH], "little")
        if not _are_headers([header])[0]:
            reason = "the checksum of its length is wrong"
            if offset == 0:
                reason += " (is this a TFRecord file, uncompressed?)"
            if len(header) < _HEADER:
                reason = f"truncated, the file ends {len(header)} bytes behind its beginning"
            end = _next_record(content, offset + 1)
        elif end > size:
            reason = f"truncated, the file ends {size - offset} bytes behind its beginning"
            end = _next_record(content, offset + 1)
        else:
            data = content[offset + _HEADER : end - _CHECKSUM]
            if _checksums([data])[0] == content[end - _CHECKSUM : end]:
                yield Record(number, offset + _HEADER, data)
                number, offset = number + 1, end
                continue
            reason = "the checksum of its data is wrong"
            if end < size and not _are_headers([content[end : end + _HEADER]])[0]:
                # Bytes are missing or too many; or the next record is damaged too.
                end = min(end, _next_record(content, offset + 1))
        yield Damage(shard, number, reason)
        number, offset = number + 1, end


def _next_record(content: mmap.mmap, offset: int) -> int:
    """The first place from `offset` on where a record may begin; the end if there is none."""
    places = (match.start() - 4 for match in _ZEROS.finditer(content, offset + 4))
    places = (place for place in places if _fits(content, place))
    while batch := list(itertools.islice(places, _CANDIDATES_AT_ONCE)):
        headers = [content[place : place + _HEADER] for place in batch]
        for place, is_header in zip(batch, _are_headers(headers), strict=True):
            if is_header:
                return place
    return len(content)


def _fits(content: mmap.mmap, place: int) -> bool:
    length = int.from_bytes(content[place : place + _LENGTH], "little")
    return place + _FRAME + length <= len(content)


def _are_headers(candidates: Sequence[bytes]) -> list[bool]:
    """Whether each is a length with its checksum."""
    checksums = _checksums([candidate[:_LENGTH] for candidate in candidates])
    return [
        candidate[_LENGTH:] == checksum
        for candidate, checksum in zip(candidates, checksums, strict=True)
    ]


def _checksums(contents: Sequence[bytes]) -> list[bytes]:
    """What TensorFlow writes behind each of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "contents")
        with tf.io.TFRecordWriter(path) as writer:
            for content in contents:
                writer.write(content)
        written = Path(path).read_bytes()
    ends = itertools.accumulate(_FRAME + len(content) for content in contents)
    return [written[end - _CHECKSUM : end] for end in ends]

"""Proves the scan of TFRecord files: sound ones as TensorFlow reads them, others to the end."""

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import record_files
from deeplab_tf.data.record_files import Damage, count_records, scan_records

FRAME = 16
SIZES = (300, 0, 70_000, 65_536, 8, 256)
# Where each record begins, and where the last one ends.
STARTS = np.cumsum([0, *(size + FRAME for size in SIZES)]).tolist()


@pytest.fixture
def shard(tmp_path):
    """Records of many sizes, some full of zeros, and what they hold."""
    rng = np.random.default_rng(0)
    records = [rng.bytes(size) for size in SIZES]
    records[2] = b"\0" * 69_000 + records[2][:1000]
    path = tmp_path / "train-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    assert path.stat().st_size == STARTS[-1]
    return path, records


def damages(path):
    return [found for found in scan_records(path) if isinstance(found, Damage)]


def test_a_sound_file_is_what_tensorflow_reads(shard):
    path, records = shard
    assert list(scan_records(path)) == records
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == records
    assert count_records(path) == len(records)


def test_an_empty_file_has_no_records_and_no_damage(tmp_path):
    (tmp_path / "empty").touch()
    assert list(scan_records(tmp_path / "empty")) == []
    with pytest.raises(FileNotFoundError):
        list(scan_records(tmp_path / "absent"))


@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_wrong_data_checksum_costs_that_record_only(shard, number):
    path, records = shard
    flip(path, STARTS[number] + 12)
    records[number] = Damage(str(path), number, "the checksum of its data is wrong")
    assert list(scan_records(path)) == records
    assert str(records[number]) == (
        f"train-00000-of-00001.tfrecord, record {number}: the checksum of its data is wrong"
    )


def test_neighbours_with_wrong_data_are_two_damages(shard):
    path, records = shard
    flip(path, STARTS[2] + 500)
    flip(path, STARTS[4] - 1)
    found = list(scan_records(path))
    assert [type(item) for item in found] == [bytes, bytes, Damage, Damage, bytes, bytes]
    assert found[4:] == records[4:]


@pytest.mark.parametrize("byte", range(12))
@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_wrong_length_costs_that_record_only(shard, number, byte):
    path, records = shard
    flip(path, STARTS[number] + byte)
    found = list(scan_records(path))
    assert "checksum of its length is wrong" in found[number].reason
    assert ("is this a TFRecord file" in found[number].reason) == (number == 0)
    del found[number], records[number]
    assert found == records


@pytest.mark.parametrize("kept", [1, 11, 12, 15, 40])
def test_a_truncated_file_yields_what_came_before(shard, kept):
    path, records = shard
    path.write_bytes(path.read_bytes()[: STARTS[5] + kept])
    *found, damage = scan_records(path)
    assert found == records[:5]
    assert damage.record == 5
    assert damage.reason.startswith("truncated")
    if kept == 40:
        assert damage.reason == "truncated, the file ends 40 bytes behind its beginning"


@pytest.mark.parametrize("lost", [(STARTS[2] + 50, STARTS[2] + 90), (STARTS[1] + 3, STARTS[3])])
def test_bytes_lost_in_the_middle_cost_the_records_they_were_of(shard, lost):
    path, records = shard
    content = path.read_bytes()
    path.write_bytes(content[: lost[0]] + content[lost[1] :])
    assert len(damages(path)) == 1
    sound = [found for found in scan_records(path) if isinstance(found, bytes)]
    assert sound == [r for r, s in zip(records, STARTS, strict=False) if not lost_of(s, r, lost)]


def lost_of(start, record, lost):
    return start < lost[1] and start + FRAME + len(record) > lost[0]


@pytest.mark.parametrize("content", [b"not a record " * 1000, bytes(5000), b"\x1f\x8b" + b"z" * 99])
def test_other_files_are_one_damage(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    (damage,) = scan_records(tmp_path / "file")
    assert "is this a TFRecord file" in damage.reason


def test_a_forged_length_is_not_allocated(shard, tmp_path, monkeypatch):
    """With its right checksum TensorFlow would allocate it."""
    path, records = shard
    length = (2**40).to_bytes(8, "little")
    with tf.io.TFRecordWriter(str(tmp_path / "length")) as writer:
        writer.write(length)
    forged = length + (tmp_path / "length").read_bytes()[-4:]
    path.write_bytes(path.read_bytes() + forged + b"x" * 100)
    tracemalloc.start()
    *found, damage = scan_records(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert found == records
    assert damage.reason == "truncated, the file ends 112 bytes behind its beginning"


def test_many_places_that_look_like_a_length_do_not_hide_the_next_record(shard, monkeypatch):
    path, records = shard
    monkeypatch.setattr(record_files, "_CANDIDATES_AT_ONCE", 10)
    rubbish = b"\x07\0\0\0\0\0\0\0abcd" * 500
    path.write_bytes(rubbish + path.read_bytes())
    damage, *found = scan_records(path)
    assert damage.record == 0
    assert found == records


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)

"""What train.py looks at before its first step."""

import numpy as np
import pytest

from deeplab_tf.data.doctor import sample
from tests.data.doctor import record_folders, trees


def sampled(root, info, *, crop_size=(33, 33), max_scale_factor=2.0):
    findings = sample.examine_sample(
        root,
        info=info,
        splits=tuple(info.splits),
        crop_size=crop_size,
        max_scale_factor=max_scale_factor,
    )
    return {(finding.kind.code, finding.files) for finding in findings}


def one_shard(root, *labels):
    examples = [
        record_folders.example(f"{index}", label=trees.encoded(label))
        for index, label in enumerate(labels)
    ]
    (name,) = record_folders.write_shards(root, "train", [examples])
    return name, record_folders.describe(root, train=len(labels))


def test_clean_records(tmp_path):
    record_folders.clean(tmp_path / "records")
    info = record_folders.describe(tmp_path / "records", train=3, val=1)
    assert sampled(tmp_path / "records", info) == set()


def test_faulty_records(tmp_path):
    """All that is seeded but for what needs pixels, and what is no news before every run."""
    expected = record_folders.faulty(tmp_path)
    info = record_folders.describe(tmp_path, train=19, val=4)
    shard = "train-00000-of-00003.tfrecord"
    expected = {
        (code, files)
        for code, files in expected
        if not files[0].startswith(("test", "spare"))
        and code not in ("D113", "D202", "D203", "D205", "D310", "D504")
        and files != (f"{shard}, record 1 (cut)",)
        and files != (f"{shard}, record 16",)
    }
    # The first file has 17 records; 32 in all are 16 of each of the two that are not empty.
    assert sampled(tmp_path, info) == expected


def test_classes_not_seen_are_one_note(tmp_path):
    _, info = one_shard(tmp_path, trees.scene((0, 1)))
    assert sampled(tmp_path, info) == {("D405", ())}


def test_black_and_white_labels(tmp_path):
    name, info = one_shard(tmp_path, np.where(trees.scene() == 2, 255, 0).astype(np.uint8))
    assert sampled(tmp_path, info) == {("D106", (f"{name}, record 0 (0)",)), ("D405", ())}


def test_one_class_in_all_is_an_error_only_if_all_were_seen(tmp_path):
    flat = trees.scene([1])
    _, info = one_shard(tmp_path / "small", *[flat] * 3)
    assert "D401" in {code for code, _ in sampled(tmp_path / "small", info)}
    _, info = one_shard(tmp_path / "large", *[flat] * 40)
    assert "D401" not in {code for code, _ in sampled(tmp_path / "large", info)}


@pytest.mark.parametrize(
    ("crop_size", "max_scale_factor", "warned"),
    [((96, 144), 2.0, False), ((96, 144), 1.9, True), ((513, 144), 2.0, False)],
)
def test_crops_that_are_mostly_padding(tmp_path, crop_size, max_scale_factor, warned):
    record_folders.clean(tmp_path)
    info = record_folders.describe(tmp_path, train=3, val=1)
    found = sampled(tmp_path, info, crop_size=crop_size, max_scale_factor=max_scale_factor)
    assert found == ({("D406", ())} if warned else set())


def test_the_sample_is_bounded_and_spread(tmp_path, monkeypatch):
    shards = [[record_folders.example(f"{i}_{j}") for j in range(5)] for i in range(20)]
    record_folders.write_shards(tmp_path, "train", shards)
    info = record_folders.describe(tmp_path, train=100)
    seen = []
    look = sample.StoredRecord.look
    monkeypatch.setattr(
        sample.StoredRecord,
        "look",
        lambda record, **options: seen.append(record.shard) or look(record, **options),
    )
    assert sampled(tmp_path, info) == set()
    assert 16 <= len(seen) <= 32
    assert len(set(seen)) >= 4 and "-00000-" in seen[0] and int(seen[-1][6:11]) >= 15

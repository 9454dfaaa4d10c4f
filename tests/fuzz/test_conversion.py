"""Conversions: a folder of sound records, or an error that names a file and leaves nothing."""

import numpy as np
from PIL import Image

from deeplab_tf.data import damage, records
from deeplab_tf.data.convert import convert_samples
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.pairing import folder_splits
from deeplab_tf.data.reading import FileReader
from deeplab_tf.data.record_files import Damage, scan_records
from tests.fuzz.inputs import both_sizes, mutate, random_numbers, within

NAMES = ("a", "b", "c", "d")


def write_tree(root):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number, name in enumerate(NAMES):
        image = Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8))
        image.save(root / f"images/{name}.{'jpg' if number % 2 else 'png'}")
        mask = Image.fromarray(rng.integers(0, 3, (8, 9)).astype(np.uint8))
        mask.convert("P" if number == 3 else "L").save(root / f"masks/{name}.png")
    (root / "train.txt").write_text("a\nb\nc\n")
    (root / "val.txt").write_text("d\n")


def convert(root, output):
    splits = folder_splits(
        image_dir=root / "images",
        mask_dir=root / "masks",
        list_files={split: root / f"{split}.txt" for split in ("train", "val")},
    )
    convert_samples(
        splits,
        output_dir=output,
        name="fuzz",
        read=FileReader(),
        class_names=None,
        num_shards=2,
    )


@both_sizes(6, 300)
def test_conversion(count, tmp_path):
    write_tree(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    converted = 0
    for number, rng in enumerate(random_numbers("conversions of a folder", count)):
        spoilt = files[rng.integers(len(files))]
        spoilt.write_bytes(mutate(contents[spoilt], rng))
        output = tmp_path / f"out_{number}" / "records"
        output.parent.mkdir()
        try:
            within(60, convert, tmp_path, output)
        except (OSError, ValueError) as error:
            assert str(tmp_path) in str(error) or "the masks" in str(error).lower(), repr(error)
            assert not output.exists(), "half a folder is left"
        else:
            converted += 1
            check(output)
        spoilt.write_bytes(contents[spoilt])
    assert converted > count // 10


def check(folder):
    """Every file is there and every record is sound."""
    info = DatasetInfo.load(folder)
    for split, count in info.splits.items():
        found = [item for path in records.split_files(folder, split) for item in scan_records(path)]
        assert len(found) == count
        assert not any(isinstance(item, Damage) for item in found)
        assert [damage.record_damage(item) for item in found] == [None] * count

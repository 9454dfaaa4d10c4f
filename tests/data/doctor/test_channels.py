"""Images of other channels and bits: what is found is what was seeded, against what they are."""

import numpy as np
import pytest

from deeplab_tf.data import pairing
from deeplab_tf.data.channels import extensions
from deeplab_tf.data.convert import convert_samples
from deeplab_tf.data.reading import FileReader
from tests.data.doctor import channel_sets, trees
from tests.data.doctor.test_sample import sampled
from tests.data.doctor.test_trees import examined, found
from tests.data.test_channels import npy_of, png_of, tiff_of

KINDS = [(1, 8), (2, 8), (4, 8), (6, 8), (1, 16), (2, 16), (3, 16), (4, 16), (6, 16)]
TREES = {
    channel_sets.infrared: (4, 16, (0, 40000)),
    channel_sets.grey: (1, 8, None),
    channel_sets.deep_rgb: (3, 16, None),
    channel_sets.twelve_bits: (1, 16, None),
}
# They need the pixels, or are no news before every run.
NOT_SAMPLED = ("D201", "D204", "D213", "D407", "D408")


def as_images(channels, bits, value_range=None):
    read = FileReader(input_channels=channels, bit_depth=bits)
    return {"read": read, "value_range": value_range, "class_names": trees.NAMES}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_clean_images_of_every_kind(tmp_path, kind):
    """As files, as records, and before training: nothing, and the same figures."""
    channels, bits = kind
    tree = trees.Tree(tmp_path / "tree", "images", "masks")
    for index in range(6):
        pixels = channel_sets.values(f"{index}", channels, bits)
        if index % 2 or channels > 4:
            tree.pair(f"{index}.npy", npy_of(pixels))
        elif index % 4 or channels == 2:
            tree.pair(f"{index}.png", png_of(pixels))
        else:
            tree.pair(f"{index}.tif", tiff_of(pixels))
    files = examined(tmp_path / "tree", **as_images(channels, bits))
    assert files.findings == ()
    assert files.proposals.decoded_bytes == 6 * 24 * 36 * (channels * bits // 8 + 1)
    samples = pairing.folder_samples(
        image_dir=tmp_path / "tree/images",
        mask_dir=tmp_path / "tree/masks",
        image_extensions=extensions(input_channels=channels, bit_depth=bits),
    )
    conversion = convert_samples(
        {"all": samples},
        output_dir=tmp_path / "records",
        name="tiny",
        read=FileReader(input_channels=channels, bit_depth=bits),
        class_names=trees.NAMES,
        input_channels=channels,
        bit_depth=bits,
        value_range=(0, 2**bits - 1),
    )
    stored = examined(tmp_path / "records")
    assert stored.findings == ()
    assert stored.splits == files.splits and stored.proposals == files.proposals
    assert stored.images == files.images
    assert sampled(tmp_path / "records", conversion.info) == set()


@pytest.mark.parametrize("write", TREES, ids=lambda write: write.__name__)
def test_what_is_seeded_in_files_is_found(tmp_path, write):
    expected = write(tmp_path)
    channels, bits, value_range = TREES[write]
    assert found(examined(tmp_path, **as_images(channels, bits, value_range))) == expected


@pytest.mark.parametrize(
    "write",
    [channel_sets.six_planes, channel_sets.stored_infrared, channel_sets.stored_grey],
    ids=lambda write: write.__name__,
)
def test_what_is_seeded_in_records_is_found(tmp_path, write):
    info, expected = write(tmp_path)
    assert found(examined(tmp_path)) == expected
    headers = {(code, files) for code, files in expected if code not in NOT_SAMPLED}
    notes = {("D201", files) for _, files in expected if files and "notes" in files[0]}
    assert sampled(tmp_path, info) == headers | notes


def test_records_without_a_description_are_read_as_the_flags_say(tmp_path):
    channel_sets.six_planes(tmp_path)
    (tmp_path / "dataset.json").unlink()
    report = examined(tmp_path, **as_images(6, 16))
    assert ("D501", ("dataset.json",)) in found(report)
    assert {code for code, _ in found(report)} >= {"D210", "D211"}
    first = "train-00000-of-00001.tfrecord, record 0 (fine)"
    assert all(first not in files for _, files in found(report))


def test_a_large_image_of_many_channels_is_no_bomb(tmp_path):
    """Pillow refuses 179 million pixels; so many are 20 planes of 3000x3000."""
    rows, width = 20 * 3000, 3000
    header = bytearray(channel_sets.encode_png(np.zeros((1, 1, 1), np.uint16))[:26])
    header[16:24] = width.to_bytes(4) + rows.to_bytes(4)
    info, _ = channel_sets.records_of(
        tmp_path,
        {"a": ("", bytes(header))},
        channels=20,
        bits=16,
        value_range=(0, 65535),
    )
    assert {code for code, _ in sampled(tmp_path, info)} == {"D301", "D510"}


@pytest.mark.parametrize(
    ("value_range", "code"),
    [((0, 255), None), ((20, 180), "D407"), ((-1000, 1000), "D408"), ((-100, 300), None)],
)
def test_values_of_photos_against_a_range_that_is_given(tmp_path, value_range, code):
    trees.folders(tmp_path, [trees.scene()])
    report = examined(tmp_path, **as_images(3, 8, value_range))
    assert [finding.kind.code for finding in report.findings] == ([code] if code else [])
    if code:
        assert report.findings[0].fix.endswith("--value_range=0,255 would be all.")


@pytest.mark.parametrize(("low", "code"), [(299, None), (300, None), (301, "D407")])
def test_the_lowest_value_counts_as_the_highest(tmp_path, low, code):
    tree = trees.Tree(tmp_path, "images", "masks")
    tree.pair("a", png_of(channel_sets.values("a", 1, 16, 3700) + np.uint16(300)))
    report = examined(tmp_path, **as_images(1, 16, (low, 4000)))
    assert [finding.kind.code for finding in report.findings] == ([code] if code else [])


def test_dark_photos_are_what_they_are(tmp_path):
    tree = trees.Tree(tmp_path, "images", "masks")
    tree.pair("dark", png_of(channel_sets.values("dark", 3, 8, 9)))
    assert examined(tmp_path, class_names=trees.NAMES).findings == ()


def test_the_text_says_what_images_are_taken_for(tmp_path):
    channel_sets.infrared(tmp_path)
    text = examined(tmp_path, **as_images(4, 16, (0, 40000))).text()
    assert "\n16-bit images of 4 channels, 0 to 40000 become 0 to 255\n" in text
    assert "decoded to 16 bits" in text

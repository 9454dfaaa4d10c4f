"""Readers of converters: a result that TensorFlow reads alike, or an error that names the file."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deeplab_tf.data import class_table, pairing, records
from deeplab_tf.data.images import read_rgb
from deeplab_tf.data.reading import FileReader
from tests.fuzz.inputs import both_sizes, counts, examples, mutate, random_numbers, within

SIZE = (11, 9)


def encoded(pixels, image_format, mode=None, **options):
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, image_format, **options)
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a picture"
    return exif


RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, SIZE).astype(np.uint8)
IMAGES = [
    encoded(RGB, "JPEG"),
    encoded(RGB, "JPEG", progressive=True, exif=turned()),
    encoded(RGB, "JPEG", "L"),
    encoded(RGB, "JPEG", "CMYK"),
    encoded(RGB, "PNG"),
    encoded(RGB, "PNG", "RGBA"),
    encoded(RGB, "PNG", "P"),
    encoded(RGB, "PNG", exif=turned()),
    encoded(RGB[..., 0].astype(np.uint16) * 257, "PNG"),
    encoded(RGB, "TIFF", compression="tiff_lzw"),
    encoded(RGB[..., 0].astype(np.float32), "TIFF"),
    encoded(RGB, "BMP"),
    encoded(RGB, "GIF"),
    encoded(RGB, "WEBP"),
]
MASKS = [
    encoded(LABELS, "PNG"),
    encoded(LABELS, "PNG", "P"),
    encoded(LABELS, "PNG", "RGB"),
    encoded(LABELS > 0, "PNG"),
    encoded(LABELS.astype(np.uint16), "PNG"),
    encoded(LABELS, "TIFF"),
    encoded(LABELS.astype(np.int32), "TIFF"),
    encoded(LABELS, "BMP"),
    encoded(LABELS, "GIF"),
]
TABLE = class_table.ColorTable(
    ("black", "nearly"), ((0, 0, 0), (1, 1, 1)), {(0, 0, 0): 0, (1, 1, 1): 1, (2, 2, 2): 255}
)
READERS = [
    FileReader(),
    FileReader(mask_type="index"),
    FileReader(mask_type="palette"),
    FileReader(color_table=TABLE),
    FileReader(label_map={0: 0, 1: 1, 2: 1}),
]


@both_sizes(40, 1200)
def test_pairs_of_files(count, tmp_path):
    usable = 0
    for rng in random_numbers("pairs of image and mask", count):
        image, mask = (list_[rng.integers(len(list_))] for list_ in (IMAGES, MASKS))
        # Half of the pairs have one damaged file only.
        which = rng.integers(0, 4)
        sample = pairing.Sample("sample", tmp_path / "image.xyz", tmp_path / "mask.xyz")
        sample.image_path.write_bytes(image if which == 0 else mutate(image, rng))
        sample.mask_path.write_bytes(mask if which == 1 else mutate(mask, rng))
        reader = READERS[rng.integers(len(READERS))]
        try:
            pair = within(20, reader, sample)
        except (OSError, ValueError) as error:
            assert "image.xyz" in str(error) or "mask.xyz" in str(error), repr(error)
            continue
        usable += 1
        image = records.decode_image(tf.constant(pair.image.data)).numpy()
        assert image.shape == (*pair.mask.labels.shape, 3)
        assert image.shape[:2] == pair.image.size
        label = records.decode_label(tf.constant(pair.mask.png)).numpy()
        np.testing.assert_array_equal(label, pair.mask.labels)
    assert usable > count // 20


@both_sizes(15, 300)
def test_plain_images(count, tmp_path):
    path = tmp_path / "image.xyz"
    for rng in random_numbers("images", count):
        path.write_bytes(mutate(IMAGES[rng.integers(len(IMAGES))], rng))
        try:
            image = within(20, read_rgb, path)
        except (OSError, ValueError) as error:
            assert "image.xyz" in str(error), repr(error)
            continue
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)


# Rows of tables and lists as they are, and text that is none.
LINES = st.one_of(
    st.sampled_from(
        [
            "0 0 0 road",
            "road,1,2,3",
            "r g b name",
            "# note",
            "",
            "sky\t7 7 7",
            "256 0 0 x",
            "void 1 1 1",
        ]
    ),
    st.text(max_size=12),
)
TEXTS = st.one_of(
    st.lists(LINES, max_size=5).map(lambda lines: "\n".join(lines).encode(errors="surrogatepass")),
    st.binary(max_size=40),
)


@both_sizes(15, 300)
@pytest.mark.parametrize("reader", ["names", "colors"])
def test_tables(count, reader, tmp_path):
    path = tmp_path / "table.txt"

    @examples(count)
    @given(TEXTS)
    def check(data):
        counts["class tables"] += 1
        path.write_bytes(data)
        try:
            if reader == "names":
                names = class_table.read_class_names(path)
                assert names and all(name == name.strip() != "" for name in names)
            else:
                table = class_table.read_color_table(path, ignore_label=255)
                assert len(table.class_names) == len(table.palette) == len(set(table.class_names))
                assert set(table.labels.values()) - {255} == set(range(len(table.class_names)))
        except (OSError, ValueError) as error:
            assert "table.txt" in str(error), repr(error)

    check()


@both_sizes(10, 200)
def test_split_lists(count, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b.c", "d"):
            (tmp_path / folder / f"{name}.png").touch()
    path = tmp_path / "list.txt"
    names = st.one_of(st.sampled_from(["a", "b.c", "d", "a.png", "b", ""]), st.text(max_size=6))
    texts = st.one_of(
        st.lists(names, max_size=4).map(lambda n: "\n".join(n).encode(errors="surrogatepass")),
        st.binary(max_size=20),
    )

    @examples(count)
    @given(texts)
    def check(data):
        counts["split lists"] += 1
        path.write_bytes(data)
        try:
            splits = pairing.folder_splits(
                image_dir=tmp_path / "images",
                mask_dir=tmp_path / "masks",
                list_files={"train": path},
            )
        except (OSError, ValueError) as error:
            assert "list.txt" in str(error), repr(error)
            return
        assert all(sample.image_path.is_file() for sample in splits["train"])

    check()

"""Finding, reading and writing image files, checked with Pillow."""

import os

import numpy as np
import pytest
from PIL import Image

from deeplab_tf import image_files
from deeplab_tf.colormap import colorize, voc_colormap
from deeplab_tf.image_files import file_examples, find_images, write_label_png, write_png


@pytest.fixture
def folder(tmp_path):
    for name in ["b/2.png", "b/1.JPG", "b/deep/3.webp", "a/1.jpg", "a[1].png", "b/.hidden.png"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (4, 3), (9, 8, 7)).save(path)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(files, folder):
    return [file.relative_to(folder).as_posix() for file in files]


def test_finds_files_folders_and_patterns(folder):
    found = find_images([folder / "b", str(folder / "a" / "1.jpg")])
    assert names(found, folder) == ["b/1.JPG", "b/2.png", "b/deep/3.webp", "a/1.jpg"]
    found = find_images([folder / "*" / "1.*", folder / "b"])
    assert names(found, folder) == ["a/1.jpg", "b/1.JPG", "b/2.png", "b/deep/3.webp"]
    assert names(find_images([folder / "a[1].png"]), folder) == ["a[1].png"]
    assert names(find_images([folder / "b" / "notes.txt"]), folder) == ["b/notes.txt"]


@pytest.mark.parametrize("path", ["missing.jpg", "empty", "*/*.bmp", "b/*.txt"])
def test_no_images_is_an_error(folder, path):
    with pytest.raises(FileNotFoundError, match="No images found in"):
        find_images([folder / "a", folder / path])


def test_file_examples_are_named_below_their_common_folder(folder):
    examples = list(file_examples(find_images([folder / "a", folder / "b"])))
    expected = ["a/1.jpg", "b/1.JPG", "b/2.png", "b/deep/3.webp"]
    assert [example["filename"] for example in examples] == [os.path.normpath(n) for n in expected]
    np.testing.assert_array_equal(examples[2]["image"], np.full((3, 4, 3), (9, 8, 7)))
    (alone,) = file_examples([folder / "b" / "2.png"])
    assert alone["filename"] == "2.png"


def test_a_damaged_file_is_named(folder):
    path = folder / "b" / "2.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"2\.png"):
        list(file_examples([path]))


def test_pngs_hold_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "new" / "image.png", image)
    np.testing.assert_array_equal(Image.open(tmp_path / "new" / "image.png"), image)
    labels = rng.integers(0, 3, (5, 7))
    palette = voc_colormap(3)[::-1]
    write_label_png(tmp_path / "labels.png", labels, palette)
    with Image.open(tmp_path / "labels.png") as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(written, labels)
        np.testing.assert_array_equal(written.convert("RGB"), colorize(labels, palette))
    write_label_png(tmp_path / "raw.png", labels, palette=None)
    with Image.open(tmp_path / "raw.png") as written:
        assert written.mode == "L"
        np.testing.assert_array_equal(written, labels)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    def disk_full(*_):
        raise OSError("disk full")

    path = tmp_path / "image.png"
    write_png(path, np.zeros((2, 2, 3), np.uint8))
    before = path.read_bytes()
    monkeypatch.setattr(image_files.os, "replace", disk_full)
    with pytest.raises(OSError, match="disk full"):
        write_png(path, np.ones((2, 2, 3), np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]

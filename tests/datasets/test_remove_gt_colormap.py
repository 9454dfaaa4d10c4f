import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data import records

VALUES = np.array([*range(21), 255], np.uint8)


@pytest.fixture
def masks(tmp_path):
    """Palette masks of all VOC labels, as SegmentationClass holds them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "SegmentationClass"
    folder.mkdir()
    for name in ("2007_000032", "2007_000039"):
        mask = Image.fromarray(rng.choice(VALUES, (20, 30)))
        mask.putpalette(voc_colormap().tobytes())
        mask.save(folder / f"{name}.png")
    return folder


@pytest.fixture
def convert(script, tmp_path):
    """A function that runs the script and returns the masks written, by name."""

    def run(folder, **values):
        output = tmp_path / "SegmentationClassRaw"
        script("remove_gt_colormap", original_gt_folder=folder, output_dir=output, **values)
        return {path.name: path for path in output.iterdir()}

    return run


def assert_same_labels(written, masks):
    """Pillow gives a palette image's indices: what the reference writes."""
    assert sorted(written) == sorted(path.name for path in masks.iterdir())
    for name, path in written.items():
        with Image.open(masks / name) as mask, Image.open(path) as raw:
            assert (mask.mode, raw.mode) == ("P", "L")
            np.testing.assert_array_equal(np.asarray(raw), np.asarray(mask))


def test_palette_masks_become_their_indices(convert, masks):
    assert_same_labels(convert(masks), masks)


def test_rgb_masks_are_read_by_vocs_colours(convert, masks, tmp_path):
    colored = tmp_path / "rgb"
    colored.mkdir()
    for path in masks.iterdir():
        with Image.open(path) as mask:
            mask.convert("RGB").save(colored / path.name)
    assert_same_labels(convert(colored), masks)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_grey_rgb_is_a_colour_too(convert, tmp_path, mode):
    (tmp_path / "in").mkdir()
    Image.new(mode, (3, 2), (128, 128, 128)).save(tmp_path / "in/car.png")
    with Image.open(convert(tmp_path / "in")["car.png"]) as raw:
        assert np.asarray(raw).tolist() == [[7] * 3] * 2


def test_masks_of_indices_keep_their_bytes(convert, tmp_path):
    (tmp_path / "in").mkdir()
    original = tmp_path / "in/a.png"
    Image.fromarray(VALUES[np.newaxis]).save(original, compress_level=0)
    assert convert(tmp_path / "in")["a.png"].read_bytes() == original.read_bytes()


def test_faults_are_named_and_nothing_is_written(convert, masks, tmp_path):
    Image.new("RGB", (4, 4), (1, 2, 3)).save(masks / "foreign.png")
    (masks / "broken.png").write_bytes((masks / "2007_000032.png").read_bytes()[:60])
    with pytest.raises(SystemExit, match="2 problem") as error:
        convert(masks)
    assert "foreign.png: 16 of 16 pixels have 1 colours that are not" in str(error.value)
    assert "broken.png: damaged" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["SegmentationClass"]


def test_folders_that_do_not_suit(convert, masks, tmp_path):
    with pytest.raises(SystemExit, match=r"folder of masks .*absent not found"):
        convert(tmp_path / "absent")
    with pytest.raises(SystemExit, match=r"SegmentationClass holds no \*\.tif file"):
        convert(masks, segmentation_format="tif")
    convert(masks)
    with pytest.raises(SystemExit, match="not empty"):
        convert(masks)
    Image.new("L", (4, 4), 3).save(masks / "2007_000032.png")
    with Image.open(convert(masks, overwrite=True)["2007_000032.png"]) as raw:
        assert np.unique(raw).tolist() == [3]


def test_voc_records_are_the_same_with_and_without_this_step(convert, script, masks, tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "lists").mkdir()
    names = sorted(path.stem for path in masks.iterdir())
    (tmp_path / "lists/val.txt").write_text("\n".join(names))
    for name in names:
        Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / f"JPEGImages/{name}.jpg")
    convert(masks)
    written = []
    for folder in ("SegmentationClass", "SegmentationClassRaw"):
        script(
            "build_voc2012_data",
            image_folder=tmp_path / "JPEGImages",
            semantic_segmentation_folder=tmp_path / folder,
            list_folder=tmp_path / "lists",
            image_format="jpg",
            output_dir=tmp_path / f"records_{folder}",
        )
        files = records.split_files(tmp_path / f"records_{folder}", "val")
        written.append([record.numpy() for record in tf.data.TFRecordDataset(files)])
    assert len(written[0]) == 2
    assert written[0] == written[1]

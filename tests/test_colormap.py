"""Palettes against the reference's recorded ones; painting against Pillow's palette images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.colormap import VOID_COLOR, cityscapes_colormap, colorize, voc_colormap

GOLDEN = Path(__file__).parent / "golden" / "colormaps.npz"


@pytest.mark.golden
def test_palettes_equal_the_reference():
    with np.load(GOLDEN) as golden:
        np.testing.assert_array_equal(voc_colormap(512), golden["pascal"])
        np.testing.assert_array_equal(cityscapes_colormap(), golden["cityscapes"][:19])
    assert voc_colormap().dtype == cityscapes_colormap().dtype == np.uint8
    np.testing.assert_array_equal(voc_colormap(3), voc_colormap()[:3])


def test_void_is_the_color_of_voc():
    np.testing.assert_array_equal(voc_colormap()[255], VOID_COLOR)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_colorize_equals_a_palette_image(dtype):
    labels = np.random.default_rng(0).integers(0, 19, (20, 30))
    labels[3:6, 4:9] = 255
    image = Image.fromarray(labels.astype(np.uint8))
    colors = voc_colormap()  # void at 255
    colors[:19] = cityscapes_colormap()
    image.putpalette(colors.tobytes())
    expected = np.asarray(image.convert("RGB"))
    palettes = cityscapes_colormap(), cityscapes_colormap().tolist()
    for palette in palettes:
        painted = colorize(labels.astype(dtype), palette, ignore_label=255)
        assert painted.dtype == np.uint8
        np.testing.assert_array_equal(painted, expected)


def test_an_ignored_class_is_painted_as_void():
    painted = colorize(np.array([0, 1]), [(1, 2, 3), (4, 5, 6)], ignore_label=0)
    np.testing.assert_array_equal(painted, [VOID_COLOR, (4, 5, 6)])


@pytest.mark.parametrize("label", [-1, 2, 255])
def test_a_label_without_color_is_an_error(label):
    with pytest.raises(ValueError, match=f"Label {label} has no colour: expected 0 to 1"):
        colorize(np.array([0, 1, label]), [(1, 2, 3), (4, 5, 6)])

"""Colours for label maps: the published palettes, and painting class ids with a palette."""

from collections.abc import Sequence

import numpy as np

# PASCAL VOC's colour for void, which is also entry 255 of its colour map.
VOID_COLOR = (224, 224, 192)

_CITYSCAPES_TRAIN_ID_COLORS = (
    (128, 64, 128),  # road
    (244, 35, 232),  # sidewalk
    (70, 70, 70),  # building
    (102, 102, 156),  # wall
    (190, 153, 153),  # fence
    (153, 153, 153),  # pole
    (250, 170, 30),  # traffic light
    (220, 220, 0),  # traffic sign
    (107, 142, 35),  # vegetation
    (152, 251, 152),  # terrain
    (70, 130, 180),  # sky
    (220, 20, 60),  # person
    (255, 0, 0),  # rider
    (0, 0, 142),  # car
    (0, 0, 70),  # truck
    (0, 60, 100),  # bus
    (0, 80, 100),  # train
    (0, 0, 230),  # motorcycle
    (119, 11, 32),  # bicycle
)


def voc_colormap(n: int = 256) -> np.ndarray:
    """Returns the PASCAL VOC palette, which serves any data set without colours of its own.

    The bits of the class id are dealt out to red, green and blue in turn, the lowest bits to the
    highest bit of the colour, so that neighbouring ids look different (VOC development kit).

    Args:
        n: Number of colours, at least 0. The first 256 are VOC's; all are different up to 2**24.

    Returns:
        uint8 [n, 3], RGB.
    """
    ids = np.arange(n)[:, np.newaxis] >> np.arange(3)
    colors = np.zeros((n, 3), np.uint8)
    for bit in range(8):
        colors |= ((ids >> 3 * bit & 1) << 7 - bit).astype(np.uint8)
    return colors


def cityscapes_colormap() -> np.ndarray:
    """Returns the Cityscapes palette of the 19 evaluated classes, in train id order.

    Returns:
        uint8 [19, 3], RGB.
    """
    return np.array(_CITYSCAPES_TRAIN_ID_COLORS, np.uint8)


def colorize(
    labels: np.ndarray,
    palette: np.ndarray | Sequence[Sequence[int]],
    *,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Paints class ids with their colours.

    Args:
        labels: Integer [...], class ids in [0, len(palette)) or `ignore_label`.
        palette: RGB colours in 0..255, [classes, 3].
        ignore_label: Id painted in `VOID_COLOR`, even where it is also a class id. None: no void.

    Returns:
        uint8 [..., 3], RGB.

    Raises:
        ValueError: If a label has no colour.
    """
    colors = np.asarray(palette, np.uint8)
    void = np.zeros(labels.shape, bool) if ignore_label is None else labels == ignore_label
    ids = np.where(void, 0, labels)
    if ids.size and (ids.min() < 0 or ids.max() >= len(colors)):
        wrong = ids[(ids < 0) | (ids >= len(colors))][0]
        raise ValueError(
            f"Label {wrong} has no colour: expected 0 to {len(colors) - 1}"
            + (f" or the ignore label {ignore_label}." if ignore_label is not None else ".")
        )
    painted = np.take(colors, ids, axis=0)
    painted[void] = VOID_COLOR
    return painted

"""What panels are made of: pictures in a row under their titles, a legend, lines of text.

Pictures are uint8 [h, w, 3], RGB. Text is drawn by OpenCV, whose font needs no file on the user's
machine.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

# A panel is looked at as a whole on a screen: its images are brought into this range.
_MIN_PANE_SIDE = 256
_MAX_PANE_SIDE = 1280
_MIN_TEXT_HEIGHT = 14
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK = (32, 32, 32)
_PAPER = 255


def text_height(pane: np.ndarray) -> int:
    """The height of text, in pixels, that suits a picture."""
    return max(_MIN_TEXT_HEIGHT, max(pane.shape) // 32)


def fit(pane: np.ndarray, reduction: int) -> np.ndarray:
    """Enlarges by a whole factor, or reduces, into the range of sides that a panel shows well.

    Args:
        pane: uint8 [h, w, 3].
        reduction: OpenCV's interpolation for large ones.
    """
    height, width = pane.shape[:2]
    side = max(height, width)
    if side > _MAX_PANE_SIDE:
        factor = _MAX_PANE_SIDE / side
        size = max(1, round(width * factor)), max(1, round(height * factor))
        return cv2.resize(pane, size, interpolation=reduction)
    factor = math.ceil(_MIN_PANE_SIDE / side)
    return pane.repeat(factor, axis=0).repeat(factor, axis=1)


def side_by_side(panes: list[np.ndarray], titles: list[str], text_height: int) -> np.ndarray:
    """Sets pictures in a row, each under its title; `text_height` is in pixels."""
    captions = [text_line(title, text_height) for title in titles]
    columns = [stack(caption, pane) for caption, pane in zip(captions, panes, strict=True)]
    tallest = max(column.shape[0] for column in columns)
    columns = [_grown(column, height=tallest) for column in columns]
    gap = np.full((tallest, text_height // 2, 3), _PAPER, np.uint8)
    parts = [part for column in columns for part in (gap, column)]
    return np.hstack(parts[1:])


def legend(
    entries: list[tuple[Sequence[int], str]], heading: str, width: int, text_height: int
) -> np.ndarray:
    """Sets the entries in as many columns as fit into the width, but always at least one."""
    cells = []
    for color, text in entries:
        name = text_line(text, text_height)
        swatch = np.full((name.shape[0], 2 * text_height, 3), _PAPER, np.uint8)
        box = (0, text_height // 4), (3 * text_height // 2, name.shape[0] - text_height // 4)
        cv2.rectangle(swatch, *box, tuple(map(int, color)), cv2.FILLED)
        cv2.rectangle(swatch, *box, (128, 128, 128), 1)
        cells.append(np.hstack([swatch, name]))
    cell_height = cells[0].shape[0]
    cell_width = max(cell.shape[1] for cell in cells)
    columns = max(1, width // cell_width)
    rows = math.ceil(len(cells) / columns)
    grid = np.full((rows * cell_height, columns * cell_width, 3), _PAPER, np.uint8)
    for i, cell in enumerate(cells):
        column, row = divmod(i, rows)
        top, left = row * cell_height, column * cell_width
        grid[top : top + cell_height, left : left + cell.shape[1]] = cell
    return stack(text_line(heading, text_height), grid)


def text_line(text: str, height: int) -> np.ndarray:
    """Returns a strip of paper with one line of text, as long as the text needs."""
    (_, unit), _ = cv2.getTextSize("Ag", _FONT, 1.0, 1)
    scale = height / unit
    thickness = max(1, height // 20)
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    # The reserve sets entries apart; and OpenCV 5 breaks the line at the edge of the picture.
    strip = np.full((round(1.7 * height), width + height, 3), _PAPER, np.uint8)
    cv2.putText(strip, text, (1, round(1.2 * height)), _FONT, scale, _INK, thickness, cv2.LINE_AA)
    return strip


def stack(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Sets one picture over the other, on paper as wide as the wider one."""
    width = max(top.shape[1], bottom.shape[1])
    return np.vstack([_grown(top, width=width), _grown(bottom, width=width)])


def sheet(row: np.ndarray, below: np.ndarray, margin: int) -> np.ndarray:
    """Sets one picture over the other, on a sheet with a blank margin."""
    stacked = stack(row, below)
    return np.pad(stacked, ((margin,) * 2, (margin,) * 2, (0, 0)), constant_values=_PAPER)


def percent(share: float) -> str:
    """A share in 0..1 as text."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _grown(picture: np.ndarray, *, height: int = 0, width: int = 0) -> np.ndarray:
    """With paper below and to the right."""
    below, right = (
        max(0, wanted - side)
        for wanted, side in zip((height, width), picture.shape[:2], strict=True)
    )
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=_PAPER)

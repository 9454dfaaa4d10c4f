"""Text that says what the values of a mask mean: class names, colour tables, label maps."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

# Rows of a colour table with one of these names are void, not a class.
_VOID_NAMES = ("void", "ignore")

_SEPARATOR = r"(?:\s*,\s*|\s+)"
_COLOR = _SEPARATOR.join([r"(\d+)"] * 3)
_COLOR_FIRST = re.compile(_COLOR + _SEPARATOR + r"(\S.*)")
_NAME_FIRST = re.compile(r"(\S.*?)" + _SEPARATOR + _COLOR)


@dataclass(frozen=True)
class ColorTable:
    """Classes by colour.

    Attributes:
        class_names: One name per class.
        palette: One RGB colour per class, the first that the table gives it.
        labels: Label value by RGB colour; several colours may share a class, void has the ignore
            label.
    """

    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    labels: dict[tuple[int, int, int], int]


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads class names, one a line, the first line being label 0.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty or has an empty line before its end.
    """
    names = tuple(line.strip() for line in read_text(path).rstrip().splitlines())
    if not names:
        raise ValueError(f"{path}: expected one class name a line, found an empty file")
    if "" in names:
        raise ValueError(
            f"{path}: line {names.index('') + 1} is empty, but each line is the name of one label"
        )
    return names


def read_color_table(path: str | os.PathLike[str], *, ignore_label: int) -> ColorTable:
    """Reads a colour table: `r g b name` or `name r g b` a line, by spaces, tabs or commas.

    Classes are numbered in the order of their first line. Lines with the same name give one class
    several colours. A line named "void" or "ignore" gives the colour of void pixels. A first line
    without numbers is a header; lines that start with `#` are comments.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is no such line, a colour has two names, or there is no class.
    """
    class_names: list[str] = []
    palette: list[tuple[int, int, int]] = []
    labels: dict[tuple[int, int, int], int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#") or (number == 1 and not re.search(r"\d", text)):
            continue
        try:
            name, color = _parse_color_line(text)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        if name.lower() in _VOID_NAMES:
            label = ignore_label
        else:
            if name not in class_names:
                class_names.append(name)
                palette.append(color)
            label = class_names.index(name)
        if labels.setdefault(color, label) != label:
            raise ValueError(f"{path}, line {number}: colour {color} already has another name")
    if not class_names:
        raise ValueError(f"{path}: expected lines `r g b name`, found no class")
    return ColorTable(tuple(class_names), tuple(palette), labels)


def parse_label_map(entries: list[str]) -> dict[int, int]:
    """Parses `["0:0", "255:1"]` to `{0: 0, 255: 1}`: value in the mask -> label.

    Raises:
        ValueError: An entry is not `<value>:<label 0..255>` or a value comes twice.
    """
    label_map: dict[int, int] = {}
    for entry in entries:
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", entry)
        if not match or int(match[2]) > 255:
            raise ValueError(
                f"label map entry {entry!r} is not <value in the mask>:<label 0..255>, "
                "such as 0:0,255:1"
            )
        if int(match[1]) in label_map:
            raise ValueError(f"label map gives the value {match[1]} two labels")
        label_map[int(match[1])] = int(match[2])
    return label_map


def _parse_color_line(text: str) -> tuple[str, tuple[int, int, int]]:
    if match := _COLOR_FIRST.fullmatch(text):
        r, g, b, name = match.groups()
    elif match := _NAME_FIRST.fullmatch(text):
        name, r, g, b = match.groups()
    else:
        raise ValueError(f"expected `r g b name`, found {text!r}")
    color = (int(r), int(g), int(b))
    if max(color) > 255:
        raise ValueError(f"colours must be 0..255, found {color}")
    return name, color


def read_text(path: str | os.PathLike[str]) -> str:
    """Reads a text file that people write.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"file {path} not found")
    try:
        # Spreadsheets and Windows editors put a byte order mark in front of the first name.
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8 ({error}); save it as such") from None

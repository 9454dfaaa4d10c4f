"""The parts of a report's HTML. All text that comes from outside is escaped here."""

import base64
import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from deeplab_tf.colormap import VOID_COLOR
from deeplab_tf.evaluation.gallery import Exhibit

VIEWS = ("image", "truth", "prediction", "error")

_COLUMNS = (("iou", "IoU"), ("f1", "F1 (Dice)"), ("accuracy", "accuracy"))


def tiles(scores: dict[str, Any]) -> str:
    """The numbers of the whole split, each in a box."""
    low, high = scores["mean_iou_interval"]
    interval = "" if low is None else f"95 % interval {_number(low)} to {_number(high)}"
    boxes = [
        ("mean IoU", scores["mean_iou"], interval),
        ("pixel accuracy", scores["pixel_accuracy"], ""),
        ("mean accuracy", scores["mean_accuracy"], ""),
        ("mean F1 (Dice)", scores["mean_f1"], ""),
        ("weighted IoU", scores["frequency_weighted_iou"], "by the labels' pixels"),
    ]
    if boundary := scores.get("boundary_iou"):
        width = f"{boundary['dilation_ratio']:.0%} of the diagonal"
        boxes.append(("boundary IoU", boundary["mean"], width))
    if calibration := scores.get("calibration"):
        mended = ""
        if calibration["temperature"] is not None:
            error = _number(calibration["ece_with_temperature_of_other_half"])
            mended = f"{error} with a temperature of {calibration['temperature']:.3f}"
        boxes.append(("calibration error", calibration["ece"], mended))
    return "\n".join(
        f'<div><dt>{name}</dt><dd class="value">{_number(value)}</dd>'
        f'<dd class="extra">{extra}</dd></div>'
        for name, value, extra in boxes
    )


def class_table(scores: dict[str, Any], palette: Sequence[Sequence[int]]) -> str:
    """The scores of each class, to be sorted by any column."""
    columns = [*_COLUMNS]
    of_classes = scores["classes"]
    if boundary := scores.get("boundary_iou"):
        columns.append(("boundary", "boundary IoU"))
        pairs = zip(of_classes, boundary["classes"], strict=True)
        of_classes = [{**row, "boundary": outline["iou"]} for row, outline in pairs]
    total = max(sum(row["pixels"] for row in of_classes), 1)
    heads = [("text", "class"), *(("number", title) for _, title in columns), ("number", "pixels")]
    head = "".join(
        f'<th scope="col" data-sort="{kind}"><button type="button">{title}</button></th>'
        for kind, title in heads
    )
    rows = []
    for row, color in zip(of_classes, palette, strict=True):
        name, share = escape(row["name"]), row["pixels"] / total
        cells = [f'<td data-value="{name}">{_swatch(color)}{name}</td>']
        cells += [_bar_cell(row[field]) for field, _ in columns]
        cells.append(f'<td data-value="{row["pixels"]}">{share:.2%}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _section(
        "Classes",
        "A dash: the class is in no label. Where it was predicted all the same, the means of IoU "
        "and F1 count it as 0. Click on a heading to sort.",
        f'<div class="wide"><table id="classes"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>",
    )


def chart_section(title: str, lead: str, charts: Iterable[tuple[str, bytes]], kind: str) -> str:
    """PNG charts with their captions."""
    figures = "\n".join(
        f'<figure class="chart {kind}"><img alt="{escape(caption)}" src="{_data_uri(png, "png")}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, png in charts
    )
    return _section(title, lead, f'<div class="charts">{figures}</div>')


def gallery_section(
    title: str,
    lead: str,
    exhibits: Sequence[Exhibit],
    class_names: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> str:
    """Images with a divider between two of their views."""
    figures = "\n".join(_exhibit(exhibit, class_names, palette) for exhibit in exhibits)
    choices = [_choice("left", "image"), _choice("right", "prediction")]
    return _section(
        title,
        lead,
        f'<p class="views">{" ".join(choices)} of the divider, in all pictures; drag it, or use '
        f'the arrow keys.</p>\n<div class="gallery">\n{figures}\n</div>',
    )


def embedded_json(scores: dict[str, Any]) -> str:
    """JSON as the text of a script element, which no string in it can end."""
    return json.dumps(scores, ensure_ascii=False).replace("<", "\\u003c")


def _exhibit(exhibit: Exhibit, class_names: Sequence[str], palette: Sequence[Sequence[int]]) -> str:
    height, width = exhibit.size
    name = escape(exhibit.name)
    pictures = "".join(
        f'<img data-view="{view}" alt="{view} of {name}" '
        f'src="{_data_uri(getattr(exhibit, view), "jpeg" if view == "image" else "png")}">'
        for view in VIEWS
    )
    mistake = "nothing is wrong"
    if exhibit.mistake is not None:
        label, predicted = (escape(class_names[i]) for i in exhibit.mistake)
        mistake = f"{exhibit.mistake_share:.1%} is {label} taken for {predicted}"
    entries = "".join(
        f"<li>{_swatch(color)}{escape(text)}</li>"
        for color, text in [
            *((palette[i], class_names[i]) for i in exhibit.classes),
            (VOID_COLOR, "void"),
        ]
    )
    return (
        f'<figure class="exhibit"><div class="stack" data-left="image" data-right="prediction" '
        f'style="aspect-ratio:{width}/{height};--at:50">{pictures}<b></b><b></b>'
        f'<input type="range" min="0" max="100" value="50" aria-label="Divider of {name}"></div>'
        f'<figcaption><span class="name">{name}</span><br>mean IoU {_number(exhibit.mean_iou)}, '
        f"{exhibit.pixel_accuracy:.1%} of the pixels right; {mistake}"
        f'<ul class="legend">{entries}</ul></figcaption></figure>'
    )


def _section(title: str, lead: str, content: str) -> str:
    return f'<section>\n<h2>{title}</h2>\n<p class="lead">{lead}</p>\n{content}\n</section>'


def _choice(side: str, chosen: str) -> str:
    options = "".join(
        f"<option{' selected' if view == chosen else ''}>{view}</option>" for view in VIEWS
    )
    return f'<label>{side} <select data-side="{side}">{options}</select></label>'


def _bar_cell(value: float | None) -> str:
    if value is None:
        return '<td class="bar" data-value="">&ndash;</td>'
    return (
        f'<td class="bar" data-value="{value:.6f}"><i style="--share:{value:.4f}"></i>'
        f"<span>{_number(value)}</span></td>"
    )


def _swatch(color: Sequence[int]) -> str:
    red, green, blue = map(int, color)
    return f'<span class="swatch" style="background:rgb({red} {green} {blue})"></span>'


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _number(value: float | None) -> str:
    return "&ndash;" if value is None or math.isnan(value) else f"{value:.4f}"

"""An evaluation as one HTML file that needs nothing else: tables, charts, and images to look into.

The page asks no network for anything: styles, script, charts and images are inside. `page` makes
its parts, `template.html`, `style.css` and `script.js` are the rest.
"""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from deeplab_tf.evaluation.gallery import MAX_BYTES, MAX_SIDE
from deeplab_tf.evaluation.split_scores import SplitScores
from deeplab_tf.report import page
from deeplab_tf.visualization.plots import confusion_png, reliability_png, trimap_png

__all__ = ["report_html"]


def report_html(
    scores: SplitScores,
    result: dict[str, Any],
    *,
    class_names: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> str:
    """Returns the report of an evaluation.

    Args:
        scores: What was measured.
        result: What eval.py writes as JSON: the scores, and "checkpoint", "dataset", "split",
            "output_stride" and "inference". Every number on the page is from there.
        class_names: One name per class.
        palette: RGB colours in 0..255, [classes, 3].
    """
    sections = [page.class_table(result, palette), *_charts(scores, class_names)]
    if scores.gallery is not None:
        sections += _galleries(scores, class_names, palette)
    parts = files(__name__)
    return Template(parts.joinpath("template.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{result['dataset']}, {result['split']}"),
        facts=escape(_facts(result)),
        style=parts.joinpath("style.css").read_text(encoding="utf-8"),
        script=parts.joinpath("script.js").read_text(encoding="utf-8"),
        tiles=page.tiles(result),
        sections="\n".join(sections),
        json=page.embedded_json(result),
        note=_note(scores),
    )


def _charts(scores: SplitScores, class_names: Sequence[str]) -> list[str]:
    sections = [
        page.chart_section(
            "Confusion matrix",
            "Of each class's pixels, a row, the shares that are predicted as each class.",
            [
                (
                    "Rows are labels, columns are predictions.",
                    confusion_png(scores.confusion, class_names),
                )
            ],
            "matrix",
        )
    ]
    curves = []
    if scores.trimaps:
        around = scores.trimap_around
        picture = trimap_png(scores.trimaps, scores.whole, around=around)
        curves.append((f"Scores in bands around {around}, by their width.", picture))
    if scores.calibration is not None:
        picture = reliability_png(scores.calibration.reliability)
        curves.append(("Reliability: accuracy by confidence, of all pixels.", picture))
    if curves:
        lead = "How the scores depend on the distance to a border, and accuracy on confidence."
        sections.append(page.chart_section("Curves", lead, curves, "curve"))
    return sections


def _galleries(
    scores: SplitScores, class_names: Sequence[str], palette: Sequence[Sequence[int]]
) -> list[str]:
    assert scores.gallery is not None
    kinds = (
        ("Worst images", "Those with the lowest mean IoU of the image.", scores.gallery.worst),
        ("Random images", "Chosen blindly among all images.", scores.gallery.random),
    )
    return [
        page.gallery_section(title, lead, exhibits, class_names, palette)
        for title, lead, exhibits in kinds
        if exhibits
    ]


def _facts(result: dict[str, Any]) -> str:
    inference = result["inference"]
    scales = ", ".join(f"{scale:g}" for scale in inference["eval_scales"])
    parts = [
        f"{result['checkpoint']}",
        f"{result['images']} images",
        f"output stride {result['output_stride']}",
        f"scales {scales}" if scales != "1" else "",
        "mirrored too" if inference["add_flipped_images"] else "",
        "with CRF" if inference["crf"] else "",
    ]
    return " · ".join(filter(None, parts))


def _note(scores: SplitScores) -> str:
    count = 0
    if scores.gallery is not None:
        count = len(scores.gallery.worst) + len(scores.gallery.random)
    most = count * MAX_BYTES * 4 / 3 / 1e6
    return (
        "Made by deeplab_tf's eval.py; docs/evaluation.md defines the measures. The "
        f"{count} images are reduced to {MAX_SIDE} pixels and take {most:.0f} MB at most. All "
        "scores are of the full size. In the error view wrong pixels are red, right ones pale and "
        "void ones grey."
    )

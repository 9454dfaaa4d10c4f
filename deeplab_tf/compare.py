"""`python -m deeplab_tf.compare a.json b.json`: two evaluations on the same images, compared."""

import json
import os
import sys
from typing import Any

from deeplab_tf.evaluation import bootstrap
from deeplab_tf.evaluation.image_scores import ImageCounts


def compare_scores(
    first: str | os.PathLike[str], second: str | os.PathLike[str]
) -> bootstrap.Comparison:
    """Compares two evaluations by the paired bootstrap, see `bootstrap.compare`.

    Args:
        first: A scores_<split>.json of eval.py, beside the image_counts_<split>.npz it names.
        second: Another one.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is something else, or the evaluations are not of the same images.
    """
    (scores, counts), (other_scores, other_counts) = _load(first), _load(second)
    for what, a in _shared(scores).items():
        b = _shared(other_scores)[what]
        if a != b:
            raise ValueError(
                f"{first} is of the {what} {a}, {second} of {b}: only evaluations on the same "
                "images can be compared."
            )
    return bootstrap.compare(counts, other_counts, _shared(scores)["class names"])


def _load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], ImageCounts]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} not found: expected the scores_<split>.json of eval.py.")
    try:
        with open(path, encoding="utf-8") as file:
            scores = json.load(file)
        name = scores["image_counts"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is no scores_<split>.json of eval.py, or an older one, without counts of each "
            "image: evaluate that checkpoint again."
        ) from error
    return scores, ImageCounts.load(os.path.join(os.path.dirname(path), name))


def _shared(scores: dict[str, Any]) -> dict[str, Any]:
    """What two evaluations must share for their images to be pairs."""
    names = [row["name"] for row in scores["classes"]]
    return {"dataset": scores["dataset"], "split": scores["split"], "class names": names}


if __name__ == "__main__":
    from deeplab_tf import cli

    sys.argv[0] = "compare"  # what messages begin with, not compare.py
    cli.run(cli.compare, "compare", paths=2)

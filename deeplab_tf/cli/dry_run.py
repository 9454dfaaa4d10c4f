"""What train.py would do, as text: every setting, the size and cost of the network."""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from deeplab_tf.config import AugmentationConfig
from deeplab_tf.model_card import ModelCard
from deeplab_tf.model_info import model_info
from deeplab_tf.presets import Recipe

_WIDTH = 100


def description(
    card: ModelCard,
    *,
    recipe: Recipe | None,
    train_split: str,
    initial_checkpoint: str | None,
) -> str:
    """Everything that a training run would be, to read before it starts.

    Args:
        card: The run.
        recipe: What it comes from, if that has a name.
        train_split: Split it would train on.
        initial_checkpoint: Weights it would start from.
    """
    info = card.dataset
    lines = []
    if recipe is not None:
        lines += [recipe.source, _published(recipe)]
        lines += textwrap.wrap(recipe.remarks, _WIDTH, break_on_hyphens=False)
    lines += [
        "",
        f"data      {train_split} of {info.name}, {info.splits[train_split]} images, "
        f"{info.num_classes} classes",
        f"weights   {initial_checkpoint or 'from scratch'}",
        f"epochs    {_epochs(card, train_split):.1f}",
    ]
    for part in ("model", "data", "train", "inference"):
        lines += ["", f"{part}  (* not the default)", *_fields(getattr(card, part))]
    return "\n".join([*lines, "", str(model_info(card.model, card.data.crop_size))])


def _published(recipe: Recipe) -> str:
    before = recipe.mean_iou_before_crf
    alone = "" if before is None else f", {before:.2f} before the CRF"
    return f"published: mean IoU {recipe.mean_iou:.2f} % on {recipe.val_split}{alone}"


def _epochs(card: ModelCard, train_split: str) -> float:
    images = card.train.training_number_of_steps * card.data.batch_size
    return images / max(card.dataset.splits[train_split], 1)


def _fields(config: Any) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, AugmentationConfig):
            yield from _fields(value)
            continue
        mark = " " if value == field.default else "*"
        shown = "none" if value is None or value == () else value
        yield f"{mark} {field.name:<35}{shown}"

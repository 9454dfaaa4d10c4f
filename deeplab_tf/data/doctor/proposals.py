"""What the figures of a data set suggest for training on it and scoring it."""

import math
from dataclasses import dataclass

from deeplab_tf.config import DataConfig
from deeplab_tf.data.class_weights import median_frequency_weights
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.classes import Classes, role
from deeplab_tf.data.doctor.kinds import Finding
from deeplab_tf.data.doctor.survey import SplitSurvey, Survey

# From this ratio of the largest to the smallest label weight on, classes are called imbalanced.
_IMBALANCE = 10


@dataclass(frozen=True)
class Proposals:
    """Settings and sizes.

    Attributes:
        label_weights: One weight per class, by median frequency; None if there are no classes.
        weights_split: The split they are of.
        eval_crop_size: Smallest (height, width) of the form k * output_stride + 1 that no image
            exceeds.
        output_stride: The output stride that this is for.
        decoded_bytes: All images, with the bits and channels they have, and labels, uint8.
        train_bytes: Logits, softmax and gradient of a batch of `DataConfig`'s default crops.
        eval_bytes: Logits and probabilities of an image as large as the largest sides.
    """

    label_weights: tuple[float, ...] | None
    weights_split: str | None
    eval_crop_size: tuple[int, int]
    output_stride: int
    decoded_bytes: int
    train_bytes: int | None
    eval_bytes: int | None


def propose(survey: Survey, classes: Classes, *, output_stride: int) -> Proposals:
    """Makes the proposals from the sums over a data set."""
    num_classes = _num_classes(survey, classes)
    split = _training_split(survey)
    weights = None
    if num_classes is not None and split is not None:
        weights = label_weights(
            survey.splits[split], num_classes=num_classes, ignore_label=classes.ignore_label
        )
    height, width = (legal_crop(side, output_stride) for side in survey.largest)
    data = DataConfig()
    pixel_bytes = None if num_classes is None else 4 * num_classes
    return Proposals(
        label_weights=weights,
        weights_split=split if weights else None,
        eval_crop_size=(height, width),
        output_stride=output_stride,
        decoded_bytes=survey.decoded_bytes,
        train_bytes=pixel_bytes and 3 * pixel_bytes * data.batch_size * math.prod(data.crop_size),
        eval_bytes=pixel_bytes and 2 * pixel_bytes * math.prod(survey.largest),
    )


def legal_crop(side: int, output_stride: int) -> int:
    """The smallest k * output_stride + 1, k >= 1, that is no less than a side."""
    return max(math.ceil((side - 1) / output_stride), 1) * output_stride + 1


def label_weights(
    split: SplitSurvey, *, num_classes: int, ignore_label: int
) -> tuple[float, ...] | None:
    """What `--label_weights=auto` would find, see `class_weights.median_frequency_weights`."""
    pixels = split.pixels[:num_classes].copy()
    if ignore_label < num_classes:
        pixels[ignore_label] = 0
    return median_frequency_weights(pixels, split.pixels_of_shown[:num_classes])


def imbalance(proposals: Proposals) -> list[Finding]:
    """A note if the proposed weights are far apart."""
    weights = proposals.label_weights
    if weights is None or max(weights) < _IMBALANCE * min(weights):
        return []
    found = f"proposed weights of {min(weights):g} to {max(weights):g}"
    return [Finding(kinds.CLASSES_IMBALANCED, (), found)]


def _num_classes(survey: Survey, classes: Classes) -> int | None:
    if classes.names is not None:
        return len(classes.names)
    values = [label for label in survey.labels() if label != classes.ignore_label]
    return len(values) if len(values) > 1 and values == list(range(len(values))) else None


def _training_split(survey: Survey) -> str | None:
    """The split "train", else the first that is for training, else the first."""
    order = sorted(survey.splits, key=lambda name: (name != "train", role(name) != "train"))
    return order[0] if order else None

"""What the labels of a data set are taken to mean, and which of its splits belong apart."""

import re
from dataclasses import dataclass

from deeplab_tf.data.doctor.looks import Color

# trainval is the union of both, as are lists of any other name for all we know.
_ROLE = re.compile(r"(train|val|test)(?!val)")


@dataclass(frozen=True)
class Classes:
    """The classes of a data set.

    Attributes:
        names: One name per class; None where nothing says them.
        palette: One RGB colour per class, if they have colours of their own.
        ignore_label: Label of void pixels.
        origin: Where the names are from.
    """

    names: tuple[str, ...] | None
    palette: tuple[Color, ...] | None
    ignore_label: int
    origin: str

    def is_class(self, label: int) -> bool:
        """Whether a label may be found in a mask, void included."""
        return self.names is None or label < len(self.names) or label == self.ignore_label

    def name(self, label: int) -> str:
        """What a label is called."""
        if label == self.ignore_label and (self.names is None or label >= len(self.names)):
            return "void"
        if self.names is not None and label < len(self.names):
            return self.names[label]
        return f"class_{label}" if self.names is None else "no class"


def role(split: str) -> str | None:
    """What a split is for, "train", "val" or "test"; None if it is a union or something else."""
    match = _ROLE.match(split)
    return match[1] if match else None


def belong_apart(splits: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether two splits among these should have no image in common."""
    first, second = ({role(split) for split in group} - {None} for group in (splits, others))
    return any(a != b for a in first for b in second)

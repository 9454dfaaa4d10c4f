"""What the label values that masks turn out to hold say of the classes, and of what went wrong."""

from collections.abc import Sequence

import numpy as np

from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data.masks import describe_values


def label_hint(
    found: Sequence[int], *, class_names: Sequence[str] | None, ignore_label: int
) -> str:
    """Guesses why the label values of all masks do not suit the classes, and says what helps."""
    values = [label for label in found if label != ignore_label]
    held = f"All masks together hold the values {describe_values(np.array(found))}"
    if class_names is not None:
        held += f"; there are {len(class_names)} classes (0..{len(class_names) - 1})"
    held += f", ignore label {ignore_label}. "
    script = "datasets/build_folder_data.py"
    if len(found) == 2 and found[0] == 0:
        return held + (
            f"They look like binary masks: {script} --label_map=0:0,{found[1]}:1 makes "
            f"{found[1]} class 1."
        )
    if len(values) > 40:
        return held + "So many mean grey pictures, or masks resized or smoothed by interpolation."
    if class_names is not None and values == list(range(len(class_names) + 1)):
        return held + (
            "There is one value more than names: does the list of class names lack the "
            "background (the name of value 0)?"
        )
    renumbered = ",".join(f"{value}:{index}" for index, value in enumerate(values))
    return held + (
        f"To number the values found from 0: {script} --label_map={renumbered} (a value to ignore: "
        f"<value>:{ignore_label}). Otherwise give a --class_names_file with a name for every label."
    )


def derive_class_names(found: Sequence[int], *, ignore_label: int, hint: str) -> tuple[str, ...]:
    """Numbers the classes that the masks show: "class_0", ...

    Args:
        found: All values in them, rising.
        ignore_label: Label of void pixels.
        hint: What the error says of other values, as from `label_hint`.

    Raises:
        ValueError: The values are not 0..n-1.
    """
    classes = set(found) - {ignore_label}
    if not classes:
        raise ValueError(f"the masks hold nothing but the ignore label {ignore_label}")
    num_classes = max(classes) + 1
    if not set(found) >= set(range(num_classes)) - {ignore_label}:
        raise ValueError(f"class names are not given, and the labels found have gaps. {hint}")
    return tuple(f"class_{index}" for index in range(num_classes))


def choose_palette(
    mask_palette: np.ndarray | None, num_classes: int
) -> tuple[tuple[int, int, int], ...]:
    """A colour for each class: the masks' own if they tell the classes apart, else VOC's.

    Args:
        mask_palette: uint8 [colours, 3]; None if the masks have none.
        num_classes: Number of classes.
    """
    colors = voc_colormap(num_classes)
    if mask_palette is not None:
        candidate = mask_palette[:num_classes]
        # Palettes that are absent, incomplete or a grey ramp tell no classes apart.
        distinct = len(np.unique(candidate, axis=0)) == num_classes
        if distinct and (candidate != candidate[:, :1]).any():
            colors = candidate
    return tuple((r, g, b) for r, g, b in colors.tolist())

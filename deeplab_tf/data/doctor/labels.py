"""Whether the labels of all masks together suit the classes."""

import numpy as np

from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.classes import Classes, role
from deeplab_tf.data.doctor.kinds import Finding, Kind
from deeplab_tf.data.doctor.survey import Survey
from deeplab_tf.data.masks import describe_values

_SCRIPT = "datasets/build_folder_data.py"


def examine_labels(survey: Survey, classes: Classes) -> list[Finding]:
    """Returns the findings about labels: those of single masks, or the one that explains them.

    Args:
        survey: The sums over the data set.
        classes: What its labels are taken to mean.
    """
    found = survey.labels()
    if not found:
        return survey.no_class
    values = [label for label in found if label != classes.ignore_label]
    cause = _common_cause(found, values, classes)
    if cause is not None:
        kind, text, fix = cause
        label = classes.ignore_label if kind is kinds.VOID_IS_FOREGROUND else values[-1]
        explained = tuple(finding.files[0] for finding in survey.no_class)
        return [Finding(kind, explained or survey.masks_with(label), text, fix)]
    findings = list(survey.no_class)
    if classes.names is None and values != list(range(len(values))):
        text = f"all masks together hold {describe_values(np.array(values))}"
        fix = f"Give --class_names_file, or number them from 0: {_SCRIPT} {_renumbering(values)}"
        findings.append(Finding(kinds.LABELS_HAVE_GAPS, survey.masks_with(values[-1]), text, fix))
    if len(values) < 2:
        text = f"all masks together hold {describe_values(np.array(found))}"
        findings.append(Finding(kinds.ONE_CLASS_IN_ALL, survey.masks_with(found[0]), text))
    else:
        findings += _absent_classes(survey, classes, values)
    return findings


def _common_cause(
    found: list[int], values: list[int], classes: Classes
) -> tuple[Kind, str, str] | None:
    """The one reason for what all masks hold: its kind, what was found, and the fix."""
    text = f"all masks together hold {describe_values(np.array(found))}"
    ignored = classes.ignore_label
    names = classes.names
    binary = len(found) == 2 and found[0] == 0 and found[1] > 1
    if binary and found[1] == ignored and (names is None or ignored >= len(names)):
        fix = f"Convert with {_SCRIPT} --label_map=0:0,{ignored}:1 --class_names=background,object."
        return kinds.VOID_IS_FOREGROUND, text, fix
    from_one = values == list(range(1, len(values) + 1)) and ignored != 0
    if from_one and (names is None or len(values) == len(names)):
        fix = f"Renumber with {_SCRIPT} {_renumbering(values)}"
        return kinds.LABELS_START_AT_ONE, text, fix
    if names is not None and values == list(range(len(names) + 1)):
        text += f"; there are {len(names)} names, {names[0]} to {names[-1]}"
        fix = f"Add the name of class 0, often the background, before {names[0]}."
        return kinds.BACKGROUND_WITHOUT_NAME, text, fix
    return None


def _absent_classes(survey: Survey, classes: Classes, values: list[int]) -> list[Finding]:
    findings = []
    for label in range(len(classes.names or ())):
        if label not in values and label != classes.ignore_label:
            text = f"class {label}, {classes.name(label)}"
            findings.append(Finding(kinds.CLASS_NEVER_OCCURS, (), text))
    shows = {name: split.shown for name, split in survey.splits.items() if split.shown.any()}
    for label in filter(classes.is_class, values):
        for name, shown in shows.items():
            if not shown[label] and role(name) is not None:
                others = ", ".join(other for other in shows if shows[other][label])
                text = f"class {label}, {classes.name(label)}, is not in {name}, but in {others}"
                findings.append(Finding(kinds.CLASS_NOT_IN_SPLIT, (), text))
    return findings


def _renumbering(values: list[int]) -> str:
    return "--label_map=" + ",".join(f"{value}:{index}" for index, value in enumerate(values))

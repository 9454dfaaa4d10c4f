"""What the doctor says: as text to read, and as JSON for scripts."""

import json
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deeplab_tf.config import DataConfig
from deeplab_tf.data.doctor.classes import Classes
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.kinds import KINDS, SEVERITIES, Finding, Kind, Severity
from deeplab_tf.data.doctor.proposals import Proposals
from deeplab_tf.data.masks import describe_values

_SHOWN = 3
_SHOWN_LABELS = 40
_WIDTH = 100
_JSON_VERSION = 1


@dataclass(frozen=True)
class SplitFigures:
    """Number of images of a split, and of pixels by label that occurs."""

    images: int
    pixels: dict[int, int]


@dataclass(frozen=True)
class Report:
    """Everything that was found.

    Attributes:
        path: The folder examined.
        description: What it was taken for.
        classes: What its labels were taken to mean.
        images: What its images were taken to hold.
        splits: Figures by split.
        findings: Sorted by code.
        proposals: Settings for this data.
    """

    path: str
    description: str
    classes: Classes
    images: ImageSpec
    splits: dict[str, SplitFigures]
    findings: tuple[Finding, ...]
    proposals: Proposals

    def counts(self) -> dict[Severity, int]:
        """Number of findings by severity."""
        found = [finding.kind.severity for finding in self.findings]
        return {severity: found.count(severity) for severity in SEVERITIES}

    def fails(self, fail_on: Severity) -> bool:
        """Whether there is a finding of that severity or a worse one."""
        worse = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
        return any(finding.kind.severity in worse for finding in self.findings)

    def to_json(self) -> str:
        """All of it; the form is in docs/doctor.md."""
        names, ignore_label = self.classes.names, self.classes.ignore_label
        fields: dict[str, Any] = {
            "version": _JSON_VERSION,
            "path": self.path,
            "taken_for": self.description,
            "class_names": names,
            "ignore_label": ignore_label,
            "splits": {name: asdict(figures) for name, figures in self.splits.items()},
            "counts": self.counts(),
            "findings": [_finding_to_json(finding) for finding in self.findings],
            "proposals": asdict(self.proposals),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    def text(self) -> str:
        """The findings by kind, with the first few files, then classes and proposals."""
        names = self.classes.names
        meaning = f"{len(names)} classes ({self.classes.origin})" if names else "no class names"
        lines = [
            f"{self.path}: {self.description}",
            f"{meaning}, ignored label {self.classes.ignore_label}",
        ]
        if self.images != ImageSpec():
            low, high = self.images.value_range
            lines.append(f"{self.images.describe()}, {low:g} to {high:g} become 0 to 255")
        for kind, findings in _by_kind(self.findings):
            lines += ["", *_group_lines(kind, findings)]
        totals = [f"{count} {severity}(s)" for severity, count in self.counts().items() if count]
        lines += ["", f"Found: {', '.join(totals) if totals else 'nothing'}."]
        lines += ["", *self._class_lines(), "", *self._proposal_lines()]
        return "\n".join(lines)

    def _class_lines(self) -> Iterator[str]:
        """A table of every label's share of the pixels, by split."""
        labels = list(range(len(self.classes.names or ())))
        found = {label for figures in self.splits.values() for label in figures.pixels}
        void, others = self.classes.ignore_label, sorted(found.difference(labels))
        if self.classes.names is None:
            labels, others = others[:_SHOWN_LABELS], others[_SHOWN_LABELS:]
        rows = {f"{label:>5}  {self.classes.name(label)}": [label] for label in labels}
        if void in others:
            rows[f"{void:>5}  void"] = [void]
            others.remove(void)
        if others:
            rows[f"other  {describe_values(np.array(others), limit=3)}"] = others
        width = max(map(len, rows), default=5)
        heads = [f"{name} ({figures.images})" for name, figures in self.splits.items()]
        widths = [max(len(head) + 2, 10) for head in heads]
        columns = list(zip(self.splits.values(), widths, strict=True))
        cells = "".join(f"{head:>{w}}" for head, w in zip(heads, widths, strict=True))
        yield f"{'label  class':<{width}}{cells}"
        for row, members in rows.items():
            cells = ""
            for figures, w in columns:
                pixels = sum(figures.pixels.get(label, 0) for label in members)
                share = pixels / max(sum(figures.pixels.values()), 1)
                cells += f"{100 * share:>{w - 2}.2f} %"
            yield f"{row:<{width}}{cells}"

    def _proposal_lines(self) -> Iterator[str]:
        asked = self.proposals
        if asked.label_weights:
            yield f"Label weights by median frequency of {asked.weights_split}, for train.py:"
            flags = [f"--label_weights={weight:g}" for weight in asked.label_weights]
            lines = list(_indented(" ".join(flags)))
            yield from [*(f"{line} \\" for line in lines[:-1]), lines[-1]]
        height, width = asked.eval_crop_size
        yield f"Smallest crop of k * {asked.output_stride} + 1 that holds every image, for eval.py:"
        yield f"    --eval_crop_size={height},{width}"
        yield "Memory, estimated:"
        decoded = f"decoded to {self.images.bit_depth} bits"
        yield f"    {_bytes(asked.decoded_bytes)} for all images and labels, {decoded}"
        if asked.train_bytes is not None and asked.eval_bytes is not None:
            data = DataConfig()
            crops = f"{data.batch_size} crops of {data.crop_size[0]}x{data.crop_size[1]}"
            yield (
                f"    {_bytes(asked.train_bytes)} for logits, softmax and gradient, float32 at the "
                f"labels' size, of {crops}"
            )
            yield (
                f"    {_bytes(asked.eval_bytes)} for logits and probabilities of the largest image;"
                " the network's own come on top"
            )


def summary(findings: Iterable[Finding], *, fixes: bool = False) -> list[str]:
    """A line for each kind: its first finding, after the severity or, if `fixes`, with the fix."""
    lines = []
    for kind, group in _by_kind(findings):
        more = f" (and {len(group) - 1} more)" if len(group) > 1 else ""
        line = f"{kind.code} {kind.name}: {describe(group[0])}{more}."
        fix = group[0].fix or kind.fix
        lines.append(f"{line} {fix}" if fixes else f"{kind.severity.title()}: {line}")
    return lines


def kinds_table() -> str:
    """All kinds of findings as a Markdown table, for docs/doctor.md."""
    rows = ["| code | name | severity | what it means | what to do |", "|---|---|---|---|---|"]
    for kind in KINDS:
        fix = kind.fix.replace("<", "&lt;")  # Markdown would take <value> for HTML
        rows.append(f"| {kind.code} | `{kind.name}` | {kind.severity} | {kind.meaning} | {fix} |")
    return "\n".join(rows) + "\n"


def _by_kind(findings: Iterable[Finding]) -> list[tuple[Kind, list[Finding]]]:
    """The findings of each kind, errors first."""
    kinds: dict[Kind, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    return sorted(
        kinds.items(), key=lambda item: (SEVERITIES.index(item[0].severity), item[0].code)
    )


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    kind = finding.kind
    return {
        "code": kind.code,
        "name": kind.name,
        "severity": kind.severity,
        "files": finding.files,
        "found": finding.found,
        "meaning": kind.meaning,
        "fix": finding.fix or kind.fix,
    }


def _group_lines(kind: Kind, findings: list[Finding]) -> Iterator[str]:
    yield f"{kind.severity} {kind.code} {kind.name}: {len(findings)}"
    yield from _indented(kind.meaning)
    for finding in findings[:_SHOWN]:
        yield from _indented(f"- {describe(finding)}")
    if len(findings) > _SHOWN:
        yield f"    ... and {len(findings) - _SHOWN} more"
    for fix in dict.fromkeys(finding.fix or kind.fix for finding in findings):
        yield from _indented(f"Fix: {fix}")


def describe(finding: Finding) -> str:
    """The first files of a finding and what is there."""
    files = ", ".join(finding.files[:_SHOWN])
    if len(finding.files) > _SHOWN:
        files += f", ... ({len(finding.files)} files)"
    return f"{files}: {finding.found}" if files else finding.found


def _indented(text: str) -> Iterable[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="    ",
        subsequent_indent="      " if text.startswith("- ") else "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.3g} GB"

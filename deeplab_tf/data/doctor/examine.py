"""The examination of a data set, from its files to the report."""

from tqdm import tqdm

from deeplab_tf.data.doctor.image_spec import examine_values
from deeplab_tf.data.doctor.labels import examine_labels
from deeplab_tf.data.doctor.parallel import look_at_all
from deeplab_tf.data.doctor.proposals import imbalance, propose
from deeplab_tf.data.doctor.report import Report, SplitFigures
from deeplab_tf.data.doctor.sources import Source
from deeplab_tf.data.doctor.survey import Survey


def examine(source: Source, *, output_stride: int = 16, workers: int | None = None) -> Report:
    """Looks at every image and label of a data set, and at them all together.

    Memory grows by a hash and a name for each image, and by the findings.

    Args:
        source: What `open_source` found.
        output_stride: Output stride that the proposed crop size is for.
        workers: Number of processes; None for all cores, or this one alone if there is little to
            do.
    """
    survey = Survey(source.splits, source.classes, source.images)
    # disable=None: no bar where there is no terminal.
    with tqdm(total=source.count, unit="image", disable=None) as progress:
        for look in look_at_all(source, workers=workers):
            survey.add(look)
            progress.update()
    proposals = propose(survey, source.classes, output_stride=output_stride)
    findings = [
        *source.findings,
        *survey.findings,
        *examine_labels(survey, source.classes),
        *examine_values(source.images, survey.extremes, tuple(survey.outside)),
        *imbalance(proposals),
    ]
    return Report(
        path=str(source.root),
        description=source.description,
        classes=source.classes,
        images=source.images,
        splits={
            name: SplitFigures(
                split.images,
                {label: int(split.pixels[label]) for label in split.pixels.nonzero()[0].tolist()},
            )
            for name, split in survey.splits.items()
        },
        findings=tuple(sorted(findings, key=lambda finding: (finding.kind.code, finding.files))),
        proposals=proposals,
    )

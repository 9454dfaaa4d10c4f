"""The doctor: finds what is wrong with a data set before a network is trained on it.

    from deeplab_tf.data import doctor

    source = doctor.open_source("VOC2012", read=FileReader())
    report = doctor.examine(source)
    print(report.text())

`python -m datasets.doctor` is the command; docs/doctor.md lists all findings.
"""

from deeplab_tf.data.doctor.examine import examine
from deeplab_tf.data.doctor.kinds import KINDS, SEVERITIES, Finding, Kind
from deeplab_tf.data.doctor.report import Report, kinds_table
from deeplab_tf.data.doctor.sources import open_source

__all__ = [
    "KINDS",
    "SEVERITIES",
    "Finding",
    "Kind",
    "Report",
    "examine",
    "kinds_table",
    "open_source",
]

"""Trees of image files: what is found is exactly what was seeded, and at the right file."""

import json

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data import doctor
from deeplab_tf.data.class_table import ColorTable
from deeplab_tf.data.doctor.looks import Look, look_at_labels
from deeplab_tf.data.reading import FileReader
from tests.data.doctor import trees

TABLE = ColorTable(("black", "red"), ((0, 0, 0), (200, 0, 0)), {(0, 0, 0): 0, (200, 0, 0): 1})
CASES = {
    trees.clean_voc: {"class_names": trees.NAMES},
    trees.faulty_voc: {"class_names": trees.NAMES},
    trees.palettes: {},
    trees.unpaired: {"class_names": trees.NAMES},
    trees.black_and_white: {},
    trees.from_one: {"class_names": trees.NAMES},
    trees.one_more: {"class_names": trees.NAMES},
    trees.gaps: {},
    trees.one_class: {"class_names": trees.NAMES},
    trees.uneven: {"class_names": (*trees.NAMES, "horse")},
    trees.unknown_colors: {
        "class_names": TABLE.class_names,
        "read": FileReader(color_table=TABLE),
    },
}


def examined(root, workers=None, **options):
    source = doctor.open_source(root, **{"read": FileReader()} | options)
    return doctor.examine(source, workers=workers)


def found(report):
    return {(finding.kind.code, finding.files) for finding in report.findings}


@pytest.mark.parametrize("write", CASES, ids=lambda write: write.__name__)
def test_what_is_seeded_is_found(tmp_path, write):
    expected = write(tmp_path / "tree")
    report = examined(tmp_path / "tree", **CASES[write])
    assert found(report) == expected
    text = report.text()
    for code, files in expected:
        assert code in text
        # All are in the JSON; the text has the first few.
        assert all(file in report.to_json() for file in files)

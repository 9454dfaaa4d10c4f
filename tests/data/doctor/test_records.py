"""Folders of records: what is found is exactly what was seeded, and at the right record."""

import pytest

from tests.data.doctor import record_folders
from tests.data.doctor.test_trees import examined, found


@pytest.mark.parametrize(
    "write",
    [
        record_folders.clean,
        record_folders.faulty,
        record_folders.of_the_reference,
        record_folders.bad_description,
    ],
    ids=lambda write: write.__name__,
)
def test_what_is_seeded_is_found(tmp_path, write):
    expected = write(tmp_path / "records")
    report = examined(tmp_path / "records")
    assert found(report) == expected
    assert report.description == "a folder of records"

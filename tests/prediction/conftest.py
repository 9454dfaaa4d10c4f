"""A run and photos to predict with it."""

import pytest
from PIL import Image

from tests import tiny_run
from tests.prediction.predicting import write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the run "run" and images of several sizes in "photos"."""
    place = tmp_path_factory.mktemp("place")
    write_run(place / "run")
    photos = {"a.png": 0, "b.jpg": 1, "deep/a.png": 2, "deep/with space\nand ü.png": 3}
    for name, seed in photos.items():
        (place / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny_run.scene(seed)[0]).save(place / "photos" / name)
    return place

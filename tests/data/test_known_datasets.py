"""The reference's data sets against its recorded facts and palettes."""

import json
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS, KNOWN_DATASETS

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
FACTS = json.loads((GOLDEN / "facts_dataset.json").read_text())["datasets"]


@pytest.mark.golden
def test_there_are_those_of_the_reference():
    assert set(KNOWN_DATASETS) == set(FACTS)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "colormap"),
    [("pascal_voc_seg", "pascal"), ("cityscapes", "cityscapes"), ("ade20k", "ade20k")],
)
def test_a_data_set_equals_the_reference(name, colormap):
    info = KNOWN_DATASETS[name]
    assert info.name == name
    facts = {
        "splits": info.splits,
        "num_classes": info.num_classes,
        "ignore_label": info.ignore_label,
    }
    assert facts == FACTS[name]
    with np.load(GOLDEN / "colormaps.npz") as golden:
        np.testing.assert_array_equal(info.palette, golden[colormap][: info.num_classes])


@pytest.mark.parametrize(
    ("name", "label", "class_name"),
    [
        ("pascal_voc_seg", 0, "background"),
        ("pascal_voc_seg", 15, "person"),
        ("pascal_voc_seg", 20, "tvmonitor"),
        ("cityscapes", 0, "road"),
        ("cityscapes", 13, "car"),
        ("cityscapes", 18, "bicycle"),
        # rows of the benchmark's own table, objectInfo150.txt
        ("ade20k", 0, "background"),
        ("ade20k", 1, "wall"),
        ("ade20k", 13, "person"),
        ("ade20k", 45, "chest of drawers"),
        ("ade20k", 90, "television"),
        ("ade20k", 139, "ashcan"),
        ("ade20k", 150, "flag"),
    ],
)
def test_classes_stand_at_their_labels(name, label, class_name):
    assert KNOWN_DATASETS[name].class_names[label] == class_name


def test_every_train_id_of_cityscapes_has_the_label_id_of_its_class():
    # name, label id: the rows of Cityscapes' label table that are evaluated
    table = (
        "road 7, sidewalk 8, building 11, wall 12, fence 13, pole 17, traffic light 19, "
        "traffic sign 20, vegetation 21, terrain 22, sky 23, person 24, rider 25, car 26, "
        "truck 27, bus 28, train 31, motorcycle 32, bicycle 33"
    )
    found = [
        f"{name} {label_id}"
        for name, label_id in zip(
            KNOWN_DATASETS["cityscapes"].class_names, CITYSCAPES_LABEL_IDS, strict=True
        )
    ]
    assert ", ".join(found) == table


def test_the_table_of_classes_is_in_the_wheel():
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    folder = Path(str(resources.files("deeplab_tf.data")))
    shipped = {path for pattern in package_data["deeplab_tf.data"] for path in folder.glob(pattern)}
    assert shipped == {p for p in folder.iterdir() if p.is_file() and p.suffix != ".py"} != set()

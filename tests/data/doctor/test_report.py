"""Codes, figures, proposals, JSON: against brute force and against the page that describes them."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data import channel_files, channels, doctor, images, listing, masks, pairing
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.classes import belong_apart
from deeplab_tf.data.doctor.proposals import legal_crop
from deeplab_tf.data.reading import FileReader
from tests.data.doctor import record_folders, test_channels, test_trees, trees
from tests.data.doctor.test_trees import examined

PAGE = (Path(__file__).parents[3] / "docs/doctor.md").read_text(encoding="utf-8")
# Found before training only; test_sample.py seeds them.
OF_SAMPLES = {"D405", "D406"}


def test_every_kind_has_a_code_and_a_name_of_its_own():
    codes = [kind.code for kind in doctor.KINDS]
    assert codes == sorted(set(codes))
    assert all(re.fullmatch(r"D[1-5]\d\d", code) for code in codes)
    names = [kind.name for kind in doctor.KINDS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|undecodable", name) for name in names)
    assert {kind.severity for kind in doctor.KINDS} == set(doctor.SEVERITIES)


def test_the_page_lists_every_kind():
    assert doctor.kinds_table() in PAGE


def test_every_kind_is_seeded_somewhere(tmp_path):
    writers = [*test_trees.CASES, record_folders.faulty, record_folders.of_the_reference]
    seeded = set(OF_SAMPLES)
    writers += [record_folders.bad_description, *test_channels.TREES]
    for index, write in enumerate(writers):
        seeded |= {code for code, _ in write(tmp_path / str(index))}
    assert seeded == {kind.code for kind in doctor.KINDS}


@pytest.mark.parametrize("module", [channel_files, channels, images, listing, masks, pairing])
def test_what_readers_call_a_fault_is_a_kind(module):
    """Every FaultyFileError and Problem in the source names a kind of the table."""
    named = []
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "FaultyFileError":
                named.append(node.args[1].value)
            elif node.func.id == "Problem":
                named.append(node.args[0].value)
    assert named
    for name in named:
        assert kinds.kind_named(name).severity == "error"


def uneven_tree(root):
    """A training split where class 2 is in one of two images, and a validation split."""
    tree = trees.Tree(root)
    mostly_void = trees.scene((0, 0, 1))
    mostly_void[4:] = 255
    tree.pair("a", None, trees.encoded(mostly_void))
    tree.pair("b", None, trees.encoded(trees.scene((0, 1, 1, 2))))
    tree.pair(
        "c",
        trees.encoded(trees.picture("c", 50, 17)),
        trees.encoded(trees.scene(height=50, width=17)),
    )
    tree.lists(train=["a", "b"], val=["c"])
    return tree


def test_figures_and_proposals(tmp_path):
    uneven_tree(tmp_path)
    report = examined(tmp_path, class_names=trees.NAMES)
    labels = {
        name: np.asarray(Image.open(tmp_path / f"SegmentationClass/{name}.png")) for name in "abc"
    }
    for split, names in {"train": "ab", "val": "c"}.items():
        for value in (0, 1, 2, 255):
            expected = sum(int((labels[name] == value).sum()) for name in names)
            assert report.splits[split].pixels[value] == expected

    frequency = []
    for value in range(3):
        shown = [labels[name] for name in "ab" if (labels[name] == value).any()]
        frequency.append(
            sum((label == value).sum() for label in shown)
            / sum((label != 255).sum() for label in shown)
        )
    expected = np.median(frequency) / np.array(frequency)
    np.testing.assert_allclose(report.proposals.label_weights, expected, rtol=5e-3)
    assert sorted(expected)[1] == 1
    # The largest height is of one image, the largest width of another.
    assert report.proposals.eval_crop_size == (65, 49)
    assert report.proposals.decoded_bytes == 4 * (2 * 24 * 36 + 50 * 17)
    assert report.proposals.train_bytes == 3 * 4 * 3 * 8 * 513 * 513

    text = report.text()
    flags = " ".join(f"--label_weights={w:g}" for w in report.proposals.label_weights)
    assert flags in text and "--eval_crop_size=65,49" in text


def test_many_weights_can_be_pasted_into_a_shell(tmp_path):
    _, _ = trees.folders(tmp_path, [trees.scene(range(12))])
    lines = examined(tmp_path).text().splitlines()
    flags = [line for line in lines if "--label_weights=" in line]
    assert len(flags) > 1 and all(len(line) <= 100 for line in flags)
    assert all(line.endswith(" \\") for line in flags[:-1]) and "\\" not in flags[-1]
    assert sum(line.count("--label_weights=") for line in flags) == 12


def test_an_ignored_class_has_no_part_in_the_weights(tmp_path):
    """ADE20K ignores its class 0."""
    trees.folders(tmp_path, [np.where(trees.scene() == 255, 0, trees.scene())])
    read = FileReader(ignore_label=0)
    report = examined(tmp_path, class_names=trees.NAMES, read=read)
    assert report.proposals.label_weights == pytest.approx((1, 1, 1), abs=0.06)
    assert not report.findings


@pytest.mark.parametrize("output_stride", [8, 16])
def test_the_crop_is_the_smallest_legal_one(output_stride):
    for side in range(1, 100):
        legal = [k * output_stride + 1 for k in range(1, 20)]
        assert legal_crop(side, output_stride) == min(crop for crop in legal if crop >= side)


@pytest.mark.parametrize(
    ("split", "other", "apart"),
    [
        ("train", "val", True),
        ("train_aug", "val", True),
        ("train_fine", "test_fine", True),
        ("train", "train_aug", False),
        ("trainval", "val", False),
        ("trainval_fine", "train_fine", False),
        ("all", "val", False),
    ],
)
def test_which_splits_belong_apart(split, other, apart):
    assert belong_apart((split,), (other,)) == belong_apart((other,), (split,)) == apart


def test_the_json_has_everything(tmp_path):
    expected = trees.faulty_voc(tmp_path)
    report = examined(tmp_path, class_names=trees.NAMES)
    fields = json.loads(report.to_json())
    assert list(fields) == [
        "version",
        "path",
        "taken_for",
        "class_names",
        "ignore_label",
        "splits",
        "counts",
        "findings",
        "proposals",
    ]
    assert fields["version"] == 1 and fields["class_names"] == list(trees.NAMES)
    assert {(f["code"], tuple(f["files"])) for f in fields["findings"]} == expected
    for finding in fields["findings"]:
        assert set(finding) == {"code", "name", "severity", "files", "found", "meaning", "fix"}
        assert all(finding[key] for key in finding)
    severities = [finding["severity"] for finding in fields["findings"]]
    assert fields["counts"] == {s: severities.count(s) for s in doctor.SEVERITIES}
    assert fields["splits"]["val"]["images"] == report.splits["val"].images
    assert sum(fields["splits"]["val"]["pixels"].values()) > 0
    # Every field is described.
    for key in [*fields, *fields["findings"][0], *fields["proposals"]]:
        assert f"`{key}`" in PAGE, key

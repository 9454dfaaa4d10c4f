import json

import pytest

from deeplab_tf.data import DatasetInfo

FIELDS = {
    "name": "pets",
    "class_names": ("background", "chat à poils"),
    "palette": ((0, 0, 0), (255, 128, 0)),
    "ignore_label": 255,
    "splits": {"train": 3, "val": 1},
}


def test_load_returns_what_save_wrote(tmp_path):
    info = DatasetInfo(**FIELDS)
    info.save(tmp_path)
    assert DatasetInfo.load(tmp_path) == info
    assert info.num_classes == 2
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_the_file_is_plain_json(tmp_path):
    DatasetInfo(**FIELDS).save(tmp_path)
    fields = json.loads((tmp_path / "dataset.json").read_text("utf-8"))
    assert fields["class_names"] == ["background", "chat à poils"]
    assert fields["palette"] == [[0, 0, 0], [255, 128, 0]]


def test_images_are_8_bit_rgb_unless_the_file_says_otherwise(tmp_path):
    DatasetInfo(**FIELDS).save(tmp_path)
    assert json.loads((tmp_path / "dataset.json").read_text("utf-8")).keys() == FIELDS.keys()
    info = DatasetInfo.load(tmp_path)
    assert (info.input_channels, info.bit_depth, info.value_range) == (3, 8, (0, 255))
    assert info.stores_input
    others = {"input_channels": 5, "bit_depth": 16, "value_range": (0.5, 4095)}
    for fields in (others, {"input_channels": 1}, {"bit_depth": 16}, {"value_range": (9, 99.5)}):
        DatasetInfo(**FIELDS, **fields).save(tmp_path)
        stored = json.loads((tmp_path / "dataset.json").read_text("utf-8"))
        assert stored.keys() == FIELDS.keys() | fields.keys()
        assert DatasetInfo.load(tmp_path) == DatasetInfo(**FIELDS, **fields)
        assert DatasetInfo.load(tmp_path).stores_input == (fields == {"input_channels": 1})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("input_channels", 0, "input_channels must be 1 or more, found 0"),
        ("input_channels", "3", "input_channels must be 1 or more, found '3'"),
        ("bit_depth", 12, "bit_depth must be 8 or 16, found 12"),
        ("value_range", [255, 0], r"value_range must be two numbers.* found \(255, 0\)"),
        ("value_range", [0], r"value_range must be two numbers.* found \(0,\)"),
        ("value_range", ["0", "1"], "value_range must be two numbers"),
        ("value_range", 255, "value_range must be two numbers.* found 255"),
        ("value_range", [0, float("inf")], "value_range must be two numbers"),
    ],
)
def test_what_images_cannot_be(tmp_path, field, value, message):
    (tmp_path / "dataset.json").write_text(json.dumps({**FIELDS, field: value}))
    with pytest.raises(ValueError, match=rf"dataset\.json: {message}"):
        DatasetInfo.load(tmp_path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset\.json not found.*build_folder_data\.py"):
        DatasetInfo.load(tmp_path)


def test_check_split_names_the_known_splits():
    with pytest.raises(ValueError, match="no split 'test'; it has: train, val"):
        DatasetInfo(**FIELDS).check_split("test")
    DatasetInfo(**FIELDS).check_split("val")


@pytest.mark.parametrize(
    ("splits", "name", "expected"),
    [
        (("train_fine", "val_fine"), "train", "train_fine"),
        (("train_fine", "val_fine"), "train_fine", "train_fine"),
        (("train", "val"), "train_fine", "train"),
        (("train", "train_fine"), "train", "train"),
        (("train", "train_fine"), "train_fine", "train_fine"),
        (("train", "trainaug"), "train_aug", "trainaug"),
        (("train", "train_aug"), "trainaug", "train_aug"),
        (("trainaug", "train_aug"), "train_aug", "train_aug"),
    ],
)
def test_resolve_split_takes_the_usual_other_names(splits, name, expected):
    info = DatasetInfo(**FIELDS | {"splits": dict.fromkeys(splits, 1)})
    assert info.resolve_split(name) == expected


@pytest.mark.parametrize("name", ["val", "train_coarse", "", "_fine", "train_aug"])
def test_resolve_split_guesses_nothing_else(name):
    info = DatasetInfo(**FIELDS | {"splits": {"train_fine": 2, "trainval_fine": 3}})
    with pytest.raises(ValueError, match=rf"no split '{name}'; it has: train_fine, trainval_fine"):
        info.resolve_split(name)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "name"),
        ("class_names", (), "class names"),
        ("class_names", ("a", "a"), "twice: a"),
        ("class_names", ("a", " "), "class 1 is empty"),
        ("class_names", tuple(map(str, range(257))), "found 257"),
        ("palette", ((0, 0, 0),), "2 classes, 1 colours"),
        ("palette", ((0, 0, 0), (0, 0, 256)), "colour of class 1"),
        ("palette", ((0, 0, 0), (0, 0)), "colour of class 1"),
        ("ignore_label", 256, "0..255, found 256"),
        ("ignore_label", None, "0..255, found None"),
        ("splits", {}, "splits must be"),
        ("splits", {"train": 0}, "at least 1 record"),
        ("splits", {"../train": 1}, "split name"),
    ],
)
def test_wrong_values_are_refused_from_code_and_from_files(tmp_path, field, value, message):
    fields = FIELDS | {field: value}
    with pytest.raises(ValueError, match=message):
        DatasetInfo(**fields)
    (tmp_path / "dataset.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf"dataset\.json: .*{message}"):
        DatasetInfo.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"name": "pets"}',
        json.dumps(FIELDS | {"classes": 2}),
        json.dumps(FIELDS | {"class_names": None}),
        json.dumps(FIELDS | {"class_names": "ab"}),
        json.dumps(FIELDS | {"splits": ["train"]}),
    ],
)
def test_broken_files_are_named(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=r"dataset\.json: "):
        DatasetInfo.load(tmp_path)

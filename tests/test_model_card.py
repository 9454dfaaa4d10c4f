"""The model card comes back as it was written, and says which file or field is wrong."""

import dataclasses
import json
import os

import pytest

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard, differences

# No field has its default value.
CARD = ModelCard(
    model=ModelConfig(
        model_variant="resnet_v1_50_beta",
        num_classes=3,
        output_stride=8,
        atrous_rates=(12, 24, 36),
        multi_grid=(1, 2, 4),
        depth_multiplier=0.5,
        add_image_level_feature=False,
        aspp_with_separable_conv=False,
        aspp_convs_filters=48,
        decoder_output_stride=(4,),
        decoder_use_separable_conv=False,
        decoder_filters=32,
    ),
    data=DataConfig(
        crop_size=(321, 513),
        batch_size=4,
        min_scale_factor=0.75,
        max_scale_factor=1.25,
        scale_factor_step_size=0.0,
    ),
    train=TrainConfig(
        training_number_of_steps=1000,
        base_learning_rate=1 / 3,
        end_learning_rate=1e-6,
        learning_power=1.0,
        momentum=0.8,
        weight_decay=1e-4,
        batch_norm_decay=0.99,
        label_weights=(1.0, 0.1, 2.5),
        seed=7,
    ),
    inference=InferenceConfig(crop_size=(513, 769)),
    dataset=DatasetInfo(
        name="Straße",
        class_names=("sky", "road", "車"),
        palette=((0, 0, 0), (128, 64, 128), (0, 0, 142)),
        ignore_label=0,
        splits={"train": 12, "val": 3},
    ),
)
OTHER = ModelCard(
    model=ModelConfig(),
    data=DataConfig(),
    train=TrainConfig(),
    inference=InferenceConfig(),
    dataset=DatasetInfo(
        name="other",
        class_names=("a", "b"),
        palette=((0, 0, 0), (1, 1, 1)),
        ignore_label=255,
        splits={"train": 1},
    ),
)
FIELDS = [
    (part.name, field.name)
    for part in dataclasses.fields(ModelCard)
    for field in dataclasses.fields(getattr(CARD, part.name))
]


@pytest.mark.parametrize("card", [CARD, OTHER])
def test_round_trip(tmp_path, card):
    card.save(tmp_path)
    assert ModelCard.load(tmp_path) == card
    assert os.listdir(tmp_path) == ["config.json"]


def test_the_card_differs_from_the_defaults_in_every_field():
    """So the round trip is one of every field, and each one's difference is seen."""
    assert differences(CARD, CARD) == []
    assert [line.split(":")[0] for line in differences(CARD, OTHER)] == [
        ".".join(field) for field in FIELDS
    ]


def test_a_difference_names_field_and_values():
    train = dataclasses.replace(CARD.train, momentum=0.95)
    changed = dataclasses.replace(CARD, train=train)
    assert differences(CARD, changed) == ["train.momentum: 0.8, now 0.95"]


def test_a_missing_card_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        ModelCard.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'config.json'} not found")
    assert "--train_logdir" in str(error.value)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("model", "output_stride", 12, "output_stride is 12"),
        ("model", "output_stride", "16", "output_stride is 16"),
        ("model", "num_classes", None, "'>=' not supported"),
        ("data", "batch_size", 0, "train_batch_size is 0"),
        ("train", "label_weights", [1, -1], "label_weights are .1, -1."),
        ("dataset", "class_names", ["a", "a", "b"], "found twice: a"),
        ("dataset", "splits", {}, "splits must be"),
        ("inference", "no_such_field", 1, "InferenceConfig has the fields .'crop_size'., found"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_file(tmp_path, part, field, value, message):
    fields = dataclasses.asdict(CARD)
    fields[part][field] = value
    assert_refused(tmp_path, json.dumps(fields).encode(), message)


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_no_field_may_be_missing(tmp_path, part, field):
    fields = dataclasses.asdict(CARD)
    del fields[part][field]
    assert_refused(tmp_path, json.dumps(fields).encode(), f"has the fields .*'{field}'.*, found")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b'{"model": {', "Expecting property name"),
        (b"[]", "ModelCard has the fields .*, found list"),
        (b'{"model": 1}', r"found \['model'\]"),
        (b"\xff\xfe", "can't decode"),
    ],
)
def test_what_is_no_card_is_an_error_that_names_the_file(tmp_path, content, message):
    assert_refused(tmp_path, content, message)


def test_a_failed_write_leaves_the_old_card(tmp_path, monkeypatch):
    OTHER.save(tmp_path)

    def fail(*paths):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        CARD.save(tmp_path)
    assert ModelCard.load(tmp_path) == OTHER


def assert_refused(folder, content, message):
    path = folder / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        ModelCard.load(folder)
    assert str(error.value).startswith(f"{path}: ")

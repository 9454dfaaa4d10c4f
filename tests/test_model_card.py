"""The model card comes back as it was written, and says which file or field is wrong."""

import dataclasses
import json
import os

import pytest

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.config import AugmentationConfig, CellBranch, CRFParams
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard, differences

# No field has its default value, but for those of two heads that exclude some others.
CARD = ModelCard(
    model=ModelConfig(
        model_variant="resnet_v1_50_beta",
        num_classes=3,
        input_channels=5,
        output_stride=8,
        crop_size=(321, 513),
        atrous_rates=(12, 24, 36),
        multi_grid=(1, 2, 4),
        cascade_blocks=2,
        depth_multiplier=0.5,
        divisible_by=4,
        use_bounded_activation=True,
        nas_stem_output_num_conv_filters=32,
        nas_use_classification_head=True,
        nas_remove_os32_stride=True,
        drop_path_keep_prob=0.9,
        add_image_level_feature=False,
        image_pooling_crop_size=(257, 257),
        image_pooling_stride=(4, 5),
        aspp_with_batch_norm=False,
        aspp_with_separable_conv=False,
        aspp_convs_filters=48,
        aspp_with_concat_projection=False,
        aspp_with_squeeze_and_excitation=True,
        image_se_uses_qsigmoid=True,
        decoder_output_stride=(4,),
        decoder_use_separable_conv=False,
        decoder_filters=3,
        decoder_use_sum_merge=True,
        decoder_output_is_logits=True,
        logits_kernel_size=3,
        image_pyramid=(0.5, 1.0),
        merge_method="avg",
        prediction_with_upsampled_logits=False,
    ),
    data=DataConfig(
        crop_size=(321, 513),
        batch_size=4,
        min_scale_factor=0.75,
        max_scale_factor=1.25,
        scale_factor_step_size=0.0,
        min_resize_value=300,
        max_resize_value=500,
        resize_factor=16,
        augmentations=AugmentationConfig(
            brightness_jitter=0.1,
            contrast_jitter=0.2,
            saturation_jitter=0.3,
            hue_jitter=0.4,
            max_rotation_degrees=10.0,
            blur_probability=0.5,
            blur_min_sigma=0.6,
            blur_max_sigma=0.7,
            class_balanced_crops=0.8,
        ),
    ),
    train=TrainConfig(
        training_number_of_steps=1000,
        optimizer="adam",
        learning_policy="step",
        base_learning_rate=1 / 3,
        decay_steps=900.0,
        end_learning_rate=1e-6,
        learning_power=1.0,
        learning_rate_decay_factor=0.5,
        learning_rate_decay_step=100,
        boundaries=(10, 20),
        boundary_learning_rates=(0.3, 0.2, 0.1),
        slow_start_step=5,
        slow_start_learning_rate=1e-5,
        slow_start_burnin_type="linear",
        momentum=0.8,
        adam_learning_rate=0.01,
        adam_epsilon=1e-6,
        weight_decay=1e-4,
        clip_gradient_norm=5.0,
        ema_decay=0.999,
        last_layer_gradient_multiplier=10.0,
        last_layers_contain_logits_only=True,
        initialize_last_layer=False,
        fine_tune_batch_norm=False,
        freeze_batch_norm=True,
        mixed_precision="bfloat16",
        batch_norm_decay=0.99,
        loss="focal",
        focal_gamma=3.0,
        dice_weight=0.5,
        lovasz_weight=0.25,
        upsample_logits=False,
        hard_example_mining_step=100,
        top_k_percent_pixels=0.25,
        label_weights=(1.0, 0.1, 2.5),
        trained_layers=("logits.", "fc7"),
        seed=7,
    ),
    inference=InferenceConfig(
        crop_size=(513, 769),
        min_resize_value=300,
        max_resize_value=500,
        resize_factor=8,
        eval_scales=(0.5, 1.0),
        add_flipped_images=True,
        crf=CRFParams(pos_w=1.5, pos_xy=2, bi_w=5, bi_xy=49, bi_rgb=4, iterations=5),
        eval_output_stride=16,
        tile_size=(769, 1537),
        tile_overlap=128,
        tile_image_level="reduced",
    ),
    dataset=DatasetInfo(
        name="Straße",
        class_names=("sky", "road", "車"),
        palette=((0, 0, 0), (128, 64, 128), (0, 0, 142)),
        ignore_label=0,
        splits={"train": 12, "val": 3},
        input_channels=5,
        bit_depth=16,
        value_range=(100, 4095.5),
    ),
)
WITH_CELL = dataclasses.replace(
    CARD,
    model=ModelConfig(
        dense_prediction_cell_config=(
            CellBranch("conv", -1, kernel=(3, 3), rate=(1, 6)),
            CellBranch("pyramid_pooling", 0, grid_size=(2, 4)),
        )
    ),
    train=dataclasses.replace(
        CARD.train,
        loss="cross_entropy",
        label_smoothing=0.1,
        top_k_percent_pixels=1.0,
        gradient_accumulation_steps=2,
    ),
)
WITH_FULLY_CONNECTED = dataclasses.replace(
    CARD,
    model=ModelConfig(
        atrous_rates=(12,), fc_filters=1024, fc_kernel_size=4, multi_scale_features=True
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
AUGMENTATION_FIELDS = dataclasses.fields(AugmentationConfig)


@pytest.mark.parametrize("card", [CARD, WITH_CELL, WITH_FULLY_CONNECTED, OTHER])
def test_round_trip(tmp_path, card):
    card.save(tmp_path)
    assert ModelCard.load(tmp_path) == card
    assert os.listdir(tmp_path) == ["config.json"]


def test_the_cards_differ_from_the_defaults_in_every_field():
    """So the round trip is one of every field, and each one's difference is seen."""
    assert differences(CARD, CARD) == []
    cards = (CARD, WITH_CELL, WITH_FULLY_CONNECTED)
    lines = [line for card in cards for line in differences(card, OTHER)]
    augmentations = {f"data.augmentations.{field.name}" for field in AUGMENTATION_FIELDS}
    expected = {".".join(field) for field in FIELDS} - {"data.augmentations"} | augmentations
    assert {line.split(":")[0] for line in lines} == expected


def test_a_difference_names_field_and_values():
    train = dataclasses.replace(CARD.train, momentum=0.95)
    changed = dataclasses.replace(CARD, train=train)
    assert differences(CARD, changed) == ["train.momentum: 0.8, now 0.95"]


def test_a_difference_in_the_crf_names_its_field():
    crf = dataclasses.replace(CARD.inference.crf, bi_xy=50)
    inference = dataclasses.replace(CARD.inference, crf=crf)
    changed = dataclasses.replace(CARD, inference=inference)
    assert differences(CARD, changed) == ["inference.crf.bi_xy: 49, now 50"]
    without = dataclasses.replace(CARD, inference=dataclasses.replace(inference, crf=None))
    assert differences(CARD, without) == [f"inference.crf: {CARD.inference.crf!r}, now None"]
    assert differences(without, CARD) == [f"inference.crf: None, now {CARD.inference.crf!r}"]


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
        ("data", "augmentations", {"hue_jitter": 2}, "hue_jitter is 2; expected 0 to 0.5"),
        ("data", "augmentations", {"hue": 0.1}, r"AugmentationConfig has no fields \['hue'\]"),
        ("train", "label_weights", [1, -1], "label_weights are .1, -1."),
        ("dataset", "class_names", ["a", "a", "b"], "found twice: a"),
        ("dataset", "splits", {}, "splits must be"),
        (
            "inference",
            "scales",
            1,
            r"InferenceConfig has no fields \['scales'\]; it has .*eval_scales",
        ),
        ("inference", "crf", {"bi_xy": 0}, "bi_xy of the CRF is 0"),
        ("inference", "crf", {"w": 1}, r"CRFParams has no fields \['w'\]; it has"),
        ("inference", "crf", [4, 67, 3], r"CRFParams is \[4, 67, 3\]; expected its fields"),
        ("model", "dense_prediction_cell_config", [{"op": "conv", "input": 0}], "Branch 0 of"),
        ("model", "dense_prediction_cell_config", [{"op": "conv"}], r"CellBranch lacks .*'input'"),
        ("model", "dense_prediction_cell_config", 1, "not iterable"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_file(tmp_path, part, field, value, message):
    fields = dataclasses.asdict(CARD)
    fields[part][field] = value
    assert_refused(tmp_path, json.dumps(fields).encode(), message)


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_a_field_that_the_card_lacks_has_its_default(tmp_path, part, field):
    """As in a card from before the field existed; but classes and splits have no defaults."""
    fields = dataclasses.asdict(OTHER)
    del fields[part][field]
    if part == "dataset" and field not in ("input_channels", "bit_depth", "value_range"):
        message = rf"DatasetInfo lacks the fields \['{field}'\]"
        assert_refused(tmp_path, json.dumps(fields).encode(), message)
    else:
        (tmp_path / "config.json").write_text(json.dumps(fields))
        assert ModelCard.load(tmp_path) == OTHER


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b'{"model": {', "Expecting property name"),
        (b"[]", r"ModelCard is \[\]; expected its fields"),
        (
            b'{"model": {}}',
            r"ModelCard lacks the fields \['data', 'dataset', 'inference', 'train'\]",
        ),
        (json.dumps(dict(dataclasses.asdict(OTHER), data=1)).encode(), "DataConfig is 1"),
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

"""Flags to configs: what a training run is to be, and what a trained network is."""

import json
import os
from dataclasses import fields, replace
from typing import Any

from absl import flags

from deeplab_tf.cli.crf_flags import chosen_crf
from deeplab_tf.cli.flag_table import given
from deeplab_tf.colormap import voc_colormap
from deeplab_tf.config import (
    AugmentationConfig,
    CellBranch,
    DataConfig,
    InferenceConfig,
    ModelConfig,
    TrainConfig,
)
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.model_card import ModelCard, differences
from deeplab_tf.presets import RECIPES, Recipe

FLAGS = flags.FLAGS

# The same weights serve whatever these are.
_FREE_MODEL_FIELDS = {
    "output_stride",
    "atrous_rates",
    "image_pooling_crop_size",
    "image_pooling_stride",
    "image_pyramid",
    "merge_method",
    "prediction_with_upsampled_logits",
}
# Fields whose flags have another name in the reference, by field.
_RENAMED = {
    "batch_size": "train_batch_size",
    "dense_prediction_cell_config": "dense_prediction_cell_json",
}


def training_card(info: DatasetInfo) -> ModelCard:
    """What the flags of train.py ask for, on a data set."""
    recipe = chosen_recipe()
    data = _with_given_data(recipe.data if recipe else DataConfig())
    train = recipe.train if recipe else TrainConfig()
    inference = recipe.inference if recipe else InferenceConfig()
    if given("train_crop_size"):
        inference = replace(inference, crop_size=None)  # the recipe's is that of its own images
    return ModelCard(
        model=model_from_flags(info.num_classes, recipe, input_channels=_channels_of(info)),
        data=data,
        train=replace(train, **_given_fields(TrainConfig)),
        inference=replace(inference, **_given_fields(InferenceConfig)),
        dataset=info,
    )


def inputs_card(info: DatasetInfo) -> ModelCard:
    """The run whose inputs are to be drawn: that of --checkpoint_dir, or what the flags ask for.

    A flag that contradicts the run's card is an error.
    """
    run = FLAGS.checkpoint_dir
    if run is None:
        return training_card(info)
    card = ModelCard.load(run if os.path.isdir(run) else os.path.dirname(run) or ".")
    check_same_classes(card.dataset, info)
    if FLAGS.recipe or FLAGS["preset"].value:
        raise ValueError(
            f"--checkpoint_dir={run} says what its inputs are: leave --preset and --recipe out."
        )
    asked = replace(
        card,
        model=_changed(card.model, "the model card"),
        data=_with_given_data(card.data),
        train=replace(card.train, **_given_fields(TrainConfig)),
    )
    if changes := differences(card, asked):
        raise ValueError(
            f"The flags contradict the run of --checkpoint_dir={run} ({'; '.join(changes)}). Leave "
            "them out to see what it sees, or --checkpoint_dir to see what they would do."
        )
    return replace(card, dataset=info)


def _with_given_data(data: DataConfig) -> DataConfig:
    """What happens to training images, with what the flags change of it."""
    more = replace(data.augmentations, **_given_fields(AugmentationConfig))
    data = replace(data, augmentations=more, **_given_fields(DataConfig))
    return replace(data, crop_size=size("train_crop_size")) if given("train_crop_size") else data


def chosen_recipe() -> Recipe | None:
    """The one of --recipe."""
    if not FLAGS.recipe:
        return None
    if FLAGS.preset:
        raise ValueError(
            f"--recipe={FLAGS.recipe} has a network of its own: leave --preset={FLAGS.preset} out, "
            "or change single settings of it with their flags."
        )
    return RECIPES[FLAGS.recipe]


def wants_auto_label_weights() -> bool:
    """Whether --label_weights=auto is given: the card has no weights yet then."""
    return "auto" in (FLAGS.label_weights or [])


def train_split(info: DatasetInfo) -> str:
    """The split to train on: the flag's, or the recipe's if this is its data set."""
    recipe = chosen_recipe()
    if recipe is None or recipe.dataset != info.name or given("train_split"):
        return FLAGS.train_split
    return recipe.train_split


def initial_checkpoint() -> str | None:
    """What the weights of a new run start from: the flag's, or the recipe's; None for scratch."""
    recipe = chosen_recipe()
    if given("tf_initial_checkpoint") or recipe is None:
        return FLAGS.tf_initial_checkpoint or None
    return recipe.initial_checkpoint


def model_from_flags(
    num_classes: int, recipe: Recipe | None = None, *, input_channels: int = 3
) -> ModelConfig:
    """The network of the recipe or the preset, if one is given, with what the flags change."""
    # From the start, because fields are checked against each other.
    changes = {
        "num_classes": num_classes,
        "input_channels": input_channels,
        **_given_fields(ModelConfig),
    }
    if recipe is not None:
        return recipe.model.changed(**changes)
    if FLAGS["preset"].value:
        return ModelConfig.from_preset(FLAGS["preset"].value, **changes)
    return ModelConfig(**changes)


def card_of(
    checkpoint: str,
    asked_for: str,
    *,
    crop_flag: str,
    scales_flag: str = "eval_scales",
    info: DatasetInfo | None = None,
) -> ModelCard:
    """What a checkpoint is: its run's model card, or what the zoo says, or what the flags say.

    A flag that contradicts a card or the zoo is an error: the weights fit one network only.

    Args:
        checkpoint: Its prefix.
        asked_for: The flag's value that led to it.
        crop_flag: Flag of the size to pad to.
        scales_flag: Flag of the scales to average over.
        info: The records it is to be used on, if any.
    """
    from deeplab_tf import weights

    known = weights.find_zoo_model(asked_for)
    if weights.is_of_a_run(checkpoint):
        card = ModelCard.load(os.path.dirname(checkpoint) or ".")
        card = replace(card, model=_changed(_after_training(card), "the model card"))
        if info is not None:
            check_same_classes(card.dataset, info)
    elif known is not None:
        model = _changed(known.config(), "the model zoo")
        side = known.input_longest_side
        resize = InferenceConfig(known.crop_size, side, side, model.output_stride if side else None)
        info = info or KNOWN_DATASETS[known.dataset]
        card = ModelCard(model, DataConfig(), TrainConfig(), resize, info)
    else:
        info = info or replace(_classes_of_flags(), input_channels=FLAGS.input_channels)
        # Not given, the output stride is the script's own default: export_model.py's is 8.
        stride = FLAGS["output_stride"].value
        fields = {**_given_fields(ModelConfig), "output_stride": stride}
        fields |= {"num_classes": info.num_classes, "input_channels": _channels_of(info)}
        model = ModelConfig(**fields)
        padded = InferenceConfig(crop_size=size(crop_flag))
        card = ModelCard(model, DataConfig(), TrainConfig(), padded, info)
    if info is not None and card.model.input_channels != info.input_channels:
        raise ValueError(
            f"The network takes images of {card.model.input_channels} channels, those of "
            f"--dataset_dir={FLAGS.dataset_dir} have {info.input_channels}: "
            f"{_how_to_convert(card.model.input_channels)}."
        )
    changes = _given_fields(InferenceConfig)
    if given(crop_flag):
        changes["crop_size"] = size(crop_flag)
    if given(scales_flag):
        changes["eval_scales"] = _value(scales_flag)
    changes["crf"] = chosen_crf(card.inference.crf)
    changes["eval_output_stride"] = None  # the network has it now
    return replace(card, inference=replace(card.inference, **changes))


def _channels_of(info: DatasetInfo) -> int:
    """The channels of images, which the flag may say too."""
    if given("input_channels") and FLAGS.input_channels != info.input_channels:
        raise ValueError(
            f"--input_channels={FLAGS.input_channels}, but the images of "
            f"--dataset_dir={FLAGS.dataset_dir} have {info.input_channels}: leave the flag out, or "
            f"{_how_to_convert(FLAGS.input_channels)}."
        )
    return info.input_channels


def _how_to_convert(channels: int) -> str:
    return (
        "convert the images again, with build_folder_data.py or build_voc2012_data.py and "
        f"--input_channels={channels}"
    )


def known_dataset() -> DatasetInfo:
    """The data set that --dataset names."""
    if FLAGS.dataset not in KNOWN_DATASETS:
        raise ValueError(
            f"--dataset={FLAGS.dataset} is unknown; there are {', '.join(KNOWN_DATASETS)}. Your "
            "own records need no such flag: the converters describe them in dataset.json."
        )
    return KNOWN_DATASETS[FLAGS.dataset]


def _classes_of_flags() -> DatasetInfo:
    """Those of --dataset; of a TF1 checkpoint with another --num_classes, only their number."""
    info = known_dataset()
    if "num_classes" not in FLAGS or FLAGS.num_classes == info.num_classes:
        return info
    if given("dataset"):
        raise ValueError(
            f"--num_classes={FLAGS.num_classes}, but --dataset={FLAGS.dataset} has "
            f"{info.num_classes}: leave one of them out."
        )
    return DatasetInfo(
        name="unknown",
        class_names=tuple(f"class {i}" for i in range(FLAGS.num_classes)),
        palette=tuple(map(tuple, voc_colormap(FLAGS.num_classes).tolist())),
        ignore_label=255,
        splits=info.splits,
    )


def check_same_classes(trained: DatasetInfo, records: DatasetInfo) -> None:
    """Raises ValueError if records have other classes than the network."""
    if trained.class_names != records.class_names:
        raise ValueError(
            f"--dataset_dir={FLAGS.dataset_dir} has the {records.num_classes} classes "
            f"{list(records.class_names)}, the model was trained on the {trained.num_classes} "
            f"{list(trained.class_names)}."
        )


def size(flag: str) -> tuple[int, int]:
    """The value of a flag that is a height and a width."""
    values = _integers(flag)
    if len(values) != 2:
        given = ",".join(map(str, values))
        raise ValueError(f"--{flag} is {given}; expected two integers, height,width.")
    return values[0], values[1]


def _after_training(card: ModelCard) -> ModelConfig:
    """A run's network at the output stride that its recipe evaluates at."""
    stride = card.inference.eval_output_stride
    return card.model if stride is None else card.model.at_output_stride(stride)


def _changed(model: ModelConfig, source: str) -> ModelConfig:
    """A network with what flags may change of it; ValueError if they contradict its weights."""
    changes = _given_fields(ModelConfig)
    for name, value in changes.items():
        if name not in _FREE_MODEL_FIELDS and value != getattr(model, name):
            raise ValueError(
                f"--{_RENAMED.get(name, name)}={value} contradicts {source}, which says "
                f"{getattr(model, name)}: leave the flag out, or name the run that was trained so."
            )
    rates = changes.get("atrous_rates", model.atrous_rates)
    if len(rates) != len(model.atrous_rates):
        raise ValueError(
            f"--atrous_rates={rates} contradicts {source}, which has {len(model.atrous_rates)} "
            f"branches with the rates {model.atrous_rates}."
        )
    return model.changed(**changes)


def _given_fields(config: type) -> dict[str, Any]:
    """The fields of a config whose flags are given, with the values they stand for."""
    values = {}
    for field in fields(config):
        flag = _RENAMED.get(field.name, field.name)
        if field.name not in ("crop_size", "crf", "augmentations") and given(flag):
            values[field.name] = _VALUES.get(flag, _value)(flag)
    return values


def _value(flag: str) -> Any:
    value = FLAGS[flag].value
    return tuple(value) if isinstance(value, list) else value


def _integers(flag: str) -> tuple[int, ...]:
    values: Any = FLAGS[flag].value
    try:
        return tuple(map(int, values))
    except ValueError as error:
        raise ValueError(f"--{flag} is {','.join(values)}; expected integers.") from error


def _cell(flag: str) -> tuple[CellBranch, ...]:
    path = FLAGS[flag].value
    if not path:
        return ()
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--{flag}={path} not found: expected a JSON list of branches.")
    with open(path, encoding="utf-8") as file:
        try:
            return tuple(map(CellBranch.from_reference, json.load(file)))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"--{flag}={path}: {error}") from error


def _label_weights(flag: str) -> tuple[float, ...]:
    values: Any = FLAGS[flag].value
    if "auto" not in values:
        return tuple(values)
    if len(values) > 1:
        raise ValueError(
            f"--{flag} is {', '.join(map(str, values))}: expected auto alone, or one number for "
            "each class."
        )
    return ()


# Flags that are lists of strings, as in the reference, or files, or words.
_VALUES = {
    "label_weights": _label_weights,
    "decoder_output_stride": _integers,
    "image_pooling_crop_size": size,
    "image_pooling_stride": size,
    "tile_size": size,
    "dense_prediction_cell_json": _cell,
}

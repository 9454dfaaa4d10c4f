"""Recipes: the papers' numbers in them, and the runs that train.py makes of them."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from deeplab_tf import ModelConfig, TrainConfig, build_deeplab, weights
from deeplab_tf.config import CRF_V1, CRFParams
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.model_card import ModelCard
from deeplab_tf.presets import PRESETS, RECIPES
from deeplab_tf.training.step import freeze_layers
from tests import tiny_run
from tests.test_cli import run, succeed

# As in the papers' tables: with everything, and before the CRF; training steps, batch, crop, rate.
PUBLISHED = {
    "deeplabv1_crf": (63.74, 59.80, 6000, 20, 321, 1e-3),
    "deeplabv1_crf_4x4": (67.14, 63.41, 6000, 20, 321, 1e-3),
    "deeplabv1_crf_7x7": (67.64, 64.38, 6000, 20, 321, 1e-3),
    "deeplabv1_crf_largefov": (67.64, 62.25, 6000, 20, 321, 1e-3),
    "deeplabv1_msc_crf_largefov": (68.70, 64.21, 6000, 20, 321, 1e-3),
    "deeplabv2_vgg16_largefov_crf": (69.84, 65.76, 20000, 10, 321, 1e-3),
    "deeplabv2_vgg16_aspp_s_crf": (69.73, 66.98, 20000, 10, 321, 1e-3),
    "deeplabv2_vgg16_aspp_l_crf": (71.57, 68.96, 20000, 10, 321, 1e-3),
    "deeplabv2_resnet101_largefov": (75.54, None, 20000, 10, 321, 2.5e-4),
    "deeplabv2_resnet101_crf": (77.69, 76.35, 20000, 10, 321, 2.5e-4),
    "deeplabv3_resnet50_cascaded": (73.88, None, 30000, 16, 513, 7e-3),
    "deeplabv3_resnet101_cascaded": (79.35, None, 30000, 16, 513, 7e-3),
    "deeplabv3_resnet101": (79.77, None, 30000, 16, 513, 7e-3),
    "deeplabv3_resnet101_cityscapes": (79.30, None, 90000, 16, 769, 7e-3),
    "deeplabv3plus_resnet101": (80.57, None, 30000, 16, 513, 7e-3),
    "deeplabv3plus_xception65": (81.39, None, 30000, 16, 513, 7e-3),
    "deeplabv3plus_xception65_coco": (83.58, None, 30000, 16, 513, 1e-4),
    "deeplabv3plus_xception65_cityscapes": (79.14, None, 90000, 16, 769, 7e-3),
    "deeplabv3plus_xception71_cityscapes": (79.55, None, 90000, 16, 769, 7e-3),
}
SMALL = (
    "--fc_filters=8",
    "--train_crop_size=33,33",
    "--train_batch_size=2",
    "--training_number_of_steps=2",
    "--tf_initial_checkpoint=",
)


def test_every_recipe_is_compared_with_its_paper():
    assert set(RECIPES) == set(PUBLISHED)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_numbers_of_its_paper(name):
    recipe = RECIPES[name]
    assert (
        recipe.mean_iou,
        recipe.mean_iou_before_crf,
        recipe.train.training_number_of_steps,
        recipe.data.batch_size,
        recipe.data.crop_size[0],
        recipe.train.base_learning_rate,
    ) == PUBLISHED[name]
    dataset = KNOWN_DATASETS[recipe.dataset]
    assert recipe.model.num_classes == dataset.num_classes
    assert {recipe.train_split, recipe.val_split} <= set(dataset.splits)
    assert "crf" not in name or recipe.inference.crf is not None
    # The rates are at home at both strides, and crops are k * stride + 1.
    stride = recipe.inference.eval_output_stride or recipe.model.output_stride
    assert recipe.model.at_output_stride(stride).output_stride == stride
    assert (recipe.data.crop_size[0] - 1) % recipe.model.output_stride == 0


def test_recipes_of_one_paper_train_alike():
    """But for what their names say: v1's step policy, v2's poly, the classifiers' factors."""
    for name, recipe in RECIPES.items():
        if name.startswith(("deeplabv1", "deeplabv2")):
            assert recipe.train.learning_policy == ("step" if "v1" in name else "poly")
            assert recipe.train.last_layer_gradient_multiplier == 10
            assert not recipe.train.upsample_logits  # the loss is on labels subsampled by 8
            assert recipe.train.weight_decay == 0.0005
        else:
            assert recipe.train.learning_policy == "poly"
            assert recipe.train.upsample_logits


def test_a_dry_run_prints_everything_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = succeed("train.py", "--recipe=deeplabv2_vgg16_aspp_l_crf", "--dry_run")
    for text in (
        "DeepLabv2 (arXiv 1606.00915), Table 3",
        "mean IoU 71.57 % on val, 68.96 before the CRF",
        "train_aug of pascal_voc_seg, 10582 images, 21 classes",
        "keras_vgg16",
        "epochs    18.9",
        "(6, 12, 18, 24)",
        "37,877,652",
    ):
        assert text in out
    recipe = RECIPES["deeplabv2_vgg16_aspp_l_crf"]
    data = recipe.data
    for config in (recipe.model, data, data.augmentations, recipe.train, recipe.inference):
        for field in dataclasses.fields(config):
            assert f" {field.name} " in out or field.name == "augmentations"
    assert not list(tmp_path.iterdir())


def test_a_dry_run_shows_what_the_flags_change():
    out = succeed(
        "train.py",
        "--recipe=deeplabv3_resnet101",
        "--dry_run",
        "--train_batch_size=4",
        "--output_stride=8",
        "--tf_initial_checkpoint=mine.ckpt",
        "--blur_probability=0.5",
    )
    assert "* batch_size                         4\n" in out
    assert "* atrous_rates                       (12, 24, 36)\n" in out
    assert "weights   mine.ckpt" in out
    assert "* blur_probability                   0.5\n" in out
    assert "  hue_jitter                         0.0\n" in out


def test_a_dry_run_needs_no_recipe(tmp_path):
    tiny_run.write_dataset(tmp_path / "data")
    out = succeed(
        "train.py",
        "--dry_run",
        "--preset=deeplabv1_vgg16_largefov",
        f"--dataset_dir={tmp_path}/data",
    )
    assert "train of blocks, 6 images, 3 classes" in out
    assert "from scratch" in out
    assert f"{20_505_429 - 18 * 1025:,}" in out  # 3 classes, not 21


def test_flags_that_contradict_a_recipe():
    done = run(
        "train.py", "--dry_run", "--recipe=deeplabv1_crf", "--preset=deeplabv1_vgg16_largefov"
    )
    assert done.code == 1
    assert "--recipe=deeplabv1_crf has a network of its own" in done.err


@pytest.mark.parametrize("flag", ["dataset_dir", "train_logdir"])
def test_without_a_dry_run_the_folders_are_needed(flag, tmp_path):
    given = {"dataset_dir", "train_logdir"} - {flag}
    done = run("train.py", "--recipe=deeplabv1_crf", *(f"--{name}={tmp_path}" for name in given))
    assert done.code == 1
    assert f"--{flag} must have a value, unless --dry_run is given" in done.err


def test_a_recipe_on_records_of_ones_own(tmp_path):
    """Network, schedule and CRF are the recipe's; classes are the records'; the card has it all."""
    tiny_run.write_dataset(tmp_path / "data")
    succeed(
        "train.py",
        "--recipe=deeplabv1_crf_largefov",
        f"--dataset_dir={tmp_path}/data",
        f"--train_logdir={tmp_path}/run",
        "--val_split=",
        *SMALL,
    )
    card = ModelCard.load(tmp_path / "run")
    recipe = RECIPES["deeplabv1_crf_largefov"]
    assert card.model == dataclasses.replace(recipe.model, num_classes=3, fc_filters=8)
    assert card.train == dataclasses.replace(recipe.train, training_number_of_steps=2)
    assert card.inference.crf == CRF_V1
    assert isinstance(card.inference.crf, CRFParams)


def test_evaluation_has_the_output_stride_of_the_recipe(tmp_path):
    tiny_run.write_dataset(tmp_path / "data")
    config = ModelConfig(
        "mobilenet_v2",
        num_classes=3,
        depth_multiplier=0.25,
        atrous_rates=(1,),
        aspp_convs_filters=8,
    )
    succeed(
        "train.py",
        f"--dataset_dir={tmp_path}/data",
        f"--train_logdir={tmp_path}/run",
        "--depth_multiplier=0.25",
        "--atrous_rates=1",
        "--aspp_convs_filters=8",
        "--val_split=",
        *SMALL[1:],
    )
    card = ModelCard.load(tmp_path / "run")
    assert card.model == config
    inference = dataclasses.replace(card.inference, eval_output_stride=8, eval_scales=(0.5, 1.0))
    dataclasses.replace(card, inference=inference).save(tmp_path / "run")
    arguments = (f"--dataset_dir={tmp_path}/data", f"--checkpoint_dir={tmp_path}/run")
    for flags, stride in (((), 8), (("--output_stride=16",), 16)):
        succeed("eval.py", *arguments, *flags)
        scores = json.loads((tmp_path / "run/scores_val.json").read_text())
        assert scores["output_stride"] == stride
        assert scores["inference"]["eval_scales"] == [0.5, 1.0]


def test_only_the_named_layers_learn():
    """v1's multi-scale features: the network they are added to stays as it is."""
    model = build_deeplab(
        dataclasses.replace(
            PRESETS["deeplabv1_vgg16_largefov_msc"].model, num_classes=3, fc_filters=8
        )
    )
    trained = RECIPES["deeplabv1_msc_crf_largefov"].train.trained_layers
    freeze_layers(model, trained)
    names = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert names == {
        "logits.semantic",
        *(f"msc.pool{i}.conv{j}" for i in range(5) for j in (1, 2)),
    }
    with pytest.raises(
        ValueError, match=r"--trained_layers=mcs: .* there are fc6, fc7, logits, msc"
    ):
        freeze_layers(model, ["mcs"])


def test_frozen_layers_are_left_alone_by_training(tmp_path):
    tiny_run.write_dataset(tmp_path / "data")
    succeed(
        "train.py",
        f"--dataset_dir={tmp_path}/data",
        f"--train_logdir={tmp_path}/run",
        "--preset=deeplabv1_vgg16_largefov_msc",
        "--trained_layers=msc.",
        "--trained_layers=logits.",
        "--val_split=",
        *SMALL,
    )
    card = ModelCard.load(tmp_path / "run")
    assert card.train.trained_layers == ("msc.", "logits.")
    keras.utils.set_random_seed(TrainConfig().seed)
    before = build_deeplab(card.model)
    after = build_deeplab(card.model)
    weights.load_weights(after, weights.locate_checkpoint(tmp_path / "run"))
    for old, new in zip(before.weights, after.weights, strict=True):
        frozen = not old.path.startswith(("msc.", "logits."))
        assert np.array_equal(old.numpy(), new.numpy()) == frozen, old.path

"""The table of flags against the reference's, and its documented command lines."""

import dataclasses
import json
from pathlib import Path

import pytest
from absl import flags

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.cli import cards, flag_table
from deeplab_tf.config import AugmentationConfig
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.training import run as training
from tests import golden_cases
from tests.test_cli import run

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads((golden_cases.FOLDER / "flags.json").read_text())
COMMANDS = json.loads((golden_cases.FOLDER / "commands.json").read_text())
MAPPED = flag_table.MAPPED
SCRIPTS = ("train.py", "eval.py", "vis.py", "export_model.py")
CONFIGS = (ModelConfig, DataConfig, AugmentationConfig, TrainConfig, InferenceConfig)


def reference_flags(script):
    return [flag for flag in GOLDEN["flags"] if flag["script"] in (script, "common.py")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_the_reference_has_its_name_type_and_default(script):
    ours = {flag.name: flag for flag in flag_table.SCRIPTS[script]}
    assert len(ours) == len(flag_table.SCRIPTS[script])
    for theirs in reference_flags(script):
        flag = ours.pop(theirs["name"])
        default = list(flag.default) if isinstance(flag.default, tuple) else flag.default
        assert (flag.kind, default) == (theirs["type"], theirs["default"]), flag.name
        choices = theirs.get("choices", [])
        assert list(flag.choices[: len(choices)]) == choices, flag.name
        assert (len(flag.choices) == len(choices) and not flag.words) or flag.origin == MAPPED
        assert flag.origin != flag_table.OWN, flag.name
    assert {flag.origin for flag in ours.values()} <= {flag_table.OWN}


def test_a_flag_and_the_config_field_it_sets_have_one_default():
    for script in SCRIPTS[:3]:
        defaults = {flag.name: flag.default for flag in flag_table.SCRIPTS[script]}
        for config in CONFIGS:
            for field in dataclasses.fields(config):
                name = {"batch_size": "train_batch_size"}.get(field.name, field.name)
                if name not in defaults or name in ("batch_norm_decay", "crop_size"):
                    continue
                default = defaults[name]
                if isinstance(default, str) and name == "image_pooling_stride":
                    default = tuple(map(int, default.split(",")))
                assert (default or field.default) == field.default, name


def test_every_augmentation_has_a_flag_in_train_and_vis():
    names = {field.name for field in dataclasses.fields(AugmentationConfig)}
    for script in ("train.py", "vis.py"):
        assert names <= {flag.name for flag in flag_table.SCRIPTS[script]}


def test_the_documentation_lists_every_flag():
    text = (ROOT / "docs/flags.md").read_text()
    assert flag_table.flags_table() in text


@pytest.fixture
def flag_values(monkeypatch):
    """A function that defines a script's flags and parses arguments, undone after the test."""
    known = set(flags.FLAGS)

    def parse(script, arguments):
        flag_table.define_flags(script)
        assert flags.FLAGS([script, *arguments]) == [script]
        return flags.FLAGS

    yield parse
    for flag in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, flag)
    flags.FLAGS.unparse_flags()


def documented(*scripts):
    """The reference's documented commands of some scripts, with a name for each."""
    return [
        pytest.param(command["script"], command["args"], id=f"{command['source']}-{i}")
        for i, command in enumerate(COMMANDS)
        if command["script"] in scripts
    ]


@pytest.mark.parametrize(("script", "arguments"), documented("train.py"))
def test_documented_training_commands_describe_their_network(script, arguments, flag_values):
    arguments = [argument.replace("${NUM_ITERATIONS}", "10") for argument in arguments]
    values = flag_values(script, arguments)
    info = KNOWN_DATASETS[values.dataset]
    card = cards.training_card(info)
    assert card.model.model_variant == values.model_variant
    assert card.model.num_classes == info.num_classes
    assert card.train.training_number_of_steps == values.training_number_of_steps
    assert ",".join(map(str, card.data.crop_size)) == ",".join(values.train_crop_size)
    assert card.data.batch_size == values.train_batch_size
    if values.model_variant == "xception_65":
        assert (card.model.atrous_rates, card.model.decoder_output_stride) == ((6, 12, 18), (4,))
    if values.dataset == "ade20k":
        assert card.data.min_resize_value == card.inference.max_resize_value == 513
        assert card.data.resize_factor == 16
    # What is not given is the reference's default.
    assert card.train.base_learning_rate == (3e-5 if "quantize" in str(arguments) else 0.0001)
    assert card.train.weight_decay == 0.00004


@pytest.mark.parametrize(
    ("script", "arguments"), documented("eval.py", "vis.py", "export_model.py")
)
def test_documented_commands_describe_the_network_of_a_tf1_checkpoint(
    script, arguments, flag_values, monkeypatch
):
    monkeypatch.setattr("deeplab_tf.weights.is_of_a_run", lambda prefix: False)
    values = flag_values(script, arguments)
    crop_flag = {"eval.py": "eval_crop_size", "vis.py": "vis_crop_size"}.get(script, "crop_size")
    scales_flag = "inference_scales" if script == "export_model.py" else "eval_scales"
    info = None if script == "export_model.py" else KNOWN_DATASETS[values.dataset]
    card = cards.card_of("x", "x", crop_flag=crop_flag, scales_flag=scales_flag, info=info)
    assert card.model.num_classes == (19 if info and info.name == "cityscapes" else 21)
    assert card.model.model_variant == values.model_variant
    explicit = any(argument.startswith("--output_stride") for argument in arguments)
    default = 8 if script == "export_model.py" else 16
    assert card.model.output_stride == (16 if explicit else default)
    assert card.inference.crop_size == tuple(map(int, values[crop_flag].value))
    assert card.inference.eval_scales == (1.0,)


def test_obsolete_flags_say_what_there_is_in_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", lambda card, **options: None)
    monkeypatch.setattr("deeplab_tf.cli.inputs.records", lambda: KNOWN_DATASETS["ade20k"])
    done = run(
        "train.py",
        "--dataset_dir=data",
        f"--train_logdir={tmp_path}",
        "--nocheck_data",
        "--num_replicas=4",
        "--quantize_delay_step=0",
        "--task=0",
    )
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if "has no effect" in line]
    assert [line.split()[0] for line in lines] == [
        "--quantize_delay_step",
        "--num_replicas",
        "--task",
    ]
    assert "the workers are those of TF_CONFIG" in lines[1]

"""The converters take the flags and the documented command lines of the reference's scripts."""

import json
from pathlib import Path

import pytest
from absl import flags

pytestmark = pytest.mark.golden

GOLDEN = Path(__file__).parents[1] / "golden"
SCRIPTS = ("build_voc2012_data", "build_cityscapes_data", "build_ade20k_data")
FLAG_TYPES = {"string": "string", "enum": "string enum"}
COMMANDS = [
    command
    for command in json.loads((GOLDEN / "commands.json").read_text())
    if command["source"].startswith("datasets/")
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_names_types_defaults(load_script, script):
    load_script(script)
    # build_data.py is what all three import there.
    sources = ("datasets/build_data.py", f"datasets/{script}.py")
    listed = json.loads((GOLDEN / "flags.json").read_text())["dataset_script_flags"]
    expected = [flag for flag in listed if flag["script"] in sources]
    assert len(expected) >= 4
    for flag in expected:
        ours = flags.FLAGS[flag["name"]]
        assert (ours.flag_type(), ours.default) == (FLAG_TYPES[flag["type"]], flag["default"])
        assert getattr(ours.parser, "enum_values", None) == flag.get("choices")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command["script"])
def test_documented_command_lines(load_script, command):
    load_script(Path(command["script"]).stem)
    flags.FLAGS([command["script"], *command["args"]])
    for argument in command["args"]:
        name, value = argument.removeprefix("--").split("=")
        assert flags.FLAGS[name].value == value


def test_every_documented_script_is_here():
    assert {Path(command["script"]).stem for command in COMMANDS} == {
        *SCRIPTS,
        "remove_gt_colormap",
    }

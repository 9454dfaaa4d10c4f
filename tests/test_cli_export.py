"""The flags of LiteRT and ONNX files and of --verify, by the command line."""

import dataclasses

import numpy as np
import pytest
from absl import flags

from deeplab_tf.cli import export_files, flag_table
from deeplab_tf.data.channels import stored_pixels
from deeplab_tf.data.records import scale_values
from tests.export.exported_network import CARD, noise


@pytest.fixture
def given_flags(monkeypatch):
    """Sets flags of export_model.py, which are those of no other test."""

    def define(**values):
        table = flags.FlagValues()
        monkeypatch.setattr(flag_table.flags, "FLAGS", table)
        monkeypatch.setattr(export_files, "FLAGS", table)
        for flag in flag_table.SCRIPTS["export_model.py"]:
            default = list(flag.default) if isinstance(flag.default, tuple) else flag.default
            choices = [list(flag.choices)] if flag.kind == "enum" else []
            define_flag = getattr(flags, f"DEFINE_{flag.kind}")
            define_flag(flag.name, default, *choices, flag.help, flag_values=table)
        table(["export_model.py", *(f"--{name}={value}" for name, value in values.items())])
        return table

    return define


@pytest.mark.parametrize(
    "values, message",
    [
        ({"export_path": "m", "litert_precision": "fp16"}, r"no --export_path ends in \.tflite"),
        ({"export_path": "m.pb", "export_size": "9,9"}, r"ends in \.tflite or \.onnx"),
        ({"export_path": "m.onnx", "verify_images": "3"}, "has no effect without --verify"),
        ({"export_path": "m.ckpt", "verify": "true"}, "a TF1 checkpoint is no graph"),
        ({"export_path": "m", "verify": "true", "verify_threshold": "1.5"}, "expected a share"),
    ],
)
def test_flags_without_a_use_are_errors(given_flags, values, message):
    given_flags(**values)
    with pytest.raises(ValueError, match=message):
        export_files.check_flags(export_files.paths())


def test_several_paths(given_flags):
    given_flags(export_path="a/m,m.onnx")
    assert export_files.paths() == ["a/m", "m.onnx"]
    for wrong in ("m,", "m,m"):
        given_flags(export_path=wrong)
        with pytest.raises(ValueError, match="with commas between"):
            export_files.paths()


def test_export_size(given_flags):
    for value, size in {"360,480": (360, 480), "any": None}.items():
        given_flags(export_size=value)
        assert export_files._size(default=(1, 1)) == size
    given_flags()
    assert export_files._size(default=(7, 9)) == (7, 9)
    for value in ("9", "9,x", "0,9", "9,9,9"):
        given_flags(export_size=value)
        with pytest.raises(ValueError, match="expected height,width in pixels, or any"):
            export_files._size(default=None)


def test_stored_pixels_are_those_before_the_scaling():
    info = dataclasses.replace(CARD.dataset, bit_depth=16, value_range=(100, 3000))
    stored = np.arange(100, 3001, dtype=np.uint16)[None, :, None]
    scaled = scale_values(stored, info.value_range).numpy()
    np.testing.assert_array_equal(stored_pixels(scaled, info), stored)
    image = noise(1, 9, 9)[0]
    assert stored_pixels(image, CARD.dataset) is image

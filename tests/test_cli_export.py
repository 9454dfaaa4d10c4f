"""The flags of LiteRT and ONNX files and of --verify, by the command line."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from absl import flags
from PIL import Image

from deeplab_tf.cli import export_files, flag_table
from deeplab_tf.data.channels import stored_pixels
from deeplab_tf.data.records import scale_values
from deeplab_tf.export.onnx import export_onnx
from tests import tiny_run
from tests.export.exported_network import CARD, noise
from tests.prediction.predicting import write_run
from tests.test_cli import run


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


# --- From a checkpoint to a manifest --------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run and images of other sizes than the export's; an export of other weights, "bad.onnx"."""
    place = tmp_path_factory.mktemp("verify")
    write_run(place / "run")
    (place / "photos").mkdir()
    for seed in range(3):
        Image.fromarray(tiny_run.scene(seed)[0]).save(place / f"photos/{seed}.png")
    other = tiny_run.random_network()
    other.get_layer("logits.semantic").bias.assign_add([2.0, 0.0, 0.0])
    export_onnx(other, tiny_run.card(), export_path=place / "bad.onnx")
    return place


def verify(place, *paths):
    return run(
        "export_model.py",
        f"--checkpoint_path={place}/run",
        f"--export_path={','.join(f'{place}/{path}' for path in paths)}",
        "--output_stride=16",
        "--export_size=48,56",
        "--verify",
        f"--images={place}/photos",
        "--verify_images=2",
    )


def manifest_of(place, path):
    return json.loads((place / f"{path}.verified.json").read_text())


def test_a_verified_export(place):
    done = verify(place, "model.tflite", "model.onnx")
    assert done.code == 0, done.err
    for path, reader in (("model.tflite", "litert"), ("model.onnx", "onnx")):
        assert f"Written to {place}/{path}.verified.json" in done.out
        manifest = manifest_of(place, path)
        assert (manifest["passed"], manifest["images"]) == (True, 2)
        assert manifest["size"] == [48, 56]
        assert manifest["checkpoint"] == f"{place}/run/model.ckpt-3"
        (reading,) = manifest["readers"]
        assert (reading["reader"], reading["status"]) == (reader, "equal")
        assert 0.999 <= reading["equal_labels"] <= 1 and reading["max_difference"] < 1e-4
        digest = hashlib.sha256((place / path).read_bytes()).hexdigest()
        assert manifest["sha256"] == {path: digest}


def test_an_export_below_the_threshold(place):
    """One that exists is verified as it is; the other one of the command is written and passes."""
    before = (place / "bad.onnx").read_bytes()
    done = verify(place, "bad.onnx", "good.onnx")
    assert done.code == 1
    assert done.err.splitlines()[-1] == f"Not verified: {place}/bad.onnx."
    assert f"{place}/bad.onnx exists, and is verified as it is." in done.out
    assert (place / "bad.onnx").read_bytes() == before
    manifest = manifest_of(place, "bad.onnx")
    assert manifest["passed"] is False and manifest["readers"][0]["status"] == "differs"
    assert manifest["readers"][0]["equal_labels"] < manifest["threshold"] == 0.999
    assert manifest_of(place, "good.onnx")["passed"] is True

"""--verify finds what is wrong with an export, and says so where it cannot look."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.export import export_frozen_graph, export_saved_model
from deeplab_tf.export import reader as reader_script
from deeplab_tf.export.litert import export_litert, fit_image
from deeplab_tf.export.onnx import export_onnx
from deeplab_tf.export.reference import stored_image_predictor
from deeplab_tf.export.verify import format_verification, verify, write_manifest
from tests.export.exported_network import CARD, build_network, noise

SIZE = (33, 49)
IMAGES = [noise(1, 40, 50)[0], noise(1, 33, 49)[0]]
# Small networks of random weights: equal but for a few roundings.
FILES = ("saved_model", "model.pb", "model.tflite", "model.onnx")


@pytest.fixture(scope="module")
def model():
    return build_network()


@pytest.fixture(scope="module")
def exports(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    export_saved_model(model, CARD, export_path=folder / "saved_model")
    export_frozen_graph(model, CARD, export_path=folder / "model.pb")
    export_litert(model, CARD, export_path=folder / "model.tflite", size=SIZE)
    export_onnx(model, CARD, export_path=folder / "model.onnx", size=SIZE)
    return folder


@pytest.fixture(scope="module")
def check(model):
    """Verifies against the network of the module."""
    predict = stored_image_predictor(model, CARD)

    def check_path(path, **options):
        fit = lambda image, size: fit_image(image, size, CARD)  # noqa: E731
        return verify(path, IMAGES, predict, fit=fit, **options)

    return check_path


@pytest.mark.parametrize("name", FILES)
def test_good_exports_pass(exports, check, name):
    found = check(exports / name)
    assert found.passed, format_verification(found)
    readers = {
        "saved_model": ["tf2", "tf1", "C API"],
        "model.pb": ["frozen"],
        "model.tflite": ["litert"],
        "model.onnx": ["onnx"],
    }
    assert [reading.reader for reading in found.readings] == readers[name]
    assert found.size == (SIZE if name in ("model.tflite", "model.onnx") else None)
    for reading in found.readings:
        if reading.reader == "C API" and shutil.which("cc") is None:
            assert reading.reason == "no C compiler"
            continue
        assert reading.status == "equal"
        assert 0.999 <= reading.equal_labels <= 1
        assert reading.mean_difference <= reading.max_difference < 1e-3
        assert 0 < reading.milliseconds < 60_000


def test_wrong_weights_fail(check, tmp_path):
    """Exports of a network that differs in the kernel of one convolution in its middle."""
    damaged = build_network()
    kernel = damaged.get_layer("MobilenetV2.expanded_conv_5.depthwise").kernel
    kernel.assign(kernel[::-1])
    export_frozen_graph(damaged, CARD, export_path=tmp_path / "model.pb")
    export_onnx(damaged, CARD, export_path=tmp_path / "model.onnx")
    for name in ("model.pb", "model.onnx"):
        found = check(tmp_path / name)
        assert not found.passed
        assert found.readings[0].status == "differs", format_verification(found)


@pytest.mark.slow
def test_a_wrong_saved_model_fails_in_every_reader(check, tmp_path):
    damaged = build_network()
    damaged.get_layer("logits.semantic").bias.assign([3, 0, 0, 0, 0])
    export_saved_model(damaged, CARD, export_path=tmp_path / "saved_model")
    found = check(tmp_path / "saved_model")
    assert not found.passed
    read = [reading.status for reading in found.readings if reading.status != "not run"]
    assert set(read) == {"differs"}


def test_swapped_channels_fail(check, tmp_path):
    swapped = build_network()
    first = swapped.get_layer("MobilenetV2.Conv")
    first.set_weights([first.get_weights()[0][:, :, ::-1]])
    export_litert(swapped, CARD, export_path=tmp_path / "model.tflite", size=SIZE)
    found = check(tmp_path / "model.tflite")
    assert not found.passed
    assert found.readings[0].status == "differs"


def test_damaged_files_fail(exports, check, tmp_path):
    for name in FILES[1:]:
        data = (exports / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        found = check(tmp_path / name)
        assert not found.passed
        assert found.readings[0].status == "failed"
        assert found.readings[0].reason
        assert found.readings[0].reason in format_verification(found)


def test_results_of_another_shape_fail(exports, model):
    """Predictions of a network that crops what it sees."""
    predict = stored_image_predictor(model, CARD)
    found = verify(
        exports / "model.pb",
        IMAGES,
        lambda image: tuple(array[1:] for array in predict(image)),
        fit=lambda image, size: image,
    )
    assert not found.passed
    assert "its labels are (40, 50), evaluation's (39, 50)" in found.readings[0].reason


@pytest.mark.parametrize(
    "name, module", [("model.tflite", "ai_edge_litert"), ("model.onnx", "onnxruntime")]
)
def test_a_reader_that_is_not_installed(exports, check, name, module, tmp_path, monkeypatch):
    """Nothing was compared, so nothing is verified."""
    script = tmp_path / "reader.py"
    blocked = f"import sys; sys.modules[{module!r}] = None\n"
    source = Path(reader_script.__file__).read_text()
    script.write_text(source.replace("import json\n", f"import json\n{blocked}", 1))
    monkeypatch.setattr(reader_script, "__file__", str(script))
    found = check(exports / name)
    assert not found.passed
    (reading,) = found.readings
    assert reading.status == "not run"
    assert reading.reason.startswith("not installed: ")
    assert module in reading.reason


def test_without_a_compiler(exports, check, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = check(exports / "saved_model")
    assert found.passed  # the other two have read it
    *others, c_api = found.readings
    assert [reading.status for reading in others] == ["equal", "equal"]
    assert (c_api.status, c_api.reason) == ("not run", "no C compiler")
    assert "not run  no C compiler" in format_verification(found)


def test_the_threshold(exports, check):
    assert check(exports / "model.pb", threshold=0.5).passed
    assert check(exports / "model.pb", threshold=0.5).threshold == 0.5


def test_the_manifest(exports, check):
    found = check(exports / "model.tflite")
    path = write_manifest(found, checkpoint="run/model.ckpt-7")
    assert path == exports / "model.tflite.verified.json"
    manifest = json.loads(path.read_text())
    data = (exports / "model.tflite").read_bytes()
    digest = subprocess.run(
        ["sha256sum", exports / "model.tflite"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert manifest["sha256"] == {"model.tflite": digest}
    assert manifest["bytes"] == len(data)
    assert manifest["checkpoint"] == "run/model.ckpt-7"
    assert manifest["passed"] is True
    assert manifest["versions"]["tensorflow"] == tf.__version__
    assert manifest["readers"][0]["reader"] == "litert"
    assert manifest["readers"][0]["equal_labels"] == found.readings[0].equal_labels

    folder = json.loads(write_manifest(check(exports / "saved_model"), checkpoint="x").read_text())
    assert "saved_model/saved_model.pb" in folder["sha256"]


def test_what_is_no_export(check, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to verify"):
        check(tmp_path / "model.onnx")
    (tmp_path / "model.txt").touch()
    with pytest.raises(ValueError, match=r"ends in none of \.pb, \.tflite, \.onnx"):
        check(tmp_path / "model.txt")


def test_readers_have_nothing_of_this_package(exports):
    code = (
        "import runpy, sys; script, sys.argv = sys.argv[1], ['', *sys.argv[2:]]\n"
        "runpy.run_path(script, run_name='__main__'); assert 'deeplab_tf' not in sys.modules"
    )
    command = [sys.executable, "-I", "-c", code, reader_script.__file__]
    command += ["litert", exports / "model.tflite", "describe"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    about = json.loads(ended.stdout)
    assert (about["size"], about["int8"]) == (list(SIZE), False)
    assert sorted(about["outputs"]) == ["SemanticPredictions", "SemanticProbabilities"]


def test_evaluation_sees_stored_values(model):
    """What comes with 16 bits is scaled as `scale_values` does it."""
    image = IMAGES[1]
    labels, probabilities = stored_image_predictor(model, CARD)(image)
    np.testing.assert_array_equal(labels, probabilities.argmax(-1))

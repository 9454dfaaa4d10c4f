"""predict.py with what export_model.py wrote: the predictions of the checkpoint."""

import dataclasses
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from deeplab_tf import InferenceConfig
from deeplab_tf.data.records import scale_values
from deeplab_tf.export import export_saved_model
from deeplab_tf.model_card import ModelCard
from deeplab_tf.prediction.exported import ExportedNetwork, card_of_export, find_export
from deeplab_tf.prediction.network import batch_predictor
from tests import tiny_run
from tests.prediction.predicting import predict_arguments
from tests.test_cli import run, succeed

SIZE = (48, 56)
FLAGS = ("--add_flipped_images", "--min_resize_value=57", "--max_resize_value=80")
OUTPUTS = "--outputs=mask,probabilities,overlay"


@pytest.fixture(scope="module")
def exports(place):
    """The run as "served/3", "any.tflite", "one.tflite", "any.onnx", "bare.onnx"."""
    checkpoint = f"--checkpoint_path={place}/run"
    paths = f"--export_path={place}/any.tflite,{place}/any.onnx"
    succeed("export_model.py", checkpoint, paths, "--export_size=any", "--output_stride=16", *FLAGS)
    served = f"--export_path={place}/served", "--export_version=3", "--output_stride=16"
    succeed("export_model.py", checkpoint, *served, *FLAGS)
    size = ",".join(map(str, SIZE))
    one = f"--export_path={place}/one.tflite", f"--export_size={size}", "--output_stride=16"
    succeed("export_model.py", checkpoint, *one)
    bare = f"--export_path={place}/bare.onnx", f"--export_size={size}", "--output_stride=16"
    succeed("export_model.py", checkpoint, *bare, "--noexport_probabilities")
    succeed("predict.py", *predict_arguments(place, OUTPUTS, *FLAGS, out="by_checkpoint"))
    return place


def exported_arguments(place, name, *more, **options):
    _, *others = predict_arguments(place, *more, **options)
    return (f"--checkpoint_dir={place}/{name}", *others)


def assert_same_files(found, expected, *, suffixes=(".png", ".npy")):
    names = [p.relative_to(expected) for p in expected.rglob("*") if p.suffix in suffixes]
    assert len(names) == 4 * len(suffixes)
    for name in names:
        if name.suffix == ".npy":
            difference = np.load(found / name).astype(np.float32) - np.load(expected / name)
            assert np.abs(difference).max() < 1e-3  # halves
        else:
            assert (found / name).read_bytes() == (expected / name).read_bytes()


@pytest.mark.parametrize("name", ["served", "served/3", "any.tflite", "any.onnx"])
def test_predictions_are_those_of_the_checkpoint(exports, name):
    out = f"by_{name.replace('/', '_')}"
    arguments = exported_arguments(exports, name, OUTPUTS, "--batch_size=3", out=out)
    printed = succeed("predict.py", *arguments)
    assert "4 images, 3 of 3 classes predicted:" in printed
    assert_same_files(exports / out, exports / "by_checkpoint")
    assert {path.name for path in (exports / out / "overlay").rglob("*.jpg")} == {
        path.name for path in (exports / "by_checkpoint/overlay").rglob("*.jpg")
    }
    (exports / out / "mask/a.png").unlink()
    printed = succeed("predict.py", *arguments)
    assert "1 images, " in printed and "3 files were there" in printed


@pytest.mark.parametrize("name", ["served/3", "any.tflite", "any.onnx", "one.tflite"])
def test_probabilities_are_those_of_the_checkpoint(exports, name):
    """Of several sizes in one call, each as if it were alone."""
    path = find_export(str(exports / name))
    card = card_of_export(path)
    model = tiny_run.random_network()
    expected_of, _ = batch_predictor(model, card, with_probabilities=True)
    sizes = [SIZE] * 3 if name == "one.tflite" else [(41, 50), SIZE, (41, 50)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    found = ExportedNetwork(card, path).predictor(with_probabilities=True)(images)
    for image, ours, theirs in zip(images, found, expected_of(images), strict=True):
        assert ours.image is image
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)


def test_sixteen_bits_are_given_as_they_are_stored(tmp_path):
    card = tiny_run.card()
    info = dataclasses.replace(
        card.dataset, bit_depth=16, value_range=(100, 3000), input_channels=4
    )
    model = dataclasses.replace(card.model, input_channels=4)
    card = dataclasses.replace(card, model=model, dataset=info)
    network = tiny_run.random_network(model)
    export_saved_model(network, card, export_path=tmp_path / "deep")
    stored = np.random.default_rng(0).integers(0, 4000, (40, 50, 4)).astype(np.uint16)
    image = scale_values(stored, info.value_range).numpy()
    loaded = ExportedNetwork(card_of_export(str(tmp_path / "deep")), str(tmp_path / "deep"))
    (ours,) = loaded.predictor(with_probabilities=True)([image])
    (theirs,) = batch_predictor(network, card, with_probabilities=True)[0]([image])
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)


# --- Which one is meant ---------------------------------------------------------------------------


def test_versions(tmp_path):
    for version in ("2", "10", "9", "11", "export"):
        (tmp_path / "served" / version).mkdir(parents=True)
        if version != "11":  # which is being copied
            (tmp_path / "served" / version / "saved_model.pb").touch()
    assert find_export(str(tmp_path / "served")) == str(tmp_path / "served/10")
    assert find_export(str(tmp_path / "served/2")) == str(tmp_path / "served/2")
    assert find_export(str(tmp_path / "served/2/saved_model.pb")) == str(tmp_path / "served/2")
    for none in (tmp_path, tmp_path / "nowhere"):
        assert find_export(str(none)) is None


def test_a_run_is_no_export_whatever_is_in_it(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").touch()
    assert find_export(str(tmp_path)) == str(tmp_path / "1")
    (tmp_path / "checkpoint").touch()
    assert find_export(str(tmp_path)) is None


def test_another_export_is_not_mixed_in(exports, tmp_path):
    shutil.copytree(exports / "photos", tmp_path / "photos")
    shutil.copytree(exports / "served/3", tmp_path / "served/3")
    succeed("predict.py", *exported_arguments(tmp_path, "served"))
    network = tiny_run.random_network()
    network.get_layer("logits.semantic").bias.assign_add([0.5, 0, 0])
    export_saved_model(
        network, card_of_export(f"{exports}/served/3"), export_path=tmp_path / "served/4"
    )
    done = run("predict.py", *exported_arguments(tmp_path, "served"))
    assert done.code == 1 and "weights was" in done.err


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag",
    [
        *("--eval_scales=0.5", "--add_flipped_images", "--crf", "--tile_size=785,785"),
        *("--crop_size=65,65", "--output_stride=8", "--min_resize_value=40", "--dataset=ade20k"),
    ],
)
def test_flags_that_the_export_has_settled(exports, flag):
    done = run("predict.py", *exported_arguments(exports, "served", flag, out="never"))
    assert done.code == 1
    assert f"{flag.partition('=')[0]} has no effect on {exports}/served/3" in done.err
    assert not (exports / "never").exists()


def test_an_export_without_its_card(exports, tmp_path):
    shutil.copytree(exports / "photos", tmp_path / "photos")
    shutil.copy(exports / "any.onnx", tmp_path / "any.onnx")
    shutil.copytree(exports / "served/3", tmp_path / "served")
    shutil.rmtree(tmp_path / "served/assets.extra")
    for name, missing in {
        "any.onnx": "any.onnx.config.json not found",
        "served": "served/assets.extra/config.json not found",
    }.items():
        done = run("predict.py", *exported_arguments(tmp_path, name))
        assert done.code == 1 and missing in done.err and "classes and their colours" in done.err
    (tmp_path / "any.onnx.config.json").write_text("{")
    done = run("predict.py", *exported_arguments(tmp_path, "any.onnx"))
    assert done.code == 1 and "any.onnx.config.json: " in done.err


def test_what_cannot_be_predicted_with(exports, tmp_path):
    frozen = tmp_path / "model.pb"
    frozen.touch()
    with pytest.raises(ValueError, match=r"model\.pb is a frozen graph, which has no model card"):
        find_export(str(frozen))
    with pytest.raises(FileNotFoundError, match=r"no exported network at .*gone\.onnx"):
        find_export(str(tmp_path / "gone.onnx"))
    for name in ("any.onnx", "any.tflite"):
        (tmp_path / name).write_bytes((exports / name).read_bytes()[:1000])
        with pytest.raises(ValueError, match=rf"{name} cannot be loaded"):
            ExportedNetwork(tiny_run.card(), str(tmp_path / name))


def test_probabilities_that_were_left_out(exports):
    done = run("predict.py", *exported_arguments(exports, "bare.onnx", OUTPUTS, out="never"))
    assert done.code == 1 and "was exported with --noexport_probabilities" in done.err
    assert not (exports / "never").exists()


@pytest.mark.parametrize("name", ["one.tflite", "bare.onnx"])
def test_images_of_another_size(exports, tmp_path, name):
    (tmp_path / "photos").mkdir()
    for size in (SIZE, (40, 50)):
        pixels = np.resize(tiny_run.scene(0)[0], (*size, 3))
        Image.fromarray(pixels).save(tmp_path / f"photos/{size[0]}.png")
    arguments = [f"--input={tmp_path}/photos", f"--output_dir={tmp_path}/out"]
    arguments.append(f"--checkpoint_dir={exports}/{name}")
    done = run("predict.py", *arguments)
    assert done.code == 1 and "40.png: an image of 50x40 pixels (width x height)" in done.err
    assert f"{name} takes 56x48 only" in done.err
    printed = succeed("predict.py", *arguments, "--skip_corrupt")
    assert "1 images, " in printed and "1 files were left out" in printed
    assert np.asarray(Image.open(tmp_path / "out/mask/48.png")).shape == SIZE


def test_images_that_are_too_many_pixels(tmp_path):
    card = tiny_run.card()
    path = str(tmp_path / "small")
    export_saved_model(tiny_run.random_network(), card, export_path=path, max_pixels=49 * 65)
    network = ExportedNetwork(card_of_export(path), path)
    predict = network.predictor(with_probabilities=False)
    assert predict([np.zeros((49, 65, 3), np.uint8)])[0].labels.shape == (49, 65)
    with pytest.raises(ValueError, match=r"2 of 65x49 pixels .* fewer images at once"):
        predict([np.zeros((49, 65, 3), np.uint8)] * 2)
    read = network.reader(lambda path: np.zeros((66, 49, 3), np.uint8))
    with pytest.raises(ValueError, match=r"large\.png: .* takes 3185 at most"):
        read("large.png")


def test_a_runtime_that_is_not_installed(exports, monkeypatch):
    for module, name, extra in (
        ("ai_edge_litert.interpreter", "any.tflite", "litert"),
        ("onnxruntime", "any.onnx", "onnx"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"deeplab-tf\[{extra}\]"):
            ExportedNetwork(tiny_run.card(), str(exports / name))


def test_tiles_of_the_run_are_not_those_of_its_export(tmp_path):
    card = dataclasses.replace(tiny_run.card(), inference=InferenceConfig(tile_size=(785, 785)))
    card.save_beside(tmp_path / "m.onnx")
    assert card_of_export(str(tmp_path / "m.onnx")) == tiny_run.card()
    assert ModelCard.read(tmp_path / "m.onnx.config.json") == card
    assert os.listdir(tmp_path) == ["m.onnx.config.json"]

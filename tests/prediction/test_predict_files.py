"""predict.py on image files: what it writes, under which names, and that it goes on."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS
from deeplab_tf.prediction import files, network
from deeplab_tf.prediction.folder import PredictionFolder, input_root, output_names
from deeplab_tf.prediction.outputs import Predicted, Style
from deeplab_tf.visualization.run import overlay
from tests import tiny_run
from tests.prediction.predicting import predict_arguments, write_checkpoint, write_run
from tests.test_cli import run, succeed

ROOT = Path(__file__).parents[2]
PALETTE = tiny_run.INFO.palette


@pytest.fixture(scope="module")
def everything(place):
    """All kinds of files of the photos; and what was printed."""
    kinds = "--outputs=mask,color,overlay,ids,probabilities"
    printed = succeed("predict.py", *predict_arguments(place, kinds, "--id_map=7,8,33", out="all"))
    return place / "all", printed


@pytest.fixture(scope="module")
def drawn(place):
    """What vis.py draws of the same."""
    succeed(
        "vis.py",
        f"--checkpoint_dir={place}/run",
        f"--images={place}/photos",
        f"--vis_logdir={place}/drawn",
    )
    return place / "drawn"


NAMES = ["a", "b", "deep/a", "deep/with space\nand ü"]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_file_says_what_vis_draws(everything, drawn, place, name):
    folder, _ = everything
    expected = np.asarray(Image.open(drawn / f"{name}_prediction.png"))
    with Image.open(folder / f"mask/{name}.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(mask, expected)
    colors = np.asarray(PALETTE, np.uint8)[expected]
    np.testing.assert_array_equal(Image.open(folder / f"color/{name}.png"), colors)
    ids = np.asarray([7, 8, 33])[expected]
    np.testing.assert_array_equal(Image.open(folder / f"ids/{name}.png"), ids)
    probabilities = np.load(folder / f"probabilities/{name}.npy")
    assert (probabilities.dtype, probabilities.shape) == (np.float16, (*expected.shape, 3))
    np.testing.assert_allclose(probabilities.astype(np.float32).sum(-1), 1, atol=1e-3)
    assert (probabilities.argmax(-1) == expected).mean() > 0.99
    source = place / "photos" / f"{name}{'.jpg' if name == 'b' else '.png'}"
    blended = overlay(np.asarray(Image.open(source)), expected, PALETTE)
    difference = blended.astype(int) - np.asarray(Image.open(folder / f"overlay/{name}.jpg"))
    assert np.abs(difference).mean() < 12


def test_it_says_what_it_saw(everything):
    folder, printed = everything
    assert "4 images, 3 of 3 classes predicted:" in printed
    assert "Written to" in printed
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["mask", "color", "overlay", "ids", "probabilities", "prediction.json"]
    )


def test_it_goes_on_where_it_was(place, everything):
    shutil.copytree(everything[0], place / "again")
    (place / "again/mask/a.png").unlink()
    (place / "again/color/deep/a.png").write_bytes(b"complete, so it is left alone")
    kinds = "--outputs=mask,color,overlay,ids,probabilities"
    arguments = predict_arguments(place, kinds, "--id_map=7,8,33", out="again")
    printed = succeed("predict.py", *arguments)
    assert "1 images, " in printed and "3 files were there" in printed
    np.testing.assert_array_equal(
        Image.open(place / "again/mask/a.png"), Image.open(place / "all/mask/a.png")
    )
    assert (place / "again/color/deep/a.png").read_bytes().startswith(b"complete")
    assert not list(place.glob(".again*"))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--add_flipped_images"], "inference was"),
        (["--outputs=mask"], "outputs was"),
        (["--colormap_type=pascal"], "style was"),
    ],
)
def test_other_settings_are_not_mixed(place, everything, more, named):
    kinds = "--outputs=mask,color,overlay,ids,probabilities"
    base = [] if any("outputs" in flag for flag in more) else [kinds, "--id_map=7,8,33"]
    done = run("predict.py", *predict_arguments(place, *base, *more, out="all"))
    assert done.code == 1
    assert named in done.err and "give another output folder" in done.err


def test_other_weights_are_not_mixed(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.copytree(place / "photos", tmp_path / "photos")
    succeed("predict.py", *predict_arguments(tmp_path))
    model = tiny_run.random_network()
    bias = model.get_layer("logits.semantic").bias
    bias.assign_add([0.001, 0.0, 0.0])
    write_checkpoint(tmp_path / "run", model, number=4)
    done = run("predict.py", *predict_arguments(tmp_path))
    assert done.code == 1 and "weights was" in done.err


def test_a_foreign_folder_is_not_written_to(place):
    (place / "foreign").mkdir()
    (place / "foreign/thesis.txt").write_text("mine")
    done = run("predict.py", *predict_arguments(place, out="foreign"))
    assert done.code == 1 and "holds no prediction.json" in done.err
    assert [path.name for path in (place / "foreign").iterdir()] == ["thesis.txt"]


def test_a_stopped_run_keeps_what_it_read(place, tmp_path):
    """A damaged file ends the run; what comes before it is written, also of an unfinished batch."""
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "photos").mkdir()
    for i in range(3):
        shutil.copy(place / "photos/a.png", tmp_path / f"photos/{i}.png")
    (tmp_path / "photos/2.png").write_bytes(b"")
    done = run("predict.py", *predict_arguments(tmp_path, "--batch_size=8"))
    assert done.code == 1 and "2.png: is empty (0 bytes)" in done.err
    assert {p.name for p in (tmp_path / "out/mask").iterdir()} == {"0.png", "1.png"}
    printed = succeed("predict.py", *predict_arguments(tmp_path, "--skip_corrupt"))
    assert "2 files were there" in printed and "1 files were left out" in printed
    shutil.copy(place / "photos/a.png", tmp_path / "photos/2.png")
    succeed("predict.py", *predict_arguments(tmp_path))
    assert not (tmp_path / "out/left_out.json").exists()
    np.testing.assert_array_equal(
        Image.open(tmp_path / "out/mask/2.png"), Image.open(tmp_path / "out/mask/0.png")
    )


def test_tiles_by_flags(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (4, 160, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(wide).save(tmp_path / "photos/wide.png")
    succeed("predict.py", *predict_arguments(tmp_path))
    tiles = "--tile_size=785,785"
    printed = succeed("predict.py", *predict_arguments(tmp_path, tiles, out="tiled"))
    assert "Where tiles meet" in printed and "0.000% of these places" in printed
    whole, tiled = (
        np.asarray(Image.open(tmp_path / f"{o}/mask/wide.png")) for o in ("out", "tiled")
    )
    assert (whole == tiled).mean() > 0.9999
    done = run("predict.py", *predict_arguments(tmp_path, "--tile_size=257,257", out="x"))
    assert done.code == 1 and "receptive field" in done.err


def test_a_killed_run_goes_on_to_the_same_end(place, tmp_path):
    """Killed while it writes: what has its name is whole, and the rest is made up for."""
    (tmp_path / "photos").mkdir()
    for i in range(40):
        Image.fromarray(tiny_run.scene(i)[0]).save(tmp_path / f"photos/{i:02d}.png")
    shutil.copytree(place / "run", tmp_path / "run")
    arguments = predict_arguments(tmp_path)
    command = [sys.executable, ROOT / "predict.py", *arguments]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    overlays = tmp_path / "out/overlay"
    while killed.poll() is None and not (overlays.is_dir() and len(list(overlays.iterdir())) > 5):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    done = [path for path in overlays.iterdir() if not path.name.startswith(".")]
    assert 0 < len(done) < 40
    before = {path: path.stat().st_mtime_ns for path in done}
    (overlays / ".39.jpg.123.tmp").write_bytes(b"half")
    printed = succeed("predict.py", *arguments)
    assert f"{len(done)} files were there" in printed
    assert {path: path.stat().st_mtime_ns for path in done} == before
    succeed("predict.py", *predict_arguments(tmp_path, out="at_once"))
    for kind in ("mask", "overlay"):
        at_once = {path.name: path.read_bytes() for path in (tmp_path / "at_once" / kind).iterdir()}
        assert len(at_once) == 40
        assert {p.name: p.read_bytes() for p in (tmp_path / "out" / kind).iterdir()} == at_once


def test_too_little_memory_names_the_image_and_what_helps(monkeypatch, tmp_path):
    card = tiny_run.card()
    predictor, _ = network.batch_predictor(tiny_run.random_network(), card)

    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(network, "predict_each", exhausted)
    options = {"folder": PredictionFolder(tmp_path, ["mask"]), "style": Style(PALETTE)}
    work = files.Work(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"b/c: An image of 6x5 pixels .*--tile_size="):
        files.predict_files(
            ["c.png"], ["b/c"], predictor, lambda _: np.zeros((5, 6, 3)), work=work, **options
        )


def test_few_images_are_in_memory_at_once(tmp_path):
    """Of a thousand, reading is never far ahead of computing, nor computing of writing."""
    events = []
    folder = PredictionFolder(tmp_path, ["mask"])

    def read(path):
        events.append("read")
        return np.zeros((2, 2, 3), np.uint8)

    def predictor(images):
        events.extend(["predicted"] * len(images))
        return [Predicted(image, image[..., 0].astype(int), None) for image in images]

    names = [str(i) for i in range(1000)]
    work = files.Work(np.zeros(3, np.int64))
    files.predict_files(
        names, names, predictor, read, folder=folder, style=Style(PALETTE), work=work
    )
    assert work.predicted == 1000 and work.pixels.tolist() == [4000, 0, 0]
    ahead = np.cumsum([{"read": 1, "predicted": -1}[event] for event in events])
    assert 0 < ahead.max() <= 6


# --- names ----------------------------------------------------------------------------------------


def test_names_are_kept_and_never_shared():
    root = os.sep + "in"
    paths = ["/in/a.jpg", "/in/a.png", "/in/b.c.jpg", "/in/deep/a.jpg", "/in/noext"]
    assert output_names(paths, root) == ["a.jpg", "a.png", "b.c", "deep/a", "noext"]


def test_the_root_is_that_of_what_is_named(place):
    photos = os.fspath(place / "photos")
    assert input_root([photos]) == photos
    assert input_root([f"{photos}/deep/a.png"]) == f"{photos}/deep"
    assert input_root([f"{photos}/*/a*.png"]) == photos
    assert input_root([f"{photos}/deep", f"{photos}/a.png"]) == photos


def test_cityscapes_ids_are_the_servers(place, tmp_path):
    """Train ids become label ids, under the names that the server takes."""
    card = tiny_run.card()
    names = tuple(f"class {i}" for i in range(19))
    info = dataclasses.replace(
        card.dataset, name="cityscapes", class_names=names, palette=((1, 2, 3),) * 19
    )
    model = dataclasses.replace(card.model, num_classes=19)
    write_run(tmp_path / "run", dataclasses.replace(card, dataset=info, model=model))
    name = "berlin_000000_000019_leftImg8bit.png"
    (tmp_path / "photos/berlin").mkdir(parents=True)
    Image.fromarray(tiny_run.scene(0)[0]).save(tmp_path / "photos/berlin" / name)
    succeed("predict.py", *predict_arguments(tmp_path, "--outputs=ids,mask"))
    with Image.open(tmp_path / "out/ids/berlin" / name) as ids:
        assert ids.mode == "L"
        mask = np.asarray(Image.open(tmp_path / "out/mask/berlin" / name))
        np.testing.assert_array_equal(ids, np.asarray(CITYSCAPES_LABEL_IDS)[mask])
        assert len(np.unique(mask)) > 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--outputs=masks"], "--outputs=masks: expected some of mask, color"),
        (["--outputs=mask", "--id_map=1,2,3"], "add ids to --outputs"),
        (["--outputs=ids", "--id_map=1,2"], "for each of the 3 classes"),
        (["--batch_size=0"], "expected 1 or more"),
        (["--input=camera:front"], "expected the number of a camera"),
        (["--input=nowhere.jpg"], "No images found in"),
        (["--tile_overlap=64"], "need tile_size"),
    ],
)
def test_wrong_flags_are_explained(place, flags, message):
    done = run("predict.py", *predict_arguments(place, *flags, out="never"))
    assert done.code == 1 and message in done.err
    assert not (place / "never").exists()


def test_a_folder_without_images_is_an_error(place, tmp_path):
    done = run("predict.py", *predict_arguments(place, f"--input={tmp_path}", out="never"))
    assert done.code == 1 and "No images found in" in done.err

"""predict.py: what it writes of image files and videos, that it goes on, and what it refuses."""

import dataclasses
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import InferenceConfig
from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS
from deeplab_tf.model_card import ModelCard
from deeplab_tf.optimizers import MomentumOptimizer
from deeplab_tf.prediction import files, network, video
from deeplab_tf.prediction.folder import PredictionFolder, input_root, output_names
from deeplab_tf.prediction.outputs import Predicted, Style
from deeplab_tf.prediction.reading import (
    MAX_PIXELS,
    MAX_PIXELS_WHOLE,
    own_pixel_limit,
    read_bounded,
)
from deeplab_tf.prediction.run import pixel_limit
from deeplab_tf.visualization import overlay
from deeplab_tf.weights import training_checkpoint
from tests import tiny_run
from tests.test_cli import run, succeed

ROOT = Path(__file__).parents[2]
PALETTE = tiny_run.INFO.palette


def write_run(folder, card=None):
    """What train.py leaves: a card and a checkpoint, of a network that predicts every class."""
    card = card or tiny_run.card()
    folder.mkdir()
    card.save(folder)
    model = tiny_run.random_network(card.model)
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(model.trainable_variables)
    manager = tf.train.CheckpointManager(
        training_checkpoint(model, optimizer), folder, 1, checkpoint_name="model.ckpt"
    )
    manager.save(checkpoint_number=3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the run "run" and images of several sizes in "photos"."""
    place = tmp_path_factory.mktemp("place")
    write_run(place / "run")
    photos = {"a.png": 0, "b.jpg": 1, "deep/a.png": 2, "deep/with space\nand ü.png": 3}
    for name, seed in photos.items():
        (place / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny_run.scene(seed)[0]).save(place / "photos" / name)
    return place


def predict_arguments(place, *more, out="out", photos="photos"):
    return (
        f"--checkpoint_dir={place}/run",
        f"--input={place}/{photos}",
        f"--output_dir={place}/{out}",
        *more,
    )


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
    index = tmp_path / "run/model.ckpt-3.index"
    with index.open("ab") as file:
        file.write(b"other")
    folder = PredictionFolder(tmp_path / "out", ["mask", "overlay"])
    with pytest.raises(ValueError, match="weights was"), folder.opened({"weights": "other"}):
        pass


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


def test_too_little_memory_names_the_image_and_what_helps(monkeypatch):
    card = tiny_run.card()
    predictor, _ = network.batch_predictor(tiny_run.random_network(), card)

    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(network, "predict_each", exhausted)
    with pytest.raises(ValueError, match=r"b/c: An image of 6x5 pixels .*--tile_size="):
        files._predicted(predictor, ["b/c"], [np.zeros((5, 6, 3), np.uint8)])


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


# --- hostile files --------------------------------------------------------------------------------


def saved(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def encoded(pixels, kind, **options):
    return saved(Image.fromarray(pixels), kind, **options)


def animated(kind):
    first, second = (Image.new("RGB", (30, 20), color) for color in ("red", "blue"))
    return saved(first, kind, save_all=True, append_images=[second])


def png_of_size(width, height):
    """A PNG whose header claims a size that its pixels do not have."""
    data = bytearray(encoded(PHOTO, "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown turned by a quarter, clockwise
# Name of the file: its bytes, and what the mask's size is or a part of the error.
HOSTILE = {
    "zero.jpg": (b"", "is empty (0 bytes)"),
    "text.jpg": (b"I am no image.\n" * 9, "no image of a known kind"),
    "truncated.jpg": (encoded(PHOTO, "JPEG")[:-200], "damaged or truncated"),
    "truncated.png": (encoded(PHOTO, "PNG")[:-20], "damaged or truncated"),
    "bomb.png": (png_of_size(60000, 60000), "is of 60000x60000 pixels"),
    "large.png": (png_of_size(6000, 5000), "at most 25 are read, in tiles (--tile_size) 179"),
    "bomb_line.png": (png_of_size(2**31 - 1, 1), "2147483647x1 pixels"),
    "floats.tif": (encoded(PHOTO[..., 0].astype(np.float32), "TIFF"), "an image of floats"),
    "cmyk.jpg": (saved(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"), (20, 30)),
    "animated.gif": (animated("GIF"), (20, 30)),
    "animated.png": (animated("PNG"), (20, 30)),
    "animated.webp": (animated("WEBP"), (20, 30)),
    "one.png": (encoded(PHOTO[:1, :1], "PNG"), (1, 1)),
    "line.png": (encoded(np.zeros((1, 20000, 3), np.uint8), "PNG"), (1, 20000)),
    "column.png": (encoded(np.zeros((20000, 1, 3), np.uint8), "PNG"), (20000, 1)),
    "sixteen.png": (encoded(PHOTO[..., 0].astype(np.uint16) * 257, "PNG"), (20, 30)),
    "grey.png": (encoded(PHOTO[..., 0], "PNG"), (20, 30)),
    "alpha.png": (encoded(PHOTO[..., [0, 1, 2, 0]], "PNG"), (20, 30)),
    "turned.jpg": (encoded(PHOTO, "JPEG", exif=TURNED), (30, 20)),
    "with space, ü and\nline.png": (encoded(PHOTO, "PNG"), (20, 30)),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    write_run(place / "run")
    (place / "photos").mkdir()
    for name, (data, _) in HOSTILE.items():
        (place / "photos" / name).write_bytes(data)
    printed = succeed("predict.py", *predict_arguments(place, "--skip_corrupt", "--outputs=mask"))
    left_out = json.loads((place / "out/left_out.json").read_text())
    reasons = {os.path.basename(row["file"]): row["reason"] for row in left_out}
    return place, printed, reasons


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_predicted_or_named(hostile, name):
    place, printed, reasons = hostile
    expected = HOSTILE[name][1]
    stem = os.path.splitext(name)[0]
    stem = name if sum(other.startswith(f"{stem}.") for other in HOSTILE) > 1 else stem
    mask = place / "out/mask" / f"{stem}.png"
    if isinstance(expected, str):
        assert expected in reasons[name] and name in reasons[name]
        assert not mask.exists()
    else:
        assert name not in reasons
        assert np.asarray(Image.open(mask)).shape == expected
    wrong = sum(isinstance(expected, str) for _, expected in HOSTILE.values())
    assert f"{wrong} files were left out" in printed


def test_a_turned_image_is_predicted_as_it_is_shown(hostile):
    place, *_ = hostile
    shown = np.asarray(
        Image.open(place / "photos/turned.jpg").transpose(Image.Transpose.ROTATE_270)
    )
    assert (read_bounded(place / "photos/turned.jpg", info=tiny_run.INFO) == shown).all()


def test_wrong_channels_are_named(hostile, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((5, 6, 7), np.uint8))
    four = dataclasses.replace(tiny_run.INFO, input_channels=4)
    with pytest.raises(ValueError, match=r"many\.npy: has 7 channel\(s\); expected 4"):
        read_bounded(tmp_path / "many.npy", info=four)
    with pytest.raises(ValueError, match=r"grey\.png: has 1 channel\(s\); expected 4"):
        read_bounded(hostile[0] / "photos/grey.png", info=four)


def test_sizes_are_bounded(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    with own_pixel_limit(), pytest.raises(ValueError, match="--max_megapixels sets another limit"):
        read_bounded(tmp_path / "photo.png", info=tiny_run.INFO, max_pixels=599)
    assert read_bounded(tmp_path / "photo.png", info=tiny_run.INFO, max_pixels=600).any()
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(10**10)
    with pytest.raises(ValueError, match="has 10000 MB, more than an image of 179 megapixels"):
        read_bounded(tmp_path / "sparse.png", info=tiny_run.INFO)
    with pytest.raises(ValueError, match="--min_resize_value and --max_resize_value would make"):
        read_bounded(tmp_path / "photo.png", info=tiny_run.INFO, resized_size=lambda h, w: (0, 513))
    pages = [Image.fromarray(PHOTO[..., 0])] * 50
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    many = dataclasses.replace(tiny_run.INFO, input_channels=50)
    assert read_bounded(tmp_path / "pages.tif", info=many, max_pixels=600).shape == (20, 30, 50)
    with pytest.raises(ValueError, match="has 50 pages"):
        read_bounded(tmp_path / "pages.tif", info=tiny_run.INFO, max_pixels=600)


def test_tiles_allow_larger_images():
    card = tiny_run.card()
    assert pixel_limit(card.inference) == MAX_PIXELS_WHOLE
    assert pixel_limit(InferenceConfig(tile_size=(769, 769))) == MAX_PIXELS


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"gone\.png"):
        read_bounded(tmp_path / "gone.png", info=tiny_run.INFO)


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


# --- videos ---------------------------------------------------------------------------------------


class FakeCapture:
    """A camera or a video in memory."""

    def __init__(self, frames, rate=10.0, stated=0):
        self.frames, self.rate, self.stated = list(frames), rate, stated
        self.released = False

    def get(self, what):
        return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: self.stated}[what]

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.released = True


def frames_of(path):
    capture, frames = cv2.VideoCapture(os.fspath(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, rate


@pytest.fixture(scope="module")
def clip(place):
    """A video of 12 frames at 12.5 frames a second, of an odd size."""
    path = place / "clips/street.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(os.fspath(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48))
    scene = cv2.resize(tiny_run.scene(0)[0], (64, 48))
    for i in range(12):
        writer.write(np.roll(scene[..., ::-1], 3 * i, axis=1))
    writer.release()
    return path


def test_a_video_becomes_a_video_and_a_folder_of_masks(place, clip):
    arguments = predict_arguments(place, "--outputs=mask,overlay,color", out="v", photos="clips")
    printed = succeed("predict.py", *arguments)
    assert "12 images, " in printed
    frames, _ = frames_of(clip)
    for kind in ("overlay", "color"):
        written, rate = frames_of(place / f"v/{kind}/street.mp4")
        assert (len(written), rate) == (12, pytest.approx(12.5))
        assert written[0].shape == frames[0].shape
    masks = sorted((place / "v/mask/street").iterdir())
    assert [mask.name for mask in masks] == [f"{i:06d}.png" for i in range(12)]
    # Frame by frame what vis.py says of it.
    (place / "frames").mkdir()
    cv2.imwrite(os.fspath(place / "frames/7.png"), frames[7])
    succeed(
        "vis.py",
        f"--checkpoint_dir={place}/run",
        f"--images={place}/frames",
        f"--vis_logdir={place}/frames_drawn",
    )
    expected = np.asarray(Image.open(place / "frames_drawn/7_prediction.png"))
    np.testing.assert_array_equal(Image.open(masks[7]), expected)
    # The overlay of frame 7 is nearer to what it should be than any other frame.
    blended = overlay(frames[7][..., ::-1], expected, PALETTE)[..., ::-1].astype(int)
    written, _ = frames_of(place / "v/overlay/street.mp4")
    assert np.argmin([np.abs(frame - blended).mean() for frame in written]) == 7
    assert "1 files were there" in succeed("predict.py", *arguments)
    hidden = [p for p in (place / "v").rglob(".*")]
    assert not hidden


def grey_frames(count):
    return [np.full((16, 24, 3), 10 * (i % 25), np.uint8) for i in range(count)]


def zeros(images):
    return [Predicted(image, np.zeros(image.shape[:2], int), None) for image in images]


def predict_fake(tmp_path, capture, *, is_live=False, outputs=("mask", "overlay"), **options):
    folder = PredictionFolder(tmp_path, outputs)
    work = files.Work(np.zeros(3, np.int64))
    source = video.Source("fake", lambda: capture, is_live)
    predictor = options.pop("predictor", zeros)
    video.predict_video(
        source, "fake", predictor, folder=folder, style=Style(PALETTE), work=work, **options
    )
    assert capture.released
    return work


def test_a_cameras_video_runs_as_fast_as_what_it_shows(tmp_path):
    """At 10 frames a second, one that took 0.3 s is shown three times."""
    times = iter([0.0, 0.1, 0.2, 0.5, 0.6, 0.7, 0.8])
    capture = FakeCapture(grey_frames(100))
    work = predict_fake(tmp_path, capture, is_live=True, max_frames=6, clock=lambda: next(times))
    assert work.predicted == 6
    assert len(list((tmp_path / "mask/fake").iterdir())) == 6
    assert len(frames_of(tmp_path / "overlay/fake.mp4")[0]) == 8


def test_ctrl_c_ends_a_cameras_video_and_keeps_it(tmp_path):
    calls = []

    def predictor(images):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return zeros(images)

    capture = FakeCapture(grey_frames(100))
    predict_fake(tmp_path, capture, is_live=True, predictor=predictor, clock=lambda: 0.0)
    assert len(frames_of(tmp_path / "overlay/fake.mp4")[0]) == 3


def test_a_stopped_video_leaves_nothing_that_looks_complete(tmp_path):
    def predictor(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_fake(tmp_path, FakeCapture(grey_frames(5)), predictor=predictor)
    assert not [path for path in tmp_path.rglob("*") if path.parent != tmp_path]


def test_batches_of_frames_stay_in_order(tmp_path):
    def predictor(images):
        return [
            Predicted(image, np.full(image.shape[:2], image[0, 0, 0] // 10 % 3), None)
            for image in images
        ]

    work = predict_fake(
        tmp_path, FakeCapture(grey_frames(7)), predictor=predictor, batch_size=3, outputs=["mask"]
    )
    assert work.predicted == 7
    values = [
        np.asarray(Image.open(path))[0, 0] for path in sorted((tmp_path / "mask/fake").iterdir())
    ]
    assert values == [0, 1, 2, 0, 1, 2, 0]


def test_videos_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match="fake: no frame of it can be read"):
        predict_fake(tmp_path, FakeCapture([]))
    with pytest.raises(ValueError, match="states 100 frames, of which only 7 can be read"):
        predict_fake(tmp_path, FakeCapture(grey_frames(7), stated=100))
    assert not [path for path in tmp_path.rglob("*") if path.parent != tmp_path]


def test_a_damaged_video_is_left_out(place, clip, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/broken.mp4").write_bytes(b"no video")
    shutil.copy(place / "photos/a.png", tmp_path / "photos/a.png")
    done = run("predict.py", *predict_arguments(tmp_path))
    assert done.code == 1 and "broken.mp4: no frame" in done.err
    assert (tmp_path / "out/mask/a.png").exists()
    printed = succeed("predict.py", *predict_arguments(tmp_path, "--skip_corrupt"))
    assert "1 files were left out" in printed
    assert ModelCard.load(tmp_path / "run").dataset == tiny_run.INFO

"""predict.py on videos, and on a source of frames in place of a camera."""

import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplab_tf.prediction import files, video
from deeplab_tf.prediction.folder import PredictionFolder
from deeplab_tf.prediction.outputs import Predicted, Style
from deeplab_tf.visualization.run import overlay
from tests import tiny_run
from tests.prediction.predicting import predict_arguments
from tests.test_cli import run, succeed

PALETTE = tiny_run.INFO.palette


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

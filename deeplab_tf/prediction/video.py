"""Predicting videos: from a file or a camera to videos, and to a folder of files for each frame."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.prediction.files import Work
from deeplab_tf.prediction.folder import PredictionFolder
from deeplab_tf.prediction.network import Predictor
from deeplab_tf.prediction.outputs import OUTPUTS, Predicted, Style

EXTENSIONS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
_SUFFIX, _CODEC = ".mp4", "mp4v"
_UNKNOWN_RATE = 25.0  # frames a second, where a source does not say


@dataclass(frozen=True)
class Source:
    """Something that frames come from.

    Attributes:
        name: Its path, or what it is called in messages.
        open: Opens it, as an object with the methods of `cv2.VideoCapture`.
        is_live: Whether frames come at their own time, wanted or not, and without an end.
    """

    name: str
    open: Callable[[], Any]
    is_live: bool = False


def file_source(path: str | os.PathLike[str]) -> Source:
    """The frames of a video file."""
    return Source(os.fspath(path), lambda: cv2.VideoCapture(os.fspath(path)))


def camera_source(number: int) -> Source:
    """The frames of a camera of this machine, by its number."""
    return Source(f"camera:{number}", lambda: cv2.VideoCapture(number), is_live=True)


def video_target(folder: PredictionFolder, output: str, name: str) -> Path:
    """Where a kind of output of a video goes: a video, or a folder of a file for each frame."""
    return folder.path / output / (name + (_SUFFIX if OUTPUTS[output].frame else ""))


def predict_video(
    source: Source,
    name: str,
    predictor: Predictor,
    *,
    folder: PredictionFolder,
    style: Style,
    work: Work,
    batch_size: int = 1,
    max_frames: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Predicts every frame of a video; tells `work`.

    Colours and overlays become videos of the same size, rate and number of frames, without sound;
    masks and probabilities a folder with a file for each frame. They appear when they are complete.
    Of a camera, frames that come while the network is busy are missed, and those that are predicted
    shown for as long as that took, so that the video runs as fast as what it shows. Ctrl-C, and
    what goes wrong in the middle of a camera's stream, ends it with what there is.

    Args:
        source: Where frames come from.
        name: What the video is called in the folder.
        predictor: Images to predictions.
        folder: Where predictions go.
        style: Colours and ids.
        work: Counts on from what is in it.
        batch_size: Frames in one call of the predictor; of a camera 1.
        max_frames: Where to stop; None for the end.
        clock: Seconds, for a camera's frames.

    Raises:
        OSError: Nothing can be written.
        ValueError: The source has no frame that can be read, or fewer than it says.
    """
    if all(video_target(folder, output, name).exists() for output in folder.outputs):
        work.done_before += 1
        return
    capture = source.open()
    try:
        rate = _rate(capture)
        stated = 0 if source.is_live else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        frames = islice(_frames(capture), max_frames)
        first = next(frames, None)
        if first is None:
            raise FaultyFileError(
                f"{source.name}: no frame of it can be read; expected a video that OpenCV's FFmpeg "
                "knows, or a camera that is connected",
                "undecodable",
            )
        total = min(filter(None, (stated, max_frames)), default=None)
        with _Writer(folder, name, style, rate=rate, size=first.shape[:2]) as writer:
            bar = tqdm(total=total, desc=os.path.basename(source.name), unit="frame", disable=None)
            started = clock()
            with bar, contextlib.suppress(*([KeyboardInterrupt] if source.is_live else [])):
                for batch in _batches(first, frames, 1 if source.is_live else batch_size):
                    for predicted in predictor(batch):
                        due = round((clock() - started) * rate) if source.is_live else 0
                        writer.write(predicted, times=max(1, due - writer.count))
                        work.pixels += np.bincount(
                            predicted.labels.ravel(), minlength=len(style.palette)
                        )
                        work.predicted += 1
                        bar.update()
            # What containers state is an estimate; the double of what there is is damage.
            if total and writer.count < total / 2:
                raise FaultyFileError(
                    f"{source.name}: states {stated} frames, of which only {writer.count} can be "
                    "read",
                    "undecodable",
                )
            writer.finish()
    finally:
        capture.release()


def _rate(capture: Any) -> float:
    """Frames a second."""
    stated = capture.get(cv2.CAP_PROP_FPS)
    return stated if 0 < stated < 1000 else _UNKNOWN_RATE


def _frames(capture: Any) -> Iterator[np.ndarray]:
    """Uint8 [h, w, 3], RGB, each."""
    while True:
        found, frame = capture.read()
        if not found:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _batches(
    first: np.ndarray, frames: Iterator[np.ndarray], size: int
) -> Iterator[list[np.ndarray]]:
    batch = [first, *islice(frames, size - 1)]
    while batch:
        yield batch
        batch = list(islice(frames, size))


class _Writer:
    """Writes the outputs of a video under other names, until it is finished."""

    def __init__(
        self,
        folder: PredictionFolder,
        name: str,
        style: Style,
        *,
        rate: float,
        size: Sequence[int],
    ) -> None:
        self.count = 0  # frames of the videos
        self._index = 0
        self._style = style
        self._targets: dict[str, tuple[Path, Path]] = {}
        self._videos: dict[str, Any] = {}
        for output in folder.outputs:
            target = video_target(folder, output, name)
            partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
            self._targets[output] = (partial, target)
            target.parent.mkdir(parents=True, exist_ok=True)
            if OUTPUTS[output].frame is None:
                partial.mkdir(exist_ok=True)
                continue
            video = cv2.VideoWriter(
                str(partial), cv2.VideoWriter.fourcc(*_CODEC), rate, (size[1], size[0])
            )
            if not video.isOpened():
                raise OSError(f"{target}: OpenCV cannot write a video of {size[1]}x{size[0]} there")
            self._videos[output] = video

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        for video in self._videos.values():
            video.release()
        for partial, _target in self._targets.values():
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)

    def write(self, predicted: Predicted, *, times: int) -> None:
        """Writes a frame, in videos so many times."""
        for output, (partial, _) in self._targets.items():
            kind = OUTPUTS[output]
            if kind.frame is None:
                kind.write(partial / f"{self._index:06d}{kind.suffix}", predicted, self._style)
                continue
            frame = cv2.cvtColor(kind.frame(predicted, self._style), cv2.COLOR_RGB2BGR)
            for _ in range(times):
                self._videos[output].write(frame)
        self.count += times
        self._index += 1

    def finish(self) -> None:
        """Gives what is written its name."""
        for video in self._videos.values():
            video.release()
        for partial, target in self._targets.values():
            if target.is_dir():  # a run that wrote some of the kinds only
                shutil.rmtree(target)
            partial.replace(target)

"""Predicting image files: reading, computing and writing side by side, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike

import numpy as np
from tqdm import tqdm

from deeplab_tf.prediction.folder import PredictionFolder
from deeplab_tf.prediction.network import Predictor
from deeplab_tf.prediction.outputs import OUTPUTS, Predicted, Style

# Threads that read and threads that write; decoding and encoding let go of Python's lock.
_THREADS = 2
# Images that are read before they are needed, and predictions that wait to be written.
_AHEAD, _BEHIND = 4, 4

Read = Callable[[str | PathLike[str]], np.ndarray]


@dataclass
class Work:
    """What was done.

    Attributes:
        predicted: Number of images, or frames, predicted in this run.
        done_before: Number of files that an earlier run had predicted.
        pixels: Predicted pixels of each class, int64 [classes].
        left_out: Why files were left out, by their path.
    """

    pixels: np.ndarray
    predicted: int = 0
    done_before: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def predict_files(
    files: Sequence[str | PathLike[str]],
    names: Sequence[str],
    predictor: Predictor,
    read: Read,
    *,
    folder: PredictionFolder,
    style: Style,
    work: Work,
    batch_size: int = 1,
    skip_corrupt: bool = False,
) -> None:
    """Predicts image files and writes what the folder is to hold of them; tells `work`.

    Whatever ends it early, an error or Ctrl-C, what is predicted is written first.

    Args:
        files: Their paths.
        names: What they are called in the folder.
        predictor: Images to predictions.
        read: A path to an image, [h, w, c].
        folder: Where predictions go; files that are done there are left alone.
        style: Colours and ids.
        work: Counts on from what is in it.
        batch_size: Images in one call of the predictor.
        skip_corrupt: Whether a file that cannot be read is noted and left out, not an error.

    Raises:
        OSError: A file cannot be read, or nothing can be written.
        ValueError: A file, named in the message, is no image that can be used.
    """
    with (
        ThreadPoolExecutor(_THREADS, "read") as readers,
        ThreadPoolExecutor(_THREADS, "write") as writers,
        tqdm(total=len(files), desc="predict", unit="image", disable=None) as bar,
    ):
        todo = _not_done(files, names, folder, work, bar)
        images = _read_ahead(todo, read, readers, work, bar, skip_corrupt=skip_corrupt)
        written: deque[Future[np.ndarray]] = deque()
        try:
            for batch in _batches(images, batch_size):
                names_of_batch, pixels = zip(*batch, strict=True)
                for name, predicted in zip(
                    names_of_batch, _predicted(predictor, names_of_batch, pixels), strict=True
                ):
                    written.append(writers.submit(_write, folder, name, predicted, style))
                while len(written) > _BEHIND:
                    _count(written.popleft(), work, bar)
        finally:
            while written:
                _count(written.popleft(), work, bar)


def _predicted(
    predictor: Predictor, names: Sequence[str], images: Sequence[np.ndarray]
) -> list[Predicted]:
    try:
        return predictor(images)
    except ValueError as error:
        raise ValueError(f"{', '.join(names)}: {error}") from error


def _not_done(
    files: Sequence[str | PathLike[str]],
    names: Sequence[str],
    folder: PredictionFolder,
    work: Work,
    bar: tqdm,
) -> Iterator[tuple[str | PathLike[str], str]]:
    for path, name in zip(files, names, strict=True):
        if folder.is_done(name):
            work.done_before += 1
            bar.total -= 1  # so that the time left is that of the others
        else:
            yield path, name


def _read_ahead(
    todo: Iterator[tuple[str | PathLike[str], str]],
    read: Read,
    readers: ThreadPoolExecutor,
    work: Work,
    bar: tqdm,
    *,
    skip_corrupt: bool,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and image of each file, in order, while the next ones are being read."""
    waiting: deque[tuple[str | PathLike[str], str, Future[np.ndarray]]] = deque()
    try:
        while True:
            while len(waiting) < _AHEAD and (following := next(todo, None)):
                waiting.append((*following, readers.submit(read, following[0])))
            if not waiting:
                return
            path, name, image = waiting.popleft()
            try:
                pixels = image.result()
            except (OSError, ValueError) as error:
                if not skip_corrupt:
                    raise
                work.left_out[os.fspath(path)] = str(error)
                bar.update()
                continue
            yield name, pixels
    finally:
        for *_, image in waiting:
            image.cancel()


def _batches(
    images: Iterator[tuple[str, np.ndarray]], size: int
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Lists of so many, and what is left; what was read before an error is not lost."""
    batch: list[tuple[str, np.ndarray]] = []
    try:
        for item in images:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except (OSError, ValueError):
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _write(folder: PredictionFolder, name: str, predicted: Predicted, style: Style) -> np.ndarray:
    """Writes all files of an image; returns the pixels of each class."""
    for output in folder.outputs:
        OUTPUTS[output].write(folder.target(output, name), predicted, style)
    return np.bincount(predicted.labels.ravel(), minlength=len(style.palette))


def _count(written: Future[np.ndarray], work: Work, bar: tqdm) -> None:
    work.pixels += written.result()
    work.predicted += 1
    bar.update()

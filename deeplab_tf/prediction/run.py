"""Predicting what users name: image files, folders, patterns, videos and cameras."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from deeplab_tf.config import InferenceConfig
from deeplab_tf.data import channels
from deeplab_tf.image_files import find_images
from deeplab_tf.model_card import ModelCard
from deeplab_tf.prediction import reading, video
from deeplab_tf.prediction.exported import SAVED_MODEL, ExportedNetwork
from deeplab_tf.prediction.files import Read, Work, predict_files
from deeplab_tf.prediction.folder import LEFT_OUT, PredictionFolder, input_root, output_names
from deeplab_tf.prediction.network import Predictor, batch_predictor
from deeplab_tf.prediction.outputs import Style
from deeplab_tf.predictors import resized_size
from deeplab_tf.tiling import Seams
from deeplab_tf.visualization.run import VisualizationSummary

_CAMERA = "camera:"
_SHOWN = 5


@dataclass(frozen=True)
class PredictionReport:
    """What was done, in words when printed.

    Attributes:
        summary: Images or frames and their classes.
        done_before: Number of files that an earlier run had predicted.
        left_out: Why files were left out, by their path.
        seams: How far tiles disagree, if images were seen in tiles.
    """

    summary: VisualizationSummary
    done_before: int
    left_out: dict[str, str]
    seams: Seams | None

    def __str__(self) -> str:
        """Some lines."""
        lines = [str(self.summary)]
        if self.done_before:
            lines.append(f"{self.done_before} files were there from an earlier run.")
        if self.seams is not None:
            lines.append(str(self.seams))
        if self.left_out:
            lines.append(f"{len(self.left_out)} files were left out ({LEFT_OUT} lists them):")
            lines += [f"  - {reason}" for reason in list(self.left_out.values())[:_SHOWN]]
            if len(self.left_out) > _SHOWN:
                lines.append(f"  ... and {len(self.left_out) - _SHOWN} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class Inputs:
    """What is to be predicted, and what it is called.

    Attributes:
        root: The folder that names are relative to.
        images: Path and name of each image file.
        videos: Source and name of each video.
    """

    root: str
    images: tuple[tuple[str, str], ...]
    videos: tuple[tuple[video.Source, str], ...]


def find_inputs(
    paths: Sequence[str], *, card: ModelCard, output_dir: str | os.PathLike[str]
) -> Inputs:
    """Lists the files in files, folders and patterns, and the cameras of `camera:0` and so on.

    Files in `output_dir` are left out. Names are all that is kept of them.

    Raises:
        FileNotFoundError: A path does not exist or yields nothing.
        ValueError: A camera has no number.
    """
    info = card.dataset
    kinds = channels.extensions(input_channels=info.input_channels, bit_depth=info.bit_depth)
    named = [path for path in paths if not path.startswith(_CAMERA)]
    output = os.path.abspath(output_dir) + os.sep
    files: list[str] = []
    root = os.path.abspath(output_dir)
    if named:
        found = find_images(named, extensions=(*kinds, *video.EXTENSIONS))
        files = [os.fspath(file) for file in found]
        files = [file for file in files if not os.path.abspath(file).startswith(output)]
        root = input_root(named)
    is_video = [Path(file).suffix.lower() in video.EXTENSIONS for file in files]
    pairs = list(zip(files, output_names(files, root), strict=True))
    cameras = [_camera(path) for path in paths if path.startswith(_CAMERA)]
    videos = [
        (video.file_source(file), name.removesuffix(Path(file).suffix))
        for (file, name), taken in zip(pairs, is_video, strict=True)
        if taken
    ]
    return Inputs(
        root,
        tuple(pair for pair, taken in zip(pairs, is_video, strict=True) if not taken),
        (*videos, *((source, source.name.replace(":", "_")) for source in cameras)),
    )


def predict_inputs(
    network: keras.Model | ExportedNetwork,
    card: ModelCard,
    inputs: Inputs,
    *,
    output_dir: str | os.PathLike[str],
    outputs: Sequence[str],
    weights: str,
    style: Style,
    batch_size: int = 1,
    skip_corrupt: bool = False,
    max_pixels: int | None = None,
    max_frames: int | None = None,
) -> PredictionReport:
    """Predicts all inputs and writes what is asked for of each, below `output_dir`.

    The file of an image `a/b.jpg` is `<output>/a/b.png` (or what suffix the output has). The same
    call goes on where one was stopped.

    Args:
        network: That of `card.model`, with its weights; or an exported one.
        card: What the network is, and how images meet it.
        inputs: What to predict.
        output_dir: New or empty folder, or one of an earlier call.
        outputs: Names of the kinds of files, keys of `OUTPUTS`.
        weights: What tells these weights from others, see `weights_digest`.
        style: Colours and ids.
        batch_size: Images in one call of the network; those that are padded to one size share it.
        skip_corrupt: Whether files that cannot be read are left out and listed, not an error.
        max_pixels: Largest size of an image, see `reading.read_bounded`; None for `pixel_limit`.
        max_frames: Where videos stop; None for their end.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: A file, named in the message, cannot be used, or the folder has predictions of
            other settings.
    """
    folder = PredictionFolder(output_dir, outputs)
    with_probabilities = "probabilities" in folder.outputs
    read: Read = functools.partial(
        reading.read_bounded,
        info=card.dataset,
        max_pixels=max_pixels or pixel_limit(card.inference),
        resized_size=resized_size(card.inference),
    )
    if isinstance(network, ExportedNetwork):
        predictor, seams = network.predictor(with_probabilities=with_probabilities), None
        read = network.reader(read)
    else:
        predictor, seams = batch_predictor(network, card, with_probabilities=with_probabilities)
    work = Work(np.zeros(card.dataset.num_classes, np.int64))
    settings = {
        "weights": weights,
        "network": dataclasses.asdict(card.model),
        "inference": dataclasses.asdict(card.inference),
        "style": dataclasses.asdict(style),
        "input_root": inputs.root,
        "max_frames": max_frames,
    }
    with folder.opened(settings), reading.own_pixel_limit():
        try:
            predict_files(
                [path for path, _ in inputs.images],
                [name for _, name in inputs.images],
                predictor,
                read,
                folder=folder,
                style=style,
                work=work,
                batch_size=batch_size,
                skip_corrupt=skip_corrupt,
            )
            _predict_videos(
                inputs.videos,
                predictor,
                card,
                folder=folder,
                style=style,
                work=work,
                batch_size=batch_size,
                skip_corrupt=skip_corrupt,
                max_frames=max_frames,
            )
        finally:
            folder.note_left_out(work.left_out)
    pixels = tuple(work.pixels.tolist())
    summary = VisualizationSummary(work.predicted, card.dataset.class_names, pixels)
    return PredictionReport(summary, work.done_before, work.left_out, seams)


def pixel_limit(inference: InferenceConfig) -> int:
    """Pixels of an image that memory is likely to be enough for."""
    return reading.MAX_PIXELS if inference.tile_size else reading.MAX_PIXELS_WHOLE


def weights_digest(network: str) -> str:
    """What tells the weights of a network from others.

    Of a checkpoint, a hash of its index, which has sums; of an export, of the file that holds all.

    Args:
        network: Prefix of a checkpoint, SavedModel folder or exported file.
    """
    index, saved_model = f"{network}.index", os.path.join(network, SAVED_MODEL)
    found = [path for path in (index, saved_model) if os.path.isfile(path)]
    with open(found[0] if found else network, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _predict_videos(
    videos: Sequence[tuple[video.Source, str]],
    predictor: Predictor,
    card: ModelCard,
    *,
    folder: PredictionFolder,
    style: Style,
    work: Work,
    batch_size: int,
    skip_corrupt: bool,
    max_frames: int | None,
) -> None:
    info = card.dataset
    for source, name in videos:
        if (info.input_channels, info.bit_depth) != (3, 8):
            raise ValueError(
                f"{source.name}: videos have 3 channels of 8 bits, the network's images "
                f"{info.input_channels} of {info.bit_depth}."
            )
        try:
            video.predict_video(
                source,
                name,
                predictor,
                folder=folder,
                style=style,
                work=work,
                batch_size=batch_size,
                max_frames=max_frames,
            )
        except ValueError as error:
            if not skip_corrupt:
                raise
            work.left_out[source.name] = str(error)


def _camera(path: str) -> video.Source:
    number = path.removeprefix(_CAMERA)
    if not number.isdecimal():
        raise ValueError(f"--input={path}: expected the number of a camera, such as camera:0.")
    return video.camera_source(int(number))

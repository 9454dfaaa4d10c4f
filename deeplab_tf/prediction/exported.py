"""What export_model.py wrote, as a function from a few images to what it says of them."""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from deeplab_tf.data.channels import stored_pixels
from deeplab_tf.export import EXTRA_FOLDER, reader
from deeplab_tf.export.saved_model import versions
from deeplab_tf.model_card import FILENAME, ModelCard, beside
from deeplab_tf.prediction.files import Read
from deeplab_tf.prediction.network import Predictor
from deeplab_tf.prediction.outputs import Predicted

SAVED_MODEL = "saved_model.pb"
# Files by their suffix, and the extra of this package whose runtime reads them.
_EXTRAS = {".tflite": "litert", ".onnx": "onnx"}
_LABELS, _PROBABILITIES = "SemanticPredictions", "SemanticProbabilities"

# Images as they are stored, [b, h, w, c], to outputs by name.
_Call = Callable[[np.ndarray], dict[str, np.ndarray]]


def find_export(path: str) -> str | None:
    """The exported network that a path means; None if it means none.

    Args:
        path: A SavedModel folder; the folder of its versions, as TensorFlow Serving has them, of
            which the newest is meant; or a LiteRT (.tflite) or ONNX (.onnx) file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a frozen graph, which says nothing about its classes.
    """
    if path.endswith(".pb") and os.path.isfile(path):
        if os.path.basename(path) == SAVED_MODEL:
            return os.path.dirname(path) or "."
        raise ValueError(
            f"{path} is a frozen graph, which has no model card: expected the checkpoint that it "
            "was exported from, or a SavedModel of that."
        )
    if path.endswith(tuple(_EXTRAS)):
        if not os.path.isfile(path):
            raise FileNotFoundError(f"There is no exported network at {path}.")
        return path
    if _is_saved_model(path):
        return path
    if os.path.exists(os.path.join(path, "checkpoint")):
        return None  # a run, whatever else is in its folder
    found = [name for name in versions(path) if _is_saved_model(os.path.join(path, name))]
    return os.path.join(path, found[-1]) if found else None


def card_of_export(path: str) -> ModelCard:
    """What an exported network is, and how it meets images: as a whole, whatever its size.

    Args:
        path: As `find_export` returns it.

    Raises:
        FileNotFoundError: Its model card is missing.
        ValueError: The card is damaged.
    """
    if os.path.isdir(path):
        file = Path(path) / EXTRA_FOLDER / FILENAME
        how = "which export_model.py writes into the folder: copy all of that"
    else:
        file = beside(path)
        how = "which export_model.py writes beside the file: copy both"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} not found, the model card of {path}, with its classes and their colours, "
            f"{how}, or export the checkpoint again."
        )
    card = ModelCard.read(file)
    whole = dataclasses.replace(
        card.inference, tile_size=None, tile_overlap=None, tile_image_level="exact"
    )
    return dataclasses.replace(card, inference=whole)


class ExportedNetwork:
    """An exported network, loaded.

    Attributes:
        size: Height and width of the images that it takes; None for any.
        max_pixels: Pixels of all images of a call that it takes, with the padding.
    """

    def __init__(self, card: ModelCard, path: str) -> None:
        """Loads a network.

        Args:
            card: That of `card_of_export`.
            path: As `find_export` returns it.

        Raises:
            ImportError: What runs such a file is not installed.
            ValueError: The file is damaged.
        """
        self.size: tuple[int, int] | None = None
        self.max_pixels: float = float("inf")
        self._info = card.dataset
        self._path = path
        self._one_by_one = False
        try:
            self._calls = self._load_file() if os.path.isfile(path) else self._load_folder()
        except ImportError as error:
            raise ImportError(
                f"{path} needs a package that is not installed ({error}): pip install "
                f"'deeplab-tf[{_EXTRAS[Path(path).suffix]}]'."
            ) from error
        except Exception as error:  # each runtime has its own
            raise ValueError(f"{path} cannot be loaded: {error}") from error

    def predictor(self, *, with_probabilities: bool) -> Predictor:
        """A function from images of any sizes, [h, w, c] in 0..255, to predictions.

        Those of one size share a call of the network where that takes several.

        Args:
            with_probabilities: Whether they are needed.

        Raises:
            ValueError: The network has none. So does the function, for images of other sizes than
                the network takes, or more than memory or --export_max_pixels allow.
        """
        call = self._calls[with_probabilities]
        if call is None:
            raise ValueError(
                f"{self._path} was exported with --noexport_probabilities: leave them out of "
                "--outputs, or export the checkpoint again."
            )

        def predict(images: Sequence[np.ndarray]) -> list[Predicted]:
            for image in images:
                self._check_size(image)
            found: dict[int, Predicted] = {}
            for members in self._batches(images):
                batch = np.stack([stored_pixels(images[i], self._info) for i in members])
                outputs = self._called(call, batch)
                for row, i in enumerate(members):
                    probabilities = outputs[_PROBABILITIES][row] if with_probabilities else None
                    found[i] = Predicted(images[i], outputs[_LABELS][row], probabilities)
            return [found[i] for i in range(len(images))]

        return predict

    def reader(self, read: Read) -> Read:
        """A function that reads files as `read` does, and refuses what `predictor` would refuse."""

        def read_fitting(path: str | os.PathLike[str]) -> np.ndarray:
            image = read(path)
            try:
                self._check_size(image)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            return image

        return read_fitting

    def _check_size(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        if self.size is not None and self.size != (height, width):
            raise ValueError(
                f"an image of {width}x{height} pixels (width x height), but {self._path} takes "
                f"{self.size[1]}x{self.size[0]} only: resize it, or export a SavedModel, or with "
                "--export_size=any."
            )
        if height * width > self.max_pixels:
            raise ValueError(
                f"an image of {width}x{height} pixels (width x height), but {self._path} takes "
                f"{self.max_pixels:.0f} at most, which is its --export_max_pixels."
            )

    def _batches(self, images: Sequence[np.ndarray]) -> list[list[int]]:
        """Which images share a call."""
        if self._one_by_one:
            return [[i] for i in range(len(images))]
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            groups[image.shape].append(i)
        return list(groups.values())

    def _called(self, call: _Call, batch: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return call(batch)
        except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
            count, height, width = batch.shape[:3]
            raise ValueError(
                f"{count} of {width}x{height} pixels (width x height) are more than memory or "
                f"--export_max_pixels of {self._path} allow: give fewer images at once "
                "(--batch_size), or the checkpoint, which sees images in tiles (--tile_size). "
                f"{error.message.splitlines()[0]}"
            ) from error

    def _load_folder(self) -> tuple[_Call, _Call | None]:
        """A SavedModel's labels, and labels with probabilities."""
        signatures = tf.saved_model.load(self._path).signatures
        if "metadata" in signatures:
            told = signatures["metadata"](request=tf.constant([""]))
            self.max_pixels = int(told["max_pixels"][0])

        def of(name: str) -> _Call:
            serve = signatures[name]
            return lambda images: {
                key: value.numpy() for key, value in serve(ImageTensor=tf.constant(images)).items()
            }

        # TensorFlow computes all outputs of a signature, whichever are asked for.
        both = of("serving_default")
        return (of("labels") if "labels" in signatures else both), both

    def _load_file(self) -> tuple[_Call, _Call | None]:
        """The same of a LiteRT or ONNX file, which has probabilities for both or for none."""
        is_litert = self._path.endswith(".tflite")
        load = reader.load_litert if is_litert else reader.load_onnx
        call, about = load(self._path, threads=os.cpu_count() or 1)
        self.size = about["size"] and tuple(about["size"])
        self._one_by_one = is_litert or self.size is not None
        return call, call if _PROBABILITIES in about["outputs"] else None


def _is_saved_model(path: str) -> bool:
    return os.path.isfile(os.path.join(path, SAVED_MODEL))

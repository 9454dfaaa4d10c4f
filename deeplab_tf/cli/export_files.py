"""The flags of LiteRT and ONNX files, and of --verify."""

import sys
from typing import Any

import numpy as np
from absl import flags

from deeplab_tf.cli.export_images import chosen_images
from deeplab_tf.cli.flag_table import given
from deeplab_tf.model_card import ModelCard

FLAGS = flags.FLAGS
_LITERT_ONLY = ("litert_precision", "representative_split", "representative_images")
_FILES_ONLY = ("export_size", "export_probabilities")
_VERIFY_ONLY = ("verify_split", "verify_images", "verify_threshold")


def paths() -> list[str]:
    """The paths of --export_path.

    Raises:
        ValueError: One is empty, or given twice.
    """
    paths = FLAGS.export_path.split(",")
    if not all(paths) or len(set(paths)) < len(paths):
        raise ValueError(
            f"--export_path={FLAGS.export_path}: expected a path, or different ones with commas "
            "between."
        )
    return paths


def check_flags(paths: list[str]) -> None:
    """Raises ValueError for a flag that none of the paths has a use for."""
    litert = any(path.endswith(".tflite") for path in paths)
    for name in _LITERT_ONLY:
        if given(name) and not litert:
            raise ValueError(
                f"--{name} goes with a LiteRT file, but no --export_path ends in .tflite."
            )
    for name in _FILES_ONLY:
        if given(name) and not any(path.endswith((".tflite", ".onnx")) for path in paths):
            raise ValueError(
                f"--{name} goes with a LiteRT or ONNX file, but no --export_path ends in .tflite "
                "or .onnx."
            )
    for name in _VERIFY_ONLY:
        if given(name) and not FLAGS.verify:
            raise ValueError(f"--{name} has no effect without --verify.")
    if FLAGS.verify and any(path.endswith(".ckpt") for path in paths):
        raise ValueError("--verify: a TF1 checkpoint is no graph to run; leave its path out.")
    threshold = FLAGS.verify_threshold
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"--verify_threshold={threshold}: expected a share, above 0, at most 1.")


def write_litert(model: Any, card: ModelCard, path: str) -> None:
    """Writes a LiteRT file, and its card beside it."""
    from deeplab_tf.export.litert import export_litert

    images: list[np.ndarray] = []
    if FLAGS.litert_precision == "int8":
        images = chosen_images(
            card, split_flag="representative_split", count_flag="representative_images"
        )
    export_litert(
        model,
        card,
        export_path=path,
        size=_size(default=card.inference.crop_size or card.data.crop_size),
        precision=FLAGS.litert_precision,
        representative_images=images,
        probabilities=FLAGS.export_probabilities,
    )
    card.save_beside(path)


def write_onnx(model: Any, card: ModelCard, path: str) -> None:
    """Writes an ONNX file, and its card beside it."""
    from deeplab_tf.export.onnx import export_onnx

    export_onnx(
        model,
        card,
        export_path=path,
        size=_size(default=None),
        probabilities=FLAGS.export_probabilities,
    )
    card.save_beside(path)


def verify(model: Any, card: ModelCard, *, checkpoint: str, paths: list[str]) -> None:
    """Prints and writes what the readers of each export make of it; exit code 1 if one is wrong."""
    from deeplab_tf.export import verify as verifying
    from deeplab_tf.export.litert import fit_image
    from deeplab_tf.export.reference import stored_image_predictor

    images = chosen_images(card, split_flag="verify_split", count_flag="verify_images")
    predict = stored_image_predictor(model, card)
    wrong = []
    for path in paths:
        found = verifying.verify(
            path,
            images,
            predict,
            fit=lambda image, size: fit_image(image, size, card),
            threshold=FLAGS.verify_threshold,
        )
        print(verifying.format_verification(found))
        print(f"Written to {verifying.write_manifest(found, checkpoint=checkpoint)}.\n")
        if not found.passed:
            wrong.append(path)
    if wrong:
        sys.exit(f"Not verified: {', '.join(wrong)}.")


def _size(*, default: tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width of --export_size, None for any."""
    sides = FLAGS.export_size
    if sides is None:
        return default
    if sides == ["any"]:
        return None
    try:
        height, width = map(int, sides)
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(
            f"--export_size={','.join(sides)}: expected height,width in pixels, or any."
        )
    return height, width

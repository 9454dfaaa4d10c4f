"""What export_model.py does: a checkpoint in the form that serves it."""

import os
import re
from typing import Any

from absl import flags

from deeplab_tf.cli import cards, export_files, inputs
from deeplab_tf.cli.flag_table import given
from deeplab_tf.model_card import ModelCard

FLAGS = flags.FLAGS


def export() -> None:
    """export_model.py: writes a checkpoint as a SavedModel or another file; --verify compares."""
    checkpoint = inputs.located(FLAGS.checkpoint_path)
    card = cards.card_of(
        checkpoint,
        FLAGS.checkpoint_path,
        crop_flag="crop_size",
        scales_flag="inference_scales",
    )
    paths = export_files.paths()
    if given("save_inference_graph") and not any(path.endswith(".pb") for path in paths):
        raise ValueError(
            f"--save_inference_graph goes with a frozen graph, but --export_path={paths[0]} is "
            "none: end it in .pb."
        )
    export_files.check_flags(paths)
    if all(_is_file(path) for path in paths):
        _refuse_options_of_saved_models(paths[0])
    paths = [path if _is_file(path) else _version_folder(path) for path in paths]
    model = inputs.load_model(card, checkpoint)
    for path in paths:
        if FLAGS.verify and os.path.exists(path):
            print(f"{path} exists, and is verified as it is.")
            continue
        kind = _write(model, card, path)
        print(f"{checkpoint} is now {kind} in {path}.")
    if FLAGS.verify:
        export_files.verify(model, card, checkpoint=checkpoint, paths=paths)


def _write(model: Any, card: ModelCard, path: str) -> str:
    """Writes what the name of a path says; returns what that is."""
    from deeplab_tf import export as exporting
    from deeplab_tf import weights

    if path.endswith(".pb"):
        exporting.export_frozen_graph(
            model, card, export_path=path, inference_graph=FLAGS.save_inference_graph
        )
        return "a frozen graph"
    if path.endswith(".ckpt"):
        weights.save_tf1_checkpoint(model, path)
        return "a TF1 checkpoint"
    if path.endswith(".tflite"):
        export_files.write_litert(model, card, path)
        return "a LiteRT file"
    if path.endswith(".onnx"):
        export_files.write_onnx(model, card, path)
        return "an ONNX file"
    exporting.export_saved_model(
        model,
        card,
        export_path=path,
        dtype=FLAGS.export_dtype,
        max_pixels=FLAGS.export_max_pixels,
        warmup=given("export_version"),
    )
    return "a SavedModel"


def _is_file(path: str) -> bool:
    return path.endswith((".pb", ".ckpt", ".tflite", ".onnx"))


def _refuse_options_of_saved_models(path: str) -> None:
    for name in ("export_version", "export_dtype", "export_max_pixels"):
        if given(name):
            raise ValueError(
                f"--{name} goes with a SavedModel, but --export_path={path} is none: give a folder."
            )


def _version_folder(path: str) -> str:
    """Where the SavedModel goes: a version of a model, or the path itself."""
    from deeplab_tf.export import next_version

    if FLAGS.export_max_pixels < 1:
        raise ValueError(f"--export_max_pixels={FLAGS.export_max_pixels}: expected 1 or more.")
    version = FLAGS.export_version
    if version is None:
        return path
    if version == "next":
        return os.path.join(path, str(next_version(path)))
    if not re.fullmatch(r"[1-9][0-9]*", version):
        raise ValueError(
            f"--export_version={version}: expected a number from 1 on, as TensorFlow Serving wants "
            "its versions named, or next."
        )
    return os.path.join(path, version)

"""What export_model.py does: a checkpoint in the form that serves it."""

import os
import re

from absl import flags

from deeplab_tf.cli import cards, inputs
from deeplab_tf.cli.flag_table import given

FLAGS = flags.FLAGS


def export() -> None:
    """export_model.py: writes a checkpoint as a SavedModel, frozen graph or TF1 checkpoint."""
    from deeplab_tf import export as exporting
    from deeplab_tf import weights

    checkpoint = inputs.located(FLAGS.checkpoint_path)
    card = cards.card_of(
        checkpoint,
        FLAGS.checkpoint_path,
        crop_flag="crop_size",
        scales_flag="inference_scales",
    )
    path = FLAGS.export_path
    if given("save_inference_graph") and not path.endswith(".pb"):
        raise ValueError(
            f"--save_inference_graph goes with a frozen graph, but --export_path={path} is none: "
            "end it in .pb."
        )
    if path.endswith((".pb", ".ckpt")):
        _refuse_options_of_saved_models(path)
    model = inputs.load_model(card, checkpoint)
    if path.endswith(".pb"):
        exporting.export_frozen_graph(
            model, card, export_path=path, inference_graph=FLAGS.save_inference_graph
        )
        kind = "a frozen graph"
    elif path.endswith(".ckpt"):
        weights.save_tf1_checkpoint(model, path)
        kind = "a TF1 checkpoint"
    else:
        path = _version_folder(path)
        exporting.export_saved_model(
            model,
            card,
            export_path=path,
            dtype=FLAGS.export_dtype,
            max_pixels=FLAGS.export_max_pixels,
            warmup=given("export_version"),
        )
        kind = "a SavedModel"
    print(f"{checkpoint} is now {kind} in {path}.")


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

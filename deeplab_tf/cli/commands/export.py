"""What export_model.py does: a checkpoint in the form that serves it."""

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
        exporting.export_saved_model(model, card, export_path=path)
        kind = "a SavedModel"
    print(f"{checkpoint} is now {kind} in {path}.")

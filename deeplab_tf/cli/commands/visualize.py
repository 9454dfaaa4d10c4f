"""What vis.py does: pictures of predictions, or of the inputs of a training run."""

from absl import flags

from deeplab_tf.cli import cards, flag_table, inputs
from deeplab_tf.cli.flag_table import given
from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS

FLAGS = flags.FLAGS


def visualize() -> None:
    """vis.py: draws predictions, or the inputs of a training run."""
    inputs_only = {flag.name for flag in flag_table.INPUTS_ONLY}
    of_inputs = FLAGS.what == "inputs"
    for name in flag_table.PREDICTIONS_ONLY if of_inputs else sorted(inputs_only):
        if given(name):
            raise ValueError(
                f"--{name} has no effect on --what={FLAGS.what}: leave it out, or give "
                f"--what={'predictions' if of_inputs else 'inputs'}."
            )
    if of_inputs:
        _visualize_inputs()
    else:
        _visualize_predictions()


def _visualize_inputs() -> None:
    """What a run trains on, drawn by way of the very pipeline that trains it."""
    from deeplab_tf.visualization import input_panels

    if FLAGS.dataset_dir is None:
        raise ValueError("--what=inputs needs --dataset_dir (a folder of records).")
    if FLAGS.max_inputs < 1:
        raise ValueError(f"--max_inputs={FLAGS.max_inputs}: expected 1 or more.")
    info = inputs.records()
    card = cards.inputs_card(info)
    split = inputs.resolved(info, "train_split", cards.train_split(info))
    summary = input_panels.visualize_inputs(
        inputs.training_inputs(card, split, FLAGS.max_inputs),
        output_dir=FLAGS.vis_logdir,
        class_names=info.class_names,
        palette=inputs.palette(info),
        ignore_label=info.ignore_label,
        total=FLAGS.max_inputs,
    )
    print(f"The first {FLAGS.max_inputs} inputs of a run on {split}, in {FLAGS.vis_logdir}:")
    print(summary)


def _visualize_predictions() -> None:
    """Predictions on a split of records, or on plain image files."""
    from deeplab_tf import predictors
    from deeplab_tf.tiling import Seams
    from deeplab_tf.visualization.run import visualize_predictions

    if (FLAGS.images is None) == (FLAGS.dataset_dir is None):
        raise ValueError(
            "Give either --dataset_dir (a folder of records) or --images (files or folders)."
        )
    # Bad input is found before the network is built.
    info, split, sound = None, "", None
    if FLAGS.dataset_dir is not None:
        info = inputs.records()
        split = inputs.split(info, "vis_split")
        sound = inputs.sound_records(info, split)
    checkpoint = inputs.located(FLAGS.checkpoint_dir)
    card = cards.card_of(checkpoint, FLAGS.checkpoint_dir, crop_flag="vis_crop_size", info=info)
    if info is None:
        examples, total = inputs.image_examples(card.dataset)
    else:
        examples = inputs.examples(info, split, card.inference, sound=sound)
        total = sound.count if sound else info.splits[split]
    seams = Seams()
    predict_labels = predictors.label_predictor(
        inputs.load_model(card, checkpoint),
        card.model,
        card.inference,
        resize=info is None,
        seams=seams,
    )
    summary = visualize_predictions(
        examples,
        predict_labels,
        output_dir=FLAGS.vis_logdir,
        class_names=card.dataset.class_names,
        palette=inputs.palette(card.dataset),
        ignore_label=card.dataset.ignore_label,
        save_raw=FLAGS.also_save_raw_predictions,
        raw_ids=CITYSCAPES_LABEL_IDS if card.dataset.name == "cityscapes" else None,
        total=total,
    )
    print(summary)
    if card.inference.tile_size is not None:
        print(seams)

"""What predict.py does: predictions of image files and videos, written as files."""

from typing import Any

from absl import flags

from deeplab_tf.cli import cards, inputs
from deeplab_tf.cli.flag_table import SETTLED_BY_EXPORT, given
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.known_datasets import CITYSCAPES_LABEL_IDS
from deeplab_tf.model_card import ModelCard

FLAGS = flags.FLAGS


def predict() -> None:
    """predict.py: predicts files, folders, patterns, videos or a camera."""
    from deeplab_tf import prediction

    outputs = _outputs()
    for name in ("batch_size", "max_megapixels", "max_frames"):
        value: Any = FLAGS[name].value
        if given(name) and value < 1:
            raise ValueError(f"--{name}={value}: expected 1 or more.")
    megapixels = FLAGS.max_megapixels
    export = prediction.find_export(FLAGS.checkpoint_dir)
    path = export or inputs.located(FLAGS.checkpoint_dir)
    card = (
        _card_of_export(path)
        if export
        else cards.card_of(path, FLAGS.checkpoint_dir, crop_flag="crop_size")
    )
    # Bad input is found before the network is built.
    found = prediction.find_inputs(FLAGS.input, card=card, output_dir=FLAGS.output_dir)
    colors = tuple(tuple(map(int, color)) for color in inputs.palette(card.dataset))
    style = prediction.Style(colors, _ids(card.dataset))
    report = prediction.predict_inputs(
        prediction.ExportedNetwork(card, path) if export else inputs.load_model(card, path),
        card,
        found,
        output_dir=FLAGS.output_dir,
        outputs=outputs,
        weights=prediction.weights_digest(path),
        style=style,
        batch_size=FLAGS.batch_size,
        skip_corrupt=FLAGS.skip_corrupt,
        max_pixels=None if megapixels is None else int(megapixels * 1e6),
        max_frames=FLAGS.max_frames,
    )
    print(report)
    print(f"Written to {FLAGS.output_dir}: {', '.join(outputs)}.")


def _card_of_export(path: str) -> ModelCard:
    """Its card; ValueError for a flag that would change what is in it."""
    from deeplab_tf import prediction

    for flag in SETTLED_BY_EXPORT:
        if given(flag.name):
            raise ValueError(
                f"--{flag.name} has no effect on {path}: how an exported network meets images was "
                "settled by export_model.py. Leave the flag out, or name the checkpoint."
            )
    return prediction.card_of_export(path)


def _outputs() -> tuple[str, ...]:
    from deeplab_tf.prediction import OUTPUTS

    names = tuple(dict.fromkeys(FLAGS.outputs))
    if unknown := [name for name in names if name not in OUTPUTS]:
        raise ValueError(f"--outputs={','.join(unknown)}: expected some of {', '.join(OUTPUTS)}.")
    if not names:
        raise ValueError(f"--outputs is empty: expected some of {', '.join(OUTPUTS)}.")
    return names


def _ids(info: DatasetInfo) -> tuple[int, ...] | None:
    """What --outputs=ids has in place of each class id."""
    if not given("id_map"):
        return CITYSCAPES_LABEL_IDS if info.name == "cityscapes" else None
    if "ids" not in FLAGS.outputs:
        raise ValueError("--id_map says what --outputs=ids writes: add ids to --outputs.")
    try:
        ids = tuple(map(int, FLAGS.id_map))
    except ValueError:
        ids = ()
    if len(ids) != info.num_classes or not all(0 <= number <= 255 for number in ids):
        raise ValueError(
            f"--id_map={','.join(FLAGS.id_map)}: expected a number from 0 to 255 for each of the "
            f"{info.num_classes} classes."
        )
    return ids

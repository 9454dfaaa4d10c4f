"""Command lines: the only module that knows flags. Each script is flags -> configs -> one call.

A flag that is left unset means "as the preset says" in training and "as the model card says" after
it; so most flags have no default here, and the value they stand for is that of the config field of
the same name.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from absl import app, flags, logging

from deeplab_tf.config import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.output import write_file
from deeplab_tf.data.records import READ_ERRORS
from deeplab_tf.model_card import ModelCard
from deeplab_tf.presets import PRESETS

FLAGS = flags.FLAGS

_MODEL_FLAGS = (
    "model_variant",
    "output_stride",
    "atrous_rates",
    "multi_grid",
    "depth_multiplier",
    "add_image_level_feature",
    "aspp_with_separable_conv",
    "aspp_convs_filters",
    "decoder_output_stride",
    "decoder_use_separable_conv",
    "decoder_filters",
)
# The same weights serve at any output stride, with rates to match.
_FREE_MODEL_FLAGS = ("output_stride", "atrous_rates")
_DATA_FLAGS = ("min_scale_factor", "max_scale_factor", "scale_factor_step_size")
_TRAIN_FLAGS = (
    "training_number_of_steps",
    "base_learning_rate",
    "end_learning_rate",
    "learning_power",
    "momentum",
    "weight_decay",
    "batch_norm_decay",
    "label_weights",
    "seed",
)


def run(main: Callable[[], None], define_flags: Callable[[], None]) -> None:
    """Runs a script: bad input ends it with one message and exit code 1, without a traceback."""
    define_flags()

    def checked_main(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # absl.app would let TensorFlow tell its life
        try:
            if len(argv) > 1:
                raise ValueError(f"Unknown arguments {argv[1:]}: expected --flag=value only.")
            main()
        except KeyboardInterrupt:
            sys.exit(130)
        except (ValueError, OSError, FloatingPointError, *READ_ERRORS) as error:
            sys.exit(f"{os.path.basename(argv[0])}: error: {_message(error)}")

    app.run(checked_main)


def _message(error: Exception) -> str:
    """What an error says; of an assertion in TensorFlow's graph, only the words we gave it."""
    first_line = getattr(error, "message", str(error)).partition("\n")[0]
    _, asserted, words = first_line.partition("assertion failed: ")
    return words.strip("[]").replace("] [", " ") if asserted else str(error)


def define_train_flags() -> None:
    """The flags of train.py."""
    _define_model_flags()
    flags.DEFINE_enum("preset", None, list(PRESETS), "Named network; other model flags change it.")
    flags.DEFINE_string("dataset_dir", None, "Folder of records with its dataset.json.")
    flags.DEFINE_string("train_logdir", None, "Folder for checkpoints, model card and summaries.")
    flags.DEFINE_string("train_split", "train", "Split to train on.")
    flags.DEFINE_string("val_split", "val", "Split to validate on; empty for none.")
    flags.DEFINE_integer("val_interval_steps", 500, "Steps between validations.", lower_bound=1)
    flags.DEFINE_float("save_interval_secs", 1200, "Seconds between checkpoints.", lower_bound=0)
    flags.DEFINE_list("train_crop_size", None, "Height,width of a crop; k * output_stride + 1.")
    flags.DEFINE_integer("train_batch_size", None, "Crops in a batch.")
    flags.DEFINE_float("min_scale_factor", None, "Lower end of the random scale.")
    flags.DEFINE_float("max_scale_factor", None, "Upper end of the random scale.")
    flags.DEFINE_float("scale_factor_step_size", None, "Step between scales; 0 for any between.")
    flags.DEFINE_integer("training_number_of_steps", None, "Steps in all.")
    flags.DEFINE_float("base_learning_rate", None, "Learning rate of the first step.")
    flags.DEFINE_float("end_learning_rate", None, "Learning rate of the last step.")
    flags.DEFINE_float("learning_power", None, "Exponent of the poly schedule.")
    flags.DEFINE_float("momentum", None, "Momentum of SGD.")
    flags.DEFINE_float("weight_decay", None, "L2 factor; 0.0001 suits ResNets.")
    flags.DEFINE_float(
        "batch_norm_decay", None, "Decay of moving statistics; unset: suits the number of steps."
    )
    flags.DEFINE_multi_float("label_weights", None, "Loss weight of a class; give one for each.")
    flags.DEFINE_integer("seed", None, "Seed of weights, dropout, data order and augmentation.")
    flags.mark_flags_as_required(["dataset_dir", "train_logdir"])


def train() -> None:
    """train.py: trains, or goes on training, the network that the flags describe."""
    from deeplab_tf import training

    info = DatasetInfo.load(FLAGS.dataset_dir)
    model = _replace_set(
        ModelConfig.from_preset(FLAGS.preset) if FLAGS.preset else ModelConfig(),
        _set_flags(_MODEL_FLAGS),
    )
    model = replace(model, num_classes=info.num_classes)
    data = replace(DataConfig(), **_set_flags(_DATA_FLAGS))
    if FLAGS.train_batch_size is not None:
        data = replace(data, batch_size=FLAGS.train_batch_size)
    if FLAGS.train_crop_size is not None:
        data = replace(data, crop_size=_size("train_crop_size"))
    _check_crop(data.crop_size, model.output_stride, flag="train_crop_size")
    _check_rates(model, data.crop_size)
    card = ModelCard(
        model=model,
        data=data,
        train=replace(TrainConfig(), **_set_flags(_TRAIN_FLAGS)),
        inference=InferenceConfig(),
        dataset=info,
    )
    scores = training.train(
        card,
        dataset_dir=FLAGS.dataset_dir,
        train_split=FLAGS.train_split,
        val_split=FLAGS.val_split or None,
        logdir=FLAGS.train_logdir,
        val_interval_steps=FLAGS.val_interval_steps,
        save_interval_secs=FLAGS.save_interval_secs,
    )
    print(f"Checkpoints and config.json are in {FLAGS.train_logdir}.")
    if scores is not None:
        print(
            f"Next: python eval.py --checkpoint_dir={FLAGS.train_logdir} "
            f"--dataset_dir={FLAGS.dataset_dir}"
        )


def define_eval_flags() -> None:
    """The flags of eval.py."""
    _define_model_flags()
    flags.DEFINE_string("checkpoint_dir", None, "Folder that train.py wrote, or a checkpoint.")
    flags.DEFINE_string("dataset_dir", None, "Folder of records with its dataset.json.")
    flags.DEFINE_string("eval_split", "val", "Split to evaluate.")
    flags.DEFINE_string("eval_logdir", None, "Folder for scores.json; unset: checkpoint_dir.")
    flags.DEFINE_list("eval_crop_size", None, "Least height,width to pad to; unset: none.")
    flags.mark_flags_as_required(["checkpoint_dir", "dataset_dir"])


def evaluate() -> None:
    """eval.py: prints the scores of a checkpoint on a split and writes them as JSON."""
    from deeplab_tf import evaluation, metrics
    from deeplab_tf.data import pipeline

    info = DatasetInfo.load(FLAGS.dataset_dir)
    info.check_split(FLAGS.eval_split)
    card, predict_labels, checkpoint = _predictor(FLAGS.checkpoint_dir, crop_flag="eval_crop_size")
    _check_same_classes(card.dataset, info)
    scores = evaluation.evaluate(
        predict_labels,
        pipeline.evaluation_examples(
            FLAGS.dataset_dir, FLAGS.eval_split, info=info
        ).as_numpy_iterator(),
        num_classes=info.num_classes,
        ignore_label=info.ignore_label,
        total=info.splits[FLAGS.eval_split],
    )
    print(metrics.format_scores(scores, info.class_names))
    result = {
        "checkpoint": checkpoint,
        "dataset": info.name,
        "split": FLAGS.eval_split,
        "output_stride": card.model.output_stride,
        **metrics.scores_to_json(scores, info.class_names),
    }
    folder = FLAGS.eval_logdir or _run_folder(FLAGS.checkpoint_dir)
    path = os.path.join(folder, f"scores_{FLAGS.eval_split}.json")
    write_file(path, json.dumps(result, indent=2).encode())
    print(f"Written to {path}.")


def define_vis_flags() -> None:
    """The flags of vis.py."""
    _define_model_flags()
    flags.DEFINE_string("checkpoint_dir", None, "Folder that train.py wrote, or a checkpoint.")
    flags.DEFINE_string("vis_logdir", None, "Folder for the pictures.")
    flags.DEFINE_string("dataset_dir", None, "Folder of records, to draw a split of.")
    flags.DEFINE_string("vis_split", "val", "Split to draw.")
    flags.DEFINE_multi_string("images", None, "Image file, folder or pattern; in place of records.")
    flags.DEFINE_list("vis_crop_size", None, "Least height,width to pad to; unset: none.")
    flags.DEFINE_bool("also_save_raw_predictions", False, "Also write label ids as grey PNGs.")
    flags.mark_flags_as_required(["checkpoint_dir", "vis_logdir"])


def visualize() -> None:
    """vis.py: draws the predictions on a split of records, or on plain image files."""
    from deeplab_tf import image_files, visualization
    from deeplab_tf.data import pipeline

    if (FLAGS.images is None) == (FLAGS.dataset_dir is None):
        raise ValueError(
            "Give either --dataset_dir (a folder of records) or --images (files or folders)."
        )
    if FLAGS.images is not None:
        files = image_files.find_images(FLAGS.images)
        examples, total = image_files.file_examples(files), len(files)
    else:
        info = DatasetInfo.load(FLAGS.dataset_dir)
        info.check_split(FLAGS.vis_split)
    card, predict_labels, _ = _predictor(FLAGS.checkpoint_dir, crop_flag="vis_crop_size")
    if FLAGS.images is None:
        _check_same_classes(card.dataset, info)
        total = info.splits[FLAGS.vis_split]
        examples = pipeline.evaluation_examples(
            FLAGS.dataset_dir, FLAGS.vis_split, info=info
        ).as_numpy_iterator()
    summary = visualization.visualize_predictions(
        examples,
        predict_labels,
        output_dir=FLAGS.vis_logdir,
        class_names=card.dataset.class_names,
        palette=card.dataset.palette,
        ignore_label=card.dataset.ignore_label,
        save_raw=FLAGS.also_save_raw_predictions,
        total=total,
    )
    print(summary)


def define_export_flags() -> None:
    """The flags of export_model.py."""
    _define_model_flags()
    flags.DEFINE_string("checkpoint_path", None, "Checkpoint, or the folder that train.py wrote.")
    flags.DEFINE_string("export_path", None, "Folder for the SavedModel; must not exist.")
    flags.DEFINE_integer("num_classes", None, "As in the model card; given, it is checked.")
    flags.DEFINE_multi_integer("crop_size", None, "Least height and width to pad to; give twice.")
    flags.mark_flags_as_required(["checkpoint_path", "export_path"])


def export() -> None:
    """export_model.py: writes a checkpoint as a SavedModel that takes images of any size."""
    from deeplab_tf import export as exporting

    card = _card(FLAGS.checkpoint_path, crop_flag="crop_size", extra_flags=("num_classes",))
    model, checkpoint = _load_model(card, FLAGS.checkpoint_path)
    exporting.export_saved_model(model, card, export_path=FLAGS.export_path)
    print(f"{checkpoint} is now a SavedModel in {FLAGS.export_path}.")


def _define_model_flags() -> None:
    flags.DEFINE_string("model_variant", None, "Encoder.")
    flags.DEFINE_integer("output_stride", None, "Input size over encoder feature size.")
    flags.DEFINE_multi_integer("atrous_rates", None, "Rate of an ASPP branch; give several times.")
    flags.DEFINE_multi_integer("multi_grid", None, "Unit rate of the last block; give three times.")
    flags.DEFINE_float("depth_multiplier", None, "Width of a MobileNet encoder.")
    flags.DEFINE_bool("add_image_level_feature", None, "ASPP with image pooling.")
    flags.DEFINE_bool("aspp_with_separable_conv", None, "Separable convolutions in ASPP.")
    flags.DEFINE_integer("aspp_convs_filters", None, "Channels of ASPP.")
    flags.DEFINE_list("decoder_output_stride", None, "Strides of the decoder; empty for none.")
    flags.DEFINE_bool("decoder_use_separable_conv", None, "Separable convolutions in the decoder.")
    flags.DEFINE_integer("decoder_filters", None, "Channels of the decoder.")


def _set_flags(names: Sequence[str]) -> dict[str, Any]:
    """The flags among `names` that were given, as values of config fields."""
    values = {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}
    if "decoder_output_stride" in values:  # a comma list of strings, as in the reference
        values["decoder_output_stride"] = _integers("decoder_output_stride")
    return {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}


def _replace_set(model: ModelConfig, given: dict[str, Any]) -> ModelConfig:
    """A config with the given fields; the rates follow an output stride that comes without any."""
    if "output_stride" in given and "atrous_rates" not in given:
        model = model.at_output_stride(given["output_stride"])
    return replace(model, **given)


def _size(flag: str) -> tuple[int, int]:
    values = _integers(flag)
    if len(values) != 2:
        raise ValueError(f"--{flag} is {values}; expected two integers, height,width.")
    return values[0], values[1]


def _integers(flag: str) -> list[int]:
    values: Any = FLAGS[flag].value
    try:
        return list(map(int, values))
    except ValueError as error:
        raise ValueError(f"--{flag} is {values}; expected integers.") from error


def _check_crop(crop_size: tuple[int, int], output_stride: int, *, flag: str) -> None:
    if min(crop_size) <= output_stride:
        raise ValueError(
            f"--{flag}={crop_size[0]},{crop_size[1]} is no larger than the output stride "
            f"{output_stride}: expected k * {output_stride} + 1, such as 513."
        )
    for side in crop_size:
        if (side - 1) % output_stride:
            nearest = (side - 1) // output_stride * output_stride + 1
            print(
                f"Warning: --{flag} {side} is not k * {output_stride} + 1, where features and "
                f"pixels align: {nearest} or {nearest + output_stride} gives better borders.",
                file=sys.stderr,
            )


def _check_rates(model: ModelConfig, crop_size: tuple[int, int]) -> None:
    features = (min(crop_size) - 1) // model.output_stride + 1
    if any(rate >= features for rate in model.atrous_rates):
        print(
            f"Warning: the crop has {features} features across at output stride "
            f"{model.output_stride}. Atrous rates {model.atrous_rates} that are no smaller meet "
            "padding only, and untrained weights in larger images: lower --atrous_rates.",
            file=sys.stderr,
        )


def _run_folder(path: str) -> str:
    return path if os.path.isdir(path) else os.path.dirname(path) or "."


def _card(path: str, *, crop_flag: str, extra_flags: Sequence[str] = ()) -> ModelCard:
    """The model card of a run, at the output stride and crop size that the flags ask for.

    A flag that contradicts the card is an error: the weights fit one network only.
    """
    from deeplab_tf import weights

    weights.latest_checkpoint(path)  # whose message names `path`, the next one a file of its folder
    card = ModelCard.load(_run_folder(path))
    given = _set_flags((*_MODEL_FLAGS, *extra_flags))
    for name, value in given.items():
        trained = getattr(card.model, name)
        if name not in _FREE_MODEL_FLAGS and value != trained:
            raise ValueError(
                f"--{name}={value} contradicts the model card, which says {trained}: leave the "
                "flag out, or name the run that was trained so."
            )
    free = {name: given[name] for name in _FREE_MODEL_FLAGS if name in given}
    if "atrous_rates" in free and len(free["atrous_rates"]) != len(card.model.atrous_rates):
        raise ValueError(
            f"--atrous_rates={free['atrous_rates']} contradicts the model card, which has "
            f"{len(card.model.atrous_rates)} branches with the rates {card.model.atrous_rates}."
        )
    if FLAGS[crop_flag].value is not None:
        card = replace(card, inference=InferenceConfig(crop_size=_size(crop_flag)))
    return replace(card, model=_replace_set(card.model, free))


def _load_model(card: ModelCard, path: str) -> tuple[Any, str]:
    from deeplab_tf import weights
    from deeplab_tf.deeplab import build_deeplab

    checkpoint = weights.latest_checkpoint(path)
    model = build_deeplab(card.model)
    weights.load_weights(model, checkpoint)
    return model, checkpoint


def _predictor(path: str, *, crop_flag: str) -> tuple[ModelCard, Callable[[Any], Any], str]:
    from deeplab_tf import evaluation

    card = _card(path, crop_flag=crop_flag)
    model, checkpoint = _load_model(card, path)
    predict_labels = evaluation.label_predictor(model, card.model, card.inference)
    return card, predict_labels, checkpoint


def _check_same_classes(trained: DatasetInfo, given: DatasetInfo) -> None:
    if trained.class_names != given.class_names:
        raise ValueError(
            f"--dataset_dir={FLAGS.dataset_dir} has the {given.num_classes} classes "
            f"{list(given.class_names)}, the model was trained on the {trained.num_classes} "
            f"{list(trained.class_names)}."
        )

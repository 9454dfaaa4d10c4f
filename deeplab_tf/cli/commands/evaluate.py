"""What eval.py does: flags -> configs -> scores."""

import dataclasses
import json
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from absl import flags

from deeplab_tf.cli import cards, inputs
from deeplab_tf.cli.flag_table import given
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.output import write_file
from deeplab_tf.model_card import ModelCard

if TYPE_CHECKING:
    from deeplab_tf.evaluation.split_scores import Measures, SplitScores

FLAGS = flags.FLAGS

# Widths of the bands of a report, for which none were asked.
_REPORT_WIDTHS = (1, 2, 5, 10, 20, 40)


def evaluate() -> None:
    """eval.py: prints the scores of a checkpoint on a split and writes them into files."""
    from deeplab_tf.evaluation import new_checkpoints

    info = inputs.records()
    split = inputs.split(info, "eval_split")
    measures = _measures()
    sound = inputs.sound_records(info, split)
    network, log = _Network(measures), None
    # Once, an evaluation that is ended is a failure.
    watched = new_checkpoints.stopped_by_sigterm() if inputs.watching() else nullcontext()
    with watched:
        try:
            for checkpoint in inputs.checkpoints(FLAGS.checkpoint_dir):
                logdir = inputs.scores_folder(checkpoint)
                card = network.load(checkpoint, info)
                if card is None:
                    continue
                scores = _score(network, card, info, split, sound, measures)
                result = _result(checkpoint, card, info, split, sound, scores)
                print(scores.table(info.class_names))
                if card.inference.tile_size is not None:
                    result["seams"] = network.seams.to_json()
                    print(f"\n{network.seams}")
                _write(logdir, split, scores, result, info)
                if inputs.watching():
                    log = log or _Log(logdir, split, checkpoint)
                    log.add(checkpoint, scores, info.class_names)
        except new_checkpoints.Stopped:
            print("Stopped by SIGTERM; the files of finished evaluations are whole.")


class _Network:
    """A network and how it predicts, built once for all checkpoints of a run."""

    def __init__(self, measures: "Measures") -> None:
        from deeplab_tf.tiling import Seams

        self._full = measures.calibration
        self._built: tuple[Any, Any] | None = None
        self._model: Any = None
        self.seams = Seams()
        self.predict: Any = None

    def load(self, checkpoint: str, info: DatasetInfo) -> ModelCard | None:
        """Takes up the weights of a checkpoint; returns its card.

        None if, while watching, the run removed it before it was read: a later one is there.
        """
        try:
            return self._load(checkpoint, info)
        except Exception:
            if not inputs.watching() or os.path.isfile(f"{checkpoint}.index"):
                raise
            print(f"{checkpoint} is gone before it was read; the run keeps its newest ones only.")
            return None

    def _load(self, checkpoint: str, info: DatasetInfo) -> ModelCard:
        from deeplab_tf import predictors

        card = cards.card_of(
            checkpoint, FLAGS.checkpoint_dir, crop_flag="eval_crop_size", info=info
        )
        what = card.model, card.inference
        if self._built == what:
            inputs.load_weights(self._model, card, checkpoint)
            return card
        self._model = inputs.load_model(card, checkpoint)
        if self._full:
            self.predict = predictors.full_predictor(
                self._model, *what, resize=False, seams=self.seams
            )
        else:
            predict_labels = predictors.label_predictor(
                self._model, *what, resize=False, seams=self.seams
            )
            self.predict = lambda image: (predict_labels(image), None)
        self._built = what
        return card


class _Log:
    """The scores of one checkpoint after another: a file of JSON lines, and TensorBoard's."""

    def __init__(self, logdir: str, split: str, checkpoint: str) -> None:
        from deeplab_tf.evaluation.new_checkpoints import step_of
        from deeplab_tf.training.history import History
        from deeplab_tf.training.summaries import Summaries

        folder = os.path.join(logdir, f"eval_{split}")
        os.makedirs(folder, exist_ok=True)
        # What an earlier watch said of this step and later ones is said again.
        self._history = History(folder, (step_of(checkpoint) or 0) - 1)
        self._summaries = Summaries(folder)

    def add(self, checkpoint: str, scores: "SplitScores", class_names: tuple[str, ...]) -> None:
        """Adds those of a checkpoint."""
        from deeplab_tf.evaluation.new_checkpoints import step_of

        step, whole = step_of(checkpoint) or 0, scores.whole
        numbers = {
            "miou": whole.mean_iou,
            "pixel_accuracy": whole.pixel_accuracy,
            "mean_accuracy": whole.mean_accuracy,
            "mean_f1": whole.mean_f1,
            "frequency_weighted_iou": whole.frequency_weighted_iou,
        }
        iou = dict(zip(class_names, whole.iou, strict=True))
        self._history.add(step, **numbers, iou=iou)
        scalars = {**numbers, **{f"iou/{name}": value for name, value in iou.items()}}
        self._summaries.scalars(step, **{k: v for k, v in scalars.items() if v == v})
        self._summaries.flush()


def _score(
    network: _Network,
    card: ModelCard,
    info: DatasetInfo,
    split: str,
    sound: Any,
    measures: "Measures",
) -> "SplitScores":
    from deeplab_tf.evaluation.split_scores import measure_split

    network.seams.clear()
    return measure_split(
        network.predict,
        inputs.examples(info, split, card.inference, sound=sound),
        measures,
        num_classes=info.num_classes,
        ignore_label=info.ignore_label,
        palette=info.palette,
        total=sound.count if sound else info.splits[split],
    )


def _result(
    checkpoint: str,
    card: ModelCard,
    info: DatasetInfo,
    split: str,
    sound: Any,
    scores: "SplitScores",
) -> dict[str, Any]:
    """What is written as JSON."""
    result = {
        "checkpoint": checkpoint,
        "dataset": info.name,
        "split": split,
        "output_stride": card.model.output_stride,
        "inference": dataclasses.asdict(card.inference),
        **scores.to_json(info.class_names),
        "image_counts": f"image_counts_{split}.npz",
    }
    if sound:
        result["corrupt_records"] = sound.to_json()
    return result


def _write(
    logdir: str, split: str, scores: "SplitScores", result: dict[str, Any], info: DatasetInfo
) -> None:
    """Writes all files of an evaluation, the scores last: they say that the others are there."""
    from deeplab_tf.evaluation import image_scores, metrics
    from deeplab_tf.visualization import plots

    def write(name: str, data: bytes | str) -> str:
        path = os.path.join(logdir, name)
        write_file(path, data.encode() if isinstance(data, str) else data)
        return path

    names = info.class_names
    scores.images.save(os.path.join(logdir, result["image_counts"]))
    write(f"images_{split}.csv", image_scores.image_scores_csv(scores.images, names))
    write(f"confusion_{split}.csv", metrics.confusion_csv(scores.confusion, names))
    title = f"{info.name} {split}: mIoU {scores.whole.mean_iou:.4f}"
    write(f"confusion_{split}.png", plots.confusion_png(scores.confusion, names, title=title))
    if scores.trimaps:
        around = scores.trimap_around
        drawn = plots.trimap_png(scores.trimaps, scores.whole, around=around)
        write(f"trimaps_{split}.png", drawn)
    if scores.calibration is not None:
        drawn = plots.reliability_png(scores.calibration.reliability)
        write(f"reliability_{split}.png", drawn)
    written = write(f"scores_{split}.json", json.dumps(result, indent=2))
    print(f"Written to {written}.")
    if FLAGS.report:
        from deeplab_tf.report import report_html

        text = report_html(scores, result, class_names=names, palette=info.palette)
        print(f"Report: {write(f'report_{split}.html', text)}")


def _measures() -> "Measures":
    """What the flags ask for."""
    from deeplab_tf.evaluation.split_scores import Measures

    report, around = FLAGS.report, FLAGS.trimap_around
    widths = FLAGS.trimap_widths or []
    if any(width < 1 for width in widths):
        raise ValueError(f"--trimap_widths={min(widths)}: expected numbers of pixels, 1 or more.")
    if not widths and report:
        # Any data has borders between classes, but few have void along them.
        widths, around = _REPORT_WIDTHS, around if given("trimap_around") else "classes"
    if not widths and given("trimap_around"):
        raise ValueError("--trimap_around needs widths of bands, such as --trimap_widths=5.")
    if FLAGS.report_images < 0:
        raise ValueError(f"--report_images={FLAGS.report_images}: expected 0 or more.")
    if given("report_images") and not report:
        raise ValueError("--report_images is for --report: give that too, or leave it out.")
    return Measures(
        trimap_widths=tuple(sorted(set(widths))),
        trimap_around=around,
        boundary_iou=FLAGS.boundary_iou or report,
        calibration=FLAGS.calibration or report,
        gallery=FLAGS.report_images if report else 0,
    )

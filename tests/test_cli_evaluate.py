"""eval.py: all measures in one pass, its files, the report, the watching of a run, comparisons."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import cli, predictors
from deeplab_tf.cli import cards, inputs
from deeplab_tf.config import CRF_V2
from deeplab_tf.evaluation.bootstrap import mean_iou_interval
from deeplab_tf.evaluation.boundary_iou import BoundaryIoU
from deeplab_tf.evaluation.image_scores import ImageCounts
from deeplab_tf.evaluation.metrics import confusion_matrix
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import training_checkpoint
from tests import test_cli, tiny_run
from tests.report_reader import Report, addresses
from tests.test_cli import run, succeed

ROOT = Path(__file__).parents[1]


class FakeTrainer:
    """Writes the checkpoints of a run, without training: each has other weights."""

    def __init__(self, folder, *, steps):
        tiny_run.card(training_number_of_steps=steps).save(folder)
        self.model = tiny_run.random_network()
        optimizer = MomentumOptimizer(0.1)
        optimizer.build(self.model.trainable_variables)
        checkpoint = training_checkpoint(self.model, optimizer)
        self.manager = tf.train.CheckpointManager(
            checkpoint, folder, max_to_keep=2, checkpoint_name="model.ckpt"
        )

    def save(self, step):
        bias = self.model.get_layer("logits.semantic").bias
        bias.assign(bias + 0.3 * np.eye(3)[step % 3])
        self.manager.save(checkpoint_number=step)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Records, and a run with checkpoints after 1 and 3 steps of 3."""
    place = tmp_path_factory.mktemp("evaluate")
    tiny_run.write_dataset(place / "data")
    trainer = FakeTrainer(place / "run", steps=3)
    for step in (1, 3):
        trainer.save(step)
    return place


@pytest.fixture(scope="module")
def reported(place):
    """What is printed of an evaluation with a report, and its folder."""
    folder = place / "reported"
    printed = succeed(*command(place, folder), "--report", "--report_images=2")
    return printed, folder


def command(place, logdir, checkpoint=""):
    return (
        "eval.py",
        f"--checkpoint_dir={place}/run{checkpoint}",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={logdir}",
    )


# --- Tiles ----------------------------------------------------------------------------------------

# The smallest tile is larger than the images of the records: they are enlarged first.
TILES = ("--tile_size=257,257", "--tile_overlap=16", "--min_resize_value=400")


def seams_of_predict(place, folder):
    """What predict.py says of the same images, which it reads from files."""
    (folder / "photos").mkdir(parents=True)
    for index in range(tiny_run.INFO.splits["val"]):
        image = Image.fromarray(tiny_run.scene(1, index)[0])
        image.save(folder / f"photos/{index}.png")
    arguments = (f"--checkpoint_dir={place}/run", f"--input={folder}/photos", *TILES)
    printed = succeed("predict.py", *arguments, f"--output_dir={folder}/out")
    return next(line for line in printed.splitlines() if line.startswith("Where tiles meet"))


@pytest.mark.parametrize("more", [(), ("--calibration",)])
def test_the_seams_of_tiles_are_those_that_predict_measures(place, tmp_path, more):
    expected = seams_of_predict(place, tmp_path)
    printed = succeed(*command(place, tmp_path), *TILES, *more)
    assert expected in printed.splitlines()
    seams = json.loads((tmp_path / "scores_val.json").read_text())["seams"]
    assert seams["places"] > 0 and 0 < seams["mean_difference"] < seams["largest_difference"] < 1
    assert f"differ by {seams['largest_difference']:.2g} at most" in expected
    assert f"{seams['mean_difference']:.2g} on average; {seams['other_label']:.3%}" in expected


def test_pictures_come_with_their_seams(place, tmp_path):
    expected = seams_of_predict(place, tmp_path)
    pictures = f"--checkpoint_dir={place}/run", f"--dataset_dir={place}/data"
    printed = succeed("vis.py", *pictures, *TILES, f"--vis_logdir={tmp_path}/tiled")
    assert expected in printed.splitlines()
    assert "tile" not in succeed("vis.py", *pictures, f"--vis_logdir={tmp_path}/whole")


def test_one_tile_has_no_seams(place, tmp_path):
    printed = succeed(*command(place, tmp_path), "--tile_size=257,257", "--tile_overlap=16")
    assert "Every image was one tile." in printed
    seams = json.loads((tmp_path / "scores_val.json").read_text())["seams"]
    assert seams == {
        "places": 0,
        "largest_difference": None,
        "mean_difference": None,
        "other_label": None,
    }
    succeed(*command(place, tmp_path / "whole"))
    assert "seams" not in json.loads((tmp_path / "whole/scores_val.json").read_text())


def test_each_watched_checkpoint_has_its_own_seams(place, tmp_path):
    """The network is built once; what it counts is of one checkpoint."""
    shutil.copytree(place / "run", tmp_path / "run")
    trainer = FakeTrainer(tmp_path / "run", steps=9)
    counts = []

    def appear(seconds):
        counts.append(json.loads((tmp_path / "scores_val.json").read_text())["seams"]["places"])
        trainer.save(8 + len(counts))

    trainer.save(8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", appear)
        arguments = command(tmp_path, tmp_path)
        arguments = [a.replace(f"{tmp_path}/data", f"{place}/data") for a in arguments]
        succeed(*arguments, *TILES, "--eval_interval_secs=1")
    counts.append(json.loads((tmp_path / "scores_val.json").read_text())["seams"]["places"])
    assert len(counts) == 2 and counts[0] == counts[1] > 0


def scores_of(folder):
    return json.loads((folder / "scores_val.json").read_text())


def predictions(place):
    """Label, prediction and probabilities of each image, without the evaluation."""
    trainer = FakeTrainer(place / "again", steps=3)
    from deeplab_tf import weights

    weights.load_weights(trainer.model, str(place / "run/model.ckpt-3"))
    predict = predictors.full_predictor(
        trainer.model, tiny_run.MODEL, tiny_run.card().inference, resize=False
    )
    for i in range(3):
        image, label = tiny_run.scene(1, i)
        yield label, *predict(image)


def test_all_measures_are_of_one_pass(place, reported, monkeypatch):
    printed, folder = reported
    scores = scores_of(folder)
    found = list(predictions(place))
    outlines = BoundaryIoU(num_classes=3, ignore_label=255)
    confusion = np.zeros((3, 3), int)
    confidence, right = [], []
    for label, prediction, probabilities in found:
        outlines.add(label, prediction)
        confusion += confusion_matrix(label, prediction, num_classes=3, ignore_label=255)
        valid = label != 255
        confidence.append(probabilities.max(axis=-1)[valid])
        right.append((prediction == label)[valid])
    assert scores["boundary_iou"]["mean"] == pytest.approx(outlines.scores().mean)
    confidence, right = np.concatenate(confidence), np.concatenate(right)
    gaps = [
        inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        for i in range(15)
        if (inside := (confidence > i / 15) & (confidence <= (i + 1) / 15)).any()
    ]
    assert scores["calibration"]["ece"] == pytest.approx(sum(gaps), rel=1e-4)
    assert [band["width"] for band in scores["trimaps"]["bands"]] == [1, 2, 5, 10, 20, 40]
    assert scores["trimaps"]["around"] == "classes"
    rows = list(csv.reader((folder / "confusion_val.csv").read_text().splitlines()))
    np.testing.assert_array_equal([list(map(int, row[1:])) for row in rows[1:]], confusion)
    for words in ("95 % interval of the mean IoU", "boundary IoU", "calibration error", "Report:"):
        assert words in printed


def test_the_files_agree(reported):
    _, folder = reported
    scores = scores_of(folder)
    counts = ImageCounts.load(folder / scores["image_counts"])
    assert counts.names == ("val_0", "val_1", "val_2")
    assert scores["images"] == 3
    assert scores["mean_iou_interval"] == mean_iou_interval(counts).to_json()
    pixels = [of_class["pixels"] for of_class in scores["classes"]]
    np.testing.assert_array_equal(counts.labelled.sum(axis=0), pixels)
    rows = list(csv.DictReader((folder / "images_val.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == list(counts.names)
    for name in ("confusion_val.png", "trimaps_val.png", "reliability_val.png"):
        picture = np.asarray(Image.open(folder / name).convert("RGB"))
        assert picture.std() > 10, name


def test_the_report_needs_nothing_else(reported):
    _, folder = reported
    text = (folder / "report_val.html").read_text()
    page = Report(text)
    assert addresses(text) == []
    assert page.scores == scores_of(folder)
    assert len(page.views("image")) == 3  # two of the worst, and what is left
    assert "blocks, val" in page.text


def test_without_flags_only_labels_are_computed(place, tmp_path, monkeypatch):
    monkeypatch.setattr(predictors, "full_predictor", None)
    succeed(*command(place, tmp_path))
    scores = scores_of(tmp_path)
    assert not {"calibration", "boundary_iou", "trimaps"} & set(scores)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"images_val.csv", "confusion_val.csv", "image_counts_val.npz"} < files
    assert not {"report_val.html", "trimaps_val.png", "reliability_val.png"} & files


@pytest.mark.parametrize("crf", [None, CRF_V2])
def test_labels_and_probabilities_are_those_of_the_other_predictors(crf):
    model = tiny_run.random_network()
    inference = dataclasses.replace(tiny_run.card().inference, crf=crf)
    image, _ = tiny_run.scene(0)
    labels, probabilities = predictors.full_predictor(model, tiny_run.MODEL, inference)(image)
    expected = predictors.label_predictor(model, tiny_run.MODEL, inference)(image)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32 and len(np.unique(labels)) > 1
    np.testing.assert_array_equal(probabilities.argmax(axis=-1), labels)
    before = predictors.probability_predictor(model, tiny_run.MODEL, inference)(image)
    assert (np.abs(before - probabilities).max() < 1e-6) == (crf is None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report_images=3"], "--report_images is for --report"),
        (["--report", "--report_images=-1"], "--report_images=-1: expected 0 or more"),
        (["--trimap_around=classes"], "--trimap_around needs widths"),
        (["--eval_interval_secs=-1"], "--eval_interval_secs=-1: expected 0 or more"),
        (["--max_number_of_evaluations=1", "--eval_timeout_secs=-2"], "--eval_timeout_secs=-2"),
    ],
)
def test_wrong_flags(place, tmp_path, arguments, message):
    done = run(*command(place, tmp_path), *arguments)
    assert done.code == 1 and message in done.err


# --- Watching a run -------------------------------------------------------------------------------


def history(folder):
    return list(map(json.loads, (folder / "eval_val/history.jsonl").read_text().splitlines()))


def test_watching_ends_with_the_run(place, tmp_path, monkeypatch):
    """A fake trainer writes a checkpoint in each wait; the third one is the last."""
    trainer = FakeTrainer(tmp_path / "run", steps=30)
    steps = iter((10, 20, 30, 40))
    monkeypatch.setattr("time.sleep", lambda seconds: trainer.save(next(steps)))
    built = []
    build = inputs.load_model
    monkeypatch.setattr(inputs, "load_model", lambda *a: built.append(a) or build(*a))
    printed = succeed(
        "eval.py",
        f"--checkpoint_dir={tmp_path}/run",
        f"--dataset_dir={place}/data",
        "--eval_interval_secs=0",
    )
    assert "Waiting: There is no checkpoint" in printed
    assert "model.ckpt-30 is the last one of the run" in printed
    assert next(steps) == 40 and len(built) == 1
    rows = history(tmp_path / "run")
    assert [row["step"] for row in rows] == [10, 20, 30]
    scores = scores_of(tmp_path / "run")
    assert scores["checkpoint"].endswith("model.ckpt-30")
    assert rows[-1]["miou"] == pytest.approx(scores["mean_iou"])
    assert rows[-1]["iou"]["red"] == pytest.approx(scores["classes"][1]["iou"])
    assert len({row["miou"] for row in rows}) == 3  # each has its own weights
    alone = succeed(
        "eval.py",
        f"--checkpoint_dir={tmp_path}/run/model.ckpt-20",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
    )
    assert f"mean IoU        {rows[1]['miou']:.4f}" in alone
    (events,) = (tmp_path / "run/eval_val").glob("events.*")
    tags = {
        (value.tag, event.step)
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert {("miou", 10), ("miou", 30), ("iou/green", 20)} <= tags


def test_watching_again_replaces_what_is_measured_again(place, tmp_path):
    flags = ("--max_number_of_evaluations=1", "--eval_interval_secs=0")
    for _ in range(2):
        succeed(*command(place, tmp_path), *flags)
    assert [row["step"] for row in history(tmp_path)] == [3]


def test_a_checkpoint_that_is_removed_before_it_is_read_is_passed_over(
    place, tmp_path, monkeypatch
):
    trainer = FakeTrainer(tmp_path / "run", steps=30)
    trainer.save(10)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    card_of = cards.card_of

    def late(checkpoint, *args, **options):
        if checkpoint.endswith("-10"):
            for step in (20, 30):  # the run keeps two
                trainer.save(step)
        return card_of(checkpoint, *args, **options)

    monkeypatch.setattr(cards, "card_of", late)
    printed = succeed(
        "eval.py",
        f"--checkpoint_dir={tmp_path}/run",
        f"--dataset_dir={place}/data",
        "--eval_interval_secs=0",
    )
    assert "model.ckpt-10 is gone before it was read" in printed
    assert [row["step"] for row in history(tmp_path / "run")] == [30]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_the_watching(place, tmp_path, number, code):
    """Of a process of its own that waits for more than there will be."""
    FakeTrainer(tmp_path / "run", steps=30).save(10)
    process = subprocess.Popen(
        [
            *(sys.executable, "eval.py", f"--checkpoint_dir={tmp_path}/run"),
            *(f"--dataset_dir={place}/data", "--eval_interval_secs=1000"),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "run/eval_val/history.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert ("Stopped by SIGTERM" in out) == (number == signal.SIGTERM)
    assert "Traceback" not in err
    assert scores_of(tmp_path / "run")["checkpoint"].endswith("-10")


# --- Comparing two --------------------------------------------------------------------------------


@pytest.fixture
def compare(monkeypatch):
    """A function that runs `python -m deeplab_tf.compare` in this process."""
    monkeypatch.setitem(test_cli.SCRIPTS, "compare", cli.compare)
    whole, paths = cli.run, {"compare": 2}
    monkeypatch.setattr(
        cli, "run", lambda main, script: whole(main, script, paths=paths.get(script, 0))
    )
    return lambda *arguments: run("compare", *map(str, arguments))


def test_two_evaluations_are_compared(place, reported, tmp_path, compare):
    _, second = reported
    succeed(*command(place, tmp_path, "/model.ckpt-1"))
    first = tmp_path / "scores_val.json"
    done = compare(first, second / "scores_val.json", f"--json={tmp_path}/difference.json")
    assert done.code == 0, done.err
    written = json.loads((tmp_path / "difference.json").read_text())
    assert written["first"] == pytest.approx(scores_of(tmp_path)["mean_iou"])
    assert written["second"] == pytest.approx(scores_of(second)["mean_iou"])
    assert written["images"] == 3
    assert f"{written['second'] - written['first']:+.4f}" in done.out
    same = compare(first, first)
    assert "do not tell the two apart" in same.out


def test_evaluations_of_other_images_are_not_compared(reported, tmp_path, compare):
    _, folder = reported
    right = folder / "scores_val.json"

    def changed(**values):
        (tmp_path / "image_counts_val.npz").write_bytes(
            (folder / "image_counts_val.npz").read_bytes()
        )
        path = tmp_path / f"other {'-'.join(values)}.json"
        path.write_text(json.dumps({**scores_of(folder), **values}))
        return path

    for other, message in (
        (changed(split="train"), "of the split val"),
        (changed(dataset="voc"), "of the dataset blocks"),
        (changed(classes=scores_of(folder)["classes"][::-1]), "of the class names"),
        (changed(image_counts="gone.npz"), "gone.npz not found"),
        (tmp_path / "no.json", "no.json not found: expected the scores"),
        (folder / "images_val.csv", "is no scores_<split>.json of eval.py"),
    ):
        done = compare(right, other)
        assert done.code == 1 and message in done.err, done.err
    assert "expected 2 paths" in compare(right).err

"""The scripts with what a run writes beside its checkpoints, and how they end if it goes wrong."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.training import run as training
from tests import tiny_run
from tests.test_cli import NETWORK_FLAGS, run, succeed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Records, and a run that stopped early; its best checkpoint is not its last one."""
    place = tmp_path_factory.mktemp("watching")
    tiny_run.write_dataset(place / "data")
    # At this rate the network gets worse at once, and batch norm keeps the loss finite.
    said = succeed("train.py", *command(place, "run", rate=30, steps=40), "--early_stop_patience=3")
    return place, said


def command(place, logdir, *, rate, steps):
    return (
        f"--dataset_dir={place}/data",
        f"--train_logdir={place}/{logdir}",
        f"--training_number_of_steps={steps}",
        f"--base_learning_rate={rate}",
        "--train_batch_size=4",
        "--train_crop_size=33,33",
        "--val_interval_steps=2",
        *NETWORK_FLAGS,
    )


def test_a_watching_evaluation_ends_with_a_run_that_stopped_early(place, tmp_path):
    """After its last checkpoint, not because none comes in time."""
    place, _ = place
    last = json.loads((place / "run/stopped_early.json").read_text())["step"]
    assert last < 40
    said = succeed(
        "eval.py",
        f"--checkpoint_dir={place}/run",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
        "--eval_interval_secs=0",
        "--eval_timeout_secs=1",
    )
    assert f"model.ckpt-{last} is the last one of the run" in said
    scores = json.loads((tmp_path / "scores_val.json").read_text())
    assert scores["checkpoint"].endswith(f"model.ckpt-{last}")


def rows(place):
    lines = (place / "run/history.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "miou" in row]


def test_a_run_that_stops_early_is_finished(place):
    place, said = place
    validations = rows(place)
    last, best = validations[-1], max(validations, key=lambda row: row["miou"])
    assert best["step"] == last["step"] - 6
    assert f"Stopped early after step {last['step']}" in said
    assert (place / f"run/model.ckpt-{last['step']}.index").exists()
    assert (place / f"run/best/model.ckpt-{best['step']}.index").exists()
    assert "Next: python eval.py" in said


def test_every_script_takes_the_best_checkpoint(place):
    place, _ = place
    best = f"{place}/run/best"
    said = succeed(
        "eval.py",
        f"--checkpoint_dir={best}",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={place}/scores",
    )
    expected = max(rows(place), key=lambda row: row["miou"])
    scores = json.loads((place / "scores/scores_val.json").read_text())
    assert scores["mean_iou"] == pytest.approx(expected["miou"], abs=1e-4)
    assert f"best/model.ckpt-{expected['step']}" in scores["checkpoint"]
    assert "wall" in said

    succeed(
        "vis.py",
        f"--checkpoint_dir={best}",
        f"--dataset_dir={place}/data",
        f"--vis_logdir={place}/pictures",
    )
    predicted = np.asarray(Image.open(place / "pictures/val_0_prediction.png"))
    succeed("export_model.py", f"--checkpoint_path={best}", f"--export_path={place}/exported")
    outputs = tf.saved_model.load(f"{place}/exported").signatures["serving_default"](
        ImageTensor=tf.constant(tiny_run.scene(1, 0)[0][None])
    )
    np.testing.assert_array_equal(outputs["SemanticPredictions"][0], predicted)


def test_a_loss_that_is_not_finite_ends_with_a_message(place):
    place, _ = place
    done = run("train.py", *command(place, "diverged", rate=1e38, steps=40))
    assert done.code == 1
    assert "train.py: error: " in done.err
    assert "Traceback" not in done.err
    (report,) = (place / "diverged").glob("nonfinite-step-*.json")
    assert f"are in {report}" in done.err
    causes = done.err[done.err.index("usual causes") :]
    assert causes.index("lower --base_learning_rate") < causes.index("damaged images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--val_interval_steps=0"], "--val_interval_steps=0: expected 1 or more"),
        (["--log_steps=0"], "--log_steps=0: expected 1 or more"),
        (["--early_stop_patience=-1"], "--early_stop_patience=-1: expected 0 or more"),
        (["--early_stop_patience=3", "--val_split="], "counts validations, and there are none"),
    ],
)
def test_a_schedule_that_cannot_be(place, monkeypatch, arguments, message):
    monkeypatch.setattr(training, "train", None)
    place, _ = place
    done = run("train.py", *command(place, "never", rate=0.1, steps=1), *arguments)
    assert done.code == 1
    assert message in done.err
    assert not (place / "never").exists()

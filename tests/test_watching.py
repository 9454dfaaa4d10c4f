"""What a run tells of itself: history, pictures, best checkpoint, early stop, alarm, report."""

import collections
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import predictors, weights
from deeplab_tf.deeplab import build_deeplab
from deeplab_tf.evaluation import degenerate
from deeplab_tf.evaluation import run as evaluation
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import data, validation
from deeplab_tf.training import run as training
from deeplab_tf.training.best import keep_best
from deeplab_tf.training.early_stop import stopped_early_at
from tests import tiny_run
from tests.distributed_run import build_small_network
from tests.test_training import curves, interrupted_after


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tfrecord"
    tiny_run.write_dataset(folder)
    return str(folder)


@pytest.fixture
def train(dataset_dir, monkeypatch):
    """A function that trains a network that costs nothing, with validation."""
    monkeypatch.setattr(training, "build_deeplab", build_small_network)
    tiny_run.draw_no_plots(monkeypatch)

    def run(logdir, *, options=None, steps=6, **train):
        card = tiny_run.card(training_number_of_steps=steps, **train)
        options = {"val_split": "val", "val_interval_steps": 1, "log_steps": 2, **(options or {})}
        return training.train(
            card, dataset_dir=dataset_dir, train_split="train", logdir=str(logdir), **options
        )

    return run


@pytest.fixture
def scripted(monkeypatch):
    """A function that says how many of 2000 pixels the validations get wrong, one by one."""

    def play(*mious):
        left = collections.deque(mious)

        def split_confusion(*args, **options):
            # The mean of (1000 - wrong) / 1000 and 1000 / (1000 + wrong) falls with it.
            matrix = np.diag([1000, 1000, 0])
            wrong = left.popleft()
            matrix[0] -= [wrong, -wrong, 0]
            return matrix

        monkeypatch.setattr(validation, "split_confusion", split_confusion)
        return left

    return play


def history(logdir):
    return [json.loads(line) for line in (logdir / "history.jsonl").read_text().splitlines()]


def validated(logdir):
    return [row["step"] for row in history(logdir) if "miou" in row]


def best(logdir):
    """The step of the checkpoint in best/, which must be whole and the only one."""
    (index,) = (logdir / "best").glob("*.index")
    names = {path.name for path in (logdir / "best").iterdir()}
    prefix = index.name.removesuffix(".index")
    data = f"{prefix}.data-00000-of-00001"
    assert names == {index.name, data, "checkpoint", "config.json"}
    assert weights.locate_checkpoint(logdir / "best") == str(logdir / "best" / prefix)
    return int(prefix.rpartition("-")[2])


# --- A run with all of it -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(dataset_dir, tmp_path_factory):
    """Folder, scores and output of a run of a DeepLab that learns what is easy."""
    logdir = tmp_path_factory.mktemp("whole") / "run"
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation.tqdm, "write", said.append)
        scores = training.train(
            tiny_run.card(training_number_of_steps=30, base_learning_rate=0.1, ema_decay=0.5),
            dataset_dir=dataset_dir,
            train_split="train",
            val_split="val",
            logdir=str(logdir),
            val_interval_steps=10,
            log_steps=5,
        )
    return logdir, scores, "\n".join(said)


def test_history_has_every_point_and_every_validation(whole):
    logdir, scores, _ = whole
    rows = history(logdir)
    assert [row["step"] for row in rows if "loss" in row] == [5, 10, 15, 20, 25, 30]
    assert validated(logdir) == [10, 20, 30]
    for row in rows:
        if "loss" in row:
            rate = 0.1 * (1 - (row["step"] - 1) / 30) ** 0.9
            assert row["learning_rate"] == pytest.approx(rate, rel=1e-5)
            assert row["images_per_sec"] > 0
            assert 0 <= row["data_wait_share"] <= 1
    assert rows[-1]["miou"] == pytest.approx(scores.mean_iou)
    assert list(rows[-1]["iou"]) == ["wall", "red", "green"]
    assert list(rows[-1]["iou"].values()) == pytest.approx(scores.iou)


def test_validation_says_the_iou_of_each_class(whole):
    _, scores, said = whole
    last = said[said.index("step 30:") :].splitlines()
    assert last[0].startswith(f"step 30: mIoU {scores.mean_iou:.4f}, pixel accuracy")
    expected = "   ".join(
        f"{name:<5} {iou:.4f}"
        for name, iou in zip(("wall", "red", "green"), scores.iou, strict=True)
    )
    assert last[1] == f"  {expected}"


def test_pictures_show_the_run(whole):
    logdir, _, _ = whole
    for name in ("curves.png", "confusion_matrix.png"):
        pixels = np.asarray(Image.open(logdir / name).convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert (pixels != 255).any(axis=2).mean() > 0.02


def test_tensorboard_has_the_classes_and_the_confusion_matrix(whole):
    pytest.importorskip("tensorboard")
    logdir, scores, _ = whole
    found = curves(logdir)
    for name, iou in zip(("wall", "red", "green"), scores.iou, strict=True):
        assert list(found[f"iou/{name}"]) == [10, 20, 30]
        assert found[f"iou/{name}"][30] == pytest.approx(iou)
    _, _, encoded = found["confusion_matrix"][30]
    assert encoded[:4] == b"\x89PNG"


def test_the_best_checkpoint_has_the_score_that_was_best(whole, dataset_dir):
    """As eval.py takes it: with the card of its folder, the averaged weights."""
    logdir, _, _ = whole
    rows = [row for row in history(logdir) if "miou" in row]
    expected = max(rows, key=lambda row: row["miou"])
    assert best(logdir) == expected["step"]
    card = ModelCard.load(logdir / "best")
    model = build_deeplab(card.model)
    weights.load_weights(model, weights.locate_checkpoint(logdir / "best"))
    predict = predictors.label_predictor(model, card.model, card.inference, resize=False)
    scores = evaluation.evaluate(
        predict,
        data.pipeline.evaluation_examples(
            dataset_dir, "val", info=card.dataset
        ).as_numpy_iterator(),
        num_classes=3,
        ignore_label=255,
    )
    assert scores.mean_iou == pytest.approx(expected["miou"], abs=1e-4)


# --- Best and early stop --------------------------------------------------------------------------


def test_best_is_the_first_of_the_highest(train, scripted, tmp_path):
    scripted(500, 200, 300, 200)
    train(tmp_path, steps=4)
    assert best(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.glob("*.index")) == [
        f"model.ckpt-{step}.index" for step in (2, 3, 4)
    ]


def test_best_is_remembered_by_a_run_that_goes_on(train, scripted, tmp_path, monkeypatch):
    scripted(500, 100, 300, 200, 150, 120)
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(4))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    train(tmp_path)
    assert validated(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert best(tmp_path) == 2
    # Long gone from the run's own checkpoints.
    assert not (tmp_path / "model.ckpt-2.index").exists()


def test_a_better_one_after_going_on_takes_its_place(train, scripted, tmp_path, monkeypatch):
    scripted(500, 300, 100, 400)
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(2))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, steps=4)
    assert best(tmp_path) == 1
    train(tmp_path, steps=4)
    assert best(tmp_path) == 3


def test_keeping_the_best_leaves_one_whole_checkpoint_wherever_it_is_killed(tmp_path, monkeypatch):
    """Killed at each of its operations on files, one after the other."""
    for step in (1, 2):
        tf.train.Checkpoint(step=tf.Variable(step)).write(str(tmp_path / f"model.ckpt-{step}"))
    card = tiny_run.card()
    keep_best(str(tmp_path / "model.ckpt-1"), card)

    class KilledError(Exception):
        pass

    def stored():
        prefix = tf.train.latest_checkpoint(str(tmp_path / "best"))
        assert prefix == weights.locate_checkpoint(tmp_path / "best")
        ModelCard.load(tmp_path / "best")
        return tf.train.load_checkpoint(prefix).get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE")

    operations = [("os", "link"), ("os", "replace"), ("os", "remove")]
    seen = set()
    for killed_at in range(100):
        count = 0

        def counted(function):
            def call(*args, **options):
                nonlocal count
                if count == killed_at:  # noqa: B023 - called within the turn
                    raise KilledError
                count += 1
                return function(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for module, name in operations:
                patch.setattr(f"{module}.{name}", counted(getattr(__import__(module), name)))
            try:
                keep_best(str(tmp_path / "model.ckpt-2"), card)
            except KilledError:
                seen.add(int(stored()))
                continue
        break
    assert seen == {1, 2}
    assert killed_at > 5
    assert best(tmp_path) == 2


def test_best_works_without_hard_links(tmp_path, monkeypatch):
    tf.train.Checkpoint(step=tf.Variable(1)).write(str(tmp_path / "model.ckpt-1"))

    def link(*paths):
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", link)
    keep_best(str(tmp_path / "model.ckpt-1"), tiny_run.card())
    assert best(tmp_path) == 1
    assert not (tmp_path / "best/model.ckpt-1.index").samefile(tmp_path / "model.ckpt-1.index")


def test_patience_ends_a_run_and_it_stays_ended(train, scripted, tmp_path, capsys):
    """With its last checkpoint. More patience goes on, from there."""
    scripted(500, 100, 200, 100, 50, 60)
    scores = train(tmp_path, options={"early_stop_patience": 2})
    assert validated(tmp_path) == [1, 2, 3, 4]
    assert weights.locate_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-4")
    said = capsys.readouterr().out
    assert "Stopped early after step 4: none of the last 2 validations was better than" in said
    assert f"that of step 2, mIoU {(0.9 + 1 / 1.1) / 2:.4f}" in said
    assert str(tmp_path / "best") in said
    assert scores is not None
    assert stopped_early_at(tmp_path) == 4

    before = (tmp_path / "history.jsonl").read_bytes()
    assert train(tmp_path, options={"early_stop_patience": 2}) is None
    assert "Stopped early after step 4" in capsys.readouterr().out
    assert (tmp_path / "history.jsonl").read_bytes() == before
    assert stopped_early_at(tmp_path) == 4

    train(tmp_path, options={"early_stop_patience": 3})
    assert validated(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert best(tmp_path) == 5
    assert "Stopped early" not in capsys.readouterr().out
    assert stopped_early_at(tmp_path) is None


def test_a_damaged_word_of_the_end_is_named(tmp_path):
    assert stopped_early_at(tmp_path / "nowhere") is None
    for text in ("{", "[]", "{}"):
        (tmp_path / "stopped_early.json").write_text(text)
        with pytest.raises(ValueError, match=r"stopped_early\.json is damaged .* delete it"):
            stopped_early_at(tmp_path)


def test_without_patience_a_run_is_as_long_as_it_is(train, scripted, tmp_path):
    scripted(*[100, *[500] * 5])
    train(tmp_path)
    assert validated(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_a_validation_that_was_cut_off_is_made_up_for(train, scripted, tmp_path, monkeypatch):
    """Its checkpoint is there, its scores are not."""
    left = scripted(500, 100)

    def killed(*args, **options):
        raise KeyboardInterrupt

    split_confusion, calls = validation.split_confusion, []

    def sometimes(*args, **options):
        calls.append(1)
        return killed() if len(calls) == 2 else split_confusion(*args, **options)

    monkeypatch.setattr(validation, "split_confusion", sometimes)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, steps=2)
    assert validated(tmp_path) == [1]
    assert weights.locate_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-2")
    scores = train(tmp_path, steps=2)
    assert scores.mean_iou == pytest.approx((0.9 + 1 / 1.1) / 2)
    assert validated(tmp_path) == [1, 2]
    assert best(tmp_path) == 2
    assert not left


# --- History --------------------------------------------------------------------------------------


def test_a_run_that_goes_on_drops_what_it_says_again(train, tmp_path, monkeypatch):
    """As after kill -9: later rows are there, and half of one."""
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(3))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, options={"log_steps": 1})
    path = tmp_path / "history.jsonl"
    kept = path.read_bytes()
    assert len(kept.splitlines()) == 4  # the interruption came before the rows of step 3
    with path.open("ab") as file:
        file.write(b'{"step": 4, "loss": 1.0, "learning_rate": 0.1}\n{"step": 5, "mi')
    train(tmp_path, options={"log_steps": 1})
    assert path.read_bytes().startswith(kept)
    rows = history(tmp_path)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 4, 5, 6]
    assert validated(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_works_without_tensorboard_and_without_validation(train, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    train(tmp_path, options={"val_split": None})
    assert [row["step"] for row in history(tmp_path)] == [2, 4, 6]
    assert (tmp_path / "curves.png").exists()
    assert not (tmp_path / "confusion_matrix.png").exists()
    assert not (tmp_path / "best").exists()


# --- Predictions that are all of one class --------------------------------------------------------


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[500, 0, 0], [300, 0, 0], [200, 0, 0]], 0),
        ([[0, 0, 500], [0, 0, 300], [1, 0, 199]], 2),
        ([[500, 0, 0], [290, 10, 0], [190, 0, 10]], None),  # 2 % of others
        ([[1000, 0, 0], [0, 0, 0], [0, 0, 0]], None),  # as the labels have it
        ([[990, 0, 0], [10, 0, 0], [0, 0, 0]], 0),  # cracks, none found
        ([[990, 0, 0], [5, 5, 0], [0, 0, 0]], None),  # cracks, half of them found
        ([[0, 0, 0]] * 3, None),
    ],
)
def test_nearly_all_of_one_class(confusion, expected):
    assert degenerate.dominating_class(np.array(confusion)) == expected


def test_the_alarm_sounds_once_when_it_begins(train, tmp_path, monkeypatch, capsys):
    """And when it is over; a run that goes on knows that it has."""
    left = collections.deque("wwwvvw")
    matrices = {
        "w": np.array([[600, 0, 0], [300, 0, 0], [100, 0, 0]]),
        "v": np.diag([600, 300, 100]),
    }
    monkeypatch.setattr(validation, "split_confusion", lambda *_, **__: matrices[left.popleft()])
    with monkeypatch.context() as patch:
        patch.setattr(training, "TrainStep", interrupted_after(3))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    first = capsys.readouterr().out
    warning = 'WARNING: 100.0% of the predictions are "wall", of the labels 60.0%. Likely causes:'
    assert first.count("WARNING") == first.count(warning) == 1
    causes = first[first.index(warning) :].splitlines()[1:]
    assert causes[0].startswith("  - the network is untrained, at an early step, or diverged")
    train(tmp_path)
    again = capsys.readouterr().out
    assert again.count('no longer nearly all "wall"') == 1
    assert again.index("no longer") < again.index(warning)
    assert again.count("WARNING") == 1
    named = [row["dominating_class"] for row in history(tmp_path) if "miou" in row]
    assert named == ["wall", "wall", "wall", None, None, "wall"]


# --- What is not finite ---------------------------------------------------------------------------


def test_the_report_tells_what_the_step_was(train, tmp_path, dataset_dir, monkeypatch):
    batches = []
    make_step = training.TrainStep

    class Step(make_step):
        def __call__(self, parts, vote=0.0):
            batches.append([tensor.numpy() for tensor in parts[0]])
            result = super().__call__(parts, vote)
            return result._replace(loss=tf.constant(math.nan)) if len(batches) == 7 else result

    monkeypatch.setattr(training, "TrainStep", Step)
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, steps=9, base_learning_rate=0.02, options={"val_interval_steps": 3})
    path = tmp_path / "nonfinite-step-7.json"
    assert "The loss of step 7 is nan, at the learning rate 0.0074" in str(error.value)
    assert str(path) in str(error.value)
    report = json.loads(path.read_text())
    assert [taken["step"] for taken in report["last_steps"]] == [3, 4, 5, 6, 7]
    assert report["last_steps"][-1]["loss"] == "nan"
    rates = [0.02 * (1 - step / 9) ** 0.9 for step in (2, 3, 4, 5, 6)]
    assert [taken["learning_rate"] for taken in report["last_steps"]] == pytest.approx(rates)
    norms = report["last_steps"][0]["gradient_norms"]
    assert "conv/kernel" in norms and "logits/bias" in norms and len(norms) == 5
    assert all(norm > 0 for norm in norms.values())

    images, labels = batches[6]
    assert [image["pixel_range"] for image in report["images"]] == [
        [int(image.min()), int(image.max())] for image in images
    ]
    for entry, label in zip(report["images"], labels, strict=True):
        assert entry["labels"] == {
            name: int((label == value).sum())
            for name, value in (("wall", 0), ("red", 1), ("green", 2), ("void", 255))
            if (label == value).any() or name == "void"
        }
    assert sum(report["labels"].values()) == labels.size
    # Steps 1 to 6 saw 24 examples, four epochs of six; the next four are all different.
    files = [entry["file"] for entry in report["images"]]
    assert len(set(files)) == 4
    assert set(files) <= {f"train_{i}" for i in range(6)}
    # The checkpoints are those of before.
    assert sorted(path.name for path in tmp_path.glob("*.index")) == [
        "model.ckpt-3.index",
        "model.ckpt-6.index",
    ]


def test_the_names_in_the_report_are_those_of_the_images(dataset_dir):
    """Each example of a step is the crop of the image that is named for it."""
    options = data.pipeline_options(tiny_run.card())
    options |= {"min_scale_factor": 1.0, "max_scale_factor": 1.0, "crop_size": (61, 61)}
    for step in (0, 1, 5):
        names, images, labels = data.pipeline.training_batch(
            dataset_dir, "train", batch_size=4, step=step, **options
        )
        assert len(names) == 4
        for name, image, label in zip(names, images, labels, strict=True):
            source, truth = tiny_run.scene(0, int(name.removeprefix("train_")))
            height, width = truth.shape
            inside = image[:height, :width], label[:height, :width]
            if not np.array_equal(inside[1], truth):
                inside = image[:height, ::-1][:, :width], label[:height, ::-1][:, :width]
            np.testing.assert_array_equal(inside[1], truth)
            np.testing.assert_array_equal(inside[0], source)


def test_weights_that_are_not_finite_are_not_saved(train, tmp_path, monkeypatch):
    """Although the loss, which is of before the step, is."""
    make_step, taken = training.TrainStep, []

    def broken_after_four(model, *args, **settings):
        step = make_step(model, *args, **settings)

        def take(*args, **options):
            result = step(*args, **options)
            taken.append(result)
            if len(taken) == 4:
                kernel = model.get_layer("conv").kernel
                kernel.assign(kernel.numpy() * np.nan)
            return result

        return take

    monkeypatch.setattr(training, "TrainStep", broken_after_four)
    with pytest.raises(FloatingPointError, match=r"After step 4, 1 of 5 weights are not finite"):
        train(tmp_path, options={"val_interval_steps": 2})
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["model.ckpt-2.index"]
    assert best(tmp_path) == 2
    assert (tmp_path / "nonfinite-step-4.json").exists()


def test_a_batch_that_cannot_be_read_again_does_not_hide_the_error(train, tmp_path, monkeypatch):
    def training_batch(*args, **options):
        raise FileNotFoundError("the disk is gone")

    monkeypatch.setattr(data.pipeline, "training_batch", training_batch)
    with pytest.raises(FloatingPointError, match="loss of step"):
        train(tmp_path, steps=50, base_learning_rate=1e30, options={"val_split": None})
    (path,) = tmp_path.glob("nonfinite-*.json")
    report = json.loads(path.read_text())
    assert report["batch"] == "could not be read again: the disk is gone"
    assert report["last_steps"]

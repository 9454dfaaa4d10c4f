"""The gallery and the report: right pictures, the JSON's numbers, and nothing from a network."""

import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from deeplab_tf.colormap import VOID_COLOR, colorize
from deeplab_tf.evaluation.gallery import MAX_BYTES, MAX_SIDE, Gallery
from deeplab_tf.evaluation.metrics import confusion_matrix, scores_from_confusion
from deeplab_tf.evaluation.split_scores import Measures, measure_split
from deeplab_tf.report import report_html
from tests.report_reader import Report, addresses

ROOT = Path(__file__).parents[1]
CLASSES = ("road", "<b>sky</b> & air", "in no label")
PALETTE = ((128, 64, 128), (70, 130, 180), (220, 20, 60))
EVERYTHING = Measures((1, 3), "classes", boundary_iou=True, calibration=True, gallery=3)


def examples(count=9, size=(24, 40)):
    """Images whose first channel is the prediction; the later, the more mistakes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        label = np.zeros(size, np.uint8)
        label[: size[0] // 2] = 1
        wrong = rng.random(size) < i / (2 * count)
        prediction = np.where(wrong, rng.integers(0, 3, size), label)
        label[:, :2] = 255
        image = np.repeat(prediction[..., None], 3, axis=2).astype(np.uint8)
        yield {"image": image, "label": label, "filename": f"<{i}>.jpg".encode()}


def predict(image):
    labels = image[..., 0].astype(np.int32)
    probabilities = np.full((*labels.shape, 3), 0.1, np.float32)
    np.put_along_axis(probabilities, labels[..., None], 0.8, axis=-1)
    return labels, probabilities


def measured(measures=EVERYTHING, **options):
    found = list(examples(**options))
    return measure_split(
        predict,
        iter(found),
        measures,
        num_classes=3,
        ignore_label=255,
        palette=PALETTE,
        total=len(found),
    )


def result_of(scores):
    inference = {"eval_scales": (1.0,), "add_flipped_images": False, "crf": None}
    return {
        "checkpoint": "runs/a&b/model.ckpt-7",
        "dataset": "blocks",
        "split": "val",
        "output_stride": 16,
        "inference": inference,
        **scores.to_json(CLASSES),
    }


@pytest.fixture(scope="module")
def report():
    scores = measured()
    text = report_html(scores, result_of(scores), class_names=CLASSES, palette=PALETTE)
    return scores, text, Report(text)


# --- One pass -------------------------------------------------------------------------------------


def test_every_image_is_predicted_once(monkeypatch):
    calls = []
    found = list(examples())
    scores = measure_split(
        lambda image: calls.append(image) or predict(image),
        iter(found),
        EVERYTHING,
        num_classes=3,
        ignore_label=255,
        palette=PALETTE,
        total=len(found),
    )
    assert len(calls) == len(found)
    expected = sum(
        confusion_matrix(e["label"], predict(e["image"])[0], num_classes=3, ignore_label=255)
        for e in found
    )
    np.testing.assert_array_equal(scores.confusion, expected)
    assert repr(scores.whole) == repr(scores_from_confusion(expected))
    assert scores.images.names == tuple(f"<{i}>.jpg" for i in range(9))
    np.testing.assert_array_equal(scores.images.hits.sum(axis=0), np.diag(expected))


def test_what_is_not_asked_for_is_not_there():
    scores = measured(Measures())
    assert scores.boundary is scores.calibration is scores.gallery is None and not scores.trimaps
    written = scores.to_json(CLASSES)
    assert not {"boundary_iou", "calibration", "trimaps"} & set(written)
    table = scores.table(CLASSES)
    assert "95 % interval" in table and "boundary" not in table and "width" not in table
    complete = measured().table(CLASSES)
    for words in ("boundary IoU (2% of the diagonal): ", "calibration error (ECE", "bands around"):
        assert words in complete


# --- Gallery --------------------------------------------------------------------------------------


def test_the_worst_images_come_first(report):
    scores, _, _ = report
    ious = [
        scores_from_confusion(
            confusion_matrix(e["label"], predict(e["image"])[0], num_classes=3, ignore_label=255)
        ).mean_iou
        for e in examples()
    ]
    worst = np.argsort(ious)[:3]
    assert [e.name for e in scores.gallery.worst] == [f"<{i}>.jpg" for i in worst]
    assert [e.mean_iou for e in scores.gallery.worst] == pytest.approx([ious[i] for i in worst])
    names = {e.name for e in scores.gallery.random}
    assert len(names) == 3 and not names & {e.name for e in scores.gallery.worst}


def test_every_other_image_is_drawn_with_the_same_chance():
    """Images 0 and 1 are the worst; of the other six, two are drawn."""
    found = list(examples(count=8, size=(2, 3)))
    drawn = np.zeros(8)
    for seed in range(400):
        gallery = Gallery(2, palette=PALETTE, ignore_label=255, seed=seed)
        gallery._exhibit = lambda name, *_: [name]
        for i, example in enumerate(found):
            matrix = np.eye(3, dtype=int) + (i < 2) * (2 - i)
            gallery.add(str(i), example["image"], example["label"], None, matrix)
        assert gallery.worst == [["0"], ["1"]]
        for (name,) in gallery.random:
            drawn[int(name)] += 1
    expected = 800 / 6
    assert drawn.sum() == 800 and not drawn[:2].any()
    assert np.abs(drawn[2:] - expected).max() < 4 * math.sqrt(expected * 4 / 6)


def test_pictures_show_label_prediction_and_error(report):
    _, _, page = report
    by_name = {e["filename"].decode(): e for e in examples()}
    shown = [a["alt"] for a, _ in page.pictures if a.get("data-view") == "truth"]
    views = zip(shown, *map(page.views, ("image", "truth", "prediction", "error")), strict=True)
    for alt, image, truth, prediction, error in views:
        example = by_name[alt.removeprefix("truth of ")]
        label, found = example["label"], example["image"][..., 0]
        assert np.abs(image[..., :3].astype(int) - example["image"]).max() < 20  # it is a JPEG
        np.testing.assert_array_equal(truth[..., :3], colorize(label, PALETTE, ignore_label=255))
        np.testing.assert_array_equal(prediction[..., :3], colorize(found, PALETTE))
        wrong = (label != found) & (label != 255)
        red = (error[..., 0] > 200) & (error[..., 1] < 100)
        np.testing.assert_array_equal(red, wrong)
        assert (error[..., 3][red] > 200).all() and (error[..., 3][~red] < 200).all()
        assert (truth[label == 255][:, :3] == VOID_COLOR).all()


def test_pictures_of_noise_are_reduced_until_they_are_small():
    rng = np.random.default_rng(0)
    size = (1400, 900)
    label = rng.integers(0, 150, size).astype(np.uint8)
    prediction = rng.integers(0, 150, size).astype(np.int32)
    gallery = Gallery(1, palette=rng.integers(0, 256, (150, 3)), ignore_label=255)
    confusion = confusion_matrix(label, prediction, num_classes=150, ignore_label=255)
    gallery.add("noise", rng.integers(0, 256, (*size, 3)), label, prediction, confusion)
    (exhibit,) = gallery.worst
    total = sum(len(getattr(exhibit, v)) for v in ("image", "truth", "prediction", "error"))
    assert 0.3 * MAX_BYTES < total <= MAX_BYTES
    assert exhibit.size[0] < MAX_SIDE
    assert exhibit.size[1] / exhibit.size[0] == pytest.approx(900 / 1400, abs=0.01)


def test_a_gallery_of_a_few_images_and_of_void():
    found = list(examples(count=2))
    void = np.full((24, 40), 255, np.uint8)
    gallery = Gallery(5, palette=PALETTE, ignore_label=255)
    gallery.add("void", found[0]["image"], void, void * 0, np.zeros((3, 3), np.int64))
    assert gallery.worst == gallery.random == []
    label = found[0]["label"]
    perfect = np.where(label == 255, 0, label)
    matrix = confusion_matrix(label, perfect, num_classes=3, ignore_label=255)
    gallery.add("perfect", found[0]["image"], label, perfect, matrix)
    (exhibit,) = gallery.worst
    assert (exhibit.mistake, exhibit.mistake_share, exhibit.pixel_accuracy) == (None, 0, 1)
    assert gallery.random == []  # it is among the worst


def test_what_the_page_is_made_of_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["deeplab_tf.report"]
    folder = ROOT / "deeplab_tf/report"
    packed = {path.name for pattern in patterns for path in folder.glob(pattern)}
    assert packed == {path.name for path in folder.iterdir() if path.suffix not in (".py", "")}


# --- The page -------------------------------------------------------------------------------------


def test_the_page_needs_no_network(report):
    _, text, page = report
    assert addresses(text) == []
    assert not re.search(r"https?://|//[a-z]+\.", re.sub(r"base64,[\w+/=]+", "", text))
    assert len(page.pictures) == 3 + 4 * (3 + len(report[0].gallery.random))
    assert "fetch(" not in text and "XMLHttpRequest" not in text


def test_its_numbers_are_those_of_the_json(report):
    scores, _, page = report
    result = json.loads(json.dumps(result_of(scores)))
    assert page.scores == result
    rows = [row for row in page.cells if row]
    assert [row[0][0] for row in rows] == list(CLASSES)
    total = sum(of_class["pixels"] for of_class in result["classes"])
    outlines = result["boundary_iou"]["classes"]
    for row, of_class, outline in zip(rows, result["classes"], outlines, strict=True):
        numbers = [*(of_class[field] for field in ("iou", "f1", "accuracy")), outline["iou"]]
        shown = ["–" if number is None else f"{number:.4f}" for number in numbers]  # noqa: RUF001
        assert [cell[0] for cell in row[1:]] == [*shown, f"{of_class['pixels'] / total:.2%}"]
        values = ["" if number is None else f"{number:.6f}" for number in numbers]
        assert [cell[1]["data-value"] for cell in row[1:]] == [*values, str(of_class["pixels"])]
    for name in ("mean_iou", "pixel_accuracy", "mean_accuracy", "mean_f1"):
        assert f"{result[name]:.4f}" in page.text
    assert f"{result['calibration']['ece']:.4f}" in page.text
    assert "runs/a&b/model.ckpt-7" in page.text
    assert "9 images" in page.text


def test_names_are_text_and_not_tags(report):
    _, text, page = report
    assert "<b>sky" not in text and "&lt;b&gt;sky&lt;/b&gt; &amp; air" in text
    names = [e.name for e in (*report[0].gallery.worst, *report[0].gallery.random)]
    for name in names:
        assert name in page.text and name not in text
    scores = measured()
    result = {**result_of(scores), "checkpoint": "</script><script>alert(1)</script>"}
    page = Report(report_html(scores, result, class_names=CLASSES, palette=PALETTE))
    assert page.scores["checkpoint"] == result["checkpoint"]


def test_a_report_without_pictures_and_extras():
    scores = measured(Measures())
    page = Report(report_html(scores, result_of(scores), class_names=CLASSES, palette=PALETTE))
    assert len(page.pictures) == 1  # the confusion matrix
    assert "Worst images" not in page.text and "boundary" not in page.text

"""Intervals against a loop over the images and against SciPy's; comparisons of two runs."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from deeplab_tf.evaluation import bootstrap
from deeplab_tf.evaluation.bootstrap import compare, draws, mean_iou_interval
from deeplab_tf.evaluation.image_scores import ImageCounts, ImageScores, image_scores_csv
from deeplab_tf.evaluation.metrics import confusion_matrix, scores_from_confusion

NAMES = ("road", "sky", "rare", "never")


def matrices(count, *, wrong=0.3, seed=0):
    """Confusion matrices of images of several sizes; "rare" is in few, "never" in no image."""
    rng = np.random.default_rng(seed)
    errors = np.random.default_rng(seed + 1)
    found = []
    for i in range(count):
        label = rng.integers(0, 3 if i % 5 == 0 else 2, rng.integers(50, 300))
        label[rng.random(label.size) < 0.1] = 255
        share = wrong * errors.uniform(0.2, 2)
        prediction = np.where(
            errors.random(label.size) < share, errors.integers(0, 3, label.size), label
        )
        prediction[label == 255] = 0
        found.append(confusion_matrix(label, prediction, num_classes=4, ignore_label=255))
    return found


def counts_of(confusions, names=None):
    collected = ImageScores()
    for i, confusion in enumerate(confusions):
        collected.add(names[i] if names else f"image {i}", confusion)
    return collected.counts()


def drawn_mean_ious(confusions, resamples, seed=0):
    """One draw after the other: adds up whole confusion matrices, image by image."""
    (weights,) = draws(len(confusions), resamples=resamples, seed=seed)
    values = []
    for row in weights.astype(int):
        drawn = [m for m, times in zip(confusions, row, strict=True) for _ in range(times)]
        assert len(drawn) == len(confusions)
        values.append(scores_from_confusion(np.sum(drawn, axis=0)).mean_iou)
    return np.array(values)


def test_the_interval_equals_a_loop_over_draws():
    confusions = matrices(23)
    interval = mean_iou_interval(counts_of(confusions), resamples=300)
    expected = np.quantile(drawn_mean_ious(confusions, 300), [0.025, 0.975])
    np.testing.assert_allclose([interval.low, interval.high], expected, rtol=1e-12)
    whole = scores_from_confusion(np.sum(confusions, axis=0)).mean_iou
    assert interval.low < whole < interval.high


def test_the_interval_is_scipys():
    confusions = np.array(matrices(40))

    def mean_iou(places, axis=-1):
        sums = confusions[places].sum(axis=-3)
        return np.apply_along_axis(
            lambda m: scores_from_confusion(m.reshape(4, 4)).mean_iou,
            -1,
            sums.reshape(*sums.shape[:-2], 16),
        )

    theirs = stats.bootstrap(
        (np.arange(40),), mean_iou, n_resamples=4000, method="percentile", rng=3, batch=500
    ).confidence_interval
    ours = mean_iou_interval(counts_of(list(confusions)), resamples=20000)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_the_size_of_a_block_changes_no_draw(monkeypatch):
    counts = counts_of(matrices(10))
    whole = mean_iou_interval(counts, resamples=100)
    monkeypatch.setattr(bootstrap, "_BLOCK", 70)
    assert len(list(draws(10, resamples=100))) == 15
    assert mean_iou_interval(counts, resamples=100) == whole


def test_one_image_has_no_interval():
    interval = mean_iou_interval(counts_of(matrices(1)))
    assert math.isnan(interval.low) and interval.to_json() == [None, None]


def test_a_comparison_equals_a_loop_over_draws():
    first, second = matrices(30, wrong=0.3), matrices(30, wrong=0.25)
    comparison = compare(counts_of(first), counts_of(second), NAMES, resamples=200)
    difference = drawn_mean_ious(second, 200) - drawn_mean_ious(first, 200)
    expected = np.quantile(difference, [0.025, 0.975])
    np.testing.assert_allclose(
        [comparison.interval.low, comparison.interval.high], expected, rtol=1e-9
    )
    assert comparison.share_not_better == (difference <= 0).mean()
    scores = [scores_from_confusion(np.sum(run, axis=0)) for run in (first, second)]
    assert (comparison.first, comparison.second) == pytest.approx([s.mean_iou for s in scores])
    np.testing.assert_allclose([row.first for row in comparison.classes], scores[0].iou)
    np.testing.assert_allclose([row.second for row in comparison.classes], scores[1].iou)


def test_pairs_tell_more_than_two_intervals():
    """The same mistakes and a few less: each score is unsure, the difference is not."""
    first = matrices(40)
    second = [confusion.copy() for confusion in first]
    for confusion in second:
        mended = (confusion[0, 1] + 1) // 2
        confusion[0, :2] += mended, -mended
    a, b = counts_of(first), counts_of(second)
    comparison = compare(a, b, NAMES)
    assert mean_iou_interval(a).high > mean_iou_interval(b).low  # they overlap
    assert comparison.interval.low > 0 and comparison.share_not_better == 0
    assert "better than the first by more than chance" in str(comparison)
    assert "worse than the first by more than chance" in str(compare(b, a, NAMES))
    same = compare(a, a, NAMES)
    assert same.share_not_better == 1 and "do not tell the two apart" in str(same)
    rows = json.loads(json.dumps(comparison.to_json(), allow_nan=False))["classes"]
    assert rows[3] == {
        "name": "never",
        "first": None,
        "second": None,
        "interval": {"low": None, "high": None},
    }


def test_images_are_paired_by_name():
    first, second = counts_of(matrices(12)), matrices(12, wrong=0.1)
    order = np.random.default_rng(0).permutation(12)
    shuffled = counts_of([second[i] for i in order], [f"image {i}" for i in order])
    expected = compare(first, counts_of(second), NAMES, resamples=50)
    compared = compare(first, shuffled, NAMES, resamples=50)
    assert repr(compared) == repr(expected)  # which has equal NaNs


def test_other_images_are_refused():
    first = counts_of(matrices(5))
    with pytest.raises(ValueError, match="2 are in one of them only, such as image 4"):
        compare(first, dataclasses.replace(first, names=(*first.names[:4], "new")), NAMES)
    twice = dataclasses.replace(first, names=("a", "a", "b", "c", "d"))
    with pytest.raises(ValueError, match="have one name"):
        compare(first, twice, NAMES)
    compare(twice, twice, NAMES, resamples=2)  # in the same order there is no doubt
    other = dataclasses.replace(first, labelled=first.labelled + np.eye(5, 4, dtype=int))
    with pytest.raises(ValueError, match="labels of 4 images differ between the runs, such as"):
        compare(first, other, NAMES)
    one = counts_of(matrices(1))
    with pytest.raises(ValueError, match="only one image"):
        compare(one, one, NAMES)


# --- The numbers of single images -----------------------------------------------------------------


def test_the_counts_are_kept_in_a_file(tmp_path):
    counts = counts_of(matrices(4), ["ü/1.png", "b", "c", "d"])
    counts.save(tmp_path / "counts.npz")
    loaded = ImageCounts.load(tmp_path / "counts.npz")
    assert loaded.names == counts.names
    for field in ("hits", "labelled", "predicted"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(counts, field))
    with pytest.raises(FileNotFoundError, match="Evaluate that checkpoint again"):
        ImageCounts.load(tmp_path / "no.npz")
    for data in (b"", b"text", (tmp_path / "counts.npz").read_bytes()[:500]):
        (tmp_path / "bad.npz").write_bytes(data)
        with pytest.raises(ValueError, match="is no file of eval"):
            ImageCounts.load(tmp_path / "bad.npz")


def test_the_table_of_images_equals_scoring_each_alone():
    confusions = [*matrices(6), np.zeros((4, 4), np.int64)]
    names = [f'{i}, "odd".png' for i in range(7)]
    rows = list(csv.DictReader(image_scores_csv(counts_of(confusions, names), NAMES).splitlines()))
    assert [row["name"] for row in rows] == names
    for row, confusion in zip(rows, confusions, strict=True):
        scores = scores_from_confusion(confusion)
        assert int(row["pixels"]) == confusion.sum()
        if not confusion.any():
            assert row["mean_iou"] == row["pixel_accuracy"] == row["iou road"] == ""
            continue
        assert float(row["mean_iou"]) == pytest.approx(scores.mean_iou, abs=1e-6)
        assert float(row["pixel_accuracy"]) == pytest.approx(scores.pixel_accuracy, abs=1e-6)
        for name, iou, predicted in zip(NAMES, scores.iou, confusion.sum(axis=0), strict=True):
            if math.isnan(iou):  # in no label of the image
                assert row[f"iou {name}"] == ("0.000000" if predicted else "")
            else:
                assert float(row[f"iou {name}"]) == pytest.approx(iou, abs=1e-6)

"""The search for the CRF's parameters against trying every point."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from deeplab_tf import crf
from deeplab_tf.config import CRF_V1, CRF_V2, CRFParams
from deeplab_tf.crf.search import (
    RANGES,
    Ranges,
    SearchResult,
    format_search,
    score_points,
    search,
    search_to_json,
    spread,
)


def every_point(ranges, default):
    return [
        dataclasses.replace(default, bi_w=bi_w, bi_xy=bi_xy, bi_rgb=bi_rgb)
        for bi_w, bi_xy, bi_rgb in itertools.product(ranges.bi_w, ranges.bi_xy, ranges.bi_rgb)
    ]


def recorded(score_of):
    """A function to search with, and the list of the points of each of its calls."""
    calls = []

    def score(points):
        calls.append(points)
        return {point: score_of(point) for point in points}

    return score, calls


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_one_hill_is_climbed_wherever_its_top_is(name):
    """Also one that is steep in a direction, and with its top outside of the ranges."""
    ranges, default = RANGES[name], {"v1": CRF_V1, "v2": CRF_V2}[name]
    points = every_point(ranges, default)
    rng = np.random.default_rng(0)
    for _ in range(50):
        centre = rng.uniform([2, 20, 2], [12, 120, 12])
        steep = 10 ** rng.uniform(-2, 0, 3) / [3, 30, 3]

        def hill(p, centre=centre, steep=steep):
            return -float(
                np.sum(np.square((np.array([p.bi_w, p.bi_xy, p.bi_rgb]) - centre) * steep))
            )

        score, calls = recorded(hill)
        result = search(score, ranges, dataclasses.replace(default, bi_w=99))
        best = result.ranking()[0][0]
        assert best == max(points, key=hill)
        tried = [point for call in calls for point in call]
        assert len(tried) == len(set(tried))
        assert {point for point in tried if point.iterations and point.bi_w != 99} <= set(points)


def test_the_first_round_is_every_second_value_and_both_ends():
    score, calls = recorded(lambda point: -point.bi_xy)
    search(score, RANGES["v1"], CRF_V1)
    first, second = calls
    alone, default, *coarse = first
    assert alone == dataclasses.replace(CRF_V1, iterations=0)
    assert default == CRF_V1
    assert {point.bi_w for point in coarse} == {5, 7, 9, 10}
    assert {point.bi_xy for point in coarse} == {50, 70, 90, 100}
    assert {point.bi_rgb for point in coarse} == {3, 5, 7, 9, 10}
    assert len(coarse) == 4 * 4 * 5
    assert {point.bi_xy for point in second} == {50, 60}
    assert {(point.pos_w, point.pos_xy, point.iterations) for point in coarse} == {(3, 3, 10)}


def test_a_default_that_is_best_wins():
    score, _ = recorded(lambda point: point == CRF_V1)
    assert search(score, RANGES["v2"], CRF_V1).ranking()[0] == (CRF_V1, True)


# --- With the CRF itself --------------------------------------------------------------------------


COLORS = np.float32([(60, 60, 60), (110, 70, 60), (60, 120, 90)])


def examples():
    """Two regions and a disc of noisy colour, under a line of void."""
    rng = np.random.default_rng(1)
    for height, width in ((36, 48), (41, 40)):
        y, x = np.mgrid[:height, :width]
        label = (x > width // 2).astype(np.uint8)
        label[(y - 18) ** 2 + (x - 20) ** 2 < 80] = 2
        image = COLORS[label] + rng.normal(0, 6, (height, width, 3))
        label[:2] = 255
        yield {"image": image.astype(np.float32), "label": label}


def probabilities_of(image):
    """Those of a network that is unsure, and three pixels off."""
    seen = np.roll(image, 3, axis=1)[:, :, None]
    logits = np.random.default_rng(2).normal(0, 1, (*image.shape[:2], 3))
    logits -= np.square(seen - COLORS).sum(-1) / 4000
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(-1, keepdims=True)).astype(np.float32)


def score(points):
    found = score_points(
        points, examples(), probabilities_of, num_classes=3, ignore_label=255, total=2
    )
    return {point: scores.mean_iou for point, scores in found.items()}


def by_hand(point):
    hits, union = np.zeros(3), np.zeros(3)
    for example in examples():
        refined = probabilities_of(example["image"])
        if point is not None:
            refined = crf.dense_crf(np.rint(example["image"]).astype(np.uint8), refined, point)
        valid = example["label"] != 255
        labels, predicted = example["label"][valid], refined.argmax(-1)[valid]
        for c in range(3):
            hits[c] += ((labels == c) & (predicted == c)).sum()
            union[c] += ((labels == c) | (predicted == c)).sum()
    return (hits / union).mean()


def test_the_search_finds_the_best_of_all_points():
    ranges = Ranges(bi_w=(1, 2, 4), bi_xy=(2, 5, 10, 20), bi_rgb=(5, 13, 30))
    default = CRFParams(pos_w=1, pos_xy=1, bi_w=7, bi_xy=40, bi_rgb=3, iterations=3)
    exhaustive = {point: by_hand(point) for point in every_point(ranges, default)}
    assert len(set(exhaustive.values())) > 10

    result = search(score, ranges, default)
    best, mean_iou = result.ranking()[0]
    assert mean_iou == pytest.approx(max(exhaustive.values()))
    assert exhaustive[best] == pytest.approx(mean_iou)
    for point, found in result.mean_iou.items():
        assert found == pytest.approx(by_hand(default) if point == default else exhaustive[point])
    assert result.before == pytest.approx(by_hand(None))
    assert result.before < mean_iou


# --- What is printed and written ------------------------------------------------------------------


def test_the_text_names_the_best_point_and_ends_of_ranges():
    points = every_point(Ranges((3, 4), (30.5,), (3, 4, 5)), CRF_V2)
    result = SearchResult(
        before=0.25,
        default=CRF_V2,
        mean_iou={CRF_V2: 0.5} | {p: p.bi_rgb / 10 + p.bi_w / 100 for p in points},
    )
    lines = format_search(result, Ranges((3, 4), (30.5,), (3, 4, 5, 6))).splitlines()
    assert lines[2].split() == ["before", "the", "CRF", "0.2500"]
    rows = [" ".join(line.split()) for line in lines[3:6]]
    assert rows[0] == "3 1 4 67 3 10 0.5000 default"
    assert rows[1] == "3 1 4 30.5 5 10 0.5400"
    assert rows[2] == "3 1 3 30.5 5 10 0.5300"
    assert len({len(line) for line in lines[:3] + lines[4:9]}) == 1
    assert lines[9:] == [
        "The best bi_w is at an end of what was searched: try --bi_w beyond.",
        "Use it with --crf_params=3,1,4,30.5,5,10.",
    ]
    written = json.loads(json.dumps(search_to_json(result)))
    assert written["mean_iou_before"] == 0.25
    assert CRFParams(**written["default"]) == CRF_V2
    assert [point.pop("mean_iou") for point in written["points"]][:3] == [0.54, 0.53, 0.5]
    assert {CRFParams(**point) for point in written["points"]} == {CRF_V2, *points}


@pytest.mark.parametrize(("count", "wanted"), [(1, 1), (5, 9), (101, 100), (367, 100), (10, 3)])
def test_a_spread_is_even(count, wanted):
    indices = spread(count, wanted)
    assert len(indices) == min(count, wanted)
    assert indices[0] == 0 and indices[-1] < count
    gaps = set(np.diff([*indices, count]))
    assert gaps <= {math.floor(count / len(indices)), math.ceil(count / len(indices))}


@pytest.mark.parametrize("values", [(), (4, 3), (3, 3)])
def test_ranges_that_do_not_rise_are_an_error(values):
    with pytest.raises(ValueError, match="bi_xy to search are"):
        Ranges((3, 4), values, (3,))

"""The dense CRF and trimaps through the scripts: flags, model card, scores, pictures and search."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import InferenceConfig, cli, crf
from deeplab_tf.config import CRF_V1, CRF_V2, CRFParams
from deeplab_tf.evaluation.boundary import trimaps
from deeplab_tf.evaluation.metrics import confusion_matrix, scores_from_confusion
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import probability_predictor
from deeplab_tf.training.optimizers import MomentumOptimizer
from deeplab_tf.weights import training_checkpoint
from tests import tiny_run
from tests.test_cli import SCRIPTS, contents, labels_of, run, succeed

# Strong and short: the predictions of a random network have little to do with the colours.
PARAMS = CRFParams(pos_w=2, pos_xy=2, bi_w=5, bi_xy=20, bi_rgb=20, iterations=3)
PARAMS_FLAG = "--crf_params=2,2,5,20,20,3"


@pytest.fixture(scope="module")
def network():
    return tiny_run.random_network()


@pytest.fixture(autouse=True)
def _loaded(monkeypatch, network):
    """Building it anew for each script would take most of the time."""
    monkeypatch.setattr("deeplab_tf.cli.inputs.load_model", lambda card, checkpoint: network)


@pytest.fixture(scope="module")
def place(tmp_path_factory, network):
    """A folder with the records "data", a run "plain", and "refined" whose card has PARAMS."""
    place = tmp_path_factory.mktemp("place")
    tiny_run.write_dataset(place / "data")
    optimizer = MomentumOptimizer(0.1)
    optimizer.build(network.trainable_variables)
    card = tiny_run.card()
    for name, params in (("plain", None), ("refined", PARAMS)):
        manager = tf.train.CheckpointManager(
            training_checkpoint(network, optimizer), place / name, 1, checkpoint_name="model.ckpt"
        )
        manager.save(checkpoint_number=1)
        inference = dataclasses.replace(card.inference, crf=params)
        dataclasses.replace(card, inference=inference).save(place / name)
    return place


@pytest.fixture(scope="module")
def probabilities(network):
    """Those of the images of "val", before any CRF."""
    predict = probability_predictor(network, tiny_run.MODEL, InferenceConfig())
    return [predict(tiny_run.scene(1, i)[0]) for i in range(3)]


def labels_after(params, probabilities, i):
    if params is None:
        return probabilities[i].argmax(-1)
    return crf.dense_crf(tiny_run.scene(1, i)[0], probabilities[i], params).argmax(-1)


def scores_after(params, probabilities, band=None):
    """Scores of "val" with a CRF, of all pixels or those of a band."""
    matrix = np.zeros((3, 3), np.int64)
    for i in range(3):
        label = tiny_run.scene(1, i)[1]
        if band is not None:
            (mask,) = trimaps(label, widths=(band[0],), ignore_label=255, around=band[1])
            label = np.where(mask, label, np.uint8(255))
        predicted = labels_after(params, probabilities, i)
        matrix += confusion_matrix(label, predicted, num_classes=3, ignore_label=255)
    return scores_from_confusion(matrix)


@pytest.mark.parametrize(
    ("of_run", "arguments", "params"),
    [
        ("plain", [], None),
        ("plain", ["--crf"], CRF_V2),
        ("plain", ["--crf_params=v1"], CRF_V1),
        ("plain", ["--crf", PARAMS_FLAG], PARAMS),
        ("plain", [PARAMS_FLAG[: -len(",3")]], dataclasses.replace(PARAMS, iterations=10)),
        ("refined", [], PARAMS),
        ("refined", ["--crf"], PARAMS),
        ("refined", ["--nocrf"], None),
        ("refined", ["--crf_params=v2"], CRF_V2),
    ],
)
def test_which_crf_is_scored(place, tmp_path, probabilities, of_run, arguments, params):
    printed = succeed(
        "eval.py",
        f"--checkpoint_dir={place}/{of_run}",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
        *arguments,
    )
    written = json.loads((tmp_path / "scores_val.json").read_text())
    found = written["inference"]["crf"]
    assert (found and CRFParams(**found)) == params
    expected = scores_after(params, probabilities)
    # A pixel of two equally probable classes may go either way.
    assert written["mean_iou"] == pytest.approx(expected.mean_iou, abs=5e-4)
    assert f"mean IoU        {written['mean_iou']:.4f}" in printed
    assert "trimaps" not in written


def test_the_cases_above_are_told_apart(probabilities):
    several = [None, CRF_V1, CRF_V2, PARAMS, dataclasses.replace(PARAMS, iterations=10)]
    scores = sorted(scores_after(params, probabilities).mean_iou for params in several)
    assert min(np.diff(scores)) > 1e-3


@pytest.mark.parametrize("around", ["void", "classes"])
def test_trimaps_are_printed_and_written(place, tmp_path, probabilities, around):
    printed = succeed(
        "eval.py",
        f"--checkpoint_dir={place}/refined",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
        *("--trimap_widths=5", "--trimap_widths=2", "--trimap_widths=5"),
        *([] if around == "void" else ["--trimap_around=classes"]),
    )
    written = json.loads((tmp_path / "scores_val.json").read_text())["trimaps"]
    assert written["around"] == around
    assert [band["width"] for band in written["bands"]] == [2, 5]
    for band in written["bands"]:
        expected = scores_after(PARAMS, probabilities, band=(band["width"], around))
        assert band["mean_iou"] == pytest.approx(expected.mean_iou, abs=3e-3)
        row = (band["width"], f"{band['mean_iou']:.4f}", f"{band['pixel_accuracy']:.4f}")
        assert " ".join(map(str, row)) in " ".join(printed.split())
    assert f"bands around {around}" in printed


def test_vis_draws_and_the_export_predicts_what_was_scored(place, probabilities):
    Image.fromarray(tiny_run.scene(1, 0)[0]).save(place / "scene.png")
    for name, source in (("records", "--dataset_dir={}/data"), ("files", "--images={}/scene.png")):
        succeed(
            "vis.py",
            f"--checkpoint_dir={place}/refined",
            source.format(place),
            f"--vis_logdir={place}/{name}",
        )
    refined = labels_after(PARAMS, probabilities, 0)
    drawn = labels_of(place / "records/val_0_prediction.png")
    assert (drawn == refined).mean() > 0.999
    np.testing.assert_array_equal(labels_of(place / "files/scene_prediction.png"), drawn)
    assert (labels_after(None, probabilities, 0) != refined).mean() > 0.05

    exported = place / "exported"
    succeed("export_model.py", f"--checkpoint_path={place}/refined", f"--export_path={exported}")
    assert ModelCard.load(exported / "assets.extra").inference.crf == PARAMS
    serve = tf.saved_model.load(str(exported)).signatures["serving_default"]
    images = tf.constant(tiny_run.scene(1, 0)[0][None])
    served = serve(ImageTensor=images)["SemanticPredictions"][0]
    assert (served == refined).numpy().mean() > 0.999


# --- The search -----------------------------------------------------------------------------------


@pytest.fixture
def crf_search(monkeypatch):
    """`python -m deeplab_tf.crf`, as a script of `run`."""
    monkeypatch.setitem(SCRIPTS, "crf", cli.crf_search)


def test_the_search_is_of_the_scores_of_eval(place, tmp_path, probabilities, crf_search):
    printed = succeed(
        "crf",
        f"--checkpoint_dir={place}/refined",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
        *("--bi_w=5,1", "--bi_xy=20", "--bi_rgb=20,10,40"),
        PARAMS_FLAG,
    )
    written = json.loads((tmp_path / "crf_search_val.json").read_text())
    assert written["images"] == 3
    assert written["inference"]["crf"] is None
    assert CRFParams(**written["default"]) == PARAMS
    expected = scores_after(None, probabilities).mean_iou
    assert written["mean_iou_before"] == pytest.approx(expected, abs=1e-3)
    found = {}
    for point in written["points"]:
        mean_iou = point.pop("mean_iou")
        found[CRFParams(**point)] = mean_iou
    assert len(found) in (5, 6)
    for params, mean_iou in found.items():
        expected = scores_after(params, probabilities).mean_iou
        assert mean_iou == pytest.approx(expected, abs=1e-3)
    best = max(found, key=found.get)
    assert f"--crf_params=2,2,{best.bi_w:g},20,{best.bi_rgb:g},3." in printed


def test_max_images_and_the_ranges_of_a_paper(place, tmp_path, crf_search):
    succeed(
        "crf",
        f"--checkpoint_dir={place}/plain",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
        "--max_images=1",
        "--ranges=v1",
        *("--bi_w=5", "--bi_xy=100"),
    )
    written = json.loads((tmp_path / "crf_search_val.json").read_text())
    assert written["images"] == 1
    assert CRFParams(**written["default"]) == CRF_V1
    assert {point["bi_rgb"] for point in written["points"]} >= {3, 5, 7, 9, 10}
    assert {(point["pos_w"], point["pos_xy"]) for point in written["points"]} == {(3, 3)}


def test_damaged_records_are_left_out_of_the_search(place, tmp_path, crf_search):
    """One of three, if that is asked for; else it is an error that says how."""
    shutil.copytree(place / "data", tmp_path / "data")
    (shard,) = (tmp_path / "data").glob("val-*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    command = (
        "crf",
        f"--checkpoint_dir={place}/plain",
        f"--dataset_dir={tmp_path}/data",
        f"--eval_logdir={tmp_path}",
        *("--bi_w=5", "--bi_xy=20", "--bi_rgb=20"),
    )
    done = run(*command)
    assert done.code == 1
    assert "--skip_corrupt leaves such records out" in done.err
    assert "Leaving out 1 of 3 records of val" in succeed(*command, "--skip_corrupt")
    written = json.loads((tmp_path / "crf_search_val.json").read_text())
    assert written["images"] == 2
    assert written["corrupt_records"]["left_out"] == 1


# --- Bad input ------------------------------------------------------------------------------------

EVAL = ("eval.py", "--checkpoint_dir={0}/plain", "--dataset_dir={0}/data", "--eval_logdir={0}/new")
SEARCH = ("crf", *EVAL[1:])
FIVE_OR_SIX = "expected v1, v2 or five or six numbers"


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (EVAL, ["--crf_params=v3"], f"--crf_params is v3; {FIVE_OR_SIX}"),
        (EVAL, ["--crf_params=v1,v2"], f"--crf_params is v1,v2; {FIVE_OR_SIX}"),
        (EVAL, ["--crf_params="], f"--crf_params is ; {FIVE_OR_SIX}"),
        (EVAL, ["--crf_params=3,1,4,67"], f"--crf_params is 3,1,4,67; {FIVE_OR_SIX}"),
        (EVAL, ["--crf_params=3,1,4,67,3,10,1"], FIVE_OR_SIX),
        (EVAL, ["--crf_params=3,1,4,67,3,2.5"], FIVE_OR_SIX),
        (EVAL, ["--crf_params=3,1,4,67,x"], FIVE_OR_SIX),
        (EVAL, ["--crf_params=3,1,4,0,3"], "--crf_params is 3,1,4,0,3: bi_xy of the CRF is 0.0"),
        (EVAL, ["--crf_params=3,1,-4,67,3"], "bi_w of the CRF is -4.0"),
        (EVAL, ["--crf_params=3,1,4,67,nan"], "bi_rgb of the CRF is nan"),
        (EVAL, ["--nocrf", "--crf_params=v2"], "--nocrf contradicts --crf_params"),
        (EVAL, ["--trimap_widths=3", "--trimap_widths=0"], "--trimap_widths=0: expected numbers"),
        (EVAL, ["--trimap_around=classes"], "--trimap_around needs widths of bands"),
        (SEARCH, ["--max_images=0"], "--max_images=0: expected 1 or more"),
        (SEARCH, ["--eval_split=test"], "no split 'test'; it has: train, val"),
        (SEARCH, ["--bi_w="], "--bi_w is ; expected one or more numbers above 0"),
        (SEARCH, ["--bi_xy=3,x"], "--bi_xy is 3,x; expected one or more numbers above 0"),
        (SEARCH, ["--bi_rgb=3,0"], "--bi_rgb is 3,0; expected one or more numbers above 0"),
        (SEARCH, ["--bi_rgb=nan"], "--bi_rgb is nan; expected one or more numbers above 0"),
        (SEARCH, ["--crf_params=v3"], f"--crf_params is v3; {FIVE_OR_SIX}"),
    ],
)
def test_bad_input_ends_with_one_message(place, crf_search, command, arguments, message):
    before = contents(place)
    script, *arguments = [argument.format(place) for argument in (*command, *arguments)]
    done = run(script, *arguments)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert contents(place) == before


def test_without_numba_it_says_what_to_install(place, tmp_path, monkeypatch):
    def compile_kernels():
        raise ImportError("the dense CRF needs numba")

    monkeypatch.setattr(crf, "compile_kernels", compile_kernels)
    done = run(
        "eval.py",
        f"--checkpoint_dir={place}/plain",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
        "--crf",
    )
    assert done == (1, "", "eval.py: error: the dense CRF needs numba\n")

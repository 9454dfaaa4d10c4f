"""The reference's documented commands, one after the other, with nothing changed but the paths."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.colormap import voc_colormap
from deeplab_tf.weights import save_tf1_checkpoint
from tests import golden_cases
from tests.test_cli import run

ROOT = Path(__file__).parents[1]
COMMANDS = json.loads((golden_cases.FOLDER / "commands.json").read_text())
SPLITS = {"train": ["2007_1", "2007_2"], "val": ["2007_3"]}


def documented(source, script, paths):
    """The arguments of a command, with paths in place of `${NAMES}`."""
    (found,) = [c["args"] for c in COMMANDS if (c["source"], c["script"]) == (source, script)]
    for name, path in paths.items():
        found = [argument.replace(f"${{{name}}}", str(path)) for argument in found]
    assert "${" not in " ".join(found)
    return found


def succeed(script, arguments):
    done = run(script, *arguments)
    assert done.code == 0, done.err
    return done.out


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """VOC 2012's folders, with three small images and palette masks."""
    root = tmp_path_factory.mktemp("voc") / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [*SPLITS["train"], *SPLITS["val"]]
    for name in names:
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg")
        mask = Image.fromarray(
            rng.integers(0, 21, (6, 8), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        )
        mask.putpalette(voc_colormap(256).astype(np.uint8).tobytes())
        mask.save(root / f"SegmentationClass/{name}.png")
    for split, listed in {**SPLITS, "trainval": names}.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(listed) + "\n")
    return root


@pytest.fixture(scope="module")
def paths(voc):
    """Every path that the documentation leaves to the user, with records and a checkpoint there."""
    place = voc.parent
    model = build_deeplab(ModelConfig())
    golden_cases.set_case_weights(model)
    save_tf1_checkpoint(model, place / "init/mnv2/model.ckpt-30000", step=30000)
    paths = {
        "SEG_FOLDER": voc / "SegmentationClass",
        "SEMANTIC_SEG_FOLDER": voc / "SegmentationClassRaw",
        "IMAGE_FOLDER": voc / "JPEGImages",
        "LIST_FOLDER": voc / "ImageSets/Segmentation",
        "OUTPUT_DIR": place / "tfrecord",
        "INIT_FOLDER": place / "init",
        "CKPT_NAME": "mnv2",
        "NUM_ITERATIONS": 1,
        "TRAIN_LOGDIR": place / "train",
        "EVAL_LOGDIR": place / "eval",
        "VIS_LOGDIR": place / "vis",
        "PASCAL_DATASET": place / "tfrecord",
        "CKPT_PATH": place / "train/model.ckpt-1",
        "EXPORT_PATH": place / "export/frozen_inference_graph.pb",
    }
    for script in ("remove_gt_colormap.py", "build_voc2012_data.py"):
        arguments = documented("datasets/download_and_convert_voc2012.sh", script, paths)
        command = [sys.executable, ROOT / "datasets" / script, *arguments]
        subprocess.run(command, check=True, cwd=place)
    return paths


@pytest.mark.slow
def test_from_voc_to_a_frozen_graph(paths):
    source = "local_test_mobilenetv2.sh"
    printed = succeed("train.py", documented(source, "train.py", paths))
    assert "model.ckpt-30000, step 30000" in printed
    printed = succeed("eval.py", documented(source, "eval.py", paths))
    assert "mean" in printed
    scores = json.loads((paths["EVAL_LOGDIR"] / "scores_val.json").read_text())
    assert scores["checkpoint"] == str(paths["CKPT_PATH"])
    succeed("vis.py", documented(source, "vis.py", paths))
    drawn = np.asarray(Image.open(paths["VIS_LOGDIR"] / "2007_3_prediction.png"))
    assert drawn.shape == (60, 80)
    succeed("export_model.py", documented(source, "export_model.py", paths))

    graph = tf.compat.v1.GraphDef.FromString(paths["EXPORT_PATH"].read_bytes())
    image = np.asarray(Image.open(paths["IMAGE_FOLDER"] / "2007_3.jpg"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        labels = session.run("SemanticPredictions:0", {"ImageTensor:0": image[None]})
    # vis.py decodes the JPEG with TensorFlow, which rounds otherwise than Pillow.
    assert (labels[0] == drawn).mean() > 0.9


@pytest.mark.slow
def test_the_checkpoint_of_the_reference_itself(paths):
    """Without a run of ours, and so without a model card: the flags describe the network."""
    checkpoint = paths["INIT_FOLDER"] / "mnv2"
    more = {"TRAIN_LOGDIR": checkpoint, "EVAL_LOGDIR": paths["EVAL_LOGDIR"] / "reference"}
    succeed("eval.py", documented("local_test_mobilenetv2.sh", "eval.py", {**paths, **more}))
    scores = json.loads((paths["EVAL_LOGDIR"] / "reference/scores_val.json").read_text())
    assert scores["checkpoint"] == str(checkpoint / "model.ckpt-30000")
    more = {"CHECKPOINT_PATH": checkpoint / "model.ckpt-30000", "OUTPUT_DIR": checkpoint.parent}
    arguments = documented("g3doc/export_model.md", "export_model.py", more)
    succeed("export_model.py", arguments)
    assert (checkpoint.parent / "frozen_inference_graph.pb").is_file()

"""The scripts with the reference's checkpoints, records and zoo, which have no model card."""

import dataclasses
import http.server
import io
import json
import shutil
import tarfile
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import InferenceConfig, ModelConfig, build_deeplab
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import label_predictor
from deeplab_tf.weights import load_tf1_checkpoint, save_tf1_checkpoint, zoo_models
from tests import golden_cases, tiny_run
from tests.test_cli import labels_of, run, succeed

ZOO_NAME = "mobilenetv2_dm05_coco_voc_trainaug"
NETWORK = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=16)
NETWORK_FLAGS = ("--depth_multiplier=0.25", "--aspp_convs_filters=16")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a TF1 checkpoint of 21 classes in "tf1" and the image "scene.png"."""
    place = tmp_path_factory.mktemp("place")
    model = build_deeplab(NETWORK)
    golden_cases.set_case_weights(model)
    save_tf1_checkpoint(model, place / "tf1/model.ckpt", step=30000)
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).repeat(10, 0).repeat(10, 1)
    Image.fromarray(image.astype(np.uint8)).save(place / "scene.png")
    tiny_run.write_dataset(place / "data")
    return place


@pytest.fixture(scope="module")
def records(place):
    """Records as the reference's converter writes them: without a dataset.json."""
    tiny_run.write_dataset(place / "records")
    (place / "records/dataset.json").unlink()
    return place / "records"


def labels_of_the_network(config, checkpoint, image, **inference):
    model = build_deeplab(config)
    load_tf1_checkpoint(model, checkpoint)
    return label_predictor(model, config, InferenceConfig(**inference))(labels_of(image))


def test_from_a_zoo_name_to_a_picture(place, tmp_path, monkeypatch):
    """In one command, which downloads the model from a server."""
    config = zoo_models.ZOO[ZOO_NAME].config()
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)
    prefix = save_tf1_checkpoint(model, tmp_path / "released/model.ckpt-30000", step=30000)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(tmp_path / "released", "deeplabv3_mnv2_dm05_pascal_trainaug")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == f"/{zoo_models.ZOO[ZOO_NAME].archive}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive.getvalue())))
            self.end_headers()
            self.wfile.write(archive.getvalue())

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("DEEPLAB_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(zoo_models, "_SITE", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        printed = succeed(
            "vis.py",
            f"--checkpoint_dir={ZOO_NAME}",
            f"--images={place}/scene.png",
            f"--vis_logdir={tmp_path}/drawn",
        )
        thread.join()
    assert "of 21 classes predicted" in printed
    expected = labels_of_the_network(config, prefix, place / "scene.png", crop_size=(513, 513))
    assert len(np.unique(expected)) > 1
    drawn = labels_of(tmp_path / "drawn/scene_prediction.png")
    np.testing.assert_array_equal(drawn, expected)


def test_vis_with_scales_and_flip(place, tmp_path):
    succeed(
        "vis.py",
        f"--checkpoint_dir={place}/tf1",
        f"--images={place}/scene.png",
        f"--vis_logdir={tmp_path}/drawn",
        *NETWORK_FLAGS,
        *("--eval_scales=0.5", "--eval_scales=1.5", "--add_flipped_images"),
        "--vis_crop_size=97,97",
        *("--min_resize_value=65", "--max_resize_value=97", "--resize_factor=16"),
        "--image_pyramid=1.25",  # which several scales leave out
    )
    expected = labels_of_the_network(
        NETWORK,
        place / "tf1/model.ckpt",
        place / "scene.png",
        crop_size=(97, 97),
        min_resize_value=65,
        max_resize_value=97,
        resize_factor=16,
        eval_scales=(0.5, 1.5),
        add_flipped_images=True,
    )
    np.testing.assert_array_equal(labels_of(tmp_path / "drawn/scene_prediction.png"), expected)


@pytest.mark.parametrize("colormap", ["pascal", "ade20k"])
def test_vis_in_other_colours(place, tmp_path, colormap):
    succeed(
        "vis.py",
        f"--checkpoint_dir={place}/tf1/model.ckpt",
        f"--images={place}/scene.png",
        f"--vis_logdir={tmp_path}/drawn",
        *NETWORK_FLAGS,
        f"--colormap_type={colormap}",
    )
    picture = Image.open(tmp_path / "drawn/scene_prediction.png")
    known = KNOWN_DATASETS[{"pascal": "pascal_voc_seg"}.get(colormap, colormap)]
    label = np.asarray(picture)[0, 0]
    assert picture.convert("RGB").getpixel((0, 0)) == known.palette[label]


def test_eval_of_records_without_a_description(place, records, tmp_path):
    done = run(
        "eval.py",
        f"--checkpoint_dir={place}/tf1",
        f"--dataset_dir={records}",
        f"--eval_logdir={tmp_path}",
        *NETWORK_FLAGS,
        "--eval_crop_size=65,65",
        "--max_number_of_evaluations=1",
    )
    assert done.code == 0, done.err
    assert "taking its records for those of pascal_voc_seg (21 classes" in done.out
    scores = json.loads((tmp_path / "scores_val.json").read_text())
    assert scores["checkpoint"] == f"{place}/tf1/model.ckpt"
    assert len(scores["classes"]) == 21


def test_splits_of_cityscapes_under_the_names_of_the_documentation(records, tmp_path):
    """It says val, where the reference's converter writes val_fine."""
    (tmp_path / "records").mkdir()
    for path in records.iterdir():
        name = path.name.replace("val-", "val_fine-").replace("train-", "train_fine-")
        shutil.copy(path, tmp_path / "records" / name)
    model = build_deeplab(dataclasses.replace(NETWORK, num_classes=19))
    save_tf1_checkpoint(model, tmp_path / "model.ckpt")
    printed = succeed(
        "eval.py",
        f"--checkpoint_dir={tmp_path}",
        f"--dataset_dir={tmp_path}/records",
        f"--eval_logdir={tmp_path}",
        *NETWORK_FLAGS,
        "--dataset=cityscapes",
        "--eval_split=val",
        "--eval_crop_size=65,65",
    )
    assert "--eval_split=val is val_fine here." in printed
    scores = json.loads((tmp_path / "scores_val_fine.json").read_text())
    assert len(scores["classes"]) == 19
    assert scores["inference"]["crop_size"] == [65, 65]


def test_eval_takes_up_checkpoints_as_they_appear(place, tmp_path, monkeypatch):
    """Two of them: the second one is there early, and taken up when the interval is over."""
    model = build_deeplab(ModelConfig(num_classes=3, depth_multiplier=0.25, aspp_convs_filters=16))
    save_tf1_checkpoint(model, tmp_path / "run/model.ckpt-1")
    now = 0.0

    def wait(seconds):
        nonlocal now
        if now < 50 <= now + seconds:
            save_tf1_checkpoint(model, tmp_path / "run/model.ckpt-2")
        now += seconds

    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("time.sleep", wait)
    printed = succeed(
        "eval.py",
        f"--checkpoint_dir={tmp_path}/run",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={tmp_path}",
        *NETWORK_FLAGS,
        "--max_number_of_evaluations=2",
        "--eval_interval_secs=100",
    )
    assert printed.count("Written to") == 2
    assert now == pytest.approx(100)
    scores = json.loads((tmp_path / "scores_val.json").read_text())
    assert scores["checkpoint"].endswith("model.ckpt-2")


@pytest.fixture(scope="module")
def fine_tuned(place):
    """A run of three classes that starts from the checkpoint of 21, without its last layer."""
    printed = succeed(
        "train.py",
        f"--dataset_dir={place}/data",
        f"--train_logdir={place}/run",
        *NETWORK_FLAGS,
        *("--train_crop_size=33,33", "--train_batch_size=2", "--training_number_of_steps=1"),
        f"--tf_initial_checkpoint={place}/tf1",
        "--initialize_last_layer=false",
        "--last_layers_contain_logits_only",
        "--base_learning_rate=1e-12",
        "--weight_decay=0",
        "--val_split=",
    )
    assert f"weights loaded from {place}/tf1/model.ckpt, step 30000" in printed
    return place / "run"


def test_training_starts_from_a_tf1_checkpoint(place, fine_tuned, tmp_path):
    """And comes back as one: what was loaded is what is exported, the logits aside."""
    succeed(
        "export_model.py",
        f"--checkpoint_path={fine_tuned}",
        f"--export_path={tmp_path}/out/model.ckpt",
    )
    before = tf.train.load_checkpoint(str(place / "tf1/model.ckpt"))
    after = tf.train.load_checkpoint(str(tmp_path / "out/model.ckpt"))
    shapes = after.get_variable_to_shape_map()
    assert shapes["logits/semantic/weights"] == [1, 1, 16, 3]
    assert set(shapes) | {"global_step"} == set(before.get_variable_to_shape_map())
    for name in ("MobilenetV2/Conv/weights", "aspp0/weights", "concat_projection/BatchNorm/gamma"):
        np.testing.assert_allclose(after.get_tensor(name), before.get_tensor(name), atol=1e-6)


def test_training_starts_from_a_run_with_classes_of_other_names(place, fine_tuned, tmp_path):
    """The classes of both are found by their names."""
    tiny_run.write_dataset(tmp_path / "data")
    text = (tmp_path / "data/dataset.json").read_text()
    (tmp_path / "data/dataset.json").write_text(text.replace('"wall"', '"sky"'))
    printed = succeed(
        "train.py",
        f"--dataset_dir={tmp_path}/data",
        f"--train_logdir={tmp_path}/run",
        *NETWORK_FLAGS,
        *("--train_crop_size=33,33", "--train_batch_size=2", "--training_number_of_steps=1"),
        f"--tf_initial_checkpoint={fine_tuned}",
        "--val_split=",
    )
    assert "logits taken over by name for: red, green" in printed


def test_the_export_of_a_tf1_checkpoint(place, tmp_path):
    """Without a flag about it, at output stride 8 and with a crop of 513 as in the reference."""
    succeed(
        "export_model.py",
        f"--checkpoint_path={place}/tf1/model.ckpt",
        f"--export_path={tmp_path}/saved",
        *NETWORK_FLAGS,
    )
    card = ModelCard.load(tmp_path / "saved/assets.extra")
    assert (card.model.output_stride, card.inference.crop_size) == (8, (513, 513))
    assert card.dataset.class_names[20] == "tvmonitor"


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("vis.py", ["--checkpoint_dir=mobilenetv2_coco_voc"], "such as mobilenetv2_coco_voc_train"),
        (
            "vis.py",
            ["--checkpoint_dir={0}/tf1"],
            "is not of this network (deeplab_mobilenet_v2",
        ),
        ("vis.py", ["--checkpoint_dir={0}/tf1", *NETWORK_FLAGS, "--dataset=voc"], "--dataset=voc"),
        (
            "vis.py",
            ["--checkpoint_dir={0}/tf1", *NETWORK_FLAGS, "--dataset=cityscapes"],
            "network with num_classes=21",
        ),
        (
            "vis.py",
            ["--checkpoint_dir=xception_65_imagenet"],
            "Start a training from it: --tf_initial_checkpoint=xception_65_imagenet",
        ),
        (
            "vis.py",
            ["--checkpoint_dir={0}/tf1", "--dense_prediction_cell_json={0}/scene.png"],
            "--dense_prediction_cell_json={0}/scene.png: ",
        ),
        ("eval.py", ["--checkpoint_dir={0}/tf1", *NETWORK_FLAGS], "--eval_logdir"),
        (
            "eval.py",
            ["--checkpoint_dir={0}/tf1", "--dataset=cityscapes"],
            "--dataset=cityscapes has 19 classes, but the records",
        ),
        (
            "export_model.py",
            ["--checkpoint_path={0}/tf1", *NETWORK_FLAGS, "--num_classes=5"],
            "network with num_classes=21",
        ),
        (
            "export_model.py",
            ["--checkpoint_path={0}/tf1", *NETWORK_FLAGS, "--save_inference_graph"],
            "--save_inference_graph goes with a frozen graph",
        ),
    ],
)
def test_bad_input_ends_with_one_message(place, tmp_path, monkeypatch, script, arguments, message):
    monkeypatch.setenv("DEEPLAB_TF_CACHE", str(place / "cache"))  # and nothing is downloaded
    more = {
        "vis.py": [f"--images={place}/scene.png", f"--vis_logdir={tmp_path}/new"],
        "eval.py": [f"--dataset_dir={place}/data"],
        "export_model.py": [f"--export_path={tmp_path}/new"],
    }
    done = run(script, *(argument.format(place) for argument in arguments), *more[script])
    assert done.code == 1
    assert message.format(place) in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []

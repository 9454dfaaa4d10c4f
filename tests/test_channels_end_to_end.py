"""Pictures of four channels of 12 bits, and grey ones, from files to what is served."""

import contextlib
import importlib.util
import io
import json
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image

from deeplab_tf import InferenceConfig, build_deeplab
from deeplab_tf.cli import conversion
from deeplab_tf.config import CRFParams
from deeplab_tf.crf import dense_crf
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.export import export_saved_model
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import label_predictor, probability_predictor
from deeplab_tf.weights import save_tf1_checkpoint
from tests import tiny_run
from tests.test_cli import NETWORK_FLAGS, ROOT, run, succeed

LEVELS = (2048, 400, 3700)
NAMES = ",".join(tiny_run.INFO.class_names)


def convert(**values):
    """Runs build_folder_data.py in this process; returns what it prints."""
    known, printed = set(flags.FLAGS), io.StringIO()
    spec = importlib.util.spec_from_file_location(
        "build_folder_data", ROOT / "datasets/build_folder_data.py"
    )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        flags.FLAGS(["convert", *[f"--{flag}={value}" for flag, value in values.items()]])
        with contextlib.redirect_stdout(printed):
            conversion.checked(module.main)(["convert"])
    finally:
        for flag in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()
    return printed.getvalue()


def infrared(index):
    """uint16 [h, w, 4] of 12 bits, and labels that only the fourth channel tells."""
    labels = tiny_run.scene(0, index)[1]
    rng = np.random.default_rng(index)
    pixels = rng.integers(1500, 2600, (*labels.shape, 4))
    level = np.asarray(LEVELS)[np.where(labels == 255, 0, labels)]
    pixels[..., 3] = level + rng.integers(-300, 301, labels.shape)
    return pixels.astype(np.uint16), labels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with twelve "images", "masks", their records "data", and the run "run"."""
    place = tmp_path_factory.mktemp("infrared")
    (place / "images").mkdir()
    (place / "masks").mkdir()
    for index in range(12):
        pixels, labels = infrared(index)
        if index % 2:
            np.save(place / f"images/n{index}.npy", pixels)
        else:
            cv2.imwrite(str(place / f"images/n{index}.png"), pixels[..., [2, 1, 0, 3]])
        Image.fromarray(labels).save(place / f"masks/n{index}.png")
    (place / "printed.txt").write_text(
        convert(
            image_folder=place / "images",
            mask_folder=place / "masks",
            output_dir=place / "data",
            class_names=NAMES,
            input_channels=4,
            bit_depth=16,
            value_range="0,4095",
            num_shards=1,
        )
    )
    succeed(
        "train.py",
        f"--dataset_dir={place}/data",
        f"--train_logdir={place}/run",
        *NETWORK_FLAGS,
        "--train_crop_size=33,33",
        "--train_batch_size=4",
        *("--min_scale_factor=0.75", "--max_scale_factor=1.25"),
        "--training_number_of_steps=100",
        "--base_learning_rate=0.1",
    )
    return place


def test_the_conversion_says_what_it_found(place):
    printed = (place / "printed.txt").read_text()
    assert "The images hold the values 100 to 4000; 0 to 4095 become 0 to 255" in printed
    info = DatasetInfo.load(place / "data")
    assert (info.input_channels, info.bit_depth, info.value_range) == (4, 16, (0, 4095))
    card = ModelCard.load(place / "run")
    assert card.dataset == info
    assert card.model == replace(tiny_run.MODEL, input_channels=4)


def test_what_only_the_fourth_channel_shows_is_learnt(place):
    succeed("eval.py", f"--checkpoint_dir={place}/run", f"--dataset_dir={place}/data")
    assert json.loads((place / "run/scores_val.json").read_text())["mean_iou"] > 0.75


@pytest.fixture(scope="module")
def drawn(place):
    """The folder of pictures of the image files."""
    printed = succeed(
        "vis.py",
        f"--checkpoint_dir={place}/run",
        f"--images={place}/images",
        f"--vis_logdir={place}/drawn",
        "--also_save_raw_predictions",
    )
    assert "12 images, 3 of 3 classes predicted" in printed
    return place / "drawn"


def labels_of(path):
    return np.asarray(Image.open(path))


def test_pictures_of_records_and_of_files_are_the_same(place, drawn):
    succeed(
        "vis.py",
        f"--checkpoint_dir={place}/run",
        f"--dataset_dir={place}/data",
        f"--vis_logdir={place}/drawn_records",
    )
    pictures = sorted(path.name for path in (place / "drawn_records").glob("*.png"))
    assert pictures
    for name in pictures:
        if not name.endswith("panel.png"):  # which has the ground truth too
            np.testing.assert_array_equal(
                labels_of(place / "drawn_records" / name), labels_of(drawn / name)
            )


def test_overlays_are_on_the_first_three_channels(drawn):
    pixels, _ = infrared(4)
    seen = labels_of(drawn / "n4_overlay.png") * 2.0
    colors = np.asarray(DatasetInfo.load(drawn.parent / "data").palette)
    shown = seen - colors[labels_of(drawn / "raw_segmentation_results/n4.png")]
    assert np.abs(shown - pixels[..., :3] / 4095 * 255).max() <= 2


def test_exports_take_the_files_values_and_say_what_evaluation_says(place, drawn):
    for path in ("exported", "frozen.pb"):
        succeed(
            "export_model.py", f"--checkpoint_path={place}/run", f"--export_path={place}/{path}"
        )
    served = tf.saved_model.load(str(place / "exported")).signatures["serving_default"]
    (spec,) = served.structured_input_signature[1].values()
    assert (spec.dtype, spec.shape.as_list()) == (tf.uint16, [None, None, None, 4])
    graph = tf.compat.v1.GraphDef.FromString((place / "frozen.pb").read_bytes())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        for index in (0, 1):
            pixels, _ = infrared(index)
            expected = labels_of(drawn / f"raw_segmentation_results/n{index}.png")
            frozen = session.run("SemanticPredictions:0", {"ImageTensor:0": pixels[None]})
            # Folded batch norms round otherwise.
            assert (frozen[0] == expected).mean() > 0.999
            np.savez(place / f"{index}.npz", pixels=pixels, expected=expected)
    for index in (0, 1):
        arrays = np.load(place / f"{index}.npz")
        labels = served(ImageTensor=tf.constant(arrays["pixels"][None]))["SemanticPredictions"]
        np.testing.assert_array_equal(labels[0], arrays["expected"])


def test_a_tf1_checkpoint_of_four_channels(place):
    succeed(
        "export_model.py", f"--checkpoint_path={place}/run", f"--export_path={place}/tf1/model.ckpt"
    )
    printed = succeed(
        "eval.py",
        f"--checkpoint_dir={place}/tf1/model.ckpt",
        f"--dataset_dir={place}/data",
        f"--eval_logdir={place}/tf1_scores",
        *NETWORK_FLAGS,
    )
    assert "not loaded" not in printed
    scores = json.loads((place / "tf1_scores/scores_val.json").read_text())
    assert scores["mean_iou"] > 0.7
    succeed(
        "export_model.py",
        f"--checkpoint_path={place}/tf1/model.ckpt",
        f"--export_path={place}/tf1_exported",
        *NETWORK_FLAGS,
        *("--input_channels=4", "--num_classes=3", "--output_stride=16"),
    )
    assert ModelCard.load(place / "tf1_exported/assets.extra").dataset.input_channels == 4


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            "train.py",
            ("--dataset_dir={}/data", "--train_logdir={}/never", "--input_channels=3"),
            "--input_channels=3, but the images of --dataset_dir={}/data have 4: leave the flag "
            "out, or convert the images again, with build_folder_data.py or build_voc2012_data.py "
            "and --input_channels=3.",
        ),
        (
            "eval.py",
            ("--dataset_dir={}/grey", "--checkpoint_dir={}/run"),
            "The network takes images of 4 channels, those of --dataset_dir={}/grey have 1: "
            "convert the images again",
        ),
        (
            "export_model.py",
            ("--checkpoint_path={}/run", "--export_path={}/never", "--input_channels=3"),
            "--input_channels=3 contradicts the model card, which says 4",
        ),
        (
            "vis.py",
            ("--checkpoint_dir={}/run", "--images={}/masks/n0.png", "--vis_logdir={}/never"),
            "masks/n0.png: has 8 bits per channel; expected 16",
        ),
    ],
)
def test_other_channels_are_an_error_that_says_what_to_do(place, script, arguments, message):
    grey = replace(DatasetInfo.load(place / "data"), input_channels=1)
    (place / "grey").mkdir(exist_ok=True)
    grey.save(place / "grey")
    done = run(script, *(argument.format(place) for argument in arguments))
    assert done.code == 1
    assert message.format(place) in done.err
    assert not (place / "never").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"value_range": "0"}, "--value_range=0: expected two numbers, low,high"),
        ({"value_range": "a,b"}, "--value_range=a,b: expected two numbers"),
        ({"value_range": "9,9"}, "--value_range=9,9: expected low below high"),
        ({"bit_depth": 8}, "n0.png: has 16 bits per channel; expected 8, by --bit_depth"),
        ({"input_channels": 3}, "has 4 channel(s); expected 3, by --input_channels"),
    ],
)
def test_wrong_flags_write_nothing(place, tmp_path, values, message):
    options = {
        "image_folder": place / "images",
        "mask_folder": place / "masks",
        "output_dir": tmp_path / "out",
        "class_names": NAMES,
        "input_channels": 4,
        "bit_depth": 16,
    }
    with pytest.raises(SystemExit) as end:
        convert(**options | values)
    assert message in str(end.value)
    # Parts that a conversion goes on from may stay.
    assert {path.name for path in tmp_path.iterdir()} <= {".out.partial"}


def test_grey_pictures_from_the_weights_of_a_network_for_rgb(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for index in range(12):
        pixels, labels = infrared(index)
        kind = ("png", "jpg")[index % 2]
        grey = Image.fromarray((pixels[..., 3] // 16).astype(np.uint8))
        grey.save(tmp_path / f"images/n{index}.{kind}")
        Image.fromarray(labels).save(tmp_path / f"masks/n{index}.png")
    convert(
        image_folder=tmp_path / "images",
        mask_folder=tmp_path / "masks",
        output_dir=tmp_path / "data",
        class_names=NAMES,
        input_channels=1,
    )
    fields = json.loads((tmp_path / "data/dataset.json").read_text())
    assert fields["input_channels"] == 1
    assert not {"bit_depth", "value_range"} & fields.keys()
    keras.utils.set_random_seed(0)
    rgb = save_tf1_checkpoint(build_deeplab(tiny_run.MODEL), tmp_path / "rgb/model.ckpt")
    done = run(
        "train.py",
        f"--dataset_dir={tmp_path}/data",
        f"--train_logdir={tmp_path}/run",
        *NETWORK_FLAGS,
        *("--train_crop_size=33,33", "--train_batch_size=4", "--val_split="),
        *("--min_scale_factor=0.75", "--max_scale_factor=1.25"),
        *("--training_number_of_steps=100", "--base_learning_rate=0.1"),
        f"--tf_initial_checkpoint={rgb}",
    )
    assert done.code == 0, done.err
    line = "for RGB, inflated to the channels of the images: MobilenetV2/Conv/weights"
    assert line in done.out + done.err
    succeed("eval.py", f"--checkpoint_dir={tmp_path}/run", f"--dataset_dir={tmp_path}/data")
    assert json.loads((tmp_path / "run/scores_val.json").read_text())["mean_iou"] > 0.75
    succeed(
        "vis.py",
        f"--checkpoint_dir={tmp_path}/run",
        f"--images={tmp_path}/images/n0.png",
        f"--vis_logdir={tmp_path}/drawn",
    )
    succeed("export_model.py", f"--checkpoint_path={tmp_path}/run", f"--export_path={tmp_path}/new")
    served = tf.saved_model.load(str(tmp_path / "new")).signatures["serving_default"]
    image = labels_of(tmp_path / "images/n0.png")[None, ..., None]
    np.testing.assert_array_equal(
        served(ImageTensor=tf.constant(image))["SemanticPredictions"][0],
        labels_of(tmp_path / "drawn/n0_prediction.png"),
    )


def test_the_crf_sees_what_people_see(tmp_path):
    """In evaluation and in an export."""
    pytest.importorskip("numba")
    card = replace(
        tiny_run.card(),
        model=replace(tiny_run.MODEL, input_channels=2),
        inference=InferenceConfig(
            crf=CRFParams(pos_w=3, pos_xy=3, bi_w=5, bi_xy=20, bi_rgb=10, iterations=3)
        ),
        dataset=replace(tiny_run.INFO, input_channels=2, bit_depth=16, value_range=(50.0, 3000.0)),
    )
    model = tiny_run.random_network(card.model)
    pixels = np.random.default_rng(0).integers(0, 3100, (5, 6, 2)).astype(np.uint16)
    pixels = pixels.repeat(8, 0).repeat(8, 1)
    scaled = ((pixels - np.float32(50)) / 2950 * 255).clip(0, 255)
    predicted = label_predictor(model, card.model, card.inference)(scaled)
    probabilities = probability_predictor(model, card.model, card.inference)(scaled)
    rgb = np.rint(scaled).astype(np.uint8)[..., [0, 1, 1]]
    expected = dense_crf(rgb, probabilities, card.inference.crf).argmax(-1)
    np.testing.assert_array_equal(predicted, expected)
    assert (expected != probabilities.argmax(-1)).mean() > 0.01

    export_saved_model(model, card, export_path=tmp_path / "exported")
    served = tf.saved_model.load(str(tmp_path / "exported")).signatures["serving_default"]
    labels = served(ImageTensor=tf.constant(pixels[None]))["SemanticPredictions"][0]
    assert (labels == expected).numpy().mean() > 0.99

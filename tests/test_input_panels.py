"""Pictures of inputs: the frame is where the crop comes from, and the rest is what trains."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.colormap import VOID_COLOR
from deeplab_tf.config import AugmentationConfig
from deeplab_tf.data.pipeline import training_batches, training_examples
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import data
from deeplab_tf.visualization.input_panels import (
    Placement,
    input_panel,
    label_overlay,
    visualize_inputs,
)
from tests import tiny_run
from tests.data.test_pipeline import IGNORE, png, write_split
from tests.test_cli import run, succeed
from tests.test_visualization import NAMES, PALETTE, find, has_color, scene

STYLE = {"class_names": NAMES, "palette": PALETTE, "ignore_label": IGNORE}
AUGMENTED = ("--max_rotation_degrees=30", "--hue_jitter=0.1", "--class_balanced_crops=0.5")


# --- The frame ------------------------------------------------------------------------------------


def test_the_corners_are_where_the_pixels_of_the_crop_come_from(tmp_path):
    """Red and green of the image tell each pixel's column and row."""
    image = np.zeros((80, 100, 3), np.uint8)
    image[..., 0], image[..., 1] = 2 * np.arange(100), 3 * np.arange(80)[:, None]
    info = write_split(tmp_path, [(png(image), np.zeros((80, 100), np.uint8))])
    examples = training_examples(
        tmp_path,
        "train",
        info=info,
        seed=0,
        crop_size=(33, 41),
        min_scale_factor=0.75,
        max_scale_factor=1.5,
        scale_factor_step_size=0.25,
        mean_pixel=(0, 0, 0),
        augmentations=AugmentationConfig(max_rotation_degrees=40.0),
    )
    compared, flips = 0, set()
    for example, _ in examples.take(30).as_numpy_iterator():
        crop = example.crop
        placement = Placement(
            tuple(crop.scaled_size), tuple(crop.offset), bool(crop.flip), float(example.degrees)
        )
        corners = placement.corners((80, 100), (33, 41))
        pixels = (example.image[y, x] for y, x in ((0, 0), (0, -1), (-1, -1), (-1, 0)))
        for (x, y), (red, green, _) in zip(corners, pixels, strict=True):
            if 1 <= x <= 98 and 1 <= y <= 78:
                np.testing.assert_allclose((red / 2, green / 3), (x, y), atol=0.6)
                compared += 1
                flips.add(placement.flip)
    assert compared > 40 and flips == {False, True}


def test_a_placement_in_words():
    assert str(Placement((30, 40), (0, 5), True, -2.5)) == (
        "scaled to 40x30, cropped at 5,0, flipped, rotated -2.5 degrees"
    )
    assert str(Placement((30, 40), (0, 5), False, 0.0)) == "scaled to 40x30, cropped at 5,0"


# --- The panel ------------------------------------------------------------------------------------


def test_void_has_stripes_and_classes_their_colours():
    image, _, label = scene(40, 60)
    drawn = label_overlay(image, label, PALETTE, ignore_label=IGNORE)
    valid = label != IGNORE
    expected = 0.5 * image[valid] + 0.5 * np.array(PALETTE)[label[valid]]
    np.testing.assert_allclose(drawn[valid], expected, atol=0.51)
    striped = (drawn == VOID_COLOR).all(axis=-1)
    assert not striped[valid].any()
    assert 0.4 < striped[~valid].mean() < 0.6
    np.testing.assert_array_equal(drawn[~valid & ~striped], image[~valid & ~striped] // 2)


@pytest.mark.parametrize("offset", [(30, 70), (-20, 400)])
def test_the_panel_shows_the_image_the_input_and_its_labels(offset):
    """Wherever the crop lies, also where it reaches beyond the image."""
    source = scene(300, 500)[0]
    image, _, label = scene(260, 280, seed=1)
    placement = Placement((300, 500), offset, False, 0.0)
    drawn = input_panel(source, image, label, placement=placement, name="a.jpg", **STYLE)
    top, left = find(drawn, image)
    labels = find(drawn, label_overlay(image, label, PALETTE, ignore_label=IGNORE))
    assert labels[0] == top and labels[1] >= left + 280
    # Inside of the frame and well away from it the image is whole.
    corner = find(drawn, np.ascontiguousarray(source[-8:, :50]))
    assert corner[1] < left
    legend = drawn[corner[0] + 8 :]
    assert all(has_color(legend, color) for color in (*PALETTE[:3], VOID_COLOR))
    assert not has_color(legend, PALETTE[3])


def example(name, seed=0):
    image, _, label = scene(30, 40, seed)
    placement = Placement((60, 80), (3, 5), True, 1.0)
    return {
        "filename": name,
        "source": scene(50, 60, seed)[0],
        "source_label": np.zeros((50, 60), np.uint8),
        "image": image,
        "label": label,
        "placement": placement,
    }


def test_files_are_numbered_and_the_summary_counts(tmp_path):
    examples = [example(b"a/b.jpg"), example("a/b.jpg", 1), example("../c")]
    summary = visualize_inputs(examples, output_dir=tmp_path / "out", total=3, **STYLE)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0000_a_b_input.png", "0001_a_b_input.png", "0002_c_input.png"]
    label = examples[0]["label"]
    counts = [3 * int((label == value).sum()) for value in (0, 1, 2, 3, IGNORE)]
    assert summary.pixels == tuple(counts) and sum(counts) == 3 * label.size
    assert summary.source_pixels == (9000, 0, 0, 0, 0)
    lines = str(summary).splitlines()
    assert lines[1].split() == ["sky", f"{counts[0] / sum(counts):.2%}", "100.00%"]
    assert lines[-1].startswith("void")
    with pytest.raises(FileExistsError, match="is not empty"):
        visualize_inputs(examples, output_dir=tmp_path / "out", total=3, **STYLE)


# --- vis.py --what=inputs -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Records "data", and "run", which has a card with augmentations but no checkpoint yet."""
    place = tmp_path_factory.mktemp("place")
    tiny_run.write_dataset(place / "data")
    (place / "run").mkdir()
    augmentations = AugmentationConfig(max_rotation_degrees=30.0, brightness_jitter=0.3)
    card = tiny_run.card(seed=3)
    data = dataclasses.replace(card.data, augmentations=augmentations)
    dataclasses.replace(card, data=data).save(place / "run")
    return place


def drawn(place, name, *arguments):
    """The panels of a call of vis.py, in order."""
    succeed(
        "vis.py",
        "--what=inputs",
        f"--dataset_dir={place}/data",
        f"--vis_logdir={place}/{name}",
        *arguments,
    )
    return [np.asarray(Image.open(path)) for path in sorted((place / name).iterdir())]


def assert_shown(panels, batch):
    for panel, image in zip(panels, batch, strict=True):
        find(panel, image.repeat(8, axis=0).repeat(8, axis=1))


def test_the_inputs_of_a_run_are_those_it_trains_on(place):
    panels = drawn(place, "of_run", f"--checkpoint_dir={place}/run", "--max_inputs=4")
    card = ModelCard.load(place / "run")
    batches = data.training_parts(
        card,
        tf.distribute.get_strategy(),
        str(place / "data"),
        "train",
        start_step=0,
        sound=None,
    )
    assert_shown(panels, next(batches)[0].numpy())


def test_the_inputs_that_flags_describe(place):
    panels = drawn(
        place,
        "of_flags",
        *("--train_crop_size=33,33", "--seed=4", "--max_inputs=3", "--model_variant=xception_41"),
        *AUGMENTED,
    )
    batches = training_batches(
        place / "data",
        "train",
        info=tiny_run.INFO,
        batch_size=3,
        crop_size=(33, 33),
        min_scale_factor=0.5,
        max_scale_factor=2.0,
        scale_factor_step_size=0.25,
        mean_pixel=(127.5,) * 3,
        seed=4,
        augmentations=AugmentationConfig(
            max_rotation_degrees=30.0, hue_jitter=0.1, class_balanced_crops=0.5
        ),
    )
    assert_shown(panels, next(batches.as_numpy_iterator())[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--what=inputs", "--dataset_dir={0}/data", "--hue_jitter=0.7"], "hue_jitter is 0.7"),
        (["--what=inputs"], "--what=inputs needs --dataset_dir"),
        (["--what=inputs", "--dataset_dir={0}/data", "--max_inputs=0"], "--max_inputs=0: expected"),
        (["--what=inputs", "--dataset_dir={0}/data", "--train_split=test"], "no split 'test'"),
        (
            ["--what=inputs", "--dataset_dir={0}/data", "--crf"],
            "--crf has no effect on --what=inputs: leave it out, or give --what=predictions",
        ),
        (
            ["--checkpoint_dir={0}/run", "--dataset_dir={0}/data", "--hue_jitter=0.1"],
            "--hue_jitter has no effect on --what=predictions: leave it out, or give --what=inputs",
        ),
        (
            ["--what=inputs", "--dataset_dir={0}/data", "--checkpoint_dir={0}/run", "--seed=4"],
            "contradict the run of --checkpoint_dir={0}/run (train.seed: 3, now 4)",
        ),
        (
            [
                *("--what=inputs", "--dataset_dir={0}/data", "--checkpoint_dir={0}/run"),
                *("--max_rotation_degrees=10", "--train_crop_size=65,65"),
            ],
            "data.crop_size: (33, 33), now (65, 65); data.augmentations.max_rotation_degrees: 30.0",
        ),
        (
            [
                *("--what=inputs", "--dataset_dir={0}/data", "--checkpoint_dir={0}/run"),
                "--preset=deeplabv1_vgg16_largefov",
            ],
            "leave --preset and --recipe out",
        ),
        (
            ["--what=inputs", "--dataset_dir={0}/data", "--checkpoint_dir={0}/data"],
            "{0}/data/config.json not found",
        ),
        (
            ["--dataset_dir={0}/data"],
            "Flag --checkpoint_dir must have a value, unless --what=inputs is given",
        ),
    ],
)
def test_bad_input_ends_with_one_message(place, arguments, message):
    arguments = [argument.format(place) for argument in arguments]
    done = run("vis.py", *arguments, f"--vis_logdir={place}/never")
    assert done.code == 1
    assert message.format(place) in done.err
    assert not (place / "never").exists()

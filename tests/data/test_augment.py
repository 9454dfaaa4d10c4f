"""Proves the geometry: against the reference's recorded outputs, and fast order == plain order."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import augment

GOLDEN = Path(__file__).parent.parent / "golden"
FACTS = json.loads((GOLDEN / "facts_preprocess.json").read_text())
IGNORE = 255


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "facts_preprocess.npz") as npz:
        return dict(npz)


def golden_image(seed, height, width):
    """The image rule of the golden data, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 127.5)
    for channel in range(3):
        for _ in range(4):
            fy, fx = rng.uniform(0.5, 4.0, 2)
            phase, amplitude = rng.uniform(0.0, 2 * np.pi), rng.uniform(15.0, 45.0)
            wave = np.sin(2 * np.pi * (fy * y / height + fx * x / width) + phase)
            image[..., channel] += amplitude * wave
    image += rng.normal(0.0, 12.0, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def plain_crop(image, label, crop, crop_size, mean_pixel):
    """Scale everything, pad, crop, flip: the reference's order. Float image, exact label."""
    height, width = crop.scaled_size.numpy()
    padded_size = np.maximum((height, width), crop_size)
    scaled_image = np.full((*padded_size, 3), mean_pixel, np.float32)
    scaled_image[:height, :width] = augment.resize_image(image, (height, width))
    scaled_label = np.full(padded_size, IGNORE, np.uint8)
    scaled_label[:height, :width] = augment.resize_label(label, (height, width))
    top, left = crop.offset.numpy()
    window = np.s_[top : top + crop_size[0], left : left + crop_size[1]]
    step = -1 if crop.flip else 1
    return scaled_image[window][:, ::step], scaled_label[window][:, ::step]


def fast_crop(image, label, crop, crop_size, mean_pixel):
    """What the pipeline does: trace the crop back, cut out what it needs, interpolate only that."""
    height, width = tf.unstack(crop.scaled_size)
    top, left = tf.unstack(crop.offset)
    size = tf.shape(label)
    rows = augment.sample_axis(size[0], height, top, crop_size[0])
    columns = augment.sample_axis(size[1], width, left, crop_size[1], flip=crop.flip)
    row_range = slice(rows.start, rows.start + rows.length)
    column_range = slice(columns.start, columns.start + columns.length)
    colour = np.rint(mean_pixel).astype(np.uint8)
    image_canvas = tf.constant(np.full((*crop_size, 3), colour))
    label_canvas = tf.fill(crop_size, tf.constant(IGNORE, tf.uint8))
    return (
        augment.crop_image(image[row_range, column_range], rows, columns, canvas=image_canvas),
        augment.crop_label(label[row_range, column_range], rows, columns, canvas=label_canvas),
    )


# --- The reference's numbers ----------------------------------------------------------------------


@pytest.mark.golden
def test_resize_to_range_gives_all_sizes_of_the_reference():
    cases = FACTS["resize_to_range"]
    assert len(cases) == 121
    for case in cases:
        arguments = {key: case[key] for key in ("min_size", "max_size", "factor")}
        height, width = augment.resize_to_range_size(
            case["h"], case["w"], keep_aspect_ratio=case["keep_aspect_ratio"], **arguments
        )
        assert [int(height), int(width)] == case["out"], case


@pytest.mark.golden
def test_resize_to_range_gives_the_pixels_of_the_reference(arrays):
    image, label = golden_image(7, 20, 30), (np.arange(600) % 7).reshape(20, 30).astype(np.uint8)
    size = augment.resize_to_range_size(20, 30, min_size=33, max_size=65, factor=16)
    resized = augment.resize_image(image, size).numpy()
    np.testing.assert_allclose(resized, arrays["rtr_image_out"], atol=2e-5)
    np.testing.assert_array_equal(
        augment.resize_label(label, size), arrays["rtr_label_out"][..., 0]
    )


@pytest.mark.golden
@pytest.mark.parametrize("case", ["up", "down", "one", "same"])
def test_resizing_aligns_corners(arrays, case):
    source, bilinear = arrays["resize_input"][0], arrays[f"bilinear_ac_{case}"][0]
    np.testing.assert_allclose(
        augment.resize_image(source, bilinear.shape[:2]), bilinear, rtol=1e-6
    )
    nearest = arrays[f"nearest_ac_{case}"][0, ..., 0]
    np.testing.assert_array_equal(augment.resize_label(source[..., 0], nearest.shape), nearest)


@pytest.mark.golden
def test_scale_grids_are_the_reference_s():
    grids = [case for case in FACTS["random_scale"] if "linspace" in case]
    assert len(grids) == 5
    for case in grids:
        grid = augment.scale_grid(case["min"], case["max"], case["step"]).numpy()
        assert grid.dtype == np.float32
        assert grid.tolist() == case["linspace"]


@pytest.mark.golden
@pytest.mark.parametrize("row", FACTS["randomly_scale"]["rows"], ids=str)
def test_random_scale_truncates_and_resizes_as_the_reference(arrays, row):
    height, width, scale = row["h"], row["w"], row["scale"]
    size = augment.scaled_size(tf.constant([height, width]), tf.constant(scale))
    assert size.numpy().tolist() == row["out"]
    image = golden_image(9, height, width)
    label = (np.arange(height * width) % 5).reshape(height, width).astype(np.uint8)
    name = f"{height}x{width}_{scale}"
    np.testing.assert_allclose(
        augment.resize_image(image, size), arrays[f"scale_img_{name}"], atol=2e-5
    )
    np.testing.assert_array_equal(
        augment.resize_label(label, size), arrays[f"scale_lab_{name}"][..., 0]
    )


@pytest.mark.golden
@pytest.mark.parametrize("case", FACTS["preprocess_eval"]["cases"], ids=lambda case: case["case"])
def test_unscaled_crop_is_the_reference_s_padded_image(arrays, case):
    height, width = case["hw"]
    image = tf.constant(golden_image(21, height, width))
    label = tf.constant((np.arange(height * width) % 21).reshape(height, width).astype(np.uint8))
    if case["args"]:
        size = augment.resize_to_range_size(
            height,
            width,
            min_size=case["args"]["min_resize_value"],
            max_size=case["args"]["max_resize_value"],
            factor=case["args"].get("resize_factor"),
        )
        image, label = augment.resize_image(image, size), augment.resize_label(label, size)
    crop = augment.Crop(tf.shape(label), tf.constant([0, 0]), flip=tf.constant(False))
    mean_pixel = FACTS["mean_pixel"][case["model_variant"]]
    image, label = fast_crop(image, label, crop, tuple(case["crop"]), mean_pixel)
    expected_image = arrays[f"pre_{case['case']}_image"]
    assert np.abs(image.numpy() - expected_image).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(label, arrays[f"pre_{case['case']}_label"][..., 0])
    assert np.count_nonzero(label == IGNORE) == case["n_ignore"]


# --- Fast order == plain order --------------------------------------------------------------------


def random_case(rng, crop_size):
    height, width = rng.integers(1, 80, 2)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = rng.integers(0, 256, (height, width), dtype=np.uint8)
    scale = rng.choice([0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, rng.uniform(0.3, 3.0)])
    size = augment.scaled_size(
        tf.constant([height, width], tf.int32), tf.constant(scale, "float32")
    )
    largest_offset = np.maximum(size.numpy() - crop_size, 0)
    # The corners are where a window is most easily one pixel short.
    offset = largest_offset if rng.random() < 0.2 else rng.integers(0, largest_offset + 1)
    crop = augment.Crop(size, tf.constant(offset, tf.int32), tf.constant(bool(rng.integers(2))))
    return tf.constant(image), tf.constant(label), crop


def test_fast_crop_equals_plain_order():
    rng = np.random.default_rng(0)
    crop_size, mean_pixel = (33, 41), (123.15, 115.9, 103.06)
    traced = tf.function(
        lambda image, label, crop: fast_crop(image, label, crop, crop_size, mean_pixel),
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8),
            tf.TensorSpec([None, None], tf.uint8),
            augment.Crop(
                tf.TensorSpec([2], tf.int32), tf.TensorSpec([2], tf.int32), tf.TensorSpec([], bool)
            ),
        ],
        autograph=False,
    )
    padded = 0
    for _ in range(300):
        image, label, crop = random_case(rng, crop_size)
        expected_image, expected_label = plain_crop(image, label, crop, crop_size, mean_pixel)
        actual_image, actual_label = traced(image, label, crop)
        np.testing.assert_array_equal(actual_label, expected_label)
        assert np.abs(actual_image.numpy() - expected_image).max() <= 0.5
        padded += bool(np.any(crop.scaled_size < crop_size))
    assert 50 < padded < 250


def test_fast_crop_of_a_float_image_rounds_once():
    rng = np.random.default_rng(1)
    image, label, crop = random_case(rng, (33, 41))
    image = tf.cast(image, tf.float32) * 0.73
    expected, _ = plain_crop(image, label, crop, (33, 41), (127.5,) * 3)
    actual, _ = fast_crop(image, label, crop, (33, 41), (127.5,) * 3)
    assert np.abs(actual.numpy() - expected).max() <= 0.5


def test_sampled_positions_are_those_of_the_resize_kernel_for_all_sizes():
    """Resizes a column that holds its own positions, so the output is where it was read."""
    for source in (1, 2, 3, 7, 20, 33):
        positions = tf.range(source, dtype=tf.float32)[:, None]
        for scaled in range(1, 70):
            samples = augment.sample_axis(tf.constant(source), tf.constant(scaled), 0, 100)
            assert samples.start == 0
            assert samples.length <= source
            nearest = tf.where(samples.weight < 0.5, samples.low, samples.high)
            expected = augment.resize_label(positions, (scaled, 1))[:, 0]
            np.testing.assert_array_equal(nearest, expected)
            linear = tf.cast(samples.low, tf.float32) + samples.weight
            expected = augment.resize_image(positions[..., None], (scaled, 1))[:, 0, 0]
            np.testing.assert_allclose(linear, expected, atol=1e-5)


def test_labels_are_never_interpolated_and_void_stays_void():
    rng = np.random.default_rng(2)
    # Classes 3 and 200 only, around a void block: an interpolated value would be something else.
    label = np.full((30, 30), 3, np.uint8)
    label[:, 15:] = 200
    label[10:20, 10:20] = IGNORE
    image = np.repeat(label[..., None], 3, axis=-1)
    seen = set()
    for _ in range(40):
        _, _, crop = random_case(rng, (40, 40))
        crop = crop._replace(scaled_size=tf.constant(rng.integers(15, 61, 2), tf.int32))
        crop = crop._replace(offset=tf.maximum(crop.scaled_size - 40, 0))
        image_crop, label_crop = fast_crop(
            tf.constant(image), tf.constant(label), crop, (40, 40), (0, 0, 0)
        )
        label_crop = label_crop.numpy()
        assert set(np.unique(label_crop)) <= {3, 200, IGNORE}
        # The image shows its own labels, so label and image must agree wherever no edge is near.
        plain_areas = np.isin(image_crop[..., 0], (3, 200))
        np.testing.assert_array_equal(label_crop[plain_areas], image_crop.numpy()[plain_areas, 0])
        seen |= set(np.unique(label_crop))
    assert seen == {3, 200, IGNORE}


# --- Randomness -----------------------------------------------------------------------------------


def draw(count, **options):
    options = {
        "crop_size": (33, 41),
        "min_scale_factor": 0.5,
        "max_scale_factor": 2.0,
        "scale_factor_step_size": 0.25,
        **options,
    }
    size = tf.constant([40, 60])
    draws = tf.data.Dataset.range(count).map(
        lambda index: augment.random_crop(tf.stack([7, index]), size, **options)
    )
    return augment.Crop(*(values.numpy() for values in draws.batch(count).get_single_element()))


def test_every_scale_offset_and_flip_is_drawn_equally_often():
    crops = draw(7000)
    heights, counts = np.unique(crops.scaled_size[:, 0], return_counts=True)
    assert heights.tolist() == [20, 30, 40, 50, 60, 70, 80]
    assert np.all(np.abs(counts - 1000) < 150)
    assert abs(crops.flip.mean() - 0.5) < 0.03
    largest = np.maximum(crops.scaled_size - (33, 41), 0)
    assert np.all((crops.offset >= 0) & (crops.offset <= largest))
    at_double = crops.offset[crops.scaled_size[:, 0] == 80]
    assert set(at_double[:, 0]) == set(range(80 - 33 + 1))
    assert np.abs(np.corrcoef(at_double.T)[0, 1]) < 0.15


def test_step_0_draws_any_scale_and_equal_bounds_draw_that_scale():
    widths = draw(2000, scale_factor_step_size=0).scaled_size[:, 1]
    assert (widths.min(), widths.max()) == (30, 119)
    assert len(np.unique(widths)) == 90
    fixed = draw(20, min_scale_factor=1.5, max_scale_factor=1.5)
    assert np.all(fixed.scaled_size == (60, 90))


def test_draws_depend_on_the_seed_only_and_are_the_same_eagerly():
    size = tf.constant([40, 60])
    options = {"min_scale_factor": 0.5, "max_scale_factor": 2.0, "scale_factor_step_size": 0}
    in_pipeline = draw(20, scale_factor_step_size=0)
    eager = [
        augment.random_crop(tf.constant([7, index], tf.int64), size, crop_size=(33, 41), **options)
        for index in range(20)
    ]
    for field, values in zip(augment.Crop._fields, in_pipeline, strict=True):
        np.testing.assert_array_equal([getattr(crop, field) for crop in eager], values)
    assert len({tuple(crop.scaled_size.numpy()) for crop in eager}) > 15


def test_eager_crops_equal_those_inside_a_dataset():
    rng = np.random.default_rng(3)
    image, label, crop = random_case(rng, (33, 41))
    options = ((33, 41), (127.5, 127.5, 127.5))
    dataset = tf.data.Dataset.from_tensors((image, label, crop)).map(
        lambda *case: fast_crop(*case, *options)
    )
    for eager, mapped in zip(
        fast_crop(image, label, crop, *options), dataset.get_single_element(), strict=True
    ):
        np.testing.assert_array_equal(eager, mapped)

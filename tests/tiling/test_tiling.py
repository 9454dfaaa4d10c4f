"""Images seen in tiles, against the same network on the whole image."""

import dataclasses
import functools
from itertools import pairwise

import keras
import numpy as np
import pytest

from deeplab_tf import InferenceConfig, ModelConfig
from deeplab_tf.data.augment import resize_to_range_size
from deeplab_tf.inference import predict
from deeplab_tf.layers import resize_bilinear
from deeplab_tf.predictors import full_predictor, label_predictor, probability_predictor
from deeplab_tf.tiling import TiledNetwork, predict_tiled
from deeplab_tf.tiling.plan import TileAxis
from tests import tiny_run

GREY = (127.5, 127.5, 127.5)
LOCAL = dataclasses.replace(tiny_run.MODEL, add_image_level_feature=False)
TILE = (785, 785)  # The receptive field is of 565 pixels.


@pytest.fixture(scope="module")
def local():
    """A network that sees no farther than its receptive field."""
    return tiny_run.random_network(LOCAL)


@pytest.fixture(scope="module")
def pooling():
    """A network with image pooling."""
    return tiny_run.random_network()


def noise(height, width):
    """Coarse noise, uint8 [h, w, 3], darker from left to right."""
    rng = np.random.default_rng([height, width])
    patches = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    image = patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return (image * np.linspace(1, 0.3, width)[:, None]).astype(np.uint8)


IMAGE = noise(30, 1400)


def probabilities_of_the_whole(model, image, **options):
    options = {"output_stride": 16, "mean_pixel": GREY} | options
    labels, probabilities = predict(model, image[None], **options)
    return np.asarray(labels[0]), np.asarray(probabilities[0])


@pytest.mark.parametrize("margin", [0, 16, 32])
@pytest.mark.parametrize("size", [81, 97, 145])
def test_cores_cover_the_image_and_keep_their_distance(margin, size):
    axis = TileAxis(size, margin, unit=16)
    for image_size in range(1, 700, 16):
        spans = axis.spans(image_size)
        assert (spans[0].first, spans[-1].last) == (0, image_size - 1)
        assert all(before.last == after.first for before, after in pairwise(spans))
        for span in spans:
            end = span.start + span.size - 1
            assert span.start % 16 == 0 and span.size <= size and end <= image_size - 1
            assert span.first <= span.last
            assert span.first - span.start >= margin or span.start == span.first == 0
            assert end - span.last >= margin or span.last == end == image_size - 1
        if image_size > size:
            assert {span.size for span in spans} == {size}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop_size": (65, 1500)},
        {"upsampled_logits": False},
        {"flip": True},
        {"resized_size": functools.partial(resize_to_range_size, min_size=24)},
    ],
    ids=["plain", "crop_size", "logits_repeated", "flip", "resized"],
)
def test_equals_the_whole_image(local, options):
    network = TiledNetwork(local, tile_size=TILE)
    labels, probabilities = predict_tiled(network, IMAGE, mean_pixel=GREY, **options)
    of_whole = probabilities_of_the_whole(local, IMAGE, **options)
    np.testing.assert_allclose(probabilities, of_whole[1], atol=1e-5)
    np.testing.assert_array_equal(labels, of_whole[0])
    assert network.seams.count > 0 and network.seams.largest < 1e-5
    only_labels = predict_tiled(
        network, IMAGE, mean_pixel=GREY, with_probabilities=False, **options
    )
    np.testing.assert_array_equal(only_labels.labels, labels)
    assert only_labels.probabilities is None


def test_several_scales_equal_those_of_an_image_that_is_padded_alike(local):
    options = {"scales": (0.75, 1.0, 1.25), "flip": True}
    network = TiledNetwork(local, tile_size=TILE)
    image = noise(30, 1100)
    tiled = predict_tiled(network, image, mean_pixel=GREY, **options)
    padded = (65, 1153)  # multiples of 64, which every scale makes multiples of 16, plus 1
    labels, probabilities = probabilities_of_the_whole(local, image, crop_size=padded, **options)
    np.testing.assert_allclose(tiled.probabilities, probabilities, atol=1e-5)
    assert (tiled.labels == labels).mean() > 0.9999
    with pytest.raises(ValueError, match=r"The scale 0\.77 is no simple fraction"):
        predict_tiled(network, image, mean_pixel=GREY, scales=(0.77,))


def test_tiles_down_the_image(local):
    network = TiledNetwork(local, tile_size=TILE)
    image = np.ascontiguousarray(IMAGE.swapaxes(0, 1))
    tiled = predict_tiled(network, image, mean_pixel=GREY)
    _, probabilities = probabilities_of_the_whole(local, image)
    np.testing.assert_allclose(tiled.probabilities, probabilities, atol=1e-5)


def test_a_smaller_overlap_shows_and_is_measured(local):
    network = TiledNetwork(local, tile_size=(785, 321), overlap=96)
    _, probabilities = predict_tiled(network, IMAGE, mean_pixel=GREY)
    _, whole = probabilities_of_the_whole(local, IMAGE)
    error = np.abs(probabilities - whole).max()
    assert error > 1e-4
    assert 1e-4 < network.seams.largest <= 2 * error
    assert 0 < network.seams.total / network.seams.count < network.seams.largest
    assert "of these places have another label" in str(network.seams)


def test_seams_count_differences_of_softmax():
    network = TiledNetwork(tiny_run.random_network(LOCAL), tile_size=TILE)
    assert str(network.seams) == "Every image was one tile."
    network.seams.add(np.array([[0.0, 0.0], [9.0, 9.0]]), np.array([[0.0, np.log(3)], [1.0, 1.0]]))
    assert (network.seams.count, network.seams.other_label) == (2, 1)
    assert network.seams.largest == pytest.approx(0.25)
    assert network.seams.total == pytest.approx(0.25)


def test_image_level_features_of_all_tiles_are_those_of_the_image(pooling):
    tiled = {
        level: predict_tiled(
            TiledNetwork(pooling, tile_size=TILE, image_level=level), IMAGE, mean_pixel=GREY
        ).probabilities
        for level in ("exact", "reduced", "tile")
    }
    _, whole = probabilities_of_the_whole(pooling, IMAGE)
    np.testing.assert_allclose(tiled["exact"], whole, atol=1e-5)
    assert np.abs(tiled["tile"] - whole).max() > 1e-4
    assert np.abs(tiled["reduced"] - whole).max() > 1e-4


def test_the_mean_of_a_reduced_image_is_what_its_tiles_see(pooling):
    """Against a network whose pooling is that number, whatever it sees."""
    image = np.ascontiguousarray(IMAGE[:, :1200])
    # 33 x 1201 pixels are halved to 16 x 600, and resized to the largest k * 16 + 1 of both
    # that is no more than the tile allows.
    padded = np.full((33, 1201, 3), GREY, np.float32)
    padded[:30, :1200] = image
    halved = padded[:32, :1200].reshape(16, 2, 600, 2, 3).mean(axis=(1, 3))
    mean = keras.Model(pooling.input, pooling.get_layer("image_pooling.mean").output)
    given = mean(resize_bilinear(halved[None], 17, 785))

    class Given(keras.layers.Layer):
        def call(self, x):
            return given

        def compute_output_shape(self, shape):
            return (None, 1, 1, shape[-1])

    def replaced(layer):
        return Given() if layer.name == "image_pooling.mean" else layer

    fixed = keras.models.clone_model(pooling, clone_function=replaced)
    _, expected = probabilities_of_the_whole(fixed, image)
    network = TiledNetwork(pooling, tile_size=TILE, image_level="reduced")
    tiled = predict_tiled(network, image, mean_pixel=GREY)
    np.testing.assert_allclose(tiled.probabilities, expected, atol=1e-5)


@pytest.mark.slow
def test_exact_means_of_every_gate_of_mobilenet_v3():
    config = ModelConfig(
        "mobilenet_v3_small_seg", num_classes=3, depth_multiplier=0.35, aspp_convs_filters=16
    )
    model = tiny_run.random_network(config)
    network = TiledNetwork(model, tile_size=(1201, 1201))
    image = noise(30, 1700)
    tiled = predict_tiled(network, image, mean_pixel=GREY)
    _, probabilities = probabilities_of_the_whole(model, image)
    np.testing.assert_allclose(tiled.probabilities, probabilities, atol=1e-5)
    assert network.seams.count > 0


def test_tiles_that_are_too_small_are_an_error_with_numbers(local):
    with pytest.raises(ValueError, match=r"receptive field of 563 pixels.*at least 593"):
        TiledNetwork(local, tile_size=(513, 513))
    with pytest.raises(ValueError, match=r"width 100 are too small .* overlap of 97"):
        TiledNetwork(local, tile_size=(513, 100), overlap=96)


def test_windows_and_pyramids_have_no_mean_to_give():
    windows = dataclasses.replace(tiny_run.MODEL, image_pooling_crop_size=(33, 33))
    model = tiny_run.random_network(windows)
    with pytest.raises(ValueError, match="windows of fixed sizes"):
        TiledNetwork(model, tile_size=TILE)
    TiledNetwork(model, tile_size=TILE, image_level="tile")
    pyramid = dataclasses.replace(tiny_run.MODEL, image_pyramid=(0.5, 1.0))
    with pytest.raises(ValueError, match="image pyramid"):
        TiledNetwork(tiny_run.random_network(pyramid), tile_size=(2049, 2049))


@pytest.mark.parametrize("channels", [1, 4])
def test_predictors_take_tiles_from_the_config(channels):
    config = dataclasses.replace(LOCAL, input_channels=channels)
    model = tiny_run.random_network(config)
    image = noise(20, 1100)[..., :1].repeat(channels, axis=2)
    whole, tiles = InferenceConfig(), InferenceConfig(tile_size=TILE)
    np.testing.assert_allclose(
        probability_predictor(model, config, tiles)(image),
        probability_predictor(model, config, whole)(image),
        atol=1e-5,
    )
    labels = label_predictor(model, config, tiles)(image)
    assert (labels.dtype, labels.shape) == (np.int32, image.shape[:2])
    np.testing.assert_array_equal(labels, label_predictor(model, config, whole)(image))
    both = full_predictor(model, config, tiles)(image)
    np.testing.assert_array_equal(both[0], labels)
    np.testing.assert_array_equal(both[1], probability_predictor(model, config, tiles)(image))


def test_the_crf_refines_what_tiles_predict(local):
    pytest.importorskip("numba")
    from deeplab_tf import crf

    params = crf.CRFParams(iterations=2)
    image = noise(20, 1100)
    inference = InferenceConfig(tile_size=TILE, crf=params)
    probabilities = probability_predictor(local, LOCAL, InferenceConfig())(image)
    expected = crf.dense_crf(image, probabilities, params).argmax(axis=-1)
    labels = label_predictor(local, LOCAL, inference)(image)
    assert (labels == expected).mean() > 0.999

"""Prediction of images of any size: against padding, softmax and cropping by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.backbones import BACKBONES
from deeplab_tf.inference import predict, predict_probabilities
from tests import tiny_run

SIZES = [(1, 1), (15, 40), (33, 33), (64, 50)]
GREY = (127.5, 127.5, 127.5)


@pytest.fixture(scope="module")
def model():
    return tiny_run.random_network()


def noise(batch, height, width):
    """Coarse noise, float32 [b, h, w, 3] of whole numbers, other for each image."""
    rng = np.random.default_rng([batch, height, width])
    patches = rng.integers(0, 256, (batch, height // 8 + 1, width // 8 + 1, 3))
    return patches.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype(np.float32)


def padded_by_hand(images, mean_pixel, *, output_stride, crop_size=(1, 1)):
    batch, *size, _ = images.shape
    for axis in (0, 1):
        aligned = 1
        while aligned < max(size[axis], crop_size[axis]):
            aligned += output_stride
        size[axis] = aligned
    padded = np.empty((batch, *size, 3), np.float32)
    padded[:] = mean_pixel
    padded[:, : images.shape[1], : images.shape[2]] = images
    return padded


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


class Recorder:
    """In place of a network: keeps what it is given and returns it as logits of three classes."""

    def __call__(self, images, training):
        assert not training
        self.images = np.asarray(images)
        return images


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("crop_size", [None, (41, 20)])
def test_padding(output_stride, crop_size):
    """Of every size around two multiples of the stride, each side with its own padding."""
    mean_pixel, recorder = (10.0, 120.5, 250.0), Recorder()
    for height in range(1, 2 * output_stride + 4):
        image = noise(1, height, 70 - height)
        options = {"output_stride": output_stride, "mean_pixel": mean_pixel}
        prediction = predict(recorder, image, crop_size=crop_size, **options)
        expected = padded_by_hand(
            image, mean_pixel, output_stride=output_stride, crop_size=crop_size or (1, 1)
        )
        np.testing.assert_allclose(recorder.images, expected, atol=1e-4)
        np.testing.assert_allclose(prediction.probabilities, softmax(image), atol=1e-4)


@pytest.mark.parametrize("variant", BACKBONES)
def test_padding_is_nothing_to_the_encoder(variant):
    """Every channel of the variant's mean pixel is 0 behind its normalisation."""
    backbone, recorder = BACKBONES[variant], Recorder()
    image = np.full((1, 15, 20, 3), 255, np.uint8)
    predict(recorder, image, output_stride=16, mean_pixel=backbone.mean_pixel)
    normalized = np.asarray(backbone.normalize(recorder.images))
    assert normalized.shape == (1, 17, 33, 3)
    assert (normalized[:, :15, :20] > 0.9).all()
    np.testing.assert_allclose(normalized[:, 15:], 0, atol=1e-4)
    np.testing.assert_allclose(normalized[:, :, 20:], 0, atol=1e-4)


@pytest.mark.parametrize("crop_size", [None, (33, 49)])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_network_on_an_image_padded_by_hand(model, size, crop_size):
    images = noise(2, *size)
    prediction = predict(
        model, images.astype(np.uint8), output_stride=16, mean_pixel=GREY, crop_size=crop_size
    )
    padded = padded_by_hand(images, GREY, output_stride=16, crop_size=crop_size or (1, 1))
    logits = np.asarray(model(padded, training=False), np.float64)[:, : size[0], : size[1]]

    labels, probabilities = map(np.asarray, prediction)
    assert (labels.dtype, probabilities.dtype) == (np.int32, np.float32)
    np.testing.assert_allclose(probabilities, softmax(logits), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(labels, logits.argmax(axis=-1))
    if size == SIZES[-1]:
        assert set(np.unique(labels)) == {0, 1, 2}


def test_images_of_a_batch_do_not_meet(model):
    images = noise(3, 64, 50)
    labels, probabilities = predict(model, images, output_stride=16, mean_pixel=GREY)
    assert (labels[0] != labels[1]).numpy().any()
    for i in range(3):
        alone = predict(model, images[i : i + 1], output_stride=16, mean_pixel=GREY)
        np.testing.assert_array_equal(labels[i], alone.labels[0])
        np.testing.assert_allclose(probabilities[i], alone.probabilities[0], atol=1e-5)


@pytest.mark.parametrize("crop_size", [None, (33, 49)])
def test_unknown_sizes_in_a_graph_equal_eager(model, crop_size):
    options = {"output_stride": 16, "mean_pixel": GREY, "crop_size": crop_size}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    def graph(images):
        return predict(model, images, **options)

    for size in SIZES:
        images = noise(2, *size).astype(np.uint8)
        labels, probabilities = graph(images)
        eager = predict(model, images, **options)
        np.testing.assert_array_equal(labels, eager.labels)
        np.testing.assert_allclose(probabilities, eager.probabilities, atol=1e-5)


def test_a_mirrored_image_is_averaged_in(model):
    image = noise(1, 33, 49)
    logits = np.asarray(model(np.concatenate([image, image[:, :, ::-1]]), training=False))
    expected = (softmax(logits[0]) + softmax(logits[1])[:, ::-1]) / 2
    probabilities = predict_probabilities(model, image, flip=True)
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-5)
    prediction = predict(model, image, output_stride=16, mean_pixel=GREY, flip=True)
    np.testing.assert_allclose(prediction.probabilities[0], expected, atol=1e-5)
    np.testing.assert_array_equal(prediction.labels[0], expected.argmax(-1))
    once = predict_probabilities(model, image)
    np.testing.assert_allclose(once[0], softmax(logits[0]), atol=1e-5)

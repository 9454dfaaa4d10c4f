"""Images of different sizes in one call, against each of them alone."""

import functools

import numpy as np
import pytest

from deeplab_tf.inference import Prediction, predict
from deeplab_tf.mixed_sizes import predict_each
from tests import tiny_run

SIZES = [(40, 33), (33, 20), (49, 30), (1, 1), (40, 33), (41, 33)]
OPTIONS = {"output_stride": 16, "mean_pixel": (127.5, 127.5, 127.5)}


def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


@pytest.mark.parametrize("crop_size", [None, (49, 33), (65, 65)])
def test_each_is_as_if_it_were_alone(crop_size):
    """With image pooling, which would notice other padding."""
    model = tiny_run.random_network()
    alone = functools.partial(predict, model, crop_size=crop_size, **OPTIONS)
    batches = []

    def noted(batch):
        batches.append(batch.shape)
        return alone(batch)

    predictions = predict_each(noted, images(), crop_size=crop_size, **OPTIONS)
    # 40x33, 49x30 and 41x33 are all padded to 49x33.
    assert len(batches) == (3 if crop_size is None else 1)
    for image, (labels, probabilities) in zip(images(), predictions, strict=True):
        expected = alone(image[None])
        assert labels.shape == image.shape[:2]
        np.testing.assert_allclose(probabilities, expected.probabilities[0], atol=1e-5)
        assert (labels == expected.labels[0]).numpy().mean() > 0.999


def test_images_that_are_resized_go_together_by_their_size():
    def resizing(batch):
        return Prediction(batch[..., 0].astype(np.int32), None)

    predictions = predict_each(resizing, images(), resizes=True, **OPTIONS)
    for image, (labels, probabilities) in zip(images(), predictions, strict=True):
        np.testing.assert_array_equal(labels, image[..., 0])
        assert probabilities is None

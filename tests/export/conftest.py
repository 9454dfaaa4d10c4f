"""One small network and its SavedModel for all tests of this folder."""

import pytest
import tensorflow as tf

from deeplab_tf.export import export_saved_model
from tests.test_export import CARD, seasoned_model

MAX_PIXELS = 2**20


@pytest.fixture(scope="session")
def seasoned():
    return seasoned_model()


@pytest.fixture(scope="session")
def exported(seasoned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signatures") / "shapes" / "1"
    export_saved_model(seasoned, CARD, export_path=folder, max_pixels=MAX_PIXELS, warmup=True)
    return folder


@pytest.fixture(scope="session")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="session")
def encoded(loaded):
    """Files to masks, as files, and errors."""

    def call(files):
        outputs = loaded.signatures["encoded"](image_bytes=tf.constant(files, tf.string))
        masks, errors = outputs["mask_bytes"].numpy(), outputs["error"].numpy()
        assert masks.shape == errors.shape == (len(files),)
        return list(masks), [error.decode() for error in errors]

    return call


@pytest.fixture(scope="session")
def labels(loaded):
    """An image, [h, w, 3], to its labels."""

    def call(image):
        outputs = loaded.signatures["serving_default"](ImageTensor=tf.constant(image[None]))
        return outputs["SemanticPredictions"].numpy()[0]

    return call

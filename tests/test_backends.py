"""The networks on Keras's JAX backend: no TensorFlow there, and the same numbers."""

import os
import subprocess
import sys

import numpy as np

from deeplab_tf import ModelConfig, build_deeplab

CONFIG = ModelConfig(
    num_classes=5, depth_multiplier=0.25, atrous_rates=(2, 4), decoder_output_stride=(4,)
)

ON_JAX = """
import sys
import jax
import numpy as np
from deeplab_tf import build_deeplab
from tests.test_backends import CONFIG

assert "tensorflow" not in sys.modules
weights, inputs, outputs = sys.argv[1:]
model = build_deeplab(CONFIG)
model.load_weights(weights)
trained = [variable.value for variable in model.trainable_variables]
others = [variable.value for variable in model.non_trainable_variables]

@jax.jit
def both(images):
    _, updated = model.stateless_call(trained, others, images, training=True)
    return model.stateless_call(trained, others, images, training=False)[0], updated

inference, updated = both(np.load(inputs))
paths = [variable.path.replace("/", "|") for variable in model.non_trainable_variables]
np.savez(outputs, inference=inference, **dict(zip(paths, updated, strict=True)))
"""


def test_jax_computes_what_tensorflow_computes(tmp_path):
    model = build_deeplab(CONFIG)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "beta", "moving_mean", "moving_variance")):
            weight.assign(weight + rng.uniform(0.1, 0.5, weight.shape))
    images = rng.uniform(0, 255, (2, 65, 49, 3)).astype(np.float32)
    model.save_weights(tmp_path / "model.weights.h5")
    np.save(tmp_path / "images.npy", images)
    done = subprocess.run(
        [
            *(sys.executable, "-c", ON_JAX),
            *(tmp_path / file for file in ("model.weights.h5", "images.npy", "outputs.npz")),
        ],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "outputs.npz")
    expected = model(images, training=False)
    np.testing.assert_allclose(found["inference"], expected, atol=1e-4)
    model(images, training=True)
    for weight in model.non_trainable_variables:
        if "moving" in weight.path:
            np.testing.assert_allclose(found[weight.path.replace("/", "|")], weight, atol=5e-4)

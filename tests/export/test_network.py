"""Networks as they are exported: the same function, of operations that TensorFlow fuses."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, build_deeplab
from deeplab_tf.export import frozen_network, fused_network
from deeplab_tf.inference import predict
from deeplab_tf.layers import BatchNormalization, DepthwiseConv2D, Logits, ResizeLike

from .test_folding import DECODER, IMAGES, MOBILE, randomize_batch_norms

NETWORKS = {
    "mobilenet_v2": MOBILE,
    "resnet_v1_18": {"model_variant": "resnet_v1_18", **DECODER},
    "xception_41": {"model_variant": "xception_41", **DECODER},
    "a crop size": {**MOBILE, "crop_size": (33, 33)},
    "pyramid": {**MOBILE, "image_pyramid": (0.5, 1.0)},
}
OPTIONS = {"output_stride": 16, "mean_pixel": (127.5, 127.5, 127.5)}


@pytest.mark.parametrize("network", NETWORKS)
def test_is_the_same_function(network):
    config = ModelConfig(**NETWORKS[network])
    model = build_deeplab(config)
    randomize_batch_norms(model, IMAGES[:, :33, :33])
    frozen = frozen_network(fused_network(model, config))

    images = IMAGES[:, :33, :33]
    expected = np.asarray(model(images, training=False))
    error = np.abs(np.asarray(frozen(images, training=False)) - expected).max()
    assert error < 2e-3 * expected.std()
    if config.image_pyramid == ():
        scaled = {**OPTIONS, "scales": (0.5, 1.0, 1.25), "flip": True}
        result, expected = predict(frozen, images, **scaled), predict(model, images, **scaled)
        np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=2e-3)


def test_separable_convolutions():
    """As the NAS networks have them."""
    images = keras.Input((None, None, 3))
    x = images
    for i, stride in enumerate((2, 1)):
        x = keras.layers.SeparableConv2D(8, 5, strides=stride, padding="same", use_bias=False)(x)
        x = BatchNormalization(name=f"bn_{i}")(x)
    logits = Logits(2, name="logits")(x)
    model = keras.Model(images, ResizeLike(name="upsampled_logits")(logits, images))
    randomize_batch_norms(model, IMAGES)
    frozen = frozen_network(fused_network(model, ModelConfig()))
    assert not any(isinstance(x, BatchNormalization) for x in frozen.layers)
    expected = np.asarray(model(IMAGES, training=False))
    np.testing.assert_allclose(frozen(IMAGES, training=False), expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize("network", ["mobilenet_v2", "resnet_v1_18", "xception_41"])
def test_convolution_bias_and_activation_become_one_operation(network):
    """In Xception too, whose sums are used by a ReLU and by the next sum."""
    config = ModelConfig(**NETWORKS[network])
    model = build_deeplab(config)
    randomize_batch_norms(model, IMAGES[:, :33, :33])
    model.get_layer("logits.semantic").bias.assign(np.arange(1.0, 6))  # adding 0 is optimised away
    network = frozen_network(fused_network(model, config))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
        fetch, metadata = network(images), tf.compat.v1.RunMetadata()
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        session.run(fetch, {images: IMAGES[:, :33, :33]}, options, metadata)
    counts = Counter(node.op for graph in metadata.partition_graphs for node in graph.node)
    for kind, operation in (("Conv2D", "FusedConv2D"), ("DepthwiseConv2D", "FusedDepthwise")):
        convolutions = [layer for layer in model.layers if type(layer).__name__ == kind]
        assert sum(n for op, n in counts.items() if operation in op) == len(convolutions)
    assert counts["BiasAdd"] == 0


@pytest.mark.parametrize("rates", [(2, 2), (3, 5), (9, 1), (24, 24)])
def test_atrous_depthwise_convolution_of_any_size(rates):
    """Also where rows and columns are left over, and where the rate is larger than the image."""
    rng = np.random.default_rng(0)
    images = keras.Input((None, None, 4))
    x = keras.layers.Conv2D(4, 1, name="before")(images)
    x = DepthwiseConv2D(3, padding="same", dilation_rate=rates)(x)
    logits = Logits(2, name="logits")(x)
    model = keras.Model(images, ResizeLike(name="upsampled_logits")(logits, images))
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    fused = fused_network(model, ModelConfig())
    for height, width in ((1, 1), (9, 14), (24, 33)):
        image = rng.normal(size=(2, height, width, 4)).astype(np.float32)
        expected = np.asarray(model(image, training=False))
        result = np.asarray(fused(image, training=False))
        np.testing.assert_allclose(result, expected, atol=1e-5 * (1 + expected.std()))


def test_bfloat16_agrees():
    config = ModelConfig(**MOBILE)
    model = build_deeplab(config)
    randomize_batch_norms(model, IMAGES)
    other = fused_network(model, config, dtype="bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    dtypes = {layer.name: layer.compute_dtype for layer in other.layers}
    assert dtypes.pop("MobilenetV2.Conv") == "bfloat16"
    assert dtypes.pop("logits.semantic") == dtypes.pop("normalize") == "float32"
    frozen = frozen_network(other)
    expected = np.asarray(model(IMAGES, training=False))
    logits = np.asarray(frozen(IMAGES, training=False))
    assert logits.dtype == np.float32
    # 8 bits of mantissa, through some sixty layers of a random network.
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.99
    assert (logits != expected).mean() > 0.99

"""The other side of benchmarks.inference: keras-hub's DeepLabV3, in a process of its own.

It needs keras_hub and TensorFlow. Each line that it reads says how often to predict, each line that
it prints has the seconds. See `benchmarks.peer`.
"""

import contextlib
import json
import sys
import time

with contextlib.redirect_stdout(sys.stderr):
    import keras_hub
    import numpy as np
    import tensorflow as tf

NUM_CLASSES = 21


def network(size: int) -> tf.types.experimental.GenericFunction:
    """DeepLabv3+ with ResNet-50, as keras-hub's preset has it (its output stride is 32)."""
    shape = (size, size, 3)
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=shape,
    )
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        dilation_rates=[6, 12, 18],
        upsampling_size=8,
        image_shape=shape,
    )
    segmenter = keras_hub.models.DeepLabV3ImageSegmenter(
        backbone=backbone, num_classes=NUM_CLASSES, activation=None
    )
    return tf.function(lambda images: segmenter(images, training=False))


def main() -> None:
    """Answers questions until there are no more."""
    size = int(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):
        predict = network(size)
        images = tf.constant(np.random.default_rng(0).random((1, size, size, 3), np.float32))
        predict(images)
    print(json.dumps({"keras_hub": keras_hub.__version__}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(json.loads(line)):
            start = time.perf_counter()
            predict(images).numpy()
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()

"""VGG-16 (arXiv 1409.1556) as DeepLabv1 and v2 use it."""

from keras import KerasTensor, initializers, layers

from deeplab_tf.backbones.base import Backbone, Features
from deeplab_tf.layers import atrous_schedule

# Channels and number of convolutions of each block (Table 1, column D).
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg_16(x: KerasTensor, *, output_stride: int) -> Features:
    """Five blocks of 3x3 convolutions, each with a pooling behind it.

    At output stride 8 the last two poolings do not stride and conv5 has rate 2 (v1, section 3.1).
    Poolings are 3x3, not 2x2, as in the authors' released networks: so the features of images of
    k * 32 + 1 pixels lie on one grid at every stride.

    Args:
        x: [b, h, w, c], normalised.
        output_stride: 8, 16 or 32.

    Returns:
        The features of pool5, and the image and the first four poolings as low-level features of
        strides 1 to 16.
    """
    low_level, nominal_stride = {1: x}, 1
    for block, ((filters, convolutions), (stride, rate)) in enumerate(
        zip(_BLOCKS, atrous_schedule((2,) * len(_BLOCKS), output_stride), strict=True), start=1
    ):
        for i in range(1, convolutions + 1):
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                dilation_rate=rate,
                activation="relu",
                kernel_initializer=initializers.VarianceScaling(2.0, "fan_in", "truncated_normal"),
                name=f"vgg_16.conv{block}.conv{block}_{i}",
            )(x)
        x = layers.MaxPooling2D(3, strides=stride, padding="same", name=f"vgg_16.pool{block}")(x)
        nominal_stride *= 2
        low_level[nominal_stride] = x
    del low_level[nominal_stride]  # pool5 is what the head begins with
    return Features(final=x, low_level=low_level)


VARIANTS = {
    "vgg_16": Backbone(
        build=vgg_16,
        options=(),
        mean_pixel=(123.68, 116.779, 103.939),
        scale=1.0,
        has_batch_norm=False,
    )
}

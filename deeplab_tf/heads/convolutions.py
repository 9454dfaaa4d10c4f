"""The convolutions of v3's and v3+'s heads, with their batch norm and initial weights."""

from keras import KerasTensor, initializers

from deeplab_tf.layers import BatchNorm, conv_bn, depthwise_conv_bn

_BATCH_NORM = BatchNorm(momentum=0.9997, epsilon=1e-5)


def separable_conv(
    x: KerasTensor,
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    name: str,
    rate: int | tuple[int, int] = 1,
    activation: str = "relu",
) -> KerasTensor:
    """Depthwise and pointwise convolution, [b, h, w, c] -> [b, h, w, filters]."""
    x = depthwise_conv_bn(
        x,
        kernel_size=kernel_size,
        rate=rate,
        activation=activation,
        batch_norm=_BATCH_NORM,
        depthwise_initializer=initializers.TruncatedNormal(stddev=0.33),
        name=f"{name}_depthwise",
    )
    return conv_bn(
        x,
        filters,
        1,
        activation=activation,
        batch_norm=_BATCH_NORM,
        kernel_initializer=initializers.TruncatedNormal(stddev=0.06),
        name=f"{name}_pointwise",
    )


def plain_conv(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    rate: int = 1,
    activation: str = "relu",
) -> KerasTensor:
    """One convolution, [b, h, w, c] -> [b, h, w, filters]."""
    return conv_bn(
        x,
        filters,
        kernel_size,
        rate=rate,
        activation=activation,
        batch_norm=_BATCH_NORM,
        kernel_initializer="glorot_uniform",
        name=name,
    )

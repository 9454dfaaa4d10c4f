"""DeepLab's heads: spatial pyramid pooling in its forms, the decoder and the classifier.

Layer names are the reference's variable scopes.
"""

from collections.abc import Sequence

from keras import KerasTensor, initializers, layers

from deeplab_tf.config import CellBranch
from deeplab_tf.layers import (
    BatchNorm,
    ResizeLike,
    conv_bn,
    depthwise_conv_bn,
    q_sigmoid,
    scale_dimension,
)

_BATCH_NORM = BatchNorm(momentum=0.9997, epsilon=1e-5)
_CELL_FILTERS = 256


def aspp(
    x: KerasTensor,
    *,
    filters: int,
    rates: Sequence[int],
    separable: bool,
    image_level: KerasTensor | None,
    projection: bool,
    activation: str,
) -> KerasTensor:
    """Atrous spatial pyramid pooling (v3, section 3.3; v3+, section 3.1).

    Args:
        x: [b, h, w, c], the encoder's final features.
        filters: Channels of each branch and of the projection.
        rates: Atrous rates of the 3x3 branches.
        separable: Whether the 3x3 branches are separable convolutions.
        image_level: [b, h, w, filters], the branch of `image_pooling`, if there is one.
        projection: Whether a 1x1 convolution and dropout follow the concatenation.
        activation: Of every convolution.

    Returns:
        [b, h, w, filters]; without projection, as many channels for each branch.
    """
    branches = [] if image_level is None else [image_level]
    branches.append(_conv_bn(x, filters, 1, activation=activation, name="aspp0"))
    conv = _separable_conv_bn if separable else _conv_bn
    for i, rate in enumerate(rates, start=1):
        branches.append(conv(x, filters, 3, rate=rate, activation=activation, name=f"aspp{i}"))
    x = _concatenate(branches, name="aspp.concat")
    if not projection:
        return x
    x = _conv_bn(x, filters, 1, activation=activation, name="concat_projection")
    return layers.Dropout(0.1, name="concat_projection.dropout")(x)


def image_pooling(
    x: KerasTensor,
    *,
    filters: int,
    window: tuple[int, int] | None,
    stride: tuple[int, int],
    activation: str,
) -> KerasTensor:
    """Image-level features (ParseNet): mean, 1x1 convolution, back to the size of `x`.

    Args:
        x: [b, h, w, c], the encoder's final features.
        filters: Channels of the result.
        window: Features down and across that a mean is of; None for all.
        stride: Steps down and across of the window.
        activation: Of the convolution.
    """
    pooled = _pool(x, window, stride, name="image_pooling.mean")
    pooled = _conv_bn(pooled, filters, 1, activation=activation, name="image_pooling")
    return ResizeLike(name="image_pooling.resize")(pooled, x)


def image_gate(
    x: KerasTensor,
    *,
    filters: int,
    window: tuple[int, int] | None,
    stride: tuple[int, int],
    gate: str,
) -> KerasTensor:
    """Squeeze-and-excitation of a head: what `image_pooling` makes of `x`, as a gate in [0, 1].

    It is multiplied with the output of ASPP (Lite R-ASPP: MobileNetV3, arXiv 1905.02244, Figure
    10). `gate` is "sigmoid" or "q_sigmoid"; other arguments are those of `image_pooling`.
    """
    function = {"sigmoid": "sigmoid", "q_sigmoid": q_sigmoid}[gate]
    pooled = _pool(x, window, stride, name="image_pooling.mean")
    pooled = layers.Conv2D(filters, 1, name="image_pooling")(pooled)
    pooled = layers.Activation(function, name=f"image_pooling.{gate}")(pooled)
    return ResizeLike(name="image_pooling.resize")(pooled, x)


def dense_prediction_cell(
    x: KerasTensor,
    branches: Sequence[CellBranch],
    *,
    output_stride: int,
    pooled_size: tuple[int, int] | None,
) -> KerasTensor:
    """A cell of searched branches, in the place of ASPP (arXiv 1809.04184, section 3).

    Args:
        x: [b, h, w, c], the encoder's final features.
        branches: The cell.
        output_stride: Of `x`; rates double when it halves, 16 having those of the config.
        pooled_size: Height and width in pixels that pyramid pooling divides into its grid.

    Returns:
        [b, h, w, 256].

    Raises:
        ValueError: if there is pyramid pooling and no `pooled_size`.
    """
    outputs: list[KerasTensor] = []
    for i, branch in enumerate(branches):
        inputs = x if branch.input < 0 else outputs[branch.input]
        name = f"meta_architecture.branch{i}"
        if branch.op == "pyramid_pooling":
            if pooled_size is None:
                raise ValueError(
                    "A dense prediction cell with pyramid pooling needs the size of the image: set "
                    "crop_size or image_pooling_crop_size."
                )
            window = tuple(
                scale_dimension(size, 1 / (output_stride * cells))
                for size, cells in zip(pooled_size, branch.grid_size, strict=True)
            )
            pooled = _pool(inputs, window, (1, 1), name=f"{name}.mean")
            pooled = _conv_bn(pooled, _CELL_FILTERS, 1, name=name)
            outputs.append(ResizeLike(name=f"{name}.resize")(pooled, x))
        elif branch.kernel == (1, 1):
            outputs.append(_conv_bn(inputs, _CELL_FILTERS, 1, name=name))
        else:
            down, across = (rate * (16 // output_stride) for rate in branch.rate)
            outputs.append(
                _separable_conv_bn(
                    inputs, _CELL_FILTERS, branch.kernel, rate=(down, across), name=name
                )
            )
    y = _concatenate(outputs, name="meta_architecture.concat")
    y = layers.Dropout(0.1, name="meta_architecture.dropout")(y)
    return _conv_bn(y, _CELL_FILTERS, 1, name="meta_architecture.concat_projection")


def decoder(
    x: KerasTensor,
    low_level: Sequence[KerasTensor],
    *,
    filters: int,
    separable: bool,
    sum_merge: bool,
    linear: bool,
    activation: str,
) -> KerasTensor:
    """Refines the encoder's output with finer features, stage by stage (v3+, section 3.1).

    Args:
        x: [b, h, w, c], the output of ASPP.
        low_level: One [b, h2, w2, c2] for each stage, coarse to fine.
        filters: Channels of each stage.
        separable: Whether 3x3 convolutions are separable; not read where `linear`.
        sum_merge: Whether deep and low-level features are added, not concatenated.
        linear: Whether the output is the logits: convolutions have biases in place of batch norm,
            and no activation.
        activation: Of the convolutions otherwise.

    Returns:
        [b, h2, w2, filters] at the size of the last low-level features.
    """
    separable = separable and not linear

    def conv(x: KerasTensor, filters: int, kernel_size: int, *, name: str) -> KerasTensor:
        if linear:
            return layers.Conv2D(filters, kernel_size, padding="same", name=name)(x)
        if separable and kernel_size > 1:
            return _separable_conv_bn(x, filters, kernel_size, activation=activation, name=name)
        return _conv_bn(x, filters, kernel_size, activation=activation, name=name)

    for i, features in enumerate(low_level):
        suffix = f"_{i}" if i else ""
        projected_filters = filters if sum_merge else 48
        projected = conv(
            features, projected_filters, 1, name=f"decoder.feature_projection0{suffix}"
        )
        x = ResizeLike(name=f"decoder.resize{suffix}")(x, projected)
        if sum_merge:
            scope = "decoder_split_sep_conv0" if separable else "decoder_conv0"
            x = conv(x, filters, 1 if linear else 3, name=f"decoder.{scope}{suffix}")
            x = layers.Add(name=f"decoder.add{suffix}")([x, projected])
            continue
        x = layers.Concatenate(name=f"decoder.concat{suffix}")([x, projected])
        if separable:
            names = [f"decoder_conv0{suffix}", f"decoder_conv1{suffix}"]
        else:  # the reference's `slim.repeat` nests the scopes of plain convolutions
            names = [f"decoder_conv0{suffix}.decoder_conv0{suffix}_{n}" for n in (1, 2)]
        for name in names:
            x = conv(x, filters, 3, name=f"decoder.{name}")
    return x


def classifier(
    x: KerasTensor, *, num_classes: int, kernel_size: int, rates: Sequence[int]
) -> KerasTensor:
    """Per-pixel class scores in float32: a convolution with bias for each rate, summed.

    One 1x1 convolution of rate 1 is the usual one; more of them are DeepLabv2's head (v2, section
    3.3).
    """
    branches = [
        layers.Conv2D(
            num_classes,
            kernel_size,
            padding="same",
            dilation_rate=rate,
            kernel_initializer=initializers.TruncatedNormal(stddev=0.01),
            dtype="float32",
            name=f"logits.semantic_{i}" if i else "logits.semantic",
        )(x)
        for i, rate in enumerate(rates)
    ]
    return layers.Add(name="logits.sum")(branches) if len(branches) > 1 else branches[0]


def _pool(
    x: KerasTensor, window: tuple[int, int] | None, stride: tuple[int, int], *, name: str
) -> KerasTensor:
    """Mean of windows that lie inside the features, or of all of them."""
    if window is None:
        return layers.GlobalAveragePooling2D(keepdims=True, name=name)(x)
    height, width = x.shape[1:3]
    if height is not None and (height < window[0] or width < window[1]):
        raise ValueError(
            f"Image pooling averages over {window[0]}x{window[1]} features, but the image has only "
            f"{height}x{width}: lower image_pooling_crop_size, or raise crop_size."
        )
    return layers.AveragePooling2D(window, strides=stride, name=name)(x)


def _concatenate(branches: Sequence[KerasTensor], *, name: str) -> KerasTensor:
    return layers.Concatenate(name=name)(branches) if len(branches) > 1 else branches[0]


def _separable_conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    name: str,
    rate: int | tuple[int, int] = 1,
    activation: str = "relu",
) -> KerasTensor:
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


def _conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    rate: int = 1,
    activation: str = "relu",
) -> KerasTensor:
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

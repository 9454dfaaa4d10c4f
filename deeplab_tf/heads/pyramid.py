"""Spatial pyramid pooling in its forms: ASPP, image pooling, the gate, searched cells."""

from collections.abc import Sequence

from keras import KerasTensor, layers

from deeplab_tf.config import CellBranch
from deeplab_tf.heads.convolutions import plain_conv, separable_conv
from deeplab_tf.layers import ResizeLike, q_sigmoid, scale_dimension

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
    branches.append(plain_conv(x, filters, 1, activation=activation, name="aspp0"))
    conv = separable_conv if separable else plain_conv
    for i, rate in enumerate(rates, start=1):
        branches.append(conv(x, filters, 3, rate=rate, activation=activation, name=f"aspp{i}"))
    x = _concatenate(branches, name="aspp.concat")
    if not projection:
        return x
    x = plain_conv(x, filters, 1, activation=activation, name="concat_projection")
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
    pooled = plain_conv(pooled, filters, 1, activation=activation, name="image_pooling")
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
            pooled = plain_conv(pooled, _CELL_FILTERS, 1, name=name)
            outputs.append(ResizeLike(name=f"{name}.resize")(pooled, x))
        elif branch.kernel == (1, 1):
            outputs.append(plain_conv(inputs, _CELL_FILTERS, 1, name=name))
        else:
            down, across = (rate * (16 // output_stride) for rate in branch.rate)
            outputs.append(
                separable_conv(inputs, _CELL_FILTERS, branch.kernel, rate=(down, across), name=name)
            )
    y = _concatenate(outputs, name="meta_architecture.concat")
    y = layers.Dropout(0.1, name="meta_architecture.dropout")(y)
    return plain_conv(y, _CELL_FILTERS, 1, name="meta_architecture.concat_projection")


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

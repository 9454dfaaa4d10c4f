"""The decoder of DeepLabv3+."""

from collections.abc import Sequence

from keras import KerasTensor, layers

from deeplab_tf.heads.convolutions import plain_conv, separable_conv
from deeplab_tf.layers import ResizeLike


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
            return separable_conv(x, filters, kernel_size, activation=activation, name=name)
        return plain_conv(x, filters, kernel_size, activation=activation, name=name)

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

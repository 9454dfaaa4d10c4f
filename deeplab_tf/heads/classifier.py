"""The last layer: class scores for each pixel."""

from collections.abc import Sequence

from keras import KerasTensor, initializers, layers


def classifier(
    branches: Sequence[KerasTensor], *, num_classes: int, kernel_size: int, rates: Sequence[int]
) -> KerasTensor:
    """Per-pixel class scores in float32: a convolution with bias for each branch, summed.

    One 1x1 convolution of rate 1 is the usual one; more of them are the sum fusion of DeepLabv2's
    ASPP (v2, section 3.2 and Figure 7).

    Args:
        branches: One [b, h, w, c] for each rate; the same one, if they differ in the rate only.
        num_classes: Channels of the scores.
        kernel_size: Side of the convolutions.
        rates: Their atrous rates.
    """
    scores = [
        layers.Conv2D(
            num_classes,
            kernel_size,
            padding="same",
            dilation_rate=rate,
            kernel_initializer=initializers.TruncatedNormal(stddev=0.01),
            dtype="float32",
            name=f"logits.semantic_{i}" if i else "logits.semantic",
        )(branch)
        for i, (branch, rate) in enumerate(zip(branches, rates, strict=True))
    ]
    return layers.Add(name="logits.sum")(scores) if len(scores) > 1 else scores[0]

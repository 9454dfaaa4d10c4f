"""The networks of keras.applications whose ImageNet weights our encoders can have, a record each.

Names are the reference's (`checkpoint.reference_name`) on our side, and on Keras's made in the same
way: "conv1_conv/weights" is the kernel of its layer conv1_conv.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from deeplab_tf.backbones import get_backbone

Shapes = Mapping[str, tuple[int, ...]]

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"


@dataclass(frozen=True)
class KerasNetwork:
    """A network of keras.applications, and how its weights become ours.

    Attributes:
        name: What it is called as an initial checkpoint.
        title: What messages call it.
        function: Its name in `keras.applications`.
        model_variants: Our encoders that are this network; or that share its name, if `differs`.
        scope: What the names of such an encoder's weights begin with, as a pattern.
        differs: Why its weights are of no use here; empty if they are.
        file: Its file of weights below Keras's folder of them, with the options in braces.
        options: Of the shapes of our weights, what else `function` is to be called with.
        sources: Of the name of one of our weights, the names of Keras's that it is made of; () for
            one that Keras's network ends before, None for one that is none of this network's.
        value: Of that name and the values of its sources, its value.
        classifier: Pattern of what is Keras's classifier only.
        last_layers: Pattern of what becomes part of our head.
        may_shrink: Whether a weight of ours may be smaller, and is a sample of Keras's then.
        remedy: What to change where shapes differ.
    """

    name: str
    title: str
    function: str
    model_variants: tuple[str, ...]
    scope: str
    differs: str = ""
    file: str = ""
    options: Callable[[Shapes], dict[str, Any]] = lambda shapes: {}
    sources: Callable[[str], tuple[str, ...] | None] = lambda name: None
    value: Callable[..., np.ndarray] = lambda name, value: value
    classifier: str = "predictions/.+"
    last_layers: str = ""
    may_shrink: bool = False
    remedy: str = ""

    def url(self, options: Mapping[str, Any]) -> str:
        """Where Keras downloads its weights from."""
        return _URL + self.file.format(**options)


# --- VGG-16 (v1, section 3) -----------------------------------------------------------------------

_FC1_CHANNELS = 512  # of the features that are flattened for it


def _vgg_sources(name: str) -> tuple[str, ...] | None:
    if match := re.fullmatch(r"vgg_16/conv(\d)/conv\d_(\d)/(\w+)", name):
        return (f"block{match[1]}_conv{match[2]}/{match[3]}",)
    if match := re.fullmatch(r"fc([67])(_\d+)?/(\w+)", name):
        return (f"fc{int(match[1]) - 5}/{match[3]}",)
    return None


def _vgg_value(name: str, value: np.ndarray) -> np.ndarray:
    """Keras's images are BGR; its fc1 and fc2 are dense, ours are convolutions."""
    if name == "vgg_16/conv1/conv1_1/weights":
        return value[:, :, ::-1]
    if value.ndim != 2:
        return value
    inputs, outputs = value.shape
    side = math.isqrt(inputs // _FC1_CHANNELS) if name.startswith("fc6") else 1
    return value.reshape(side, side, inputs // side**2, outputs)


# --- MobileNetV2 ----------------------------------------------------------------------------------

_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_LAST_UNIT = "MobilenetV2/expanded_conv_16/project/weights"


def _mobilenet_options(shapes: Shapes) -> dict[str, Any]:
    """The width, by the channels of the last unit, which are 320 in full."""
    width = shapes[_LAST_UNIT][-1] / 320
    return {"alpha": min(_WIDTHS, key=lambda released: abs(released - width))}


def _mobilenet_sources(name: str) -> tuple[str, ...] | None:
    if match := re.fullmatch(r"MobilenetV2/Conv/(BatchNorm/)?(\w+)", name):
        return (f"{'bn_Conv1' if match[1] else 'Conv1'}/{match[2]}",)
    pattern = r"MobilenetV2/expanded_conv(?:_(\d+))?/(\w+)/(BatchNorm/)?(\w+)"
    if match := re.fullmatch(pattern, name):
        unit = f"block_{match[1]}" if match[1] else "expanded_conv"
        return (f"{unit}_{match[2]}{'_BN' if match[3] else ''}/{match[4]}",)
    return None


# --- ResNet-50 and ResNet-101 with the 7x7 stem ---------------------------------------------------

# Keras's BGR mean as RGB, and how much more its epsilon is than ours.
_RESNET_MEAN = (123.68, 116.779, 103.939)
_MORE_EPSILON = 1.001e-5 - 1e-5


def _resnet_sources(name: str, *, scope: str) -> tuple[str, ...] | None:
    if match := re.fullmatch(rf"{scope}/conv1/(BatchNorm/)?(\w+)", name):
        layer, kind = "conv1", match[2]
    elif match := re.fullmatch(
        rf"{scope}/block(\d)/unit_(\d+)/bottleneck_v1/(?:conv(\d)|shortcut)/(BatchNorm/)?(\w+)",
        name,
    ):
        if int(match[1]) > 4:
            return ()  # a copy of block 4, for DeepLabv3's cascade
        layer, kind = f"conv{int(match[1]) + 1}_block{match[2]}_{match[3] or 0}", match[5]
    else:
        return None
    if kind == "weights":
        return (f"{layer}_conv/weights",)
    if kind != "moving_mean":
        return (f"{layer}_bn/{kind}",)
    shift = ("conv1_conv/weights",) if layer == "conv1" else ()
    return f"{layer}_bn/moving_mean", f"{layer}_conv/biases", *shift


def _resnet_value(name: str, value: np.ndarray, *others: np.ndarray, scope: str) -> np.ndarray:
    """Batch norm takes in what ours lacks: the biases of convolutions, and the mean of the images.

    Keras's images are BGR.
    """
    if name == f"{scope}/conv1/weights":
        return value[:, :, ::-1]
    if name.endswith("/moving_variance"):
        return value + np.float32(_MORE_EPSILON)
    if not name.endswith("/moving_mean"):
        return value
    bias, *kernels = others
    mean = value - bias.astype(np.float64)
    for kernel in kernels:
        theirs_less_ours = np.subtract(_RESNET_MEAN, get_backbone(scope).mean_pixel)
        mean += kernel[:, :, ::-1].sum(axis=(0, 1), dtype=np.float64).T @ theirs_less_ours
    return mean.astype(value.dtype)


def _resnet(depth: int) -> KerasNetwork:
    scope = f"resnet_v1_{depth}"
    return KerasNetwork(
        name=f"keras_resnet{depth}",
        title=f"ResNet{depth}",
        function=f"ResNet{depth}",
        model_variants=(scope,),
        scope=f"{scope}/",
        file=f"resnet/resnet{depth}_weights_tf_dim_ordering_tf_kernels.h5",
        sources=partial(_resnet_sources, scope=scope),
        value=partial(_resnet_value, scope=scope),
    )


KERAS_NETWORKS = {
    network.name: network
    for network in (
        KerasNetwork(
            name="keras_vgg16",
            title="VGG-16",
            function="VGG16",
            model_variants=("vgg_16",),
            scope="vgg_16/",
            file="vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
            sources=_vgg_sources,
            value=_vgg_value,
            last_layers="fc[12]/.+",
            may_shrink=True,
            remedy="lower fc_filters or fc_kernel_size",
        ),
        KerasNetwork(
            name="keras_mobilenet_v2",
            title="MobileNetV2",
            function="MobileNetV2",
            model_variants=("mobilenet_v2",),
            scope="MobilenetV2/",
            file="mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224.h5",
            options=_mobilenet_options,
            sources=_mobilenet_sources,
            classifier="(Conv_1|Conv_1_bn|predictions)/.+",
            remedy="give --divisible_by=8, and a --depth_multiplier of "
            + ", ".join(f"{width:g}" for width in _WIDTHS),
        ),
        _resnet(50),
        _resnet(101),
        KerasNetwork(
            name="keras_xception",
            title="Xception",
            function="Xception",
            model_variants=("xception_41", "xception_65", "xception_71"),
            scope=r"xception_\d+/",
            differs="it pools where the modified aligned Xception of DeepLabv3+ (arXiv 1802.02611, "
            "section 3.2) strides, and has no batch norm behind its depthwise convolutions; for "
            "that one take --tf_initial_checkpoint=xception_65_imagenet, or train it with "
            "python -m deeplab_tf.pretrain",
        ),
    )
}

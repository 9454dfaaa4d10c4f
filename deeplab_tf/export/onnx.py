"""Writing a trained network as ONNX."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_tf.data.output import write_file
from deeplab_tf.export.portable import OUTPUTS, frozen_function
from deeplab_tf.model_card import ModelCard

# The first whose Resize leaves batch and channels alone; runtimes have it since early 2023.
OPSET = 18


def export_onnx(
    model: keras.Model,
    card: ModelCard,
    *,
    export_path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    probabilities: bool = True,
) -> None:
    """Writes an ONNX file with the input and outputs of the SavedModel, of standard operators only.

    It maps "ImageTensor", [b, h, w, 3] of the type that the SavedModel takes, to
    "SemanticPredictions", int32 [b, h, w], and "SemanticProbabilities", float32
    [b, h, w, classes].

    Args:
        model: The network of `card.model`, with its weights.
        card: What the network is, and how images meet it.
        export_path: File to write.
        size: Height and width of the images; the batch is then one. None for any.
        probabilities: Whether there are "SemanticProbabilities", which take longer than labels.

    Raises:
        FileExistsError: `export_path` exists.
        ImportError: tf2onnx is not installed.
        ValueError: The card has a CRF.
    """
    if os.path.lexists(export_path):
        raise FileExistsError(
            f"--export_path={export_path} exists: give another file, or remove this one."
        )
    try:
        from tf2onnx import convert
    except ImportError as error:
        raise ImportError(
            f"ONNX files need tf2onnx ({error}): pip install 'deeplab-tf[onnx]', or pip install "
            "tf2onnx onnx."
        ) from error
    batch = None if size is None else 1
    function = frozen_function(model, card, size=size, batch=batch, probabilities=probabilities)
    outputs = [f"{name}:0" for name in OUTPUTS[: 1 + probabilities]]
    with _without_warnings():
        proto, _ = convert.from_graph_def(
            convert_variables_to_constants_v2(function).graph.as_graph_def(),  # which inlines it
            name=model.name,
            input_names=["ImageTensor:0"],
            output_names=outputs,
            opset=OPSET,
            custom_op_handlers={"ResizeBilinear": (_aligned_resize, [])},
            tensors_to_rename={name: name[:-2] for name in ("ImageTensor:0", *outputs)},
        )
    _pad_dilated_convolutions(proto)
    _name_dimensions(proto)
    write_file(export_path, proto.SerializeToString())


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences TensorFlow, which tf2onnx calls in ways that are going out."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _aligned_resize(context: Any, node: Any, name: str, args: Any) -> None:
    """Replaces a ResizeBilinear with a Resize to the very size.

    tf2onnx's own handler gives a factor where sizes are fixed: 129 times a rounded 513 / 129 may be
    512.
    """
    from tf2onnx import constants

    size = context.make_node("Cast", [node.input[1]], attr={"to": 7})  # int64
    channels_first = context.make_node(
        "Transpose", [node.input[0]], attr={"perm": constants.NHWC_TO_NCHW}
    )
    resized = context.make_node(
        "Resize",
        [channels_first.output[0], "", "", size.output[0]],
        attr={
            "mode": "linear",
            "coordinate_transformation_mode": "align_corners",
            "axes": [2, 3],
        },
    )
    shapes, dtypes = node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        "Transpose",
        resized.output,
        attr={"perm": constants.NCHW_TO_NHWC},
        name=node.name,
        outputs=node.output,
        shapes=shapes,
        dtypes=dtypes,
    )


def _pad_dilated_convolutions(proto: Any) -> None:
    """Says in numbers what SAME padding of dilated convolutions is, for images of any size.

    They do not stride, so that it does not depend on the size; ONNX Runtime refuses to find out.
    """
    for node in proto.graph.node:
        values = {a.name: list(a.ints) for a in node.attribute}
        if node.op_type != "Conv" or max(values.get("dilations", [1])) == 1:
            continue
        for attribute in [a for a in node.attribute if a.name == "auto_pad"]:
            node.attribute.remove(attribute)
            sides = zip(values["dilations"], values["kernel_shape"], strict=True)
            total = [rate * (side - 1) for rate, side in sides]
            pads = [size // 2 for size in total] + [size - size // 2 for size in total]
            node.attribute.add(name="pads", type=7, ints=pads)  # INTS


def _name_dimensions(proto: Any) -> None:
    """Gives dimensions of any size names that say what they are."""
    for tensor in (*proto.graph.input, *proto.graph.output):
        dimensions = tensor.type.tensor_type.shape.dim[:3]
        for name, dimension in zip(("batch", "height", "width"), dimensions, strict=True):
            if dimension.dim_param:
                dimension.dim_param = name

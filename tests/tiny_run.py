"""A data set that is learnt in seconds, and a small network for it."""

import io
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig, build_deeplab
from deeplab_tf.data import records
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training.step import StepResult
from deeplab_tf.visualization import plots
from tests import golden_cases

INFO = DatasetInfo(
    name="blocks",
    class_names=("wall", "red", "green"),
    palette=((64, 64, 64), (220, 40, 40), (40, 200, 60)),
    ignore_label=255,
    splits={"train": 6, "val": 3},
)
MODEL = ModelConfig(
    num_classes=3,
    depth_multiplier=0.25,
    atrous_rates=(1,),
    aspp_convs_filters=48,
    decoder_output_stride=(4,),
    decoder_filters=48,
)


def card(**train: object) -> ModelCard:
    """The card of a run with some fields of TrainConfig."""
    return ModelCard(
        model=MODEL,
        data=DataConfig((33, 33), batch_size=4, min_scale_factor=0.75, max_scale_factor=1.25),
        train=TrainConfig(**train),
        inference=InferenceConfig(),
        dataset=INFO,
    )


def random_network(config: ModelConfig = MODEL) -> keras.Model:
    """An untrained network whose predictions have every class and change with the image."""
    model = build_deeplab(config)
    golden_cases.set_case_weights(model)
    size = 4, 9, 9, config.input_channels
    images = np.random.default_rng(0).integers(0, 256, size).repeat(8, 1).repeat(8, 2)
    logits = np.asarray(model(images.astype(np.float32), training=False))
    kernel, bias = model.get_layer("logits.semantic").weights
    scale = 2 / logits.std(axis=(0, 1, 2))
    bias.assign((bias - logits.mean(axis=(0, 1, 2))) * scale)
    kernel.assign(kernel * scale)
    return model


class NoStep:
    """In place of `training.TrainStep`: takes no step."""

    def __init__(self, *run: object, **options: object) -> None:
        pass

    def __call__(self, batch: object, vote: float = 0.0) -> StepResult:
        return StepResult(tf.constant(0.0), tf.zeros([0]), tf.constant(vote))


def draw_no_plots(patch: pytest.MonkeyPatch) -> None:
    """Makes plots without rendering them, which takes a third of the time of a short run."""
    patch.setattr(plots, "_png", lambda figure: png(np.zeros((1, 1), np.uint8)))


def scene(*seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A wall with a red and a green block, and its labels with a void frame.

    The colour tells the class.
    """
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 57, 2).tolist()
    labels = np.zeros((height, width), np.uint8)
    for class_id in (1, 2):
        top, left = rng.integers(0, 20, 2)
        labels[top : top + 20, left : left + 20] = class_id
    noise = rng.integers(-20, 21, (height, width, 3))
    image = (np.asarray(INFO.palette)[labels] + noise).astype(np.uint8)
    labels[[0, -1]] = labels[:, [0, -1]] = INFO.ignore_label
    return image, labels


def write_dataset(folder: Path) -> None:
    """Writes the records of all splits and their dataset.json."""
    folder.mkdir()
    for number, (split, count) in enumerate(INFO.splits.items()):
        with tf.io.TFRecordWriter(str(folder / records.shard_name(split, 0, 1))) as writer:
            for index in range(count):
                image, labels = scene(number, index)
                writer.write(
                    records.make_example(
                        image_bytes=png(image),
                        label_bytes=png(labels),
                        filename=f"{split}_{index}",
                        height=labels.shape[0],
                        width=labels.shape[1],
                        image_format="png",
                    )
                )
    INFO.save(folder)


def png(pixels: np.ndarray) -> bytes:
    """Encodes uint8 [h, w] or [h, w, 3]."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()

"""DeepLabv1, v2 and cascaded v3 learn outlines and patterns from scratch, on generated shapes.

The encoders are narrow, so that a run takes a minute or two; strides, heads and scales are the
systems' own. Adam is not theirs: in so few steps SGD has learnt little.
"""

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_tf import DataConfig, InferenceConfig, ModelConfig, TrainConfig
from deeplab_tf.backbones import BACKBONES, resnet_v1, vgg
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.model_card import ModelCard
from deeplab_tf.training import run as training

ROOT = Path(__file__).parents[1]

# Rates suit the 9x9 features of a crop at output stride 8.
V1 = ModelConfig(
    "vgg_16",
    output_stride=8,
    atrous_rates=(2,),
    fc_filters=64,
    multi_scale_features=True,
)
V2 = ModelConfig(
    "resnet_v1_50",
    output_stride=8,
    atrous_rates=(1, 2, 3, 4),
    aspp_with_batch_norm=False,
    logits_kernel_size=3,
    image_pyramid=(0.5, 0.75, 1.0),
)
V3 = ModelConfig(
    "resnet_v1_50_beta",
    multi_grid=(1, 2, 1),
    cascade_blocks=3,
    aspp_with_batch_norm=False,
)


@pytest.fixture
def narrow_encoders(monkeypatch):
    """VGG-16 of a quarter of its channels, and ResNets of 2, 2, 2 and 3 narrow units."""
    blocks = tuple((filters // 4, convolutions) for filters, convolutions in vgg._BLOCKS)
    monkeypatch.setattr(vgg, "_BLOCKS", blocks)
    blocks = tuple(
        resnet_v1.Block(filters=filters, units=units, stride=stride)
        for filters, units, stride in ((64, 2, 2), (96, 2, 2), (128, 2, 2), (128, 3, 1))
    )
    for name in (V2.model_variant, V3.model_variant):
        narrow = functools.partial(BACKBONES[name].build, blocks=blocks)
        monkeypatch.setitem(BACKBONES, name, dataclasses.replace(BACKBONES[name], build=narrow))


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    """The generated pictures, of two thirds of their usual size."""
    folder = tmp_path_factory.mktemp("shapes") / "data"
    subprocess.run(
        [
            sys.executable,
            "datasets/build_shapes_data.py",
            f"--output_dir={folder}",
            "--num_train=400",
            "--num_val=40",
            "--image_size=96",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return str(folder / "tfrecord")


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_encoders")
@pytest.mark.parametrize(
    ("model", "learning_rate", "threshold"),
    [
        pytest.param(V1, 0.001, 0.75, id="v1"),
        pytest.param(V2, 0.002, 0.65, id="v2"),
        pytest.param(V3, 0.002, 0.6, id="v3_cascaded"),
    ],
)
def test_learns_from_scratch(dataset_dir, tmp_path, model, learning_rate, threshold):
    """Mean IoU, where seeds 0 to 2 reach 0.83 to 0.87 (v1), 0.73 to 0.80 (v2), 0.69 to 0.72 (v3).

    All background is 0.1, a perceptron that sees single pixels reaches 0.28. With an encoder that
    does not learn behind the same head, it is 0.48, 0.15 and 0.11.
    """
    info = DatasetInfo.load(dataset_dir)
    card = ModelCard(
        model=dataclasses.replace(model, num_classes=info.num_classes),
        data=DataConfig((65, 65), batch_size=8, min_scale_factor=0.75, max_scale_factor=1.25),
        train=TrainConfig(600, optimizer="adam", adam_learning_rate=learning_rate),
        inference=InferenceConfig(),
        dataset=info,
    )
    scores = training.train(
        card,
        dataset_dir=dataset_dir,
        train_split="train",
        val_split="val",
        logdir=str(tmp_path),
        val_interval_steps=600,
    )
    assert scores.mean_iou > threshold

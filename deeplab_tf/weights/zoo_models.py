"""The reference's model zoo: each released checkpoint's network and published scores."""

from dataclasses import dataclass
from functools import partial

from deeplab_tf.config import CellBranch, ModelConfig

_SITE = "http://download.tensorflow.org/models/"


@dataclass(frozen=True)
class Result:
    """A published score.

    Attributes:
        output_stride: Of the evaluated network.
        miou_percent: Mean intersection over union.
        scales: Of the image; the probabilities of several are averaged.
        flip: Whether the mirrored image was averaged in, too.
        split: Evaluated images of the data set.
        pixel_accuracy: In percent, where published.
    """

    output_stride: int
    miou_percent: float
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    split: str = "val"
    pixel_accuracy: float | None = None


@dataclass(frozen=True)
class ZooModel:
    """A released checkpoint.

    Attributes:
        dataset: What it was trained on last; a key of `KNOWN_DATASETS`, unless it is a backbone.
        name: As in the reference's documentation.
        archive: File name of its .tar.gz.
        file_size: Of the archive, where published.
        network: At the output stride of its training. Of a backbone only the encoder is released.
        results: Published scores; a backbone has none.
        input_longest_side: Pixels that the longer side of its images is resized to; None for
            images as they are.
        quantized: Whether it was trained to run on 8-bit integers.
        kind: "segmentation", or "backbone" for an encoder to start a training from.
    """

    dataset: str
    name: str
    archive: str
    file_size: str | None
    network: ModelConfig
    results: tuple[Result, ...] = ()
    input_longest_side: int | None = None
    quantized: bool = False
    kind: str = "segmentation"

    @property
    def url(self) -> str:
        """Address of the archive."""
        return _SITE + self.archive

    @property
    def crop_size(self) -> tuple[int, int] | None:
        """Least height and width that its evaluation pads images to; None for a backbone."""
        if self.input_longest_side is not None:
            return self.input_longest_side, self.input_longest_side
        return _CROP_SIZES.get(self.dataset)

    def config(self, output_stride: int | None = None) -> ModelConfig:
        """The network of the checkpoint; its atrous rates follow the output stride.

        Args:
            output_stride: None for that of the training.

        Raises:
            ValueError: It is a backbone, or has no such output stride.
        """
        if self.kind == "backbone":
            raise ValueError(
                f"{self.name} is an encoder trained on {self.dataset}: without a head it predicts "
                f"nothing. Start a training from it: --tf_initial_checkpoint={self.name}."
            )
        if output_stride is None:
            return self.network
        return self.network.at_output_stride(output_stride)


_CROP_SIZES = {"pascal_voc_seg": (513, 513), "cityscapes": (1025, 2049)}

_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
_FEW_SCALES = (0.75, 1.0, 1.25)

# What the search of arXiv 1809.04184 found best on Cityscapes.
_DENSE_PREDICTION_CELL = (
    CellBranch("conv", input=-1, kernel=(3, 3), rate=(1, 6)),
    CellBranch("conv", input=0, kernel=(3, 3), rate=(18, 15)),
    CellBranch("conv", input=1, kernel=(3, 3), rate=(6, 3)),
    CellBranch("conv", input=0, kernel=(3, 3), rate=(1, 1)),
    CellBranch("conv", input=0, kernel=(3, 3), rate=(6, 21)),
)
_XCEPTION71_DPC = ModelConfig(
    "xception_71",
    num_classes=19,
    dense_prediction_cell_config=_DENSE_PREDICTION_CELL,
    decoder_output_stride=(4,),
)


def _xception65(num_classes: int) -> ModelConfig:
    return ModelConfig(
        "xception_65", num_classes, atrous_rates=(6, 12, 18), decoder_output_stride=(4,)
    )


def _mobilenet_v3(model_variant: str) -> ModelConfig:
    """With the Lite R-ASPP of its paper (arXiv 1905.02244, section 6.4)."""
    return ModelConfig(
        model_variant,
        num_classes=19,
        output_stride=32,
        image_pooling_crop_size=(769, 769),
        image_pooling_stride=(4, 5),
        aspp_convs_filters=128,
        aspp_with_concat_projection=False,
        aspp_with_squeeze_and_excitation=True,
        image_se_uses_qsigmoid=True,
        decoder_output_stride=(8,),
        decoder_filters=19,
        decoder_use_sum_merge=True,
        decoder_output_is_logits=True,
    )


_voc = partial(ZooModel, "pascal_voc_seg")
_cityscapes = partial(ZooModel, "cityscapes")
_ade20k = partial(ZooModel, "ade20k")
_imagenet = partial(ZooModel, "imagenet", kind="backbone")
_imagenet_coco = partial(ZooModel, "imagenet + coco", kind="backbone")

_MODELS = (
    _voc(
        "mobilenetv2_dm05_coco_voc_trainaug",
        "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01.tar.gz",
        "7.6MB",
        ModelConfig("mobilenet_v2", 21, depth_multiplier=0.5),
        (Result(16, 70.19),),
    ),
    _voc(
        "mobilenetv2_dm05_coco_voc_trainval",
        "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01.tar.gz",
        "7.6MB",
        ModelConfig("mobilenet_v2", 21, depth_multiplier=0.5),
        (Result(8, 71.83, split="test"),),
    ),
    _voc(
        "mobilenetv2_coco_voc_trainaug",
        "deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz",
        "23MB",
        ModelConfig("mobilenet_v2", 21),
        (Result(16, 75.32), Result(8, 77.33, _SCALES, flip=True)),
    ),
    _voc(
        "mobilenetv2_coco_voc_trainval",
        "deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz",
        "23MB",
        ModelConfig("mobilenet_v2", 21),
        (Result(8, 80.25, _SCALES, flip=True, split="test"),),
    ),
    _voc(
        "xception65_coco_voc_trainaug",
        "deeplabv3_pascal_train_aug_2018_01_04.tar.gz",
        "439MB",
        _xception65(21),
        (Result(16, 82.2), Result(8, 83.58, _SCALES, flip=True)),
    ),
    _voc(
        "xception65_coco_voc_trainval",
        "deeplabv3_pascal_trainval_2018_01_04.tar.gz",
        "439MB",
        _xception65(21),
        (Result(8, 87.8, _SCALES, flip=True, split="test"),),
    ),
    _cityscapes(
        "mobilenetv2_coco_cityscapes_trainfine",
        "deeplabv3_mnv2_cityscapes_train_2018_02_05.tar.gz",
        "23MB",
        ModelConfig("mobilenet_v2", 19),
        (Result(16, 70.71), Result(8, 73.57, _FEW_SCALES, flip=True)),
    ),
    _cityscapes(
        "mobilenetv3_large_cityscapes_trainfine",
        "deeplab_mnv3_large_cityscapes_trainfine_2019_11_15.tar.gz",
        "17MB",
        _mobilenet_v3("mobilenet_v3_large_seg"),
        (Result(32, 72.41),),
    ),
    _cityscapes(
        "mobilenetv3_small_cityscapes_trainfine",
        "deeplab_mnv3_small_cityscapes_trainfine_2019_11_15.tar.gz",
        "5MB",
        _mobilenet_v3("mobilenet_v3_small_seg"),
        (Result(32, 68.99),),
    ),
    _cityscapes(
        "xception65_cityscapes_trainfine",
        "deeplabv3_cityscapes_train_2018_02_06.tar.gz",
        "439MB",
        _xception65(19),
        (Result(16, 78.79), Result(8, 80.42, _FEW_SCALES, flip=True)),
    ),
    _cityscapes(
        "xception71_dpc_cityscapes_trainfine",
        "deeplab_cityscapes_xception71_trainfine_2018_09_08.tar.gz",
        "445MB",
        _XCEPTION71_DPC,
        (Result(16, 80.31),),
    ),
    _cityscapes(
        "xception71_dpc_cityscapes_trainval",
        "deeplab_cityscapes_xception71_trainvalfine_2018_09_08.tar.gz",
        "446MB",
        _XCEPTION71_DPC,
        (Result(8, 82.66, (0.75, 1.0, 1.25, 1.5, 1.75, 2.0), flip=True, split="test"),),
    ),
    _cityscapes(
        "EdgeTPU-DeepLab",
        "edgetpu-deeplab_2020_03_09.tar.gz",
        None,
        ModelConfig("mobilenet_edgetpu", 19, output_stride=32),
        (Result(32, 70.6), Result(16, 74.1)),
    ),
    _cityscapes(
        "EdgeTPU-DeepLab-slim",
        "edgetpu-deeplab-slim_2020_03_09.tar.gz",
        None,
        ModelConfig(
            "mobilenet_edgetpu", 19, output_stride=32, depth_multiplier=0.75, aspp_convs_filters=128
        ),
        (Result(32, 70.0), Result(16, 73.2)),
    ),
    _ade20k(
        "mobilenetv2_ade20k_train",
        "deeplabv3_mnv2_ade20k_train_2018_12_03.tar.gz",
        "24.8MB",
        ModelConfig("mobilenet_v2", 151, decoder_output_stride=(4,)),
        (Result(16, 32.04, pixel_accuracy=75.41),),
        input_longest_side=257,
    ),
    _ade20k(
        "xception65_ade20k_train",
        "deeplabv3_xception_ade20k_train_2018_05_29.tar.gz",
        "439MB",
        _xception65(151),
        (Result(8, 45.65, _SCALES, flip=True, pixel_accuracy=82.52),),
        input_longest_side=513,
    ),
    _voc(
        "mobilenetv2_dm05_coco_voc_trainaug_8bit",
        "deeplabv3_mnv2_dm05_pascal_train_aug_8bit_2019_04_26.tar.gz",
        "8.2MB",
        ModelConfig("mobilenet_v2", 21, depth_multiplier=0.5),
        (Result(16, 69.65),),
        quantized=True,
    ),
    _voc(
        "mobilenetv2_coco_voc_trainaug_8bit",
        "deeplabv3_mnv2_pascal_train_aug_8bit_2019_04_26.tar.gz",
        "24MB",
        ModelConfig("mobilenet_v2", 21),
        (Result(16, 74.26),),
        quantized=True,
    ),
    _imagenet(
        "xception_41_imagenet", "xception_41_2018_05_09.tar.gz", "288MB", ModelConfig("xception_41")
    ),
    _imagenet(
        "xception_65_imagenet",
        "deeplabv3_xception_2018_01_04.tar.gz",
        "447MB",
        ModelConfig("xception_65"),
    ),
    _imagenet_coco(
        "xception_65_imagenet_coco",
        "xception_65_coco_pretrained_2018_10_02.tar.gz",
        "292MB",
        ModelConfig("xception_65"),
    ),
    _imagenet(
        "xception_71_imagenet", "xception_71_2018_05_09.tar.gz", "474MB", ModelConfig("xception_71")
    ),
    _imagenet(
        "resnet_v1_50_beta_imagenet",
        "resnet_v1_50_2018_05_04.tar.gz",
        "274MB",
        ModelConfig("resnet_v1_50_beta"),
    ),
    _imagenet(
        "resnet_v1_101_beta_imagenet",
        "resnet_v1_101_2018_05_04.tar.gz",
        "477MB",
        ModelConfig("resnet_v1_101_beta"),
    ),
)

ZOO = {model.name: model for model in _MODELS}

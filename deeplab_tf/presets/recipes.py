"""Named recipes: the headline rows of the four papers, each with all that its number depends on."""

from dataclasses import dataclass, replace

from deeplab_tf.config import (
    CRF_V1,
    CRF_V2,
    CRFParams,
    DataConfig,
    InferenceConfig,
    ModelConfig,
    TrainConfig,
)
from deeplab_tf.presets.networks import PRESETS, V1, V2, V3, V3PLUS


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A row of a paper: all that its mean IoU depends on.

    Attributes:
        source: Where the row is.
        mean_iou: The published mean IoU in percent, on `val_split` with `inference`.
        mean_iou_before_crf: The published one of the network alone, where there is a CRF.
        model: The network, at the output stride it is trained at.
        data: How training images are prepared.
        train: The optimisation.
        inference: How images meet the network after training.
        dataset: Its data, a key of `KNOWN_DATASETS`.
        train_split: Split to train on.
        val_split: Split to evaluate on.
        initial_checkpoint: Weights to start from, if there are some to be had.
        remarks: What else there is to know.
    """

    source: str
    mean_iou: float
    mean_iou_before_crf: float | None = None
    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    inference: InferenceConfig
    dataset: str = "pascal_voc_seg"
    train_split: str = "train_aug"
    val_split: str = "val"
    initial_checkpoint: str | None = None
    remarks: str = ""


_SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
# v1, section 5.1. The factors of ten and twenty are those of the classifier and of its bias.
_TRAIN_V1 = TrainConfig(
    training_number_of_steps=6000,
    learning_policy="step",
    base_learning_rate=0.001,
    learning_rate_decay_factor=0.1,
    learning_rate_decay_step=2000,
    weight_decay=0.0005,
    last_layer_gradient_multiplier=10,
    last_layers_contain_logits_only=True,
    upsample_logits=False,
)
# v2, Table 2.
_TRAIN_V2 = replace(_TRAIN_V1, training_number_of_steps=20_000, learning_policy="poly")
# v3, section 4; the weight decay is the reference's.
_TRAIN_V3 = TrainConfig(
    training_number_of_steps=30_000, base_learning_rate=0.007, weight_decay=0.0001
)
_TRAIN_XCEPTION = replace(_TRAIN_V3, weight_decay=0.00004)
_DATA_V1 = DataConfig((321, 321), batch_size=20, min_scale_factor=1.0, max_scale_factor=1.0)
_DATA_V3 = DataConfig((513, 513), batch_size=16)
_DATA_CITYSCAPES = DataConfig((769, 769), batch_size=16)

_BATCH_30 = "v2's Table 2 lists this number with batches of 30 images."
_SEARCH = (
    "The CRF's parameters were searched on 100 images, and the paper does not say what was found: "
    "python -m deeplab_tf.crf does so."
)
_COCO = (
    "The paper's network starts from one trained on MS-COCO, which was released for Caffe only: "
    "give yours with --tf_initial_checkpoint."
)
_RESNET_7X7 = (
    "ImageNet weights with a 7x7 stem: keras_resnet101, or resnet_v1_101_2016_08_28.tar.gz of "
    "TF-Slim, with --tf_initial_checkpoint."
)


def _v1(preset: str, crf: CRFParams, mean_iou: float, before: float, remarks: str = "") -> Recipe:
    return Recipe(
        source=f"{V1}, Tables 1 and 2; {V2}, Table 1",
        mean_iou=mean_iou,
        mean_iou_before_crf=before,
        model=PRESETS[preset].model,
        data=_DATA_V1,
        train=_TRAIN_V1,
        inference=InferenceConfig(crf=crf),
        initial_checkpoint="keras_vgg16",
        remarks=remarks,
    )


def _v2_vgg(preset: str, mean_iou: float, before: float) -> Recipe:
    return Recipe(
        source=f"{V2}, Table 3",
        mean_iou=mean_iou,
        mean_iou_before_crf=before,
        model=PRESETS[preset].model,
        data=replace(_DATA_V1, batch_size=10),
        train=_TRAIN_V2,
        inference=InferenceConfig(crf=CRF_V1),
        initial_checkpoint="keras_vgg16",
        remarks=_SEARCH,
    )


def _v2_resnet101(
    preset: str, crf: CRFParams | None, mean_iou: float, before: float | None
) -> Recipe:
    return Recipe(
        source=f"{V2}, Table 4",
        mean_iou=mean_iou,
        mean_iou_before_crf=before,
        model=PRESETS[preset].model,
        data=DataConfig((321, 321), batch_size=10, min_scale_factor=0.5, max_scale_factor=1.5),
        train=replace(_TRAIN_V2, base_learning_rate=0.00025, fine_tune_batch_norm=False),
        inference=InferenceConfig(crf=crf),
        remarks=f"{_COCO} {_RESNET_7X7}",
    )


def _v3(
    preset: str,
    source: str,
    mean_iou: float,
    *,
    initial: str,
    train: TrainConfig = _TRAIN_V3,
    inference: InferenceConfig,
    remarks: str = "",
) -> Recipe:
    """v3 and v3+ on PASCAL VOC."""
    return Recipe(
        source=source,
        mean_iou=mean_iou,
        model=PRESETS[preset].model,
        data=_DATA_V3,
        train=train,
        inference=inference,
        initial_checkpoint=initial,
        remarks=remarks,
    )


def _cityscapes(
    model: ModelConfig,
    source: str,
    mean_iou: float,
    *,
    initial: str,
    train: TrainConfig,
    inference: InferenceConfig,
) -> Recipe:
    """v3 and v3+ on whole images of Cityscapes."""
    return Recipe(
        source=source,
        mean_iou=mean_iou,
        model=replace(model, num_classes=19),
        data=_DATA_CITYSCAPES,
        train=replace(train, training_number_of_steps=90_000),
        inference=inference,
        dataset="cityscapes",
        train_split="train_fine",
        val_split="val_fine",
        initial_checkpoint=initial,
    )


_FULL = InferenceConfig(
    (513, 513), eval_output_stride=8, eval_scales=_SIX_SCALES, add_flipped_images=True
)
_PLAIN = InferenceConfig((513, 513))
_WHOLE_STREET = InferenceConfig((1025, 2049))

# The CRFs of v1 are those of the authors' released scripts, where these name the row.
RECIPES = {
    "deeplabv1_crf": _v1(
        "deeplabv1_vgg16", CRFParams(pos_w=3, pos_xy=3, bi_w=5, bi_xy=50, bi_rgb=10), 63.74, 59.80
    ),
    "deeplabv1_crf_4x4": _v1("deeplabv1_vgg16_4x4", CRF_V1, 67.14, 63.41, _SEARCH),
    "deeplabv1_crf_7x7": _v1("deeplabv1_vgg16_7x7", CRF_V1, 67.64, 64.38, _SEARCH),
    "deeplabv1_crf_largefov": _v1("deeplabv1_vgg16_largefov", CRF_V1, 67.64, 62.25, _BATCH_30),
    "deeplabv1_msc_crf_largefov": replace(
        _v1(
            "deeplabv1_vgg16_largefov_msc",
            replace(CRF_V1, bi_xy=83),
            68.70,
            64.21,
            "It continues deeplabv1_crf_largefov, of which only the new weights learn: give that "
            "run with --tf_initial_checkpoint.",
        ),
        initial_checkpoint=None,
        train=replace(_TRAIN_V1, initialize_last_layer=False, trained_layers=("msc.", "logits.")),
    ),
    "deeplabv2_vgg16_largefov_crf": _v2_vgg("deeplabv1_vgg16_largefov", 69.84, 65.76),
    "deeplabv2_vgg16_aspp_s_crf": _v2_vgg("deeplabv2_vgg16_aspp_s", 69.73, 66.98),
    "deeplabv2_vgg16_aspp_l_crf": _v2_vgg("deeplabv2_vgg16_aspp_l", 71.57, 68.96),
    "deeplabv2_resnet101_largefov": _v2_resnet101(
        "deeplabv2_resnet101_largefov", None, 75.54, None
    ),
    "deeplabv2_resnet101_crf": _v2_resnet101("deeplabv2_resnet101", CRF_V2, 77.69, 76.35),
    "deeplabv3_resnet50_cascaded": _v3(
        "deeplabv3_resnet50_cascaded",
        f"{V3}, Table 1, output stride 16",
        73.88,
        initial="resnet_v1_50_beta_imagenet",
        inference=_PLAIN,
    ),
    "deeplabv3_resnet101_cascaded": _v3(
        "deeplabv3_resnet101_cascaded",
        f"{V3}, Table 4, last row",
        79.35,
        initial="resnet_v1_101_beta_imagenet",
        inference=_FULL,
    ),
    "deeplabv3_resnet101": _v3(
        "deeplabv3_resnet101",
        f"{V3}, Table 6",
        79.77,
        initial="resnet_v1_101_beta_imagenet",
        inference=_FULL,
    ),
    "deeplabv3_resnet101_cityscapes": _cityscapes(
        PRESETS["deeplabv3_resnet101"].model,
        f"{V3}, Table 12",
        79.30,
        initial="resnet_v1_101_beta_imagenet",
        train=_TRAIN_V3,
        inference=replace(
            _WHOLE_STREET,
            eval_output_stride=8,
            eval_scales=(0.75, 1.0, 1.25),
            add_flipped_images=True,
        ),
    ),
    "deeplabv3plus_resnet101": _v3(
        "deeplabv3plus_resnet101",
        f"{V3PLUS}, Table 3",
        80.57,
        initial="resnet_v1_101_beta_imagenet",
        inference=_FULL,
    ),
    "deeplabv3plus_xception65": _v3(
        "deeplabv3plus_xception65",
        f"{V3PLUS}, Table 5, decoder and separable convolutions",
        81.39,
        initial="xception_65_imagenet",
        train=_TRAIN_XCEPTION,
        inference=_FULL,
    ),
    "deeplabv3plus_xception65_coco": _v3(
        "deeplabv3plus_xception65",
        f"{V3PLUS}, Table 5, the same with MS-COCO",
        83.58,
        initial="xception_65_imagenet_coco",
        train=replace(_TRAIN_XCEPTION, base_learning_rate=0.0001),
        inference=_FULL,
        remarks="The learning rate after MS-COCO is v3's (section 4.1); v3+ does not give it.",
    ),
    "deeplabv3plus_xception65_cityscapes": _cityscapes(
        replace(PRESETS["deeplabv3plus_xception65"].model, add_image_level_feature=False),
        f"{V3PLUS}, Table 7, third row",
        79.14,
        initial="xception_65_imagenet",
        train=_TRAIN_XCEPTION,
        inference=_WHOLE_STREET,
    ),
    "deeplabv3plus_xception71_cityscapes": _cityscapes(
        replace(PRESETS["deeplabv3plus_xception71"].model, add_image_level_feature=False),
        f"{V3PLUS}, Table 7, last row",
        79.55,
        initial="xception_71_imagenet",
        train=_TRAIN_XCEPTION,
        inference=_WHOLE_STREET,
    ),
}

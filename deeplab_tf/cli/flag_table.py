"""Every flag of every script, as one table: name, type, default, meaning, and kin in the reference.

The reference's flags keep its names, types and defaults. A default here is what holds where nothing
else says otherwise: a preset does in training, a run's model card after it.
"""

from dataclasses import dataclass, replace
from typing import Any

from absl import flags

from deeplab_tf.presets import PRESETS, RECIPES

# Those of `distribution.build_strategy`; TensorFlow is not imported for the sake of --help.
STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")

# How a flag relates to the reference's of that name.
SAME, MAPPED, OBSOLETE, OWN = "same", "mapped", "obsolete", "own"


class _FloatOrWord(flags.ArgumentParser):
    """A number, or one of a few words."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def parse(self, argument: Any) -> float | str:
        """The value of an argument; ValueError if it has none."""
        if argument in self.words:
            return str(argument)
        try:
            return float(argument)
        except ValueError as error:
            raise ValueError(f"expected a number or {' or '.join(self.words)}") from error

    def flag_type(self) -> str:
        """Its name in --help."""
        return "float"


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: Without dashes.
        kind: The name of absl's `DEFINE_...` function.
        default: Value of a flag that is not given.
        help: What it does; of an obsolete one, what there is in its place.
        origin: `SAME` as in the reference, `MAPPED` to what `help` says, `OBSOLETE` or `OWN`.
        choices: Values of an enum.
        words: What a list of numbers may be instead, such as "auto".
    """

    name: str
    kind: str
    default: Any
    help: str
    origin: str = SAME
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def define(self) -> None:
        """Tells absl of it."""
        default = list(self.default) if isinstance(self.default, tuple) else self.default
        if self.words:
            serializer: flags.ArgumentSerializer[Any] = flags.ArgumentSerializer()
            flags.DEFINE_multi(_FloatOrWord(self.words), serializer, self.name, default, self.help)
            return
        choices = [list(self.choices)] if self.kind == "enum" else []
        text = f"No effect: {self.help}" if self.origin == OBSOLETE else self.help
        getattr(flags, f"DEFINE_{self.kind}")(self.name, default, *choices, text)


MODEL = (
    Flag("model_variant", "string", "mobilenet_v2", "Encoder."),
    Flag(
        "input_channels",
        "integer",
        3,
        "Channels of the images. Not given: as the records or the model card say.",
        OWN,
    ),
    Flag("output_stride", "integer", 16, "Size of the image over that of the encoder's features."),
    Flag("atrous_rates", "multi_integer", None, "Rate of an ASPP branch; give several times."),
    Flag("multi_grid", "multi_integer", None, "Unit rate of the last block; give several times."),
    Flag("cascade_blocks", "integer", 0, "Copies of a ResNet's last block behind it.", OWN),
    Flag("depth_multiplier", "float", 1.0, "Width of a MobileNet."),
    Flag("divisible_by", "integer", None, "Channels of MobileNetV2 are multiples of this."),
    Flag(
        "use_bounded_activation", "boolean", False, "ReLU6 for ReLU; Xception's sums are bounded."
    ),
    Flag("nas_stem_output_num_conv_filters", "integer", 20, "Base width of the NAS encoders."),
    Flag("nas_use_classification_head", "boolean", False, "Last convolution of the NAS encoders."),
    Flag("nas_remove_os32_stride", "boolean", False, "Drop the last stride of the NAS encoders."),
    Flag("add_image_level_feature", "boolean", True, "ASPP with image pooling."),
    Flag(
        "image_pooling_crop_size", "list", None, "Height,width in pixels that image pooling sees."
    ),
    Flag("image_pooling_stride", "list", "1,1", "Steps down,across of image pooling, in features."),
    Flag("aspp_with_batch_norm", "boolean", True, "ASPP as in v3; false for v2's sum of branches."),
    Flag("aspp_with_separable_conv", "boolean", True, "Separable convolutions in ASPP."),
    Flag("aspp_convs_filters", "integer", 256, "Channels of ASPP."),
    Flag("aspp_with_concat_projection", "boolean", True, "A 1x1 convolution at the end of ASPP."),
    Flag("aspp_with_squeeze_and_excitation", "boolean", False, "Image pooling as a gate on ASPP."),
    Flag("image_se_uses_qsigmoid", "boolean", False, "A piecewise linear gate."),
    Flag("dense_prediction_cell_json", "string", "", "File of a cell that takes ASPP's place."),
    Flag("decoder_output_stride", "list", None, "Strides of the decoder, descending; none: none."),
    Flag("decoder_use_separable_conv", "boolean", True, "Separable convolutions in the decoder."),
    Flag("decoder_filters", "integer", 256, "Channels of the decoder."),
    Flag("decoder_use_sum_merge", "boolean", False, "The decoder adds in place of concatenating."),
    Flag("decoder_output_is_logits", "boolean", False, "The decoder ends in the logits."),
    Flag("logits_kernel_size", "integer", 1, "Side of v2's last convolutions."),
    Flag("fc_filters", "integer", 0, "Channels of v1's fc6 and fc7; 0 for other heads.", OWN),
    Flag("fc_kernel_size", "integer", 3, "Side of fc6; its rates are --atrous_rates.", OWN),
    Flag("multi_scale_features", "boolean", False, "v1's branches on image and poolings.", OWN),
    Flag("image_pyramid", "multi_float", None, "Scale in the network; give several times."),
    Flag("merge_method", "enum", "max", "How scales in the network merge.", choices=("max", "avg")),
    Flag(
        "prediction_with_upsampled_logits",
        "boolean",
        True,
        "Labels are chosen after upsampling; false: before.",
    ),
)
RESIZE = (
    Flag("min_resize_value", "integer", None, "Shorter side that images are resized to."),
    Flag("max_resize_value", "integer", None, "Largest longer side after that."),
    Flag("resize_factor", "integer", None, "Resized sides are k * resize_factor + 1."),
    Flag(
        "keep_aspect_ratio",
        "boolean",
        True,
        "images always keep their aspect ratio, as in the reference, which does not read it",
        OBSOLETE,
    ),
)
_TRAINING_ONLY = (
    Flag(
        "label_weights",
        "multi_float",
        None,
        "Loss weight of a class; give one for each. Or auto: median frequency balancing, by the "
        "training split.",
        MAPPED,
        words=("auto",),
    ),
    Flag(
        "batch_norm_decay",
        "float",
        0.9997,
        "Decay of moving statistics, if given; else one that suits the number of steps. The "
        "reference does not read it.",
        MAPPED,
    ),
)
_COMMON = (*MODEL, *RESIZE, *_TRAINING_ONLY)
_QUANTIZE = Flag(
    "quantize_delay_step",
    "integer",
    -1,
    "training does not simulate 8-bit numbers; the network stays floating point",
    OBSOLETE,
)
_DATASET = Flag(
    "dataset",
    "string",
    "pascal_voc_seg",
    "Data set of records without a dataset.json (pascal_voc_seg, cityscapes, ade20k); those with "
    "one say it themselves, and the flag is checked.",
    MAPPED,
)
_SKIP_CORRUPT = Flag(
    "skip_corrupt",
    "boolean",
    False,
    "Read all records beforehand, and leave out and report damaged ones; false: they are an error.",
    OWN,
)
_MASTER = Flag("master", "string", "", "there are no TensorFlow sessions", OBSOLETE)
_BATCH = "images, which may differ in size, are predicted one by one"
_WATCH = Flag(
    "eval_interval_secs",
    "integer",
    300,
    "Evaluate checkpoints as they appear, at least so many seconds apart.",
)
_SCALES = "Scale of the image; give several times. Probabilities are averaged."
_FLIP = Flag("add_flipped_images", "boolean", False, "Average in the mirrored image too.")
_CRF_PARAMS = Flag(
    "crf_params",
    "list",
    None,
    "v1, v2 or pos_w,pos_xy,bi_w,bi_xy,bi_rgb[,iterations] of the CRF, which it switches on.",
    OWN,
)
_CRF = (
    Flag(
        "crf",
        "boolean",
        False,
        "Refine predictions with the dense CRF, with the parameters of the model card or else "
        "those of v2. Not given: as the model card says.",
        OWN,
    ),
    _CRF_PARAMS,
)
# Images that are too large to be seen at once.
_TILES = (
    Flag(
        "tile_size",
        "list",
        None,
        "Height,width that the network sees at once at most; larger images are predicted tile by "
        "tile (docs/prediction.md).",
        OWN,
    ),
    Flag(
        "tile_overlap",
        "integer",
        None,
        "Pixels that neighbouring tiles share. Not given: what the network's receptive field needs "
        "to give exactly what the whole image gives.",
        OWN,
    ),
    Flag(
        "tile_image_level",
        "enum",
        "exact",
        "Means over the image, such as image pooling: taken over all tiles, in one more pass; of a "
        "reduced image; or of each tile alone.",
        OWN,
        ("exact", "reduced", "tile"),
    ),
)
_CROP = "Least height,width to pad to. Not given: as the model card says. Larger images are fine."
_COLORMAP = Flag(
    "colormap_type",
    "enum",
    "pascal",
    "Colours; not given: those of the data set.",
    MAPPED,
    ("pascal", "cityscapes", "ade20k"),
)
# What a training image goes through, which vis.py can show; the reference has it in train.py alone.
_NAMED_RUNS = (
    Flag("preset", "enum", None, "Named network, which others change.", OWN, tuple(PRESETS)),
    Flag(
        "recipe",
        "enum",
        None,
        "Row of a paper: network, data, schedule and inference, which other flags change.",
        OWN,
        tuple(RECIPES),
    ),
)
_TRAIN_SPLIT = Flag("train_split", "string", "train", "Split to train on.")
_CROPS = (
    Flag("train_crop_size", "list", "513,513", "Height,width of a crop; k * output_stride + 1."),
    Flag("min_scale_factor", "float", 0.5, "Lower end of the random scale."),
    Flag("max_scale_factor", "float", 2.0, "Upper end of the random scale."),
    Flag("scale_factor_step_size", "float", 0.25, "Step between scales; 0 for any between."),
)
AUGMENTATIONS = (
    Flag("brightness_jitter", "float", 0.0, "Brightness times 1 - this to 1 + this.", OWN),
    Flag("contrast_jitter", "float", 0.0, "Contrast times 1 - this to 1 + this.", OWN),
    Flag("saturation_jitter", "float", 0.0, "Saturation times 1 - this to 1 + this; RGB.", OWN),
    Flag("hue_jitter", "float", 0.0, "Hue turned by up to this, at most 0.5 turns; RGB.", OWN),
    Flag("max_rotation_degrees", "float", 0.0, "Crops rotated by up to this either way.", OWN),
    Flag("blur_probability", "float", 0.0, "Share of the crops that are blurred.", OWN),
    Flag("blur_min_sigma", "float", 0.1, "Least sigma of that Gaussian blur, in pixels.", OWN),
    Flag("blur_max_sigma", "float", 2.0, "Largest sigma of it.", OWN),
    Flag(
        "class_balanced_crops",
        "float",
        0.0,
        "Share of the crops placed so that each class of the image is equally likely met.",
        OWN,
    ),
)
_SEED = Flag("seed", "integer", 0, "Seed of weights, dropout, data order and augmentation.", OWN)
# Flags of vis.py that are for --what=inputs alone.
INPUTS_ONLY = (
    *_NAMED_RUNS,
    *(
        replace(flag, help="As in train.py, for --what=inputs.", origin=OWN)
        for flag in (_TRAIN_SPLIT, *_CROPS)
    ),
    *AUGMENTATIONS,
    _SEED,
    Flag("max_inputs", "integer", 16, "Training examples that --what=inputs draws.", OWN),
)
# Those that are for --what=predictions alone.
PREDICTIONS_ONLY = (
    "images",
    "vis_split",
    "vis_crop_size",
    "eval_scales",
    "add_flipped_images",
    "crf",
    "crf_params",
    *(flag.name for flag in _TILES),
    "also_save_raw_predictions",
)

TRAIN = (
    *_COMMON,
    *_NAMED_RUNS,
    Flag("dry_run", "boolean", False, "Print what would be trained, and stop.", OWN),
    Flag("dataset_dir", "string", None, "Folder of records."),
    _DATASET,
    _SKIP_CORRUPT,
    Flag("check_data", "boolean", True, "Look at some records before the first step.", OWN),
    _TRAIN_SPLIT,
    Flag("val_split", "string", "val", "Split to validate on; empty for none.", OWN),
    Flag("val_interval_steps", "integer", 500, "Steps between validations.", OWN),
    Flag(
        "early_stop_patience",
        "integer",
        0,
        "Validations in a row without a better mean IoU that end the run; 0: any number.",
        OWN,
    ),
    Flag("train_logdir", "string", None, "Folder for checkpoints, model card and summaries."),
    Flag("log_steps", "integer", 10, "Steps between points of the curves."),
    Flag("save_interval_secs", "integer", 1200, "Seconds between checkpoints."),
    Flag("save_interval_steps", "integer", 0, "Steps between checkpoints, too; 0: none.", OWN),
    Flag("training_number_of_steps", "integer", 30000, "Steps in all."),
    Flag("train_batch_size", "integer", 8, "Crops in a batch."),
    *_CROPS,
    *AUGMENTATIONS,
    Flag(
        "optimizer",
        "enum",
        "momentum",
        "Adam's learning rate is constant; AdamW, which the reference has not, follows the "
        "schedule.",
        MAPPED,
        ("momentum", "adam", "adamw"),
    ),
    Flag("momentum", "float", 0.9, "Momentum of SGD."),
    Flag("adam_learning_rate", "float", 0.001, "Learning rate of Adam."),
    Flag("adam_epsilon", "float", 1e-8, "Epsilon of Adam and AdamW."),
    Flag(
        "learning_policy",
        "enum",
        "poly",
        "Schedule of the rate of SGD and AdamW; the reference's flag has poly and step only.",
        MAPPED,
        ("poly", "step", "cosine", "multi_steps"),
    ),
    Flag("base_learning_rate", "float", 0.0001, "Learning rate that the schedule starts at."),
    Flag("end_learning_rate", "float", 0.0, "Learning rate that poly ends at."),
    Flag("decay_steps", "float", 0.0, "Steps of poly; 0 for all of them."),
    Flag("learning_power", "float", 0.9, "Exponent of poly."),
    Flag("learning_rate_decay_factor", "float", 0.1, "Factor of step."),
    Flag("learning_rate_decay_step", "integer", 2000, "Steps between two factors of step."),
    Flag("boundaries", "multi_integer", None, "Step after which multi_steps goes on.", OWN),
    Flag(
        "boundary_learning_rates",
        "multi_float",
        None,
        "Rate of multi_steps; give one more than there are boundaries.",
        OWN,
    ),
    Flag("slow_start_step", "integer", 0, "Steps before the schedule starts."),
    Flag("slow_start_learning_rate", "float", 0.0001, "Learning rate before it starts."),
    Flag(
        "slow_start_burnin_type",
        "enum",
        "none",
        "linear: that rate rises to --base_learning_rate.",
        OWN,
        ("none", "linear"),
    ),
    Flag("weight_decay", "float", 0.00004, "L2 factor; 0.0001 suits ResNets."),
    Flag(
        "clip_gradient_norm",
        "float",
        0.0,
        "Longest that all gradients together may be; 0: any length.",
        OWN,
    ),
    Flag(
        "ema_decay",
        "float",
        0.0,
        "Decay of an average of the weights, such as 0.9999, that validation and the other "
        "scripts use; 0: none.",
        OWN,
    ),
    Flag("last_layer_gradient_multiplier", "float", 1.0, "Factor of the last layers' gradients."),
    Flag(
        "last_layers_contain_logits_only",
        "boolean",
        False,
        "The last layers are the logits, not all of head and decoder.",
    ),
    Flag(
        "tf_initial_checkpoint",
        "string",
        None,
        "Weights to start from: TF1 or our own checkpoint, of pretraining too, folder, .tar.gz or "
        "zoo name; or Keras's: keras_vgg16, keras_mobilenet_v2, keras_resnet50, keras_resnet101, "
        "or a .h5 file of one.",
    ),
    Flag("initialize_last_layer", "boolean", True, "Take the last layers from it too."),
    Flag("fine_tune_batch_norm", "boolean", True, "False leaves batch norm its moving statistics."),
    Flag(
        "freeze_batch_norm", "boolean", False, "Leave batch norm's gamma and beta alone too.", OWN
    ),
    Flag(
        "loss",
        "enum",
        "cross_entropy",
        "Loss of a pixel.",
        OWN,
        ("cross_entropy", "focal"),
    ),
    Flag("label_smoothing", "float", 0.0, "Share of the target that all classes get.", OWN),
    Flag("focal_gamma", "float", 2.0, "Exponent of the focal loss.", OWN),
    Flag("dice_weight", "float", 0.0, "Factor of a Dice loss beside it; 0: none.", OWN),
    Flag("lovasz_weight", "float", 0.0, "Factor of a Lovász-softmax loss beside it; 0: none.", OWN),
    Flag(
        "trained_layers",
        "multi_string",
        None,
        "Beginning of the names of layers that learn; none: all learn.",
        OWN,
    ),
    Flag("upsample_logits", "boolean", True, "Loss at the labels' size; false: at the logits'."),
    Flag("top_k_percent_pixels", "float", 1.0, "Share of the pixels, the hardest, in the loss."),
    Flag("hard_example_mining_step", "integer", 0, "Step at which that share is reached."),
    Flag("drop_path_keep_prob", "float", 1.0, "Share of paths a NAS encoder keeps in training."),
    _SEED,
    Flag(
        "save_summaries_secs",
        "integer",
        600,
        "points of the curves are written every --log_steps steps",
        OBSOLETE,
    ),
    Flag(
        "save_summaries_images",
        "boolean",
        False,
        "pictures are written at every validation",
        OBSOLETE,
    ),
    Flag("profile_logdir", "string", None, "TensorBoard's profiler attaches itself", OBSOLETE),
    _QUANTIZE,
    _MASTER,
    Flag(
        "strategy",
        "enum",
        "one_device",
        "Where to compute: on one device, on the devices of this machine, on the workers of "
        "TF_CONFIG, or on a TPU (docs/distribution.md).",
        OWN,
        STRATEGIES,
    ),
    Flag(
        "num_clones",
        "integer",
        1,
        "Devices that share a batch: more than 1 is --strategy=mirrored. Not given, that takes all "
        "GPUs.",
        MAPPED,
    ),
    Flag("tpu", "string", "", "Name or address of the TPU of --strategy=tpu.", OWN),
    Flag(
        "gradient_accumulation_steps",
        "integer",
        1,
        "Parts that a batch comes in one after the other, to need less memory.",
        OWN,
    ),
    Flag(
        "rematerialize",
        "boolean",
        False,
        "Compute features again in the backward pass in place of keeping them: less memory, "
        "slower steps.",
        OWN,
    ),
    Flag(
        "mixed_precision",
        "enum",
        "none",
        "Type of the features; weights, logits and losses stay float32.",
        OWN,
        ("none", "bfloat16", "float16"),
    ),
    Flag("clone_on_cpu", "boolean", False, "hide the GPUs: CUDA_VISIBLE_DEVICES=''", OBSOLETE),
    Flag(
        "num_replicas",
        "integer",
        1,
        "the workers are those of TF_CONFIG, with --strategy=multi_worker",
        OBSOLETE,
    ),
    Flag("startup_delay_steps", "integer", 15, "workers start together", OBSOLETE),
    Flag("num_ps_tasks", "integer", 0, "there are no parameter servers", OBSOLETE),
    Flag("task", "integer", 0, "TF_CONFIG says which worker this is", OBSOLETE),
)
# A trained network, and the records it is scored on.
_SCORED = (
    Flag("checkpoint_dir", "string", None, "Run, TF1 checkpoint, .tar.gz or zoo name."),
    Flag("dataset_dir", "string", None, "Folder of records."),
    _DATASET,
    Flag("eval_split", "string", "val", "Split to evaluate."),
    Flag("eval_logdir", "string", None, "Folder for the scores; not given: that of the run."),
    Flag("eval_crop_size", "list", "513,513", _CROP, MAPPED),
    Flag("eval_scales", "multi_float", (1.0,), _SCALES),
    _FLIP,
)
# What eval.py measures besides, and how long it watches a run.
_MEASURES = (
    Flag("boundary_iou", "boolean", False, "Also score the outlines of the classes.", OWN),
    Flag(
        "calibration",
        "boolean",
        False,
        "Also compare the probabilities with how often they are right, and fit a temperature.",
        OWN,
    ),
    Flag(
        "report",
        "boolean",
        False,
        "Write an HTML report, which takes --boundary_iou, --calibration and --trimap_widths along "
        "(docs/evaluation.md).",
        OWN,
    ),
    Flag(
        "report_images",
        "integer",
        12,
        "Images of the report: the worst, and as many random ones.",
        OWN,
    ),
    Flag(
        "eval_timeout_secs",
        "integer",
        7200,
        "Seconds without a new checkpoint that end the watching of a run; 0: any number.",
        OWN,
    ),
)
EVAL = (
    *_COMMON,
    *_SCORED,
    _SKIP_CORRUPT,
    *_CRF,
    *_TILES,
    Flag(
        "trimap_widths",
        "multi_integer",
        None,
        "Also score the pixels this near to a border; give several times.",
        OWN,
    ),
    Flag(
        "trimap_around",
        "enum",
        "void",
        "Border that is meant: to pixels without a class, or between classes.",
        OWN,
        ("void", "classes"),
    ),
    Flag(
        "max_number_of_evaluations",
        "integer",
        0,
        "Checkpoints to evaluate as they appear; 0: until the run ends. Neither this nor "
        "--eval_interval_secs given: the newest, once.",
        MAPPED,
    ),
    _WATCH,
    *_MEASURES,
    Flag("eval_batch_size", "integer", 1, _BATCH, OBSOLETE),
    _QUANTIZE,
    _MASTER,
)
VIS = (
    *_COMMON,
    Flag(
        "what",
        "enum",
        "predictions",
        "Predictions of a checkpoint; or inputs: what a training run sees, as the run of "
        "--checkpoint_dir or the flags of train.py say.",
        OWN,
        ("predictions", "inputs"),
    ),
    *INPUTS_ONLY,
    Flag("checkpoint_dir", "string", None, "Run, TF1 checkpoint, .tar.gz or zoo name."),
    Flag("dataset_dir", "string", None, "Folder of records, to draw a split of."),
    _DATASET,
    _SKIP_CORRUPT,
    Flag("vis_split", "string", "val", "Split to draw."),
    Flag("images", "multi_string", None, "Image file, folder or pattern; not records.", OWN),
    Flag("vis_logdir", "string", None, "Folder for the pictures."),
    Flag("vis_crop_size", "list", "513,513", _CROP, MAPPED),
    Flag("eval_scales", "multi_float", (1.0,), _SCALES),
    _FLIP,
    *_CRF,
    *_TILES,
    _COLORMAP,
    Flag("also_save_raw_predictions", "boolean", False, "Also write label ids as grey PNGs."),
    Flag(
        "max_number_of_iterations",
        "integer",
        0,
        "the newest checkpoint is drawn, once",
        OBSOLETE,
    ),
    replace(_WATCH, help="the newest checkpoint is drawn, once", origin=OBSOLETE),
    Flag("vis_batch_size", "integer", 1, _BATCH, OBSOLETE),
    _QUANTIZE,
    _MASTER,
)
_EXPORT_MODEL = (
    replace(
        flag,
        default=8,
        help=f"{flag.help} Not given: the model card's; of a TF1 checkpoint 8.",
        origin=MAPPED,
    )
    if flag.name == "output_stride"
    else flag
    for flag in _COMMON
)
_SERVING = (
    Flag(
        "export_version",
        "string",
        None,
        "Version folder to write below --export_path, for TensorFlow Serving, with requests that "
        "warm it up: a number, or next.",
        OWN,
    ),
    Flag(
        "export_dtype",
        "enum",
        "float32",
        "What a SavedModel computes features in; bfloat16 is for GPUs and TPUs.",
        OWN,
        ("float32", "bfloat16"),
    ),
    Flag(
        "export_max_pixels",
        "integer",
        2**24,
        "Pixels, with the padding and at the largest scale, that a SavedModel takes at once; "
        "bounds its memory.",
        OWN,
    ),
)
_PORTABLE = (
    Flag(
        "export_size",
        "list",
        None,
        "Height,width of the images of a LiteRT or ONNX file; any: all sizes. Not given: a LiteRT "
        "file's are of the crop size, an ONNX file's of any.",
        OWN,
    ),
    Flag(
        "export_probabilities",
        "boolean",
        True,
        "Probabilities beside the labels of a LiteRT or ONNX file, which take longer.",
        OWN,
    ),
    Flag(
        "litert_precision",
        "enum",
        "fp32",
        "Of weights and, for int8, of all that is computed.",
        OWN,
        ("fp32", "fp16", "int8"),
    ),
    Flag(
        "representative_split",
        "string",
        "train",
        "Split of --dataset_dir whose images set the ranges of int8.",
        OWN,
    ),
    Flag("representative_images", "integer", 100, "How many of them, evenly spaced.", OWN),
)
_VERIFY = (
    Flag(
        "verify",
        "boolean",
        False,
        "Compare each export, also one that exists already, with evaluation, by all its readers.",
        OWN,
    ),
    Flag("dataset_dir", "string", None, "Folder of records, for int8 and --verify.", OWN),
    Flag("images", "multi_string", None, "Image file, folder or pattern, in their place.", OWN),
    Flag("verify_split", "string", "val", "Split of --dataset_dir to verify with.", OWN),
    Flag("verify_images", "integer", 10, "How many images of it, evenly spaced.", OWN),
    Flag(
        "verify_threshold",
        "float",
        None,
        "Least share of pixels with evaluation's label. Not given: 0.999; of int8 0.98.",
        OWN,
    ),
)
EXPORT = (
    *_EXPORT_MODEL,
    Flag("checkpoint_path", "string", None, "Run, TF1 checkpoint, .tar.gz or zoo name."),
    Flag(
        "export_path",
        "string",
        None,
        "Folder for a SavedModel; name.pb for a frozen graph; .tflite for LiteRT; .onnx for ONNX; "
        ".ckpt for a TF1 checkpoint. Several with commas between.",
        MAPPED,
    ),
    Flag("num_classes", "integer", 21, "Classes of a TF1 checkpoint; a model card's are checked."),
    replace(_DATASET, help="Data set of a TF1 checkpoint, for its class names.", origin=OWN),
    Flag("crop_size", "multi_integer", (513, 513), f"{_CROP} Give twice.", MAPPED),
    Flag("inference_scales", "multi_float", (1.0,), _SCALES),
    _FLIP,
    *_CRF,
    Flag("save_inference_graph", "boolean", False, "Beside a frozen graph, the graph as text."),
    _QUANTIZE,
    *_PORTABLE,
    *_VERIFY,
    *_SERVING,
)
COMPARE = (Flag("json", "string", None, "File to write the comparison to, for scripts.", OWN),)
# What an exported network has settled.
SETTLED_BY_EXPORT = (
    *MODEL,
    *RESIZE,
    replace(_DATASET, help="Data set of a TF1 checkpoint, for its class names.", origin=OWN),
    Flag("crop_size", "list", "513,513", _CROP, OWN),
    Flag("eval_scales", "multi_float", (1.0,), _SCALES),
    _FLIP,
    *_CRF,
    *_TILES,
)
PREDICT = (
    *SETTLED_BY_EXPORT,
    Flag(
        "checkpoint_dir",
        "string",
        None,
        "Run, TF1 checkpoint, .tar.gz or zoo name; or what export_model.py wrote: a SavedModel "
        "folder (that of its versions: the newest), .tflite or .onnx.",
    ),
    Flag(
        "input",
        "multi_string",
        None,
        "Image or video file, folder, pattern, or camera:0; give several times.",
        OWN,
    ),
    Flag(
        "output_dir",
        "string",
        None,
        "Folder for the predictions; the same command goes on in one that was stopped.",
        OWN,
    ),
    Flag(
        "outputs",
        "list",
        "mask,overlay",
        "What to write: mask, color, overlay, ids and probabilities (docs/prediction.md).",
        OWN,
    ),
    Flag(
        "id_map",
        "list",
        None,
        "What --outputs=ids has in place of each class. Not given: Cityscapes' label ids for its "
        "classes, else their numbers.",
        OWN,
    ),
    Flag(
        "skip_corrupt",
        "boolean",
        False,
        "Leave out and list files that cannot be read; false: the first one is an error.",
        OWN,
    ),
    Flag("batch_size", "integer", 1, "Images in one call of the network.", OWN),
    Flag(
        "max_megapixels",
        "float",
        None,
        "Largest image that is read. Not given: 25, or 179 with --tile_size.",
        OWN,
    ),
    Flag("max_frames", "integer", None, "Frames of a video or camera; none: to its end.", OWN),
    _COLORMAP,
)
MODEL_INFO = (
    *MODEL,
    Flag("preset", "enum", None, "Named network, which others change.", OWN, tuple(PRESETS)),
    Flag("num_classes", "integer", 21, "Channels of the logits.", OWN),
    Flag("image_size", "list", "513,513", "Height,width of the image.", OWN),
)
CRF_SEARCH = (
    *MODEL,
    *RESIZE,
    *_SCORED,
    _SKIP_CORRUPT,
    Flag("max_images", "integer", 100, "Images to search on, evenly spaced in the split.", OWN),
    Flag("ranges", "enum", "v2", "Paper whose ranges are searched.", OWN, ("v1", "v2")),
    Flag("bi_w", "list", None, "Values to search in place of the paper's.", OWN),
    Flag("bi_xy", "list", None, "Values to search in place of the paper's.", OWN),
    Flag("bi_rgb", "list", None, "Values to search in place of the paper's.", OWN),
    replace(_CRF_PARAMS, help="CRF whose other parameters are kept; not given: the paper's."),
)
# Flags of pretraining that mean there what they mean in train.py.
_SHARED_WITH_TRAIN = {
    *("train_logdir", "log_steps", "save_interval_secs", "save_interval_steps", "momentum"),
    *("label_smoothing", "mixed_precision", "strategy", "num_clones", "tpu", "seed"),
    *("depth_multiplier", "divisible_by", "use_bounded_activation"),
    *("nas_stem_output_num_conv_filters", "nas_use_classification_head", "nas_remove_os32_stride"),
}
PRETRAIN = (
    *(flag for flag in TRAIN if flag.name in _SHARED_WITH_TRAIN),
    Flag("model_variant", "string", "xception_65", "Encoder.", OWN),
    Flag(
        "output_stride",
        "integer",
        32,
        "Size of the image over that of the features; free afterwards.",
        OWN,
    ),
    Flag(
        "image_folder",
        "string",
        None,
        "Folder of train/ and val/ with a folder of images for each class, or of these alone.",
        OWN,
    ),
    Flag(
        "val_fraction",
        "float",
        0.1,
        "Share of each class's images to validate on, if --image_folder has no train/.",
        OWN,
    ),
    Flag(
        "dataset_dir",
        "string",
        None,
        "Folder of records with image/encoded and image/class/label; not images.",
        OWN,
    ),
    Flag("train_split", "string", "train", "Split, or folder, to train on.", OWN),
    Flag("val_split", "string", "val", "Split, or folder, to validate on; empty for none.", OWN),
    Flag(
        "num_classes", "integer", None, "Classes of records; not given: those of labels.txt.", OWN
    ),
    Flag(
        "label_offset", "integer", 1, "Label of the first class in records: ImageNet's is 1.", OWN
    ),
    Flag("train_image_size", "integer", 299, "Side of the square images.", OWN),
    Flag("train_batch_size", "integer", 32, "Images in a batch.", OWN),
    Flag("epochs", "float", 120.0, "Passes over the training images.", OWN),
    Flag("val_interval_epochs", "float", 1.0, "Epochs between validations.", OWN),
    Flag("base_learning_rate", "float", 0.05, "Learning rate in the beginning.", OWN),
    Flag("learning_rate_decay_factor", "float", 0.94, "Factor of a decay.", OWN),
    Flag("learning_rate_decay_epochs", "float", 2.0, "Epochs between decays.", OWN),
    Flag("weight_decay", "float", 0.00004, "L2 factor on kernels.", OWN),
    Flag("dropout_rate", "float", 0.5, "Share of the mean features that are dropped.", OWN),
    Flag("min_area", "float", 0.08, "Least share of an image's area in a training crop.", OWN),
    Flag("max_aspect_ratio", "float", 4 / 3, "Largest ratio of a crop's sides, either way.", OWN),
    Flag(
        "central_fraction",
        "float",
        0.875,
        "Side of the square to validate on, over an image's shorter one.",
        OWN,
    ),
    Flag(
        "batch_norm_decay",
        "float",
        None,
        "Decay of moving statistics; not given: one that suits the number of steps.",
        OWN,
    ),
)
SCRIPTS = {
    "train.py": TRAIN,
    "eval.py": EVAL,
    "vis.py": VIS,
    "export_model.py": EXPORT,
    "predict.py": PREDICT,
    "model_info": MODEL_INFO,
    "crf": CRF_SEARCH,
    "pretrain": PRETRAIN,
    "compare": COMPARE,
}
_REQUIRED = {
    "train.py": ("dataset_dir", "train_logdir"),
    "eval.py": ("checkpoint_dir", "dataset_dir"),
    "vis.py": ("checkpoint_dir", "vis_logdir"),
    "export_model.py": ("checkpoint_path", "export_path"),
    "predict.py": ("checkpoint_dir", "input", "output_dir"),
    "model_info": (),
    "crf": ("checkpoint_dir", "dataset_dir"),
    "pretrain": ("train_logdir",),
    "compare": (),
}
# Required flags that another one makes unnecessary, and its value that does.
_NOT_REQUIRED_WITH: dict[str, dict[str, tuple[str, Any]]] = {
    "train.py": {name: ("dry_run", True) for name in _REQUIRED["train.py"]},
    "vis.py": {"checkpoint_dir": ("what", "inputs")},
}


def given(name: str) -> bool:
    """Whether the script has a flag and the command line gives it."""
    return name in flags.FLAGS and not flags.FLAGS[name].using_default_value


def define_flags(script: str) -> None:
    """Tells absl of a script's flags."""
    for flag in SCRIPTS[script]:
        flag.define()
    spared = _NOT_REQUIRED_WITH.get(script, {})
    flags.mark_flags_as_required([name for name in _REQUIRED[script] if name not in spared])
    for name, (other, value) in spared.items():
        flags.register_multi_flags_validator(
            [name, other],
            lambda values, n=name, o=other, v=value: values[o] == v or values[n] is not None,
            message=f"Flag --{name} must have a value, unless --{other}"
            f"{'' if value is True else f'={value}'} is given.",
        )


def report_obsolete_flags(script: str) -> None:
    """Prints, for each obsolete flag that is given, what there is in its place."""
    for flag in SCRIPTS[script]:
        if flag.origin == OBSOLETE and not flags.FLAGS[flag.name].using_default_value:
            print(f"--{flag.name} has no effect: {flag.help}.")


def flags_table() -> str:
    """All flags as a Markdown table, for docs/flags.md."""
    scripts: dict[Flag, list[str]] = {}
    for script, table in SCRIPTS.items():
        for flag in table:
            scripts.setdefault(flag, []).append(script.removesuffix(".py"))
    rows = ["| flag | scripts | type | default | kin | what it does |", "|---|---|---|---|---|---|"]
    for flag, names in sorted(scripts.items(), key=lambda item: item[0].name):
        default = "" if flag.default in (None, "") else f"`{flag.default}`"
        cells = (f"`--{flag.name}`", ", ".join(names), flag.kind, default, flag.origin, flag.help)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"

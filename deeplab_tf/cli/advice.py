"""What to tell of a training run before it starts."""

from deeplab_tf.backbones import get_backbone
from deeplab_tf.config import ModelConfig, TrainConfig

# v3's Table 9: 12 images are within 1 % of 16, 8 are not.
_ENOUGH_IMAGES = 12


def batch_norm_warning(
    model: ModelConfig, train: TrainConfig, batch_size: int, *, split_size: int
) -> str | None:
    """What is wrong with batch norm over few images, and what helps; None if nothing is.

    Args:
        model: The network.
        train: The optimisation.
        batch_size: Images that batch norm takes its statistics from: those of one replica in one
            step, however many steps' gradients are added up, unless it is synchronised.
        split_size: Images of the training split. Where there are fewer than in a batch, it has some
            of them several times, and crops of one image tell little more than it does.
    """
    has_batch_norm = get_backbone(model.model_variant).has_batch_norm or not model.fc_filters
    trained = train.fine_tune_batch_norm and not train.freeze_batch_norm
    images = min(batch_size, split_size)
    if not (has_batch_norm and trained) or images >= _ENOUGH_IMAGES:
        return None
    warning = (
        f"batch norm takes its statistics from {images} images at a time; DeepLabv3 "
        "(arXiv 1706.05587, Table 9) has 64.43, 75.76, 76.49 and 77.21 % mean IoU with 4, 8, 12 "
        "and 16. "
    )
    if split_size < batch_size:
        return (
            f"{warning}The training split has no more, and a batch of {batch_size} holds some of "
            "them several times: take --fine_tune_batch_norm=false with a pretrained checkpoint."
        )
    return (
        f"{warning}In this order: --fine_tune_batch_norm=false with a pretrained checkpoint, a "
        "larger --train_batch_size (accumulated gradients do not count), or batch norm "
        "synchronised over several devices."
    )

"""What `python -m deeplab_tf.model_info` does."""

from absl import flags

from deeplab_tf.cli import cards

FLAGS = flags.FLAGS


def model_info() -> None:
    """`python -m deeplab_tf.model_info`: prints parameters and Multiply-Adds of a network."""
    from deeplab_tf.model_info import model_info as count

    print(count(cards.model_from_flags(FLAGS.num_classes), cards.size("image_size")))

"""Flags of the converters that read image files: what images are stored as."""

from typing import Any

from absl import flags

from deeplab_tf.data import channels

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags that the other functions here read."""
    flags.DEFINE_integer(
        "input_channels", 3, "Channels: 1 grey, 3 RGB, 4 RGB and one more.", lower_bound=1
    )
    flags.DEFINE_enum("bit_depth", "8", ["8", "16"], "Bits of each channel.")
    flags.DEFINE_list(
        "value_range",
        None,
        "low,high: values of the images that are 0 and 255 to the network, such as 0,4095 for "
        "sensors of 12 bits. Default: all that --bit_depth has.",
    )


def stored() -> dict[str, Any]:
    """What images are stored as: arguments of a `FileReader` and of `convert_samples`."""
    return {"input_channels": FLAGS.input_channels, "bit_depth": int(FLAGS.bit_depth)}


def extensions() -> tuple[str, ...]:
    """Extensions of the files that such images may come in."""
    return channels.extensions(**stored())


def value_range() -> tuple[float, float]:
    """The values that are 0 and 255 to the network."""
    if FLAGS.value_range is None:
        return 0, 2 ** int(FLAGS.bit_depth) - 1
    try:
        low, high = map(float, FLAGS.value_range)
    except ValueError:
        given = ",".join(FLAGS.value_range)
        raise ValueError(f"--value_range={given}: expected two numbers, low,high") from None
    if low >= high:
        raise ValueError(f"--value_range={low:g},{high:g}: expected low below high")
    return low, high

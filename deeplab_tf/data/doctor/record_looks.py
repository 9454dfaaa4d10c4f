"""One record, looked at by itself."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from deeplab_tf.data import records
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.looks import Look, look_at_labels, look_at_stored_image
from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.data.images import load_image
from deeplab_tf.data.masks import is_eight_bit_grey_png


@dataclass(frozen=True)
class StoredRecord:
    """A record and where it is.

    Attributes:
        split: Its split.
        shard: Name of its file.
        number: Its number in the file, from 0.
        data: The serialized example.
        ignore_label: Label of void pixels.
    """

    split: str
    shard: str
    number: int
    data: bytes
    ignore_label: int

    def look(self, *, pixels: bool = True) -> Look:
        """Decodes the label and the image; of the image only the size unless `pixels`."""
        place = f"{self.shard}, record {self.number}"
        look = Look((self.split,), place, place)
        try:
            parsed = records.parse_example(tf.constant(self.data))
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            # TensorFlow's message quotes the bytes, and then cannot be decoded itself.
            look.add(kinds.FOREIGN_FEATURES, place, "no tf.train.Example with these features")
            return look
        example = {name: value.numpy() for name, value in parsed.items()}
        if not (example["image_bytes"] and example["label_bytes"]):
            found = f"image or label missing; features: {self._features()}"
            look.add(kinds.FOREIGN_FEATURES, place, found)
            return look
        look.image = look.mask = place = f"{place} ({example['filename'].decode(errors='replace')})"
        labels = self._labels(look, example["label_bytes"])
        try:
            look_at_stored_image(look, example["image_bytes"], place, labels, pixels=pixels)
        except FaultyFileError as error:
            look.add_fault(error, place, place)
        recorded = (int(example["height"]), int(example["width"]))
        if look.size is not None and recorded != look.size:
            found = "recorded {1}x{0} (width x height), ".format(*recorded)
            found += "the image is {1}x{0}".format(*look.size)
            look.add(kinds.RECORDED_SIZE_DIFFERS, place, found)
        return look

    def _features(self) -> str:
        try:
            features = tf.train.Example.FromString(self.data).features.feature
        except DecodeError:  # TensorFlow's own parser overlooks more
            return "not readable"
        return ", ".join(sorted(features)) or "none"

    def _labels(self, look: Look, data: bytes) -> np.ndarray | None:
        try:
            image = load_image(data, look.mask)
        except FaultyFileError as error:
            look.add_fault(error, look.mask, look.mask)
            return None
        if not is_eight_bit_grey_png(data):
            found = f"a label in {image.format}, mode {image.mode}"
            look.add(kinds.LABEL_IS_NO_GREY_PNG, look.mask, found)
            return None
        labels = np.asarray(image)
        look_at_labels(look, labels, ignore_label=self.ignore_label)
        return labels

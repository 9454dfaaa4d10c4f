"""One record, looked at by itself."""

import struct
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from deeplab_tf.data import images, records
from deeplab_tf.data.channel_files import PNG
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.image_looks import (
    look_at_kind,
    look_at_orientation,
    look_at_pixels,
    look_at_size,
)
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.looks import Look, look_at_labels
from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.data.masks import is_eight_bit_grey_png

_PNG_HEADER = 26  # bytes up to the colour type
_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "a palette", 4: "grey with alpha", 6: "RGB with alpha"}


@dataclass(frozen=True)
class StoredRecord:
    """A record and where it is.

    Attributes:
        split: Its split.
        shard: Name of its file.
        number: Its number in the file, from 0.
        data: The serialized example.
        ignore_label: Label of void pixels.
        images: What the image is to be.
    """

    split: str
    shard: str
    number: int
    data: bytes
    ignore_label: int
    images: ImageSpec

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
            look_at_image = self._look_at_photo if self.images.is_photo else self._look_at_png
            look_at_image(look, example["image_bytes"], labels, pixels=pixels)
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
            image = images.load_image(data, look.mask)
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

    def _look_at_photo(
        self, look: Look, data: bytes, labels: np.ndarray | None, *, pixels: bool
    ) -> None:
        """Looks at 8-bit RGB or grey, whose pixels TensorFlow takes as they are stored."""
        load = images.load_image if pixels else images.open_image
        image = load(data, look.image)
        fits = look_at_size(look, (image.height, image.width), labels, mask="label")
        if pixels:
            look_at_kind(look, image, data, spec=self.images)
            if fits:
                look_at_orientation(look, image, look.image, labels)
            rgb = np.asarray(images.to_rgb(image, look.image))
            look_at_pixels(look, rgb, spec=self.images)

    def _look_at_png(
        self, look: Look, data: bytes, labels: np.ndarray | None, *, pixels: bool
    ) -> None:
        """Looks at an image of other channels or bits.

        Not by Pillow, which takes many large channels for a decompression bomb.
        """
        spec = self.images
        if not data.startswith(PNG) or len(data) < _PNG_HEADER:
            image = images.load_image(data, look.image)
            found = f"a {image.format}; {spec.describe()} are PNGs"
            look.add(kinds.IMAGE_OF_OTHER_CHANNELS, look.image, found)
            return
        width, rows, bits, color_type = struct.unpack_from(">IIBB", data, 16)
        planes = records.planes(spec.input_channels)
        expected = records.color_type(spec.input_channels)
        if bits != spec.bit_depth:
            found = f"{bits} bits per channel; expected {spec.bit_depth}"
            look.add(kinds.IMAGE_OF_OTHER_BITS, look.image, found)
        elif color_type != expected:
            found = f"a PNG of {_COLOR_TYPES.get(color_type, color_type)}; {spec.describe()} are of"
            look.add(kinds.IMAGE_OF_OTHER_CHANNELS, look.image, f"{found} {_COLOR_TYPES[expected]}")
        elif rows % planes:
            found = f"{rows} rows; {planes} channels, one above the other, have a multiple of that"
            look.add(kinds.IMAGE_OF_OTHER_CHANNELS, look.image, found)
        else:
            look_at_size(look, (rows // planes, width), labels, mask="label")
            if pixels:
                look_at_pixels(look, self._decoded(look, data), spec=spec)

    def _decoded(self, look: Look, data: bytes) -> np.ndarray:
        spec = self.images
        try:
            return records.decode_image(
                tf.constant(data), channels=spec.input_channels, bit_depth=spec.bit_depth
            ).numpy()
        except tf.errors.InvalidArgumentError as error:
            found = f"{look.image}: damaged or truncated ({records.error_words(error)})"
            raise FaultyFileError(found, "undecodable") from None

"""One image file and its mask file, looked at by themselves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_tf.data import channels, images
from deeplab_tf.data.channel_files import NPY, TIFF, decode_stored
from deeplab_tf.data.doctor import kinds
from deeplab_tf.data.doctor.image_looks import (
    look_at_kind,
    look_at_orientation,
    look_at_pixels,
    look_at_size,
    look_for_colors,
    look_for_frames,
)
from deeplab_tf.data.doctor.image_spec import ImageSpec
from deeplab_tf.data.doctor.looks import Color, Look, below, look_at_labels
from deeplab_tf.data.faults import FaultyFileError
from deeplab_tf.data.masks import labels_of, palette_of
from deeplab_tf.data.pairing import Sample
from deeplab_tf.data.reading import FileReader


@dataclass(frozen=True)
class FilePair:
    """An image file and a mask file.

    Attributes:
        sample: The files.
        splits: The splits that they are in.
        read: How masks are read.
        images: What the image is to be.
        root: The folder that is examined.
    """

    sample: Sample
    splits: tuple[str, ...]
    read: FileReader
    images: ImageSpec
    root: Path

    def look(self) -> Look:
        """Decodes both."""
        image_path, mask_path = self.sample.image_path, self.sample.mask_path
        look = Look(self.splits, below(image_path, self.root), below(mask_path, self.root))
        labels = None
        try:
            labels = self._look_at_mask(look)
        except (OSError, FaultyFileError) as error:
            look.add_fault(error, look.mask, mask_path)
        try:
            self._look_at_image(look, labels)
        except (OSError, FaultyFileError) as error:
            look.add_fault(error, look.image, image_path)
        return look

    def _look_at_image(self, look: Look, labels: np.ndarray | None) -> None:
        path, spec = self.sample.image_path, self.images
        data = path.read_bytes()
        stored_as = {"input_channels": spec.input_channels, "bit_depth": spec.bit_depth}
        if channels.is_photo(data, **stored_as):
            image = images.load_image(data, path)
            look_at_kind(look, image, data, spec=spec)
            look_at_orientation(look, image, path, labels)
            convert = images.to_rgb if spec.input_channels == 3 else images.to_grey
            pixels = np.asarray(images.upright(convert(image, path)))
        else:
            stored = decode_stored(data, path)
            look_at_size(look, (stored.shape[0], stored.shape[1]), labels)
            pixels = channels.fit_channels(stored, path, **stored_as)
            if spec.input_channels == 3 and stored.shape[2] == 1:
                look.add(kinds.IMAGE_IS_GREY, look.image, "one channel")
            elif spec.input_channels == 1 and stored.shape[2] == 3:
                look_for_colors(look, stored)
            if not data.startswith((NPY, *TIFF)):  # whose pages are channels
                look_for_frames(look, images.open_image(data, path))
        look_at_pixels(look, pixels, spec=spec)

    def _look_at_mask(self, look: Look) -> np.ndarray:
        path = self.sample.mask_path
        data = path.read_bytes()
        image = images.load_image(data, path)
        labels = labels_of(
            image,
            data,
            path,
            mask_type=self.read.mask_type,
            ignore_label=self.read.ignore_label,
            color_table=self.read.color_table,
            label_map=self.read.label_map,
        )
        look_at_labels(look, labels, ignore_label=self.read.ignore_label)
        look.colors = self._colors(image, look.counts)
        return labels

    def _colors(self, image: Image.Image, counts: np.ndarray | None) -> dict[int, Color]:
        """The colours of the labels that occur, where the labels are a palette's indices."""
        palette = palette_of(image)
        if palette is None or counts is None or self.read.label_map or self.read.color_table:
            return {}
        used = np.flatnonzero(counts).tolist()
        return {
            label: (r, g, b) for label, (r, g, b) in zip(used, palette[used].tolist(), strict=True)
        }

"""Data sets of TensorFlow Datasets as a source of samples."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np

from deeplab_tf.data.images import EXTENSIONS, encode_image_bytes, load_image
from deeplab_tf.data.known_datasets import CITYSCAPES_TRAIN_IDS, KNOWN_DATASETS
from deeplab_tf.data.masks import Mask, decode_mask, encode_mask
from deeplab_tf.data.reading import LabelledImage
from deeplab_tf.data.records import READ_ERRORS

# Features that hold an image's own name, the most telling first.
_NAME_KEYS = ("file_name", "filename", "image_name", "image_id", "name", "id")

# Those of ADE20K's 150 classes that are no objects (instanceInfo100 has the others).
# fmt: off
_ADE20K_STUFF = (
    1, 2, 3, 4, 5, 6, 7, 10, 12, 14, 17, 18, 22, 26, 27, 29, 30, 35, 41, 47, 49, 52, 53, 55, 60, 61,
    62, 64, 69, 78, 80, 85, 92, 95, 97, 100, 101, 102, 106, 107, 110, 114, 115, 118, 123, 129, 132,
    141, 142, 146,
)
# fmt: on


@dataclass(frozen=True)
class TfdsLayout:
    """Where a data set's features have image and mask, and what the mask's values mean.

    Attributes:
        image_key: Feature of the image.
        mask_key: Feature of the mask.
        mask_channel: Channel of the mask that holds the classes; None if it has one.
        label_map: Label by value in the mask; None keeps all values.
        class_names: One name per label; None if the data set does not give them.
        palette: One RGB colour per class; None for VOC's.
        note: What users should know.
    """

    image_key: str
    mask_key: str
    mask_channel: int | None = None
    label_map: dict[int, int] | None = None
    class_names: tuple[str, ...] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    note: str = ""


KNOWN_LAYOUTS = {
    "oxford_iiit_pet": TfdsLayout(
        "image",
        "segmentation_mask",
        label_map={1: 0, 2: 1, 3: 2},
        class_names=("pet", "background", "border"),
    ),
    "cityscapes": TfdsLayout(
        "image_left",
        "segmentation_label",
        label_map=CITYSCAPES_TRAIN_IDS,
        class_names=KNOWN_DATASETS["cityscapes"].class_names,
        palette=KNOWN_DATASETS["cityscapes"].palette,
    ),
    "scene_parse150": TfdsLayout(
        "image",
        "annotation",
        mask_channel=0,
        class_names=(
            "other",
            *(
                name
                for label, name in enumerate(KNOWN_DATASETS["ade20k"].class_names)
                if label > 0 and label not in _ADE20K_STUFF
            ),
        ),
        note="TFDS takes scene_parse150 from the instance annotations: their red channel has 100 "
        "kinds of objects, and nothing is known of walls, sky and the like. For the 150 classes of "
        "the benchmark use build_ade20k_data.py.",
    ),
}


@dataclass(frozen=True)
class TfdsSample:
    """The example at a position of a split."""

    name: str
    split: str
    index: int


def make_builder(tfds_name: str, data_dir: str | None) -> Any:
    """The tfds.core.DatasetBuilder of a name such as "cityscapes/semantic_segmentation:1.0.0".

    Raises:
        ImportError: tensorflow-datasets is not installed.
        ValueError: There is no such data set, or not in that version.
    """
    tfds = _tfds()
    try:
        return tfds.builder(tfds_name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TFDS knows no data set {tfds_name}, and there is none in "
            f"{data_dir or '~/tensorflow_datasets'}"
        ) from error
    except AssertionError as error:  # of a version that is not there
        raise ValueError(f"TFDS has no {tfds_name}: {error}") from error


def find_layout(
    builder: Any, *, image_key: str | None = None, mask_key: str | None = None
) -> TfdsLayout:
    """The layout of a known data set, else one of an image and a mask.

    Args:
        builder: Of the data set.
        image_key: Feature of the image. None: the only other one, of three channels if one has.
        mask_key: Feature of the mask. None: the only image with labels, else the only one of one
            channel.

    Raises:
        ValueError: There is no such feature, or not exactly one that may be meant.
    """
    known = KNOWN_LAYOUTS.get(builder.name)
    if known and image_key in (None, known.image_key) and mask_key in (None, known.mask_key):
        image_key, mask_key = known.image_key, known.mask_key
    else:
        known = None
    image_type, labelled_type = _tfds().features.Image, _tfds().features.LabeledImage
    images = {k: f for k, f in builder.info.features.items() if isinstance(f, image_type)}
    labelled = [key for key, feature in images.items() if isinstance(feature, labelled_type)]
    masks = labelled or [key for key, feature in images.items() if feature.shape[-1] == 1]
    mask_key = _choose(mask_key, masks, images, builder=builder, flag="mask_key")
    rest = [key for key in images if key != mask_key and key not in labelled]
    colored = [key for key in rest if images[key].shape[-1] == 3]
    image_key = _choose(image_key, colored or rest, images, builder=builder, flag="image_key")
    if known:
        return known
    names = tuple(images[mask_key].names) if mask_key in labelled else None
    return TfdsLayout(image_key, mask_key, class_names=names)


def _choose(
    given: str | None,
    candidates: Sequence[str],
    images: Mapping[str, Any],
    *,
    builder: Any,
    flag: str,
) -> str:
    chosen = candidates if given is None else [key for key in images if key == given]
    if len(chosen) == 1:
        return chosen[0]
    listed = ", ".join(f"{key} {feature.shape}" for key, feature in sorted(images.items()))
    wanted = (
        f"no image feature {given}" if given else f"{len(candidates)} features that may be meant"
    )
    raise ValueError(
        f"{builder.info.full_name}: {wanted}; give --{flag}, one of its images: {listed or 'none'}"
    )


def tfds_samples(builder: Any, split: str, *, layout: TfdsLayout) -> list[TfdsSample]:
    """The samples of a split in the order of its files, which are read once for the names.

    Raises:
        ValueError: There is no such split, or it is empty or damaged.
    """
    tfds = _tfds()
    features = builder.info.features
    texts = [
        key
        for key in _NAME_KEYS
        if key in features and isinstance(features[key], tfds.features.Text)
    ]
    key = texts[0] if texts else layout.mask_key
    samples = []
    for index, example in enumerate(_examples(builder, split, keys=[key])):
        name = _base_name(example[key].decode()) if texts else f"{split}_{index:06d}"
        samples.append(TfdsSample(name, split, index))
    if not samples:
        raise ValueError(f"{builder.info.full_name}: the split {split} is empty")
    return samples


def _base_name(path: str) -> str:
    name = PurePosixPath(path)  # names without extension may hold dots
    return name.stem if name.suffix.lower() in EXTENSIONS else name.name


@dataclass(frozen=True)
class TfdsReader:
    """Reads samples of a TFDS data set; those of neighbouring positions in one sweep.

    Attributes:
        tfds_name: Name with version, so that another one is another source.
        data_dir: Where it lies; None for TFDS's own place.
        layout: Of its features.
        ignore_label: Value of void in masks, if `layout.label_map` does not name it.
    """

    tfds_name: str
    data_dir: str | None
    layout: TfdsLayout
    ignore_label: int = 255

    def __call__(self, sample: TfdsSample) -> LabelledImage:
        """Reads a sample; raises ValueError, naming the data set and the position."""
        source = f"{self.tfds_name}, {sample.split}[{sample.index}] ({sample.name})"
        keys = (self.layout.image_key, self.layout.mask_key)
        example = _sweep(self.tfds_name, self.data_dir, keys).read(sample.split, sample.index)
        mask = self._decode_mask(example[self.layout.mask_key], f"{source}, {keys[1]}")
        height, width = mask.labels.shape
        image = encode_image_bytes(
            example[self.layout.image_key], f"{source}, {keys[0]}", mask_size=(height, width)
        )
        return LabelledImage(image, mask, mask_source=source)

    def _decode_mask(self, data: bytes, source: str) -> Mask:
        if self.layout.mask_channel is not None:
            channel = load_image(data, source).getchannel(self.layout.mask_channel)
            data = encode_mask(np.asarray(channel)).png
        return decode_mask(
            data, source, ignore_label=self.ignore_label, label_map=self.layout.label_map
        )


class _Sweep:
    """An open iterator over a data set, put to another place only when a sample is not the next."""

    def __init__(self, builder: Any, keys: Sequence[str]) -> None:
        self._builder = builder
        self._keys = keys
        self._next: tuple[str, int] | None = None
        self._examples: Iterator[dict[str, bytes]] = iter(())

    def read(self, split: str, index: int) -> dict[str, bytes]:
        if (split, index) != self._next:
            self._examples = _examples(self._builder, split, start=index, keys=self._keys)
        self._next = None
        example = next(self._examples, None)
        if example is None:
            raise ValueError(f"{self._builder.info.full_name}: {split} ends before {index}")
        self._next = (split, index + 1)
        return example


_open = threading.local()


def _sweep(tfds_name: str, data_dir: str | None, keys: tuple[str, str]) -> _Sweep:
    """This thread's iterator; there is one, for memory's sake."""
    source = (tfds_name, data_dir, keys)
    if getattr(_open, "source", None) != source:
        _open.source, _open.sweep = source, _Sweep(make_builder(tfds_name, data_dir), keys)
    return _open.sweep


def _examples(
    builder: Any, split: str, *, keys: Sequence[str], start: int = 0
) -> Iterator[dict[str, bytes]]:
    """Yields features as they are stored, image files among them, in the order of the files."""
    tfds = _tfds()
    images = [k for k in keys if isinstance(builder.info.features[k], tfds.features.Image)]
    decoders = tfds.decode.PartialDecoding(
        dict.fromkeys(keys, True), decoders=dict.fromkeys(images, tfds.decode.SkipDecoding())
    )
    try:
        dataset = builder.as_dataset(
            split=tfds.core.ReadInstruction(split, from_=start, unit="abs") if start else split,
            decoders=decoders,
            shuffle_files=False,
            # Interleaved, the order from a start on would be another than that from the beginning.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        yield from dataset.as_numpy_iterator()
    except READ_ERRORS as error:
        raise ValueError(f"{builder.info.full_name}, {split}: damaged ({error})") from error


def _tfds() -> ModuleType:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "TFDS is not installed: pip install 'deeplab-tf[tfds]', or pip install -e '.[tfds]' in "
            "a checkout"
        ) from error
    return tfds

"""The Semantic Boundaries Dataset (Hariharan et al., ICCV 2011), which makes VOC's train larger."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_tf.data.masks import encode_mask
from deeplab_tf.data.pairing import Sample, voc_splits
from deeplab_tf.data.reading import FileReader, LabelledImage, with_image


def augmented_train_split(
    voc: Mapping[str, list[Sample]], sbd_root: str | os.PathLike[str]
) -> list[Sample]:
    """VOC's train, then the images of SBD's train and val that are in neither VOC's train nor val.

    With the complete data sets these are the 10582 images of the papers and the reference: 1464 of
    VOC, 6820 of SBD's train and 2298 of its val.

    Args:
        voc: Splits of VOC, train and val among them. Where both have an image, VOC's mask is taken:
            it is finer, and has void along the edges.
        sbd_root: SBD as unpacked: the folder benchmark_RELEASE, or the folder dataset in it with
            img/, cls/, train.txt and val.txt.

    Raises:
        FileNotFoundError: `sbd_root` is no such folder.
        ImportError: scipy is not installed.
        ValueError: A split is missing, or a list names an image that is not there.
    """
    _loadmat()
    root = Path(sbd_root)
    root = root / "dataset" if (root / "dataset").is_dir() else root
    if not (root / "cls").is_dir():
        raise FileNotFoundError(
            f"folder {root / 'cls'} not found; expected the folder benchmark_RELEASE that SBD's "
            "benchmark.tgz unpacks to (python datasets/download.py sbd)"
        )
    sbd = voc_splits(
        image_dir=root / "img", mask_dir=root / "cls", list_dir=root, mask_extensions=(".mat",)
    )
    for owner, splits in (("VOC", voc), (f"SBD ({root})", sbd)):
        if absent := {"train", "val"} - splits.keys():
            raise ValueError(
                f"train_aug needs the lists train.txt and val.txt of {owner}; "
                f"{' and '.join(sorted(absent))} not found"
            )
    known = {sample.name for sample in (*voc["train"], *voc["val"])}
    more = {s.name: s for s in (*sbd["train"], *sbd["val"]) if s.name not in known}
    return [*voc["train"], *more.values()]


@dataclass(frozen=True)
class VocReader:
    """Reads samples of VOC (PNG masks) and of SBD (.mat masks)."""

    ignore_label: int = 255
    input_channels: int = 3
    bit_depth: int = 8

    def __call__(self, sample: Sample) -> LabelledImage:
        """Reads a sample; raises OSError or ValueError, naming the file."""
        if sample.mask_path.suffix != ".mat":
            return FileReader(
                ignore_label=self.ignore_label,
                input_channels=self.input_channels,
                bit_depth=self.bit_depth,
            )(sample)
        mask = encode_mask(read_sbd_labels(sample.mask_path))
        return with_image(
            mask, sample, input_channels=self.input_channels, bit_depth=self.bit_depth
        )


def read_sbd_labels(path: Path) -> np.ndarray:
    """Reads the classes of one of SBD's files cls/*.mat.

    Returns:
        uint8 [h, w], VOC's labels 0..20. SBD has no void.

    Raises:
        ImportError: scipy is not installed.
        OSError: The file cannot be read.
        ValueError: It is damaged, or no file of SBD's.
    """
    loadmat = _loadmat()
    with path.open("rb") as file:
        try:
            labels = loadmat(file)["GTcls"]["Segmentation"][0, 0]
        except Exception as error:  # Damaged files raise nearly anything.
            raise ValueError(
                f"{path}: damaged, or no file of SBD with GTcls.Segmentation ({error})"
            ) from error
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(
            f"{path}: GTcls.Segmentation is {labels.dtype} {labels.shape}; expected uint8 [h, w]"
        )
    return labels


def _loadmat() -> Callable[..., dict[str, Any]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            "the masks of SBD are .mat files, which need scipy: pip install 'deeplab-tf[sbd]', or "
            "pip install -e '.[sbd]' in a checkout"
        ) from error
    return loadmat

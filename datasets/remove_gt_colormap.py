"""Turns coloured masks (VOC's SegmentationClass) into grey PNGs of class indices.

    python datasets/remove_gt_colormap.py \
        --original_gt_folder=VOC2012/SegmentationClass --output_dir=VOC2012/SegmentationClassRaw

build_voc2012_data.py reads palette masks as they are, so this is for other programs, and for masks
that lost their palette: RGB masks in VOC's colours become class indices too. Differs from the
reference: there RGB masks stay RGB.
"""

from pathlib import Path

from absl import flags
from tqdm import tqdm

from deeplab_tf.cli import conversion
from deeplab_tf.colormap import VOID_COLOR
from deeplab_tf.data.class_table import ColorTable
from deeplab_tf.data.images import load_image
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.data.masks import Mask, read_mask
from deeplab_tf.data.output import check_output, move_into, temporary_sibling
from deeplab_tf.data.pairing import raise_problems

_VOC = KNOWN_DATASETS["pascal_voc_seg"]
_VOC_COLORS = ColorTable(
    _VOC.class_names,
    _VOC.palette,
    {color: label for label, color in enumerate(_VOC.palette)} | {VOID_COLOR: _VOC.ignore_label},
)

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "original_gt_folder", "./VOCdevkit/VOC2012/SegmentationClass", "Folder of coloured masks."
)
flags.DEFINE_string("segmentation_format", "png", "Extension of the coloured masks.")
flags.DEFINE_string(
    "output_dir", "./VOCdevkit/VOC2012/SegmentationClassRaw", "Folder to write the grey PNGs to."
)
flags.DEFINE_bool("overwrite", False, "Replace the masks in an output folder that exists.")


def read_indices(path: Path) -> Mask:
    """Reads palette indices or grey values as they are, and RGB by VOC's colours."""
    colored = load_image(path.read_bytes(), path).mode in ("RGB", "RGBA")
    # Grey is a colour of VOC's too (car), so a mask that is all grey must not count as indices.
    return read_mask(path, color_table=_VOC_COLORS) if colored else read_mask(path)


def main(_: list[str]) -> None:
    """Converts every mask of the folder, or none."""
    folder = Path(FLAGS.original_gt_folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder of masks {folder} not found")
    paths = sorted(folder.glob(f"[!.]*.{FLAGS.segmentation_format}"))
    if not paths:
        raise ValueError(f"folder {folder} holds no *.{FLAGS.segmentation_format} file")
    check_output(FLAGS.output_dir, overwrite=FLAGS.overwrite)
    problems = []
    with temporary_sibling(FLAGS.output_dir) as temporary:
        # disable=None: no bar where there is no terminal.
        for path in tqdm(paths, unit="mask", disable=None):
            try:
                mask = read_indices(path)
            except (OSError, ValueError) as error:
                problems.append(str(error))
            else:
                (temporary / f"{path.stem}.png").write_bytes(mask.png)
        raise_problems(
            problems,
            hint="RGB masks are read by the colours of PASCAL VOC; build_folder_data.py "
            "--color_table=FILE converts masks of other colours.",
        )
        move_into(temporary, FLAGS.output_dir, last=f"{paths[-1].stem}.png")
    print(f"{len(paths)} masks of class indices written to {FLAGS.output_dir}.")


if __name__ == "__main__":
    conversion.run(main)

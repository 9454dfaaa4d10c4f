"""Generates a data set of textured, overlapping shapes in VOC layout and converts it to TFRecords.

    python datasets/build_shapes_data.py --output_dir=shapes

It needs no download and trains in minutes, yet has what makes segmentation hard: the ground colour
of a shape says nothing about its class, shapes hide each other, are cut by the image's border,
stand in uneven light, and have void pixels along their outlines, as in VOC. Outline and pattern
tell the class. The pictures are written in VOC layout and then take the same way as any other such
data, to `<output_dir>/tfrecord`. Each is a pure function of the seed, its split and its number.
"""

from pathlib import Path

import cv2
import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from deeplab_tf.cli import conversion
from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data import dataset_info
from deeplab_tf.data.convert import convert_samples
from deeplab_tf.data.output import check_output, move_into, temporary_sibling
from deeplab_tf.data.pairing import voc_splits
from deeplab_tf.data.reading import FileReader

CLASS_NAMES = ("background", "circle", "square", "triangle", "star", "ring")
VOID = 255

# Every class has a pattern on a ground of any colour. Those with an ink are drawn in it, the others
# are coloured noise: (blur as a share of the image's size, strength in grey levels).
_INKS = {
    "circle": (245, 245, 245),
    "square": (15, 15, 15),
    "triangle": (245, 215, 30),
    "ring": (40, 60, 225),
}
_NOISES = {"background": (0.08, 70), "star": (0.006, 200)}

_SUPERSAMPLING = 4

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output_dir", None, "Folder for the pictures; the records go to tfrecord/ in it.", required=True
)
flags.DEFINE_integer("num_train", 1000, "Number of training images.", lower_bound=1)
flags.DEFINE_integer("num_val", 100, "Number of validation images.", lower_bound=1)
flags.DEFINE_integer(
    "image_size", 160, "Longest side; each side is 0.8 to 1 times this.", lower_bound=48
)
flags.DEFINE_integer("seed", 0, "Seed of the pictures.", lower_bound=0)
flags.DEFINE_bool("overwrite", False, "Replace what an earlier run wrote to the same folder.")


def draw_scene(rng: np.random.Generator, *, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one picture.

    Args:
        rng: Source of all randomness.
        image_size: Longest side in pixels.

    Returns:
        The image, uint8 [h, w, 3] RGB, and its labels, uint8 [h, w], with void outlines.
    """
    height, width = rng.integers(round(0.8 * image_size), image_size + 1, 2).tolist()
    image = _texture("background", height, width, rng, unlike=[])
    labels = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(2, 5)):
        class_id = int(rng.integers(1, len(CLASS_NAMES)))
        name = CLASS_NAMES[class_id]
        coverage = _place_shape(name, labels, rng)
        # Colours are free, but a shape must not vanish into what is behind it.
        behind = (image * coverage[..., None]).sum(axis=(0, 1)) / coverage.sum()
        texture = _texture(name, height, width, rng, unlike=[behind])
        image += coverage[..., None] * (texture - image)
        labels[coverage >= 0.5] = class_id
    return _photograph(image, rng), _with_void_outlines(labels)


def write_voc(folder: Path, *, num_images: dict[str, int], image_size: int, seed: int) -> None:
    """Writes the pictures of all splits to `folder`, in VOC layout, with labels.txt."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    palette = voc_colormap(256).tobytes()
    with tqdm(total=sum(num_images.values()), unit="picture", disable=None) as progress:
        for split_number, (split, count) in enumerate(num_images.items()):
            names = [f"{split}_{index:05d}" for index in range(count)]
            for index, name in enumerate(names):
                rng = np.random.default_rng((seed, split_number, index))
                image, labels = draw_scene(rng, image_size=image_size)
                Image.fromarray(image).save(folder / f"JPEGImages/{name}.jpg", quality=92)
                mask = Image.fromarray(labels)
                mask.putpalette(palette)
                mask.save(folder / f"SegmentationClass/{name}.png")
                progress.update()
            listing = folder / f"ImageSets/Segmentation/{split}.txt"
            listing.write_text("\n".join(names) + "\n")
    (folder / "labels.txt").write_text("\n".join(CLASS_NAMES) + "\n")


def _place_shape(shape: str, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the coverage, float32 [h, w] in 0..1, of a shape at a place that is free enough."""
    height, width = labels.shape
    for _ in range(20):
        radius = rng.uniform(0.22, 0.32) * min(height, width)
        center = rng.uniform(0.1, 0.9, 2) * (width, height)
        coverage = _coverage(shape, height, width, center, radius, rng.uniform(0, 2 * np.pi))
        # Overlap is wanted, but what lies below must stay recognisable.
        inside = coverage >= 0.5
        if (labels[inside] > 0).mean() < 0.35:
            break
    return coverage


def _coverage(
    shape: str, height: int, width: int, center: np.ndarray, radius: float, angle: float
) -> np.ndarray:
    canvas = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    center, radius = center * _SUPERSAMPLING, radius * _SUPERSAMPLING
    middle = np.rint(center).astype(int).tolist()
    # Radii are chosen so that the areas are not too different.
    if shape == "circle":
        cv2.circle(canvas, middle, round(radius), 255, cv2.FILLED)
    elif shape == "ring":
        cv2.circle(canvas, middle, round(1.1 * radius), 255, cv2.FILLED)
        cv2.circle(canvas, middle, round(0.55 * radius), 0, cv2.FILLED)
    else:
        corners, outer, inner = {
            "square": (4, 1.2, 1.2 * np.cos(np.pi / 4)),
            "triangle": (3, 1.35, 1.35 * np.cos(np.pi / 3)),
            "star": (5, 1.35, 0.6),
        }[shape]
        turn = angle + np.arange(2 * corners) * np.pi / corners
        reach = radius * np.where(np.arange(2 * corners) % 2, inner, outer)
        points = center + reach[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 255)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _texture(
    class_name: str,
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    unlike: list[np.ndarray],
) -> np.ndarray:
    """Returns float32 [h, w, 3] in 0..255: the pattern of a class on a ground of any colour.

    The ground differs clearly from the RGB colours in `unlike`, and from the pattern's ink.
    """
    ink = np.array(_INKS[class_name]) if class_name in _INKS else None
    unlike = unlike if ink is None else [*unlike, ink]
    ground = rng.uniform(20, 235, 3)
    while any(np.abs(ground - color).max() < 70 for color in unlike):
        ground = rng.uniform(20, 235, 3)
    if ink is None:
        blur, strength = _NOISES[class_name]
        texture = ground + strength * _noise(height, width, rng, sigma=blur * max(height, width))
    else:
        patterns = {"circle": _dots, "square": _checker, "triangle": _stripes, "ring": _waves}
        texture = ground + patterns[class_name](height, width, rng)[..., None] * (ink - ground)
    return texture.clip(0, 255).astype(np.float32)


def _noise(height: int, width: int, rng: np.random.Generator, *, sigma: float) -> np.ndarray:
    """Returns blurred noise [h, w, 3] in -0.5..0.5."""
    noise = rng.standard_normal((height, width, 3), np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), max(sigma, 0.5))
    return (0.25 * noise / noise.std()).clip(-0.5, 0.5)


# The other patterns are [h, w] in 0..1: how much ink there is.


def _stripes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    u, _ = _turned_grid(height, width, rng)
    return _soft_step(np.sin(u))


def _checker(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    u, v = _turned_grid(height, width, rng)
    return _soft_step(np.sin(u) * np.sin(v))


def _dots(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    u, v = _turned_grid(height, width, rng)
    return _soft_step(np.cos(u) + np.cos(v) - 0.7)


def _waves(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    center_x, center_y = rng.uniform(-0.5, 1.5, 2) * (width, height)
    distance = np.hypot(x - center_x, y - center_y)
    bend = 2 * np.sin(np.arctan2(y - center_y, x - center_x) * 7)
    return 0.5 + 0.5 * np.sin(2 * np.pi * distance / rng.uniform(7, 12) + bend)


def _turned_grid(
    height: int, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the phases [h, w] of two perpendicular waves of the same random length."""
    y, x = np.mgrid[:height, :width]
    angle, length = rng.uniform(0, np.pi), rng.uniform(7, 13)
    phase = rng.uniform(0, 2 * np.pi, 2)
    scale = 2 * np.pi / length
    u = scale * (x * np.cos(angle) + y * np.sin(angle)) + phase[0]
    v = scale * (y * np.cos(angle) - x * np.sin(angle)) + phase[1]
    return u, v


def _soft_step(wave: np.ndarray) -> np.ndarray:
    # Hard steps would alias at these wavelengths.
    return (0.5 + 1.5 * wave).clip(0, 1)


def _photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds uneven light, contrast and sensor noise; returns uint8."""
    height, width, _ = image.shape
    slope_x, slope_y = rng.uniform(-0.25, 0.25, 2)
    light = rng.uniform(0.8, 1.2) + (
        slope_x * np.linspace(-1, 1, width) + slope_y * np.linspace(-1, 1, height)[:, None]
    )
    noise = rng.normal(0, rng.uniform(2, 10), image.shape)
    return np.rint(image * light[..., None] + noise).clip(0, 255).astype(np.uint8)


def _with_void_outlines(labels: np.ndarray) -> np.ndarray:
    kernel = np.ones((3, 3), np.uint8)
    outline = cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)
    return np.where(outline, np.uint8(VOID), labels)


def main(_: list[str]) -> None:
    """Draws and converts what the flags say and prints a summary."""
    check_output(FLAGS.output_dir, overwrite=FLAGS.overwrite)
    with temporary_sibling(FLAGS.output_dir) as folder:
        write_voc(
            folder,
            num_images={"train": FLAGS.num_train, "val": FLAGS.num_val},
            image_size=FLAGS.image_size,
            seed=FLAGS.seed,
        )
        splits = voc_splits(
            image_dir=folder / "JPEGImages",
            mask_dir=folder / "SegmentationClass",
            list_dir=folder / "ImageSets/Segmentation",
        )
        converted = convert_samples(
            splits,
            output_dir=folder / "tfrecord",
            name="shapes",
            read=FileReader(ignore_label=VOID),
            class_names=CLASS_NAMES,
            ignore_label=VOID,
        )
        move_into(folder, FLAGS.output_dir, last=dataset_info.FILENAME)
    print(converted.summary())


if __name__ == "__main__":
    conversion.run(main)

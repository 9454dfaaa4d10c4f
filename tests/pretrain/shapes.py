"""Images of one shape each, that are learnt in seconds: by their form, whatever the colours."""

import io
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image

CLASSES = ("cross", "disc", "ring", "stripes")


def shape_image(class_id: int, *seed: int) -> np.ndarray:
    """A shape of a class on noise, uint8 [h, w, 3], 48 to 64 pixels high and wide."""
    rng = np.random.default_rng([class_id, *seed])
    height, width = rng.integers(48, 65, 2).tolist()
    paper, ink = (rng.integers(low, low + 80, 3).tolist() for low in rng.permutation([0, 170]))
    image = np.full((height, width, 3), paper, np.uint8)
    centre = int(width * rng.uniform(0.4, 0.6)), int(height * rng.uniform(0.4, 0.6))
    radius = int(rng.integers(13, 19))
    if CLASSES[class_id] == "cross":
        x, y = centre
        cv2.line(image, (x - radius, y), (x + radius, y), ink, 5)
        cv2.line(image, (x, y - radius), (x, y + radius), ink, 5)
    elif CLASSES[class_id] == "disc":
        cv2.circle(image, centre, radius, ink, -1)
    elif CLASSES[class_id] == "ring":
        cv2.circle(image, centre, radius, ink, 4)
    else:
        image[:, (np.arange(width) // 4) % 2 == 0] = ink
    noise = rng.integers(-15, 16, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    """As a file has it."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, kind)
    return data.getvalue()


def write_folders(root: Path, *, train: int, val: int) -> None:
    """Writes `train` and `val` images of each class; JPEGs and PNGs in turns."""
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        for class_id, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                kind, suffix = (("PNG", "png"), ("JPEG", "jpg"))[i % 2]
                data = encoded(shape_image(class_id, number, i), kind)
                (folder / f"{i:03}.{suffix}").write_bytes(data)


def record(data: bytes, label: int, filename: str = "") -> bytes:
    """As slim's and ImageNet's converters write it."""
    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
        "image/format": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"JPEG"])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/filename": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[filename.encode()])
        ),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(root: Path, *, train: int, validation: int, label_offset: int = 1) -> None:
    """Writes the same images as records, in two files a split, named as ImageNet's."""
    root.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate((("train", train), ("validation", validation))):
        for shard in range(2):
            with tf.io.TFRecordWriter(str(root / f"{split}-{shard:05}-of-00002")) as writer:
                for i in range(shard, count, 2):
                    for class_id, name in enumerate(CLASSES):
                        data = encoded(shape_image(class_id, number, i), "JPEG")
                        writer.write(record(data, class_id + label_offset, f"{name}_{i}.JPEG"))

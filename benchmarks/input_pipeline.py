"""Measures the training input pipeline against others, side by side: images per second.

    python -m benchmarks.input_pipeline [--peer_python=/path/to/python]

All prepare the same generated images, the size of PASCAL VOC's (500x375 JPEG and PNG mask): scale
by 0.5 to 2 in steps of 0.25, pad, crop 513x513, flip, and batch by 8. The others are

* the tf.data pipeline everybody writes first: decode, cast to float, resize all, pad, crop, flip;
  once with a serial map and once with a parallel one;
* a PyTorch DataLoader with two workers that does the same by OpenCV: once it hands over uint8, as
  we do, and leaves the rest to the model; once float32, normalised at the end as torchvision does;
  once float32 from the start. It needs torch, here (the extra "bench") or in the Python that
  --peer_python names; without it the table lacks these rows.

"decode only" reads, parses and decodes, and is what no pipeline over these files can exceed. All
run in turns, because machines drift; the medians count. Processor time per image, of all processes,
is printed too: it is what a training on the same cores loses, and on a busy machine the steadier
number.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.peer import Peer, start
from deeplab_tf.data import records
from deeplab_tf.data.augment import resize_image, resize_label, scale_grid, scaled_size
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.pipeline import training_batches

HEIGHT, WIDTH, CROP = 375, 500, 513
NUM_CLASSES, IGNORE_LABEL = 21, 255
NUM_RECORDS = 100
BATCH_SIZE = 8
JPEG_QUALITY = 83  # makes about 80 kB of these images, what VOC's have

PEER_FORMS = ("uint8", "float32 last", "float32 first")

WARM_UP_BATCHES = 12
TIMED_BATCHES = 40


def make_image(rng: np.random.Generator) -> np.ndarray:
    """A picture with the 1/f spectrum of natural images, so that its JPEG costs what theirs do."""
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.fftfreq(WIDTH)) + 1 / WIDTH
    noise = np.fft.fft2(rng.normal(size=(3, HEIGHT, WIDTH)))
    luminance, *chroma = np.fft.ifft2(noise / frequency**1.2).real
    red_blue = [luminance + 0.3 * c for c in chroma]
    image = np.stack([red_blue[0], luminance, red_blue[1]], axis=-1)
    return np.clip(120 + 55 * image / image.std(), 0, 255).astype(np.uint8)


def make_label(rng: np.random.Generator) -> np.ndarray:
    """A few elliptic objects with void borders on background."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for _ in range(4):
        cy, cx, ry, rx = rng.uniform((0, 0, 30, 30), (HEIGHT, WIDTH, 120, 160))
        distance = np.hypot((y - cy) / ry, (x - cx) / rx)
        label[distance < 1.05] = IGNORE_LABEL
        label[distance < 1] = rng.integers(1, NUM_CLASSES)
    return label


def write_images(folder: str) -> DatasetInfo:
    """Writes one shard of the split "train", and its images as files; returns its description."""
    rng = np.random.default_rng(0)
    path = os.path.join(folder, records.shard_name("train", 0, 1))
    with tf.io.TFRecordWriter(path) as writer:
        for index in range(NUM_RECORDS):
            jpeg = tf.io.encode_jpeg(make_image(rng), quality=JPEG_QUALITY).numpy()
            png = tf.io.encode_png(make_label(rng)[..., None]).numpy()
            Path(folder, f"{index:03d}.jpg").write_bytes(jpeg)
            Path(folder, f"{index:03d}.png").write_bytes(png)
            example = records.make_example(
                image_bytes=jpeg,
                label_bytes=png,
                filename=str(index),
                height=HEIGHT,
                width=WIDTH,
                image_format="jpeg",
            )
            writer.write(example)
    print(f"records of {os.path.getsize(path) / NUM_RECORDS / 1e3:.0f} kB")
    return DatasetInfo(
        name="benchmark",
        class_names=tuple(f"class {index}" for index in range(NUM_CLASSES)),
        palette=((0, 0, 0),) * NUM_CLASSES,
        ignore_label=IGNORE_LABEL,
        splits={"train": NUM_RECORDS},
    )


def plain_example(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and augments in the order of the description, on whole float images."""
    example = records.parse_example(serialized)
    image = tf.cast(tf.io.decode_jpeg(example["image_bytes"], channels=3), tf.float32)
    label = tf.io.decode_png(example["label_bytes"], channels=1)[..., 0]
    scales = scale_grid(0.5, 2.0, 0.25)
    scale = scales[tf.random.uniform([], 0, len(scales), tf.int32)]
    size = scaled_size(tf.shape(label), scale)
    image, label = resize_image(image, size), resize_label(label, size)
    missing = tf.maximum(CROP - size, 0)
    padding = [[0, missing[0]], [0, missing[1]]]
    image = tf.pad(image, [*padding, [0, 0]], constant_values=127.5)
    label = tf.pad(label, padding, constant_values=IGNORE_LABEL)
    top = tf.random.uniform([], 0, size[0] + missing[0] - CROP + 1, tf.int32)
    left = tf.random.uniform([], 0, size[1] + missing[1] - CROP + 1, tf.int32)
    image = image[top : top + CROP, left : left + CROP]
    label = label[top : top + CROP, left : left + CROP]
    if tf.random.uniform([]) < 0.5:
        image, label = tf.reverse(image, [1]), tf.reverse(label, [1])
    return image, label


def plain_batches(folder: str, *, parallel: bool) -> tf.data.Dataset:
    """The plain pipeline."""
    files = records.split_files(folder, "train")
    return (
        tf.data.TFRecordDataset(files)
        .shuffle(NUM_RECORDS)
        .repeat()
        .map(plain_example, num_parallel_calls=tf.data.AUTOTUNE if parallel else None)
        .batch(BATCH_SIZE, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def decoded(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes image and label and keeps a pixel of each."""
    example = records.parse_example(serialized)
    image = tf.io.decode_jpeg(example["image_bytes"], channels=3)
    return image[0, 0, 0], records.decode_label(example["label_bytes"])[0, 0]


def decoded_batches(folder: str) -> tf.data.Dataset:
    """Reading and decoding alone."""
    return (
        tf.data.TFRecordDataset(records.split_files(folder, "train"))
        .repeat()
        .map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )


def our_batches(folder: str, info: DatasetInfo) -> tf.data.Dataset:
    """The library's pipeline."""
    return training_batches(
        folder,
        "train",
        info=info,
        batch_size=BATCH_SIZE,
        crop_size=(CROP, CROP),
        min_scale_factor=0.5,
        max_scale_factor=2.0,
        scale_factor_step_size=0.25,
        mean_pixel=(127.5, 127.5, 127.5),
        seed=0,
    )


def measure(make_batches: Callable[[], tf.data.Dataset]) -> tuple[float, float]:
    """Images per second and milliseconds of processor time per image."""
    batches = iter(make_batches())
    for _ in range(WARM_UP_BATCHES):
        next(batches)
    start, processor_start = time.perf_counter(), time.process_time()
    for _ in range(TIMED_BATCHES):
        next(batches)
    images = TIMED_BATCHES * BATCH_SIZE
    seconds = time.perf_counter() - start
    return images / seconds, 1e3 * (time.process_time() - processor_start) / images


def start_peer(python: str, folder: str) -> Peer | None:
    """The process of benchmarks.input_pipeline_peer."""
    settings = {
        "crop": CROP,
        "ignore_label": IGNORE_LABEL,
        "batch_size": BATCH_SIZE,
        "warm_up": WARM_UP_BATCHES,
        "timed": TIMED_BATCHES,
        "forms": PEER_FORMS,
    }
    return start(python, "input_pipeline_peer.py", folder, json.dumps(settings))


def print_table(medians: dict[str, list[float]]) -> None:
    """Prints rates, and ours over the others'."""
    ours, processor_ours = medians["deeplab_tf"]
    print(f"{'':28}{'images/s':>10}{'CPU ms/image':>14}{'ours is, times':>16}{'by CPU':>8}")
    for name, (rate, processor) in medians.items():
        ratios = f"{ours / rate:16.2f}{processor / processor_ours:8.2f}"
        print(f"{name:28}{rate:10.0f}{processor:14.2f}{ratios}")


def main() -> None:
    """Makes the images, measures in turns, prints the table."""
    parser = argparse.ArgumentParser(description="Measures the input pipeline against others.")
    parser.add_argument("--peer_python", default=sys.executable, help="Python that has torch.")
    parser.add_argument("--repeats", type=int, default=7, help="Turns; the medians count.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        info = write_images(folder)
        runs: dict[str, Callable[[], tuple[float, float]]] = {
            "plain, serial map": partial(measure, partial(plain_batches, folder, parallel=False)),
            "plain, parallel map": partial(measure, partial(plain_batches, folder, parallel=True)),
            "deeplab_tf": partial(measure, partial(our_batches, folder, info)),
            "decode only": partial(measure, partial(decoded_batches, folder)),
        }
        peer = start_peer(options.peer_python, folder)
        if peer is not None:
            for form in PEER_FORMS:
                runs[f"DataLoader, {form}"] = partial(peer.ask, form)
        measured = {name: [] for name in runs}
        for _ in range(options.repeats):
            for name, run in runs.items():
                measured[name].append(run())
        if peer is not None:
            peer.close()
    print_table(
        {
            name: [statistics.median(values) for values in zip(*pairs, strict=True)]
            for name, pairs in measured.items()
        }
    )


if __name__ == "__main__":
    main()

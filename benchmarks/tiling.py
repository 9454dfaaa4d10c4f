"""Images seen in tiles against the same images seen whole: how far apart, and how long it takes.

    python -m benchmarks.tiling runs/camvid camvid/JPEGImages

A run of train.py, and a folder of photos of one size, of which twelve are put together to a picture
of 4 x 3. For each overlap and each source of the image-level features: the differences to the whole
picture's probabilities, what the seams say (which is known without seeing it whole), and the time.
"""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from deeplab_tf import InferenceConfig, build_deeplab, weights
from deeplab_tf.data.images import read_rgb
from deeplab_tf.model_card import ModelCard
from deeplab_tf.predictors import probability_predictor, tiled_predictor
from deeplab_tf.tiling import Seams, receptive_field

ROWS, COLUMNS = 3, 4
TILE = (1025, 1025)
CASES = (
    (None, "exact"),
    (256, "exact"),
    (128, "exact"),
    (64, "exact"),
    (32, "exact"),
    (None, "reduced"),
    (None, "tile"),
    (128, "tile"),
)


def picture(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("*.jpg"))
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, ROWS * COLUMNS).astype(int)]
    photos = np.stack([read_rgb(path) for path in chosen])
    rows = photos.reshape(ROWS, COLUMNS, *photos.shape[1:]).transpose(0, 2, 1, 3, 4)
    return rows.reshape(ROWS * photos.shape[1], COLUMNS * photos.shape[2], 3)


def main() -> None:
    checkpoint = weights.locate_checkpoint(sys.argv[1])
    config = ModelCard.load(sys.argv[1]).model
    image = picture(Path(sys.argv[2]))
    model = build_deeplab(config)
    weights.load_weights(model, checkpoint)
    field = receptive_field(model)
    print(f"{image.shape[1]} x {image.shape[0]} pixels, tiles of {TILE[1]} x {TILE[0]}; receptive")
    print(f"field {field.width.size} x {field.height.size} pixels\n")
    whole_predictor = probability_predictor(model, config, InferenceConfig())
    whole_predictor(image)
    start = time.perf_counter()
    whole = whole_predictor(image)
    seconds = time.perf_counter() - start
    print("| | | to the whole picture | | | at the seams | | | |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    print("| overlap | image level | largest | mean | labels | largest | mean | labels | time |")
    for overlap, level in CASES:
        inference = InferenceConfig(tile_size=TILE, tile_overlap=overlap, tile_image_level=level)
        seams = Seams()
        predict = tiled_predictor(model, config, inference, seams=seams)
        probabilities = predict(image).probabilities
        start = time.perf_counter()
        predict(image)
        ratio = (time.perf_counter() - start) / seconds
        apart = np.abs(probabilities - whole).max(axis=-1)
        other = (probabilities.argmax(-1) != whole.argmax(-1)).mean()
        shown = "all it needs" if overlap is None else overlap
        print(
            f"| {shown} | {level} | {apart.max():.1e} | {apart.mean():.1e} | {other:.3%} | "
            f"{seams.largest:.1e} | {seams.total / seams.count:.1e} | "
            f"{seams.other_label / seams.count:.3%} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()

"""How much memory a SavedModel takes for an image.

Usage: python -m benchmarks.serving_memory MODEL_FOLDER SIDE
"""

import resource
import sys
import time

import tensorflow as tf


def main(folder: str, side: int) -> None:
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    serve(ImageTensor=tf.zeros([1, 33, 33, 3], tf.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    serve(ImageTensor=tf.zeros([1, side, side, 3], tf.uint8))
    seconds = time.perf_counter() - start
    gigabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    millions = side**2 / 1e6
    print(
        f"{side}x{side}: {gigabytes:.2f} GB more, {gigabytes / millions:.2f} GB for each million "
        f"pixels, {seconds:.1f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

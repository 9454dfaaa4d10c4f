"""Images of different sizes in one call of a network, each as if it were alone."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from deeplab_tf.inference import Prediction


def predict_each(
    predict: Callable[[np.ndarray], Prediction],
    images: Sequence[np.ndarray],
    *,
    output_stride: int,
    mean_pixel: Sequence[float],
    crop_size: tuple[int, int] | None = None,
    resizes: bool = False,
) -> list[Prediction]:
    """Predicts images of any sizes, those that can be in one batch together.

    These are the images that `inference.predict` pads to the same size. Padding to a common size
    beyond that would change what image pooling averages over.

    Args:
        predict: Images, float32 [b, h, w, c], to their prediction: `inference.predict` with the
            arguments below.
        images: Arrays [h, w, c] in [0, 255].
        output_stride: As in `inference.predict`, like those that follow.
        mean_pixel: Colour of the padding.
        crop_size: Least height and width to pad to.
        resizes: Whether `predict` resizes images before it pads them; then those of one size go
            together.

    Returns:
        One for each image, in order: labels [h, w] and probabilities [h, w, classes] (or None,
        where `predict` has none), as numpy arrays.
    """

    def seen_size(image: np.ndarray) -> tuple[int, ...]:
        least = (0, 0) if resizes else crop_size or (1, 1)
        sides = tuple(map(max, zip(image.shape[:2], least, strict=True)))
        return sides if resizes else tuple(side + (1 - side) % output_stride for side in sides)

    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        groups[seen_size(image)].append(i)
    predictions: dict[int, Prediction] = {}
    for size, members in groups.items():
        if len(members) == 1:
            batch = images[members[0]][None].astype(np.float32)
        else:
            channels = images[members[0]].shape[2]
            batch = np.empty((len(members), *size, channels), np.float32)
            batch[:] = mean_pixel
            for row, i in zip(batch, members, strict=True):
                row[: images[i].shape[0], : images[i].shape[1]] = images[i]
        labels, probabilities = predict(batch)
        labels = ops.convert_to_numpy(labels)
        if probabilities is not None:
            probabilities = ops.convert_to_numpy(probabilities)
        for row, i in enumerate(members):
            height, width = images[i].shape[:2]
            of_image = None if probabilities is None else probabilities[row, :height, :width]
            predictions[i] = Prediction(labels[row, :height, :width], of_image)
    return [predictions[i] for i in range(len(images))]

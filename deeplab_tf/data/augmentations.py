"""The augmentations beyond the reference's, in the order in which an example meets them."""

import tensorflow as tf

from deeplab_tf.config import AugmentationConfig
from deeplab_tf.data.augment import Crop
from deeplab_tf.data.balanced_crops import balance_crop
from deeplab_tf.data.photometric import change_color, gaussian_blur, random_color
from deeplab_tf.data.rotation import rotate_crop, rotation_margin

# Each draws from a seed of its own, so that switching one on changes nothing of another.
_BALANCED_CROP, _COLOR, _BLUR, _ROTATION = range(4)


class Augmentations:
    """What a config asks for, of crops of one size; what it does not ask for costs nothing.

    All methods are pure functions. Their argument `seeds`, int64 [2], is the run's seed and the
    example's number in the run.

    Attributes:
        margin: Rows above and below and columns left and right that a crop needs to be rotated.
        canvas_size: Height and width of a crop with its margin.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        *,
        crop_size: tuple[int, int],
        channels: int,
        ignore_label: int,
    ) -> None:
        if (config.saturation_jitter or config.hue_jitter) and channels != 3:
            raise ValueError(
                f"saturation_jitter={config.saturation_jitter} and hue_jitter={config.hue_jitter} "
                f"are for RGB images, and these have {channels} channels: set both to 0. "
                "brightness_jitter and contrast_jitter are for any."
            )
        self._config = config
        self._crop_size = crop_size
        self._ignore_label = ignore_label
        self.margin = rotation_margin(crop_size, config.max_rotation_degrees)
        self.canvas_size = (crop_size[0] + 2 * self.margin[0], crop_size[1] + 2 * self.margin[1])

    def move_crop(self, crop: Crop, label: tf.Tensor, seeds: tf.Tensor) -> Crop:
        """Perhaps moves a crop to a class drawn from those of the image (see `balance_crop`)."""
        if not self._config.class_balanced_crops:
            return crop
        return balance_crop(
            _seed_for(_BALANCED_CROP, seeds),
            crop,
            label,
            crop_size=self._crop_size,
            ignore_label=self._ignore_label,
            probability=self._config.class_balanced_crops,
        )

    def change_pixels(self, image: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Jitters the colours of an image, then perhaps blurs it.

        Args:
            image: uint8, or float32 0..255, [h, w, channels], without padding.

        Returns:
            As `image`; uint8 is rounded once.
        """
        config = self._config
        jitters = (
            config.brightness_jitter,
            config.contrast_jitter,
            config.saturation_jitter,
            config.hue_jitter,
        )
        if not any(jitters) and not config.blur_probability:
            return image
        changed = tf.cast(image, tf.float32)
        if any(jitters):
            changed = change_color(changed, random_color(_seed_for(_COLOR, seeds), *jitters))
        if config.blur_probability:
            changed = self._perhaps_blurred(changed, seeds)
        if image.dtype == tf.uint8:
            changed = tf.cast(changed + 0.5, tf.uint8)
        return tf.ensure_shape(changed, image.shape)

    def rotate(
        self, image: tf.Tensor, label: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Rotates a crop, which has its margin, and takes the margin off (see `rotate_crop`).

        Returns:
            Image and label of the crop's own size, and by how many degrees they were rotated.
        """
        if not self._config.max_rotation_degrees:
            return image, label, tf.constant(0.0)
        draw = tf.random.stateless_uniform([], _seed_for(_ROTATION, seeds), -1, 1, alg="philox")
        degrees = draw * self._config.max_rotation_degrees
        image, label = rotate_crop(image, label, degrees, crop_size=self._crop_size)
        return image, label, degrees

    def _perhaps_blurred(self, image: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform([2], _seed_for(_BLUR, seeds), alg="philox")
        low, high = self._config.blur_min_sigma, self._config.blur_max_sigma
        return tf.cond(
            draws[0] < self._config.blur_probability,
            lambda: gaussian_blur(image, low + draws[1] * (high - low)),
            lambda: image,
        )


def _seed_for(purpose: int, seeds: tf.Tensor) -> tf.Tensor:
    return tf.random.fold_in(seeds, purpose, alg="philox")

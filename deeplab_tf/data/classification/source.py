"""What the images of a split are to the batches that are made of them."""

from typing import Any, NamedTuple, Protocol

import tensorflow as tf


class EncodedImage(NamedTuple):
    """An image as it is stored, and its label.

    Attributes:
        data: string scalar, the bytes of a JPEG, PNG, GIF or BMP.
        label: int32 scalar, the class.
    """

    data: tf.Tensor
    label: tf.Tensor


class ImageSource(Protocol):
    """The images of a split.

    A place is whatever scalar tensor an image is found by.

    Attributes:
        count: Number of images.
    """

    count: int

    def endless(self, *, seed: int, first_example: int) -> tf.data.Dataset:
        """Pairs of an example's number in the run, int64, and its place, from `first_example` on.

        Each epoch has every image once, in an order that is a pure function of the seed.
        """

    def once(self) -> tf.data.Dataset:
        """The place of each image once, always in the same order."""

    def read(self, place: tf.Tensor) -> EncodedImage:
        """The image of a place; runs in a graph."""

    def describe(self, place: Any) -> str:
        """What to call the image of a place in an error."""

    def find_damage(self) -> str | None:
        """What is wrong with the files that places come from; None if nothing is."""

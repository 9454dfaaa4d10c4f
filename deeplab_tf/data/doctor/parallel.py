"""Looking at many items on all cores, with few of them in memory."""

import itertools
import warnings
from collections.abc import Iterator

from deeplab_tf.data.doctor.looks import Look
from deeplab_tf.data.doctor.sources import Item, Source
from deeplab_tf.data.workers import available_cores, run_tasks

# Starting a process takes as long as looking at a thousand images.
_FEW_ITEMS = 2000
_ITEMS_AT_ONCE = 8


def look_at_all(source: Source, *, workers: int | None = None) -> Iterator[Look]:
    """Yields the looks of a source's items, in order.

    Args:
        source: Where they come from.
        workers: Number of processes; None for all cores, or this process alone if there are few
            items.
    """
    if workers is None:
        workers = 1 if source.count < _FEW_ITEMS else available_cores()
    if workers == 1:
        yield from map(_look, source.items())
        return
    items = source.items()
    chunks = iter(lambda: tuple(itertools.islice(items, _ITEMS_AT_ONCE)), ())
    for looks in run_tasks(_look_at, chunks, num_workers=workers):
        yield from looks


def _look(item: Item) -> Look:
    # What Pillow warns of, damaged EXIF or a great size, is no finding and would tear the bar.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return item.look()


def _look_at(items: tuple[Item, ...]) -> list[Look]:
    return list(map(_look, items))

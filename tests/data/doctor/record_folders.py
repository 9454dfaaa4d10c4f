"""Folders of records with seeded faults; each function returns the codes there are, by place."""

import numpy as np
import tensorflow as tf

from deeplab_tf.colormap import voc_colormap
from deeplab_tf.data.dataset_info import DatasetInfo
from deeplab_tf.data.records import make_example, shard_name
from tests.data.doctor.trees import HEIGHT, NAMES, WIDTH, colored, encoded, oriented, picture, scene


def example(name, *, image=None, label=None, height=HEIGHT, width=WIDTH):
    return make_example(
        image_bytes=encoded(picture(name)) if image is None else image,
        label_bytes=encoded(scene()) if label is None else label,
        filename=name,
        height=height,
        width=width,
        image_format="png",
    )


def write_shards(root, split, shards):
    """Writes a split's files of these examples; returns the names of the files."""
    root.mkdir(exist_ok=True)
    names = [shard_name(split, index, len(shards)) for index in range(len(shards))]
    for name, examples in zip(names, shards, strict=True):
        with tf.io.TFRecordWriter(str(root / name)) as writer:
            for serialized in examples:
                writer.write(serialized)
    return names


def describe(root, **splits):
    info = DatasetInfo(
        name="tiny",
        class_names=NAMES,
        palette=tuple(map(tuple, voc_colormap(len(NAMES)).tolist())),
        ignore_label=255,
        splits=splits,
    )
    info.save(root)
    return info


def clean(root):
    # More files than images: the last is empty, as converters leave it.
    write_shards(root, "train", [[example("a"), example("b")], [example("c")], []])
    write_shards(root, "val", [[example("d")]])
    describe(root, train=3, val=1)
    return set()


def faulty(root):
    """Every fault of a record and of a file, and some that trees have too."""
    photo = encoded(picture("b"))
    outside = scene()
    outside[5, 5] = 9
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))
    other = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
    first = {
        "fine": (None, example("fine")),
        "cut": ("D201", example("cut", image=photo[: len(photo) // 2])),
        "no_label": ("D201", example("no_label", label=b"notes")),
        "palette": ("D509", example("palette", label=encoded(colored(scene(), [(9, 9, 9)] * 3)))),
        "rgb": ("D509", example("rgb", label=encoded(np.dstack([scene()] * 3)))),
        "size": ("D301", example("size", image=encoded(picture("c", HEIGHT, WIDTH - 1)))),
        "stated": ("D510", example("stated", height=HEIGHT + 1)),
        "outside": ("D105", example("outside", label=encoded(outside))),
        "flat": ("D113", example("flat", label=encoded(scene([1])))),
        "void": ("D114", example("void", label=encoded(scene([255])))),
        # As stored it fits, and TensorFlow takes it so.
        "exif6": ("D202", example("exif6", image=oriented(picture("d"), 6))),
        "exif3": ("D203", example("exif3", image=oriented(picture("e"), 3))),
        "grey": ("D205", example("grey", image=encoded(picture("f")[..., 0]))),
        "twin": ("D310", example("twin", image=encoded(picture("fine"), compress_level=1))),
        "features": ("D508", other.SerializeToString()),
        "text": ("D508", b"no example at all"),
        "bytes": ("D508", example("cut")[:300]),
    }
    names = write_shards(
        root, "train", [[serialized for _, serialized in first.values()], [], [example("g")]]
    )
    expected = {("D504", (names[1],)), ("D505", tuple(names))}
    for number, (name, (code, _)) in enumerate(first.items()):
        # What cannot be parsed has no name.
        shown = "" if code == "D508" else f" ({name})"
        expected.add((code, (f"{names[0]}, record {number}{shown}",)))
    expected -= {(None, (f"{names[0]}, record 0 (fine)",))}
    twin = (f"{names[0]}, record 0 (fine)", f"{names[0]}, record 13 (twin)")
    expected -= {("D310", twin[1:])}
    expected |= {("D310", twin), ("D510", (f"{names[0]}, record 5 (size)",))}

    val = write_shards(root, "val", [[example("h"), example("i"), example("j")], [example("k")]])
    data = bytearray((root / val[0]).read_bytes())
    data[len(data) // 2] ^= 1  # in the second of three records
    (root / val[0]).write_bytes(data)
    expected.add(("D507", (f"{val[0]}, record 1",)))

    test = write_shards(root, "test", [[example("l")], [example("m")]])
    (root / test[0]).unlink()
    expected |= {("D503", (test[1],)), ("D505", (test[1],))}
    spare = write_shards(root, "spare", [[example("n")]])
    expected.add(("D506", tuple(spare)))
    describe(root, train=19, val=4, test=2)
    return expected


def of_the_reference(root):
    """Without dataset.json."""
    write_shards(root, "train", [[example("a")]])
    return {("D501", ("dataset.json",))}


def bad_description(root):
    write_shards(root, "train", [[example("a")]])
    (root / "dataset.json").write_text('{"name": "tiny"}')
    return {("D502", ("dataset.json",))}

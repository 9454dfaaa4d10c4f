"""Images of other channels and bits with seeded faults; functions return the codes, by place."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from deeplab_tf.data.channels import encode_png
from tests.data.doctor import record_folders, trees
from tests.data.doctor.trees import HEIGHT, WIDTH
from tests.data.test_channels import npy_of, png_of, tiff_of


def values(name, channels, bits, top=None, size=(HEIGHT, WIDTH)):
    """uint8 or uint16 [h, w, channels], 0 to `top`, both included, another for each name."""
    rng = np.random.default_rng([channels, bits, *name.encode()])
    top = 2**bits - 1 if top is None else top
    pixels = rng.integers(0, top + 1, (*size, channels)).astype(f"uint{bits}")
    pixels[0, 0], pixels[0, 1] = 0, top
    return pixels


def tree_of(root, cases):
    """images/ and masks/ of pairs of codes and bytes by file name; returns the codes by file."""
    tree = trees.Tree(root, "images", "masks")
    expected = set()
    for name, (codes, data) in cases.items():
        file = tree.pair(name, data)[0]
        expected |= {(code, (file,)) for code in codes.split()}
    return expected


def gif(channels):
    frames = [Image.fromarray(trees.picture(f"{i}")[..., :channels].squeeze()) for i in range(2)]
    return trees.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def infrared(root):
    """For 4 channels of 16 bits, 0 to 40000."""
    top = 40000
    fine = values("fine", 4, 16, top)
    floats = io.BytesIO()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(floats, "TIFF")
    cases = {
        "fine.png": ("", png_of(fine)),
        "array.npy": ("", npy_of(values("array", 4, 16, top))),
        "tagged.tif": ("", tiff_of(values("tagged", 4, 16, top))),
        "rgb.png": ("D210", png_of(values("rgb", 3, 16, top))),
        "bytes.png": ("D211", png_of(values("bytes", 4, 8))),
        "photo.jpg": ("D211", trees.encoded(trees.picture("photo"), "JPEG")),
        "floats.npy": ("D212", npy_of(fine.astype(np.float32))),
        "floats2.tif": ("D212", floats.getvalue()),
        "line.npy": ("D212", npy_of(fine[0, 0])),
        "wide.tif": ("D212", tiff_of(values("wide", 6, 16, top))),
        "turned.tif": ("D212", tiff_of(values("turned", 4, 16, top), orientation=6)),
        "cut.npy": ("D201", npy_of(fine)[:-9]),
        "cut2.png": ("D201", png_of(fine)[:-300]),
        "cut3.tif": ("D201", tiff_of(fine)[:-30]),
        "notes.npy": ("D201", b"these are my notes"),
        "small.npy": ("D301", npy_of(values("small", 4, 16, top, (HEIGHT - 1, WIDTH)))),
        "first.npy": ("D301 D210", npy_of(np.moveaxis(fine, 2, 0))),
        "bright.npy": ("D407", npy_of(values("bright", 4, 16, top + 1))),
        "a_twin.npy": ("", npy_of(fine)),
    }
    expected = tree_of(root, cases)
    return expected | {("D310", ("images/a_twin.npy", "images/fine.png"))}


def grey(root):
    """For grey of 8 bits."""
    colors = trees.picture("colors")
    one = values("one", 1, 8)
    opaque = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    print_colors = Image.fromarray(trees.picture("print")).convert("CMYK")
    cases = {
        "fine.png": ("", png_of(one)),
        "equal.png": ("", png_of(values("equal", 1, 8).repeat(3, 2))),
        "page.tif": ("", tiff_of(values("page", 1, 8))),
        "array.npy": ("", npy_of(values("array", 1, 8)[..., 0])),
        "colors.png": ("D213", png_of(colors)),
        "colors2.npy": ("D213", npy_of(trees.picture("colors2"))),
        "opaque.png": ("D206", png_of(np.dstack([values("opaque", 1, 8), opaque]))),
        "clear.png": ("D206 D210", png_of(np.dstack([one, opaque // 2]))),
        "deep.png": ("D211", png_of(values("deep", 1, 16))),
        "deep2.tif": ("D211", tiff_of(values("deep2", 1, 16))),
        "print.jpg": ("D207 D213", trees.encoded(print_colors, "JPEG")),
        "moving.gif": ("D208", gif(1)),
        "exif3.png": ("D203", oriented_png(values("exif3", 1, 8))),
        "small.png": ("D301", png_of(values("small", 1, 8, size=(HEIGHT, WIDTH - 1)))),
    }
    return tree_of(root, cases)


def oriented_png(pixels):
    exif = Image.Exif()
    exif[0x0112] = 3
    return trees.encoded(pixels[..., 0], "PNG", exif=exif)


def deep_rgb(root):
    """For RGB of 16 bits."""
    cases = {
        "fine.png": ("", png_of(values("fine", 3, 16))),
        "grey.png": ("D205", png_of(values("grey", 1, 16))),
    }
    return tree_of(root, cases)


def twelve_bits(root):
    """For grey of 16 bits."""
    cases = {f"{i}.png": ("", png_of(values(f"{i}", 1, 16, 4095))) for i in range(3)}
    return tree_of(root, cases) | {("D408", ())}


def records_of(root, cases, *, channels, bits, value_range):
    """One file of records of pairs of codes and bytes by name; returns description and codes."""
    examples, expected = [], set()
    for number, (name, (codes, data)) in enumerate(cases.items()):
        label = trees.encoded(trees.scene())
        examples.append(record_folders.example(name, image=data, label=label))
        place = f"train-00000-of-00001.tfrecord, record {number} ({name})"
        expected |= {(code, (place,)) for code in codes.split()}
    record_folders.write_shards(root, "train", [examples])
    info = replace(
        record_folders.describe(root, train=len(cases)),
        input_channels=channels,
        bit_depth=bits,
        value_range=value_range,
    )
    info.save(root)
    return info, expected


def six_planes(root):
    """Records of 6 channels of 16 bits, 0 to 40000."""
    top = 40000
    fine = encode_png(values("fine", 6, 16, top))
    cases = {
        "fine": ("", fine),
        "rgba": ("D210", encode_png(values("rgba", 4, 16, top))),
        "one": ("D210", encode_png(values("one", 1, 16, top, (HEIGHT + 1, WIDTH)))),
        "single": ("D301 D510", encode_png(values("single", 1, 16, top))),
        "bytes": ("D211", encode_png(values("bytes", 6, 8))),
        "photo": ("D210", trees.encoded(trees.picture("photo"), "JPEG")),
        "narrow": ("D301 D510", encode_png(values("narrow", 6, 16, top, (HEIGHT, WIDTH - 1)))),
        "notes": ("D201", b"these are my notes"),
        "cut": ("D201", fine[: len(fine) // 2]),
        "bright": ("D407", encode_png(values("bright", 6, 16, top + 1))),
    }
    return records_of(root, cases, channels=6, bits=16, value_range=(0, top))


def stored_infrared(root):
    """Records of 4 channels of 16 bits that hold 12 of them."""
    cases = {
        "fine": ("", encode_png(values("fine", 4, 16, 4095))),
        "rgb": ("D210", encode_png(values("rgb", 3, 16))),
        "planes": ("D210", encode_png(values("planes", 6, 16))),
        "bytes": ("D211", encode_png(values("bytes", 4, 8))),
    }
    info, expected = records_of(root, cases, channels=4, bits=16, value_range=(0, 65535))
    return info, expected | {("D408", ())}


def stored_grey(root):
    """Records of 8-bit grey."""
    cases = {
        "fine": ("", encode_png(values("fine", 1, 8))),
        "photo": ("", trees.encoded(values("photo", 1, 8)[..., 0], "JPEG")),
        "colors": ("D213", encode_png(values("colors", 3, 8))),
        "deep": ("D204", encode_png(values("deep", 1, 16))),
        "narrow": ("D301 D510", encode_png(values("narrow", 1, 8, size=(HEIGHT, WIDTH - 1)))),
    }
    return records_of(root, cases, channels=1, bits=8, value_range=(0, 255))

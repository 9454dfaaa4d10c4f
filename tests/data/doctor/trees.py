"""Data sets with seeded faults; each function returns exactly the codes that there are, by file."""

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_tf.colormap import voc_colormap

HEIGHT, WIDTH = 24, 36
NAMES = ("background", "cat", "dog")


def picture(name, height=HEIGHT, width=WIDTH):
    """uint8 [h, w, 3], another for each name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene(values=(0, 1, 2), height=HEIGHT, width=WIDTH):
    """uint8 [h, w]: upright bands of these labels in a frame of void."""
    labels = np.repeat(np.array(values, np.uint8), -(-width // len(values)))[:width]
    labels = np.tile(labels, (height, 1))
    labels[[0, -1]] = labels[:, [0, -1]] = 255
    return labels


def encoded(pixels, kind="PNG", **options):
    """Encodes an array or an image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def colored(labels, colors):
    """A palette image of indices, with RGB by index."""
    image = Image.fromarray(labels)
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    return image


def oriented(pixels, orientation):
    """JPEG bytes with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(pixels, "JPEG", exif=exif)


class Tree:
    """Files in VOC's layout, or in images/ and masks/."""

    def __init__(self, root, image_dir="JPEGImages", mask_dir="SegmentationClass"):
        self.root, self.image_dir, self.mask_dir = Path(root), image_dir, mask_dir
        for folder in (image_dir, mask_dir):
            (self.root / folder).mkdir(parents=True)

    def image(self, name, data=None):
        file = name if "." in name else f"{name}.png"
        data = encoded(picture(name)) if data is None else data
        (self.root / self.image_dir / file).write_bytes(data)
        return f"{self.image_dir}/{file}"

    def mask(self, name, data=None):
        file = name if "." in name else f"{name}.png"
        data = encoded(scene()) if data is None else data
        (self.root / self.mask_dir / file).write_bytes(data)
        return f"{self.mask_dir}/{file}"

    def pair(self, name, image=None, mask=None):
        return self.image(name, image), self.mask(name.partition(".")[0], mask)

    def lists(self, **splits):
        folder = self.root / "ImageSets/Segmentation"
        folder.mkdir(parents=True, exist_ok=True)
        for split, names in splits.items():
            (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))

    def listed(self, split):
        return f"ImageSets/Segmentation/{split}.txt"


def folders(root, masks, extension="png"):
    """images/ and masks/ with these masks; returns the tree and the mask files."""
    tree = Tree(root, "images", "masks")
    files = []
    for index, mask in enumerate(masks):
        data = mask if isinstance(mask, bytes) else encoded(mask)
        tree.image(f"{index}")
        files.append(tree.mask(f"{index}.{extension}", data))
    return tree, files


def clean_voc(root):
    tree = Tree(root)
    train, val = [f"t{i}" for i in range(4)], [f"v{i}" for i in range(3)]
    for name in (*train, *val):
        tree.pair(name)
    tree.lists(train=train, val=val, trainval=train + val)
    return set()


def faulty_voc(root):
    """Every fault of a single file, of names, and of lists, in one tree."""
    clean_voc(root)
    tree = Tree.__new__(Tree)
    tree.root, tree.image_dir, tree.mask_dir = Path(root), "JPEGImages", "SegmentationClass"
    float_tiff = encoded(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)), "TIFF")
    frames = [Image.fromarray(picture(f"frame{i}")).convert("P") for i in range(2)]
    photo, mask = encoded(picture("photo")), encoded(scene())
    # Regions of 6 pixels, halved and enlarged: ramps of several values.
    smooth = Image.fromarray(scene((0, 200, 0, 250))).resize((18, 12), Image.Resampling.BOX)
    smooth = smooth.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    outside = scene()
    outside[5:9, 5:9] = 7
    images = {
        "exif6.jpg": ("D202", oriented(picture("a", WIDTH, HEIGHT), 6), mask),
        "exif3.jpg": ("D203", oriented(picture("b"), 3), mask),
        "grey": ("D205", encoded(picture("c")[..., 0]), mask),
        "alpha": ("D206", encoded(np.dstack([picture("d"), picture("e")[..., :1]])), mask),
        "cmyk.jpg": ("D207", encoded(Image.fromarray(picture("f")).convert("CMYK"), "JPEG"), mask),
        "moving.gif": (
            "D208",
            encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            mask,
        ),
        "float.tif": ("D209", float_tiff, mask),
        "cut": ("D201", photo[: len(photo) // 2], mask),
        "notes.jpg": ("D201", b"these are my notes", mask),
        "small": ("D301", encoded(picture("g", HEIGHT - 1)), mask),
    }
    masks = {
        "rgb": ("D101", encoded(voc_colormap(256)[scene()].astype(np.uint8))),
        "outside": ("D105", encoded(outside)),
        "lossy": ("D110", encoded(scene(), "JPEG")),
        "floats": ("D112", float_tiff),
        "flat": ("D113", encoded(scene([1]))),
        "void": ("D114", encoded(scene([255]))),
        "cut_mask": ("D201", mask[: len(mask) // 2]),
        "wide": ("D105", encoded(scene().astype(np.uint16) * 300)),
    }
    expected = set()
    for name, (code, image, label) in images.items():
        expected.add((code, (tree.pair(name, image, label)[0],)))
    for name, (code, label) in masks.items():
        expected.add((code, (tree.pair(name, None, label)[1],)))
    deep = tree.pair("deep", encoded(picture("h")[..., 0].astype(np.uint16) << 4))[0]
    smooth_mask = tree.pair("smooth", None, encoded(smooth))[1]
    expected |= {("D204", (deep,)), ("D205", (deep,))}
    expected |= {("D105", (smooth_mask,)), ("D111", (smooth_mask,))}

    names = [name.partition(".")[0] for name in (*images, *masks)]
    train = [f"t{i}" for i in range(4)] + names + ["deep", "smooth", "lonely", "double", "both"]
    train += ["copy0", "copy1", "twin0"]
    val = [f"v{i}" for i in range(3)] + ["absent", "again", "again", "both", "twin1"]
    expected.add(("D302", (tree.image("lonely"),)))
    expected.add(("D304", (tree.pair("double")[0],)))
    tree.image("double.bmp", encoded(picture("i"), "BMP"))
    expected.add(("D308", (tree.pair("both")[0],)))
    tree.pair("again")
    copies = (tree.pair("copy0", encoded(picture("j")))[0],)
    copies += (tree.pair("copy1.tif", encoded(picture("j"), "TIFF"))[0],)
    twins = (tree.pair("twin0", encoded(picture("k")))[0],)
    twins += (tree.pair("twin1", encoded(picture("k"), compress_level=1))[0],)
    expected |= {("D310", copies), ("D309", twins)}
    lists = {"D305": "val", "D306": "val", "D307": "test"}
    expected |= {(code, (tree.listed(split),)) for code, split in lists.items()}
    tree.lists(train=train, val=val, test=[])
    return expected


def palettes(root):
    """VOC's classes: one mask has them in another order, one has colours of its own."""
    tree = Tree(root)
    order = np.arange(21, dtype=np.uint8)
    labels = np.repeat(order, 4)[None].repeat(HEIGHT, 0)
    colors = voc_colormap(256)
    swapped = colors.copy()
    swapped[[3, 5]] = swapped[[5, 3]]
    other = np.roll(colors, 1, axis=1) // 2 + 1
    own = {"good": colors, "swapped": swapped, "other": other}
    files = {}
    for name, palette in own.items():
        image = encoded(picture(name, *labels.shape))
        files[name] = tree.pair(name, image, encoded(colored(labels, palette)))[1]
    tree.lists(train=["good", "swapped", "other"])
    return {
        ("D103", (files["swapped"],)),
        ("D104", (files["swapped"],)),
        ("D103", (files["other"],)),
    }


def unpaired(root):
    tree, _ = folders(root, [scene(), scene()])
    return {("D303", (tree.mask("orphan"),)), ("D302", (tree.image("single"),))}


def black_and_white(root):
    masks = [np.where(scene() == 2, 255, 0).astype(np.uint8) for _ in range(3)]
    return {("D106", tuple(folders(root, masks)[1]))} | {
        ("D113", (f"masks/{index}.png",)) for index in range(3)
    }


def from_one(root):
    """For three names."""
    _, files = folders(root, [scene((1, 2)), scene((1, 2, 3)), scene((2, 3))])
    return {("D107", tuple(files[1:]))}


def one_more(root):
    """For three names."""
    _, files = folders(root, [scene((0, 1, 2, 3)), scene((0, 1, 2)), scene((1, 3))])
    return {("D108", (files[0], files[2]))}


def gaps(root):
    """Without names."""
    _, files = folders(root, [scene((0, 10)), scene((10, 20))])
    return {("D109", (files[1],))}


def one_class(root):
    """For three names."""
    _, files = folders(root, [scene([2]), scene([2])])
    return {("D401", tuple(files)), *(("D113", (file,)) for file in files)}


def uneven(root):
    """For four names: one never occurs, one is not in val, one is tiny."""
    tree = Tree(root)
    tiny = scene((0, 1))
    tiny[4, 4] = 2
    tree.pair("a", None, encoded(tiny))
    tree.pair("b", None, encoded(scene((0, 1))))
    tree.lists(train=["a"], val=["b"])
    return {("D402", ()), ("D403", ()), ("D404", ())}


def unknown_colors(root):
    """For a table of black and (200, 0, 0)."""
    good = np.where(scene()[..., None] == 1, (200, 0, 0), 0).astype(np.uint8)
    bad = good.copy()
    bad[3, 3] = (201, 0, 0)
    _, files = folders(root, [good, bad])
    return {("D102", (files[1],))}

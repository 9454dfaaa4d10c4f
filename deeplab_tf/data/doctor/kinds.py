"""Every kind of finding, as one table: code, name, severity, meaning, fix.

Codes and names are stable, since scripts look for them. D1 is about masks and labels, D2 about
images, D3 about pairs, names and lists, D4 about the data set as a whole, D5 about records.
"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        code: "D" and three digits.
        name: What it is called, in words with hyphens.
        severity: "error": conversion or training fails or learns nonsense; "warning": probably not
            as meant; "note": fine, if it is known.
        meaning: What it is, and what is expected.
        fix: What to do about it.
    """

    code: str
    name: str
    severity: Severity
    meaning: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Attributes:
        kind: The kind of it.
        files: The files it is about, below the folder examined where they are in it.
        found: What is there.
        fix: What to do, where that can be said better than in general.
    """

    kind: Kind
    files: tuple[str, ...]
    found: str
    fix: str | None = None


KINDS: list[Kind] = []


def _kind(code: str, name: str, severity: Severity, meaning: str, fix: str) -> Kind:
    kind = Kind(code, name, severity, meaning, fix)
    KINDS.append(kind)
    return kind


def kind_named(name: str) -> Kind:
    """The kind that a `faults.FaultyFileError` or a `pairing.Problem` names."""
    return next(kind for kind in KINDS if kind.name == name)


# --- D1: masks and labels -------------------------------------------------------------------------

MASK_IS_RGB = _kind(
    "D101",
    "mask-is-rgb",
    "error",
    "A mask of colours where the numbers of classes are expected.",
    "Convert with datasets/build_folder_data.py --color_table=FILE, one line `r g b name` per "
    "colour; masks in VOC's colours become indices with datasets/remove_gt_colormap.py.",
)
COLOR_NOT_IN_TABLE = _kind(
    "D102",
    "color-not-in-table",
    "error",
    "A mask holds colours that --color_table does not name.",
    "Add them to the table (a line named void for pixels to ignore); if they are many, export the "
    "masks again without smoothing, in a lossless format.",
)
PALETTES_DIFFER = _kind(
    "D103",
    "palettes-differ",
    "warning",
    "Palette masks give one index different colours: the colour is the class then, not the index.",
    "Convert with datasets/build_folder_data.py --mask_type=rgb --color_table=FILE.",
)
PALETTE_IN_OTHER_ORDER = _kind(
    "D104",
    "palette-in-other-order",
    "error",
    "A palette mask shows the colours of the data set's classes, but under other indices.",
    "Convert with datasets/build_folder_data.py --mask_type=rgb --color_table=FILE.",
)
LABEL_IS_NO_CLASS = _kind(
    "D105",
    "label-is-no-class",
    "error",
    "A mask holds values that are neither a class nor the ignore label.",
    "Correct the masks or the list of class names, or renumber with "
    "datasets/build_folder_data.py --label_map=<value>:<label>,...",
)
VOID_IS_FOREGROUND = _kind(
    "D106",
    "void-is-foreground",
    "error",
    "All masks hold nothing but 0 and the ignore label: black and white masks, whose white would "
    "count in no loss and no score.",
    "Convert with datasets/build_folder_data.py --label_map=0:0,255:1 "
    "--class_names=background,object.",
)
LABELS_START_AT_ONE = _kind(
    "D107",
    "labels-start-at-one",
    "error",
    "The labels are 1 to n, and no pixel is 0: classes are numbered from 0 here.",
    "Renumber with datasets/build_folder_data.py --label_map=1:0,2:1,...",
)
BACKGROUND_WITHOUT_NAME = _kind(
    "D108",
    "background-without-name",
    "error",
    "The masks hold one class more than there are names, 0 to n for n names.",
    "Add the name of class 0, which is often the background, to the class names.",
)
LABELS_HAVE_GAPS = _kind(
    "D109",
    "labels-have-gaps",
    "error",
    "Class names are not given, and the labels found are not 0, 1, 2, ...",
    "Give --class_names_file, or renumber with datasets/build_folder_data.py "
    "--label_map=<value>:<label>,...",
)
MASK_IS_LOSSY = _kind(
    "D110",
    "mask-is-lossy",
    "error",
    "A mask in a format that changes labels: JPEG and WebP invent values along edges, GIF writers "
    "renumber the palette.",
    "Export the masks as PNG again; converting these does not repair them.",
)
MASK_IS_SMOOTHED = _kind(
    "D111",
    "mask-is-smoothed",
    "warning",
    "The edges in a mask pass through values in between, as those of resized or anti-aliased "
    "pictures do; a value in between is another class.",
    "Export the masks again without anti-aliasing; resize masks to the nearest neighbour.",
)
MASK_OF_ANOTHER_TYPE = _kind(
    "D112",
    "mask-of-another-type",
    "error",
    "A mask is not of the type that --mask_type says, or holds floating point numbers.",
    "Give the --mask_type that the masks have, or leave the flag out.",
)
MASK_HAS_ONE_CLASS = _kind(
    "D113",
    "mask-has-one-class",
    "note",
    "A mask shows a single class. That is fine for a background; if there are many, masks may be "
    "misread.",
    "Look at the masks beside their images.",
)
MASK_IS_VOID = _kind(
    "D114",
    "mask-is-void",
    "warning",
    "A mask is nothing but void: its image counts in no loss and no score.",
    "Leave the image out, or label it.",
)

# --- D2: images -----------------------------------------------------------------------------------

UNDECODABLE = _kind(
    "D201",
    "undecodable",
    "error",
    "A file is no image or mask, is truncated, or is damaged.",
    "Copy or download it again, or leave it out.",
)
EXIF_ORIENTATION = _kind(
    "D202",
    "exif-orientation",
    "note",
    "An image is turned by an EXIF orientation, which TensorFlow ignores and viewers apply. Its "
    "size says which of the two the mask belongs to.",
    "Nothing: the converters in datasets/ turn the pixels if the mask asks for it.",
)
EXIF_AMBIGUOUS = _kind(
    "D203",
    "exif-orientation-ambiguous",
    "warning",
    "An image is turned by an EXIF orientation, and its mask fits it turned and not turned.",
    "Look whether the mask belongs to the image as viewers show it, as the converters take it. If "
    "not, delete the orientation (exiftool -Orientation= FILE).",
)
IMAGE_IS_16_BIT = _kind(
    "D204",
    "image-is-16-bit",
    "warning",
    "An image of 16 bits per channel where 8 are expected: the high byte alone is kept, which is "
    "nearly black for images of 10 or 12 bits.",
    "Convert with --bit_depth=16, which keeps all bits, and with --value_range=0,4095 if the "
    "images are of 12 bits; nothing, if they fill 16 and 8 are enough.",
)
IMAGE_IS_GREY = _kind(
    "D205",
    "image-is-grey",
    "note",
    "A grey image where RGB is expected: all three channels will be alike.",
    "Nothing, if that is as meant; if all images are grey, --input_channels=1 makes the network "
    "one for grey.",
)
IMAGE_HAS_ALPHA = _kind(
    "D206",
    "image-has-alpha",
    "note",
    "An image with transparency, which is dropped: colours that nobody saw may appear.",
    "Nothing, if the colours under transparent pixels are as meant; --input_channels=4 keeps the "
    "transparency as a channel.",
)
IMAGE_IS_CMYK = _kind(
    "D207",
    "image-is-cmyk",
    "warning",
    "An image for print, in cyan, magenta, yellow and black, is turned into RGB without its colour "
    "profile.",
    "Export the image as RGB.",
)
IMAGE_IS_ANIMATED = _kind(
    "D208",
    "image-is-animated",
    "warning",
    "An image of several frames, of which the first is taken.",
    "Export the frame that was labelled.",
)
IMAGE_OF_FLOATS = _kind(
    "D209",
    "image-of-floats",
    "error",
    "An image of floating point numbers where 8 bits per channel are expected.",
    "Export the image with 8 or 16 bits per channel; 16 need --bit_depth=16.",
)
IMAGE_OF_OTHER_CHANNELS = _kind(
    "D210",
    "image-of-other-channels",
    "error",
    "An image has other channels than --input_channels or dataset.json says: some would be lost, "
    "or made up.",
    "Give the --input_channels that all images have, and convert again; correct those that differ.",
)
IMAGE_OF_OTHER_BITS = _kind(
    "D211",
    "image-of-other-bits",
    "error",
    "An image has other bits per channel than --bit_depth or dataset.json says.",
    "Give the --bit_depth that all images have, and convert again; store those that differ alike.",
)
IMAGE_OF_ANOTHER_KIND = _kind(
    "D212",
    "image-of-another-kind",
    "error",
    "An image that is not read with all its values: an array of floats, a TIFF page of more than "
    "four channels, an orientation in a file of other channels than 8-bit grey or RGB.",
    "Store it upright as .npy: an array of uint8 or uint16, [height, width, channels].",
)
IMAGE_HAS_COLORS = _kind(
    "D213",
    "image-has-colors",
    "note",
    "An image of colours where grey is expected: its luminance is taken.",
    "Nothing, if that is as meant; --input_channels=3 keeps the colours.",
)

# --- D3: pairs, names and lists -------------------------------------------------------------------

SIZE_MISMATCH = _kind(
    "D301",
    "size-mismatch",
    "error",
    "An image and its mask differ in size.",
    "Find the mask of this very image; resize masks to the nearest neighbour only.",
)
IMAGE_WITHOUT_MASK = _kind(
    "D302",
    "image-without-mask",
    "error",
    "An image that is to be used has no mask of its name.",
    "Label it or leave it out; if mask names have an ending such as _mask, give --mask_suffix.",
)
MASK_WITHOUT_IMAGE = _kind(
    "D303",
    "mask-without-image",
    "error",
    "A mask has no image of its name.",
    "Complete or remove it; if mask names have an ending such as _mask, give --mask_suffix.",
)
SAME_STEM = _kind(
    "D304",
    "same-stem",
    "error",
    "Two files of a folder differ in their extension only, and names go without it.",
    "Keep one of them.",
)
LISTED_IMAGE_MISSING = _kind(
    "D305",
    "listed-image-missing",
    "error",
    "The list of a split names an image that is not there.",
    "Correct the list, or complete the images.",
)
LISTED_TWICE = _kind(
    "D306",
    "listed-twice",
    "error",
    "The list of a split names an image twice.",
    "Delete one of the lines.",
)
LIST_IS_EMPTY = _kind(
    "D307",
    "list-is-empty",
    "error",
    "The list of a split names nothing.",
    "Write one image name a line, or delete the list.",
)
NAME_IN_TWO_SPLITS = _kind(
    "D308",
    "name-in-two-splits",
    "error",
    "An image is in two splits that should have nothing in common: scores on the one are those of "
    "images seen in training. (train, val and test should; trainval is a union.)",
    "Take it out of one of the lists.",
)
PICTURE_IN_TWO_SPLITS = _kind(
    "D309",
    "picture-in-two-splits",
    "error",
    "The same pixels are in two splits under two names.",
    "Take one of them out of its split.",
)
PICTURE_TWICE = _kind(
    "D310",
    "picture-twice",
    "warning",
    "The same pixels are in a split twice, under two names.",
    "Keep one of them, or be sure that it is to count twice.",
)

# --- D4: the data set as a whole ------------------------------------------------------------------

ONE_CLASS_IN_ALL = _kind(
    "D401",
    "one-class-in-all",
    "error",
    "All masks together show fewer than two classes: there is nothing to learn.",
    "Check what the pixels of the masks hold; --label_map and --color_table say what they mean.",
)
CLASS_NEVER_OCCURS = _kind(
    "D402",
    "class-never-occurs",
    "warning",
    "A class occurs in no mask.",
    "Check the class names and their order.",
)
CLASS_NOT_IN_SPLIT = _kind(
    "D403",
    "class-not-in-split",
    "warning",
    "A class occurs in one split and not in another: it cannot be learnt, or not be scored.",
    "Move images that show the class from one split to the other.",
)
CLASSES_IMBALANCED = _kind(
    "D404",
    "classes-imbalanced",
    "note",
    "Where they occur, some classes have far fewer pixels than others.",
    "Train with the label weights that are proposed.",
)

CLASS_NOT_IN_SAMPLE = _kind(
    "D405",
    "class-not-in-sample",
    "note",
    "A class is in none of the examples that train.py looked at before its first step.",
    "Nothing, if it is rare; the doctor counts all examples.",
)
CROP_IS_PADDING = _kind(
    "D406",
    "crop-is-padding",
    "warning",
    "The training crop has more than twice the largest image's height and width: most of each crop "
    "is padding.",
    "Lower --train_crop_size, or enlarge the images with --min_resize_value.",
)
VALUES_ARE_CLIPPED = _kind(
    "D407",
    "values-are-clipped",
    "warning",
    "Images hold values outside --value_range, or that of dataset.json: the network sees the ends "
    "of the range in their place.",
    "Convert with a --value_range that holds them all; nothing, if they are glare or noise.",
)
VALUES_ARE_FEW = _kind(
    "D408",
    "values-are-few",
    "warning",
    "The images use less than a quarter of --value_range, or that of dataset.json, as where "
    "sensors of 12 bits are taken for 16: few grey levels are left of them.",
    "Convert with the --value_range that they fill.",
)

# --- D5: records ----------------------------------------------------------------------------------

DESCRIPTION_MISSING = _kind(
    "D501",
    "description-missing",
    "warning",
    "Records without a dataset.json, which says their classes.",
    "Write it (docs/data.md), or give --dataset to train.py, eval.py and vis.py.",
)
DESCRIPTION_DAMAGED = _kind(
    "D502",
    "description-damaged",
    "error",
    "dataset.json cannot be read.",
    "Correct it (docs/data.md), or convert again.",
)
SHARDS_INCOMPLETE = _kind(
    "D503",
    "shards-incomplete",
    "error",
    "Files of a split are missing, or those of two conversions are mixed.",
    "Copy the folder again, or convert again.",
)
SHARD_IS_EMPTY = _kind(
    "D504",
    "shard-is-empty",
    "warning",
    "A file in the middle of a split holds no record.",
    "Copy the folder again, or convert again.",
)
COUNT_DIFFERS = _kind(
    "D505",
    "count-differs",
    "error",
    "A split does not hold as many records as dataset.json says.",
    "Copy the folder again, or convert again.",
)
SPLIT_NOT_DESCRIBED = _kind(
    "D506",
    "split-not-described",
    "warning",
    "dataset.json does not name a split that there are files of: nothing reads them.",
    "Delete the files, or convert again.",
)
RECORD_IS_DAMAGED = _kind(
    "D507",
    "record-is-damaged",
    "error",
    "A record does not have the checksum it was written with, or is truncated.",
    "Copy the file again, or convert again.",
)
FOREIGN_FEATURES = _kind(
    "D508",
    "foreign-features",
    "error",
    "A record lacks the features of an image and its label, or is something else.",
    "Convert the data with a script of datasets/.",
)
LABEL_IS_NO_GREY_PNG = _kind(
    "D509",
    "label-is-no-grey-png",
    "error",
    "The label in a record is no PNG of 8-bit grey: palettes and colours would be read as "
    "brightness.",
    "Convert the data with a script of datasets/.",
)
RECORDED_SIZE_DIFFERS = _kind(
    "D510",
    "recorded-size-differs",
    "warning",
    "A record states another height or width than its image has.",
    "Convert the data with a script of datasets/; ours are read all the same.",
)

# What --skip_corrupt leaves out.
OF_CORRUPT_RECORDS = (
    UNDECODABLE,
    IMAGE_OF_OTHER_CHANNELS,
    IMAGE_OF_OTHER_BITS,
    SHARDS_INCOMPLETE,
    SHARD_IS_EMPTY,
    COUNT_DIFFERS,
    RECORD_IS_DAMAGED,
    FOREIGN_FEATURES,
    LABEL_IS_NO_GREY_PNG,
)

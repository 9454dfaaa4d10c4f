"""Downloads a data set whose owners let anyone fetch it, and says how to convert it.

    python datasets/download.py voc2012 --output_dir=data

Without a name it lists what there is. Downloads that were cut off go on where they ended, and what
is there already is not fetched again. Each data set lies in a folder of its name, as unpacked.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from deeplab_tf.archives import fetch, locked, unpack
from deeplab_tf.cli import conversion

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "data", "Folder of the folders of data sets.")


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: Its address.
        gigabytes: Its size, for people.
        checksum: Algorithm and digest, "sha1:...".
        folder: The folder that is in it.
    """

    url: str
    gigabytes: float
    checksum: str
    folder: str


@dataclass(frozen=True)
class Dataset:
    """A data set to download.

    Attributes:
        archives: What it consists of.
        terms: Under which it may be used.
        command: What to run next; {0} is the folder of all data sets.
    """

    archives: tuple[Archive, ...]
    terms: str
    command: str


_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
_VOC_COMMAND = (
    "python datasets/build_voc2012_data.py "
    "--image_folder={0}/voc2012/VOCdevkit/VOC2012/JPEGImages "
    "--semantic_segmentation_folder={0}/voc2012/VOCdevkit/VOC2012/SegmentationClass "
    "--list_folder={0}/voc2012/VOCdevkit/VOC2012/ImageSets/Segmentation --output_dir=records/voc"
)
_SBD = (
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
    "benchmark.tgz"
)
_ADE20K = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
_COCO = "http://images.cocodataset.org"
_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"

# The checksums are those that GluonCV (sha1) and torchvision (md5) publish.
DATASETS = {
    "voc2012": Dataset(
        (Archive(_VOC, 2.0, "sha1:4e443f8a2eca6b1dac8a6c57641b67dd40621a49", "VOCdevkit"),),
        "images under the terms of use of Flickr",
        _VOC_COMMAND,
    ),
    "sbd": Dataset(
        (Archive(_SBD, 1.4, "sha1:7129e0a480c2d6afb02b517bb18ac54283bfaa35", "benchmark_RELEASE"),),
        "images of VOC, under the terms of use of Flickr; to be cited (Hariharan et al., 2011)",
        f"{_VOC_COMMAND} --sbd_root={{0}}/sbd/benchmark_RELEASE",
    ),
    "ade20k": Dataset(
        (
            Archive(
                _ADE20K,
                1.0,
                "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
                "ADEChallengeData2016",
            ),
        ),
        "annotations BSD 3-clause; images for non-commercial research and education only",
        "python datasets/build_ade20k_data.py "
        "--train_image_folder={0}/ade20k/ADEChallengeData2016/images/training "
        "--train_image_label_folder={0}/ade20k/ADEChallengeData2016/annotations/training "
        "--val_image_folder={0}/ade20k/ADEChallengeData2016/images/validation "
        "--val_image_label_folder={0}/ade20k/ADEChallengeData2016/annotations/validation "
        "--output_dir=records/ade20k",
    ),
    "coco2017": Dataset(
        (
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                0.25,
                "sha1:8551ee4bb5860311e79dace7e79cb91e432e78b3",
                "annotations",
            ),
            Archive(
                f"{_COCO}/zips/val2017.zip",
                0.8,
                "sha1:4950dc9d00dbe1c933ee0170f5797584351d2a41",
                "val2017",
            ),
            Archive(
                f"{_COCO}/zips/train2017.zip",
                19.3,
                "sha1:10ad623668ab00c62c096f0ed636d6aff41faca5",
                "train2017",
            ),
        ),
        "annotations CC BY 4.0; images under the terms of use of Flickr",
        "python datasets/build_coco_data.py --train_image_folder={0}/coco2017/train2017 "
        "--train_annotations={0}/coco2017/annotations/instances_train2017.json "
        "--val_image_folder={0}/coco2017/val2017 "
        "--val_annotations={0}/coco2017/annotations/instances_val2017.json "
        "--output_dir=records/coco_voc",
    ),
    "oxford_iiit_pet": Dataset(
        (
            Archive(
                f"{_PETS}/annotations.tar.gz",
                0.02,
                "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
                "annotations",
            ),
            Archive(
                f"{_PETS}/images.tar.gz",
                0.8,
                "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
                "images",
            ),
        ),
        "CC BY-SA 4.0",
        "python datasets/build_folder_data.py --image_folder={0}/oxford_iiit_pet/images "
        "--mask_folder={0}/oxford_iiit_pet/annotations/trimaps --label_map=1:0,2:1,3:2 "
        "--class_names=pet,background,border --output_dir=records/oxford_iiit_pet",
    ),
}

_BY_HAND = {
    "cityscapes": "Cityscapes wants a login: register at https://www.cityscapes-dataset.com, "
    "download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (coarse masks: "
    "leftImg8bit_trainextra.zip and gtCoarse.zip), unpack them into one folder, and run "
    "python datasets/build_cityscapes_data.py --cityscapes_root=FOLDER --output_dir=records",
    "camvid": "CamVid states no licence, so it is not fetched here: see "
    "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid, and docs/data.md for the command",
}

_MAX_UNPACKED = 64 << 30  # bytes; COCO's largest archive has a third of it


def download(archive: Archive, folder: Path) -> None:
    """Fetches an archive and unpacks it to `folder / archive.folder`, unless that is there.

    Raises:
        ConnectionError: It cannot be downloaded.
        ValueError: What came is damaged or another file.
    """
    target = folder / archive.folder
    path = folder / archive.url.rpartition("/")[2]
    with locked(target):
        if target.is_dir():
            print(f"{target} is there already.")
            return
        if not path.exists():
            fetch(archive.url, path)
        _check(path, archive)
        unpacked = folder / f".{archive.folder}.unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)  # of a process that was killed
        unpack(path, unpacked, max_bytes=_MAX_UNPACKED)
        if not (unpacked / archive.folder).is_dir():
            raise ValueError(f"{path}: expected a folder {archive.folder} in it, found none")
        (unpacked / archive.folder).rename(target)
        shutil.rmtree(unpacked)
        path.unlink()


def _check(path: Path, archive: Archive) -> None:
    algorithm, _, expected = archive.checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        path.unlink()  # it would be in the way for ever
        raise ValueError(
            f"{archive.url} gave another file than expected ({algorithm} {found} in place of "
            f"{expected}), which was deleted. Try again; if that does not help, the data set has "
            "changed or moved"
        )


def _listing() -> str:
    lines = ["give the name of a data set:"]
    for name, dataset in DATASETS.items():
        gigabytes = sum(archive.gigabytes for archive in dataset.archives)
        lines.append(f"  {name:<16}{gigabytes:>5.1f} GB  {dataset.terms}")
    return "\n".join([*lines, f"  By hand: {', '.join(_BY_HAND)} (give the name to read how)."])


def main(argv: list[str]) -> None:
    """Downloads the data sets that the command line names."""
    if unknown := [name for name in argv[1:] if name not in DATASETS]:
        raise ValueError(_BY_HAND.get(unknown[0], f"{unknown[0]} is unknown; {_listing()}"))
    if len(argv) == 1:
        raise ValueError(_listing())
    for name in argv[1:]:
        dataset = DATASETS[name]
        print(f"{name}: {dataset.terms}.")
        for archive in dataset.archives:
            download(archive, Path(FLAGS.output_dir) / name)
        print(f"Next:\n    {dataset.command.format(FLAGS.output_dir)}")


if __name__ == "__main__":
    conversion.run(main)

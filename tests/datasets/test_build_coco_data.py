import json
import pickle
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from deeplab_tf.data import DatasetInfo, records
from deeplab_tf.data.coco import coco_samples, parse_run_lengths
from deeplab_tf.data.known_datasets import KNOWN_DATASETS

HEIGHT, WIDTH = 60, 80
# COCO's categories with their ids, VOC's and some others.
CATEGORIES = {
    **{"person": 1, "bicycle": 2, "car": 3, "motorcycle": 4, "airplane": 5, "bus": 6, "train": 7},
    **{"truck": 8, "boat": 9, "bird": 16, "cat": 17, "dog": 18, "horse": 19, "sheep": 20},
    **{"cow": 21, "elephant": 22, "bottle": 44, "chair": 62, "couch": 63, "potted plant": 64},
    **{"bed": 65, "dining table": 67, "tv": 72},
}
VOC_LABELS = {
    **{"airplane": 1, "bicycle": 2, "bird": 3, "boat": 4, "bottle": 5, "bus": 6, "car": 7},
    **{"cat": 8, "chair": 9, "cow": 10, "dining table": 11, "dog": 12, "horse": 13},
    **{"motorcycle": 14, "person": 15, "potted plant": 16, "sheep": 17, "couch": 18},
    **{"train": 19, "tv": 20},
}


def polygon(rng, radius=12):
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    center = rng.uniform([5, 5], [WIDTH - 5, HEIGHT - 5])
    directions = np.stack([np.cos(angles), np.sin(angles)], -1)
    return (center + rng.uniform(radius / 2, radius, (9, 1)) * directions).ravel().round(2).tolist()


def run_lengths(rng, compressed):
    canvas = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(canvas).ellipse([*rng.integers(0, 30, 2), *rng.integers(40, 60, 2)], fill=1)
    pixels = np.asarray(canvas, np.uint8).ravel(order="F")
    if compressed:
        encoded = mask_api.encode(np.asfortranarray(np.asarray(canvas, np.uint8)))
        return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}
    edges = np.flatnonzero(np.diff(pixels, prepend=0, append=0))
    counts = np.diff(edges, prepend=0, append=pixels.size)
    return {"size": [HEIGHT, WIDTH], "counts": counts.tolist()}


def annotation(number, image, category, segmentation, iscrowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": CATEGORIES[category],
        "segmentation": segmentation,
        "iscrowd": iscrowd,
    }


@pytest.fixture
def coco(tmp_path):
    """train2017, val2017 and annotations, as unpacked; returns the flags."""
    rng = np.random.default_rng(0)
    (tmp_path / "annotations").mkdir()
    values = {"output_dir": tmp_path / "out"}
    number = 0
    for split, count in (("train", 12), ("val", 3)):
        annotations = []
        folder = tmp_path / f"{split}2017"
        folder.mkdir()
        numbers = [7 * index + 9 for index in range(count)]
        for image in numbers:
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{image:012d}.jpg")
            for category in ["person", *rng.choice(list(CATEGORIES), 5, replace=False)]:
                number += 1
                parts = [polygon(rng) for _ in range(rng.integers(1, 3))]
                annotations.append(annotation(number, image, category, parts))
        number += 2
        annotations.append(annotation(number - 1, 9, "person", run_lengths(rng, False), 1))
        annotations.append(annotation(number, 16, "tv", run_lengths(rng, True)))
        path = tmp_path / f"annotations/instances_{split}2017.json"
        write(path, numbers, annotations)
        values[f"{split}_image_folder"] = folder
        values[f"{split}_annotations"] = path
    return values


def write(path, numbers, annotations, categories=CATEGORIES):
    images = [
        {"id": n, "file_name": f"{n:012d}.jpg", "height": HEIGHT, "width": WIDTH} for n in numbers
    ]
    content = {
        "images": images[::-1],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    path.write_text(json.dumps(content))


def read_split(folder, split):
    dataset = tf.data.TFRecordDataset(records.split_files(folder, split))
    examples = map(records.parse_example, dataset)
    return {
        example["filename"].numpy().decode(): records.decode_label(example["label_bytes"]).numpy()
        for example in examples
    }


def by_brute_force(path):
    """Labels and annotated pixels of every image by the rules, pixel sets from annToMask."""
    coco = COCO(path)
    names = {number: name for name, number in CATEGORIES.items()}
    expected, annotated = {}, {}
    for number in coco.getImgIds():
        claims = [[set() for _ in range(WIDTH)] for _ in range(HEIGHT)]
        crowd = np.zeros((HEIGHT, WIDTH), bool)
        for region in coco.loadAnns(coco.getAnnIds(imgIds=[number])):
            label = VOC_LABELS.get(names[region["category_id"]])
            if label is None:
                continue
            pixels = coco.annToMask(region).astype(bool)
            if region["iscrowd"]:
                crowd |= pixels
                continue
            for row, column in np.argwhere(pixels):
                claims[row][column].add(label)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for row, column in np.ndindex(HEIGHT, WIDTH):
            found = claims[row][column]
            if len(found) == 1:
                labels[row, column] = next(iter(found))
            elif found or crowd[row, column]:
                labels[row, column] = 255
        expected[f"{number:012d}"] = labels
        annotated[f"{number:012d}"] = sum(bool(found) for row in claims for found in row)
    return expected, annotated


def test_masks_equal_those_by_brute_force(script, coco, capsys):
    script("build_coco_data", **coco, min_annotated_pixels=0)
    info = DatasetInfo.load(coco["output_dir"])
    voc = KNOWN_DATASETS["pascal_voc_seg"]
    assert (info.class_names, info.palette) == (voc.class_names, voc.palette)
    assert info.splits == {"train": 12, "val": 3}
    seen = np.zeros(256, int)
    for split in info.splits:
        expected, _ = by_brute_force(coco[f"{split}_annotations"])
        labels = read_split(coco["output_dir"], split)
        assert list(labels) == sorted(expected)
        for name, label in labels.items():
            np.testing.assert_array_equal(label, expected[name])
            seen += np.bincount(label.ravel(), minlength=256)
    assert seen[[0, 15, 20, 255]].all() and (seen > 0).sum() > 15
    assert "tvmonitor" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(VOC_LABELS))
def test_classes_go_by_name_whatever_their_ids(script, coco, name):
    """Every category fills an image; ids are others than COCO's."""
    other_ids = {category: 1000 - number for category, number in CATEGORIES.items()}
    box = [[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]]
    half = [[0, 0, 40, 0, 40, HEIGHT, 0, HEIGHT]]
    regions = [annotation(1, 9, name, half), annotation(2, 9, "truck", box)]
    for region, category in zip(regions, (name, "truck"), strict=True):
        region["category_id"] = other_ids[category]
    write(coco["val_annotations"], [9], regions, other_ids)
    flags = {name: coco[name] for name in ("val_image_folder", "val_annotations", "output_dir")}
    script("build_coco_data", **flags)
    label = read_split(coco["output_dir"], "val")["000000000009"]
    assert (label[:, :40] == VOC_LABELS[name]).all() and (label[:, 40:] == 0).all()


def test_compressed_run_lengths_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for density in np.linspace(0, 1, 50):
        mask = (rng.random((37, 23)) < density).astype(np.uint8)
        mask[:, rng.integers(23) :] = rng.integers(2)  # long runs
        edges = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0))
        counts = np.diff(edges, prepend=0, append=mask.size).tolist()
        text = mask_api.encode(np.asfortranarray(mask))["counts"].decode()
        assert parse_run_lengths(text) == counts


def test_a_sample_travels_with_its_own_regions_only(coco):
    samples = coco_samples(coco["train_image_folder"], coco["train_annotations"])
    assert pickle.loads(pickle.dumps(samples)) == samples
    assert max(len(pickle.dumps(sample)) for sample in samples) < 3000
    assert len({repr(sample) for sample in samples}) == 12


def test_training_images_need_more_annotated_pixels(script, coco, capsys):
    _, annotated = by_brute_force(coco["train_annotations"])
    minimum = sorted(annotated.values())[5]  # more than it, not as many
    script("build_coco_data", **coco, min_annotated_pixels=minimum)
    expected = sorted(name for name, pixels in annotated.items() if pixels > minimum)
    assert 0 < len(expected) <= 6
    assert list(read_split(coco["output_dir"], "train")) == expected
    assert len(read_split(coco["output_dir"], "val")) == 3  # scores are of all images
    assert f"{len(expected)} images with more than {minimum}" in capsys.readouterr().out


def damaged(**fields):
    def damage(coco):
        content = json.loads(coco["train_annotations"].read_text())
        content["annotations"][0] |= {"category_id": 1} | fields
        coco["train_annotations"].write_text(json.dumps(content))

    return damage


def unnamed(coco):
    content = json.loads(coco["train_annotations"].read_text())
    content["categories"] = [c for c in content["categories"] if c["name"] != "tv"]
    coco["train_annotations"].write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda coco: coco["train_annotations"].unlink(), r"instances_train2017\.json not found"),
        (lambda coco: coco["train_annotations"].write_text("{"), r"train2017\.json is no file of"),
        (
            lambda coco: coco["train_annotations"].write_text('{"images": [], "annotations": []}'),
            r"train2017\.json is no file of .*KeyError: 'categories'",
        ),
        (unnamed, r"instances_train2017\.json: no category tv; expected COCO's"),
        (
            lambda coco: (coco["train_image_folder"] / "000000000016.jpg").unlink(),
            r"instances_train2017\.json: no image .*train2017/000000000016\.jpg",
        ),
        (
            lambda coco: Image.new("RGB", (9, 9)).save(coco["val_image_folder"] / f"{9:012d}.jpg"),
            r"val2017/000000000009\.jpg: the image is 9x9 .* its mask 80x60",
        ),
        (damaged(segmentation=[]), "json, annotation 1: expected polygons of at least three"),
        (damaged(segmentation=[[1, 1, 9, 9]]), "annotation 1: expected polygons of at least three"),
        (damaged(segmentation="x"), "json, annotation 1: "),
        (
            damaged(segmentation={"size": [WIDTH, HEIGHT], "counts": [4800]}),
            r"annotation 1: run lengths of 4800 pixels for the size \[80, 60\] .* of \[60, 80\]",
        ),
        (
            damaged(segmentation={"size": [HEIGHT, WIDTH], "counts": [4000, 700]}),
            "annotation 1: run lengths of 4700 pixels",
        ),
        (
            damaged(segmentation={"size": [HEIGHT, WIDTH], "counts": "Pm3`n"}),
            "annotation 1: run lengths of ",
        ),
        (damaged(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), "annotation 1: .* far outside"),
        (damaged(segmentation=[[0, 0, 9, float("nan"), 9, 9]]), "annotation 1: .* far outside"),
    ],
)
def test_what_does_not_fit_is_named(script, coco, damage, message):
    damage(coco)
    with pytest.raises(SystemExit, match=message):
        script("build_coco_data", **coco, min_annotated_pixels=0)
    assert not coco["output_dir"].exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing to convert: give --train_image_folder"),
        ({"val_annotations": "a.json"}, "--val_image_folder and --val_annotations go together"),
    ],
)
def test_flags_that_do_not_fit(script, tmp_path, values, message):
    with pytest.raises(SystemExit, match=message):
        script("build_coco_data", output_dir=tmp_path / "out", **values)


def test_no_image_with_so_many_pixels(script, coco):
    with pytest.raises(SystemExit, match="no image has more than 4800 annotated pixels"):
        script("build_coco_data", **coco, min_annotated_pixels=4800)


def test_without_pycocotools_it_says_how_to_get_it(script, coco, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(SystemExit, match=r"need pycocotools: pip install 'deeplab-tf\[coco\]'"):
        script("build_coco_data", **coco)

import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import DatasetInfo, records

ROOT = Path(__file__).parents[2]
COLORS = np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10]], np.uint8)


def labels_of(index):
    return np.random.default_rng(index).integers(0, 3, (12 + index, 20)).astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Twelve images in `images`, and the same labels as RGB, index and 0/255 masks."""
    for name in ("images", "rgb", "index", "binary"):
        (tmp_path / name).mkdir()
    for index in range(12):
        labels = labels_of(index)
        rng = np.random.default_rng(index)
        image = Image.fromarray(rng.integers(0, 256, (*labels.shape, 3), np.uint8))
        image.save(tmp_path / f"images/n{index}.{('jpg', 'png', 'bmp')[index % 3]}")
        Image.fromarray(COLORS[labels]).save(tmp_path / f"rgb/n{index}.png")
        Image.fromarray(labels).save(tmp_path / f"index/n{index}.png")
        binary = np.where(labels == 0, 0, 255).astype(np.uint8)
        Image.fromarray(binary).save(tmp_path / f"binary/n{index}_mask.png")
    return tmp_path


def flags_of(folders, masks, **values):
    return {
        "image_folder": folders / "images",
        "mask_folder": folders / masks,
        "output_dir": folders / "out",
    } | values


def read(folder):
    """Returns the label of every record by name and the names by split."""
    labels, names = {}, {}
    for split in DatasetInfo.load(folder).splits:
        dataset = tf.data.TFRecordDataset(records.split_files(folder, split))
        for example in map(records.parse_example, dataset):
            name = example["filename"].numpy().decode()
            labels[name] = records.decode_label(example["label_bytes"]).numpy()
            names.setdefault(split, []).append(name)
            # Whatever the file was, a record is read by the reference's reader.
            assert tf.image.decode_image(example["image_bytes"]).shape == (*labels[name].shape, 3)
    return labels, names


def assert_labels(labels, expected=lambda labels: labels):
    assert len(labels) == 12
    for index in range(12):
        np.testing.assert_array_equal(labels[f"n{index}"], expected(labels_of(index)))


def test_index_masks(script, folders):
    script("build_folder_data", **flags_of(folders, "index", class_names="sky,sea,sand"))
    info = DatasetInfo.load(folders / "out")
    assert (info.name, info.class_names) == ("out", ("sky", "sea", "sand"))
    labels, names = read(folders / "out")
    assert_labels(labels)
    assert set(names) == {"train", "val"}


def test_index_masks_without_names(script, folders):
    script("build_folder_data", **flags_of(folders, "index", seed=3))
    assert DatasetInfo.load(folders / "out").class_names == ("class_0", "class_1", "class_2")


def test_rgb_masks_with_a_color_table(script, folders):
    table = folders / "colors.csv"
    table.write_text("name,r,g,b\nvoid,0,0,0\nsea,200,10,10\nsand,10,200,10\n")
    script("build_folder_data", **flags_of(folders, "rgb", color_table=table, dataset_name="beach"))
    info = DatasetInfo.load(folders / "out")
    assert (info.name, info.class_names) == ("beach", ("sea", "sand"))
    assert info.palette == ((200, 10, 10), (10, 200, 10))
    assert_labels(read(folders / "out")[0], lambda labels: np.array([255, 0, 1])[labels])


def test_binary_masks(script, folders):
    values = flags_of(folders, "binary", mask_suffix="_mask", class_names="background,thing")
    with pytest.raises(SystemExit, match=r"binary masks: .* --label_map=0:0,255:1"):
        script("build_folder_data", **values)
    assert not (folders / "out").exists()
    # The advice of the message works.
    script("build_folder_data", **values, label_map="0:0,255:1")
    assert_labels(read(folders / "out")[0], lambda labels: np.minimum(labels, 1))


def test_lists_choose_the_splits(script, folders):
    (folders / "t.txt").write_text("n3\nn1\n")
    (folders / "v.txt").write_text("n2\n")
    lists = {"train_list": folders / "t.txt", "val_list": folders / "v.txt"}
    script("build_folder_data", **flags_of(folders, "index", **lists, class_names="a,b,c"))
    assert read(folders / "out")[1] == {"train": ["n3", "n1"], "val": ["n2"]}


def test_rgb_masks_given_as_index_masks(script_process, folders):
    process = script_process("build_folder_data", **flags_of(folders, "rgb", class_names="a,b,c"))
    assert process.returncode == 1
    assert "build_folder_data: 12 problem(s)" in process.stderr
    assert "n0.png: a colour (RGB) mask where class indices are expected" in process.stderr
    assert "... and 2 more" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (folders / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask_type": "rgb"}, "--mask_type=rgb needs --color_table"),
        ({"mask_type": "index", "color_table": "c"}, "--color_table is for RGB masks"),
        ({"class_names": "a,b", "class_names_file": "f"}, "--class_names and --class_names_file"),
        ({"class_names": "a,b", "color_table": "c"}, "--class_names and --color_table"),
        ({"label_map": "0:0", "color_table": "c"}, "--label_map is for index"),
        ({"label_map": "0=0"}, "label map entry '0=0'"),
        ({"train_list": "t"}, "--train_list and --val_list go together"),
        ({"val_image_folder": "v"}, "--val_image_folder and --val_mask_folder go together"),
        (
            {"train_list": "t", "val_list": "v", "val_image_folder": "i", "val_mask_folder": "m"},
            "--train_list and --val_image_folder both choose",
        ),
        ({"color_table": "absent.txt"}, r"absent\.txt not found"),
        ({"class_names_file": "absent.txt"}, r"absent\.txt not found"),
        ({"mask_suffix": "_label"}, "ends in '_label'"),
        ({"image_folder": "nowhere"}, "image folder nowhere not found"),
        ({"val_ratio": 0}, "between 0 and 1"),
    ],
)
def test_flags_that_do_not_fit(script, folders, values, message):
    with pytest.raises(SystemExit, match=f"build_folder_data: .*{message}"):
        script("build_folder_data", **flags_of(folders, "index", **values))
    assert not (folders / "out").exists()


def write_split(images, masks, names, values):
    """Images of 20x12 with masks in which every value of `values` occurs."""
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (12, 20, 3), np.uint8)).save(images / f"{name}.jpg")
        Image.fromarray(mask_values(number, values)).save(masks / f"{name}.png")


def mask_values(number, values):
    return np.random.default_rng(number).permutation(np.resize(values, 240)).reshape(12, 20)


def test_the_layout_of_coco_stuff(script, tmp_path):
    """stuffthingmaps: 0..181 with gaps, 255 for unlabelled; names from its labels.txt."""
    names = [f"{['person', 'tree', 'door-stuff'][n % 3]} {n}" for n in range(1, 183)]
    lines = ["0: unlabeled", *(f"{number}: {name}" for number, name in enumerate(names, start=1))]
    (tmp_path / "labels.txt").write_text("\n".join(lines) + "\n")
    # The documented command: tail -n +2 labels.txt | cut -d' ' -f2- > names.txt
    command = "tail -n +2 labels.txt | cut -d' ' -f2- > names.txt"
    assert command in (ROOT / "docs/data.md").read_text()
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    values = np.setdiff1d(np.arange(182), [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90])
    values = np.append(values, 255).astype(np.uint8)
    for split, images in (("train2017", [9, 25, 30]), ("val2017", [139])):
        folders = tmp_path / split, tmp_path / "stuffthingmaps" / split
        write_split(*folders, [f"{number:012d}" for number in images], values)
    script(
        "build_folder_data",
        image_folder=tmp_path / "train2017",
        mask_folder=tmp_path / "stuffthingmaps/train2017",
        val_image_folder=tmp_path / "val2017",
        val_mask_folder=tmp_path / "stuffthingmaps/val2017",
        class_names_file=tmp_path / "names.txt",
        output_dir=tmp_path / "out",
    )
    info = DatasetInfo.load(tmp_path / "out")
    assert info.class_names == tuple(names)
    assert info.splits == {"train": 3, "val": 1}
    labels, found = read(tmp_path / "out")
    assert found["val"] == ["000000000139"]
    np.testing.assert_array_equal(labels["000000000025"], mask_values(1, values))


def test_the_layout_of_lip(script, tmp_path):
    images, masks = tmp_path / "TrainVal_images", tmp_path / "TrainVal_parsing_annotations"
    values = np.arange(20, dtype=np.uint8)
    write_split(images / "train_images", masks / "train_segmentations", ["100_1", "101_2"], values)
    write_split(images / "val_images", masks / "val_segmentations", ["100_1"], values)
    names = (
        "background,hat,hair,glove,sunglasses,upper clothes,dress,coat,socks,pants,jumpsuits,"
        "scarf,skirt,face,left arm,right arm,left leg,right leg,left shoe,right shoe"
    )
    assert f'--class_names="{names}"' in (ROOT / "docs/data.md").read_text().replace(" \\\n", "")
    script(
        "build_folder_data",
        image_folder=images / "train_images",
        mask_folder=masks / "train_segmentations",
        val_image_folder=images / "val_images",
        val_mask_folder=masks / "val_segmentations",
        class_names=names,
        output_dir=tmp_path / "out",
    )
    info = DatasetInfo.load(tmp_path / "out")
    assert (info.num_classes, info.splits) == (20, {"train": 2, "val": 1})
    assert read(tmp_path / "out")[1] == {"train": ["100_1", "101_2"], "val": ["100_1"]}


def test_an_image_without_a_mask_in_the_folders_of_val(script, folders):
    (folders / "val_images").mkdir()
    Image.new("RGB", (4, 4)).save(folders / "val_images/lonely.png")
    more = {"val_image_folder": folders / "val_images", "val_mask_folder": folders / "rgb"}
    with pytest.raises(SystemExit, match=r"no mask in .*rgb for the image lonely"):
        script("build_folder_data", **flags_of(folders, "index", **more))


def test_the_layout_of_segnets_camvid(script, tmp_path):
    values = np.arange(12, dtype=np.uint8)  # 11 is unlabelled
    write_split(
        tmp_path / "train", tmp_path / "trainannot", ["0001TP_006690", "Seq05VD_f00"], values
    )
    write_split(tmp_path / "val", tmp_path / "valannot", ["0016E5_07959"], values)
    label_map = "0:0,1:1,2:2,3:3,4:4,5:5,6:6,7:7,8:8,9:9,10:10,11:255"
    names = "sky,building,pole,road,sidewalk,tree,sign,fence,car,pedestrian,bicyclist"
    text = (ROOT / "docs/data.md").read_text()
    assert f"--label_map={label_map}" in text and f"--class_names={names}" in text
    script(
        "build_folder_data",
        image_folder=tmp_path / "train",
        mask_folder=tmp_path / "trainannot",
        val_image_folder=tmp_path / "val",
        val_mask_folder=tmp_path / "valannot",
        label_map=label_map,
        class_names=names,
        output_dir=tmp_path / "out",
    )
    info = DatasetInfo.load(tmp_path / "out")
    assert (info.num_classes, info.splits) == (11, {"train": 2, "val": 1})
    labels, _ = read(tmp_path / "out")
    expected = mask_values(0, values)
    np.testing.assert_array_equal(labels["0016E5_07959"], np.where(expected == 11, 255, expected))

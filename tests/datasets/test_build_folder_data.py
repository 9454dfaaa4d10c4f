import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import DatasetInfo, records

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

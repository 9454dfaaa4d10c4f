import pytest

from deeplab_tf.data.pairing import folder_splits, raise_problems, voc_splits


def make(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def voc(tmp_path, images=("a.jpg", "b.jpg"), masks=("a.png", "b.png"), **lists):
    """Lays out a VOC data set of empty files; `lists` holds the text of each list file."""
    make(tmp_path / "lists")
    for split, text in lists.items():
        (tmp_path / "lists" / f"{split}.txt").write_text(text)
    return {
        "image_dir": make(tmp_path / "images", *images),
        "mask_dir": make(tmp_path / "masks", *masks),
        "list_dir": tmp_path / "lists",
    }


def names(splits):
    return {split: [sample.name for sample in samples] for split, samples in splits.items()}


def test_voc_every_list_is_a_split_in_its_order(tmp_path):
    folders = voc(tmp_path, train="b\na\n", val="a\r\n\r\n")
    splits = voc_splits(**folders)
    assert names(splits) == {"train": ["b", "a"], "val": ["a"]}
    assert splits["train"][0].image_path == tmp_path / "images/b.jpg"
    assert splits["train"][0].mask_path == tmp_path / "masks/b.png"


def test_voc_images_outside_the_lists_are_left_out(tmp_path):
    folders = voc(tmp_path, images=("a.jpg", "b.jpg", "unlabelled.jpg"), train="a\n")
    assert names(voc_splits(**folders)) == {"train": ["a"]}


def test_voc_extensions_choose_between_images_of_the_same_name(tmp_path):
    folders = voc(tmp_path, images=("a.jpg", "a.png"), train="a\n")
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png have the same name"):
        voc_splits(**folders)
    splits = voc_splits(**folders, image_extensions=(".png",))
    assert splits["train"][0].image_path.name == "a.png"


@pytest.mark.parametrize("part", ["image", "mask", "list"])
def test_voc_missing_and_empty_folders_are_named(tmp_path, part):
    folders = voc(tmp_path, train="a\n")
    with pytest.raises(FileNotFoundError, match=f"{part} folder .*absent not found"):
        voc_splits(**folders | {f"{part}_dir": tmp_path / "absent"})
    with pytest.raises(ValueError, match=f"{part} folder .*empty holds no"):
        voc_splits(**folders | {f"{part}_dir": make(tmp_path / "empty")})


def test_voc_lists_that_do_not_fit_the_files(tmp_path):
    folders = voc(tmp_path, images=("a.jpg", "b.jpg"), masks=("a.png", "c.png"), train="a\nb\nc\n")
    with pytest.raises(ValueError, match="2 problem") as error:
        voc_splits(**folders)
    assert "train.txt: no image in" in str(error.value) and "for c" in str(error.value)
    assert "train.txt: no mask in" in str(error.value) and "for b" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("\n \n", r"train\.txt is empty"), ("a\nb\na\n", r"train\.txt: a is listed 2 times")],
)
def test_voc_bad_lists(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        voc_splits(**voc(tmp_path, train=text))


def test_voc_lists_of_other_editors(tmp_path):
    folders = voc(tmp_path, train="\ufeffa\r\nb\r\n")
    assert [sample.name for sample in voc_splits(**folders)["train"]] == ["a", "b"]
    (folders["list_dir"] / "train.txt").write_bytes("straße".encode("latin1"))
    with pytest.raises(ValueError, match=r"train\.txt: not a text in UTF-8"):
        voc_splits(**folders)


def folders_of(tmp_path, count, suffix=""):
    stems = [f"image{index}" for index in range(count)]
    return {
        "image_dir": make(tmp_path / "images", *[f"{stem}.jpg" for stem in stems]),
        "mask_dir": make(tmp_path / "masks", *[f"{stem}{suffix}.png" for stem in stems]),
    }


def test_folder_split_is_near_the_ratio_and_depends_on_the_seed(tmp_path):
    folders = folders_of(tmp_path, 400)
    splits = folder_splits(**folders, val_ratio=0.25, seed=1)
    assert abs(len(splits["val"]) - 100) < 30
    assert len(splits["train"]) + len(splits["val"]) == 400
    assert names(splits) == names(folder_splits(**folders, val_ratio=0.25, seed=1))
    assert names(splits) != names(folder_splits(**folders, val_ratio=0.25, seed=2))


def test_folder_split_stays_when_images_are_added(tmp_path):
    before = names(folder_splits(**folders_of(tmp_path, 50)))
    after = names(folder_splits(**folders_of(tmp_path, 100)))
    for split in ("train", "val"):
        assert set(before[split]) < set(after[split])


def test_folder_split_must_not_be_empty(tmp_path):
    folders = folders_of(tmp_path, 2)
    with pytest.raises(ValueError, match="leaves the split 'val' empty"):
        folder_splits(**folders, val_ratio=0.001)
    with pytest.raises(ValueError, match="between 0 and 1, found 1"):
        folder_splits(**folders, val_ratio=1)


def test_folder_lists_take_names_with_and_without_extension(tmp_path):
    folders = folders_of(tmp_path, 4)
    make(folders["image_dir"], "v1.2.jpg")
    make(folders["mask_dir"], "v1.2.png")
    train, val = tmp_path / "train.txt", tmp_path / "val.txt"
    train.write_text("image2.jpg\nimage0\nv1.2\n")
    val.write_text("image1\n")
    splits = folder_splits(**folders, list_files={"train": train, "val": val})
    assert names(splits) == {"train": ["image2", "image0", "v1.2"], "val": ["image1"]}
    val.write_text("image9\n")
    with pytest.raises(ValueError, match=r"val\.txt: no image in .* for image9"):
        folder_splits(**folders, list_files={"train": train, "val": val})
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        folder_splits(**folders, list_files={"train": train, "val": tmp_path / "absent.txt"})


def test_folder_images_and_masks_must_pair_up(tmp_path):
    folders = folders_of(tmp_path, 30)
    make(folders["image_dir"], "lonely.jpg", ".hidden.jpg", "notes.txt")
    make(folders["mask_dir"], "orphan.png")
    with pytest.raises(ValueError, match="2 problem") as error:
        folder_splits(**folders)
    assert "for the image lonely" in str(error.value)
    assert "for the mask orphan" in str(error.value)


def test_folder_mask_suffix(tmp_path):
    folders = folders_of(tmp_path, 20, suffix="_mask")
    with pytest.raises(ValueError, match="give it as --mask_suffix"):
        folder_splits(**folders)
    samples = folder_splits(**folders, mask_suffix="_mask")["train"]
    assert all(sample.mask_path.stem == f"{sample.name}_mask" for sample in samples)
    with pytest.raises(ValueError, match="no file whose name ends in '_label'"):
        folder_splits(**folders, mask_suffix="_label")


def test_many_problems_are_counted_and_cut():
    raise_problems([])
    with pytest.raises(ValueError, match="25 problem") as error:
        raise_problems([f"problem {index}" for index in range(25)] * 2, hint="Do this.")
    lines = str(error.value).splitlines()
    assert lines[1:11] == [f"  - problem {index}" for index in range(10)]
    assert lines[11:] == ["  ... and 15 more", "Do this."]

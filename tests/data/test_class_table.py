import pytest

from deeplab_tf.data.class_table import parse_label_map, read_class_names, read_color_table


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_class_names_one_a_line(tmp_path):
    path = write(tmp_path / "names.txt", "\ufeffbackground\r\n traffic light \r\n\r\n")
    assert read_class_names(path) == ("background", "traffic light")


def test_class_names_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_class_names(tmp_path / "absent")
    with pytest.raises(ValueError, match="empty file"):
        read_class_names(write(tmp_path / "names.txt", " \n"))
    with pytest.raises(ValueError, match="line 2 is empty"):
        read_class_names(write(tmp_path / "names.txt", "a\n\nb\n"))
    (tmp_path / "names.txt").write_bytes("straße".encode("latin1"))
    with pytest.raises(ValueError, match=r"names\.txt: not a text in UTF-8"):
        read_class_names(tmp_path / "names.txt")


@pytest.mark.parametrize(
    "text",
    [
        "0 0 0 background\n128 0 0 traffic light\n128 0 1 traffic light\n9 9 9 Void\n",
        "r,g,b,name\n0,0,0,background\n128, 0, 0, traffic light\n128,0,1,traffic light\n9,9,9,void",
        "name,r,g,b\nbackground,0,0,0\ntraffic light,128,0,0\ntraffic light,128,0,1\nignore,9,9,9",
        "# colours\n0\t0\t0\tbackground\n\n128\t0\t0\ttraffic light\n128 0 1 traffic light\n"
        "9 9 9 void\n",
    ],
    ids=["spaces", "csv", "csv_name_first", "tabs"],
)
def test_color_table_spellings(tmp_path, text):
    table = read_color_table(write(tmp_path / "colors", text), ignore_label=255)
    assert table.class_names == ("background", "traffic light")
    assert table.palette == ((0, 0, 0), (128, 0, 0))
    assert table.labels == {(0, 0, 0): 0, (128, 0, 0): 1, (128, 0, 1): 1, (9, 9, 9): 255}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no class"),
        ("0 0 0 void\n", "no class"),
        ("0 0 0\n", "line 1: expected `r g b name`"),
        ("0 0 0 a\n0 0 256 b\n", "line 2: .*0..255"),
        ("0 0 0 a\n0 0 0 b\n", "line 2: colour .* already has another name"),
        ("0 0 0 a\nb\n", "line 2: expected"),
    ],
)
def test_color_table_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_color_table(write(tmp_path / "colors", text), ignore_label=255)


def test_label_map():
    assert parse_label_map(["0:255", " 65535:1 "]) == {0: 255, 65535: 1}
    for entries in (["1"], ["a:1"], ["1:256"], ["1:2:3"]):
        with pytest.raises(ValueError, match="not <value in the mask>:<label"):
            parse_label_map(entries)
    with pytest.raises(ValueError, match="value 1 two labels"):
        parse_label_map(["1:0", "1:2"])

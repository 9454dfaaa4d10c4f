"""Data sets from a server on this machine, in archives of the originals' layout."""

import dataclasses
import hashlib
import io
import shlex
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from deeplab_tf import archives
from deeplab_tf.cli import conversion
from deeplab_tf.data import DatasetInfo
from tests.http_server import serving


def tar(members, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            # Of one date, or names of tests with these bytes in them would depend on the time.
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def picture(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


TRIMAP = np.array([[1, 2, 3], [3, 2, 1]], np.uint8)
NAMES = [f"Abyssinian_{number}" for number in range(8)]
FILES = {
    "VOCtrainval_11-May-2012.tar": tar({"VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg": b"1"}, "w"),
    "benchmark.tgz": tar({"benchmark_RELEASE/dataset/train.txt": b"2008_000002"}, "w:gz"),
    "ADEChallengeData2016.zip": zipped({"ADEChallengeData2016/images/training/a.jpg": b"2"}),
    "annotations_trainval2017.zip": zipped({"annotations/instances_val2017.json": b"{}"}),
    "val2017.zip": zipped({"val2017/": b"", "val2017/000000000139.jpg": b"3"}),
    "train2017.zip": zipped({"train2017/000000000009.jpg": b"4" * 9}),
    "images.tar.gz": tar(
        {f"images/{name}.jpg": picture(np.zeros((2, 3, 3), np.uint8), "JPEG") for name in NAMES}
        | {"images/Abyssinian_100.mat": b"stray"},
        "w:gz",
    ),
    "annotations.tar.gz": tar(
        {f"annotations/trimaps/{name}.png": picture(TRIMAP) for name in NAMES}
        | {"annotations/trimaps/._Abyssinian_1.png": b"of a Mac", "annotations/list.txt": b"#"},
        "w:gz",
    ),
}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(archives, "_FIRST_PAUSE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(dict(FILES)) as server:
        yield server


@pytest.fixture
def download(load_script, server):
    """A function that runs download.py with addresses and checksums of the files here."""

    def run(*arguments):
        module = load_script("download")
        for name, dataset in module.DATASETS.items():
            local = []
            for archive in dataset.archives:
                file = archive.url.rpartition("/")[2]
                algorithm = archive.checksum.partition(":")[0]
                digest = hashlib.new(algorithm, FILES[file]).hexdigest()
                url = server.url.replace("model.tar.gz", file)
                local.append(
                    dataclasses.replace(archive, url=url, checksum=f"{algorithm}:{digest}")
                )
            module.DATASETS[name] = dataclasses.replace(dataset, archives=tuple(local))
        names = flags.FLAGS(["download", *map(str, arguments)])
        conversion.checked(module.main)(names)
        return module

    return run


def files_below(folder):
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in paths if path.suffix != ".lock")


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("voc2012", ["VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg"]),
        ("sbd", ["benchmark_RELEASE/dataset/train.txt"]),
        ("ade20k", ["ADEChallengeData2016/images/training/a.jpg"]),
        (
            "coco2017",
            [
                "annotations/instances_val2017.json",
                "train2017/000000000009.jpg",
                "val2017/000000000139.jpg",
            ],
        ),
    ],
)
def test_a_data_set_lies_there_as_unpacked(download, server, tmp_path, name, files, capsys):
    download(name, f"--output_dir={tmp_path}")
    assert files_below(tmp_path) == [f"{name}/{file}" for file in files]
    requests = len(server.asked)
    download(name, f"--output_dir={tmp_path}")
    assert len(server.asked) == requests
    assert "is there already" in capsys.readouterr().out


def test_the_next_command_converts_what_was_downloaded(download, script, tmp_path, capsys):
    download("oxford_iiit_pet", f"--output_dir={tmp_path}")
    _, _, command = capsys.readouterr().out.partition("Next:\n")
    python, path, *arguments = shlex.split(command)
    assert (python, path) == ("python", "datasets/build_folder_data.py")
    values = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    script("build_folder_data", **values | {"output_dir": tmp_path / "out"})
    info = DatasetInfo.load(tmp_path / "out")
    assert info.class_names == ("pet", "background", "border")
    assert sum(info.splits.values()) == len(NAMES)


@pytest.mark.parametrize("name", ["voc2012", "sbd", "ade20k", "coco2017", "oxford_iiit_pet"])
def test_the_next_command_has_flags_of_its_script(load_script, name):
    _, path, *arguments = shlex.split(load_script("download").DATASETS[name].command.format("data"))
    load_script(Path(path).stem)
    flags.FLAGS([path, *arguments])
    assert len(arguments) >= 4


def test_a_download_goes_on_where_it_was_cut_off(download, server, tmp_path):
    server.drop_after = [100, 0, 0, 0]
    with pytest.raises(SystemExit, match=r"benchmark\.tgz could not be downloaded"):
        download("sbd", f"--output_dir={tmp_path}")
    server.asked.clear()
    download("sbd", f"--output_dir={tmp_path}")
    assert server.asked == ["bytes=100-"]
    assert files_below(tmp_path) == ["sbd/benchmark_RELEASE/dataset/train.txt"]


def test_another_file_is_refused(download, server, tmp_path):
    server.content["benchmark.tgz"] = tar({"benchmark_RELEASE/evil": b""}, "w:gz")
    with pytest.raises(SystemExit, match=r"benchmark\.tgz gave another file than expected \(sha1"):
        download("sbd", f"--output_dir={tmp_path}")
    assert files_below(tmp_path) == []
    server.content["benchmark.tgz"] = FILES["benchmark.tgz"]
    download("sbd", f"--output_dir={tmp_path}")


def test_what_a_killed_process_left_is_no_obstacle(download, tmp_path):
    for leftover in (".VOCdevkit.unpacked", "..VOCdevkit.unpacked.partial-1"):
        (tmp_path / "voc2012" / leftover / "VOCdevkit/VOC2012").mkdir(parents=True)
        (tmp_path / "voc2012" / leftover / "VOCdevkit/VOC2012/half").touch()
    download("voc2012", f"--output_dir={tmp_path}")
    assert files_below(tmp_path) == ["voc2012/VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["imagenet"], r"imagenet is unknown; give the name of a data set:\n  voc2012 .* 2\.0 GB"),
        ([], "give the name of a data set:"),
        (["cityscapes"], "Cityscapes wants a login: register at .*build_cityscapes_data"),
        (["camvid"], "CamVid states no licence"),
    ],
)
def test_names_that_cannot_be_downloaded(download, server, names, message):
    with pytest.raises(SystemExit, match=f"download: {message}"):
        download(*names)
    assert server.asked == []


def test_checksums_have_their_algorithms_length(load_script):
    for dataset in load_script("download").DATASETS.values():
        for archive in dataset.archives:
            algorithm, _, digest = archive.checksum.partition(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size


# --- zip and tar archives that are no data sets ---------------------------------------------------


def with_mode(mode):
    info = zipfile.ZipInfo("a")
    info.external_attr = mode << 16
    return info


def damaged(data):
    return data[:30] + bytes(byte ^ 255 for byte in data[30:34]) + data[34:]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.zip", zipped({"../evil": b""}), "was not unpacked: '../evil' leads out"),
        ("a.zip", zipped({"/tmp/evil": b""}), "was not unpacked: '/tmp/evil' leads out"),
        ("a.zip", zipped({"C:\\evil": b""}), "was not unpacked: .* leads out"),
        ("a.zip", zipped({with_mode(stat.S_IFLNK): b"/"}), "was not unpacked: 'a' is a link"),
        (
            "a.zip",
            zipped({"a": b"1", "a/b": b"2"}),
            "was not unpacked: it has the name 'a/b' twice",
        ),
        ("a.zip", zipped({"a": bytes(2 << 20)}), "it unpacks to more than 1048576 bytes"),
        ("a.zip", zipped({"a": b"1"})[:-30], r"is damaged, or no \.zip"),
        ("a.zip", b"<html>", r"is damaged, or no \.zip"),
        ("a.zip", damaged(zipped({"a": b"123456789" * 9})), r"is damaged, or no \.zip"),
        ("a.tar", tar({"../evil": b""}, "w"), "was not unpacked: '../evil' leads out"),
        ("a.tar", tar({"a": bytes(2 << 20)}, "w"), "it unpacks to more than 1048576 bytes"),
        ("a.tar", tar({"a": bytes(9999)}, "w")[:2000], r"is damaged, or no \.tar"),
        ("a.tar", b"<html>", r"is damaged, or no \.tar"),
    ],
)
def test_an_evil_or_damaged_archive_writes_nothing(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        archives.unpack(tmp_path / name, tmp_path / "out", max_bytes=1 << 20)
    assert [path.name for path in tmp_path.iterdir()] == [name]

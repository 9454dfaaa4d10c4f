"""The zoo's records against the reference's page of it; downloads from a server that misbehaves."""

import dataclasses
import gzip
import io
import json
import os
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import ModelConfig, archives, build_deeplab
from deeplab_tf.config import CellBranch
from deeplab_tf.data.known_datasets import KNOWN_DATASETS
from deeplab_tf.weights import load_tf1_checkpoint, locate_checkpoint, zoo
from deeplab_tf.weights.zoo import ZOO, download, find_model, zoo_table
from tests import golden_cases
from tests.golden.rules import make_weight
from tests.http_server import serving

DOCUMENTATION = Path(__file__).parent.parent.parent / "docs" / "zoo.md"
PUBLISHED = json.loads((golden_cases.FOLDER / "zoo.json").read_text())["models"]
NAME = "mobilenetv2_dm05_coco_voc_trainaug"
ARCHIVE = "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01.tar.gz"

# --- the records ----------------------------------------------------------------------------------


def test_every_published_model_is_there_in_their_order():
    assert list(ZOO) == [published["name"] for published in PUBLISHED]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published["name"])
def test_a_record_equals_the_published_one(published):
    model = ZOO[published["name"]]
    results = [
        {
            "eval_output_stride": result.output_stride,
            "eval_scales": list(result.scales),
            "flip": result.flip,
            "miou_percent": result.miou_percent,
            "split": result.split,
        }
        | ({"pixel_accuracy": result.pixel_accuracy} if result.pixel_accuracy else {})
        for result in model.results
    ]
    settings = published["settings"]
    assert {
        "name": model.name,
        "url": model.url,
        "model_variant": model.network.model_variant,
        "dataset": model.dataset,
        "settings": settings,
        "results": results,
        "file_size": model.file_size,
        "kind": model.kind,
    } == published
    assert model.quantized == settings.get("quantized", False)
    assert model.input_longest_side == settings.get("input_longest_side")


@pytest.mark.parametrize(
    "published", [p for p in PUBLISHED if p["kind"] == "segmentation"], ids=lambda p: p["name"]
)
def test_a_network_has_the_published_settings_and_no_others(published):
    model = ZOO[published["name"]]
    settings = dict(published["settings"])
    rates = settings.pop("atrous_rates", None) or {}
    decoder_output_stride = settings.pop("decoder_output_stride", None)
    cell = []
    if settings.pop("dense_prediction_cell", None):
        facts, _ = golden_cases.load_case("xception_71_dpc_os16")
        cell = facts["model_options"]["dense_prediction_cell_config"]
    for unrelated in ("decoder", "quantized", "input_longest_side"):
        settings.pop(unrelated, None)
    expected = ModelConfig(
        model_variant=published["model_variant"],
        num_classes=KNOWN_DATASETS[published["dataset"]].num_classes,
        dense_prediction_cell_config=tuple(map(CellBranch.from_reference, cell)),
        decoder_output_stride=(decoder_output_stride,) if decoder_output_stride else (),
        **{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()},
    )
    for result in published["results"]:
        stride = result["eval_output_stride"]
        assert model.config(stride) == dataclasses.replace(
            expected, output_stride=stride, atrous_rates=tuple(rates.get(str(stride), ()))
        )
    assert model.config() == model.config(model.network.output_stride)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("mobilenetv2_dm05_coco_voc_trainval", "mobilenet_v2_dm05_os8"),
        ("mobilenetv2_coco_cityscapes_trainfine", "mobilenet_v2_os16_19c"),
        ("xception65_coco_voc_trainval", "xception_65_os16"),
        ("xception65_coco_voc_trainval", "xception_65_os8"),
        ("xception71_dpc_cityscapes_trainfine", "xception_71_dpc_os16"),
        ("xception71_dpc_cityscapes_trainval", "xception_71_dpc_os8"),
        ("mobilenetv3_large_cityscapes_trainfine", "mobilenet_v3_large_seg_os32"),
        ("mobilenetv3_small_cityscapes_trainfine", "mobilenet_v3_small_seg_os32"),
        ("EdgeTPU-DeepLab", "mobilenet_edgetpu_os32"),
        ("EdgeTPU-DeepLab", "mobilenet_edgetpu_os16"),
        ("mobilenetv2_ade20k_train", "mobilenet_v2_decoder_os16_ade"),
    ],
)
def test_a_network_is_one_of_the_recorded_ones(name, case):
    """Those are proved to compute what the reference computes."""
    recorded = golden_cases.case_config(golden_cases.load_case(case)[0])
    config = ZOO[name].config(recorded.output_stride)
    # What was recorded had other classes in some cases, and smaller images.
    sizes = {"num_classes", "crop_size", "image_pooling_crop_size"}
    for field in dataclasses.fields(ModelConfig):
        if field.name not in sizes:
            assert getattr(config, field.name) == getattr(recorded, field.name), field.name


@pytest.mark.parametrize(
    ("name", "millions"),  # MobileNetV3 (arXiv 1905.02244), Table 7, rows 8 and 11
    [
        ("mobilenetv3_large_cityscapes_trainfine", 1.51),
        ("mobilenetv3_small_cityscapes_trainfine", 0.47),
    ],
)
def test_a_network_has_the_published_number_of_parameters(name, millions):
    weights = build_deeplab(ZOO[name].config()).trainable_weights
    assert round(sum(np.prod(weight.shape) for weight in weights) / 1e6, 2) == millions


def test_a_backbone_is_no_network():
    with pytest.raises(ValueError, match="--tf_initial_checkpoint=xception_71_imagenet"):
        ZOO["xception_71_imagenet"].config()


@pytest.mark.parametrize(
    ("name", "crop_size"),
    [
        ("xception65_coco_voc_trainval", (513, 513)),
        ("xception65_cityscapes_trainfine", (1025, 2049)),
        ("mobilenetv2_ade20k_train", (257, 257)),
        ("xception_65_imagenet", None),
    ],
)
def test_images_are_padded_as_in_the_reference(name, crop_size):
    assert ZOO[name].crop_size == crop_size


def test_a_model_is_found_by_its_name_and_by_its_archive():
    assert find_model(NAME) is find_model(f"/downloads/{ARCHIVE}") is ZOO[NAME]
    assert find_model("/downloads/other.tar.gz") is None


def test_the_documentation_has_the_table():
    assert zoo_table() in DOCUMENTATION.read_text()


# --- downloads ------------------------------------------------------------------------------------


def tar_gz(*members):
    """An archive of (TarInfo or name, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, data in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


FACTS, RECORDED = golden_cases.load_case("mobilenet_v2_dm05_os16")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Like the zoo's: a folder around a TF1 checkpoint and a frozen graph.

    The variables are those that the reference has for this model, the values are the rules'.
    """
    folder = tmp_path_factory.mktemp("checkpoint")
    variables = {name: make_weight(name, shape) for name, shape in FACTS["variables"]}
    variables["global_step"] = np.array(30000)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt-30000"),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )
    files = [(f"deeplabv3_mnv2/{path.name}", path.read_bytes()) for path in folder.iterdir()]
    return tar_gz(*files, ("deeplabv3_mnv2/frozen_inference_graph.pb", b"graph"))


@pytest.fixture
def server(archive, monkeypatch):
    monkeypatch.setattr(archives, "_FIRST_PAUSE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(archive) as server:
        yield server


def files_in(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def assert_is_the_model(folder, cache):
    assert folder == cache / NAME
    assert files_in(cache) == [NAME]  # neither the archive nor parts of it
    reader = tf.train.load_checkpoint(locate_checkpoint(folder))
    assert reader.get_tensor("global_step") == 30000
    np.testing.assert_array_equal(
        reader.get_tensor("logits/semantic/weights"),
        make_weight("logits/semantic/weights", (1, 1, 256, 21)),
    )
    assert (folder / "deeplabv3_mnv2" / "frozen_inference_graph.pb").read_bytes() == b"graph"


def test_a_model_is_downloaded_once(server, tmp_path, capsys):
    folder = download(NAME, cache_dir=tmp_path, url=server.url)
    assert_is_the_model(folder, tmp_path)
    assert f"{ARCHIVE}: 100%" in capsys.readouterr().err
    assert download(NAME, cache_dir=tmp_path, url=server.url) == folder
    assert server.asked == [None]


@pytest.mark.golden
def test_a_downloaded_model_computes_what_the_reference_does(server, tmp_path):
    prefix = locate_checkpoint(download(NAME, cache_dir=tmp_path, url=server.url))
    network = build_deeplab(ZOO[NAME].config())
    report = load_tf1_checkpoint(network, prefix)
    assert (report.missing, report.unused, report.step) == ([], [], 30000)
    logits = keras.Model(network.input, network.get_layer("logits").output)
    values = np.asarray(logits(golden_cases.case_image(FACTS)))
    error = np.abs(values - RECORDED["logits"]).max() / RECORDED["logits"].std()
    assert error < 1e-3


def test_the_cache_is_where_the_environment_says(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLAB_TF_CACHE", str(tmp_path / "cache"))
    assert_is_the_model(download(NAME, url=server.url), tmp_path / "cache")


@pytest.mark.parametrize("etag", [None, '"first"', 'W/"weak"'])
def test_a_dropped_connection_is_taken_up_where_it_ended(server, tmp_path, etag, capsys):
    # Six drops are more than the attempts that may fail in a row: each brought new bytes.
    server.etag = etag
    server.drop_after = [1000, 1, 500, 500, 500, 500]
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)
    ends = [1000, 1001, 1501, 2001, 2501, 3001]
    assert server.asked == [None, *(f"bytes={end}-" for end in ends)]
    assert f"ended after 1000 of {len(server.content)} bytes" in capsys.readouterr().err


def test_a_connection_that_is_reset_is_taken_up_too(server, tmp_path, capsys):
    server.resets = True
    server.drop_after = [50_000]
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)
    assert len(server.asked) == 2
    assert "Connection reset by peer" in capsys.readouterr().err


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.drop_after = [1000, 0, 0, 0]
    with pytest.raises(ConnectionError, match=f"ended after 1000 of {len(server.content)} bytes"):
        download(NAME, cache_dir=tmp_path, url=server.url)
    assert (tmp_path / f"{ARCHIVE}.part").read_bytes() == server.content[:1000]
    assert not (tmp_path / NAME).exists()
    server.asked.clear()
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)
    assert server.asked == ["bytes=1000-"]


def test_a_part_that_is_complete_is_not_asked_for_again(server, tmp_path):
    server.drop_after = [1000, 0, 0, 0]
    with pytest.raises(ConnectionError):
        download(NAME, cache_dir=tmp_path, url=server.url)
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.content)  # killed before it was renamed
    server.asked.clear()
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)
    assert server.asked == []


def test_a_server_that_cannot_resume_sends_all_of_it(server, tmp_path):
    server.ranges = False
    server.drop_after = [1000, 900]
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)
    assert server.asked == [None, "bytes=1000-", "bytes=900-"]


def test_a_server_that_cannot_resume_and_always_drops_is_given_up(server, tmp_path):
    server.ranges = False
    server.drop_after = [1000] * 10
    with pytest.raises(ConnectionError, match="ended after 1000"):
        download(NAME, cache_dir=tmp_path, url=server.url)
    assert len(server.asked) == 4


@pytest.mark.parametrize("etag", [None, '"first"'])
@pytest.mark.parametrize(
    ("old_size", "received"), [(2000, 1000), (10_000_000, 1000), (10_000_000, 9_000_000)]
)
def test_parts_of_different_files_are_not_mixed(server, tmp_path, etag, old_size, received):
    new, server.content = server.content, b"-" * old_size
    assert 2000 < len(new) < 9_000_000
    server.etag = etag
    server.drop_after = [received, 0, 0, 0]
    with pytest.raises(ConnectionError):
        download(NAME, cache_dir=tmp_path, url=server.url)
    server.content, server.etag = new, etag and '"second"'
    server.asked.clear()
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)
    # A server that tells versions apart sends the new one at once.
    assert server.asked == [f"bytes={received}-"] + ([] if etag else [None])


def test_a_part_from_another_address_is_not_used(server, tmp_path):
    server.drop_after = [1000, 0, 0, 0]
    with pytest.raises(ConnectionError):
        download(NAME, cache_dir=tmp_path, url=server.url)
    server.asked.clear()
    download(NAME, cache_dir=tmp_path, url=server.url.replace("model", "mirror"))
    assert server.asked == [None]


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.answers = [503, 429, 500]
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)


def remedy(tmp_path):
    return re.escape(
        f"download it elsewhere, then give the path of {ARCHIVE} in place of {NAME}, or put it "
        f"into {tmp_path}."
    )


def test_a_missing_file_is_an_error_at_once(server, tmp_path):
    server.answers = [404]
    message = f"^{re.escape(server.url)}: the server answered 404 Not Found.*{remedy(tmp_path)}$"
    with pytest.raises(ConnectionError, match=message):
        download(NAME, cache_dir=tmp_path, url=server.url)
    assert len(server.asked) == 1
    assert files_in(tmp_path) == []


def test_no_server_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_FIRST_PAUSE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = "http://127.0.0.1:9/model.tar.gz"
    message = f"^{url} could not be downloaded: .*Connection refused.*{remedy(tmp_path)}$"
    with pytest.raises(ConnectionError, match=message):
        download(NAME, cache_dir=tmp_path, url=url)
    assert files_in(tmp_path) == []


def test_less_than_was_promised_is_no_model(server, tmp_path):
    server.claimed_length = len(server.content) + 10
    with pytest.raises(ConnectionError, match="could not be downloaded"):
        download(NAME, cache_dir=tmp_path, url=server.url)
    assert not (tmp_path / NAME).exists() and not (tmp_path / ARCHIVE).exists()


def test_an_archive_put_into_the_cache_by_hand_is_used(archive, tmp_path):
    (tmp_path / ARCHIVE).write_bytes(archive)
    url = "http://127.0.0.1:9/nobody/is/there"
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=url), tmp_path)


def test_an_unknown_name_is_an_error_with_similar_ones(tmp_path):
    with pytest.raises(ValueError, match="no 'xception_coco_voc_trainaug'; similar are xception65"):
        download("xception_coco_voc_trainaug", cache_dir=tmp_path)


def test_two_downloads_at_once_are_one(server, tmp_path):
    def call(_):
        return download(NAME, cache_dir=tmp_path, url=server.url)

    server.drop_after = [1000, 1000, 1000]
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(call, range(4)))
    assert_is_the_model(folders.pop(), tmp_path)
    assert not folders
    assert server.asked == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_what_a_killed_process_left_is_no_obstacle(server, tmp_path):
    for process in (1, os.getpid()):
        leftover = tmp_path / f".{NAME}.partial-{process}" / "deeplabv3_mnv2"
        leftover.mkdir(parents=True)
        (leftover / "model.ckpt-30000.index").write_bytes(b"half")
    (tmp_path / f".{NAME}.lock").touch()
    folder = download(NAME, cache_dir=tmp_path, url=server.url)
    assert_is_the_model(folder, tmp_path)


# --- archives that are no models ------------------------------------------------------------------


def entry(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


EVIL = {
    "parent": tar_gz(("a/ok", b"1"), ("../evil", b"2")),
    "hidden parent": tar_gz(("a/../../evil", b"2")),
    "windows parent": tar_gz(("a\\..\\..\\evil", b"2")),
    "absolute": tar_gz(("/tmp/evil", b"2")),
    "drive": tar_gz(("C:\\evil", b"2")),
    "symbolic link": tar_gz((entry("a", tarfile.SYMTYPE, "/"), b"")),
    "file below a link": tar_gz((entry("a", tarfile.SYMTYPE, ".."), b""), ("a/evil", b"2")),
    "hard link": tar_gz(("b", b"1"), (entry("a", tarfile.LNKTYPE, "b"), b"")),
    "character device": tar_gz((entry("a", tarfile.CHRTYPE), b"")),
    "block device": tar_gz((entry("a", tarfile.BLKTYPE), b"")),
    "pipe": tar_gz((entry("a", tarfile.FIFOTYPE), b"")),
    "sparse file": tar_gz((entry("a", tarfile.GNUTYPE_SPARSE), b"")),
    "a file twice": tar_gz(("a", b"1"), ("a", b"2")),
    "a file as a folder": tar_gz(("a", b"1"), ("a/b", b"2")),
}


@pytest.mark.parametrize("kind", EVIL)
def test_an_evil_archive_writes_nothing(server, tmp_path, kind):
    server.content = EVIL[kind]
    cache = tmp_path / "deep" / "cache"
    message = (
        f"{re.escape(str(cache / ARCHIVE))} was not unpacked: (it has the name )?'[^ ]*(a|evil)"
    )
    with pytest.raises(ValueError, match=message):
        download(NAME, cache_dir=cache, url=server.url)
    assert files_in(cache) == []
    assert files_in(tmp_path) == ["deep"] and files_in(tmp_path / "deep") == ["cache"]


def flipped(archive):
    """With one bit of the last member changed, so that only gzip's checksum tells."""
    data = bytearray(gzip.decompress(archive))
    data[data.index(b"graph")] ^= 1
    return gzip.compress(bytes(data))[:-8] + archive[-8:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda archive: archive[:-1000], "Compressed file ended"),
        (flipped, "CRC check failed"),
        (lambda archive: b"<html>Please log in</html>", "Not a gzipped file"),
        (lambda archive: gzip.compress(b"no tar"), "invalid header|truncated header"),
        (lambda archive: archive[:5000] + b"00000" + archive[5005:], "Error -3|CRC|invalid"),
    ],
    ids=["truncated", "one bit", "web page", "no tar", "middle"],
)
def test_a_damaged_archive_is_removed_so_that_the_next_call_may_work(
    server, tmp_path, archive, damage, message
):
    server.content = damage(archive)
    with pytest.raises(ValueError, match=f"{ARCHIVE} is damaged, or no .tar.gz .({message})"):
        download(NAME, cache_dir=tmp_path, url=server.url)
    assert files_in(tmp_path) == []
    server.content = archive
    assert_is_the_model(download(NAME, cache_dir=tmp_path, url=server.url), tmp_path)


def test_a_small_archive_does_not_fill_the_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "unpack", partial(archives.unpack, max_bytes=1 << 20))
    server.content = tar_gz(("model.ckpt.index", b"0" * (2 << 20)))
    assert len(server.content) < 10_000
    with pytest.raises(ValueError, match="unpacks to more than 1048576 bytes"):
        download(NAME, cache_dir=tmp_path, url=server.url)
    assert files_in(tmp_path) == []

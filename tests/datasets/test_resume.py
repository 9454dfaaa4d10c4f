"""Conversions that are killed, and conversions on Apache Beam, write what undisturbed ones do."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.datasets.conftest import ROOT

IMAGES = 640
OPTIONS = ("--dataset_name=same", "--num_shards=3", "--class_names=zero,one,two")
BEAM = "--beam_options=--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with images/ and masks/."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    image = rng.integers(0, 256, (160, 200, 3), np.uint8)
    for index in range(IMAGES):
        mask = rng.integers(0, 3, (160, 200), np.uint8)
        Image.fromarray(np.roll(image, index)).save(folder / f"images/{index:04d}.jpg")
        Image.fromarray(mask).save(folder / f"masks/{index:04d}.png")
    return folder


def command(pictures, output, *options):
    folders = f"--image_folder={pictures}/images", f"--mask_folder={pictures}/masks"
    script = "datasets/build_folder_data.py"
    return [sys.executable, script, *folders, f"--output_dir={output}", *OPTIONS, *options]


def start(arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    """The files of a conversion that nothing happened to."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    process = start(command(pictures, output))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return bytes_of(output)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_conversion_goes_on(pictures, undisturbed, tmp_path, workers):
    output = tmp_path / "out"
    arguments = command(pictures, output, f"--num_workers={workers}")
    process = start(arguments)
    notes = tmp_path / ".out.partial/parts"
    deadline = time.monotonic() + 60
    while len(list(notes.glob("*.json"))) < 3:
        assert time.monotonic() < deadline, "no part was written"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was done before it was killed"
    assert not output.exists()

    process = start(arguments)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    (kept,) = (line for line in printed.splitlines() if line.startswith("Note: "))
    assert kept.endswith("were there from an earlier run that did not finish.")
    assert 3 * 11 <= int(kept.split()[1]) < IMAGES
    assert bytes_of(output) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_beam_pipeline_writes_the_same(pictures, undisturbed, tmp_path):
    process = start(command(pictures, tmp_path / "out", BEAM))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert bytes_of(tmp_path / "out") == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_problems_on_beam_name_their_files(pictures, tmp_path):
    (tmp_path / "masks").mkdir()
    for path in (pictures / "masks").glob("000?.png"):
        (tmp_path / "masks" / path.name).write_bytes(path.read_bytes()[:40])
    (tmp_path / "list.txt").write_text("".join(f"000{i}\n" for i in range(10)))
    masks, names = f"--mask_folder={tmp_path}/masks", f"={tmp_path}/list.txt"
    lists = f"--train_list{names}", f"--val_list{names}"
    process = start(command(pictures, tmp_path / "out", masks, *lists, BEAM))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "10 problem(s)" in errors
    assert "masks/0003.png" in errors
    assert not (tmp_path / "out").exists()


def test_workers_and_beam_exclude_each_other(script, pictures, tmp_path):
    with pytest.raises(SystemExit, match="--num_workers is for one machine"):
        script(
            "build_folder_data",
            image_folder=pictures / "images",
            mask_folder=pictures / "masks",
            output_dir=tmp_path / "out",
            num_workers=2,
            beam_options="",
        )

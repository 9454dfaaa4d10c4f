"""The doctor as a command: exit codes, flags, files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from deeplab_tf.cli import examination
from deeplab_tf.data import doctor as doctor_library
from tests.data.doctor import channel_sets, record_folders, trees

ROOT = Path(__file__).parents[2]
NAMES = f"--class_names={','.join(trees.NAMES)}"


@pytest.fixture
def doctor(load_script, capsys):
    """A function that runs the doctor in this process; returns exit code, output and errors."""

    def run(*arguments):
        module = load_script("doctor")
        with pytest.raises(SystemExit) as end:
            examination.checked(module.main)(flags.FLAGS(["datasets/doctor.py", *arguments]))
        done = capsys.readouterr()
        return end.value.code, done.out, done.err

    return run


def test_a_clean_tree(doctor, tmp_path):
    trees.clean_voc(tmp_path / "voc")
    code, out, err = doctor(str(tmp_path / "voc"), NAMES)
    assert code == 0 and "Found: nothing." in out
    assert f"{tmp_path}/voc: a tree in VOC's layout" in out
    assert "Traceback" not in err


def test_a_faulty_tree(doctor, tmp_path):
    expected = trees.faulty_voc(tmp_path / "voc")
    report = tmp_path / "new" / "report.json"
    code, out, _ = doctor(str(tmp_path / "voc"), NAMES, f"--json={report}")
    assert code == 1
    found = json.loads(report.read_text())["findings"]
    assert {(finding["code"], tuple(finding["files"])) for finding in found} == expected
    assert os.listdir(report.parent) == ["report.json"]
    # Errors come first, and each kind once.
    heads = [line.split()[0] for line in out.splitlines() if line.split()[1:2] and "D" in line[:12]]
    heads = [head for head in heads if head in ("error", "warning", "note")]
    assert heads == sorted(heads, key=["error", "warning", "note"].index)
    assert len(heads) == len({code for code, _ in expected})


@pytest.mark.parametrize(
    ("fail_on", "code"), [("error", 0), ("warning", 1), ("note", 1)], ids=lambda value: str(value)
)
def test_what_the_exit_code_is_about(doctor, tmp_path, fail_on, code):
    record_folders.of_the_reference(tmp_path / "records")  # a warning
    assert doctor(str(tmp_path / "records"), NAMES, f"--fail_on={fail_on}")[0] == code


def test_notes_do_not_fail(doctor, tmp_path):
    trees.folders(tmp_path, [trees.scene([0]), trees.scene()])
    code, out, _ = doctor(str(tmp_path), NAMES)
    assert code == 0 and "note D113 mask-has-one-class: 1" in out
    assert doctor(str(tmp_path), NAMES, "--fail_on=note")[0] == 1


@pytest.mark.parametrize(("flags", "workers"), [((), None), (("--num_workers=2",), 2)])
def test_the_number_of_processes_is_a_flag(doctor, tmp_path, monkeypatch, flags, workers):
    """Which is what the error of a killed one says to lower."""
    asked, examine = [], doctor_library.examine

    def noted(source, **options):
        asked.append(options["workers"])
        return examine(source, **options)

    monkeypatch.setattr(doctor_library, "examine", noted)
    trees.clean_voc(tmp_path / "voc")
    code, out, _ = doctor(str(tmp_path / "voc"), NAMES, *flags)
    assert code == 0 and "Found: nothing." in out
    assert asked == [workers]


def test_the_fix_it_proposes_is_one(doctor, tmp_path):
    """Black and white masks, read as the finding says."""
    trees.black_and_white(tmp_path)
    code, out, _ = doctor(str(tmp_path))
    fix = "--label_map=0:0,255:1 --class_names=background,object"
    assert code == 1 and "D106 void-is-foreground" in out and fix in " ".join(out.split())
    pair = [f"--image_folder={tmp_path}/images", f"--mask_folder={tmp_path}/masks"]
    code, out, _ = doctor(*pair, *fix.split())
    assert code == 0, out


def test_images_of_other_channels(doctor, tmp_path):
    """The flags of the converters, and those that findings propose."""
    channel_sets.infrared(tmp_path / "four")
    flags_of_four = ["--input_channels=4", "--bit_depth=16", "--value_range=0,40000"]
    report = tmp_path / "report.json"
    code, out, _ = doctor(str(tmp_path / "four"), *flags_of_four, f"--json={report}")
    assert code == 1 and "16-bit images of 4 channels, 0 to 40000 become 0 to 255" in out
    found = json.loads(report.read_text())["findings"]
    assert {"D210", "D211", "D212", "D407"} <= {finding["code"] for finding in found}

    channel_sets.twelve_bits(tmp_path / "deep")
    code, out, _ = doctor(str(tmp_path / "deep"), NAMES)
    out = " ".join(out.split())
    assert code == 1 and "D204 image-is-16-bit: 3" in out
    for fix in ("--bit_depth=16", "--value_range=0,4095", "--input_channels=1"):
        assert fix in out
    grey = [str(tmp_path / "deep"), NAMES, "--input_channels=1", "--bit_depth=16"]
    code, out, _ = doctor(*grey)
    assert code == 1 and "--value_range=0,4095 would be all." in out
    assert doctor(*grey, "--value_range=0,4095")[:1] == (0,)


def test_a_list_that_is_no_utf_8_is_named(doctor, tmp_path):
    trees.clean_voc(tmp_path)
    path = tmp_path / "ImageSets/Segmentation/val.txt"
    path.write_bytes("Übersicht\n".encode("latin-1"))
    code, _, err = doctor(str(tmp_path))
    assert code == 2 and f"doctor: {path}: not a text in UTF-8" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "doctor: give a folder, or --image_folder and --mask_folder"),
        (["nowhere"], "doctor: folder nowhere not found"),
        (["a", "b"], "expected one path, found ['a', 'b']"),
        (["--image_folder=a"], "--image_folder and --mask_folder go together, in place of a path"),
        (["a", "--image_folder=a", "--mask_folder=b"], "in place of a path"),
        (["a", "--mask_type=rgb"], "--mask_type=rgb needs --color_table"),
        (["a", "--value_range=9,5"], "--value_range=9,5: expected low below high"),
        (["a", "--class_names_file=absent.txt"], "file absent.txt not found"),
    ],
)
def test_wrong_commands(doctor, arguments, message):
    code, out, err = doctor(*arguments)
    assert code == 2 and message in err and out == ""


def test_as_a_process(tmp_path):
    trees.clean_voc(tmp_path / "voc")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "datasets.doctor", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(str(tmp_path / "voc"), NAMES)
    assert done.returncode == 0 and "Found: nothing." in done.stdout, done.stderr
    done = run("--no_such_flag")
    assert done.returncode == 2 and "Unknown command line flag" in done.stderr
    assert "Traceback" not in done.stderr

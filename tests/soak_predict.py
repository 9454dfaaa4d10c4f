"""Predicts a folder of very many files, killed once on the way: how fast, and in what memory.

    python -m tests.soak_predict [--files=100000] [--kill_at=0.6]

The files are hard links to a few small images of different sizes, and the network is tiny: what is
measured is everything around it. In the end every file must have its mask, those of a kind the same
one, and what was there before the kill must not have been touched.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests import tiny_run
from tests.prediction.predicting import predict_arguments, write_run

ROOT = Path(__file__).parent.parent
KINDS, PER_FOLDER = 12, 1000


def name_of(number: int) -> str:
    return f"{number // PER_FOLDER:04d}/{number:07d}"


def write_photos(place: Path, files: int) -> None:
    (place / "kinds").mkdir()
    for kind in range(KINDS):
        Image.fromarray(tiny_run.scene(kind)[0]).save(place / f"kinds/{kind}.png")
    for number in range(files):
        path = place / f"photos/{name_of(number)}.png"
        if number % PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        os.link(place / f"kinds/{number % KINDS}.png", path)


def mask_of(place: Path, number: int) -> Path:
    return place / f"out/mask/{name_of(number)}.png"


def resident_mb(pid: int) -> float:
    """0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3


def start(place: Path) -> subprocess.Popen:
    command = [sys.executable, ROOT / "predict.py", *predict_arguments(place), "--outputs=mask"]
    with (place / "log").open("w") as log:
        return subprocess.Popen([*command, "--batch_size=8"], stdout=log, stderr=log)


class Watch:
    """Waits for files of a run, which come in order, and tells when and in what memory."""

    def __init__(self, place: Path, first: int) -> None:
        self.place, self.first = place, first
        self.process = start(place)
        self.started = time.monotonic()
        self.wait(first)
        self.began = time.monotonic()
        print(f"  first file after {self.began - self.started:.1f} s, listing included")

    def wait(self, number: int) -> float:
        """Until a file is there; returns the last memory that was seen, in MB."""
        seen = 0.0
        while not mask_of(self.place, number).exists():
            if self.process.poll() is not None:
                raise SystemExit(f"predict.py ended:\n{(self.place / 'log').read_text()[-3000:]}")
            seen = resident_mb(self.process.pid) or seen
            time.sleep(0.05)
        return resident_mb(self.process.pid) or seen

    def tell(self, number: int, files: int) -> None:
        memory = self.wait(number)
        rate = (number - self.first) / (time.monotonic() - self.began)
        print(f"  {(number + 1) / files:4.0%}  {rate:6.0f} files/s  {memory:6.0f} MB", flush=True)


def killed_run(place: Path, files: int, kill_at: float) -> None:
    print("a run that is killed:")
    watch = Watch(place, 0)
    for share in (0.1, 0.5, 1.0):
        if share >= kill_at:
            break
        watch.tell(int(share * files) - 1, files)
    watch.wait(int(kill_at * files))
    watch.process.send_signal(signal.SIGKILL)
    watch.process.wait()


def resumed_run(place: Path, files: int) -> None:
    done = [number for number in range(files) if mask_of(place, number).exists()]
    before = {number: mask_of(place, number).stat().st_mtime_ns for number in done}
    print(f"killed after {len(done)} files; the same command again:")
    watch = Watch(place, len(done))
    watch.tell(files - 1, files)
    if watch.process.wait():
        raise SystemExit((place / "log").read_text()[-3000:])
    if f"\n{len(done)} files were there from an earlier run." not in (place / "log").read_text():
        raise SystemExit(f"it did not find {len(done)} files done")
    if before != {number: mask_of(place, number).stat().st_mtime_ns for number in done}:
        raise SystemExit("it wrote files again that were done")


def check_masks(place: Path, files: int) -> None:
    expected = [mask_of(place, kind).read_bytes() for kind in range(KINDS)]
    if len(set(expected)) < KINDS:
        raise SystemExit("different images have the same mask")
    for number in range(files):
        if mask_of(place, number).read_bytes() != expected[number % KINDS]:
            raise SystemExit(f"the mask of {name_of(number)} is another one")
    left = [path for path in (place / "out").rglob(".*")]
    if left or len(list((place / "out/mask").rglob("*.png"))) != files:
        raise SystemExit(f"there are other files: {left[:5]}")
    print(f"all {files} masks are there, and right")


def main() -> None:
    parser = argparse.ArgumentParser(description="Predicts very many files, killed once.")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kill_at", type=float, default=0.6)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_run(place / "run")
        write_photos(place, options.files)
        killed_run(place, options.files, options.kill_at)
        resumed_run(place, options.files)
        check_masks(place, options.files)


if __name__ == "__main__":
    main()

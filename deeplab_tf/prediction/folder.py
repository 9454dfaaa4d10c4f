"""The folder that predictions are written to: what is done in it, and with which settings."""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplab_tf.data.output import resumable_sibling, write_file
from deeplab_tf.prediction.outputs import OUTPUTS
from deeplab_tf.visualization.run import output_name

SETTINGS = "prediction.json"
LEFT_OUT = "left_out.json"


class PredictionFolder:
    """Predictions of one network with one set of settings.

    A file in it is complete: it is written under another name first. So what exists is done, and a
    run that was stopped goes on where it was.

    Attributes:
        path: The folder.
        outputs: Names of the kinds of files, keys of `OUTPUTS`.
    """

    def __init__(self, path: str | os.PathLike[str], outputs: Sequence[str]) -> None:
        self.path = Path(path)
        self.outputs = tuple(outputs)

    @contextlib.contextmanager
    def opened(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Makes the folder, for this process alone, or goes on in one of the same settings.

        Raises:
            FileExistsError: Something else is in the folder.
            ValueError: It has predictions of other settings.
            BlockingIOError: Another process is writing to it.
        """
        with resumable_sibling(self.path) as held:
            try:
                self._check(json.loads(json.dumps({**settings, "outputs": self.outputs})))
                self._remove_partial_files()
                yield
            finally:
                shutil.rmtree(held, ignore_errors=True)

    def target(self, output: str, name: str) -> Path:
        """Where a kind of file of an image goes."""
        return self.path / output / f"{name}{OUTPUTS[output].suffix}"

    def is_done(self, name: str) -> bool:
        """Whether all files of an image are there."""
        return all(self.target(output, name).exists() for output in self.outputs)

    def note_left_out(self, left_out: Mapping[str, str]) -> None:
        """Writes which files were left out, and why; none: removes what an earlier run wrote."""
        path = self.path / LEFT_OUT
        if left_out:
            rows = [{"file": file, "reason": reason} for file, reason in left_out.items()]
            write_file(
                path, json.dumps(rows, indent=2, ensure_ascii=False).encode(errors="replace")
            )
        else:
            path.unlink(missing_ok=True)

    def _remove_partial_files(self) -> None:
        """Removes what a run that was killed was about to write."""
        for output in self.outputs:
            for pattern in (".*.tmp", ".partial-*"):
                for path in list((self.path / output).rglob(pattern)):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)

    def _check(self, settings: dict[str, Any]) -> None:
        file = self.path / SETTINGS
        if not file.exists():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise FileExistsError(
                    f"{self.path} exists and holds no {SETTINGS}, so nothing that can be gone on "
                    "with: give another output folder, or empty it."
                )
            write_file(file, json.dumps(settings, indent=2).encode())
            return
        earlier = json.loads(file.read_text(encoding="utf-8"))
        names = [
            name for name in {**earlier, **settings} if earlier.get(name) != settings.get(name)
        ]
        if names:
            changes = "; ".join(f"{n} was {earlier.get(n)}, is {settings.get(n)}" for n in names)
            raise ValueError(
                f"{self.path} has predictions of other settings ({changes}), which new ones would "
                "be mixed with: give another output folder, or the same network and flags."
            )


def input_root(paths: Sequence[str]) -> str:
    """The folder that the names of outputs are relative to, whichever files are in it.

    A folder itself, of a file its folder, of a pattern the part that is no pattern; of several of
    these, what they have in common.
    """
    roots = []
    for path in map(os.path.abspath, paths):
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        roots.append(path)
    return os.path.commonpath(roots)


def output_names(files: Sequence[str | os.PathLike[str]], root: str) -> list[str]:
    """A name without suffix for each file, of its own: its path below the root.

    Files that would share one (a.jpg and a.png) keep their suffix in it.
    """
    relative = [os.path.relpath(file, root) for file in files]
    names = [output_name(path, set()) for path in relative]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else Path(path).as_posix()
        for name, path in zip(names, relative, strict=True)
    ]

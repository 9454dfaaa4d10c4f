"""The best checkpoint of a run, in a folder of its own that every script can use at any time."""

import glob
import os
import shutil
from typing import Protocol

from deeplab_tf.data.output import write_file

FOLDER = "best"


class _Card(Protocol):
    """What a run writes beside its checkpoints."""

    def save(self, folder: str) -> None: ...


def keep_best(prefix: str, card: _Card) -> None:
    """Puts a checkpoint of a run into the folder `best` beside it, in place of another one.

    The folder holds one whole checkpoint at any time but a moment with two: the new files come
    under names of their own, then the state file that names the checkpoint is replaced at once,
    then the old files go. They are further names of the same files where the disk can do that, and
    take no space then as long as the run keeps the checkpoint itself.

    Args:
        prefix: Prefix of the checkpoint, which the run has just written.
        card: The run.
    """
    folder = os.path.join(os.path.dirname(prefix), FOLDER)
    os.makedirs(folder, exist_ok=True)
    card.save(folder)
    name = os.path.basename(prefix)
    for path in glob.glob(f"{glob.escape(prefix)}.*"):
        _link(path, os.path.join(folder, os.path.basename(path)))
    # TensorFlow's own writer of this file is going out; without a folder it is true anywhere.
    state = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    write_file(os.path.join(folder, "checkpoint"), state.encode())
    for path in glob.glob(os.path.join(glob.escape(folder), "model.ckpt-*")):
        if not os.path.basename(path).startswith(f"{name}."):
            os.remove(path)


def _link(source: str, target: str) -> None:
    """Gives a file a second name, or copies it; a file that has the name is replaced at once."""
    temporary = f"{target}.tmp"
    if os.path.exists(temporary):
        os.remove(temporary)
    try:
        try:
            os.link(source, temporary)
        except OSError:  # the file system has no hard links
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        # Half of a copy, or, if both are names of one file already, what `replace` left as it was.
        if os.path.exists(temporary):
            os.remove(temporary)

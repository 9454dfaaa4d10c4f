"""A peer's process: what is measured against lives in a Python of its own, and answers in turns."""

import json
import subprocess
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


class Peer:
    """A script beside this file, in another Python: a line of JSON in, a line of JSON out.

    Args:
        python: The interpreter, which has what the script imports.
        script: Name of the script.
        arguments: Its arguments.

    Raises:
        RuntimeError: The script did not start; the message is its last line.
    """

    def __init__(self, python: str, script: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [python, _HERE / script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.versions = self._answer()

    def ask(self, question: Any) -> Any:
        """Sends a question and waits for its answer."""
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._process.communicate()[1].strip().splitlines()[-1])
        return json.loads(line)


def start(python: str, script: str, *arguments: str) -> Peer | None:
    """A peer, or None and a word about it."""
    try:
        peer = Peer(python, script, *arguments)
    except RuntimeError as error:
        print(f"without {script}: {error}")
        return None
    print(script, " ".join(f"{name} {version}" for name, version in peer.versions.items()))
    return peer

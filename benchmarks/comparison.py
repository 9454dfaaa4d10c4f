"""What a benchmark finds: our time, a peer's, and what ours may take of it."""

from collections.abc import Iterable
from typing import NamedTuple


class Comparison(NamedTuple):
    """One row of the table: the same work, by us and by a peer, in the same run."""

    work: str
    ours: float  # seconds
    peer: str
    theirs: float  # seconds
    limit: float  # of the ratio

    @property
    def ratio(self) -> float:
        """Our time over the peer's."""
        return self.ours / self.theirs


def print_table(comparisons: Iterable[Comparison]) -> None:
    """Prints the rows; those over their limit are marked."""
    print(f"{'':46}{'ours, ms':>10}  {'peer':32}{'ms':>9}{'ratio':>7}{'limit':>7}")
    for row in comparisons:
        mark = "" if row.ratio <= row.limit else "  over"
        print(
            f"{row.work:46}{1e3 * row.ours:10.1f}  {row.peer:32}{1e3 * row.theirs:9.1f}"
            f"{row.ratio:7.2f}{row.limit:7.2f}{mark}",
            flush=True,
        )

"""A branch of a dense prediction cell."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from deeplab_tf.config.checks import require


@dataclasses.dataclass(frozen=True)
class CellBranch:
    """One branch of a dense prediction cell (arXiv 1809.04184, section 3).

    Attributes:
        op: "conv" or "pyramid_pooling".
        input: The branch it starts from, counted from 0; -1 for the encoder's features.
        kernel: Height and width of a convolution; (1, 1) is plain, others are separable.
        rate: Atrous rates of a convolution down and across, at output stride 16.
        grid_size: Cells down and across that pyramid pooling divides the image into.
    """

    op: str
    input: int
    kernel: tuple[int, int] = (1, 1)
    rate: tuple[int, int] = (1, 1)
    grid_size: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        require(
            self.op in ("conv", "pyramid_pooling"),
            f"A dense prediction cell has op {self.op!r}; expected conv or pyramid_pooling.",
        )
        numbers = (*self.kernel, *self.rate, *self.grid_size)
        require(
            all(number >= 1 for number in numbers) and all(size % 2 for size in self.kernel),
            f"{self} of a dense prediction cell: expected an odd kernel, and rates and grid sizes "
            "of 1 or more.",
        )

    @classmethod
    def from_reference(cls, branch: Mapping[str, Any]) -> "CellBranch":
        """A branch of the reference's JSON: {"op": "conv", "kernel": 3, "rate": [1, 6], ...}."""
        known = {"op", "input", "kernel", "rate", "grid_size", "target_size"}
        require(
            set(branch) <= known and {"op", "input"} <= set(branch),
            f"A dense prediction cell has the branch {dict(branch)}; expected op and input, kernel "
            "and rate of a convolution, and grid_size of pyramid pooling.",
        )
        if branch["op"] == "pyramid_pooling":  # the reference adds kernel and target_size itself
            return cls("pyramid_pooling", branch["input"], grid_size=_pair(branch["grid_size"]))
        kernel, rate = branch.get("kernel", 1), branch.get("rate", 1)
        return cls(branch["op"], branch["input"], kernel=_pair(kernel), rate=_pair(rate))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width

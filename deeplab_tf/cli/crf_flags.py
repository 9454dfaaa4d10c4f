"""Flags of the dense CRF: whether there is one, its parameters, and what is searched for them."""

import math
from typing import Any

from absl import flags

from deeplab_tf.cli.flag_table import given
from deeplab_tf.config import CRF_V1, CRF_V2, CRFParams

FLAGS = flags.FLAGS

_PAPERS = {"v1": CRF_V1, "v2": CRF_V2}


def chosen_crf(of_card: CRFParams | None) -> CRFParams | None:
    """The CRF that --crf and --crf_params ask for; without them, that of the model card."""
    wanted = FLAGS["crf"].value if given("crf") else None
    if given("crf_params"):
        if wanted is False:
            raise ValueError("--nocrf contradicts --crf_params, which switches the CRF on.")
        return _params()
    if wanted is None:
        return of_card
    return (of_card or CRF_V2) if wanted else None


def search_start() -> CRFParams:
    """What the search for parameters starts from: --crf_params, or those of the paper."""
    return _params() if given("crf_params") else _PAPERS[FLAGS.ranges]


def searched_values() -> dict[str, tuple[float, ...]]:
    """The values that flags give for the search, by parameter."""
    return {name: _numbers(name) for name in ("bi_w", "bi_xy", "bi_rgb") if given(name)}


def _params() -> CRFParams:
    values: Any = FLAGS["crf_params"].value
    if len(values) == 1 and values[0] in _PAPERS:
        return _PAPERS[values[0]]
    text = ",".join(values)
    numbers: tuple[Any, ...]
    try:
        numbers = *map(float, values[:5]), *map(int, values[5:])
    except ValueError:
        numbers = ()
    if len(numbers) not in (5, 6):
        raise ValueError(
            f"--crf_params is {text}; expected v1, v2 or five or six numbers, "
            "pos_w,pos_xy,bi_w,bi_xy,bi_rgb[,iterations], such as 3,1,4,67,3,10."
        )
    try:
        return CRFParams(*numbers)
    except ValueError as error:
        raise ValueError(f"--crf_params is {text}: {error}") from error


def _numbers(flag: str) -> tuple[float, ...]:
    """The values of a list, rising, each once."""
    values: Any = FLAGS[flag].value
    try:
        numbers = tuple(sorted(set(map(float, values))))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise ValueError(
            f"--{flag} is {','.join(values)}; expected one or more numbers above 0, such as 3,4,5."
        )
    return numbers

"""How a script that examines something ends: 0 if all is well, 1 if not, 2 if it is misused."""

import os
import sys
from collections.abc import Callable

from absl import app, flags

Examine = Callable[[list[str]], bool]


def checked(examine: Examine) -> Callable[[list[str]], None]:
    """`examine`, which tells whether all is well, as a main function that ends with an exit code.

    Bad input is a message without a traceback.
    """

    def checked_main(argv: list[str]) -> None:
        try:
            is_well = examine(argv)
        except (ValueError, OSError, ImportError) as error:
            script = os.path.basename(argv[0]).removesuffix(".py")
            print(f"{script}: {error}", file=sys.stderr)
            sys.exit(2)
        sys.exit(0 if is_well else 1)

    return checked_main


def run(examine: Examine) -> None:
    """Parses the flags and runs a script."""
    app.run(checked(examine), flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:  # absl itself would end with 1
        print(f"{error}\nPass --helpshort or --helpfull to see help on flags.", file=sys.stderr)
        sys.exit(2)

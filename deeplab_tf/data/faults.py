"""Errors about a file that say, for programs, which kind of fault it has."""


class FaultyFileError(ValueError):
    """A file that cannot be used as it is.

    Attributes:
        fault: Name of the kind of fault, such as "mask-is-rgb"; `data/doctor/kinds.py` has them.
    """

    def __init__(self, message: str, fault: str = "") -> None:
        # Pickling, on the way from a worker process, passes the message and sets the attributes.
        super().__init__(message)
        self.fault = fault

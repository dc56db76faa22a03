"""Errors of reading and writing.

    BdvIoError
    ├── FormatError          the content is not what its format says          (also a ValueError)
    │   └── ValidationError  tables of an annotation contradict each other
    ├── MissingDataError     a file or a dataset that is named is not there    (also a FileNotFoundError)
    ├── UnsupportedError     the format is known, but this part of it is not   (also a NotImplementedError)
    ├── BusyError            another program holds the file                    (also a BlockingIOError)
    ├── WriteError           writing failed; what was there before is intact   (also an OSError)
    └── MissingExtraError    an optional library is not installed              (also an ImportError)

Every message is a sentence for a person: what was tried, on which file or frame, what was found, and what to do.
"""

from __future__ import annotations

__all__ = [
    "BdvIoError",
    "BusyError",
    "FormatError",
    "MissingDataError",
    "MissingExtraError",
    "UnsupportedError",
    "ValidationError",
    "WriteError",
]


LONGEST = 2000  # characters of a sentence


class BdvIoError(Exception):
    """Base of all errors that :mod:`bdv_io` raises on purpose."""

    def __str__(self) -> str:
        """Return the sentence alone (the OSError kin would otherwise print an errno).

        What a sentence cites of a damaged file may be the whole file: then its middle is left out.
        """
        text = str(self.args[0]) if self.args else type(self).__name__
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 500]} ... {text[-500:]}"


class FormatError(BdvIoError, ValueError):
    """The content of a file is not what its format says."""


class ValidationError(FormatError):
    """The tables of an annotation contradict each other or hold impossible values."""


class MissingDataError(BdvIoError, FileNotFoundError):
    """A file, or a dataset inside a file, that something refers to is not there."""


class UnsupportedError(BdvIoError, NotImplementedError):
    """The format is known, but this variant or part of it cannot be handled."""


class BusyError(BdvIoError, BlockingIOError):
    """Another program holds the file."""


class WriteError(BdvIoError, OSError):
    """Writing failed. What stood at the target before is intact."""


class MissingExtraError(BdvIoError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""

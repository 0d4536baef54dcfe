"""Names that a user gives: the valid one, or an error that tells which are; names as text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def choose(what: str, value: str, valid: Iterable[str]) -> str:
    """Return `value` if it is valid; else raise ValueError with the nearest name and the list."""
    names = list(valid)
    if value in names:
        return value
    raise ValueError(
        f"{what} {value!r} does not exist; {nearest(value, names)}valid: {', '.join(names)}"
    )


def nearest(value: str, valid: Iterable[str]) -> str:
    """The words "did you mean 'name'? ", or none if no valid name is like `value`."""
    near = difflib.get_close_matches(str(value), list(valid), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def printable(text: str) -> str:
    """The text in one line: white space as single blanks, what cannot be printed as U+XXXX."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in line)

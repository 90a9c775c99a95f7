"""Spark's patterns of dates and times, in the words of the engine."""

from __future__ import annotations

import re

from .._errors import InvalidError

_RUN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")
_LETTERS = {
    "yyyy": "%Y",
    "yy": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "M": "%-m",
    "dd": "%d",
    "d": "%-d",
    "DDD": "%j",
    "EEEE": "%A",
    "EEE": "%a",
    "EE": "%a",
    "E": "%a",
    "HH": "%H",
    "H": "%-H",
    "hh": "%I",
    "h": "%-I",
    "mm": "%M",
    "m": "%-M",
    "ss": "%S",
    "s": "%-S",
    "a": "%p",
}


def pattern(format: str) -> str:
    """Returns a pattern such as ``dd/MM/yyyy`` as the engine has it."""
    if not isinstance(format, str):
        raise InvalidError(f"a pattern of dates is a text here, and not {format!r}")
    words, end = [], 0
    for found in _RUN.finditer(format):
        if found.start() != end:
            break
        end = found.end()
        run = found.group()
        if run.startswith("'"):
            words.append((found.group(1).replace("''", "'") or "'").replace("%", "%%"))
        elif not found.group(2):
            words.append(run.replace("%", "%%"))
        elif set(run) == {"S"} and len(run) in (3, 6, 9):
            words.append(f"%{len(run)}f")
        elif run in _LETTERS:
            words.append(_LETTERS[run])
        else:
            raise InvalidError(
                f"{run!r} of the pattern {format!r} is not known here: {', '.join(_LETTERS)} and SSS, SSSSSS are, or use to_char() in SQL"
            )
    if end != len(format):
        raise InvalidError(f"the pattern {format!r} has a quote that does not end")
    return "".join(words)


# Spark's words for the parts of a date that trunc() and date_trunc() know.
UNITS = {
    "year": "year",
    "yyyy": "year",
    "yy": "year",
    "quarter": "quarter",
    "month": "month",
    "mon": "month",
    "mm": "month",
    "week": "week",
    "day": "day",
    "dd": "day",
    "hour": "hour",
    "minute": "minute",
    "second": "second",
    "millisecond": "millisecond",
    "microsecond": "microsecond",
}


def unit(format: str) -> str:
    """Returns the part of a date to which it is cut."""
    found = UNITS.get(format.lower())
    if found is None:
        raise InvalidError(f"{format!r} is no part of a date: use one of {', '.join(UNITS)}")
    return found

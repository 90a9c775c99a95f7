"""Pieces of statements."""

from __future__ import annotations

import re

# What comes before the first word: blanks, comments, brackets, ends of empty statements.
_BEFORE = re.compile(r"(?:\s|\(|;|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)


def first_word(sql: str) -> str:
    """Returns the first word of a statement, in lower case."""
    before = _BEFORE.match(sql)
    word = re.compile(r"\w*").match(sql, before.end() if before else 0)
    return word.group().lower() if word else ""


def quoted(name: str) -> str:
    """Returns a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def escaped(text: str) -> str:
    """Returns what stands between the quotes of a text."""
    return text.replace("'", "''")


def word(value: object) -> str:
    """Returns the value of an option as a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)

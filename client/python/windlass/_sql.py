"""Pieces of statements."""

from __future__ import annotations

import re

from ._errors import InvalidError

# What comes before the first word: blanks, comments, brackets, ends of empty statements.
_BEFORE = re.compile(r"(?:\s|\(|;|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)

# Words that the parser of the cluster takes for something else where they are the name of a column or a table, for one statement at least.
RESERVED = frozenset(
    """
    all analyze check cluster constraint cube current_catalog current_date current_schema current_time current_timestamp current_user
    directory distinct distribute end except exclude exists explain false fetch foreign from fulltext group having index intersect interval
    into key lateral limit local localtime localtimestamp minus not null offset order primary returning rollup select session_user sort
    spatial struct table top trim true union unique unnest user values view where with
    """.split()
)


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


_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^".]+))(\.|$)')


def parts_of(name: str) -> list[str]:
    """Returns the parts of the name of a table, which have dots between: as they are written, or as they are between double quotes."""
    parts: list[str] = []
    at = 0
    while True:
        found = _PART.match(name, at)
        if found is None or len(parts) == 3:
            raise InvalidError(f"{name!r} is not the name of a table, such as orders, sales.orders or sales.\"a.b\"")
        within, plain, dot = found.groups()
        parts.append(within.replace('""', '"') if within else plain.strip())
        if not dot:
            return parts
        at = found.end()

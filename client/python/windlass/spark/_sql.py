"""Pieces of statements, in forms that mean the same in each dialect of a session: names between backticks, texts without backslashes."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn

from .._errors import Error, InvalidError


class Part:
    """What tells of methods of Spark that are missing."""

    # What to do in place of some of them.
    _instead: ClassVar[dict[str, str]] = {}

    def __getattr__(self, name: str) -> NoReturn:
        instead = self._instead.get(name, "say it in SQL, with spark.sql()")
        raise AttributeError(f"{type(self).__name__} has no {name!r} here: {instead}")


def quoted(name: str) -> str:
    """Returns a name as SQL has it."""
    return "`" + name.replace("`", "``") + "`"


def text(value: str) -> str:
    """Returns a text as SQL has it. In the dialect of Spark a backslash between quotes means something."""
    if "\0" in value:
        raise InvalidError("a text of SQL has no letter of code 0")
    parts = ["'" + part.replace("'", "''") + "'" for part in value.split("\\")]
    return parts[0] if len(parts) == 1 else f"concat({', chr(92), '.join(parts)})"


def literal(value: Any) -> str:
    """Returns a value as SQL has it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _whole(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        word = repr(value) if math.isfinite(value) else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        return f"CAST('{word}' AS DOUBLE)"
    if isinstance(value, decimal.Decimal) and value.is_finite():
        digits, exponent = len(value.as_tuple().digits), int(value.as_tuple().exponent)
        scale = max(0, -exponent)
        return f"CAST('{value:f}' AS DECIMAL({max(digits, scale) + max(0, exponent)}, {scale}))"
    if isinstance(value, (bytes, bytearray)):
        return f"X'{bytes(value).hex()}'"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            return f"TIMESTAMPTZ '{value.astimezone(datetime.timezone.utc).isoformat().removesuffix('+00:00')}Z'"
        return f"CAST('{value.isoformat(' ')}' AS TIMESTAMP(6))"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, (list, tuple)):
        return f"make_array({', '.join(map(literal, value))})"
    if hasattr(value, "item") and type(value).__module__.startswith("numpy"):
        return literal(value.item())
    raise InvalidError(f"{value!r} of type {type(value).__name__} is no value of SQL: say it with F.expr()")


def _whole(value: int) -> str:
    if -(2**63) < value < 2**63:
        return str(value) if value >= 0 else f"({value})"
    if abs(value) < 10**38:
        return f"CAST('{value}' AS DECIMAL(38, 0))"
    raise InvalidError(f"{value} has more than 38 digits")


_NAME = re.compile(r'\s*(?:([^\W\d]\w*)|"((?:[^"]|"")+)"|`((?:[^`]|``)+)`)\s*(\.|$)')


def table_name(name: str) -> str:
    """Returns the name of a table as SQL has it: parts with dots between, of which those without quotes are in lower case, as in SQL."""
    parts, at = [], 0
    while True:
        found = _NAME.match(name, at)
        if found is None:
            raise InvalidError(f"{name!r} is not the name of a table, such as flights, sales.flights or \"A b\"")
        plain, double, back, dot = found.groups()
        parts.append(quoted(plain.lower() if plain else double.replace('""', '"') if double else back.replace("``", "`")))
        if not dot:
            return ".".join(parts)
        at = found.end()


_WORD = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|--[^\n]*|/\*.*?\*/|(?<![.\w])([^\W\d]\w*)(?!\w*\s*\()", re.DOTALL)


def words_of(sql: str) -> Iterator[str]:
    """Yields the words of an expression that may be names of columns, in lower case: neither texts, nor names with quotes or with a table before them, nor functions."""
    return (found.group(1).lower() for found in _WORD.finditer(sql) if found.group(1))


_PLACE = re.compile(r" \(line \d+, column \d+\)(?:\n\s*\|\n(?:\s*\d+ \|.*\n)*\s*\|[^\n]*)?")


def without_place(error: Error) -> Error:
    """Returns an error without its place in a statement that the user has not written."""
    made = type(error)(_PLACE.sub("", str(error)))
    made.kind, made.retryable = error.kind, error.retryable
    return made


def plain_identifier(sql: str) -> str | None:
    """Returns the name that an expression consists of. None: it is more than a name."""
    found = _NAME.fullmatch(sql.strip())
    if found is None or found.group(4):
        return None
    plain, double, back, _ = found.groups()
    return str(plain or (double or "").replace('""', '"') or back.replace("``", "`"))

"""Joins of data frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from .._errors import InvalidError
from ._frame import Frame, flat
from ._resolve import Field, Scope, unique
from ._sql import quoted
from .column import Column

_KINDS = {
    "inner": "INNER",
    "left": "LEFT",
    "leftouter": "LEFT",
    "right": "RIGHT",
    "rightouter": "RIGHT",
    "outer": "FULL",
    "full": "FULL",
    "fullouter": "FULL",
    "leftsemi": "SEMI",
    "semi": "SEMI",
    "leftanti": "ANTI",
    "anti": "ANTI",
    "cross": "CROSS",
}


def joined(left: Frame, right: Frame, on: Any, how: str) -> tuple[str, list[Field]]:
    """Returns the query of a join, and its columns."""
    kind = _KINDS.get(how.lower().replace("_", ""))
    if kind is None:
        raise InvalidError(f"how is one of {', '.join(_KINDS)}, and not {how!r}")
    keys = [] if on is None else flat([on])
    if not keys:
        if kind != "CROSS":
            raise InvalidError("join takes in on the names of columns that both sides have, or a condition; crossJoin() joins each row with each")
        columns = [(f"l.{quoted(field.inner)}", field) for field in left._fields] + [(f"r.{quoted(field.inner)}", field) for field in right._fields]
        return _query(columns, f"{left._inside()} AS l CROSS JOIN {right._inside()} AS r")
    kind = "INNER" if kind == "CROSS" else kind
    if all(isinstance(key, str) for key in keys):
        return _by_names(left, right, keys, kind)
    if not all(isinstance(key, Column) for key in keys):
        raise InvalidError(f"{on!r} is neither a list of names nor a condition")
    condition = reduce(lambda one, other: one & other, keys)
    l_name, r_name = _names(left, right)
    found = Scope((left, l_name), (right, r_name)).sql(condition)
    sources = left._source([condition], l_name), right._source([condition], r_name)
    of_left = [(f"{l_name}.{quoted(field.inner)}", field) for field in left._fields]
    if kind in ("SEMI", "ANTI"):
        return _filtered(of_left, kind, sources, found)
    of_right = [(f"{r_name}.{quoted(field.inner)}", field) for field in right._fields]
    return _query(of_left + of_right, f"{sources[0]} {kind} JOIN {sources[1]} ON {found}")


def _by_names(left: Frame, right: Frame, keys: Sequence[str], kind: str) -> tuple[str, list[Field]]:
    """The keys come first, once."""
    pairs = [(left._field(key), right._field(key)) for key in keys]
    same = " AND ".join(f"l.{quoted(a.inner)} = r.{quoted(b.inner)}" for a, b in pairs)
    sources = f"{left._inside()} AS l", f"{right._inside()} AS r"
    if kind in ("SEMI", "ANTI"):
        return _filtered([(f"l.{quoted(field.inner)}", field) for field in left._fields], kind, sources, same)
    columns = []
    for a, b in pairs:
        if kind == "FULL":
            columns.append((f"COALESCE(l.{quoted(a.inner)}, r.{quoted(b.inner)})", Field(a.name, a.inner, object())))
        else:
            columns.append((f"r.{quoted(b.inner)}", b._replace(name=a.name)) if kind == "RIGHT" else (f"l.{quoted(a.inner)}", a))
    columns += [(f"l.{quoted(field.inner)}", field) for field in left._fields if field not in [a for a, _ in pairs]]
    columns += [(f"r.{quoted(field.inner)}", field) for field in right._fields if field not in [b for _, b in pairs]]
    return _query(columns, f"{sources[0]} {kind} JOIN {sources[1]} ON {same}")


def _filtered(columns: Sequence[tuple[str, Field]], kind: str, sources: tuple[str, str], condition: str) -> tuple[str, list[Field]]:
    exists = f"{'' if kind == 'SEMI' else 'NOT '}EXISTS (SELECT 1 FROM {sources[1]} WHERE {condition})"
    return _query(columns, f"{sources[0]} WHERE {exists}")


def _query(columns: Sequence[tuple[str, Field]], source: str) -> tuple[str, list[Field]]:
    inner = unique(field.name for _, field in columns)
    keys = [id(field.key) for _, field in columns]
    # A data frame that is joined with itself: from here on a column of it may be either.
    fields = [
        field._replace(inner=name, key=field.key if keys.count(id(field.key)) == 1 else object())
        for (_, field), name in zip(columns, inner, strict=True)
    ]
    texts = [f"{sql} AS {quoted(name)}" for (sql, _), name in zip(columns, inner, strict=True)]
    return f"SELECT {', '.join(texts)} FROM {source}", fields


def _names(left: Frame, right: Frame) -> tuple[str, str]:
    """Returns what the query calls both sides: their aliases, which expressions of SQL may name."""
    found = []
    for frame in (left, right):
        aliases = {field.alias for field in frame._fields}
        found.append(aliases.pop() if len(aliases) == 1 else None)
    one, other = found
    if one is None or other is None or one.lower() == other.lower():
        return "l", "r"
    return quoted(one.lower()), quoted(other.lower())

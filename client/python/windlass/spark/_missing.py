"""Rows without values, and what columns hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .._errors import InvalidError
from ._frame import Frame
from ._sql import Part, literal, quoted
from .types import is_number, is_text, sql_type, type_name

if TYPE_CHECKING:
    from .dataframe import DataFrame


def dropped(frame: Frame, how: str, thresh: int | None, subset: str | Sequence[str] | None) -> str:
    """Returns a query of the rows that have enough values. NaN is none."""
    if how not in ("any", "all"):
        raise InvalidError(f"how is 'any' or 'all', and not {how!r}")
    wanted = [name for name, _ in _of(frame, subset)]
    there = [_there(frame, name) for name in wanted]
    least = thresh if thresh is not None else len(there) if how == "any" else 1
    numbers = " + ".join(f"CASE WHEN {one} THEN 1 ELSE 0 END" for one in there)
    return f"SELECT * FROM {frame._inside()} AS t WHERE {numbers} >= {int(least)}" if there else frame._query


def filled(frame: Frame, value: Any, subset: str | Sequence[str] | None) -> str:
    """Returns a query that has values in place of NULL and NaN: in the columns whose type is that of the value."""
    by_name = {frame._field(name).name: of for name, of in value.items()} if isinstance(value, Mapping) else None
    wanted = by_name if by_name is not None else {name: value for name, _ in _of(frame, subset)}
    columns = []
    for field, kind in zip(frame._fields, frame._schema, strict=True):
        new = wanted.get(field.name)
        column = quoted(field.inner)
        if new is None or not _fits(new, kind.type):
            columns.append(column)
            continue
        old = f"nanvl({column}, NULL)" if pa.types.is_floating(kind.type) else column
        columns.append(f"COALESCE({old}, CAST({literal(new)} AS {sql_type(type_name(kind.type))})) AS {column}")
    return f"SELECT {', '.join(columns)} FROM {frame._inside()} AS t"


def described(frame: Frame, cols: Sequence[str]) -> pa.Table:
    """Returns number, mean, deviation, least and greatest value of columns, as texts."""
    kinds = {name: kind for name, kind in _of(frame, list(cols) or None) if is_number(kind) or is_text(kind)}
    texts = []
    for name, kind in kinds.items():
        column = quoted(frame._field(name).inner)
        number = f"CAST({column} AS DOUBLE)" if is_number(kind) else "CAST(NULL AS DOUBLE)"
        texts += [f"count({column})", f"avg({number})", f"stddev({number})", f"min({column})", f"max({column})"]
    found = frame._run(f"SELECT {', '.join(f'{sql} AS c{at}' for at, sql in enumerate(texts))} FROM {frame._inside()} AS t") if texts else None
    values = [None if (value := column[0].as_py()) is None else str(value) for column in found.columns] if found is not None else []
    rows = [pa.array(["count", "mean", "stddev", "min", "max"])]
    rows += [pa.array(values[at : at + 5], pa.string()) for at in range(0, len(values), 5)]
    return pa.table(rows, names=["summary", *kinds])


def _of(frame: Frame, subset: str | Sequence[str] | None) -> list[tuple[str, pa.DataType]]:
    names = [subset] if isinstance(subset, str) else subset
    wanted = None if names is None else [frame._field(name).name for name in names]
    return [(field.name, field.type) for field in frame._schema if wanted is None or field.name in wanted]


def _there(frame: Frame, name: str) -> str:
    field, column = frame._schema.field(name), quoted(frame._field(name).inner)
    return f"({column} IS NOT NULL AND NOT isnan({column}))" if pa.types.is_floating(field.type) else f"{column} IS NOT NULL"


def _fits(value: Any, kind: pa.DataType) -> bool:
    if isinstance(value, bool):
        return bool(pa.types.is_boolean(kind))
    if isinstance(value, (int, float)):
        return is_number(kind)
    if isinstance(value, str):
        return is_text(kind)
    raise InvalidError(f"fillna takes a number, a text, a bool, or a dict of them by column, and not {value!r}")


class NaFunctions(Part):
    """``frame.na``: ``drop()`` and ``fill()``."""

    def __init__(self, frame: DataFrame) -> None:
        self._frame = frame

    def drop(self, how: str = "any", thresh: int | None = None, subset: str | Sequence[str] | None = None) -> DataFrame:
        return self._frame.dropna(how, thresh, subset)

    def fill(self, value: Any, subset: str | Sequence[str] | None = None) -> DataFrame:
        return self._frame.fillna(value, subset)

"""Rows of this process, on their way into a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ._errors import InvalidError


def stream_of(data: Any) -> Any:
    """Returns an object with Arrow's stream interface."""
    rows = _stream(data)
    if not rows.schema.names:
        raise InvalidError("the rows have no columns: a table has one at least")
    return rows


def _stream(data: Any) -> Any:
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, (pa.Table, pa.RecordBatchReader)):
        return data
    if hasattr(data, "__arrow_c_stream__"):
        # Other libraries lay some arrays out in ways that pyarrow takes.
        try:
            return pa.RecordBatchReader.from_stream(data)
        except pa.ArrowInvalid as error:
            raise InvalidError(f"{type(data).__name__} is no table: {error}") from error
    if hasattr(data, "__dataframe__") or type(data).__module__.startswith("pandas"):
        return pa.Table.from_pandas(data, preserve_index=False)
    for method in ("fetch_arrow_reader", "to_arrow_table", "arrow"):
        if hasattr(data, method):
            return getattr(data, method)()
    raise InvalidError(f"rows cannot be taken from {type(data).__name__}: pass a table of pyarrow, polars, pandas or DuckDB")


class Failed:
    """The error of rows that were read while they were sent. On their way through the native module errors become texts."""

    error: InvalidError | None = None


def checked(rows: Any, columns: pa.Schema | None, table: str, failed: Failed) -> Any:
    """Returns the rows as they are, unless a value would be another one in the table's column. ``columns``: those of the table, if it is there."""
    pairs = [
        (field.name, columns.field(field.name).type)
        for field in rows.schema
        if columns is not None and min(rows.schema.get_field_index(field.name), columns.get_field_index(field.name)) >= 0 and _may_lose(field.type, columns.field(field.name).type)
    ]
    if not pairs:
        return rows
    if isinstance(rows, pa.Table):
        for batch in rows.to_batches():
            _check(batch, pairs, table)
        return rows
    return pa.RecordBatchReader.from_batches(rows.schema, _each(rows, pairs, table, failed))


def _each(rows: pa.RecordBatchReader, pairs: list[tuple[str, pa.DataType]], table: str, failed: Failed) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        try:
            _check(batch, pairs, table)
        except InvalidError as error:
            failed.error = error
            raise
        yield batch


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _may_lose(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a cast may change values. The last digits of a float may go."""
    if given.equals(wanted) or (pa.types.is_floating(given) and pa.types.is_floating(wanted)):
        return False
    if _is_number(given) and _is_number(wanted):
        return True
    return bool(pa.types.is_timestamp(given) and (pa.types.is_timestamp(wanted) or pa.types.is_date(wanted)))


def _check(batch: pa.RecordBatch, pairs: list[tuple[str, pa.DataType]], table: str) -> None:
    for name, kind in pairs:
        column = batch.column(name)
        # What a zone is means nothing for the digits of a time.
        to = pa.timestamp(kind.unit, column.type.tz) if pa.types.is_timestamp(kind) else kind
        lost = _lost(column, to)
        if lost is not None:
            raise InvalidError(
                f"column {name!r} of {table!r} is of type {kind}, and cannot hold {lost}, of type {column.type}: round or cast the rows before they are loaded"
            )


def _lost(column: pa.Array, kind: pa.DataType) -> Any:
    """Returns the first value that a cast changes or refuses. None: there is none."""
    try:
        back = column.cast(kind, safe=False).cast(column.type, safe=False)
        same = pc.fill_null(pc.equal(column, back), True)
        if pc.all(same, min_count=0).as_py():
            column.cast(kind)
            return None
        return column[pc.index(same, False).as_py()].as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        for value in column:
            try:
                pa.array([value.as_py()], column.type).cast(kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                return value.as_py()
        return None

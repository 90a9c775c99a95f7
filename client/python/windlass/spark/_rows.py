"""Rows as Spark has them, and rows of this process as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from .._errors import InvalidError
from .types import StructType, arrow_schema, is_list


class Row(tuple[Any, ...]):
    """A row: ``row[0]``, ``row["name"]``, ``row.name``, ``row.asDict()``.

    ``Row(a=1, b="x")`` makes one; ``Row("a", "b")`` makes what makes rows with these names: ``Row("a", "b")(1, "x")``.
    """

    __fields__: tuple[str, ...]

    def __new__(cls, *parts: Any, **values: Any) -> Row:
        if parts and values:
            raise InvalidError("a row has names for all of its values, or for none")
        return cls._of((), parts) if parts else cls._of(tuple(values), values.values())

    def __call__(self, *values: Any) -> Row:
        if self.__fields__ or len(values) != len(self):
            raise InvalidError(f"{self!r} makes no row of {len(values)} values")
        return Row._of(map(str, self), values)

    @classmethod
    def _of(cls, names: Iterable[str], values: Iterable[Any]) -> Row:
        row = super().__new__(cls, values)
        row.__fields__ = tuple(names)
        return row

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.__fields__:
            raise KeyError(f"there is no column {key!r}: {', '.join(self.__fields__)}")
        return super().__getitem__(self.__fields__.index(key))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__fields__:
            raise AttributeError(f"there is no column {name!r}")
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self.__fields__

    def __repr__(self) -> str:
        if not self.__fields__:
            return f"Row({', '.join(map(repr, self))})"
        return f"Row({', '.join(f'{name}={value!r}' for name, value in zip(self.__fields__, self, strict=True))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Row._of, (self.__fields__, tuple(self)))

    def asDict(self, recursive: bool = False) -> dict[str, Any]:
        """Returns the values by name. ``recursive``: those of rows inside too."""
        return {name: _dict_inside(value) if recursive else value for name, value in zip(self.__fields__, self, strict=True)}


def _dict_inside(value: Any) -> Any:
    if isinstance(value, Row):
        return value.asDict(True)
    if isinstance(value, list):
        return [_dict_inside(part) for part in value]
    if isinstance(value, dict):
        return {key: _dict_inside(part) for key, part in value.items()}
    return value


def rows_of(table: pa.Table) -> list[Row]:
    names = table.schema.names
    columns = [[_python(value, field.type) for value in column.to_pylist()] for field, column in zip(table.schema, table.columns, strict=True)]
    # A statement without a result has no columns, and then no rows either.
    return [Row._of(names, values) for values in zip(*columns, strict=True)]


def _python(value: Any, kind: pa.DataType) -> Any:
    """Returns a value of pyarrow as Spark has it: structs are rows, and maps are dicts."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        return Row._of((field.name for field in fields), (_python(value[field.name], field.type) for field in fields))
    if pa.types.is_map(kind):
        return {_python(key, kind.key_type): _python(of, kind.item_type) for key, of in value}
    if is_list(kind):
        return [_python(part, kind.value_type) for part in value]
    return value


def arrow_of(data: Any, schema: Sequence[str] | str | StructType | None) -> pa.Table:
    """Returns the rows of ``createDataFrame`` as a table."""
    typed = arrow_schema(schema) if isinstance(schema, (str, StructType)) else None
    names: list[Any] | None = typed.names if typed is not None else None if schema is None else list(schema)
    if names is not None and not all(isinstance(name, str) for name in names):
        raise InvalidError(f"{schema!r} is no schema: give names, or a text such as \"a int, b string\"")
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        table = data if isinstance(data, pa.Table) else pa.Table.from_batches([data])
    elif type(data).__module__.startswith("pandas"):
        table = pa.Table.from_pandas(data, preserve_index=False)
    else:
        return _of_rows(list(data), names, typed)
    if names is not None and len(names) != table.num_columns:
        raise InvalidError(f"{len(names)} names for {table.num_columns} columns: {', '.join(table.column_names)}")
    table = table if names is None else table.rename_columns(names)
    if typed is None:
        return table
    return pa.table([_cast(name, column, typed.field(at).type) for at, (name, column) in enumerate(zip(typed.names, table.columns))], typed)


def _cast(name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidError(f"column {name} is no {kind}: {error}") from None


def _of_rows(rows: list[Any], names: list[str] | None, typed: pa.Schema | None) -> pa.Table:
    if not rows and typed is None:
        raise InvalidError('no types follow from no rows: give a schema such as "a int, b string"')
    if rows and all(isinstance(row, dict) or (isinstance(row, Row) and row.__fields__) for row in rows):
        dicts = [row.asDict(True) if isinstance(row, Row) else row for row in rows]
        found = list(dict.fromkeys(name for row in dicts for name in row))
        cells = {str(name): [row.get(name) for row in dicts] for name in found}
        order = names if names is not None else list(cells)
        if missing := [name for name in order if name not in cells]:
            raise InvalidError(f"the rows have no {', '.join(missing)}: they have {', '.join(cells)}")
        return _columns(order, [cells[name] for name in order], typed)
    tuples = [row if isinstance(row, (list, tuple)) else (row,) for row in rows]
    order = names if names is not None else [f"_{at}" for at in range(1, len(tuples[0]) + 1)]
    for at, row in enumerate(tuples):
        if len(row) != len(order):
            raise InvalidError(f"row {at} has {len(row)} values, for {len(order)} columns")
    return _columns(order, [[row[at] for row in tuples] for at in range(len(order))], typed)


def _columns(names: list[str], cells: list[list[Any]], typed: pa.Schema | None) -> pa.Table:
    columns = []
    for at, (name, values) in enumerate(zip(names, cells, strict=True)):
        kind = None if typed is None else typed.field(at).type
        try:
            columns.append(pa.array(values, kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            wrong = "has values of different types" if kind is None else f"has a value that is no {kind}"
            raise InvalidError(f"column {name} {wrong}: {error}") from None
    return pa.table(columns, names=names) if typed is None else pa.table(columns, typed)

"""Rows, types and values as Spark has them."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ._errors import InvalidError


class Row(tuple[Any, ...]):
    """A row: ``row[0]``, ``row["name"]``, ``row.name``, ``row.asDict()``."""

    __fields__: tuple[str, ...]

    def __new__(cls, **values: Any) -> Row:
        return cls._of(tuple(values), values.values())

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
    if _is_list(kind):
        return [_python(part, kind.value_type) for part in value]
    return value


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


_TYPES: list[tuple[Any, str, str]] = [
    (pa.types.is_int8, "tinyint", "byte"),
    (lambda kind: pa.types.is_int16(kind) or pa.types.is_uint8(kind), "smallint", "short"),
    (lambda kind: pa.types.is_int32(kind) or pa.types.is_uint16(kind), "int", "integer"),
    (lambda kind: pa.types.is_int64(kind) or pa.types.is_uint32(kind), "bigint", "long"),
    (pa.types.is_uint64, "decimal(20,0)", "decimal(20,0)"),
    (lambda kind: pa.types.is_float16(kind) or pa.types.is_float32(kind), "float", "float"),
    (pa.types.is_float64, "double", "double"),
    (pa.types.is_boolean, "boolean", "boolean"),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind), "string", "string"),
    (pa.types.is_date, "date", "date"),
    (pa.types.is_null, "void", "void"),
]


def type_name(kind: pa.DataType, long: bool = False) -> str:
    """Returns Spark's name of a type: the short one of ``dtypes``, or the long one of ``printSchema``."""
    for fits, short_name, long_name in _TYPES:
        if fits(kind):
            return long_name if long else short_name
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp_ntz"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_dictionary(kind):
        return type_name(kind.value_type, long)
    if _is_list(kind):
        return f"array<{type_name(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{type_name(kind.key_type)},{type_name(kind.item_type)}>"
    if pa.types.is_struct(kind):
        fields = (kind.field(at) for at in range(kind.num_fields))
        return f"struct<{','.join(f'{field.name}:{type_name(field.type)}' for field in fields)}>"
    if "binary" in str(kind):
        return "binary"
    return str(kind)


@dataclass(frozen=True)
class StructField:
    """A column. ``dataType``: Spark's name of its type."""

    name: str
    dataType: str
    nullable: bool = True


@dataclass(frozen=True)
class StructType:
    """The columns of a data frame."""

    fields: list[StructField]

    @property
    def names(self) -> list[str]:
        return [field.name for field in self.fields]

    def fieldNames(self) -> list[str]:
        return self.names

    def simpleString(self) -> str:
        return f"struct<{','.join(f'{field.name}:{field.dataType}' for field in self.fields)}>"

    def __iter__(self) -> Iterator[StructField]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


def shown(value: Any) -> str:
    """Returns a value as ``show`` writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (bytes, bytearray)):
        return f"[{' '.join(f'{byte:02X}' for byte in value)}]"
    if isinstance(value, Row):
        return f"{{{', '.join(map(shown, value))}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{shown(key)} -> {shown(of)}' for key, of in value.items())}}}"
    if isinstance(value, datetime.datetime):
        return _instant(value, " ")
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return "NaN" if value != value else str(value)


def _instant(value: datetime.datetime, between: str) -> str:
    """Returns a time with as many digits of its fraction as it needs, without its zone."""
    text = value.replace(tzinfo=None).isoformat(between)
    return text.rstrip("0") if "." in text else text


def table_text(names: Sequence[str], rows: list[Row], truncate: int, vertical: bool) -> str:
    """Returns rows as ``show`` prints them. ``truncate``: maximum letters of a cell; 0 is none."""
    cells = [[_cut(shown(value), truncate) for value in row] for row in rows]
    if vertical:
        width = max(map(len, names), default=0)
        lines = []
        for at, row in enumerate(cells):
            lines.append(f"-RECORD {at}".ljust(width + 3 + max(map(len, row), default=0), "-"))
            lines += [f" {name.ljust(width)} | {cell}" for name, cell in zip(names, row, strict=True)]
        return "".join(f"{line}\n" for line in lines)
    heads = [_cut(name, truncate) for name in names]
    widths = [max(3, *(len(row[at]) for row in [heads, *cells])) for at in range(len(heads))]
    line = f"+{'+'.join('-' * width for width in widths)}+\n"
    side = str.rjust if truncate else str.ljust
    text = [f"|{'|'.join(side(cell, width) for cell, width in zip(row, widths, strict=True))}|\n" for row in [heads, *cells]]
    return line + text[0] + line + "".join(text[1:]) + line


def _cut(text: str, most: int) -> str:
    if not most or len(text) <= most:
        return text
    return text[:most] if most < 4 else f"{text[: most - 3]}..."


def json_text(value: Any) -> str:
    """Returns a value as JSON, in the forms of the outputs of SQL. A row leaves out what is NULL."""
    if isinstance(value, Row):
        value = {name: of for name, of in value.asDict().items() if of is not None}
    if isinstance(value, dict):
        return f"{{{','.join(f'{json.dumps(str(key), ensure_ascii=False)}:{json_text(of)}' for key, of in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(json_text, value))}]"
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, float) and value - value == 0:
        return repr(value)
    return json.dumps(_json_word(value), ensure_ascii=False)


def _json_word(value: Any) -> str:
    if isinstance(value, float):
        return shown(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return _instant(value, "T") if value.tzinfo is None else _instant(value.astimezone(datetime.timezone.utc), "T") + "Z"
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def arrow_of(data: Any, names: Sequence[str] | None) -> pa.Table:
    """Returns the rows of ``createDataFrame`` as a table."""
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        table = data if isinstance(data, pa.Table) else pa.Table.from_batches([data])
    elif type(data).__module__.startswith("pandas"):
        table = pa.Table.from_pandas(data, preserve_index=False)
    else:
        return _of_rows(list(data), names)
    return table if names is None else table.rename_columns(list(names))


def _of_rows(rows: list[Any], names: Sequence[str] | None) -> pa.Table:
    if not rows:
        raise InvalidError("no types follow from no rows: make an empty frame with spark.sql('SELECT … WHERE false')")
    by_name = all(isinstance(row, (dict, Row)) for row in rows)
    if by_name:
        dicts = [row.asDict(True) if isinstance(row, Row) else row for row in rows]
        found = list(dict.fromkeys(name for row in dicts for name in row))
        cells = {str(name): [row.get(name) for row in dicts] for name in found}
        order = list(names) if names is not None else list(cells)
        if missing := [name for name in order if name not in cells]:
            raise InvalidError(f"the rows have no {', '.join(missing)}: they have {', '.join(cells)}")
        return _columns({name: cells[name] for name in order})
    tuples = [row if isinstance(row, (list, tuple)) else (row,) for row in rows]
    order = list(names) if names is not None else [f"_{at}" for at in range(1, len(tuples[0]) + 1)]
    for at, row in enumerate(tuples):
        if len(row) != len(order):
            raise InvalidError(f"row {at} has {len(row)} values, for {len(order)} columns")
    return _columns(dict(zip(order, map(list, zip(*tuples, strict=True)), strict=True)))


def _columns(cells: dict[str, list[Any]]) -> pa.Table:
    columns = {}
    for name, values in cells.items():
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvalidError(f"column {name} has values of different types: {error}") from error
    return pa.table(columns)

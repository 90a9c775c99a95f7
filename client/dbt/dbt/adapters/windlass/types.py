"""Types of Arrow in the words of SQL."""

from __future__ import annotations

import pyarrow as pa

_NAMES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.uint8(): "tinyint unsigned",
    pa.uint16(): "smallint unsigned",
    pa.uint32(): "int unsigned",
    pa.uint64(): "bigint unsigned",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double",
    pa.string(): "varchar",
    pa.large_string(): "varchar",
    pa.string_view(): "varchar",
    pa.binary(): "bytea",
    pa.large_binary(): "bytea",
    pa.binary_view(): "bytea",
    pa.date32(): "date",
    pa.date64(): "date",
    pa.null(): "varchar",
}
_DIGITS = {"s": "(0)", "ms": "(3)", "us": "(6)", "ns": ""}


def sql_type(of: pa.DataType) -> str:
    """Returns a type that CAST and CREATE TABLE read as ``of``. None is a label of dbt for another type, as INTEGER is for bigint."""
    if of in _NAMES:
        return _NAMES[of]
    if pa.types.is_decimal(of):
        return f"decimal({of.precision},{of.scale})"
    if pa.types.is_timestamp(of):
        digits = _DIGITS[of.unit]
        if of.tz is None:
            return f"timestamp{digits}"
        return f"timestamp{digits} with time zone" if digits else "timestamptz"
    if pa.types.is_time(of):
        return "time"
    if pa.types.is_dictionary(of):
        return sql_type(of.value_type)
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return f"{sql_type(of.value_type)}[]"
    if pa.types.is_struct(of):
        fields = ", ".join(f"{field.name} {sql_type(field.type)}" for field in of)
        return f"struct<{fields}>"
    return str(of)

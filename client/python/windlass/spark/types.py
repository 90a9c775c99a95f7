"""Types in the words of Spark, and schemas: ``"a int, b string"``, or ``StructType([StructField("a", IntegerType())])``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .._errors import InvalidError
from ._sql import quoted

__all__ = [
    "ArrayType",
    "BinaryType",
    "BooleanType",
    "ByteType",
    "DataType",
    "DateType",
    "DecimalType",
    "DoubleType",
    "FloatType",
    "IntegerType",
    "LongType",
    "MapType",
    "ShortType",
    "StringType",
    "StructField",
    "StructType",
    "TimestampNTZType",
    "TimestampType",
]


class DataType(str):
    """A type: the text that is Spark's short name of it."""

    _name = ""

    def __new__(cls, name: str | None = None) -> DataType:
        return super().__new__(cls, cls._name if name is None else name)

    def simpleString(self) -> str:
        return str(self)


class ByteType(DataType):
    _name = "tinyint"


class ShortType(DataType):
    _name = "smallint"


class IntegerType(DataType):
    _name = "int"


class LongType(DataType):
    _name = "bigint"


class FloatType(DataType):
    _name = "float"


class DoubleType(DataType):
    _name = "double"


class BooleanType(DataType):
    _name = "boolean"


class StringType(DataType):
    _name = "string"


class BinaryType(DataType):
    _name = "binary"


class DateType(DataType):
    _name = "date"


class TimestampType(DataType):
    _name = "timestamp"


class TimestampNTZType(DataType):
    _name = "timestamp_ntz"


def DecimalType(precision: int = 10, scale: int = 0) -> DataType:
    return DataType(f"decimal({int(precision)},{int(scale)})")


def ArrayType(elementType: str, containsNull: bool = True) -> DataType:
    return DataType(f"array<{elementType}>")


def MapType(keyType: str, valueType: str, valueContainsNull: bool = True) -> DataType:
    return DataType(f"map<{keyType},{valueType}>")


@dataclass(frozen=True)
class StructField:
    """A column. ``dataType``: Spark's name of its type."""

    name: str
    dataType: str
    nullable: bool = True


class StructType:
    """The columns of a data frame."""

    def __init__(self, fields: list[StructField] | None = None) -> None:
        self.fields = list(fields or [])

    def __repr__(self) -> str:
        return f"StructType({self.fields!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StructType) and self.fields == other.fields

    __hash__ = None  # type: ignore[assignment]

    @property
    def names(self) -> list[str]:
        return [field.name for field in self.fields]

    def fieldNames(self) -> list[str]:
        return self.names

    def add(self, field: str | StructField, data_type: str | None = None, nullable: bool = True) -> StructType:
        """Adds a column, and returns this."""
        self.fields.append(field if isinstance(field, StructField) else StructField(field, data_type or "string", nullable))
        return self

    def simpleString(self) -> str:
        return f"struct<{','.join(f'{field.name}:{field.dataType}' for field in self.fields)}>"

    def __iter__(self) -> Iterator[StructField]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, key: str | int) -> StructField:
        if isinstance(key, int):
            return self.fields[key]
        found = next((field for field in self.fields if field.name == key), None)
        if found is None:
            raise KeyError(f"there is no column {key!r}: {', '.join(self.names)}")
        return found


_NAMES: list[tuple[Any, str, str]] = [
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


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    return type_name(kind) == "string"


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def type_name(kind: pa.DataType, long: bool = False) -> str:
    """Returns Spark's name of a type: the short one of ``dtypes``, or the long one of ``printSchema``."""
    for fits, short_name, long_name in _NAMES:
        if fits(kind):
            return long_name if long else short_name
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp_ntz"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_dictionary(kind):
        return type_name(kind.value_type, long)
    if is_list(kind):
        return f"array<{type_name(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{type_name(kind.key_type)},{type_name(kind.item_type)}>"
    if pa.types.is_struct(kind):
        fields = (kind.field(at) for at in range(kind.num_fields))
        return f"struct<{','.join(f'{field.name}:{type_name(field.type)}' for field in fields)}>"
    if "binary" in str(kind):
        return "binary"
    return str(kind)


# ---- texts of types

# Names of Spark with the type of Arrow, and the word of SQL. A timestamp is one without a zone: it shows what it was given.
_WORDS: dict[str, tuple[pa.DataType, str]] = {
    "tinyint": (pa.int8(), "TINYINT"),
    "byte": (pa.int8(), "TINYINT"),
    "smallint": (pa.int16(), "SMALLINT"),
    "short": (pa.int16(), "SMALLINT"),
    "int": (pa.int32(), "INT"),
    "integer": (pa.int32(), "INT"),
    "bigint": (pa.int64(), "BIGINT"),
    "long": (pa.int64(), "BIGINT"),
    "float": (pa.float32(), "REAL"),
    "real": (pa.float32(), "REAL"),
    "double": (pa.float64(), "DOUBLE"),
    "boolean": (pa.bool_(), "BOOLEAN"),
    "string": (pa.string(), "VARCHAR"),
    "varchar": (pa.string(), "VARCHAR"),
    "char": (pa.string(), "VARCHAR"),
    "binary": (pa.binary(), "BYTEA"),
    "date": (pa.date32(), "DATE"),
    "timestamp": (pa.timestamp("us"), "TIMESTAMP(6)"),
    "timestamp_ntz": (pa.timestamp("us"), "TIMESTAMP(6)"),
}
_TOKEN = re.compile(r"\s*(`(?:[^`]|``)+`|\w+|[<>(),:])")


class _Type:
    """Reads a type, or the columns of a schema."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def wrong(self) -> InvalidError:
        rest = self._text[self._at :].strip()
        return InvalidError(
            f"{self._text!r} is no type or schema, such as \"int\", \"decimal(10,2)\", \"array<string>\" or \"a int, b string\""
            + (f": see {rest!r}" if rest and rest != self._text else "")
        )

    def _next(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        return found.group(1) if found else ""

    def take(self, *wanted: str) -> str:
        """Returns the next token. ``wanted``: what it has to be."""
        token = self._next()
        if not token or (wanted and token.lower() not in wanted):
            raise self.wrong()
        found = _TOKEN.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return token

    def passes(self, token: str) -> bool:
        if self._next().lower() != token:
            return False
        self.take()
        return True

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise self.wrong()

    def type(self) -> tuple[pa.DataType, str]:
        """Returns the type of Arrow, and the words of SQL."""
        word = self.take().lower()
        if word in ("decimal", "dec", "numeric"):
            precision, scale = 10, 0
            if self.passes("("):
                precision = self._number()
                scale = self._number() if self.passes(",") else 0
                self.take(")")
            if not 1 <= precision <= 38 or not 0 <= scale <= precision:
                raise self.wrong()
            return pa.decimal128(precision, scale), f"DECIMAL({precision}, {scale})"
        if word == "array":
            self.take("<")
            arrow, sql = self.type()
            self.take(">")
            return pa.list_(arrow), f"{sql}[]"
        if word == "map":
            self.take("<")
            key, _ = self.type()
            self.take(",")
            value, _ = self.type()
            self.take(">")
            return pa.map_(key, value), ""
        if word == "struct":
            self.take("<")
            columns = self.columns()
            self.take(">")
            arrow = pa.struct([(name, kind) for name, kind, _ in columns])
            return arrow, f"STRUCT<{', '.join(f'{quoted(name)} {sql}' for name, _, sql in columns)}>"
        if word in ("varchar", "char") and self.passes("("):
            self._number()
            self.take(")")
        if word not in _WORDS:
            raise self.wrong()
        return _WORDS[word]

    def columns(self) -> list[tuple[str, pa.DataType, str]]:
        columns = []
        while True:
            name = self.take()
            if name in "<>(),:":
                raise self.wrong()
            self.passes(":")
            columns.append((name[1:-1].replace("``", "`") if name.startswith("`") else name, *self.type()))
            if self.passes("not"):
                self.take("null")
            if not self.passes(","):
                return columns

    def _number(self) -> int:
        token = self.take()
        if not token.isdigit():
            raise self.wrong()
        return int(token)


def sql_type(text: str) -> str:
    """Returns Spark's name of a type as CAST has it."""
    reader = _Type(text)
    _, sql = reader.type()
    reader.end()
    if not sql:
        raise InvalidError(f"nothing is cast to {text!r} here: make the map in SQL, with map(keys, values)")
    return sql


def arrow_schema(schema: str | StructType) -> pa.Schema:
    """Returns the columns of a schema. One type alone is that of the column ``value``."""
    if isinstance(schema, StructType):
        return pa.schema([pa.field(field.name, _arrow_type(field.dataType), field.nullable) for field in schema])
    try:
        return pa.schema([("value", _arrow_type(schema))])
    except InvalidError:
        reader = _Type(schema)
        columns = reader.columns()
        reader.end()
        return pa.schema([(name, kind) for name, kind, _ in columns])


def _arrow_type(text: str | StructType) -> pa.DataType:
    if isinstance(text, StructType):
        return pa.struct([(field.name, _arrow_type(field.dataType)) for field in text])
    reader = _Type(text)
    arrow, _ = reader.type()
    reader.end()
    return arrow

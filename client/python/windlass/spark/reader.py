"""Reading files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._errors import InvalidError
from ._sql import Part
from .types import StructType, arrow_schema, sql_type, type_name
from .writer import flag

if TYPE_CHECKING:
    from .dataframe import DataFrame
    from .session import SparkSession

__all__ = ["DataFrameReader", "Values"]


class Values(Part):
    """Values of this process, as ``sc.parallelize`` has them."""

    _instead = {"map": "no function of Python runs on executors: use spark.createDataFrame() and its columns"}

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def collect(self) -> list[Any]:
        return list(self._values)

    def take(self, num: int) -> list[Any]:
        return self._values[: max(num, 0)]

    def count(self) -> int:
        return len(self._values)


class DataFrameReader(Part):
    """Reads files: ``spark.read.parquet(path)``, ``spark.read.option("header", True).csv(path)``."""

    _instead = {
        "text": "read lines as CSV with a separator that no line has, or with CREATE EXTERNAL TABLE in spark.sql()",
        "orc": "parquet, csv and json are here",
        "jdbc": "make a table of the database with CREATE EXTERNAL TABLE, in spark.sql()",
    }

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._format = "parquet"
        self._options: dict[str, Any] = {}
        self._schema: str | StructType | None = None

    def format(self, source: str) -> DataFrameReader:
        self._format = source.lower()
        return self

    def option(self, key: str, value: Any) -> DataFrameReader:
        self._options[key.lower()] = value
        return self

    def options(self, **options: Any) -> DataFrameReader:
        for key, value in options.items():
            self.option(key, value)
        return self

    def schema(self, schema: str | StructType) -> DataFrameReader:
        """Says names and types of the columns: ``"a int, b string"``."""
        arrow_schema(schema)
        self._schema = schema
        return self

    def table(self, tableName: str) -> DataFrame:
        return self._spark.table(tableName)

    def load(self, path: str, format: str | None = None, **options: Any) -> DataFrame:
        self.options(**options)
        kind = (format or self._format).lower()
        if kind not in ("parquet", "csv", "json"):
            raise InvalidError(f"the format {kind!r} is read with spark.sql('CREATE EXTERNAL TABLE …'): parquet, csv and json are here")
        return {"parquet": self.parquet, "csv": self.csv, "json": self.json}[kind](path)

    def parquet(self, path: str) -> DataFrame:
        self._known()
        return self._files("PARQUET", path, {}, self._types())

    def json(self, path: str | Values) -> DataFrame:
        """Reads files with an object a line, or values of this process: dicts, or texts of JSON. Columns of the latter are in the order of their names."""
        self._known()
        if isinstance(path, str):
            return self._files("JSON", path, {}, self._types())
        import json

        rows = [json.loads(value) if isinstance(value, str) else value for value in path.collect()]
        if wrong := next((row for row in rows if not isinstance(row, dict)), None):
            raise InvalidError(f"a row of JSON is an object, and not {wrong!r}")
        return self._spark.createDataFrame(rows, self._schema or sorted({name for row in rows for name in row}))

    def csv(self, path: str, schema: str | StructType | None = None, **options: Any) -> DataFrame:
        """Reads CSV. Options: ``header`` (default False: columns are ``_c0``, ``_c1``, …), ``inferSchema`` (default False: all are texts), ``sep``."""
        if schema is not None:
            self.schema(schema)
        self.options(**options)
        self._known("header", "inferschema", "sep", "delimiter")
        header = flag(self._options.get("header", False))
        of_format = {"has_header": header, "delimiter": self._options.get("sep", self._options.get("delimiter", ","))}
        if self._schema is not None:
            return self._files("CSV", path, of_format, self._types())
        found = self._files("CSV", path, of_format)
        names = found.columns if header else [f"_c{at}" for at in range(len(found.columns))]
        if flag(self._options.get("inferschema", False)):
            return found.toDF(*names)
        return self._files("CSV", path, of_format, dict.fromkeys(names, "VARCHAR"))

    def _types(self) -> dict[str, str] | None:
        if self._schema is None:
            return None
        return {field.name: sql_type(type_name(field.type)) for field in arrow_schema(self._schema)}

    def _known(self, *known: str) -> None:
        if unknown := [key for key in self._options if key not in known]:
            raise InvalidError(f"the option {unknown[0]} is not known here: CREATE EXTERNAL TABLE has others, with spark.sql()")

    def _files(
        self, kind: str, path: str, options: Mapping[str, object], columns: Mapping[str, str] | None = None
    ) -> DataFrame:
        if not isinstance(path, str):
            raise InvalidError(f"{path!r} is no location: it is a text, which names a file, a folder or a pattern")
        name = self._spark._session.table_of_files(kind, path, options=options, columns=columns)
        return self._spark.table(name)

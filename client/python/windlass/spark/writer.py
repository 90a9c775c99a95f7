"""Writing the rows of data frames."""

from __future__ import annotations

import re
from typing import Any

from .._errors import Error, InvalidError
from ._frame import Frame, flat
from ._sql import Part, quoted, table_name, text, without_place

__all__ = ["DataFrameWriter"]

_FORMATS = ("parquet", "csv", "json")


def flag(value: Any) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


class DataFrameWriter(Part):
    """Writes rows: ``frame.write.mode("append").saveAsTable("name")``."""

    _instead = {
        "jdbc": "make a table of the database with CREATE EXTERNAL TABLE, in spark.sql(), and use insertInto()",
        "orc": "parquet, csv and json are here",
        "text": "parquet, csv and json are here",
        "bucketBy": "the cluster decides how a table is divided",
    }

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._mode = "error"
        self._format: str | None = None
        self._options: dict[str, Any] = {}
        self._partitions: list[str] = []

    def mode(self, saveMode: str) -> DataFrameWriter:
        """What happens if there is something: "error", "append", "overwrite" or "ignore"."""
        mode = {"errorifexists": "error", "default": "error"}.get(saveMode.lower(), saveMode.lower())
        if mode not in ("error", "append", "overwrite", "ignore"):
            raise InvalidError(f"the mode {saveMode!r} is none of error, append, overwrite and ignore")
        self._mode = mode
        return self

    def format(self, source: str) -> DataFrameWriter:
        if source.lower() not in _FORMATS:
            raise InvalidError(f"the format {source!r} is not written here: use one of {', '.join(_FORMATS)}, or COPY in spark.sql()")
        self._format = source.lower()
        return self

    def option(self, key: str, value: Any) -> DataFrameWriter:
        """Sets an option: ``header`` and ``sep`` of CSV, ``compression``."""
        self._options[key.lower()] = value
        return self

    def options(self, **options: Any) -> DataFrameWriter:
        for key, value in options.items():
            self.option(key, value)
        return self

    def partitionBy(self, *cols: Any) -> DataFrameWriter:
        """Puts files into folders ``column=value``, for each value of these columns."""
        names = [self._frame._field(name).name for name in flat(cols)]
        if odd := next((name for name in names if not re.fullmatch(r"[^\W\d]\w*", name)), None):
            raise InvalidError(f"no folder is named after the column {odd!r}: rename it, with letters, digits and _ alone")
        self._partitions = names
        return self

    # ---- tables

    def saveAsTable(self, name: str, format: str | None = None, mode: str | None = None) -> None:
        """Makes a table of the rows, or adds to one by the names of its columns."""
        if mode is not None:
            self.mode(mode)
        if self._partitions or self._format not in (None, "parquet"):
            raise InvalidError("a table has files of Parquet here, and no folders: write files with save(path), and read them with spark.read")
        table, spark = table_name(name), self._frame.sparkSession
        if self._mode == "append" and spark.catalog.tableExists(name):
            names = ", ".join(quoted(field.name) for field in self._frame._fields)
            return self._run(f"INSERT INTO {table} ({names}) {self._frame._named_query()}")
        words = {"overwrite": "CREATE OR REPLACE TABLE", "ignore": "CREATE TABLE IF NOT EXISTS"}.get(self._mode, "CREATE TABLE")
        return self._run(f"{words} {table} AS {self._frame._named_query()}")

    def insertInto(self, tableName: str, overwrite: bool = False) -> None:
        """Adds the rows to a table by the places of its columns, or has them in place of all its rows."""
        replaces = overwrite or self._mode == "overwrite"
        self._run(f"INSERT {'OVERWRITE' if replaces else 'INTO'} {table_name(tableName)} {self._frame._query}")

    # ---- files

    def save(self, path: str, format: str | None = None, mode: str | None = None) -> None:
        """Adds files to a folder, in the mode "append" alone. Spark has others, which COPY cannot do."""
        if format is not None:
            self.format(format)
        if mode is not None:
            self.mode(mode)
        getattr(self, self._format or "parquet")(path)

    def parquet(self, path: str, mode: str | None = None) -> None:
        """Adds files to a folder, in the mode "append" alone."""
        self._copy("PARQUET", path, mode, {"compression": "compression"})

    def json(self, path: str, mode: str | None = None) -> None:
        self._copy("JSON", path, mode, {"compression": "compression"})

    def csv(self, path: str, mode: str | None = None, header: Any = None, sep: str | None = None) -> None:
        self._options.update({key: value for key, value in (("header", header), ("sep", sep)) if value is not None})
        self._options.setdefault("header", False)
        self._copy("CSV", path, mode, {"header": "has_header", "sep": "delimiter", "delimiter": "delimiter", "compression": "compression"})

    def _copy(self, kind: str, path: str, mode: str | None, known: dict[str, str]) -> None:
        if mode is not None:
            self.mode(mode)
        if self._mode != "append":
            raise InvalidError(f'{path}: files are only added here, and none is looked for or replaced: write.mode("append") says so, saveAsTable() has all modes')
        if unknown := next((key for key in self._options if key not in known), None):
            raise InvalidError(f"the option {unknown} is not known here: COPY has others, with spark.sql()")
        folder = path if path.endswith("/") else f"{path}/"
        options = {known[key]: str(flag(value)).lower() if key == "header" else str(value) for key, value in self._options.items()}
        parts = f" PARTITIONED BY ({', '.join(self._partitions)})" if self._partitions else ""
        given = ", ".join(f"{name} {text(value)}" for name, value in options.items())
        query = f"COPY ({self._frame._named_query()}) TO {text(folder)} STORED AS {kind}{parts}"
        self._run(query + (f" OPTIONS ({given})" if given else ""))

    def _run(self, statement: str) -> None:
        try:
            self._frame.sparkSession._session.sql(statement)
        except Error as error:
            raise without_place(error) from None

"""A session in the style of Spark's, for code that was written for it: each operation is SQL, and runs when its rows are wanted.

    from windlass.spark import SparkSession

    spark = SparkSession()
    spark.table("flights").filter("dest = 'MIA'").groupBy("origin").count().show()

Only what means the same as in Spark is here. For the rest there is ``spark.sql()``, in the SQL of Windlass.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pyarrow as pa

from ._errors import InvalidError, NotFoundError
from ._native import version as _version
from ._rows import Row, StructField, StructType, arrow_of, json_text, rows_of, table_text, type_name
from ._session import Session, connect
from ._sql import escaped, first_word, quoted, word

if TYPE_CHECKING:
    import pandas

__all__ = ["DataFrame", "Row", "SparkSession", "StructField", "StructType"]

# What a statement begins with that has rows and changes nothing.
_QUERIES = ("select", "with", "values", "table", "from")
# Spark's names of options that mean something here.
_OPTIONS = {
    "spark.sql.session.timeZone": "datafusion.execution.time_zone",
    "spark.scheduler.pool": "windlass.pool",
    "spark.task.maxFailures": "windlass.max_attempts",
}
_JOINS = {
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
}
_AGGREGATES = {"avg": "avg", "mean": "avg", "max": "max", "min": "min", "sum": "sum", "count": "count"}


class _Part:
    """What tells of methods of Spark that are missing."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} has no {name!r} here: say it in SQL, with spark.sql()")


class SparkSession(_Part):
    """A session with the cluster: by default that of WINDLASS_SESSION, or else a new one, as :func:`windlass.connect` opens it."""

    def __init__(self, session: Session | None = None) -> None:
        self._session = session if session is not None else connect(progress=False)
        self._kept: dict[str, str] = {}
        self.conf = RuntimeConfig(self)
        self.catalog = Catalog(self)
        self.sparkContext = SparkContext()

    def __repr__(self) -> str:
        return f"<windlass.spark.SparkSession {self._session.url}>"

    @property
    def version(self) -> str:
        """The version of Windlass."""
        return _version

    @property
    def read(self) -> DataFrameReader:
        """Reads files, wherever executors reach them."""
        return DataFrameReader(self)

    def sql(self, sqlQuery: str, args: Sequence[Any] | Mapping[str, Any] | None = None) -> DataFrame:
        """Returns the rows of a statement. A query runs when they are wanted; another statement, or one with ``args``, at once.

        Args:
            sqlQuery: A statement in the SQL of Windlass.
            args: Values of ``$1``, ``$2`` in order, or of ``$name`` by name.
        """
        text = sqlQuery.strip().rstrip(";").rstrip()
        if args is not None or first_word(text) not in _QUERIES:
            return DataFrame(self, rows=self._session.sql(text, args).arrow())
        frame = DataFrame(self, text)
        # An error of the statement belongs here.
        _ = frame._columns
        return frame

    def table(self, tableName: str) -> DataFrame:
        """Returns the rows of a table or a view."""
        return self.sql(f"SELECT * FROM {_table(tableName)}")

    def range(self, start: int, end: int | None = None, step: int = 1) -> DataFrame:
        """Returns numbers from ``start``, or 0 if it is alone, to before ``end``, in the column ``id``."""
        first, behind = (0, start) if end is None else (start, end)
        if step == 0:
            raise InvalidError("the step of a range is not 0")
        count = max(0, -((first - behind) // step))
        series = f"SELECT {first} + (value - 1) * {step} AS id FROM generate_series(1, {max(count, 1)})"
        return DataFrame(self, series if count else f"{series} WHERE false")

    def createDataFrame(self, data: Any, schema: Sequence[str] | None = None) -> DataFrame:
        """Returns rows of this process.

        Args:
            data: A data frame of pandas, a table of pyarrow, or a list of dicts, Rows, tuples or values.
            schema: The names of the columns.
        """
        if schema is not None and (isinstance(schema, str) or not all(isinstance(name, str) for name in schema)):
            raise InvalidError("schema is a list of names here: types follow from the values; CAST others in selectExpr()")
        return DataFrame(self, rows=arrow_of(data, schema))

    def stop(self) -> None:
        """Closes the session, unless it was joined: that one stays open."""
        self._session.close()

    def _load(self, rows: pa.Table) -> str:
        """Makes a temporary table, and returns a query of its rows."""
        name = f"rows_{os.urandom(8).hex()}"
        self._session.load(rows, name, temporary=True)
        return f"SELECT * FROM {name}"


class RuntimeConfig(_Part):
    """Options of the session, by Windlass's names and those of Spark that mean something here. Others of Spark are kept, and mean nothing."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def set(self, key: str, value: object) -> None:
        name = _OPTIONS.get(key, key)
        if name.startswith("spark."):
            self._spark._kept[key] = word(value)
        else:
            self._spark._session.set(name, value)

    def get(self, key: str, default: str | None = None) -> str:
        """Returns the value of an option.

        Raises:
            NotFoundError: There is none, and no default.
        """
        name = _OPTIONS.get(key, key)
        if name.startswith("spark."):
            value = self._spark._kept.get(key)
        else:
            query = "SELECT value FROM information_schema.df_settings WHERE name = $1"
            value = self._spark._session.sql(query, [name]).scalar()
        if value is None and default is None:
            raise NotFoundError(f"the option {key} has no value: SHOW ALL lists those of Windlass")
        return str(value) if value is not None else str(default)


class Table(NamedTuple):
    """A table or a view of the catalog."""

    name: str
    catalog: str
    namespace: list[str]
    tableType: str


class Catalog(_Part):
    """Tables and views that the session sees."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def listTables(self, dbName: str | None = None) -> list[Table]:
        """Returns the tables and views: of a schema, or of all but ``information_schema``."""
        listed = self._spark._session._native.tables(None, dbName, None, False)
        return [
            Table(name, catalog, [schema], kind)
            for catalog, schema, name, kind, _ in listed
            if dbName is not None or schema != "information_schema"
        ]

    def tableExists(self, tableName: str, dbName: str | None = None) -> bool:
        """Says whether there is a table or view of this name."""
        name = _table(tableName if dbName is None else f"{dbName}.{tableName}")
        try:
            self._spark._session.sql(f"SELECT * FROM {name} LIMIT 0", progress=False)
        except NotFoundError:
            return False
        return True


class SparkContext(_Part):
    """What ``sc`` is: lists of this process become rows with ``spark.read.json`` and ``createDataFrame``."""

    @property
    def version(self) -> str:
        return _version

    def parallelize(self, c: Iterable[Any], numSlices: int | None = None) -> Values:
        """Returns the values, which stay in this process."""
        return Values(list(c))


class Values(_Part):
    """Values of this process."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def collect(self) -> list[Any]:
        return list(self._values)

    def take(self, num: int) -> list[Any]:
        return self._values[: max(num, 0)]

    def count(self) -> int:
        return len(self._values)


class DataFrameReader(_Part):
    """Reads files: ``spark.read.parquet(path)``, ``spark.read.option("header", True).csv(path)``."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._format = "parquet"
        self._options: dict[str, Any] = {}

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

    def load(self, path: str) -> DataFrame:
        if self._format not in ("parquet", "csv", "json"):
            raise InvalidError(f"the format {self._format!r} is read with spark.sql('CREATE EXTERNAL TABLE …'): parquet, csv and json are here")
        return {"parquet": self.parquet, "csv": self.csv, "json": self.json}[self._format](path)

    def parquet(self, path: str) -> DataFrame:
        self._known()
        return self._files("PARQUET", path, {})

    def json(self, path: str | Values) -> DataFrame:
        """Reads files with an object a line, or values of this process: dicts, or texts of JSON. Columns of the latter are in the order of their names."""
        self._known()
        if isinstance(path, str):
            return self._files("JSON", path, {})
        import json

        rows = [json.loads(value) if isinstance(value, str) else value for value in path.collect()]
        if wrong := next((row for row in rows if not isinstance(row, dict)), None):
            raise InvalidError(f"a row of JSON is an object, and not {wrong!r}")
        return self._spark.createDataFrame(rows, sorted({name for row in rows for name in row}))

    def csv(self, path: str, **options: Any) -> DataFrame:
        """Reads CSV. Options: ``header`` (default False: columns are ``_c0``, ``_c1``, …), ``inferSchema`` (default False: all are texts), ``sep``."""
        self.options(**options)
        self._known("header", "inferschema", "sep", "delimiter")
        header = _flag(self._options.get("header", False))
        delimiter = self._options.get("sep", self._options.get("delimiter", ","))
        of_format = {"has_header": header, "delimiter": delimiter}
        found = self._files("CSV", path, of_format)
        names = found.columns if header else [f"_c{at}" for at in range(len(found.columns))]
        if _flag(self._options.get("inferschema", False)):
            return found.toDF(*names)
        return self._files("CSV", path, of_format, dict.fromkeys(names, "VARCHAR"))

    def _known(self, *known: str) -> None:
        if unknown := [key for key in self._options if key not in known]:
            raise InvalidError(f"the option {unknown[0]} is not known here: CREATE EXTERNAL TABLE has others, with spark.sql()")

    def _files(
        self, kind: str, path: str, options: Mapping[str, object], columns: Mapping[str, str] | None = None
    ) -> DataFrame:
        name = self._spark._session.table_of_files(kind, path, options=options, columns=columns)
        return self._spark.sql(f"SELECT * FROM {name}")


class DataFrame(_Part):
    """Rows of a query, which runs when they are wanted, each time anew; or rows that are there."""

    def __init__(self, spark: SparkSession, query: str | None = None, rows: pa.Table | None = None) -> None:
        self.sparkSession = spark
        self._text = query
        # Rows that are there become a table of the cluster when a query needs them.
        self._rows = rows
        self._known: pa.Schema | None = None

    def __repr__(self) -> str:
        return f"DataFrame[{', '.join(f'{name}: {kind}' for name, kind in self.dtypes)}]"

    @property
    def _query(self) -> str:
        if self._text is None:
            assert self._rows is not None
            self._text = self.sparkSession._load(self._rows)
        return self._text

    @property
    def _columns(self) -> pa.Schema:
        if self._rows is not None:
            return self._rows.schema
        if self._known is None:
            self._known = self._run(f"SELECT * FROM {self._inside()} LIMIT 0").schema
        return self._known

    def _inside(self, name: str = "t") -> str:
        return f"(\n{self._query}\n) AS {name}"

    def _run(self, query: str) -> pa.Table:
        return self.sparkSession._session.sql(query).arrow()

    def _to(self, query: str) -> DataFrame:
        return DataFrame(self.sparkSession, query)

    def _named(self, names: Iterable[Any]) -> list[str]:
        """Returns columns by the names that are in the data frame, as SQL."""
        return [quoted(self._name(name)) for name in names]

    def _name(self, name: Any) -> str:
        if not isinstance(name, str):
            raise InvalidError(f"{name!r} is no name of a column: expressions are SQL, in selectExpr() and filter()")
        columns = self.columns
        found = [name] if name in columns else [column for column in columns if column.lower() == name.lower()]
        if len(found) != 1:
            raise NotFoundError(f"there is {'no' if not found else 'more than one'} column {name!r}: {', '.join(columns)}")
        return found[0]

    # ---- columns

    @property
    def columns(self) -> list[str]:
        return list(self._columns.names)

    @property
    def dtypes(self) -> list[tuple[str, str]]:
        return [(field.name, type_name(field.type)) for field in self._columns]

    @property
    def schema(self) -> StructType:
        return StructType([StructField(field.name, type_name(field.type), field.nullable) for field in self._columns])

    def printSchema(self) -> None:
        lines = [f" |-- {field.name}: {type_name(field.type, True)} (nullable = {str(field.nullable).lower()})" for field in self._columns]
        print("\n".join(["root", *lines]) + "\n")

    # ---- rows

    def toArrow(self) -> pa.Table:
        """Returns all rows as a table of pyarrow."""
        return self._rows if self._rows is not None else self._run(self._query)

    def toPandas(self) -> pandas.DataFrame:
        return self.toArrow().to_pandas()

    def collect(self) -> list[Row]:
        return rows_of(self.toArrow())

    def take(self, num: int) -> list[Row]:
        return rows_of(self._first(num))

    def head(self, n: int | None = None) -> Any:
        """Returns the first ``n`` rows, or the first row itself. None: there is none."""
        return self.take(n) if n is not None else self.first()

    def first(self) -> Row | None:
        return next(iter(self.take(1)), None)

    def count(self) -> int:
        if self._rows is not None:
            return int(self._rows.num_rows)
        return int(self._run(f"SELECT count(*) FROM {self._inside()}").column(0)[0].as_py())

    def show(self, n: int = 20, truncate: bool | int = True, vertical: bool = False) -> None:
        """Prints the first ``n`` rows. ``truncate``: maximum letters of a cell; True is 20, False is all."""
        rows = rows_of(self._first(n + 1))
        most = {True: 20, False: 0}[truncate] if isinstance(truncate, bool) else int(truncate)
        print(table_text(self.columns, rows[:n], most, vertical), end="")
        if len(rows) > n:
            print(f"only showing top {n} {'row' if n == 1 else 'rows'}")
        print()

    def toJSON(self, use_unicode: bool = True) -> Lines:
        """Returns each row as a text of JSON."""
        return Lines(self)

    def explain(self, extended: bool = False) -> None:
        """Prints how the query runs."""
        plan = self._run(f"EXPLAIN {'VERBOSE ' if extended else ''}{self._query}").to_pylist()
        print("\n".join("\n".join(str(value) for value in row.values()) for row in plan))

    def _first(self, num: int) -> pa.Table:
        if self._rows is not None:
            return self._rows.slice(0, max(num, 0))
        return self._run(f"SELECT * FROM {self._inside()} LIMIT {max(int(num), 0)}")

    # ---- other data frames

    def select(self, *cols: Any) -> DataFrame:
        """Returns columns by name; ``"*"`` is all."""
        names = [name for col in cols for name in (col if isinstance(col, (list, tuple)) else [col])]
        columns = [column for name in names for column in (self._named(self.columns) if name == "*" else self._named([name]))]
        return self._to(f"SELECT {', '.join(columns)} FROM {self._inside()}")

    def selectExpr(self, *expr: Any) -> DataFrame:
        """Returns expressions of SQL."""
        texts = [text for one in expr for text in (one if isinstance(one, (list, tuple)) else [one])]
        frame = self._to(f"SELECT {', '.join(texts)} FROM {self._inside()}")
        _ = frame._columns
        return frame

    def filter(self, condition: str) -> DataFrame:
        """Returns the rows for which a condition of SQL holds."""
        if not isinstance(condition, str):
            raise InvalidError("a condition is a text of SQL here, such as \"n > 2 AND s = 'a'\"")
        frame = self._to(f"SELECT * FROM {self._inside()} WHERE (\n{condition}\n)")
        _ = frame._columns
        return frame

    where = filter

    def orderBy(self, *cols: Any, ascending: bool | Sequence[bool] = True) -> DataFrame:
        """Returns the rows in the order of columns. NULL comes before all values, and behind them in a descending order."""
        names = [name for col in cols for name in (col if isinstance(col, (list, tuple)) else [col])]
        up = [bool(ascending)] * len(names) if isinstance(ascending, (bool, int)) else list(ascending)
        if not names or len(up) != len(names):
            raise InvalidError("orderBy takes names of columns, and as many values of ascending")
        keys = [f"{name} {'ASC NULLS FIRST' if is_up else 'DESC NULLS LAST'}" for name, is_up in zip(self._named(names), up, strict=True)]
        return self._to(f"SELECT * FROM {self._inside()} ORDER BY {', '.join(keys)}")

    sort = orderBy

    def limit(self, num: int) -> DataFrame:
        return self._to(f"SELECT * FROM {self._inside()} LIMIT {max(int(num), 0)}")

    def distinct(self) -> DataFrame:
        return self._to(f"SELECT DISTINCT * FROM {self._inside()}")

    def union(self, other: DataFrame) -> DataFrame:
        """Returns the rows of both, by the places of columns."""
        if len(self.columns) != len(other.columns):
            raise InvalidError(f"a union of {len(self.columns)} and {len(other.columns)} columns: both have as many")
        return self._to(f"SELECT * FROM {self._inside()} UNION ALL SELECT * FROM {other._inside('u')}")

    unionAll = union

    def withColumnRenamed(self, existing: str, new: str) -> DataFrame:
        return self.toDF(*(new if name.lower() == existing.lower() else name for name in self.columns))

    def toDF(self, *cols: str) -> DataFrame:
        """Returns the same columns under other names."""
        columns = self.columns
        if len(cols) != len(columns):
            raise InvalidError(f"{len(cols)} names for {len(columns)} columns: {', '.join(columns)}")
        renamed = [f"{quoted(name)} AS {quoted(new)}" for name, new in zip(columns, cols, strict=True)]
        return self._to(f"SELECT {', '.join(renamed)} FROM {self._inside()}")

    def drop(self, *cols: str) -> DataFrame:
        """Returns the other columns. Names that no column has are passed over."""
        gone = {name.lower() for name in cols}
        left = [name for name in self.columns if name.lower() not in gone]
        if not left:
            raise InvalidError("no column is left")
        return self.select(*left)

    def join(self, other: DataFrame, on: str | Sequence[str] | None = None, how: str = "inner") -> DataFrame:
        """Returns the rows of both that agree in the columns ``on``, which come first, once."""
        keys = [on] if isinstance(on, str) else list(on or [])
        kind = _JOINS.get(how.lower().replace("_", ""))
        if kind is None or not keys:
            raise InvalidError(f"join takes names of columns in on, and one of {', '.join(_JOINS)} in how: say other joins in SQL")
        left, right = self._named(keys), other._named(keys)
        same = " AND ".join(f"l.{a} = r.{b}" for a, b in zip(left, right, strict=True))
        if kind in ("SEMI", "ANTI"):
            found = f"EXISTS (SELECT 1 FROM {other._inside('r')} WHERE {same})"
            return self._to(f"SELECT * FROM {self._inside('l')} WHERE {'' if kind == 'SEMI' else 'NOT '}{found}")
        forms = {"RIGHT": "r.{b}", "FULL": "COALESCE(l.{a}, r.{b})"}
        columns = [f"{forms.get(kind, 'l.{a}').format(a=a, b=b)} AS {a}" for a, b in zip(left, right, strict=True)]
        for side, frame, names in (("l", self, left), ("r", other, right)):
            columns += [f"{side}.{name}" for name in map(quoted, frame.columns) if name not in names]
        named = [column.rpartition(" AS ")[2] if " AS " in column else column.partition(".")[2] for column in columns]
        if twice := next((name for name in named if named.count(name) > 1), None):
            raise InvalidError(f"both sides have a column {twice}: rename one of them with withColumnRenamed(), or drop() it")
        return self._to(f"SELECT {', '.join(columns)} FROM {self._inside('l')} {kind} JOIN {other._inside('r')} ON {same}")

    def groupBy(self, *cols: Any) -> GroupedData:
        """Groups rows by columns."""
        return GroupedData(self, [self._name(name) for col in cols for name in (col if isinstance(col, (list, tuple)) else [col])])

    groupby = groupBy

    # ---- views and tables

    def createTempView(self, name: str) -> None:
        """Names the query in the session. It is an error if the name is taken."""
        self.sparkSession._session.sql(f"CREATE TEMPORARY VIEW {_table(name)} AS {self._query}", progress=False)

    def createOrReplaceTempView(self, name: str) -> None:
        """Names the query in the session, in place of an earlier one."""
        self.sparkSession._session.sql(f"CREATE OR REPLACE TEMPORARY VIEW {_table(name)} AS {self._query}", progress=False)

    @property
    def write(self) -> DataFrameWriter:
        """Writes the rows."""
        return DataFrameWriter(self)


class GroupedData(_Part):
    """Groups of rows: ``count()``, or ``agg({"column": "sum"})``."""

    def __init__(self, frame: DataFrame, keys: list[str]) -> None:
        self._frame = frame
        self._keys = keys

    def count(self) -> DataFrame:
        return self._of([("count(*)", "count")])

    def agg(self, exprs: Mapping[str, str]) -> DataFrame:
        """Returns aggregates of columns, each by avg, mean, max, min, sum or count."""
        if not isinstance(exprs, Mapping) or not exprs:
            raise InvalidError('agg takes a dict here, such as {"amount": "sum"}: say others in SQL')
        columns = []
        for name, function in exprs.items():
            sql = _AGGREGATES.get(function.lower())
            if sql is None:
                raise InvalidError(f"agg knows {', '.join(_AGGREGATES)}, and not {function}: say it in SQL")
            if name == "*" and sql == "count":
                columns.append(("count(*)", "count(1)"))
            else:
                column = self._frame._name(name)
                columns.append((f"{sql}({quoted(column)})", f"{sql}({column})"))
        return self._of(columns)

    def _of(self, columns: list[tuple[str, str]]) -> DataFrame:
        keys = [quoted(key) for key in self._keys]
        texts = [*keys, *(f"{sql} AS {quoted(name)}" for sql, name in columns)]
        groups = f" GROUP BY {', '.join(keys)}" if keys else ""
        return self._frame._to(f"SELECT {', '.join(texts)} FROM {self._frame._inside()}{groups}")


class Lines(_Part):
    """Rows as texts of JSON. What is NULL is left out."""

    def __init__(self, frame: DataFrame) -> None:
        self._frame = frame

    def collect(self) -> list[str]:
        return [json_text(row) for row in self._frame.collect()]

    def take(self, num: int) -> list[str]:
        return [json_text(row) for row in self._frame.take(num)]

    def sample(self, withReplacement: bool, fraction: float) -> Lines:
        """Returns about this part of the rows, each at most once."""
        if withReplacement or not 0 <= fraction <= 1:
            raise InvalidError("sample(False, fraction) takes a fraction from 0 to 1, without replacement")
        frame = self._frame
        return Lines(frame._to(f"SELECT * FROM {frame._inside()} WHERE random() < {float(fraction)!r}"))


class DataFrameWriter(_Part):
    """Writes rows: ``frame.write.mode("append").saveAsTable("name")``."""

    def __init__(self, frame: DataFrame) -> None:
        self._frame = frame
        self._mode = "error"

    def mode(self, saveMode: str) -> DataFrameWriter:
        """What happens if there is something: "error", "append", "overwrite" or "ignore"."""
        mode = {"errorifexists": "error", "default": "error"}.get(saveMode.lower(), saveMode.lower())
        if mode not in ("error", "append", "overwrite", "ignore"):
            raise InvalidError(f"the mode {saveMode!r} is none of error, append, overwrite and ignore")
        self._mode = mode
        return self

    def saveAsTable(self, name: str) -> None:
        """Makes a table of the rows, or adds to one by the names of its columns."""
        table, spark = _table(name), self._frame.sparkSession
        if self._mode == "append" and spark.catalog.tableExists(name):
            return self._insert(f"INSERT INTO {table} ({', '.join(map(quoted, self._frame.columns))})")
        words = {"overwrite": "CREATE OR REPLACE TABLE", "ignore": "CREATE TABLE IF NOT EXISTS"}.get(self._mode, "CREATE TABLE")
        return self._insert(f"{words} {table} AS")

    def insertInto(self, tableName: str, overwrite: bool = False) -> None:
        """Adds the rows to a table by the places of its columns, or has them in place of all its rows."""
        replaces = overwrite or self._mode == "overwrite"
        self._insert(f"INSERT {'OVERWRITE' if replaces else 'INTO'} {_table(tableName)}")

    def parquet(self, path: str) -> None:
        """Adds files to a folder, in the mode "append" alone. Spark has others, which COPY cannot do."""
        self._copy("PARQUET", path, "")

    def json(self, path: str) -> None:
        self._copy("JSON", path, "")

    def csv(self, path: str, header: bool = False) -> None:
        self._copy("CSV", path, f" OPTIONS (has_header {str(_flag(header)).lower()})")

    def _insert(self, into: str) -> None:
        self._frame.sparkSession._session.sql(f"{into} {self._frame._query}")

    def _copy(self, kind: str, path: str, options: str) -> None:
        folder = path if path.endswith("/") else f"{path}/"
        if self._mode != "append":
            raise InvalidError(f'{path}: files are only added here, and none is looked for or replaced: write.mode("append") says so, saveAsTable() has all modes')
        self._frame.sparkSession._session.sql(f"COPY ({self._frame._query}) TO '{escaped(folder)}' STORED AS {kind}{options}")


_NAME = re.compile(r'\s*(?:([^\W\d]\w*)|"((?:[^"]|"")+)"|`((?:[^`]|``)+)`)\s*(\.|$)')


def _table(name: str) -> str:
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


def _flag(value: Any) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)

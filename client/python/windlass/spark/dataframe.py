"""Data frames: queries that run when their rows are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .._errors import InvalidError
from ._frame import Frame, flat, selected
from ._join import joined
from ._missing import NaFunctions, described, dropped, filled
from ._resolve import Field
from ._rows import Row, rows_of
from ._show import json_text, table_text
from ._sql import Part, quoted, table_name
from .column import Column, Sql, column_of, named_column, written
from .group import GroupedData
from .types import StructField, StructType, type_name
from .writer import DataFrameWriter

if TYPE_CHECKING:
    import pandas

__all__ = ["DataFrame"]


class DataFrame(Frame):
    """Rows of a query, which runs when they are wanted, each time anew; or rows that are there. ``frame.name`` and ``frame["name"]`` are its columns."""

    _instead = {
        "rdd": "no function of Python runs on executors; collect(), toArrow() and toPandas() bring the rows here",
        "foreach": "no function of Python runs on executors: loop over collect() or toLocalIterator()",
        "mapInPandas": "no function of Python runs on executors: toPandas() brings the rows here",
        "createGlobalTempView": "a view of all sessions is made with spark.sql('CREATE VIEW … AS …')",
        "checkpoint": "keep the rows in a table, with write.saveAsTable()",
        "writeTo": "use write.saveAsTable() or write.insertInto()",
    }

    def __repr__(self) -> str:
        return f"DataFrame[{', '.join(f'{name}: {kind}' for name, kind in self.dtypes)}]"

    def __getattr__(self, name: str) -> Column:  # type: ignore[override]
        if not name.startswith("_"):
            if any(field.name.lower() == name.lower() for field in self._fields):
                return self._of(self._field(name))
        return super().__getattr__(name)

    def __getitem__(self, item: Any) -> Any:
        """Returns a column by its name or number; the rows for which a condition holds; several columns."""
        if isinstance(item, Column):
            return self.filter(item)
        if isinstance(item, (list, tuple)):
            return self.select(*item)
        return self._of(self._fields[item] if isinstance(item, int) else self._field(item))

    def _to(self, query: str, fields: Sequence[Field] | None = None) -> DataFrame:
        return DataFrame(self.sparkSession, query, fields=fields)

    # ---- columns

    @property
    def columns(self) -> list[str]:
        return list(self._schema.names)

    @property
    def dtypes(self) -> list[tuple[str, str]]:
        return [(field.name, type_name(field.type)) for field in self._schema]

    @property
    def schema(self) -> StructType:
        return StructType([StructField(field.name, type_name(field.type), field.nullable) for field in self._schema])

    def printSchema(self) -> None:
        lines = [f" |-- {field.name}: {type_name(field.type, True)} (nullable = {str(field.nullable).lower()})" for field in self._schema]
        print("\n".join(["root", *lines]) + "\n")

    # ---- rows

    def toArrow(self) -> pa.Table:
        """Returns all rows as a table of pyarrow."""
        return self._rows if self._rows is not None else self._all(self._query)

    def toPandas(self) -> pandas.DataFrame:
        return self.toArrow().to_pandas()

    def collect(self) -> list[Row]:
        return rows_of(self.toArrow())

    def toLocalIterator(self, prefetchPartitions: bool = False) -> Iterator[Row]:
        return iter(self.collect())

    def take(self, num: int) -> list[Row]:
        return rows_of(self._first(num))

    def head(self, n: int | None = None) -> Any:
        """Returns the first ``n`` rows, or the first row itself. None: there is none."""
        return self.take(n) if n is not None else self.first()

    def first(self) -> Row | None:
        return next(iter(self.take(1)), None)

    def isEmpty(self) -> bool:
        return not self.take(1)

    def count(self) -> int:
        if self._rows is not None:
            return int(self._rows.num_rows)
        return int(self._run(f"SELECT count(*) FROM {self._inside()} AS t").column(0)[0].as_py())

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

    def describe(self, *cols: str) -> DataFrame:
        """Returns number, mean, deviation, least and greatest value of columns: those of numbers and texts, or these."""
        return DataFrame(self.sparkSession, rows=described(self, flat(cols)))

    def explain(self, extended: bool = False) -> None:
        """Prints how the query runs."""
        plan = self._run(f"EXPLAIN {'VERBOSE ' if extended else ''}{self._query}").to_pylist()
        print("\n".join("\n".join(str(value) for value in row.values()) for row in plan))

    def _first(self, num: int) -> pa.Table:
        if self._rows is not None:
            return self._rows.slice(0, max(num, 0))
        return self._all(f"SELECT * FROM {self._inside()} AS t LIMIT {max(int(num), 0)}")

    # ---- other columns

    def select(self, *cols: Any) -> DataFrame:
        """Returns columns: names, expressions; ``"*"`` is all."""
        return self._select(self._expanded(cols))

    def selectExpr(self, *expr: Any) -> DataFrame:
        """Returns expressions of SQL."""
        texts = flat(expr)
        return self._select(self._expanded(text if str(text).strip().endswith("*") else written(text) for text in texts))

    def _select(self, columns: Sequence[Column]) -> DataFrame:
        picked = self._pick(columns)
        chosen = self._to(f"SELECT {selected(picked)} FROM {self._source(columns)}", [field for _, field in picked])
        return chosen if all(column._ref is not None for column in columns) else chosen._checked()

    def withColumn(self, colName: str, col: Column) -> DataFrame:
        """Returns a column more, or another one in the place of that with this name."""
        return self.withColumns({colName: col})

    def withColumns(self, colsMap: Mapping[str, Column]) -> DataFrame:
        if wrong := next((name for name, col in colsMap.items() if not isinstance(col, Column)), None):
            raise InvalidError(f"the column {wrong!r} is no Column: a value is F.lit(…), and an expression of SQL is F.expr(…)")
        new = {name.lower(): col.alias(name) for name, col in colsMap.items()}
        names = [field.name.lower() for field in self._fields]
        columns = [new.get(field.name.lower()) for field in self._fields]
        kept = [self._of(field) if column is None else column for field, column in zip(self._fields, columns, strict=True)]
        return self._select([*kept, *(column for name, column in new.items() if name not in names)])

    def withColumnRenamed(self, existing: str, new: str) -> DataFrame:
        return self.withColumnsRenamed({existing: new})

    def withColumnsRenamed(self, colsMap: Mapping[str, str]) -> DataFrame:
        new = {name.lower(): to for name, to in colsMap.items()}
        return self._renamed([new.get(field.name.lower(), field.name) for field in self._fields])

    def toDF(self, *cols: str) -> DataFrame:
        """Returns the same columns under other names."""
        if len(cols) != len(self._fields):
            raise InvalidError(f"{len(cols)} names for {len(self._fields)} columns: {', '.join(self.columns)}")
        return self._renamed(cols)

    def _renamed(self, names: Sequence[str]) -> DataFrame:
        return self._select([self._of(field).alias(name) for field, name in zip(self._fields, names, strict=True)])

    def drop(self, *cols: str | Column) -> DataFrame:
        """Returns the other columns. Names that no column has are passed over."""
        names = {col.lower() for col in cols if isinstance(col, str)}
        keys = [field.key for col in cols if isinstance(col, Column) and (field := self._plain(col))]
        left = [field for field in self._fields if field.name.lower() not in names and not any(field.key is key for key in keys)]
        return self._select([self._of(field) for field in left])

    def alias(self, alias: str) -> DataFrame:
        """Returns the same rows under a name, for a join: ``F.col("alias.column")``."""
        named = [field._replace(key=object(), alias=alias) for field in self._fields]
        return self._to(self._query, named)

    # ---- other rows

    def filter(self, condition: str | Column) -> DataFrame:
        """Returns the rows for which a condition holds: a text of SQL, or a column."""
        if not isinstance(condition, (str, Column)):
            raise InvalidError("a condition is a column, such as frame.n > 2, or a text of SQL, such as \"n > 2 AND s = 'a'\"")
        column = condition if isinstance(condition, Column) else Column([Sql(condition)], condition)
        return self._rows_of([column], f" WHERE {self._sql(column)}")._checked()

    where = filter

    def _rows_of(self, columns: Sequence[Column], behind: str) -> DataFrame:
        names = ", ".join(quoted(field.inner) for field in self._fields)
        return self._to(f"SELECT {names} FROM {self._source(columns)}{behind}", self._fields)

    def orderBy(self, *cols: Any, ascending: bool | Sequence[bool] = True) -> DataFrame:
        """Returns the rows in the order of columns. NULL comes before all values, and behind them in a descending order."""
        columns = [named_column(col) for col in flat(cols)]
        up = [bool(ascending)] * len(columns) if isinstance(ascending, (bool, int)) else list(ascending)
        if not columns or len(up) != len(columns):
            raise InvalidError("orderBy takes columns, and as many values of ascending")
        keys = []
        for column, is_up in zip(columns, up, strict=True):
            order = column._order if is_up and column._order else "ASC NULLS FIRST" if is_up else "DESC NULLS LAST"
            keys.append(f"{self._sql(column)} {order}")
        ordered = self._rows_of(columns, f" ORDER BY {', '.join(keys)}")
        return ordered if all(column._ref is not None for column in columns) else ordered._checked()

    sort = orderBy

    def limit(self, num: int) -> DataFrame:
        return self._same(f"SELECT * FROM {self._inside()} AS t LIMIT {max(int(num), 0)}")

    def distinct(self) -> DataFrame:
        return self._same(f"SELECT DISTINCT * FROM {self._inside()} AS t")

    def dropDuplicates(self, subset: Sequence[str] | None = None) -> DataFrame:
        """Returns one row, any, of those that agree in these columns."""
        if subset is None:
            return self.distinct()
        keys = ", ".join(sql for sql, _ in self._keys([subset]))
        return self._same(f"SELECT DISTINCT ON ({keys}) * FROM {self._inside()} AS t")

    drop_duplicates = dropDuplicates

    def dropna(self, how: str = "any", thresh: int | None = None, subset: str | Sequence[str] | None = None) -> DataFrame:
        """Returns the rows without NULL and NaN."""
        return self._same(dropped(self, how, thresh, subset))

    def fillna(self, value: Any, subset: str | Sequence[str] | None = None) -> DataFrame:
        """Returns rows with a value in place of NULL and NaN, in the columns of its type; or values by column, in a dict."""
        return self._same(filled(self, value, subset))

    @property
    def na(self) -> NaFunctions:
        return NaFunctions(self)

    def sample(self, withReplacement: Any = None, fraction: Any = None, seed: int | None = None) -> DataFrame:
        """Returns about this part of the rows, others each time that they are wanted: ``sample(0.1)``."""
        if not isinstance(withReplacement, (bool, type(None))):
            withReplacement, fraction, seed = None, withReplacement, fraction if seed is None else seed
        if withReplacement or seed is not None or fraction is None or not 0 <= fraction <= 1:
            raise InvalidError("sample(fraction) takes a fraction from 0 to 1, without replacement and without a seed: samples cannot be repeated here")
        return self._same(f"SELECT * FROM {self._inside()} AS t WHERE random() < {float(fraction)!r}")

    def _same(self, query: str) -> DataFrame:
        """Returns these columns of other rows."""
        return self._to(query, self._fields)

    # ---- two data frames

    def union(self, other: DataFrame) -> DataFrame:
        """Returns the rows of both, by the places of columns."""
        return self._set("UNION ALL", other, "a union")

    unionAll = union

    def intersect(self, other: DataFrame) -> DataFrame:
        """Returns the rows that both have, each once."""
        return self._set("INTERSECT", other, "an intersection")

    def subtract(self, other: DataFrame) -> DataFrame:
        """Returns the rows that the other data frame has not, each once."""
        return self._set("EXCEPT", other, "a difference")

    def _set(self, operator: str, other: DataFrame, what: str) -> DataFrame:
        if len(self._fields) != len(other._fields):
            raise InvalidError(f"{what} of {len(self._fields)} and {len(other._fields)} columns: both have as many")
        query = f"SELECT * FROM {self._inside()} AS t {operator} SELECT * FROM {other._inside()} AS u"
        return self._to(query, [field._replace(key=object()) for field in self._fields])._checked()

    def unionByName(self, other: DataFrame, allowMissingColumns: bool = False) -> DataFrame:
        """Returns the rows of both, by the names of columns."""
        names = {field.name.lower() for field in self._fields}, {field.name.lower() for field in other._fields}
        if names[0] != names[1] and not allowMissingColumns:
            raise InvalidError(f"{', '.join(sorted(names[0] ^ names[1]))} is a column of one side alone: allowMissingColumns=True gives the other one NULL")
        order = [field.name for field in self._fields] + [field.name for field in other._fields if field.name.lower() not in names[0]]
        sides = []
        for frame, there in zip((self, other), names, strict=True):
            sides.append(frame._select([frame[name].alias(name) if name.lower() in there else column_of(None).alias(name) for name in order]))
        return sides[0].union(sides[1])

    def join(self, other: DataFrame, on: Any = None, how: str = "inner") -> DataFrame:
        """Returns the rows of both that belong together.

        Args:
            other: The other side.
            on: Names of columns in which both sides agree, and which come first, once; or a condition, such as ``a.id == b.id``.
            how: inner, left, right, full, semi, anti, or one of Spark's other words for them.
        """
        query, fields = joined(self, other, on, how)
        return self._to(query, fields)._checked()

    def crossJoin(self, other: DataFrame) -> DataFrame:
        """Returns each row with each row of the other side."""
        return self.join(other, how="cross")

    # ---- groups

    def groupBy(self, *cols: Any) -> GroupedData:
        """Groups rows by columns."""
        keys = [named_column(col) for col in flat(cols)]
        for key in keys:
            self._sql(key)
        return GroupedData(self, keys)

    groupby = groupBy

    def agg(self, *exprs: Any) -> DataFrame:
        """Returns aggregates of all rows."""
        return self.groupBy().agg(*exprs)

    # ---- what the cluster decides: these return the data frame itself

    def cache(self) -> DataFrame:
        """Returns this. Nothing is kept: the query runs anew each time that its rows are wanted."""
        return self

    def persist(self, storageLevel: Any = None) -> DataFrame:
        """Returns this, as :meth:`cache` does."""
        return self

    def unpersist(self, blocking: bool = False) -> DataFrame:
        return self

    def coalesce(self, numPartitions: int) -> DataFrame:
        """Returns this: the cluster decides how a query is divided."""
        return self

    def repartition(self, numPartitions: Any, *cols: Any) -> DataFrame:
        """Returns this, as :meth:`coalesce` does."""
        return self

    def hint(self, name: str, *parameters: Any) -> DataFrame:
        """Returns this: the cluster decides how tables are joined."""
        return self

    def transform(self, func: Callable[..., DataFrame], *args: Any, **kwargs: Any) -> DataFrame:
        """Returns what a function makes of this data frame."""
        return func(self, *args, **kwargs)

    # ---- views and tables

    def createTempView(self, name: str) -> None:
        """Names the query in the session. It is an error if the name is taken."""
        self._view("CREATE", name)

    def createOrReplaceTempView(self, name: str) -> None:
        """Names the query in the session, in place of an earlier one."""
        self._view("CREATE OR REPLACE", name)

    def _view(self, words: str, name: str) -> None:
        view = table_name(name)
        self._run(f"{words} TEMPORARY VIEW {view} AS {self._named_query()}")
        self.sparkSession.catalog._views.add(view)

    @property
    def write(self) -> DataFrameWriter:
        """Writes the rows."""
        return DataFrameWriter(self)


class Lines(Part):
    """Rows as texts of JSON. What is NULL is left out."""

    def __init__(self, frame: DataFrame) -> None:
        self._frame = frame

    def collect(self) -> list[str]:
        return [json_text(row) for row in self._frame.collect()]

    def take(self, num: int) -> list[str]:
        return [json_text(row) for row in self._frame.take(num)]

    def sample(self, withReplacement: bool, fraction: float) -> Lines:
        """Returns about this part of the rows, each at most once."""
        return Lines(self._frame.sample(withReplacement, fraction))

"""What a data frame is: a query, or rows that are there, and the columns that it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .._errors import Error, InvalidError, NotFoundError
from ._resolve import Field, Scope, fields_named, readable, unique
from ._sql import Part, plain_identifier, quoted, without_place
from .column import Column, Ref, Sql, named_column

if TYPE_CHECKING:
    from typing_extensions import Self

    from .session import SparkSession


class Frame(Part):
    """Rows of a query, which runs when they are wanted, each time anew; or rows that are there."""

    def __init__(
        self, spark: SparkSession, query: str | None = None, rows: pa.Table | None = None, fields: Sequence[Field] | None = None
    ) -> None:
        self.sparkSession = spark
        self._text = query
        # Rows that are there become a table of the cluster when a query needs them.
        self._rows = rows
        self._known_fields = list(fields) if fields is not None else None
        self._known_schema: pa.Schema | None = None

    # ---- the query and its columns

    @property
    def _query(self) -> str:
        if self._text is None:
            assert self._rows is not None
            self._text = self.sparkSession._load(self._rows.rename_columns([field.inner for field in self._fields]))
        return self._text

    def _inside(self) -> str:
        return f"(\n{self._query}\n)"

    @property
    def _fields(self) -> list[Field]:
        if self._known_fields is None:
            self._known_fields = fields_named(self._schema.names)
        return self._known_fields

    @property
    def _schema(self) -> pa.Schema:
        """The columns, under the names that are shown."""
        if self._rows is not None:
            return self._rows.schema
        if self._known_schema is None:
            found = self._run(f"SELECT * FROM {self._inside()} AS t LIMIT 0").schema
            if self._known_fields is not None:
                found = pa.schema([kind.with_name(field.name) for field, kind in zip(self._known_fields, found, strict=True)])
            self._known_schema = found
        return self._known_schema

    def _run(self, query: str) -> pa.Table:
        """Runs a query that was made here, so a place in it means nothing to the user."""
        try:
            return self.sparkSession._session.sql(query).arrow()
        except Error as error:
            raise without_place(error) from None

    def _all(self, query: str) -> pa.Table:
        """Returns rows with these columns, under the names that are shown."""
        rows = self._run(query)
        return rows if self._known_fields is None else rows.rename_columns([field.name for field in self._known_fields])

    def _named_query(self) -> str:
        """Returns the query under the names that are shown, for a view or a table."""
        names = [field.name for field in self._fields]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InvalidError(f"two columns are named {twice!r}: rename one of them with withColumnRenamed(), or drop() it")
        if all(field.inner == field.name for field in self._fields):
            return self._query
        columns = ", ".join(f"{quoted(field.inner)} AS {quoted(field.name)}" for field in self._fields)
        return f"SELECT {columns} FROM {self._inside()} AS t"

    def _checked(self) -> Self:
        """Returns this, if its query has no error: an error belongs where the query is made."""
        _ = self._schema
        return self

    # ---- expressions

    def _field(self, name: Any) -> Field:
        if not isinstance(name, str):
            raise InvalidError(f"{name!r} is no name of a column")
        return Scope((self, None)).field(Ref(name))

    def _of(self, field: Field) -> Column:
        return Column([Ref(field.name, field.key, self)], field.name)

    def _sql(self, column: Column) -> str:
        return Scope((self, None)).sql(column)

    def _source(self, columns: Iterable[Column], name: str = "t") -> str:
        """Returns what stands behind FROM for expressions."""
        if any(isinstance(piece, Sql) for column in columns for piece in column._pieces):
            return readable(self._fields, self._inside(), name)
        return f"{self._inside()} AS {name}"

    def _expanded(self, cols: Iterable[Any]) -> list[Column]:
        """Returns the columns that select() takes: names, columns, lists of them, and ``*``."""
        found: list[Column] = []
        for col in flat(cols):
            name = col if isinstance(col, str) else col._ref.name if isinstance(col, Column) and col._ref is not None else ""
            if name == "*":
                found += map(self._of, self._fields)
            elif name.endswith(".*"):
                of = [field for field in self._fields if (field.alias or "").lower() == name[:-2].lower()]
                if not of:
                    raise NotFoundError(f"there is no data frame {name[:-2]!r} here: alias() names one")
                found += map(self._of, of)
            else:
                found.append(named_column(col))
        return found

    def _plain(self, column: Column) -> Field | None:
        """Returns the column of this data frame that an expression is, if it is nothing more."""
        piece = column._pieces[0] if len(column._pieces) == 1 else None
        ref = Ref(plain_identifier(piece.text) or "") if isinstance(piece, Sql) else column._ref
        if ref is None:
            return None
        try:
            return Scope((self, None)).field(ref)
        except NotFoundError:
            # A field of a struct, or an error that comes up when the expression is written.
            return None

    def _pick(self, columns: Sequence[Column]) -> list[tuple[str, Field]]:
        """Returns expressions in SQL, and the columns that they become."""
        plain = [self._plain(column) for column in columns]
        names = [column._name or (field.name if field else column._label) for column, field in zip(columns, plain, strict=True)]
        picked = []
        for column, field, name, inner in zip(columns, plain, names, unique(names), strict=True):
            same = field is not None and name == field.name
            kept = Field(name, inner, field.key, field.alias) if same and field else Field(name, inner, object())
            picked.append((self._sql(column), kept))
        return picked

    def _keys(self, cols: Iterable[Any]) -> list[tuple[str, str]]:
        """Returns columns in SQL, and how each is ordered, if that is said."""
        return [(self._sql(column), column._order) for column in map(named_column, flat(cols))]


def flat(cols: Iterable[Any]) -> list[Any]:
    """Returns arguments, and the elements of those that are lists."""
    return [one for col in cols for one in (col if isinstance(col, (list, tuple)) else [col])]


def selected(picked: Sequence[tuple[str, Field]]) -> str:
    """Returns what stands behind SELECT."""
    if not picked:
        raise InvalidError("no column is left")
    return ", ".join(f"{sql} AS {quoted(field.inner)}" for sql, field in picked)

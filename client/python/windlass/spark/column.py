"""Columns: expressions of SQL that are made of columns of data frames, of values and of functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .._errors import InvalidError
from ._sql import Part, literal, plain_identifier
from .types import sql_type

if TYPE_CHECKING:
    from ._frame import Frame
    from .window import WindowSpec

__all__ = ["Column"]


class Ref(NamedTuple):
    """A column by its name; or the very column of a data frame, by its key there."""

    name: str
    key: object = None
    frame: Frame | None = None


class Sql(NamedTuple):
    """An expression that the user wrote in SQL."""

    text: str


Piece = str | Ref | Sql


class Column(Part):
    """An expression. What it means is known when a data frame takes it, by ``select``, ``filter`` and others."""

    _instead = {"isNotIn": "use ~col.isin(…)", "getItem": "use col[…]", "try_cast": "use F.expr('TRY_CAST(… AS …)')"}

    def __init__(self, pieces: Sequence[Piece], label: str, name: str | None = None, order: str = "") -> None:
        self._pieces = tuple(pieces)
        # What the column is called if it has no name.
        self._label = label
        self._name = name
        # What stands behind it in ORDER BY.
        self._order = order

    def __repr__(self) -> str:
        return f"Column<'{self._label if self._name is None else f'{self._label} AS {self._name}'}'>"

    def _sql(self, resolved: Callable[[Ref | Sql], str]) -> str:
        return "".join(piece if isinstance(piece, str) else resolved(piece) for piece in self._pieces)

    @property
    def _ref(self) -> Ref | None:
        """The column of a data frame that it is, if it is nothing more."""
        return self._pieces[0] if len(self._pieces) == 1 and isinstance(self._pieces[0], Ref) else None

    # ---- names, types and order

    def alias(self, *alias: str) -> Column:
        """Returns the column under a name."""
        if len(alias) != 1 or not isinstance(alias[0], str) or not alias[0]:
            raise InvalidError(f"a column has one name here, and not {', '.join(map(repr, alias)) or 'none'}")
        return Column(self._pieces, self._label, alias[0])

    name = alias

    def cast(self, dataType: str) -> Column:
        """Returns the value in a type of Spark: "int", "decimal(10,2)", ``DoubleType()``. One that it does not have is an error, as with ``spark.sql.ansi.enabled``."""
        return Column(["CAST(", *self._pieces, f" AS {sql_type(dataType)})"], self._label, self._name)

    astype = cast

    def asc(self) -> Column:
        return self._ordered("ASC NULLS FIRST")

    def asc_nulls_last(self) -> Column:
        return self._ordered("ASC NULLS LAST")

    def desc(self) -> Column:
        return self._ordered("DESC NULLS LAST")

    def desc_nulls_first(self) -> Column:
        return self._ordered("DESC NULLS FIRST")

    asc_nulls_first, desc_nulls_last = asc, desc

    def _ordered(self, order: str) -> Column:
        return Column(self._pieces, self._label, self._name, order)

    def over(self, window: WindowSpec) -> Column:
        """Returns the function over rows around each row."""
        return Column([*self._pieces, " OVER (", *window._pieces(), ")"], f"{self._label} OVER (…)")

    # ---- operators

    def _with(self, operator: str, other: Any, turned: bool = False) -> Column:
        left, right = (column_of(other), self) if turned else (self, column_of(other))
        return Column(["(", *left._pieces, f" {operator} ", *right._pieces, ")"], f"({left._label} {operator} {right._label})")

    def _call(self, function: str, *others: Any) -> Column:
        return call(function, self, *map(column_of, others))

    def _behind(self, words: str) -> Column:
        return Column(["(", *self._pieces, f" {words})"], f"({self._label} {words})")

    def __add__(self, other: Any) -> Column:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Column:
        return self._with("+", other, True)

    def __sub__(self, other: Any) -> Column:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Column:
        return self._with("-", other, True)

    def __mul__(self, other: Any) -> Column:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Column:
        return self._with("*", other, True)

    def __truediv__(self, other: Any) -> Column:
        return _divided(self, column_of(other))

    def __rtruediv__(self, other: Any) -> Column:
        return _divided(column_of(other), self)

    def __mod__(self, other: Any) -> Column:
        return _rest(self, column_of(other))

    def __rmod__(self, other: Any) -> Column:
        return _rest(column_of(other), self)

    def __pow__(self, other: Any) -> Column:
        return self._call("power", other)

    def __rpow__(self, other: Any) -> Column:
        return call("power", column_of(other), self)

    def __neg__(self) -> Column:
        return Column(["(- ", *self._pieces, ")"], f"(- {self._label})")

    def __eq__(self, other: object) -> Column:  # type: ignore[override]
        return self._with("=", other)

    def __ne__(self, other: object) -> Column:  # type: ignore[override]
        return self._with("<>", other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> Column:
        return self._with("<", other)

    def __le__(self, other: Any) -> Column:
        return self._with("<=", other)

    def __gt__(self, other: Any) -> Column:
        return self._with(">", other)

    def __ge__(self, other: Any) -> Column:
        return self._with(">=", other)

    def __and__(self, other: Any) -> Column:
        return self._with("AND", other)

    def __rand__(self, other: Any) -> Column:
        return self._with("AND", other, True)

    def __or__(self, other: Any) -> Column:
        return self._with("OR", other)

    def __ror__(self, other: Any) -> Column:
        return self._with("OR", other, True)

    def __invert__(self) -> Column:
        return Column(["(NOT ", *self._pieces, ")"], f"(NOT {self._label})")

    def __bool__(self) -> NoReturn:
        raise InvalidError("a column is neither true nor false: combine conditions with & for and, | for or, ~ for not, and put each into brackets")

    def __iter__(self) -> NoReturn:
        raise TypeError("a column is not iterable")

    def __contains__(self, item: object) -> NoReturn:
        raise InvalidError("'in' does not work with columns: use contains() for texts, F.array_contains() for arrays, isin() for values")

    def __getitem__(self, key: Any) -> Column:
        """Returns an element of an array, whose first has the number 0, a field of a struct, or a value of a map."""
        at = literal(key + 1 if isinstance(key, int) and not isinstance(key, bool) else key)
        return Column([*self._pieces, f"[{at}]"], f"{self._label}[{key}]")

    getItem = getField = __getitem__

    # ---- conditions

    def eqNullSafe(self, other: Any) -> Column:
        return self._with("IS NOT DISTINCT FROM", other)

    def isNull(self) -> Column:
        return self._behind("IS NULL")

    def isNotNull(self) -> Column:
        return self._behind("IS NOT NULL")

    def isNaN(self) -> Column:
        return self._call("isnan")

    def isin(self, *cols: Any) -> Column:
        """Whether it is one of values, or of a list of them."""
        values = list(cols[0]) if len(cols) == 1 and isinstance(cols[0], (list, tuple, set, frozenset)) else list(cols)
        if not values:
            return column_of(False)
        columns = [column_of(value) for value in values]
        return Column(["(", *self._pieces, " IN (", *joined(columns), "))"], f"({self._label} IN ({', '.join(one._label for one in columns)}))")

    def between(self, lowerBound: Any, upperBound: Any) -> Column:
        return self.__ge__(lowerBound) & self.__le__(upperBound)

    def like(self, other: str) -> Column:
        return self._with("LIKE", other)

    def ilike(self, other: str) -> Column:
        return self._with("ILIKE", other)

    def rlike(self, other: str) -> Column:
        """Whether a regular expression, in the syntax of Rust, is found in it."""
        return self._call("regexp_like", other)

    def startswith(self, other: Any) -> Column:
        return self._call("starts_with", other)

    def endswith(self, other: Any) -> Column:
        return self._call("ends_with", other)

    def contains(self, other: Any) -> Column:
        return self._call("contains", other)

    def substr(self, startPos: int | Column, length: int | Column) -> Column:
        from .functions import substring

        return substring(self, startPos, length)

    def when(self, condition: Column, value: Any) -> Column:
        raise InvalidError("when() follows F.when()")

    def otherwise(self, value: Any) -> Column:
        raise InvalidError("otherwise() follows F.when()")


class Case(Column):
    """``F.when(…).when(…)``, which ``otherwise()`` ends. Without that it is NULL where no condition holds."""

    def __init__(self, cases: list[tuple[Column, Column]]) -> None:
        pieces: list[Piece] = ["CASE"]
        for condition, value in cases:
            pieces += [" WHEN ", *condition._pieces, " THEN ", *value._pieces]
        label = "".join(f" WHEN {condition._label} THEN {value._label}" for condition, value in cases)
        super().__init__([*pieces, " END"], f"CASE{label} END")
        self._cases = cases

    def when(self, condition: Column, value: Any) -> Case:
        if not isinstance(condition, Column):
            raise InvalidError(f"the condition of when() is a column, and not {condition!r}")
        return Case([*self._cases, (condition, column_of(value))])

    def otherwise(self, value: Any) -> Column:
        last = column_of(value)
        label = f"{self._label.removesuffix(' END')} ELSE {last._label} END"
        return Column([*self._pieces[:-1], " ELSE ", *last._pieces, " END"], label)


def column_of(value: Any) -> Column:
    """Returns a column as it is, and anything else as a value."""
    if isinstance(value, Column):
        return value
    return Column([literal(value)], "NULL" if value is None else str(value).lower() if isinstance(value, bool) else str(value))


def named_column(col: Any) -> Column:
    """Returns a column as it is, and a text as the column of this name."""
    if isinstance(col, Column):
        return col
    if isinstance(col, str):
        return Column([Ref(col)], col)
    raise InvalidError(f"{col!r} is neither the name of a column nor a column: a value is F.lit(…)")


_ALIAS = re.compile(r"(.*\S)\s+as\s+(`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\"|[^\W\d]\w*)\s*|(.*\))\s+(?!(?:end|asc|desc)\b)([^\W\d]\w*)\s*", re.DOTALL | re.IGNORECASE)


def written(sql: str) -> Column:
    """Returns an expression of SQL as a column. It may give itself a name: ``"a + 1 AS b"``."""
    if not isinstance(sql, str) or not sql.strip():
        raise InvalidError(f"{sql!r} is no expression: it is a text of SQL")
    found = _ALIAS.fullmatch(sql)
    if found is None:
        return Column([Sql(sql)], sql.strip())
    text, name = found.group(1) or found.group(3), found.group(2) or found.group(4)
    return Column([Sql(text)], sql.strip(), plain_identifier(name))


def joined(columns: Sequence[Column]) -> list[Piece]:
    """Returns columns with commas between."""
    pieces: list[Piece] = []
    for column in columns:
        pieces += [", ", *column._pieces] if pieces else column._pieces
    return pieces


def call(function: str, *columns: Column, label: str | None = None) -> Column:
    """Returns a function of columns."""
    called = f"{label or function}({', '.join(column._label for column in columns)})"
    return Column([f"{function}(", *joined(columns), ")"], called)


def _divided(left: Column, right: Column) -> Column:
    # Spark divides whole numbers into fractions, and by 0 into NULL.
    return Column(["(CAST(", *left._pieces, " AS DOUBLE) / NULLIF(", *right._pieces, ", 0))"], f"({left._label} / {right._label})")


def _rest(left: Column, right: Column) -> Column:
    return Column(["(", *left._pieces, " % NULLIF(", *right._pieces, ", 0))"], f"({left._label} % {right._label})")

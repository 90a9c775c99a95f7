"""Groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._errors import InvalidError
from . import functions
from ._frame import flat, selected
from ._sql import Part
from .column import Column
from .types import is_number

if TYPE_CHECKING:
    from .dataframe import DataFrame

__all__ = ["GroupedData"]

_AGGREGATES: dict[str, Callable[[Any], Column]] = {
    "avg": functions.avg,
    "mean": functions.avg,
    "max": functions.max,
    "min": functions.min,
    "sum": functions.sum,
    "count": functions.count,
}


class GroupedData(Part):
    """Groups of rows: ``count()``, ``sum("column")``, ``agg(F.sum("column").alias("total"))``, ``agg({"column": "sum"})``."""

    _instead = {
        "pivot": "say F.sum(F.when(F.col('key') == 'a', F.col('value'))).alias('a') in agg() for each value",
        "applyInPandas": "no function of Python runs on executors: toPandas() brings the rows here",
    }

    def __init__(self, frame: DataFrame, keys: list[Column]) -> None:
        self._frame = frame
        self._keys = keys

    def agg(self, *exprs: Any) -> DataFrame:
        """Returns aggregates: columns, or a dict that names for each column one of avg, mean, max, min, sum and count."""
        columns: list[Any] = []
        for one in flat(exprs):
            columns += self._named(one) if isinstance(one, Mapping) else [one]
        if not columns or not all(isinstance(one, Column) for one in columns):
            raise InvalidError('agg takes columns, such as F.sum("amount"), or a dict, such as {"amount": "sum"}')
        frame = self._frame
        picked = frame._pick([*self._keys, *columns])
        groups = f" GROUP BY {', '.join(sql for sql, _ in picked[: len(self._keys)])}" if self._keys else ""
        query = f"SELECT {selected(picked)} FROM {frame._source([*self._keys, *columns])}{groups}"
        return frame._to(query, [field for _, field in picked])._checked()

    def _named(self, exprs: Mapping[str, str]) -> list[Column]:
        columns = []
        for name, function in exprs.items():
            made = _AGGREGATES.get(str(function).lower())
            if made is None:
                raise InvalidError(f"agg knows {', '.join(_AGGREGATES)} by name, and not {function}: use F.{function}() if there is one, or F.expr()")
            columns.append(made("*" if name == "*" and made is functions.count else self._frame[name]))
        return columns

    def count(self) -> DataFrame:
        return self.agg(functions.count("*").alias("count"))

    def sum(self, *cols: str) -> DataFrame:
        return self._each(functions.sum, cols)

    def avg(self, *cols: str) -> DataFrame:
        return self._each(functions.avg, cols)

    mean = avg

    def min(self, *cols: str) -> DataFrame:
        return self._each(functions.min, cols)

    def max(self, *cols: str) -> DataFrame:
        return self._each(functions.max, cols)

    def _each(self, function: Callable[[Any], Column], cols: tuple[str, ...]) -> DataFrame:
        """Aggregates columns: these, or all numbers that are no key."""
        keys = [key._ref.name.lower() for key in self._keys if key._ref is not None]
        numbers = [field.name for field in self._frame._schema if is_number(field.type) and field.name.lower() not in keys]
        return self.agg(*(function(self._frame[name]) for name in flat(cols) or numbers))

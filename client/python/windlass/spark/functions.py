"""Functions of columns: ``from windlass.spark import functions as F``.

A text names a column, where Spark takes it so; a value is ``F.lit(value)``. What is not here is an expression of SQL: ``F.expr("…")``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .._errors import InvalidError
from ._dates import pattern as _pattern
from ._dates import unit as _unit
from ._sql import literal as _literal
from .column import Case, Column, Piece, call, column_of, joined, written
from .column import named_column as _column

if TYPE_CHECKING:
    from .dataframe import DataFrame


def __getattr__(name: str) -> NoReturn:
    if name in ("udf", "pandas_udf"):
        raise AttributeError(f"{name} is not here, because no function of Python runs on executors: write the expression in SQL, with F.expr()")
    raise AttributeError(f"windlass.spark.functions has no {name!r}: write the expression in SQL, with F.expr()")


def _made(*pieces: Piece | Column, label: str) -> Column:
    """Returns an expression of pieces of SQL and of columns."""
    found: list[Piece] = []
    for piece in pieces:
        found += piece._pieces if isinstance(piece, Column) else [piece]
    return Column(found, label)


def _one(function: str, label: str | None = None) -> Callable[[Any], Column]:
    """Returns a function of one column."""

    def of(col: Any) -> Column:
        return call(function, _column(col), label=label)

    return of


def _many(function: str) -> Callable[..., Column]:
    """Returns a function of any columns."""

    def of(*cols: Any) -> Column:
        return call(function, *(_column(one) for col in cols for one in (col if isinstance(col, (list, tuple)) else [col])))

    return of


def _none(function: str, sql: str | None = None) -> Callable[[], Column]:
    """Returns a function without arguments."""

    def of() -> Column:
        return Column([sql or f"{function}()"], f"{function}()")

    return of


# ---- columns, values, conditions


def col(col: str) -> Column:
    """Returns the column of this name."""
    return _column(col)


column = col


def lit(col: Any) -> Column:
    """Returns a value."""
    return column_of(col)


def expr(str: str) -> Column:
    """Returns an expression of SQL."""
    return written(str)


def when(condition: Column, value: Any) -> Case:
    """Returns the value where the condition holds: ``F.when(…, 1).when(…, 2).otherwise(3)``."""
    if not isinstance(condition, Column):
        raise InvalidError(f"the condition of when() is a column, and not {condition!r}")
    return Case([(condition, column_of(value))])


def asc(col: Any) -> Column:
    return _column(col).asc()


def desc(col: Any) -> Column:
    return _column(col).desc()


def broadcast(df: DataFrame) -> DataFrame:
    """Returns the data frame as it is: the cluster finds out which side of a join is small."""
    return df


def isnull(col: Any) -> Column:
    return _column(col).isNull()


def isnotnull(col: Any) -> Column:
    return _column(col).isNotNull()


isnan = _one("isnan")
coalesce = _many("coalesce")
greatest = _many("greatest")
least = _many("least")


def ifnull(col1: Any, col2: Any) -> Column:
    return coalesce(col1, col2)


nvl = ifnull


def nullif(col1: Any, col2: Any) -> Column:
    return call("nullif", _column(col1), _column(col2))


def nanvl(col1: Any, col2: Any) -> Column:
    return call("nanvl", _column(col1), _column(col2))


# ---- aggregates


def count(col: Any) -> Column:
    """Returns the number of rows, for ``"*"``, or of those in which the column is not NULL."""
    if isinstance(col, str) and col == "*":
        return Column(["count(*)"], "count(1)")
    return call("count", _column(col))


def countDistinct(col: Any, *cols: Any) -> Column:
    columns = [_column(one) for one in (col, *cols)]
    return _made("count(DISTINCT ", *joined(columns), ")", label=f"count({', '.join(one._label for one in columns)})")


count_distinct = countDistinct


def sum_distinct(col: Any) -> Column:
    return _made("sum(DISTINCT ", _column(col), ")", label=f"sum(DISTINCT {_column(col)._label})")


sum = _one("sum")
avg = _one("avg")
mean = avg
min = _one("min")
max = _one("max")
median = _one("median")
stddev = _one("stddev_samp", "stddev")
stddev_samp = _one("stddev_samp")
stddev_pop = _one("stddev_pop")
variance = _one("var_samp")
var_samp = variance
var_pop = _one("var_pop")
approx_count_distinct = _one("approx_distinct", "approx_count_distinct")
collect_list = _one("collect_list")
collect_set = _one("collect_set")
array_agg = _one("collect_list")
bool_and = _one("bool_and")
bool_or = _one("bool_or")
any_value = _one("any_value")
first = _one("first_value", "first")
last = _one("last_value", "last")


def corr(col1: Any, col2: Any) -> Column:
    return call("corr", _column(col1), _column(col2))


def percentile_approx(col: Any, percentage: float, accuracy: int = 10_000) -> Column:
    """Returns about the value below which this part of the values is. ``accuracy`` means nothing here."""
    return call("approx_percentile_cont", _column(col), column_of(float(percentage)))


# ---- over windows

row_number = _none("row_number")
rank = _none("rank")
dense_rank = _none("dense_rank")
percent_rank = _none("percent_rank")
cume_dist = _none("cume_dist")


def ntile(n: int) -> Column:
    return call("ntile", column_of(int(n)))


def lag(col: Any, offset: int = 1, default: Any = None) -> Column:
    return _beside("lag", col, offset, default)


def lead(col: Any, offset: int = 1, default: Any = None) -> Column:
    return _beside("lead", col, offset, default)


def _beside(function: str, col: Any, offset: int, default: Any) -> Column:
    more = [] if default is None else [column_of(default)]
    return call(function, _column(col), column_of(int(offset)), *more)


# ---- numbers

abs = _one("abs")
sqrt = _one("sqrt")
exp = _one("exp")
log10 = _one("log10")
log2 = _one("log2")
signum = _one("signum")
sign = signum
sin, cos, tan = _one("sin"), _one("cos"), _one("tan")
asin, acos, atan = _one("asin"), _one("acos"), _one("atan")
degrees, radians = _one("degrees"), _one("radians")
rint = _one("rint")


def floor(col: Any) -> Column:
    return call("floor", _column(col)).cast("bigint")


def ceil(col: Any) -> Column:
    return call("ceil", _column(col)).cast("bigint")


ceiling = ceil


def round(col: Any, scale: int = 0) -> Column:
    """Returns the number with ``scale`` digits of its fraction, as a double. What is in the middle goes away from 0."""
    of, digits = _column(col), column_of(int(scale))
    # The engine's own round() of a double goes to the even digit. A number that is no decimal has no fraction.
    exact = _made("CAST(round(TRY_CAST(", of, " AS DECIMAL(38, 15)), ", digits, ") AS DOUBLE)", label="")
    return _made("coalesce(", exact, ", CAST(", of, " AS DOUBLE))", label=f"round({of._label}, {scale})")


def pow(col1: Any, col2: Any) -> Column:
    return call("power", *(_column(one) if isinstance(one, str) else column_of(one) for one in (col1, col2)))


power = pow


def log(arg1: Any, arg2: Any = None) -> Column:
    """Returns the natural logarithm of a column; with two arguments that to a base, which comes first."""
    return call("ln", _column(arg1)) if arg2 is None else call("log", column_of(arg1), _column(arg2))


def rand(seed: int | None = None) -> Column:
    """Returns a random number from 0 to 1, another one each time."""
    if seed is not None:
        raise InvalidError("random numbers cannot be repeated here: leave the seed out")
    return Column(["random()"], "rand()")


# ---- texts

upper = _one("upper")
lower = _one("lower")
length = _one("char_length", "length")
char_length = length
trim = _one("trim")
ltrim = _one("ltrim")
rtrim = _one("rtrim")
reverse = _one("reverse")
initcap = _one("initcap")
ascii = _one("ascii")
md5 = _one("md5")
sha1 = _one("sha1")
base64 = _one("base64")
unbase64 = _one("unbase64")
hex = _one("hex")


def concat(*cols: Any) -> Column:
    """Returns the texts behind each other. It is NULL if one of them is."""
    columns = [_column(one) for one in cols]
    pieces: list[Piece] = []
    for one in columns:
        pieces += [" || CAST(" if pieces else "(CAST(", *one._pieces, " AS VARCHAR)"]
    return Column([*pieces, ")"], f"concat({', '.join(one._label for one in columns)})")


def concat_ws(sep: str, *cols: Any) -> Column:
    return call("concat_ws", column_of(sep), *(_column(one) for one in cols))


def substring(str: Any, pos: Any, len: Any) -> Column:
    """Returns ``len`` letters from the letter ``pos`` on. The first has the number 1; numbers below 0 count from the end."""
    of, start = _column(str), column_of(pos)
    if isinstance(pos, Column):
        start = _made("CASE WHEN ", start, " < 0 THEN char_length(", of, ") + 1 + ", start, " ELSE greatest(", start, ", 1) END", label=start._label)
    elif pos < 0:
        start = _made("(char_length(", of, ") + 1 + ", start, ")", label=start._label)
    elif pos == 0:
        start = column_of(1)
    return _made("substr(", of, ", ", start, ", ", column_of(len), ")", label=f"substring({of._label}, {pos}, {len})")


def lpad(col: Any, len: int, pad: str) -> Column:
    return call("lpad", _column(col), column_of(int(len)), column_of(pad))


def rpad(col: Any, len: int, pad: str) -> Column:
    return call("rpad", _column(col), column_of(int(len)), column_of(pad))


def repeat(col: Any, n: int) -> Column:
    return call("repeat", _column(col), column_of(int(n)))


def translate(srcCol: Any, matching: str, replace: str) -> Column:
    return call("translate", _column(srcCol), column_of(matching), column_of(replace))


def instr(str: Any, substr: str) -> Column:
    return call("instr", _column(str), column_of(substr))


def locate(substr: str, str: Any) -> Column:
    return call("strpos", _column(str), column_of(substr), label="locate")


def substring_index(str: Any, delim: str, count: int) -> Column:
    return call("substring_index", _column(str), column_of(delim), column_of(int(count)))


def sha2(col: Any, numBits: int) -> Column:
    return call("sha2", _column(col), column_of(int(numBits)))


def regexp_extract(str: Any, pattern: str, idx: int) -> Column:
    """Returns a group of the first match of a regular expression, which is in the syntax of Rust. Group 0 is all of it. No match is an empty text."""
    of, whole = _column(str), column_of(f"({pattern})")
    match = _made("regexp_match(", of, ", ", whole, f")[{int(idx) + 1}]", label="")
    label = f"regexp_extract({of._label}, {pattern}, {idx})"
    return _made("CASE WHEN ", of, " IS NOT NULL THEN coalesce(", match, ", '') END", label=label)


def regexp_replace(string: Any, pattern: Any, replacement: Any) -> Column:
    """Replaces all matches of a regular expression, which is in the syntax of Rust. ``$1`` in the replacement is its first group."""
    new = column_of(re.sub(r"\$(\d)", r"\\\1", replacement) if isinstance(replacement, str) else replacement)
    return call("regexp_replace", _column(string), column_of(pattern), new, column_of("g"))


def split(str: Any, pattern: str, limit: int = -1) -> Column:
    """Returns the parts of a text between separators. Of regular expressions only those are taken that stand for one text, such as ``\\\\|``."""
    plain = re.sub(r"\\([^\w\s])|\[([^\w\s\\^])\]", lambda found: found.group(1) or found.group(2), pattern)
    if limit > 0 or not pattern or re.search(r"[.*+?^$()|{}\[\]\\]", re.sub(r"\\[^\w\s]|\[[^\w\s\\^]\]", "", pattern)):
        raise InvalidError(f"split() takes a plain separator and no limit here, and not {pattern!r}: use regexp_replace() before it")
    return call("string_to_array", _column(str), column_of(plain), label="split")


# ---- dates and times


def _part(part: str, label: str, more: str = "") -> Callable[[Any], Column]:
    def of(col: Any) -> Column:
        named = _column(col)
        return _made(f"CAST(date_part('{part}', ", named, f"){more} AS INT)", label=f"{label}({named._label})")

    return of


year = _part("year", "year")
quarter = _part("quarter", "quarter")
month = _part("month", "month")
dayofmonth = _part("day", "dayofmonth")
day = dayofmonth
dayofyear = _part("doy", "dayofyear")
# Sunday is 1.
dayofweek = _part("dow", "dayofweek", " + 1")
weekofyear = _part("week", "weekofyear")
hour = _part("hour", "hour")
minute = _part("minute", "minute")
second = _part("second", "second")
last_day = _one("last_day")
current_date = _none("current_date")
current_timestamp = _none("current_timestamp", "now()")


def to_date(col: Any, format: str | None = None) -> Column:
    """Returns a date; of a text that has a pattern such as ``dd/MM/yyyy``. What is none is an error, as with ``spark.sql.ansi.enabled``."""
    of = _column(col)
    if format is None:
        return _made("CAST(", of, " AS DATE)", label=f"to_date({of._label})")
    return _made("to_date(", of, ", ", column_of(_pattern(format)), ")", label=f"to_date({of._label}, {format})")


def to_timestamp(col: Any, format: str | None = None) -> Column:
    """Returns a time without a zone; of a text that has a pattern such as ``dd/MM/yyyy HH:mm``."""
    of = _column(col)
    if format is None:
        return _made("CAST(", of, " AS TIMESTAMP(6))", label=f"to_timestamp({of._label})")
    return _made("to_timestamp_micros(", of, ", ", column_of(_pattern(format)), ")", label=f"to_timestamp({of._label}, {format})")


def date_format(date: Any, format: str) -> Column:
    of = _column(date)
    return _made("to_char(", of, ", ", column_of(_pattern(format)), ")", label=f"date_format({of._label}, {format})")


def date_add(start: Any, days: Any) -> Column:
    of, number = _column(start), column_of(days)
    return _made("(CAST(", of, " AS DATE) + CAST(", number, " AS BIGINT))", label=f"date_add({of._label}, {number._label})")


def date_sub(start: Any, days: Any) -> Column:
    of, number = _column(start), column_of(days)
    return _made("(CAST(", of, " AS DATE) - CAST(", number, " AS BIGINT))", label=f"date_sub({of._label}, {number._label})")


def datediff(end: Any, start: Any) -> Column:
    """Returns the days from ``start`` to ``end``."""
    to, of = _column(end), _column(start)
    return _made("datediff(CAST(", to, " AS DATE), CAST(", of, " AS DATE))", label=f"datediff({to._label}, {of._label})")


date_diff = datediff


def add_months(start: Any, months: Any) -> Column:
    of, number = _column(start), column_of(months)
    return _made("add_months(CAST(", of, " AS DATE), CAST(", number, " AS INT))", label=f"add_months({of._label}, {number._label})")


def trunc(date: Any, format: str) -> Column:
    """Returns the first day of the year, quarter, month or week."""
    of = _column(date)
    return _made(f"CAST(date_trunc('{_unit(format)}', ", of, ") AS DATE)", label=f"trunc({of._label}, {format})")


def date_trunc(format: str, timestamp: Any) -> Column:
    of = _column(timestamp)
    return _made(f"date_trunc('{_unit(format)}', CAST(", of, " AS TIMESTAMP(6)))", label=f"date_trunc({format}, {of._label})")


def unix_timestamp(timestamp: Any) -> Column:
    """Returns the seconds since 1970."""
    of = _column(timestamp)
    return _made("to_unixtime(CAST(", of, " AS TIMESTAMP(6)))", label=f"unix_timestamp({of._label})")


def from_unixtime(timestamp: Any, format: str = "yyyy-MM-dd HH:mm:ss") -> Column:
    """Returns seconds since 1970 as a text."""
    of = _column(timestamp)
    return _made("to_char(from_unixtime(", of, "), ", column_of(_pattern(format)), ")", label=f"from_unixtime({of._label}, {format})")


# ---- arrays and structs

array = _many("make_array")
size = _one("cardinality", "size")
array_distinct = _one("array_distinct")
array_max = _one("array_max")
array_min = _one("array_min")
flatten = _one("flatten")


def array_contains(col: Any, value: Any) -> Column:
    return call("array_contains", _column(col), column_of(value))


def array_join(col: Any, delimiter: str) -> Column:
    return call("array_to_string", _column(col), column_of(delimiter), label="array_join")


def array_sort(col: Any) -> Column:
    """Returns the array in order, NULL last."""
    return call("array_sort", _column(col), column_of("ASC"), column_of("NULLS LAST"))


def explode(col: Any) -> Column:
    """Returns a row for each element of an array; none for an array without elements, and for NULL."""
    return Column(["unnest(", *_column(col)._pieces, ")"], "col")


def struct(*cols: Any) -> Column:
    """Returns a struct of columns, under their names."""
    columns = [_column(one) for one in cols]
    names = [one._name or (one._ref.name if one._ref else one._label) for one in columns]
    pieces: list[Piece] = []
    for name, one in zip(names, columns, strict=True):
        pieces += [f"{', ' * bool(pieces)}{_literal(name)}, ", *one._pieces]
    return Column(["named_struct(", *pieces, ")"], f"struct({', '.join(names)})")

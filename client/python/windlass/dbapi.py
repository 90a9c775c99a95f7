"""Python's database interface, PEP 249, over a session. SQLAlchemy's dialect and dbt's adapter stand on it.

    from windlass import dbapi

    with dbapi.connect("grpc://127.0.0.1:7077") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT carrier, count(*) FROM flights WHERE month = $1 GROUP BY carrier", [7])
        cursor.fetchall()

Each statement is committed by itself, so ``commit()`` has nothing to do, and ``rollback()`` is an error.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _errors
from ._closing import Closing
from ._params import parameters as _parameters
from ._result import Result
from ._session import Session
from ._session import connect as _connect
from ._sql import first_word

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]

apilevel = "2.0"
# Threads may share the module. A connection runs one statement at a time; only cancel() is for other threads.
threadsafety = 1
# $1, $2, …; a mapping has names: $name.
paramstyle = "numeric_dollar"


class Warning(Exception):
    """A warning. None is raised."""


class Error(Exception):
    """An error, with the ``kind`` and ``retryable`` of the :class:`windlass.Error` that it comes from."""

    kind: str = "usage"
    retryable: bool = False


class InterfaceError(Error):
    """A wrong use of this module."""


class DatabaseError(Error):
    """An error of a statement or of the cluster."""


class DataError(DatabaseError):
    """A value is wrong."""


class OperationalError(DatabaseError):
    """The cluster cannot run the statement at present, or it was cancelled."""


class IntegrityError(DatabaseError):
    """A row breaks a rule of its table."""


class InternalError(DatabaseError):
    """A defect of Windlass, or a failing disk or network."""


class ProgrammingError(DatabaseError):
    """The statement is wrong."""


class NotSupportedError(DatabaseError):
    """Windlass does not do this."""


_CLASSES: tuple[tuple[type[_errors.Error], type[Error]], ...] = (
    (_errors.InvalidError, ProgrammingError),
    (_errors.NotFoundError, ProgrammingError),
    (_errors.AlreadyExistsError, ProgrammingError),
    (_errors.UnsupportedError, NotSupportedError),
    (_errors.InternalError, InternalError),
)


@contextmanager
def _translated() -> Iterator[None]:
    """Turns errors of windlass into those of PEP 249."""
    try:
        yield
    except _errors.Error as error:
        made = next((to for of, to in _CLASSES if isinstance(error, of)), OperationalError)(str(error))
        made.kind = error.kind
        made.retryable = error.retryable
        raise made from error


class _Kind:
    """Equal to the types of Arrow that are of this kind."""

    def __init__(self, *tests: Any) -> None:
        self._tests = tests

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, pa.DataType) and any(test(other) for test in self._tests))

    __hash__ = None  # type: ignore[assignment]


STRING = _Kind(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
BINARY = _Kind(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
NUMBER = _Kind(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
DATETIME = _Kind(pa.types.is_date, pa.types.is_time, pa.types.is_timestamp)
ROWID = _Kind()

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> datetime.date:
    return datetime.date.fromtimestamp(ticks)


def TimeFromTicks(ticks: float) -> datetime.time:
    return datetime.datetime.fromtimestamp(ticks).time()


def TimestampFromTicks(ticks: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ticks)


def connect(url: str | None = None, **options: Any) -> Connection:
    """Opens a session, or starts a cluster for one. Arguments: those of :func:`windlass.connect`."""
    with _translated():
        return Connection(_connect(url, **{"progress": False, **options}))


class Connection(Closing):
    """A session, as PEP 249 has it."""

    Warning = Warning
    Error = Error
    InterfaceError = InterfaceError
    DatabaseError = DatabaseError
    DataError = DataError
    OperationalError = OperationalError
    IntegrityError = IntegrityError
    InternalError = InternalError
    ProgrammingError = ProgrammingError
    NotSupportedError = NotSupportedError

    def __init__(self, session: Session) -> None:
        self.session = session
        # Whether something was written since the last commit().
        self.has_written = False
        # For SQLAlchemy: whether the program has said that each statement is committed by itself.
        self.is_autocommit = False
        self._cancelled = False

    def cursor(self) -> Cursor:
        """Returns a cursor, which runs statements."""
        return Cursor(self)

    def commit(self) -> None:
        """Has nothing to do: each statement is committed when it ends."""
        self.has_written = False

    def rollback(self) -> None:
        """Raises an error: what has run is committed."""
        raise NotSupportedError("transactions are not supported: each statement is committed by itself")

    def cancel(self) -> None:
        """Cancels the statement that another thread runs on this connection, with all of its jobs."""
        self._cancelled = True

    def tables(
        self, catalog: str | None, schema: str | None, name: str | None = None, columns: bool = False
    ) -> list[tuple[str, str, str, str, pa.Schema | None]]:
        """Returns catalog, schema, name and kind ("TABLE", "VIEW", "LOCAL TEMPORARY") of tables: all, or those of a catalog, of a schema, of a name; and
        their columns, if they are asked for."""
        with _translated():
            return self.session._native.tables(catalog, schema, name, columns)

    def close(self) -> None:
        """Ends the session, and a cluster that it started. A statement that another thread runs is cancelled."""
        self.session.close()

    def _look(self, news: str | None) -> None:
        """Is called ten times a second while a statement is under way. An error ends the statement on the cluster."""
        if self._cancelled:
            raise _errors.CancelledError("the statement was cancelled")

    def _run(self, operation: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> Result:
        self._cancelled = False
        return Result(self.session, self.session._native.execute(operation, _parameters(parameters), self._look))


_WRITES = {"insert", "copy"}
_READS = {"select", "with", "values", "table", "from", "explain", "show", "describe", "desc", "set", "reset", "use"}


class Cursor(Closing):
    """Runs statements, one after the other, and reads their rows."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rowcount = -1
        # The id of the last statement's job. None: it needed none.
        self.job: str | None = None
        self._result: Result | None = None
        self._rows: Iterator[tuple[Any, ...]] = iter(())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchone, None)

    @property
    def description(self) -> list[tuple[str, pa.DataType, None, None, None, None, bool]] | None:
        """Name, Arrow type and nullability of each column. None: the statement has no rows."""
        if self._result is None:
            return None
        return [(field.name, field.type, None, None, None, None, field.nullable) for field in self._result.schema]

    def execute(self, operation: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Self:
        """Runs a statement to its end."""
        self._result, self._rows, self.rowcount = None, iter(()), -1
        with _translated():
            result = self.connection._run(operation, parameters)
            self.job = result.job.id if result.job is not None else None
            self.connection.has_written |= first_word(operation) not in _READS
            if first_word(operation) in _WRITES:
                # The one row says how many rows were written.
                self.rowcount = int(result.scalar() or 0)
            elif len(result.schema) > 0:
                self._result, self._rows = result, _rows(result)
        return self

    def executemany(self, operation: str, parameters: Sequence[Sequence[Any] | Mapping[str, Any]]) -> Self:
        """Runs a statement once for each list of parameters. Each run is a statement of its own: to load rows, use Session.load."""
        written = 0
        for each in parameters:
            self.execute(operation, each)
            written += max(self.rowcount, 0)
        self.rowcount = written
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        """Returns the next row."""
        self._needs_rows()
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Returns the next ``size`` rows, or fewer at the end."""
        wanted = self.arraysize if size is None else size
        rows: list[tuple[Any, ...]] = []
        while len(rows) < wanted and (row := self.fetchone()) is not None:
            rows.append(row)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Returns the rows that are left."""
        self._needs_rows()
        return list(self._rows)

    def fetch_arrow_table(self) -> pa.Table:
        """Returns the rows as a pyarrow table, in place of the other calls."""
        result = self._needs_rows()
        with _translated():
            return result.arrow()

    def _needs_rows(self) -> Result:
        if self._result is None:
            raise ProgrammingError("there are no rows to fetch: no statement was executed, or it has none")
        return self._result

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Does nothing."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Lets the rows that were not read go."""
        result, self._result, self._rows = self._result, None, iter(())
        if result is not None:
            result._rows.close()


def _rows(result: Result) -> Iterator[tuple[Any, ...]]:
    with _translated():
        for batch in result.batches():
            if batch.num_columns:
                yield from zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: pa.Array) -> list[Any]:
    """The values as Python has them: its dates and times end with microseconds."""
    of = column.type
    if pa.types.is_timestamp(of) and of.unit == "ns":
        column = column.cast(pa.timestamp("us", of.tz), safe=False)
    elif pa.types.is_time64(of) and of.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    elif pa.types.is_duration(of) and of.unit == "ns":
        column = column.cast(pa.duration("us"), safe=False)
    return list(column.to_pylist())

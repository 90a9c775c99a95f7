"""Sessions in the style of Spark's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from .._closing import Closing
from .._errors import Error, InvalidError, NotFoundError, UnsupportedError
from .._native import version as _version
from .._session import Session, connect
from .._sql import first_word, word
from ._rows import arrow_of
from ._sql import Part, table_name, without_place
from .catalog import Catalog
from .dataframe import DataFrame
from .reader import DataFrameReader, Values

if TYPE_CHECKING:
    from .types import StructType

__all__ = ["RuntimeConfig", "SparkContext", "SparkSession"]

# What a statement begins with that has rows and changes nothing.
_QUERIES = ("select", "with", "values", "table", "from")
# Spark's names of options that mean something here.
_OPTIONS = {
    "spark.sql.session.timeZone": "datafusion.execution.time_zone",
    "spark.scheduler.pool": "windlass.pool",
    "spark.task.maxFailures": "windlass.max_attempts",
}


class Builder(Part):
    """``SparkSession.builder.appName("name").getOrCreate()``."""

    def __init__(self) -> None:
        self._url: str | None = None
        self._options: dict[str, Any] = {}

    def appName(self, name: str) -> Builder:
        """Keeps the name, which means nothing here."""
        return self.config("spark.app.name", name)

    def master(self, master: str) -> Builder:
        """Names the cluster: ``grpc://host:port``. "local" and "local[4]" start one on this machine, unless WINDLASS_URL names one."""
        if not isinstance(master, str) or not (master.startswith(("grpc://", "grpcs://", "local"))):
            raise InvalidError(f"the cluster {master!r} is none of Windlass: say master('grpc://host:7077'), or 'local' for one on this machine")
        self._url = None if master.startswith("local") else master
        return self

    remote = master

    def config(self, key: str | None = None, value: Any = None, *, map: Mapping[str, Any] | None = None) -> Builder:
        """Sets an option, as ``spark.conf.set`` does."""
        self._options.update(map or {})
        if key is not None:
            self._options[key] = value
        return self

    def enableHiveSupport(self) -> Builder:
        """Does nothing: tables are in the catalog of the cluster."""
        return self

    def getOrCreate(self) -> SparkSession:
        """Returns the session that is open, or opens one."""
        spark = SparkSession.getActiveSession()
        if spark is None or (self._url is not None and spark._session.url != self._url):
            spark = SparkSession(self._url)
        for key, value in self._options.items():
            spark.conf.set(key, value)
        return spark

    create = getOrCreate


class _NewBuilder:
    def __get__(self, instance: object, owner: type) -> Builder:
        return Builder()


class SparkSession(Part, Closing):
    """A session with the cluster: by default that of WINDLASS_SESSION, or else a new one, as :func:`windlass.connect` opens it."""

    _instead = {
        "udf": "no function of Python runs on executors: write the expression in SQL, with F.expr()",
        "readStream": "streams are not here",
        "streams": "streams are not here",
    }
    _active: ClassVar[SparkSession | None] = None

    builder = _NewBuilder()

    def __init__(self, session: Session | str | None = None) -> None:
        """``session``: a session of :func:`windlass.connect`, or the address of the cluster."""
        if session is not None and not isinstance(session, (Session, str)):
            raise InvalidError(f"{session!r} is neither a session of windlass.connect() nor the address of a cluster, such as 'grpc://host:7077'")
        self._session = session if isinstance(session, Session) else connect(session, progress=False)
        self._kept: dict[str, str] = {}
        self.conf = RuntimeConfig(self)
        self.catalog = Catalog(self)
        self.sparkContext = SparkContext()
        if SparkSession.getActiveSession() is None:
            SparkSession._active = self

    def __repr__(self) -> str:
        return f"<windlass.spark.SparkSession {self._session.url}>"

    @classmethod
    def getActiveSession(cls) -> SparkSession | None:
        """Returns the session that :meth:`Builder.getOrCreate` returns. None: none is open."""
        active = SparkSession._active
        return active if active is not None and active._session.is_open else None

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
            return self._now(text, args)
        frame = DataFrame(self, text)
        try:
            # An error of the statement belongs here.
            return frame._checked()
        except (InvalidError, NotFoundError, UnsupportedError):
            # The statement itself says where it is wrong.
            return self._now(text, None)

    def _now(self, text: str, args: Sequence[Any] | Mapping[str, Any] | None) -> DataFrame:
        return DataFrame(self, rows=self._session.sql(text, args).arrow())

    def table(self, tableName: str) -> DataFrame:
        """Returns the rows of a table or a view."""
        return DataFrame(self, f"SELECT * FROM {table_name(tableName)}")._checked()

    def range(self, start: int, end: int | None = None, step: int = 1, numPartitions: int | None = None) -> DataFrame:
        """Returns numbers from ``start``, or 0 if it is alone, to before ``end``, in the column ``id``."""
        first, behind = (0, start) if end is None else (start, end)
        if step == 0:
            raise InvalidError("the step of a range is not 0")
        count = max(0, -((int(first) - int(behind)) // int(step)))
        series = f"SELECT {int(first)} + (value - 1) * {int(step)} AS id FROM generate_series(1, {max(count, 1)})"
        return DataFrame(self, series if count else f"{series} WHERE false")

    def createDataFrame(self, data: Any, schema: Sequence[str] | str | StructType | None = None) -> DataFrame:
        """Returns rows of this process.

        Args:
            data: A data frame of pandas, a table of pyarrow, or a list of dicts, Rows, tuples or values.
            schema: The names of the columns, or names and types: ``"a int, b string"``.
        """
        return DataFrame(self, rows=arrow_of(data.collect() if isinstance(data, Values) else data, schema))

    def newSession(self) -> SparkSession:
        """Opens another session with the cluster, with options and temporary views of its own."""
        return SparkSession(self._session.url)

    def stop(self) -> None:
        """Closes the session. One that was joined is not this program's, and stays open: in an interactive session this does nothing."""
        if not self._session.is_joined:
            self._session.close()

    close = stop

    def _load(self, rows: pa.Table) -> str:
        """Makes a temporary table, and returns a query of its rows."""
        name = f"rows_{os.urandom(8).hex()}"
        try:
            self._session.load(rows, name, temporary=True)
        except Error as error:
            raise without_place(error) from None
        return f"SELECT * FROM {name}"


class RuntimeConfig(Part):
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


class SparkContext(Part):
    """What ``sc`` is: lists of this process become rows with ``spark.read.json`` and ``createDataFrame``."""

    @property
    def version(self) -> str:
        return _version

    def parallelize(self, c: Iterable[Any], numSlices: int | None = None) -> Values:
        """Returns the values, which stay in this process."""
        return Values(list(c))

    def setLogLevel(self, logLevel: str) -> None:
        """Does nothing: this process writes no log."""

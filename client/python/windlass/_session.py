"""Sessions with a cluster."""

from __future__ import annotations

import http.client
import json
import os
import urllib.parse
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa

from . import _native
from ._closing import Closing
from ._cluster import LocalCluster
from ._errors import Error, InvalidError, NotFoundError, UnavailableError
from ._jobs import Job
from ._load import Failed, checked, stream_of
from ._params import parameters
from ._progress import Display
from ._result import Result
from ._sql import escaped, parts_of, quoted, word

IfThere = Literal["fail", "append", "append_only", "replace"]


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    slots: int | None = None,
    memory: str | None = None,
    options: Mapping[str, object] | None = None,
    progress: bool | None = None,
    session: str | None = None,
) -> Session:
    """Opens a session.

    Args:
        url: The cluster: ``grpc://host:port``, or the addresses of all its primaries with commas. Without it, that of WINDLASS_URL; without that, a
            cluster of a primary and an executor is started on this machine, and ends with the session or the process.
        token: A bearer token.
        folder: Without ``url``: the folder of the cluster, whose tables stay there. Otherwise all of it is temporary.
        slots: Without ``url``: tasks at the same time. Default: the number of processors.
        memory: Without ``url``: memory of the executor, such as "4GiB".
        options: Options of the session, as SET takes them.
        progress: Whether statements show their progress. Default: in terminals and notebooks.
        session: The id of an open session of the cluster, which is joined: with its options and temporary tables, and it stays open when this one is closed.
            Without it, and without ``url``, that of WINDLASS_SESSION, which programs of an interactive session have.

    Raises:
        UnavailableError: Nobody answers there, or the cluster does not start.
        NotFoundError: There is no such session.
    """
    if url is None and session is None:
        session = os.environ.get("WINDLASS_SESSION") or None
    url = url or os.environ.get("WINDLASS_URL") or None
    if session is not None and url is None:
        raise InvalidError("a session that is joined is one of a running cluster: name the cluster with url, or in WINDLASS_URL")
    if url is not None and (folder is not None or slots is not None or memory is not None):
        raise InvalidError("folder, slots and memory are for a cluster that is started here: leave url out, or leave them out")
    cluster = None
    if url is None:
        cluster = LocalCluster(folder, slots, memory)
        url = cluster.url
    try:
        opened = Session(_joined(url, token, session), cluster, progress, joined=session is not None)
        for name, value in (options or {}).items():
            opened.set(name, value)
    except BaseException:
        if cluster is not None:
            cluster.stop()
        raise
    return opened


def _joined(url: str, token: str | None, session: str | None) -> _native.Session:
    try:
        return _native.connect(url, token, session)
    except UnavailableError:
        raise
    except Error:
        if _is_rest(url):
            raise InvalidError(
                f"{url} is the REST interface of a cluster: connect to the address of its primary, grpc://HOST:PORT, which 'windlass cluster status' names, "
                "and whose port is 7077 unless --listen says otherwise"
            ) from None
        raise


def _is_rest(url: str) -> bool:
    """Whether the REST interface of a cluster answers there."""
    where = urllib.parse.urlsplit(url)
    if not where.hostname or "," in where.netloc:
        return False
    secure = where.scheme in ("https", "grpcs", "grpc+tls")
    to = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(where.netloc, timeout=2)
    try:
        to.request("GET", "/api/v1/cluster")
        answer = to.getresponse()
        return answer.status == 200 and "executors" in json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        to.close()


class Session(Closing):
    """A session: its options and its temporary tables live on the cluster. Made by :func:`connect`."""

    def __init__(
        self, native: _native.Session, cluster: LocalCluster | None, progress: bool | None, joined: bool = False
    ) -> None:
        self._opened: _native.Session | None = native
        # Whether it is somebody else's, and stays open.
        self.is_joined = joined
        self._process = os.getpid()
        self._cluster = cluster
        self._progress = progress
        # Also where it is forgotten, and at the end of the process.
        self._stop = weakref.finalize(self, cluster.stop) if cluster is not None else None

    @property
    def _native(self) -> _native.Session:
        if self._process != os.getpid():
            raise InvalidError("a session does not survive fork(): connect() again in this process")
        if self._opened is None:
            raise InvalidError("the session is closed: connect() again")
        return self._opened

    def __repr__(self) -> str:
        return f"<windlass.Session {self.url}>"

    @property
    def url(self) -> str:
        """The cluster's address."""
        return str(self._opened.url) if self._opened is not None else "closed"

    @property
    def is_open(self) -> bool:
        """Whether statements can be run: it is not closed, and of this process."""
        return self._opened is not None and self._process == os.getpid()

    def sql(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        progress: bool | None = None,
    ) -> Result:
        """Runs a statement to its end, and returns its rows, which are read on demand. Ctrl-C cancels it.

        Args:
            sql: One statement.
            params: Values of the placeholders: in order for ``$1``, ``$2``, or by name for ``$name``. A value of any type that
                ``pyarrow.scalar`` takes.
            progress: Whether it shows its progress. Default: as the session says.

        Raises:
            Error: What is wrong, where, and how to mend it.
        """
        display = Display(self._progress if progress is None else progress)
        try:
            rows = self._native.execute(sql, parameters(params), display.callback())
        finally:
            display.clear()
        return Result(self, rows)

    def set(self, name: str, value: object) -> None:
        """Sets an option of the session, as SET does."""
        self.sql(f"SET {name} = '{escaped(word(value))}'", progress=False)

    def load(
        self,
        data: Any,
        table: str,
        *,
        schema: str | None = None,
        catalog: str | None = None,
        temporary: bool = False,
        if_there: IfThere = "fail",
    ) -> int:
        """Makes a table of rows of this process: all of them, or none. Returns their number.

        Rows that are added to a table are put into its types. A value that would be another one there, as 1.7 in a column of whole numbers, is an error.

        Args:
            data: A pyarrow table, batch or reader, a data frame of polars or pandas, a relation of DuckDB, or anything else with Arrow's PyCapsule
                interface. Readers are sent as they are read.
            table: The table. It is created if it is missing. A name with dots has its schema before it, ``sales.orders``; a part between double
                quotes may have dots itself.
            schema: Its schema; the session's if it is left out, as with ``catalog``.
            catalog: Its catalog.
            temporary: Whether it ends with the session.
            if_there: What happens if it is there: "fail", "append" or "replace"; "append_only" also fails if it is missing.
        """
        if if_there not in get_args(IfThere):
            raise InvalidError(f"if_there is {if_there!r}: use one of {', '.join(get_args(IfThere))}")
        parts = parts_of(table)
        if len(parts) > 1 and (schema is not None or catalog is not None):
            raise InvalidError(f"{table!r} names its schema: leave schema and catalog out")
        *before, name = parts
        schema = before[-1] if before else schema
        catalog = before[0] if len(before) > 1 else catalog
        rows, failed = stream_of(data), Failed()
        if if_there.startswith("append"):
            rows = checked(rows, self._columns_of(name, schema, catalog), name, failed)
        try:
            return int(self._native.load(rows, (name, schema, catalog, temporary), if_there))
        except Error:
            if failed.error is not None:
                raise failed.error from None
            raise

    def _columns_of(self, table: str, schema: str | None, catalog: str | None) -> pa.Schema | None:
        """Returns the columns of a table. None: there is none."""
        name = ".".join(quoted(part) for part in (catalog, schema, table) if part is not None)
        try:
            return self.sql(f"SELECT * FROM {name} LIMIT 0", progress=False).schema
        except NotFoundError:
            return None

    def read_parquet(self, location: str, **options: object) -> Result:
        """Reads the Parquet files at a location: a file, a folder or a pattern; local to the executors, ``s3://``, ``wfs://`` or ``https://``."""
        return self._read("PARQUET", location, options)

    def read_csv(self, location: str, **options: object) -> Result:
        """Reads CSV files, with a header unless ``has_header=False``. See :meth:`read_parquet`."""
        return self._read("CSV", location, {"has_header": True, **options})

    def read_json(self, location: str, **options: object) -> Result:
        """Reads JSON files, an object a line. See :meth:`read_parquet`."""
        return self._read("JSON", location, options)

    def _read(self, kind: str, location: str, options: Mapping[str, object]) -> Result:
        name = self.table_of_files(kind, location, options=options)
        try:
            return self.sql(f"SELECT * FROM {name}")
        finally:
            self.sql(f"DROP TABLE {name}", progress=False)

    def table_of_files(
        self,
        kind: str,
        location: str,
        name: str | None = None,
        *,
        options: Mapping[str, object] | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> str:
        """Makes a temporary table over files, and returns its name. ``options``: those of the format. ``columns``: names and types of SQL; found in the
        files if they are left out."""
        made = name or f"files_{os.urandom(8).hex()}"
        text = ", ".join(f"'{escaped(key)}' '{escaped(word(value))}'" for key, value in (options or {}).items())
        named = ", ".join(f"{quoted(column)} {kind_of}" for column, kind_of in (columns or {}).items())
        self.sql(
            f"CREATE EXTERNAL TEMPORARY TABLE {made}{f' ({named})' if named else ''} STORED AS {kind} LOCATION '{escaped(location)}'"
            + (f" OPTIONS ({text})" if text else ""),
            progress=False,
        )
        return made

    def tables(self, *, catalog: str | None = None, schema: str | None = None, name: str | None = None) -> list[str]:
        """Returns the names of tables and views, with their schemas: all, or those of a catalog, of a schema, of a name."""
        listed = self._native.tables(catalog, schema, name, False)
        return [f"{of_schema}.{of_table}" for _, of_schema, of_table, _, _ in listed]

    def submit(self, sql: str, *, name: str = "", options: Mapping[str, object] | None = None) -> Job:
        """Submits statements, which run without this process, in a session of their own."""
        pairs = [(key, word(value)) for key, value in (options or {}).items()]
        return Job(self, self._native.submit(sql, name, pairs))

    def job(self, id: str) -> Job:
        """Returns a job by its id.

        Raises:
            NotFoundError: There is none.
        """
        job = Job(self, id)
        job.details()
        return job

    def jobs(self, limit: int = 100, *, internal: bool = False) -> list[dict[str, Any]]:
        """Returns the newest jobs, also the cluster's own if ``internal``."""
        jobs: list[dict[str, Any]] = json.loads(self._native.jobs(limit, internal))
        return jobs

    def status(self) -> dict[str, Any]:
        """Returns the cluster's version, jobs and executors."""
        status: dict[str, Any] = json.loads(self._native.status())
        return status

    def close(self) -> None:
        """Ends the session, and a cluster that it started. A statement that another thread runs in it is cancelled, and raises CancelledError there."""
        opened, self._opened = self._opened, None
        try:
            if opened is not None and self._process == os.getpid():
                opened.close()
        finally:
            if self._stop is not None and self._process == os.getpid():
                self._stop()

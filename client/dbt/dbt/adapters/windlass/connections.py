"""Connections of dbt: a session for each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import windlass
from dbt.adapters.contracts.connection import AdapterResponse, Connection, ConnectionState, Credentials
from dbt.adapters.events.logging import AdapterLogger
from dbt.adapters.exceptions import FailedToConnectError
from dbt.adapters.sql import SQLConnectionManager
from dbt.adapters.windlass.types import sql_type
from dbt_common.exceptions import DbtDatabaseError, DbtRuntimeError
from windlass import dbapi

logger = AdapterLogger("Windlass")


@dataclass
class WindlassCredentials(Credentials):
    """An output of profiles.yml."""

    # The catalog. Every cluster has this one.
    database: str = "windlass"
    schema: str = "public"
    # grpc://host:port, or the addresses of all primaries with commas.
    url: str | None = None
    token: str | None = None
    # In place of a URL: the folder of a cluster that dbt starts, and that ends with it.
    folder: str | None = None
    # Options of the sessions, as SET takes them.
    options: dict[str, Any] = field(default_factory=dict)

    _ALIASES = {"catalog": "database"}

    def __post_init__(self) -> None:
        if (self.url is None) == (self.folder is None):
            raise DbtRuntimeError(
                "a profile of type windlass names a cluster with 'url', or the folder of one that dbt starts with 'folder': one of the two"
            )

    @property
    def type(self) -> str:
        return "windlass"

    @property
    def unique_field(self) -> str:
        return self.url or self.folder or ""

    def _connection_keys(self) -> tuple[str, ...]:
        return ("url", "folder", "database", "schema", "options")


class WindlassConnectionManager(SQLConnectionManager):
    """Opens, cancels and closes sessions. There are no transactions: each statement is committed by itself."""

    TYPE = "windlass"

    # The cluster of a profile with a folder, by folder. It ends with the process.
    _clusters: dict[str, windlass.Session] = {}
    _starting = threading.Lock()

    @contextmanager
    def exception_handler(self, sql: str) -> Iterator[None]:
        try:
            yield
        except dbapi.Error as error:
            logger.debug(f"{error.kind}: {error}")
            raise DbtDatabaseError(str(error)) from error

    @classmethod
    def open(cls, connection: Connection) -> Connection:
        if connection.state == ConnectionState.OPEN:
            return connection
        credentials = connection.credentials
        try:
            handle = dbapi.connect(cls._url(credentials), token=credentials.token, options=credentials.options)
        except (dbapi.Error, windlass.Error) as error:
            connection.handle = None
            connection.state = ConnectionState.FAIL
            raise FailedToConnectError(str(error)) from error
        connection.handle = handle
        connection.state = ConnectionState.OPEN
        return connection

    @classmethod
    def _url(cls, credentials: WindlassCredentials) -> str:
        if credentials.url is not None:
            return credentials.url
        folder = str(credentials.folder)
        with cls._starting:
            if folder not in cls._clusters:
                cls._clusters[folder] = windlass.connect(folder=folder, progress=False)
            return cls._clusters[folder].url

    def cancel(self, connection: Connection) -> None:
        if connection.handle is not None:
            connection.handle.cancel()

    @classmethod
    def get_response(cls, cursor: dbapi.Cursor) -> AdapterResponse:
        written = cursor.rowcount if cursor.rowcount >= 0 else None
        return AdapterResponse(
            _message="OK" if written is None else f"OK {written}", rows_affected=written, query_id=cursor.job
        )

    @classmethod
    def data_type_code_to_name(cls, type_code: Any) -> str:
        return sql_type(type_code)

    def begin(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def commit_if_has_connection(self) -> None:
        pass

    def clear_transaction(self) -> None:
        pass

    @classmethod
    def _rollback(cls, connection: Connection) -> None:
        connection.transaction_open = False

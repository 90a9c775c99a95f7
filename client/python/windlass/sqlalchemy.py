"""A dialect of SQLAlchemy.

    import sqlalchemy

    engine = sqlalchemy.create_engine("windlass://127.0.0.1:7077/")

The path names the catalog, ``?schema=`` the schema, ``?token=`` the bearer token. ``?url=`` has the addresses of several primaries. Without a host the
address is that of WINDLASS_URL, or a cluster is started, in the folder of ``?folder=``; it ends with the process. Other parts of the query are options of the session,
such as ``?windlass.pool=etl``.

Each statement is committed by itself, so a transaction groups nothing. There are no UPDATE and DELETE. Indexes, keys and other constraints besides NOT NULL are
left out of the tables that are created: nothing would use or check them.
"""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
from sqlalchemy import exc, types, util
from sqlalchemy.engine import default, reflection
from sqlalchemy.engine.interfaces import ExecuteStyle
from sqlalchemy.sql import compiler

from . import dbapi
from ._session import Session
from ._session import connect as _connect
from ._sql import RESERVED

__all__ = ["WindlassDialect"]


class WindlassCompiler(compiler.SQLCompiler):
    def limit_clause(self, select: Any, **options: Any) -> str:
        text = ""
        if select._limit_clause is not None:
            text += "\n LIMIT " + self.process(select._limit_clause, **options)
        if select._offset_clause is not None:
            text += "\n OFFSET " + self.process(select._offset_clause, **options)
        return text

    def for_update_clause(self, select: Any, **options: Any) -> str:
        raise exc.CompileError("Windlass has no locks: leave with_for_update() out")

    def visit_truediv_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        right = self.process(binary.right, **options)
        if all(side.type._type_affinity is types.Integer for side in (binary.left, binary.right)):
            right = f"CAST({right} AS DOUBLE)"
        return f"{self.process(binary.left, **options)} / {right}"

    def visit_frame_clause(self, frameclause: Any, **options: Any) -> str:
        # A parameter is no bound of a frame.
        return str(super().visit_frame_clause(frameclause, **{**options, "literal_execute": True}))

    def visit_mod_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        return f"{self.process(binary.left, **options)} % {self.process(binary.right, **options)}"

    def visit_regexp_match_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        return self._regexp(binary, " ~ ", options)

    def visit_not_regexp_match_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        return self._regexp(binary, " !~ ", options)

    def _regexp(self, binary: Any, operator: str, options: Any) -> str:
        if binary.modifiers.get("flags") == "i":
            operator = operator.rstrip() + "* "
        return f"{self.process(binary.left, **options)}{operator}{self.process(binary.right, **options)}"

    def visit_empty_set_expr(self, element_types: Any, **options: Any) -> str:
        nulls = ", ".join("NULL" for _ in element_types or [types.INTEGER()])
        return f"SELECT {nulls} WHERE false"


class WindlassDDLCompiler(compiler.DDLCompiler):
    def create_table_constraints(self, table: Any, _include_foreign_key_constraints: Any = None, **options: Any) -> str:
        return ""

    def visit_create_index(self, create: Any, *arguments: Any, **options: Any) -> str:
        # There are no indexes. A statement is expected here.
        return "SELECT 1"

    def visit_drop_index(self, drop: Any, **options: Any) -> str:
        return "SELECT 1"

    def visit_identity_column(self, identity: Any, **options: Any) -> str:
        raise exc.CompileError("Windlass has no identity columns: give the value, such as a UUID")

    def visit_computed_column(self, generated: Any, **options: Any) -> str:
        raise exc.CompileError("Windlass has no computed columns: compute the value in a view")


class WindlassPreparer(compiler.IdentifierPreparer):
    reserved_words = compiler.RESERVED_WORDS | RESERVED


class WindlassTypeCompiler(compiler.GenericTypeCompiler):
    def visit_FLOAT(self, type_: Any, **options: Any) -> str:
        return "REAL" if type_.precision is not None and type_.precision <= 24 else "DOUBLE"

    def visit_DOUBLE_PRECISION(self, type_: Any, **options: Any) -> str:
        return "DOUBLE"

    def visit_DATETIME(self, type_: Any, **options: Any) -> str:
        return self.visit_TIMESTAMP(type_, **options)

    def visit_TIMESTAMP(self, type_: Any, **options: Any) -> str:
        return "TIMESTAMP(6)" + (" WITH TIME ZONE" if type_.timezone else "")

    def visit_VARCHAR(self, type_: Any, **options: Any) -> str:
        return f"VARCHAR({type_.length})" if type_.length else "VARCHAR"

    def visit_NVARCHAR(self, type_: Any, **options: Any) -> str:
        return self.visit_VARCHAR(type_, **options)

    def visit_TEXT(self, type_: Any, **options: Any) -> str:
        return "VARCHAR"

    def visit_CLOB(self, type_: Any, **options: Any) -> str:
        return "VARCHAR"

    def visit_JSON(self, type_: Any, **options: Any) -> str:
        return "VARCHAR"

    def visit_BLOB(self, type_: Any, **options: Any) -> str:
        return "BYTEA"

    def visit_BINARY(self, type_: Any, **options: Any) -> str:
        return "BYTEA"

    def visit_VARBINARY(self, type_: Any, **options: Any) -> str:
        return "BYTEA"

    def visit_ARRAY(self, type_: Any, **options: Any) -> str:
        return self.process(type_.item_type, **options) + "[]" * (type_.dimensions or 1)


class WindlassDialect(default.DefaultDialect):
    """The dialect."""

    name = "windlass"
    driver = "windlass"
    default_paramstyle = "numeric_dollar"

    statement_compiler = WindlassCompiler
    ddl_compiler = WindlassDDLCompiler
    type_compiler_cls = WindlassTypeCompiler
    preparer = WindlassPreparer

    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True
    supports_native_enum = False
    supports_alter = False
    supports_comments = False
    supports_sequences = False
    supports_default_values = False
    supports_empty_insert = False
    supports_multivalues_insert = True
    supports_sane_rowcount = False
    supports_sane_multi_rowcount = False
    postfetch_lastrowid = False
    insert_returning = False
    cte_follows_insert = True
    # Each INSERT is a statement of its own, which writes files: many rows go in one.
    use_insertmanyvalues = True
    use_insertmanyvalues_wo_returning = True
    insertmanyvalues_page_size = 10_000
    insertmanyvalues_max_parameters = 100_000
    max_identifier_length = 1_000
    div_is_floordiv = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._starting = threading.Lock()
        self._cluster: Session | None = None
        self._warned = False

    @classmethod
    def import_dbapi(cls) -> Any:
        return dbapi

    def create_connect_args(self, url: Any) -> tuple[list[Any], dict[str, Any]]:
        query = dict(url.query)
        schema = query.pop("schema", None)
        given = {name: query.pop(name, None) for name in ("url", "token", "folder")}
        if url.host:
            given["url"] = f"grpc://{url.host}:{url.port or 7077}"
        unknown = [name for name in query if "." not in name]
        if unknown or url.username or url.password:
            raise exc.ArgumentError(
                f"unknown parts of the URL: {', '.join(unknown) or 'user and password'}; known are schema, token, url, folder, and options of the session"
            )
        if url.database:
            query["datafusion.catalog.default_catalog"] = url.database
        if schema:
            query["datafusion.catalog.default_schema"] = schema
        return [], {**{name: value for name, value in given.items() if value}, "options": query}

    def connect(self, *arguments: Any, **options: Any) -> Any:
        if arguments or options.get("url"):
            return dbapi.connect(*arguments, **options)
        with self._starting:
            if self._cluster is None:
                folder = options.get("folder")
                self._cluster = _connect(folder=folder, progress=False)
        return dbapi.connect(self._cluster.url, **{name: value for name, value in options.items() if name != "folder"})

    def initialize(self, connection: Any) -> None:
        super().initialize(connection)
        version = str(connection.connection.dbapi_connection.session.status()["version"])
        self.server_version_info = tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())

    def _get_default_schema_name(self, connection: Any) -> str:
        return str(connection.exec_driver_sql("SELECT current_schema()").scalar())

    def get_default_isolation_level(self, dbapi_connection: Any) -> Any:
        return "AUTOCOMMIT"

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        return "AUTOCOMMIT"

    def get_isolation_level_values(self, dbapi_connection: Any) -> Any:
        return ["AUTOCOMMIT"]

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        # Whoever asks for it knows that nothing is undone.
        _own(dbapi_connection).is_autocommit = True

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        _own(dbapi_conn).is_autocommit = False

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        if context is not None and context.isinsert and context.compiled.effective_returning:
            raise dbapi.NotSupportedError("INSERT … RETURNING is not supported: give the values, such as a UUID, or select the rows after they are inserted")
        super().do_execute(cursor, statement, parameters, context)
        if context is not None and context.execute_style is ExecuteStyle.INSERTMANYVALUES:
            # Several statements insert the rows.
            context._rowcount = (context._rowcount or 0) + cursor.rowcount

    def do_commit(self, dbapi_connection: Any) -> None:
        dbapi_connection.commit()

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Does nothing, because what has run is committed. Says so the first time that there was something to undo."""
        own = _own(dbapi_connection)
        written, own.has_written = own.has_written, False
        if written and not self._warned and not own.is_autocommit:
            self._warned = True
            util.warn(
                "a rollback undoes nothing: Windlass has no transactions, and each statement is committed by itself; what was written before it stays"
            )

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return isinstance(e, dbapi.Error) and e.kind == "session_lost"

    def _tables(
        self, connection: Any, schema: str | None, name: str | None = None, columns: bool = False
    ) -> Any:
        catalog = str(
            connection.exec_driver_sql(
                "SELECT value FROM information_schema.df_settings WHERE name = 'datafusion.catalog.default_catalog'"
            ).scalar()
        )
        return connection.connection.dbapi_connection.tables(catalog, schema or self.default_schema_name, name, columns)

    @reflection.cache
    def get_schema_names(self, connection: Any, **options: Any) -> list[str]:
        rows = connection.exec_driver_sql(
            "SELECT schema_name FROM information_schema.schemata WHERE catalog_name ="
            " (SELECT value FROM information_schema.df_settings WHERE name = 'datafusion.catalog.default_catalog') ORDER BY 1"
        )
        return [name for (name,) in rows]

    @reflection.cache
    def get_table_names(self, connection: Any, schema: str | None = None, **options: Any) -> list[str]:
        return [name for _, _, name, kind, _ in self._tables(connection, schema) if kind == "TABLE"]

    @reflection.cache
    def get_view_names(self, connection: Any, schema: str | None = None, **options: Any) -> list[str]:
        return [name for _, _, name, kind, _ in self._tables(connection, schema) if kind == "VIEW"]

    @reflection.cache
    def get_temp_table_names(self, connection: Any, schema: str | None = None, **options: Any) -> list[str]:
        return [name for _, _, name, kind, _ in self._tables(connection, schema) if kind == "LOCAL TEMPORARY"]

    @reflection.cache
    def has_table(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> bool:
        return bool(self._tables(connection, schema, table_name))

    def has_schema(self, connection: Any, schema_name: str, **options: Any) -> bool:
        return schema_name in self.get_schema_names(connection, **options)

    @reflection.cache
    def get_view_definition(self, connection: Any, view_name: str, schema: str | None = None, **options: Any) -> str:
        if view_name not in self.get_view_names(connection, schema, **options):
            raise _missing(view_name, schema)
        definition = connection.exec_driver_sql(
            "SELECT definition FROM information_schema.views WHERE table_schema = $1 AND table_name = $2",
            (schema or self.default_schema_name, view_name),
        ).scalar()
        return str(definition)

    @reflection.cache
    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> list[Any]:
        return [
            {"name": field.name, "type": _sql_type(field.type), "nullable": field.nullable, "default": None}
            for field in self._columns(connection, table_name, schema)
        ]

    def _columns(self, connection: Any, table_name: str, schema: str | None) -> pa.Schema:
        for *_, columns in self._tables(connection, schema, table_name, columns=True):
            if columns is not None:
                return columns
        raise _missing(table_name, schema)

    def _nothing_of(self, connection: Any, table_name: str, schema: str | None, options: Any) -> None:
        if not self.has_table(connection, table_name, schema, **options):
            raise _missing(table_name, schema)

    def get_pk_constraint(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        self._nothing_of(connection, table_name, schema, options)
        return {"constrained_columns": [], "name": None}

    def get_foreign_keys(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        self._nothing_of(connection, table_name, schema, options)
        return []

    def get_indexes(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        self._nothing_of(connection, table_name, schema, options)
        return []

    def get_unique_constraints(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        self._nothing_of(connection, table_name, schema, options)
        return []

    def get_check_constraints(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        self._nothing_of(connection, table_name, schema, options)
        return []

    def get_table_comment(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        self._nothing_of(connection, table_name, schema, options)
        return {"text": None}


def _own(connection: Any) -> dbapi.Connection:
    """Returns a connection itself, which the pool may hand out wrapped."""
    own: dbapi.Connection = getattr(connection, "dbapi_connection", None) or connection
    return own


def _missing(name: str, schema: str | None) -> exc.NoSuchTableError:
    return exc.NoSuchTableError(f"{schema}.{name}" if schema else name)


_TYPES: dict[pa.DataType, type[types.TypeEngine[Any]]] = {
    pa.bool_(): types.BOOLEAN,
    pa.int8(): types.SMALLINT,
    pa.int16(): types.SMALLINT,
    pa.uint8(): types.SMALLINT,
    pa.int32(): types.INTEGER,
    pa.uint16(): types.INTEGER,
    pa.int64(): types.BIGINT,
    pa.uint32(): types.BIGINT,
    pa.float16(): types.REAL,
    pa.float32(): types.REAL,
    pa.float64(): types.DOUBLE,
    pa.string(): types.VARCHAR,
    pa.large_string(): types.VARCHAR,
    pa.string_view(): types.VARCHAR,
    pa.binary(): types.LargeBinary,
    pa.large_binary(): types.LargeBinary,
    pa.binary_view(): types.LargeBinary,
    pa.date32(): types.DATE,
    pa.date64(): types.DATE,
    pa.null(): types.NullType,
}


def _sql_type(of: pa.DataType) -> types.TypeEngine[Any]:
    if of in _TYPES:
        return _TYPES[of]()
    if pa.types.is_decimal(of):
        return types.NUMERIC(of.precision, of.scale)
    if pa.types.is_timestamp(of):
        return types.TIMESTAMP(timezone=of.tz is not None)
    if pa.types.is_time(of):
        return types.TIME()
    if pa.types.is_dictionary(of):
        return _sql_type(of.value_type)
    if pa.types.is_uint64(of):
        return types.NUMERIC(20, 0)
    if pa.types.is_fixed_size_binary(of):
        return types.LargeBinary()
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        item = _sql_type(of.value_type)
        return item if isinstance(item, types.NullType) else types.ARRAY(item)
    return types.NullType()

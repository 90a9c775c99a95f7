"""A backend of Ibis: lazy data frames whose expressions run on the cluster.

    import ibis

    con = ibis.windlass.connect("grpc://127.0.0.1:7077")
    con.table("flights").group_by("carrier").agg(n=ibis._.count()).to_pandas()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import ibis.expr.types as ir
import pyarrow as pa
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends import NoUrl
from ibis.backends.sql import SQLBackend
from ibis.backends.sql.compilers.datafusion import DataFusionCompiler
from ibis.common.exceptions import TableNotFound

from ._errors import NotFoundError
from ._session import Session, connect
from ._sql import quoted

__all__ = ["Backend"]


class Backend(SQLBackend, NoUrl):
    """Ibis over a session. Its SQL is that of Ibis's DataFusion compiler."""

    name = "windlass"
    compiler = DataFusionCompiler()
    supports_create_or_replace = True
    supports_temporary_tables = True

    @property
    def version(self) -> str:
        return str(self.con.status()["version"])

    def do_connect(self, url: str | Session | None = None, **options: Any) -> None:
        """Opens a session, or takes one. Arguments: those of :func:`windlass.connect`."""
        self.con = url if isinstance(url, Session) else connect(url, **options)

    def disconnect(self) -> None:
        self.con.close()

    @property
    def current_catalog(self) -> str:
        return self._option("datafusion.catalog.default_catalog")

    @property
    def current_database(self) -> str:
        return self._option("datafusion.catalog.default_schema")

    def _option(self, name: str) -> str:
        rows = self.con.sql("SELECT value FROM information_schema.df_settings WHERE name = $1", [name], progress=False)
        return str(rows.scalar())

    def list_tables(self, *, like: str | None = None, database: Any = None) -> list[str]:
        table = self._to_sqlglot_table(database)
        catalog = table.catalog or self.current_catalog
        schema = table.db or self.current_database
        listed = self.con._native.tables(catalog, schema, None, False)
        return self._filter_with_like([name for _, _, name, _, _ in listed], like)

    def list_databases(self, *, like: str | None = None, catalog: str | None = None) -> list[str]:
        catalog = catalog or self.current_catalog
        rows = self.con.sql(
            "SELECT schema_name FROM information_schema.schemata WHERE catalog_name = $1 ORDER BY 1", [catalog]
        )
        return self._filter_with_like([name for (name,) in rows.fetchall()], like)

    def get_schema(self, table_name: str, *, catalog: str | None = None, database: str | None = None) -> sch.Schema:
        table = sg.table(table_name, db=database, catalog=catalog, quoted=True)
        try:
            return self._get_schema_using_query(sg.select("*").from_(table).sql(self.dialect))
        except NotFoundError as error:
            raise TableNotFound(table_name) from error

    def _get_schema_using_query(self, query: str) -> sch.Schema:
        schema = self.con.sql(f"SELECT * FROM ({query}) AS t LIMIT 0", progress=False).schema
        return sch.Schema.from_pyarrow(_plain(schema))

    @contextlib.contextmanager
    def _safe_raw_sql(self, query: str | sge.Expression) -> Iterator[Any]:
        yield self.raw_sql(query)

    def raw_sql(self, query: str | sge.Expression) -> Any:
        text = query if isinstance(query, str) else query.sql(self.dialect)
        return self.con.sql(text)

    def to_pyarrow_batches(
        self,
        expr: ir.Expr,
        /,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        limit: int | str | None = None,
        chunk_size: int = 1_000_000,
        **_: Any,
    ) -> pa.RecordBatchReader:
        self._run_pre_execute_hooks(expr)
        table = expr.as_table()
        schema = table.schema().to_pyarrow()
        rows = self.raw_sql(self.compile(table, params=params, limit=limit))
        batches = (batch.rename_columns(schema.names).cast(schema) for batch in rows.batches())
        return pa.RecordBatchReader.from_batches(schema, batches)

    def to_pyarrow(
        self,
        expr: ir.Expr,
        /,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        limit: int | str | None = None,
        **options: Any,
    ) -> pa.Table:
        reader = self.to_pyarrow_batches(expr, params=params, limit=limit, **options)
        return expr.__pyarrow_result__(reader.read_all())

    def execute(
        self,
        expr: ir.Expr,
        /,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        limit: int | str | None = None,
        **options: Any,
    ) -> Any:
        table = self.to_pyarrow(expr.as_table(), params=params, limit=limit, **options)
        return expr.__pandas_result__(table.to_pandas(timestamp_as_object=False))

    def create_table(
        self,
        name: str,
        /,
        obj: Any = None,
        *,
        schema: Any = None,
        database: str | None = None,
        temp: bool = False,
        overwrite: bool = False,
    ) -> ir.Table:
        if obj is None and schema is None:
            raise ValueError("name the columns (schema), or give the rows (obj)")
        if obj is not None and not isinstance(obj, ir.Expr):
            self.con.load(obj, quoted(name), schema=database, temporary=temp, if_there="replace" if overwrite else "fail")
            return self.table(name, database=database)
        target: sge.Expression = sg.table(name, db=database, quoted=True)
        if schema is not None:
            columns = ibis.schema(schema).to_sqlglot_column_defs(self.dialect)
            target = sge.Schema(this=target, expressions=columns)
        properties = [sge.TemporaryProperty()] if temp else []
        statement = sge.Create(
            kind="TABLE",
            this=target,
            replace=overwrite,
            properties=sge.Properties(expressions=properties),
            expression=None if obj is None else self.compiler.to_sqlglot(obj),
        )
        if isinstance(obj, ir.Expr):
            self._run_pre_execute_hooks(obj)
        self.raw_sql(statement)
        return self.table(name, database=database)

    def drop_table(self, name: str, /, *, database: str | None = None, force: bool = False) -> None:
        table = sg.table(name, db=database, quoted=True).sql(self.dialect)
        self.raw_sql(f"DROP TABLE {'IF EXISTS ' if force else ''}{table}")

    def _register_in_memory_table(self, op: ops.InMemoryTable) -> None:
        self.con.load(op.data.to_pyarrow(op.schema), quoted(op.name), temporary=True, if_there="replace")

    def _finalize_memtable(self, name: str) -> None:
        self.drop_table(name, force=True)

    def read_parquet(self, path: str, /, *, table_name: str | None = None, **options: Any) -> ir.Table:
        return self.table(self.con.table_of_files("PARQUET", path, table_name, options=options))

    def read_csv(self, path: str, /, *, table_name: str | None = None, **options: Any) -> ir.Table:
        return self.table(self.con.table_of_files("CSV", path, table_name, options={"has_header": True, **options}))


def _plain(schema: pa.Schema) -> pa.Schema:
    """The columns in the types that Ibis knows."""
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in schema])

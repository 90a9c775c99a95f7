"""What dbt asks of a database, in statements of Windlass. The macros beside it have the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import windlass
from dbt.adapters.base import available
from dbt.adapters.base.column import Column
from dbt.adapters.base.impl import ConstraintSupport
from dbt.adapters.base.relation import BaseRelation, InformationSchema
from dbt.adapters.capability import Capability, CapabilityDict, CapabilitySupport, Support
from dbt.adapters.contracts.relation import RelationType
from dbt.adapters.sql import SQLAdapter
from dbt.adapters.windlass.connections import WindlassConnectionManager
from dbt.adapters.windlass.types import sql_type
from dbt_common.contracts.constraints import ConstraintType
from dbt_common.exceptions import DbtDatabaseError
from windlass._sql import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable

    import agate

_KINDS = {"TABLE": RelationType.Table, "VIEW": RelationType.View}


class WindlassColumn(Column):
    """A column. Its type is what :func:`sql_type` says; texts have no length."""

    TYPE_LABELS = {"STRING": "varchar", "TIMESTAMP": "timestamp", "FLOAT": "double", "INTEGER": "bigint", "BOOLEAN": "boolean"}

    @property
    def data_type(self) -> str:
        return self.dtype

    @classmethod
    def string_type(cls, size: int) -> str:
        return "varchar"

    def can_expand_to(self, other_column: Column) -> bool:
        return False


@dataclass(frozen=True, eq=False, repr=False)
class WindlassRelation(BaseRelation):
    """A table or a view."""

    # A query in FROM needs no name.
    require_alias: bool = False


class WindlassAdapter(SQLAdapter):
    """The adapter."""

    Column = WindlassColumn
    Relation = WindlassRelation
    ConnectionManager = WindlassConnectionManager
    connections: WindlassConnectionManager

    CONSTRAINT_SUPPORT = {
        ConstraintType.check: ConstraintSupport.NOT_SUPPORTED,
        ConstraintType.not_null: ConstraintSupport.ENFORCED,
        ConstraintType.unique: ConstraintSupport.NOT_SUPPORTED,
        ConstraintType.primary_key: ConstraintSupport.NOT_SUPPORTED,
        ConstraintType.foreign_key: ConstraintSupport.NOT_SUPPORTED,
    }

    # Batches of a microbatch model rewrite the same table, so they run one after the other: MicrobatchConcurrency is not here.
    _capabilities = CapabilityDict({Capability.SchemaMetadataByRelations: CapabilitySupport(support=Support.Unsupported)})

    @classmethod
    def date_function(cls) -> str:
        return "now()"

    @classmethod
    def convert_text_type(cls, agate_table: agate.Table, col_idx: int) -> str:
        return "varchar"

    @classmethod
    def convert_number_type(cls, agate_table: agate.Table, col_idx: int) -> str:
        import agate

        return "double" if agate_table.aggregate(agate.MaxPrecision(col_idx)) else "bigint"

    @classmethod
    def convert_integer_type(cls, agate_table: agate.Table, col_idx: int) -> str:
        return "bigint"

    @classmethod
    def convert_datetime_type(cls, agate_table: agate.Table, col_idx: int) -> str:
        return "timestamp"

    @classmethod
    def is_cancelable(cls) -> bool:
        return True

    def valid_incremental_strategies(self) -> list[str]:
        return ["append", "delete+insert", "merge", "microbatch"]

    def debug_query(self) -> None:
        self.execute("select 1 as id")

    @property
    def _session(self) -> windlass.Session:
        return self.connections.get_thread_connection().handle.session

    def _tables(
        self, database: str | None, schema: str | None, with_columns: bool
    ) -> list[tuple[str, str, str, str, pa.Schema | None]]:
        """Tables and views of a schema, without temporary ones."""
        connection = self.connections.get_thread_connection().handle
        with self.connections.exception_handler(f"tables of {schema}"):
            return [table for table in connection.tables(database, schema, None, with_columns) if table[3] in _KINDS]

    def list_relations_without_caching(self, schema_relation: BaseRelation) -> list[BaseRelation]:
        listed = self._tables(schema_relation.database, schema_relation.schema, False)
        quoted = {"database": True, "schema": True, "identifier": True}
        return [
            self.Relation.create(database=database, schema=schema, identifier=name, type=_KINDS[kind], quote_policy=quoted)
            for database, schema, name, kind, _ in listed
        ]

    def get_columns_in_relation(self, relation: BaseRelation) -> list[WindlassColumn]:
        try:
            schema = self._session.sql(f"select * from {relation.render()} limit 0", progress=False).schema
        except windlass.NotFoundError:
            return []
        except windlass.Error as error:
            raise DbtDatabaseError(str(error)) from error
        return [WindlassColumn(field.name, sql_type(field.type)) for field in schema]

    def _get_one_catalog(
        self, information_schema: InformationSchema, schemas: set[str], used_schemas: frozenset[tuple[str, str]]
    ) -> agate.Table:
        rows = []
        for wanted in sorted(schemas):
            for database, schema, name, kind, columns in self._tables(information_schema.database, wanted, True):
                rows += [
                    (database, schema, name, kind, None, None, field.name, at, sql_type(field.type), None)
                    for at, field in enumerate(columns or (), 1)
                ]
        return self._catalog_filter_table(_catalog(rows), used_schemas)

    @available
    @classmethod
    def column_name(cls, column: dict[str, Any]) -> str:
        """Returns the name of a column of a contract as SQL has it. A word that the parser takes for something else is quoted, without being asked."""
        name = str(column["name"])
        if column.get("quote"):
            return str(cls.quote(name))
        return str(cls.quote(name.lower())) if name.lower() in RESERVED else name

    @available
    @classmethod
    def render_raw_columns_constraints(cls, raw_columns: dict[str, dict[str, Any]]) -> list[str]:
        named = {key: {**column, "name": cls.column_name(column), "quote": False} for key, column in raw_columns.items()}
        rendered: list[str] = super().render_raw_columns_constraints(named)
        return rendered

    @available
    def load_seed(self, relation: BaseRelation, rows: agate.Table) -> None:
        """Sends the rows of a seed, as texts, into a temporary table."""
        columns = {
            name: pa.array([None if value is None else _text(value) for value in rows.columns[at]], pa.string())
            for at, name in enumerate(rows.column_names)
        }
        try:
            self._session.load(pa.table(columns), self.quote(relation.identifier), temporary=True, if_there="replace")
        except windlass.Error as error:
            raise DbtDatabaseError(str(error)) from error


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _catalog(rows: Iterable[tuple[Any, ...]]) -> agate.Table:
    from dbt_common.clients.agate_helper import table_from_data_flat

    names = [
        "table_database",
        "table_schema",
        "table_name",
        "table_type",
        "table_comment",
        "table_owner",
        "column_name",
        "column_index",
        "column_type",
        "column_comment",
    ]
    return table_from_data_flat([dict(zip(names, row, strict=True)) for row in rows], names)

"""Tables and views that a session sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._errors import NotFoundError
from ._sql import Part, table_name
from .types import type_name

if TYPE_CHECKING:
    from .session import SparkSession

__all__ = ["Catalog", "Database", "Field", "Table"]


class Table(NamedTuple):
    """A table or a view."""

    name: str
    catalog: str
    namespace: list[str]
    tableType: str

    @property
    def database(self) -> str:
        return self.namespace[0]


class Database(NamedTuple):
    """A schema."""

    name: str
    catalog: str


class Field(NamedTuple):
    """A column of a table."""

    name: str
    dataType: str
    nullable: bool


class Catalog(Part):
    """Tables and views that the session sees."""

    _instead = {
        "cacheTable": "nothing is cached here, and nothing needs to be",
        "listFunctions": "SHOW FUNCTIONS, in spark.sql(), lists them",
        "createTable": "use frame.write.saveAsTable(), or CREATE TABLE in spark.sql()",
    }

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        # Names of the views that createTempView and its like have made.
        self._views: set[str] = set()

    def _value(self, query: str) -> str:
        return str(self._spark._session.sql(query, progress=False).scalar())

    def currentDatabase(self) -> str:
        return self._value("SELECT current_schema()")

    def currentCatalog(self) -> str:
        return self._value("SELECT value FROM information_schema.df_settings WHERE name = 'datafusion.catalog.default_catalog'")

    def setCurrentDatabase(self, dbName: str) -> None:
        if not self.databaseExists(dbName):
            raise NotFoundError(f"there is no schema {dbName!r}: {', '.join(one.name for one in self.listDatabases())}")
        self._spark._session.set("datafusion.catalog.default_schema", dbName)

    def listDatabases(self) -> list[Database]:
        query = "SELECT schema_name, catalog_name FROM information_schema.schemata ORDER BY 1"
        catalog = self.currentCatalog()
        found = self._spark._session.sql(query, progress=False).fetchall()
        return [Database(name, of) for name, of in found if of == catalog]

    def databaseExists(self, dbName: str) -> bool:
        return any(one.name == dbName for one in self.listDatabases())

    def listTables(self, dbName: str | None = None) -> list[Table]:
        """Returns the tables and views: of a schema, or of all but ``information_schema``."""
        listed = self._spark._session._native.tables(None, dbName, None, False)
        return [
            Table(name, catalog, [schema], kind)
            for catalog, schema, name, kind, _ in listed
            if dbName is not None or schema != "information_schema"
        ]

    def listColumns(self, tableName: str, dbName: str | None = None) -> list[Field]:
        frame = self._spark.table(tableName if dbName is None else f"{dbName}.{tableName}")
        return [Field(field.name, type_name(field.type), field.nullable) for field in frame._schema]

    def tableExists(self, tableName: str, dbName: str | None = None) -> bool:
        """Says whether there is a table or view of this name."""
        name = table_name(tableName if dbName is None else f"{dbName}.{tableName}")
        try:
            self._spark._session.sql(f"SELECT * FROM {name} LIMIT 0", progress=False)
        except NotFoundError:
            return False
        return True

    def dropTempView(self, viewName: str) -> bool:
        """Drops a view of ``createTempView`` or ``createOrReplaceTempView``, and says whether there was one."""
        view = table_name(viewName)
        if view not in self._views:
            return False
        self._views.discard(view)
        try:
            self._spark._session.sql(f"DROP VIEW {view}", progress=False)
        except NotFoundError:
            return False
        return True

    def refreshTable(self, tableName: str) -> None:
        """Does nothing: a query reads tables as they are when it runs."""

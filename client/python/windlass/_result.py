"""Results of statements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ._jobs import Job

if TYPE_CHECKING:
    import duckdb
    import pandas
    import polars

    from ._native import Rows
    from ._session import Session


class Result:
    """The rows of a statement that has run. They are read on demand, once: as a table, or batch by batch.

    Any library that knows Arrow's PyCapsule interface can read it: ``polars.DataFrame(result)``, ``pyarrow.table(result)``,
    ``duckdb.from_arrow(result.reader())``.
    """

    def __init__(self, session: Session, rows: Rows) -> None:
        self._session = session
        self._rows = rows

    def __repr__(self) -> str:
        return f"<windlass.Result {', '.join(f'{field.name}: {field.type}' for field in self.schema)}>"

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._rows.schema

    @property
    def job(self) -> Job | None:
        """The job that ran. None: the statement needed none."""
        return Job(self._session, self._rows.job) if self._rows.job else None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows as they come, without keeping them."""
        while (batch := self._rows.next_batch()) is not None:
            yield batch

    def reader(self) -> pa.RecordBatchReader:
        """Hands the rows over as a reader. Its errors are those of pyarrow."""
        return self._rows.reader()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def arrow(self) -> pa.Table:
        """Returns all rows as a pyarrow table."""
        return pa.Table.from_batches(list(self.batches()), self.schema)

    def pandas(self, **options: Any) -> pandas.DataFrame:
        """Returns all rows as a pandas data frame. ``options``: of ``pyarrow.Table.to_pandas``."""
        return self.arrow().to_pandas(**options)

    def polars(self) -> polars.DataFrame:
        """Returns all rows as a polars data frame, which shares their memory."""
        import polars

        frame = polars.from_arrow(self.arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    def duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Returns all rows as a relation of DuckDB, which reads their memory."""
        import duckdb

        return (connection or duckdb.default_connection()).from_arrow(self.arrow())

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Returns all rows as tuples."""
        table = self.arrow()
        if not table.columns:
            return [()] * table.num_rows
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def fetchone(self) -> tuple[Any, ...] | None:
        """Returns the first row, and lets the others go."""
        for batch in self.batches():
            if batch.num_rows:
                self._rows.close()
                return tuple(column[0].as_py() for column in batch.columns)
        return None

    def scalar(self) -> Any:
        """Returns the first value of the first row. None: there is no row."""
        row = self.fetchone()
        return row[0] if row else None

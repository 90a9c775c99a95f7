import os
import re

import pytest
import sqlglot
import windlass
from dbt.adapters.windlass import WindlassAdapter

pytest_plugins = ["dbt.tests.fixtures.project"]


@pytest.fixture(scope="session")
def cluster():
    """The address of the cluster of WINDLASS_URL, or of one that ends with the tests."""
    if url := os.environ.get("WINDLASS_URL"):
        yield url
        return
    with windlass.connect(slots=2, progress=False) as session:
        yield session.url


@pytest.fixture(scope="class")
def dbt_profile_target(cluster):
    return {"type": "windlass", "threads": 2, "url": cluster}


# dbt's tests change the rows of sources with UPDATE, DELETE and ADD COLUMN, which Windlass does not have. What they run by these two
# ways is rewritten; what the adapter itself runs is not.


@pytest.fixture(scope="class", autouse=True)
def changes_of_sources():
    with pytest.MonkeyPatch.context() as patch:
        rewrite(patch)
        yield


def rewrite(monkeypatch):
    run, update = WindlassAdapter.run_sql_for_tests, WindlassAdapter.update_column_sql

    def run_sql_for_tests(self, sql, fetch, conn):
        *before, last = statements(sql)
        for part in before:
            run(self, overwriting(self, part), None, conn)
        return run(self, overwriting(self, last), fetch, conn)

    monkeypatch.setattr(WindlassAdapter, "run_sql_for_tests", run_sql_for_tests)
    monkeypatch.setattr(
        WindlassAdapter, "update_column_sql", lambda self, *args, **kwargs: overwriting(self, update(self, *args, **kwargs))
    )


def statements(sql):
    """A text has one statement."""
    ends = [token.start for token in sqlglot.tokenize(sql, read="postgres") if token.token_type == sqlglot.TokenType.SEMICOLON]
    parts = [sql[start:end] for start, end in zip([0, *(end + 1 for end in ends)], [*ends, len(sql)], strict=True)]
    return [part for part in parts if sqlglot.tokenize(part, read="postgres")]


def overwriting(adapter, sql):
    """INSERT OVERWRITE in place of UPDATE and DELETE, and another table in place of ADD COLUMN."""
    if added := re.match(r"\s*alter table (\S+)\s+add column (\w+) (.+?)(?: default (.+?))?;?\s*$", sql, re.IGNORECASE):
        table, column, type, value = added.groups()
        return f"create or replace table {table} as select *, cast({value or 'null'} as {type}) as {column} from {table}"
    if not re.match(r"\s*(--.*\n\s*)*(update|delete)\b", sql, re.IGNORECASE):
        return sql
    statement = sqlglot.parse_one(sql, read="postgres")
    condition = statement.args["where"].this.sql("postgres") if statement.args.get("where") else "true"
    table = statement.this.sql("postgres")
    if isinstance(statement, sqlglot.exp.Delete):
        return f"insert overwrite {table} select * from {table} where not coalesce({condition}, false)"
    new = {assigned.this.name.lower(): assigned.expression.sql("postgres") for assigned in statement.expressions}
    columns = [
        f'case when {condition} then {new[name]} else "{name}" end' if name in new else f'"{name}"'
        for name in adapter.execute(f"select * from {table} limit 0", fetch=True)[1].column_names
    ]
    return f"insert overwrite {table} select {', '.join(columns)} from {table}"

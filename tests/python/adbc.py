"""Stock ADBC (adbc-driver-flightsql) against a cluster, without cookies or any other option: adbc.py URL

Each function is one thing that a user of Python expects to work. The first that does not ends the process.
"""

import datetime
import decimal
import sys
import threading
import time

import adbc_driver_manager
import pyarrow
import pyarrow.compute
from adbc_driver_flightsql import dbapi


def rows(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    return cursor.fetchall()


def refused(cursor, sql, *words, parameters=None):
    """The statement fails, and its error has these words."""
    try:
        cursor.execute(sql, parameters)
        cursor.fetchall()
    except dbapi.Error as error:
        for word in words:
            assert word in str(error), f"{sql}: {word!r} is missing in: {error}"
        return error
    raise AssertionError(f"{sql} worked")


def queries_of_several_types(connection):
    with connection.cursor() as cursor:
        assert rows(cursor, "select 42 as answer, 'x' as name") == [(42, "x")]
        assert [column[0] for column in cursor.description] == ["answer", "name"]
        values = rows(
            cursor,
            """select true, cast(1.5 as double), cast('12.34' as decimal(10, 2)), date '2013-01-31',
                      timestamp '2013-01-31 12:00:00', X'00ff', null, [1, 2], {'a': 1}""",
        )[0]
        assert values[:4] == (True, 1.5, decimal.Decimal("12.34"), datetime.date(2013, 1, 31)), values
        assert values[4].replace(tzinfo=None) == datetime.datetime(2013, 1, 31, 12), values
        assert values[5:] == (b"\x00\xff", None, [1, 2], {"a": 1}), values
        cursor.execute("select value from generate_series(1, 3)")
        assert cursor.fetch_arrow_table().column("value").to_pylist() == [1, 2, 3]
        assert rows(cursor, "select 1 where false") == []


def parameters_and_prepared_statements(connection):
    with connection.cursor() as cursor:
        assert rows(cursor, "select $1 + 1, $2", (41, "x")) == [(42, "x")]
        cursor.execute("create table adbc_rows (id bigint, name varchar)")
        cursor.executemany("insert into adbc_rows values ($1, $2)", [(1, "one"), (2, "two"), (3, None)])
        assert rows(cursor, "select id, name from adbc_rows order by id") == [(1, "one"), (2, "two"), (3, None)]
        cursor.adbc_prepare("select name from adbc_rows where id = $1")
        for id, name in [(1, "one"), (2, "two")]:
            assert rows(cursor, "select name from adbc_rows where id = $1", (id,)) == [(name,)]
        refused(cursor, "select name from adbc_rows where id = $1", "id", parameters=("not a number",))
        cursor.execute("drop table adbc_rows")


def metadata(connection):
    with connection.cursor() as cursor:
        cursor.execute("create table adbc_known (id bigint not null, name varchar)")
        cursor.execute("create view adbc_seen as select id from adbc_known")
    objects = connection.adbc_get_objects(depth="columns", table_name_filter="adbc%").read_all().to_pylist()
    catalog = next(one for one in objects if one["catalog_name"] == "windlass")
    schema = next(one for one in catalog["catalog_db_schemas"] if one["db_schema_name"] == "public")
    tables = {one["table_name"]: one for one in schema["db_schema_tables"]}
    assert {name: one["table_type"] for name, one in tables.items()} == {"adbc_known": "TABLE", "adbc_seen": "VIEW"}
    assert [one["column_name"] for one in tables["adbc_known"]["table_columns"]] == ["id", "name"]
    known = connection.adbc_get_table_schema("adbc_known")
    assert known.names == ["id", "name"] and known.field("id").type == pyarrow.int64(), known
    assert "TABLE" in connection.adbc_get_table_types()
    info = connection.adbc_get_info()
    assert info["vendor_name"].lower() == "windlass" and info["vendor_version"], info
    with connection.cursor() as cursor:
        cursor.execute("drop view adbc_seen")
        cursor.execute("drop table adbc_known")


def a_session_without_cookies(connection, url):
    with connection.cursor() as cursor:
        cursor.execute("create temporary view mine as select 7 as n")
        cursor.execute("set datafusion.execution.batch_size = 123")
    with connection.cursor() as cursor:
        assert rows(cursor, "select n from mine") == [(7,)]
        assert rows(cursor, "show datafusion.execution.batch_size")[0][1] == "123"
    with dbapi.connect(url, autocommit=True) as other, other.cursor() as cursor:
        refused(cursor, "select n from mine", "table 'mine' not found")
        assert rows(cursor, "show datafusion.execution.batch_size")[0][1] != "123"


def errors(connection):
    with connection.cursor() as cursor:
        refused(cursor, "select 1,\n  frm x y", "line 2, column 9", "2 |   frm x y\n  |         ^")
        refused(cursor, "select 1 / 0", "Divide by zero")
        assert rows(cursor, "select 1") == [(1,)]


def cancel_from_another_thread(connection):
    with connection.cursor() as cursor:
        threading.Timer(0.5, cursor.adbc_cancel).start()
        started = time.monotonic()
        try:
            rows(cursor, "select sum(a.value * b.value) from generate_series(1, 300000) a, generate_series(1, 300000) b")
        except (dbapi.Error, adbc_driver_manager.Error) as error:
            assert "cancel" in str(error).lower(), error
        else:
            raise AssertionError("it was not cancelled")
        assert time.monotonic() - started < 15, "cancelling took too long"
    with connection.cursor() as cursor:
        assert rows(cursor, "select 1") == [(1,)]


def a_large_result_from_executors(connection):
    with connection.cursor() as cursor:
        cursor.execute("select value, repeat('x', 100) as wide from generate_series(1, 300000)")
        values = wide = 0
        for batch in cursor.fetch_record_batch():
            values += pyarrow.compute.sum(batch.column("value")).as_py()
            wide += batch.num_rows
        assert (wide, values) == (300_000, 300_000 * 300_001 // 2)


def transactions_are_refused(connection):
    try:
        connection.adbc_connection.set_autocommit(False)
    except dbapi.NotSupportedError as error:
        assert "transaction" in str(error), error
    else:
        raise AssertionError("a transaction was begun")


def main(url):
    with dbapi.connect(url, autocommit=True) as connection:
        queries_of_several_types(connection)
        parameters_and_prepared_statements(connection)
        metadata(connection)
        a_session_without_cookies(connection, url)
        errors(connection)
        cancel_from_another_thread(connection)
        a_large_result_from_executors(connection)
        transactions_are_refused(connection)


if __name__ == "__main__":
    main(sys.argv[1])

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


def parameters_of_other_types(connection):
    """Python has one kind of integer, and columns have many."""
    noon, far = datetime.datetime(2024, 5, 1, 12), datetime.datetime(9999, 12, 31)
    with connection.cursor() as cursor:
        cursor.execute(
            "create table adbc_types (i int, s smallint, d decimal(10, 2), t timestamp, day date, f real, ok boolean, name varchar, far timestamp(6))"
        )
        cursor.execute("insert into adbc_types (i, s) values (?, ?)", (1, 2))
        cursor.executemany("insert into adbc_types (i, s) values (?, ?)", [(3, 4)])
        cursor.executemany("insert into adbc_types (i, s) values (?, ?)", [(5, 6), (7, None)])
        cursor.execute("insert into adbc_types (i, d, t, day) values (?, ?, ?, ?)", (9, decimal.Decimal("1.25"), noon, noon.date()))
        cursor.execute("insert into adbc_types (i, f, ok, name, far) values (?, ?, ?, ?, ?)", (10, 1.5, True, "x", far))
        cursor.execute("insert into adbc_types (i, d, t, day, f, ok, name, far) values (?, ?, ?, ?, ?, ?, ?, ?)", (11,) + (None,) * 7)
        assert rows(cursor, "select i, s from adbc_types where i < ? order by i limit ? offset ?", (9, 2, 1)) == [(3, 4), (5, 6)]
        assert rows(cursor, "select d, t, day from adbc_types where d = ?", (decimal.Decimal("1.25"),)) == [
            (decimal.Decimal("1.25"), noon, noon.date())
        ]
        assert rows(cursor, "select f, ok, name, far from adbc_types where far = ?", (far,)) == [(1.5, True, "x", far)]
        assert rows(cursor, "select i from adbc_types where t < ?", (far,)) == [(9,)]
        assert rows(cursor, "select i from adbc_types where i = ?", (1.5,)) == []
        assert rows(cursor, "select ? is null", (None,)) == [(True,)]
        refused(cursor, "insert into adbc_types (s) values (?)", "70000", "$1", "Int16", parameters=(70_000,))
        refused(cursor, "insert into adbc_types (t) values (?)", "$1", "Timestamp(ns)", parameters=(far,))
        cursor.execute("drop table adbc_types")


def results_of_every_type(connection):
    """The driver refuses rows of another schema than it was told, also through an executor and for no rows."""
    types = {
        "arrow_cast([1, 2], 'LargeList(Int64)')": (pyarrow.large_list(pyarrow.int64()), [1, 2]),
        "[named_struct('a', arrow_cast([1], 'LargeList(Int64)'))]": (None, [{"a": [1]}]),
        "arrow_cast('x', 'LargeUtf8')": (pyarrow.large_string(), "x"),
        "arrow_cast('x', 'Utf8View')": (pyarrow.string_view(), "x"),
        "arrow_cast(X'00', 'LargeBinary')": (pyarrow.large_binary(), b"\0"),
        "arrow_cast([1, 2], 'FixedSizeList(2, Int64)')": (pyarrow.list_(pyarrow.int64(), 2), [1, 2]),
        "arrow_cast([1], 'ListView(Int64)')": (pyarrow.list_view(pyarrow.int64()), [1]),
        "arrow_cast('x', 'Dictionary(Int8, Utf8)')": (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), "x"),
        "named_struct('a', arrow_cast('x', 'Dictionary(Int8, Utf8)'))": (None, {"a": "x"}),
        "[arrow_cast('x', 'Dictionary(Int8, Utf8)')]": (None, ["x"]),
        "arrow_cast('x', 'RunEndEncoded(\"run_ends\": non-null Int32, \"values\": Utf8)')": (None, "x"),
        "map(['a'], [1])": (None, [("a", 1)]),
        "arrow_cast(1.5, 'Float16')": (pyarrow.float16(), 1.5),
        "arrow_cast(1, 'Decimal256(50, 2)')": (pyarrow.decimal256(50, 2), decimal.Decimal("1.00")),
        "null": (pyarrow.null(), None),
    }
    with connection.cursor() as cursor:
        for expression, (data_type, value) in types.items():
            for more in ["", "from generate_series(1, 20000)", "from generate_series(1, 3) where value > 5"]:
                cursor.execute(f"select {expression} as x {more}")
                column = cursor.fetch_arrow_table().column(0)
                assert data_type is None or column.type == data_type, f"{expression}: {column.type}"
                assert len(column) == (0 if "where" in more else 20_000 if more else 1), f"{expression} {more}"
                assert all(one == value for one in column.to_pylist()), f"{expression}: {column[0]}"


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
        parameters_of_other_types(connection)
        results_of_every_type(connection)
        metadata(connection)
        a_session_without_cookies(connection, url)
        errors(connection)
        cancel_from_another_thread(connection)
        a_large_result_from_executors(connection)
        transactions_are_refused(connection)


if __name__ == "__main__":
    main(sys.argv[1])

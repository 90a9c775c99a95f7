import datetime
import decimal
import threading
import time

import pytest
import windlass
from windlass import dbapi


@pytest.fixture
def connection(cluster):
    with dbapi.connect(cluster.url) as connection:
        yield connection


def test_rows_have_the_types_of_python(connection):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT $1 AS n, 'x' AS t, cast(1.50 AS decimal(4, 2)) AS d, timestamp '2024-01-02 03:04:05.123456789' AS w, date '2024-01-02' AS j, NULL AS z",
            [7],
        )
        assert [column[0] for column in cursor.description] == ["n", "t", "d", "w", "j", "z"]
        number, text, exact, moment, *_ = (column[1] for column in cursor.description)
        assert number == dbapi.NUMBER and exact == dbapi.NUMBER and text == dbapi.STRING and moment == dbapi.DATETIME
        assert number != dbapi.STRING
        row = (7, "x", decimal.Decimal("1.50"), datetime.datetime(2024, 1, 2, 3, 4, 5, 123456), datetime.date(2024, 1, 2), None)
        assert cursor.fetchall() == [row]
        assert cursor.fetchone() is None


def test_rows_come_in_parts(connection):
    cursor = connection.cursor().execute("SELECT value FROM generate_series(1, 20000) ORDER BY value")
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany(2) == [(2,), (3,)]
    assert next(iter(cursor)) == (4,)
    rest = cursor.fetchall()
    assert (rest[0], rest[-1], len(rest)) == ((5,), (20000,), 19996)
    assert cursor.execute("SELECT 1 AS a").fetch_arrow_table().to_pylist() == [{"a": 1}]


def test_writes_say_how_many_rows(connection):
    cursor = connection.cursor()
    cursor.execute("CREATE OR REPLACE TABLE of_dbapi (id BIGINT, word VARCHAR)")
    assert cursor.description is None and cursor.rowcount == -1
    cursor.execute("/* why */ -- and\n INSERT INTO of_dbapi VALUES ($1, $2), ($3, $4)", [1, "a", 2, None])
    assert cursor.description is None and cursor.rowcount == 2
    cursor.executemany("INSERT INTO of_dbapi VALUES ($1, $2)", [(3, "c"), (4, "d")])
    assert cursor.rowcount == 2
    cursor.execute("SELECT id, word FROM of_dbapi WHERE id = $id", {"id": 2})
    assert cursor.fetchall() == [(2, None)]
    # A column of this name is no number of rows.
    assert cursor.execute("SELECT count(*) AS count FROM of_dbapi").fetchall() == [(4,)]
    cursor.execute("DROP TABLE of_dbapi")
    with pytest.raises(dbapi.ProgrammingError, match="no rows"):
        cursor.fetchone()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT", dbapi.ProgrammingError),
        ("SELECT * FROM nosuch", dbapi.ProgrammingError),
        ("UPDATE a SET b = 1", dbapi.DatabaseError),
        ("BEGIN", dbapi.NotSupportedError),
    ],
)
def test_errors_have_the_classes_of_the_interface(connection, statement, kind):
    with pytest.raises(kind) as raised:
        connection.cursor().execute(statement)
    assert raised.value.kind and str(raised.value)


def cancelled(connection, statement, until):
    """Runs a statement in a thread, cancels it when its jobs are as ``until`` wants them, and returns the kind of its error."""
    ended = []

    def run():
        try:
            connection.cursor().execute(statement)
        except dbapi.OperationalError as error:
            ended.append(error.kind)

    thread = threading.Thread(target=run)
    thread.start()
    started = time.monotonic()
    with windlass.connect(connection.session.url) as session:
        while not until([job for job in session.jobs() if job["statement"] == statement]):
            assert thread.is_alive() and time.monotonic() < started + 60
            time.sleep(0.01)
    connection.cancel()
    thread.join(30)
    return ended


def test_a_statement_is_cancelled_by_another_thread(connection):
    statement = "SELECT count(*) FROM generate_series(1, 4000000) a CROSS JOIN generate_series(1, 1000000) b WHERE a.value <> b.value"
    assert cancelled(connection, statement, lambda jobs: jobs and jobs[0]["state"] == "running") == ["cancelled"]
    assert connection.cursor().execute("SELECT 1").fetchall() == [(1,)]


def test_a_statement_that_runs_again_is_cancelled():
    # Its first job runs out of memory, and it is planned once more. Nothing is heard of the second job for a while before it is cancelled.
    def runs_again(jobs):
        return [job["state"] for job in jobs] == ["running", "failed"] and time.time() * 1000 - jobs[0]["started_ms"] > 1500

    statement = "SELECT count(*) FROM generate_series(1, 300000000) a(x) JOIN generate_series(1, 3000000) b(y) ON a.x % 7 = b.y % 7"
    with windlass.connect(slots=1, memory="512MiB") as session, dbapi.connect(session.url) as connection:
        assert cancelled(connection, statement, runs_again) == ["cancelled"]
        assert connection.cursor().execute("SELECT 1").fetchall() == [(1,)]


def test_what_has_run_is_committed(connection):
    connection.commit()
    with pytest.raises(dbapi.NotSupportedError, match="each statement is committed by itself"):
        connection.rollback()


def test_nobody_answers():
    with pytest.raises(dbapi.OperationalError):
        dbapi.connect("grpc://127.0.0.1:1").cursor().execute("SELECT 1")

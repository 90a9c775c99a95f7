"""Sessions: statements, parameters, results in the forms of other libraries, loads, jobs, errors."""

import datetime
import decimal
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
import windlass


def test_a_statement_has_rows_in_every_form(session):
    query = "SELECT value AS n, 'é' || value AS t FROM generate_series(1, 3) ORDER BY 1"
    rows = [(1, "é1"), (2, "é2"), (3, "é3")]
    assert session.sql(query).fetchall() == rows
    assert session.sql(query).arrow().to_pydict() == {"n": [1, 2, 3], "t": ["é1", "é2", "é3"]}
    assert list(session.sql(query).pandas()["t"]) == ["é1", "é2", "é3"]
    assert session.sql(query).polars().rows() == rows
    assert session.sql(query).duckdb().order("n DESC").fetchone() == (3, "é3")
    assert polars.DataFrame(session.sql(query)).rows() == rows
    assert pyarrow.table(session.sql(query)).num_rows == 3
    assert session.sql(query).fetchone() == rows[0]
    assert session.sql("SELECT 7").scalar() == 7
    assert session.sql("SELECT 1 WHERE false").scalar() is None
    assert session.sql("CREATE TEMPORARY TABLE nothing (a int)").fetchall() == []
    assert session.sql(query).schema.names == ["n", "t"]


def test_rows_are_read_once(session):
    result = session.sql("SELECT 1 AS a")
    assert result.arrow().num_rows == 1
    with pytest.raises(windlass.InvalidError, match="read already"):
        result.arrow()


def test_batches_come_one_by_one(session):
    result = session.sql("SELECT value FROM generate_series(1, 1000000)")
    sizes = [batch.num_rows for batch in result.batches()]
    assert sum(sizes) == 1_000_000 and len(sizes) > 10


def test_parameters_by_place_and_name(session):
    assert session.sql("SELECT $1 + 1, $2", [41, "o'x"]).fetchall() == [(42, "o'x")]
    assert session.sql("SELECT $low < 2.5", {"low": decimal.Decimal("2.4")}).scalar() is True
    assert session.sql("SELECT CAST($1 AS BIGINT)", [None]).scalar() is None
    # A value keeps its type, whatever stands beside it.
    one = "FROM (SELECT 1 AS a, CAST(1.50 AS DECIMAL(10, 2)) AS e, DATE '2020-01-01' AS f)"
    for condition, value, right in [
        ("a = $1", 1.5, 0),
        ("a >= $1", 1.9, 0),
        ("a < $1", 1.5, 1),
        ("a < $1", 1e30, 1),
        ("e = $1", decimal.Decimal("1.504"), 0),
        ("f = $1", datetime.datetime(2020, 1, 1, 12), 0),
        ("f < $1", datetime.datetime(2020, 1, 1, 12), 1),
    ]:
        assert session.sql(f"SELECT count(*) {one} WHERE {condition}", [value]).scalar() == right, (condition, value)
    assert session.sql("SELECT $1 + 1, 7 / $2", [1.5, 2.0]).fetchall() == [(2.5, 3.5)]
    for value in [5, 1.5, b"\x00\xff", True, decimal.Decimal("1.50"), datetime.date(2024, 2, 29), [1, 2]]:
        assert session.sql("SELECT $1", [value]).scalar() == value
    assert session.sql("SELECT greatest($1, $2)", [9, 10]).scalar() == 10
    with pytest.raises(windlass.InvalidError, match="params is a list"):
        session.sql("SELECT $1", "text")


@pytest.mark.parametrize(
    "rows",
    [
        pyarrow.table({"k": [1, 2], "v": ["a", None]}),
        pyarrow.record_batch({"k": [1, 2], "v": ["a", None]}),
        polars.DataFrame({"k": [1, 2], "v": ["a", None]}),
        pandas.DataFrame({"k": [1, 2], "v": ["a", None]}),
        pyarrow.RecordBatchReader.from_batches(
            pyarrow.schema([("k", pyarrow.int64()), ("v", pyarrow.string())]),
            [pyarrow.record_batch({"k": [1, 2], "v": ["a", None]})],
        ),
        duckdb.sql("SELECT * FROM (VALUES (1::BIGINT, 'a'), (2, NULL)) AS t(k, v)"),
    ],
    ids=["table", "batch", "polars", "pandas", "reader", "duckdb"],
)
def test_rows_of_other_libraries_become_a_table(session, rows):
    assert session.load(rows, "loaded", temporary=True) == 2
    assert session.sql("SELECT k, v FROM loaded ORDER BY k").fetchall() == [(1, "a"), (2, None)]


def test_a_table_that_is_there(session):
    rows = pyarrow.table({"k": [1]})
    session.load(rows, "present")
    with pytest.raises(windlass.AlreadyExistsError):
        session.load(rows, "present")
    session.load(rows, "present", if_there="append")
    assert session.sql("SELECT count(*) FROM present").scalar() == 2
    session.load(rows, "present", if_there="replace")
    assert session.sql("SELECT count(*) FROM present").scalar() == 1
    with pytest.raises(windlass.Error, match="absent"):
        session.load(rows, "absent", if_there="append_only")
    assert "public.present" in session.tables(schema="public")
    session.sql("DROP TABLE present")


@pytest.mark.parametrize("dialect", ["generic", "spark", "mysql"])
def test_values_are_loaded_in_every_dialect(session, dialect):
    session.sql(f"SET datafusion.sql_parser.dialect = '{dialect}'")
    try:
        rows = pyarrow.table({"t": ["value"], 'odd `na"me`': [7], "Upper": [True]})
        session.load(rows, "of a dialect")
        session.load(rows, "of a dialect", if_there="append")
        session.load(rows, "of a dialect", if_there="replace")
    finally:
        session.sql("SET datafusion.sql_parser.dialect = generic")
    assert session.sql('SELECT * FROM "of a dialect"').arrow().to_pylist() == rows.to_pylist()
    session.sql('DROP TABLE "of a dialect"')


def test_loads_that_append_side_by_side_make_one_table(session):
    rows, errors = pyarrow.table({"k": [1, 2]}), []

    def load():
        try:
            session.load(rows, "beside", if_there="append")
        except windlass.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert errors == []
    assert session.sql("SELECT count(*) FROM beside").scalar() == 16
    session.sql("DROP TABLE beside")


def test_a_load_that_fails_leaves_nothing(session):
    def batches():
        yield pyarrow.record_batch({"k": list(range(1000))})
        raise RuntimeError("the source broke")

    reader = pyarrow.RecordBatchReader.from_batches(pyarrow.schema([("k", pyarrow.int64())]), batches())
    with pytest.raises(windlass.InvalidError, match="the source broke"):
        session.load(reader, "half")
    with pytest.raises(windlass.NotFoundError, match="'half' not found"):
        session.sql("SELECT * FROM half")
    with pytest.raises(windlass.InvalidError, match="cannot be taken from int"):
        session.load(5, "half")
    with pytest.raises(windlass.InvalidError, match="if_there is 'sometimes'"):
        session.load(pyarrow.table({"k": [1]}), "half", if_there="sometimes")


def test_a_frame_with_a_column_of_nulls(session):
    assert session.load(polars.DataFrame({"a": [1, 2], "x": [None, None]}), "nulls", temporary=True) == 2
    assert session.sql("SELECT x FROM nulls").fetchall() == [(None,), (None,)]


def test_a_large_batch_is_sent_in_slices(session):
    rows = pyarrow.table({"k": pyarrow.array(range(2_000_000))})
    assert session.load(rows.combine_chunks(), "large", temporary=True) == 2_000_000
    assert session.sql("SELECT sum(k) FROM large").scalar() == sum(range(2_000_000))


def test_errors_have_kinds(session):
    for statement, error, kind in [
        ("SELEC 1", windlass.InvalidError, "syntax"),
        ("SELECT * FROM none", windlass.NotFoundError, "not_found"),
        ("SET windlass.none = 1", windlass.NotFoundError, "unknown_option"),
        ("SELECT CAST('x' AS INT)", windlass.InvalidError, "invalid"),
        ("SELECT 1 / (value - 5000) FROM generate_series(1, 10000)", windlass.InvalidError, "invalid"),
    ]:
        with pytest.raises(error) as raised:
            session.sql(statement).arrow()
        assert (raised.value.kind, raised.value.retryable) == (kind, False), statement
    with pytest.raises(windlass.UnavailableError) as raised:
        windlass.connect("grpc://127.0.0.1:1")
    assert raised.value.kind == "unreachable" and raised.value.retryable
    with pytest.raises(windlass.NotFoundError):
        session.job("job-999999")


def test_submissions_and_jobs(session):
    job = session.submit("CREATE TABLE made AS SELECT 1 AS a; SELECT count(*) FROM made", name="nightly")
    assert job.wait(timeout=60).state == "finished"
    assert job.details()["submission"]["statements"] == 2
    assert any("nightly" in listed["name"] for listed in session.jobs())
    assert job.logs()
    session.sql("DROP TABLE made")
    with pytest.raises(windlass.Error, match="(?i)divide by zero"):
        session.submit("CREATE TABLE broken AS SELECT 1 / (value - 1) AS a FROM generate_series(1, 3)").wait(timeout=60)
    slow = session.submit("CREATE TABLE slow AS SELECT count(*) AS n FROM generate_series(1, 100000000000)")
    with pytest.raises(windlass.TimedOutError):
        slow.wait(timeout=0.1)
    slow.cancel()
    with pytest.raises(windlass.CancelledError):
        slow.wait(timeout=60)
    assert session.status()["executors"][0]["slots"] == 2


def test_ctrl_c_cancels_a_statement(session):
    # A process that was started in the background ignores it, until it says otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.sql("SELECT count(*) FROM generate_series(1, 1000000000000)")
    assert time.monotonic() - started < 20
    assert session.sql("SELECT 1").scalar() == 1


def test_progress_is_shown_where_it_is_wanted(session, capsys, monkeypatch):
    monkeypatch.setattr("windlass._progress._DELAY", 0)
    session.sql("SELECT sum(value % 7) FROM generate_series(1, 200000000)", progress=True).arrow()
    assert "tasks" in capsys.readouterr().err
    session.sql("SELECT 1").arrow()
    assert capsys.readouterr().err == ""


def test_files_are_read(session, tmp_path):
    (tmp_path / "a.csv").write_text("n,t\n1,x\n2,y\n")
    (tmp_path / "b.json").write_text('{"n": 1}\n{"n": 2}\n')
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2, 3]}), tmp_path / "it's.parquet")
    assert session.read_csv(str(tmp_path / "a.csv")).fetchall() == [(1, "x"), (2, "y")]
    assert session.read_json(str(tmp_path / "b.json")).fetchall() == [(1,), (2,)]
    assert session.read_parquet(str(tmp_path / "it's.parquet")).arrow().num_rows == 3


PROGRAM = """
import os, sys, windlass
session = windlass.connect()
session.sql("CREATE TABLE t AS SELECT 1 AS a")
print(session._cluster._process.pid, session._cluster.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["end", "kill"])
def test_a_local_cluster_ends_with_its_process(how):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid, folder = process.stdout.readline().split()
    processes = [int(pid), *children(int(pid))]
    assert len(processes) == 2, "a primary and an executor"
    if how == "kill":
        process.kill()
    process.stdin.close()
    process.wait()
    until = time.monotonic() + 30
    while any(is_there(pid) for pid in processes) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(is_there(pid) for pid in processes)
    while Path(folder).exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(folder).exists()


def test_a_session_that_is_closed_cancels_what_another_thread_runs(cluster):
    def ended_by_close(work):
        session, ended = windlass.connect(cluster.url), []

        def run():
            try:
                work(session, lambda: begun.set())
            except windlass.CancelledError as error:
                ended.append(str(error))

        begun = threading.Event()
        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(30)
        session.close()
        thread.join(30)
        assert not thread.is_alive() and ended == ["the statement was cancelled: another thread closed its session"]
        with pytest.raises(windlass.Error, match="the session is closed"):
            session.sql("SELECT 1")

    mark = f"closed_{os.getpid()}"
    endless = f"SELECT count(*) AS {mark} FROM generate_series(1, 4000000) a CROSS JOIN generate_series(1, 1000000) b WHERE a.value <> b.value"

    def jobs():
        return [job for job in cluster.jobs() if mark in job["statement"]]

    def execute(session, begun):
        def watch():
            while not jobs():
                time.sleep(0.01)
            begun()

        threading.Thread(target=watch, daemon=True).start()
        session.sql(endless)

    ended_by_close(execute)
    ends = time.monotonic() + 30
    while (states := {job["state"] for job in jobs()}) != {"cancelled"} and time.monotonic() < ends:
        time.sleep(0.01)
    assert states == {"cancelled"}

    def load(session, begun):
        schema = pyarrow.schema([("x", pyarrow.int64())])

        def batches():
            begun()
            while True:
                time.sleep(0.01)
                yield pyarrow.record_batch([pyarrow.array([1])], schema=schema)

        session.load(pyarrow.RecordBatchReader.from_batches(schema, batches()), f"{mark}_loaded")

    ended_by_close(load)


def test_a_cluster_outlives_the_thread_that_started_it():
    made = []
    thread = threading.Thread(target=lambda: made.append(windlass.connect(slots=1)))
    thread.start()
    thread.join()
    with made[0] as session:
        assert session.sql("SELECT 1").scalar() == 1


def test_an_executor_does_not_outlive_a_primary_that_was_killed():
    session = windlass.connect(slots=1)
    primary = session._cluster._process.pid
    executors = children(primary)
    os.kill(primary, signal.SIGKILL)
    session._cluster.stop()
    assert executors and not any(is_there(pid) for pid in executors)


def test_a_session_that_is_closed_forgotten_or_of_another_process(session):
    closed = windlass.connect(session.url)
    closed.close()
    closed.close()
    with pytest.raises(windlass.InvalidError, match="is closed"):
        closed.sql("SELECT 1")
    forgotten = windlass.connect(slots=1)
    primary = forgotten._cluster._process.pid
    del forgotten
    assert not is_there(primary)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            session.sql("SELECT 1")
        except windlass.InvalidError as error:
            os.write(writes, str(error).encode())
        os._exit(0)
    os.close(writes)
    assert b"does not survive fork" in os.read(reads, 1000)
    os.waitpid(child, 0)


def test_what_is_wrong_with_a_cluster_of_ones_own_is_said(monkeypatch):
    with pytest.raises(windlass.InvalidError, match="slots is 0"):
        windlass.connect(slots=0)
    with pytest.raises(windlass.UnavailableError, match="banana"):
        windlass.connect(memory="banana")
    monkeypatch.setenv("WINDLASS_BINARY", "/nowhere/windlass")
    with pytest.raises(windlass.UnavailableError, match="/nowhere/windlass"):
        windlass.connect()


def children(parent):
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    others = [int(child) for thread in Path(f"/proc/{parent}/task").iterdir() for child in (thread / "children").read_text().split()]
    return sorted({*map(int, text.split()), *others})


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_folder_keeps_its_tables(tmp_path):
    with windlass.connect(folder=tmp_path / "kept") as session:
        session.sql("CREATE TABLE t AS SELECT 42 AS a")
    with windlass.connect(folder=tmp_path / "kept") as session:
        assert session.sql("SELECT a FROM t").scalar() == 42
    with pytest.raises(windlass.InvalidError, match="for a cluster that is started here"):
        windlass.connect("grpc://127.0.0.1:1", slots=1)


def test_names_of_tables_may_have_a_schema(session):
    rows = pyarrow.table({"a": [1]})
    with pytest.raises(windlass.NotFoundError, match="schema 'nosuch' not found"):
        session.load(rows, "nosuch.t")
    session.sql("CREATE SCHEMA of_load")
    for name in ("of_load.t", "windlass.of_load.t", 'of_load."a.b"'):
        session.load(rows, name, if_there="append")
    assert sorted(session.tables(schema="of_load")) == ["of_load.a.b", "of_load.t"]
    assert session.sql("SELECT count(*) FROM of_load.t").scalar() == 2
    session.load(rows, '"Odd.name"', temporary=True)
    session.load(rows, "Odd name", temporary=True)
    assert session.sql('SELECT count(*) FROM "Odd.name", "Odd name"').scalar() == 1
    for name, more in [("a..b", {}), ("", {}), ("a.b.c.d", {}), ('a"b', {}), ("of_load.t", {"schema": "of_load"})]:
        with pytest.raises(windlass.InvalidError):
            session.load(rows, name, **more)
    session.sql("DROP SCHEMA of_load CASCADE")


def test_rows_that_are_added_keep_their_values(session):
    session.sql("CREATE TEMPORARY TABLE kept (i BIGINT, k INT, d DECIMAL(6, 2), f DOUBLE, t TIMESTAMP(6), j DATE)")
    for name, values, lost in [
        ("i", [1, None, 1.7], "1.7"),
        ("i", [2.0, float("nan")], "nan"),
        ("k", [2**40], str(2**40)),
        ("d", [0.25, 0.125], "0.125"),
        ("d", [decimal.Decimal("1.005")], "1.005"),
        ("f", [2**53 + 1], str(2**53 + 1)),
        ("t", pyarrow.array([1001], pyarrow.timestamp("ns")), "000001001"),
        ("j", [datetime.datetime(2024, 1, 1, 1)], "01:00:00"),
    ]:
        rows = pyarrow.table({name: values})
        for data in (rows, rows.to_reader()):
            with pytest.raises(windlass.InvalidError, match=f"column '{name}' of 'kept' is of type .*{lost}"):
                session.load(data, "kept", if_there="append")
    assert session.sql("SELECT count(*) FROM kept").scalar() == 0
    for name, values in [("i", [2.0, None]), ("d", [0.25]), ("f", [1]), ("f", [decimal.Decimal("0.1")]), ("t", [datetime.datetime(2024, 1, 1)]), ("k", [2**31 - 1])]:
        session.load(pyarrow.table({name: values}), "kept", if_there="append_only")
    assert session.sql("SELECT sum(i), sum(d), sum(f) FROM kept").fetchall() == [(2, decimal.Decimal("0.25"), 1.1)]


def test_rows_without_columns_are_refused(session):
    with pytest.raises(windlass.InvalidError, match="no columns"):
        session.load(pyarrow.table({}), "nothing")


def test_large_numbers_and_values_that_cannot_be_sent(session):
    for value in (2**63, 2**64, -(2**63) - 1, 10**38 - 1):
        assert session.sql("SELECT $1", [value]).scalar() == value
    for value in (10**38, object(), [1, "a"], 1j):
        with pytest.raises(windlass.InvalidError, match=r"the value of \$1, of type"):
            session.sql("SELECT $1", [value])


def test_errors_speak_of_python(session):
    for statement, params, words in [
        ("SELECT $x", {"y": 1}, r"in params, as in {'x': value}"),
        ("SELECT $1, $2", [1], r"placeholder \$2 has no value: params has a value for each"),
    ]:
        with pytest.raises(windlass.InvalidError, match=words):
            session.sql(statement, params)
    with pytest.raises(windlass.UnavailableError, match="or correct the address"):
        windlass.connect("grpc://127.0.0.1:1")
    with pytest.raises(windlass.InvalidError, match=r"as session.jobs\(\) has it"):
        session.job("nothing")


def test_the_address_of_the_rest_interface_is_told_from_that_of_the_primary(session):
    rest = session.status()["rest"]
    for url in (rest, rest.replace("http://", "grpc://")):
        with pytest.raises(windlass.InvalidError, match="is the REST interface of a cluster: connect to the address of its primary, grpc://"):
            windlass.connect(url)

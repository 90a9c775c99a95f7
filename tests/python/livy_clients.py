"""Clients of Livy from PyPI, unchanged: livy 0.8.0 and pylivy 0.0.4: livy_clients.py URL

Each function is one thing that a user of theirs expects to work. The first that does not ends the process.
"""

import sys
import tempfile

import livy
import livy.client
import livy.models
import pandas
import pylivy


def sql_sessions_give_data_frames(url):
    conf = {"spark.sql.session.timeZone": "UTC", "spark.executor.instances": 2}
    with livy.LivySession.create(url, kind=livy.SessionKind.SQL, name="frames", spark_conf=conf) as session:
        session.run("create table frames (a bigint, b varchar)")
        session.run("insert into frames values (1, 'one'), (2, 'two')")
        frame = session.download_sql("select a, b from frames order by a")
        assert frame.equals(pandas.DataFrame({"a": [1, 2], "b": ["one", "two"]})), frame
        try:
            session.run("select nothing from frames")
        except livy.SparkRuntimeError as error:
            assert "nothing" in error.evalue, error
        else:
            raise AssertionError("a statement that is wrong worked")
        client = session.client
        assert [statement.statement_id for statement in client.list_statements(session.session_id)] == [0, 1, 2, 3]
        assert session.session_id in [known.session_id for known in client.list_sessions()]
    assert livy.client.LivyClient(url).get_session(session.session_id) is None


def python_sessions_run_sql_statements(url):
    client = livy.client.LivyClient(url)
    session = client.create_session(livy.SessionKind.PYSPARK, proxy_user="ann")
    assert session.proxy_user == "ann"
    statement = client.create_statement(session.session_id, "select 7 as n", kind=livy.models.StatementKind.SQL)
    while statement.output is None:
        statement = client.get_statement(session.session_id, statement.statement_id)
    assert statement.output.json["data"] == [[7]], statement
    client.delete_session(session.session_id)


def batches_run_scripts(url):
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("create table by_batch as select cast($1 as bigint) as n; insert into by_batch values (cast($1 as bigint) + 1)")
        script.flush()
        batch = livy.LivyBatch.create(url, file=script.name, args=["40"], name="nightly")
        assert batch.wait() == livy.SessionState.SUCCESS, batch.log()
    assert any("by_batch" in line for line in batch.log()), batch.log()
    with livy.LivySession.create(url, kind=livy.SessionKind.SQL) as session:
        assert session.download_sql("select n from by_batch order by n")["n"].to_list() == [40, 41]
    batch.kill()
    assert livy.client.LivyClient(url).get_batch(batch.batch_id) is None


def the_older_client_works_too(url):
    with pylivy.LivySession(url, pylivy.SessionKind.SQL, spark_executor_cores=2, spark_executor_memory="1g") as session:
        frame = session.read_sql("select value as v from generate_series(1, 3) order by value")
        assert frame["v"].to_list() == [1, 2, 3], frame


if __name__ == "__main__":
    for check in (
        sql_sessions_give_data_frames,
        python_sessions_run_sql_statements,
        batches_run_scripts,
        the_older_client_works_too,
    ):
        check(sys.argv[1])
        print(f"{check.__name__}: ok")

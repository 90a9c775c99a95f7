"""The backend of Ibis."""

import ibis
import pandas
import pytest
from ibis import _
from ibis.common.exceptions import TableNotFound
from windlass.ibis import Backend


@pytest.fixture
def con(cluster):
    con = Backend()
    con.do_connect(cluster.url)
    yield con
    con.disconnect()


@pytest.fixture
def flights(con):
    at = pandas.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03", "2024-02-01"])
    rows = pandas.DataFrame({"carrier": ["a", "b", "a", None], "delay": [1, 2, 30, 4], "at": at})
    return con.create_table("flights", rows, temp=True)


def test_tables_have_the_types_of_ibis(con, flights):
    assert dict(flights.schema().items()).keys() == {"carrier", "delay", "at"}
    assert flights.schema()["delay"] == ibis.dtype("int64")
    assert con.version and con.current_catalog == "windlass" and con.current_database == "public"
    assert "public" in con.list_databases()
    with pytest.raises(TableNotFound):
        con.table("none")


def test_expressions_run_on_the_cluster(con, flights):
    grouped = flights.group_by("carrier").agg(n=_.count(), mean=_.delay.mean()).order_by(_.carrier.asc(nulls_first=True))
    assert [list(row) for row in zip(*grouped.to_pyarrow().to_pydict().values())] == [
        [None, 1, 4.0],
        ["a", 2, 15.5],
        ["b", 1, 2.0],
    ]
    assert con.execute(flights.delay.sum()) == 37
    assert con.execute(flights.filter(flights.at.month() == 1).count()) == 3
    names = ibis.memtable({"carrier": ["a", "b"], "name": ["Alpha", "Beta"]})
    joined = flights.join(names, "carrier").select("name", "delay").order_by("delay")
    assert con.to_pyarrow(joined).to_pydict() == {"name": ["Alpha", "Beta", "Alpha"], "delay": [1, 2, 30]}
    ranked = flights.mutate(rank=ibis.row_number().over(group_by="carrier", order_by="delay"))
    assert con.to_pyarrow(ranked.filter(_.rank == 1)).to_pydict() == {
        "carrier": ["a"], "delay": [30], "at": [pandas.Timestamp("2024-01-03")], "rank": [1]
    }


def test_tables_are_made_and_dropped(con, flights):
    made = con.create_table("sums", flights.group_by("carrier").agg(total=_.delay.sum()))
    assert con.execute(made.count()) == 3 and "sums" in con.list_tables()
    con.create_table("sums", flights.limit(1), overwrite=True)
    assert con.execute(con.table("sums").count()) == 1
    con.drop_table("sums")
    con.drop_table("sums", force=True)
    assert "sums" not in con.list_tables()
    empty = con.create_table("empty", schema={"a": "int32", "b": "string"}, temp=True)
    assert con.execute(empty.count()) == 0


def test_files_are_tables(con, tmp_path):
    (tmp_path / "a.csv").write_text("n,t\n1,x\n2,y\n")
    table = con.read_csv(str(tmp_path / "a.csv"))
    assert con.execute(table.n.sum()) == 3

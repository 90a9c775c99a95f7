"""Sessions in the style of Spark's, and sessions that are joined."""

import datetime
import decimal
import pickle

import pandas
import pyarrow
import pytest
import windlass
from windlass.spark import Row, SparkSession


@pytest.fixture
def spark(session):
    return SparkSession(session)


@pytest.fixture
def frame(spark):
    rows = [{"k": n % 3, "Name": f"n{n}", "v": n / 2 if n % 2 else None} for n in range(6)]
    return spark.createDataFrame(rows)


def test_queries_run_when_their_rows_are_wanted_and_others_at_once(spark):
    frame = spark.sql("-- numbers\nSELECT value AS n, 'it''s' AS t FROM generate_series(1, 5) -- five\n;")
    assert frame.columns == ["n", "t"] and repr(frame) == "DataFrame[n: bigint, t: string]"
    assert frame.count() == 5 and frame.filter("n > 3").count() == 2
    assert sorted(row.n for row in frame.collect()) == [1, 2, 3, 4, 5]
    made = spark.sql("CREATE TEMPORARY TABLE made (a int)")
    assert (made.columns, made.collect(), made.take(3), made.first()) == ([], [], [], None)
    assert spark.sql("INSERT INTO made VALUES (1), (2)").first()[0] == 2
    assert spark.sql("SHOW TABLES").filter("table_name = 'made'").count() == 1
    assert spark.sql("SELECT $1 + 1 AS n", [41]).first() == (42,)
    assert spark.sql("SELECT $a AS a", {"a": "x"}).select("a").collect() == [Row(a="x")]
    with pytest.raises(windlass.Error, match="nothing"):
        spark.sql("SELECT nothing FROM made")
    with pytest.raises(windlass.NotFoundError):
        spark.table("absent")


def test_rows(spark):
    row = spark.sql("SELECT 1 AS a, struct('x' AS s) AS b, [1, NULL] AS c, 1.50 AS d").first()
    assert row[0] == row.a == row["a"] == 1 and "a" in row and row[:1] == (1,)
    assert row.asDict() == {"a": 1, "b": Row(s="x"), "c": [1, None], "d": decimal.Decimal("1.50")}
    assert row.asDict(recursive=True)["b"] == {"s": "x"} and row.b.s == "x"
    assert repr(Row(a=1, b="x")) == "Row(a=1, b='x')" and pickle.loads(pickle.dumps(row)) == row
    with pytest.raises(AttributeError):
        row.nothing
    with pytest.raises(KeyError):
        row["nothing"]


def test_rows_of_this_process(spark):
    expected = [(1, "a"), (2, None)]
    for data, names in [
        (pandas.DataFrame({"k": [1, 2], "v": ["a", None]}), None),
        (pyarrow.table({"k": [1, 2], "v": ["a", None]}), None),
        ([{"k": 1, "v": "a"}, {"k": 2}], None),
        ([Row(k=1, v="a"), Row(k=2, v=None)], None),
        (expected, ["k", "v"]),
    ]:
        frame = spark.createDataFrame(data, names)
        assert frame.columns == ["k", "v"] and frame.collect() == expected, data
        assert frame.filter("v IS NULL").collect() == [(2, None)]
    assert spark.createDataFrame([(1, 2)]).columns == ["_1", "_2"]
    assert spark.createDataFrame([1, 2], ["n"]).count() == 2
    for data, names, words in [
        ([], ["a"], "no rows"),
        ([(1,)], [1], "no schema"),
        ([(1,)], "a INT INT", "no type or schema"),
        ([("x",)], "a INT", "no int32"),
        ([(1, 2)], "a INT", "2 values, for 1 columns"),
        ([(1,), (1, 2)], ["a"], "row 1 has 2 values"),
        ([{"a": 1}, {"a": "x"}], None, "column a"),
        ([{"a": 1}], ["b"], "no b"),
    ]:
        with pytest.raises(windlass.InvalidError, match=words):
            spark.createDataFrame(data, names)
    assert [row.id for row in spark.range(3, 9, 2).orderBy("id").collect()] == [3, 5, 7]
    assert spark.range(0).count() == 0 and [row.id for row in spark.range(5, 0, -2).orderBy("id").collect()] == [1, 3, 5]


def test_columns_are_selected_renamed_and_dropped(frame):
    assert frame.select("name", "K").columns == ["Name", "k"]
    assert frame.select("*").columns == frame.columns and frame.select(["v", "k"]).columns == ["v", "k"]
    assert frame.selectExpr("k * 2 AS d", '"Name"').filter("d = 4").count() == 2
    assert frame.withColumnRenamed("name", "a b").columns == ["k", "a b", "v"]
    assert frame.withColumnRenamed("absent", "x").columns == frame.columns
    assert frame.drop("v", "absent").columns == ["k", "Name"]
    assert frame.toDF("a", "b", "c").columns == ["a", "b", "c"]
    assert frame.dtypes == [("k", "bigint"), ("Name", "string"), ("v", "double")]
    assert frame.schema.names == frame.columns and frame.schema.simpleString() == "struct<k:bigint,Name:string,v:double>"
    with pytest.raises(windlass.NotFoundError, match="no column 'nothing': k, Name, v"):
        frame.select("nothing")
    with pytest.raises(windlass.InvalidError, match=r"F.lit\("):
        frame.select(1)


def test_rows_are_filtered_ordered_and_limited(frame, spark):
    assert [row.Name for row in frame.where("k = 1").orderBy("name").collect()] == ["n1", "n4"]
    assert [row.v for row in frame.orderBy("v").collect()] == [None, None, None, 0.5, 1.5, 2.5]
    assert [row.v for row in frame.sort("v", ascending=False).take(4)] == [2.5, 1.5, 0.5, None]
    ordered = frame.orderBy(["k", "Name"], ascending=[False, True])
    assert [row.Name for row in ordered.limit(3).collect()] == ["n2", "n5", "n1"]
    # An order is kept by what comes behind it.
    many = spark.sql("SELECT value AS n, value % 7 AS m FROM generate_series(1, 300000)").orderBy("n", ascending=False)
    assert [row.n for row in many.take(3)] == [300000, 299999, 299998]
    assert [row.n for row in many.select("n").filter("n % 2 = 1").take(3)] == [299999, 299997, 299995]
    assert [row.n for row in many.drop("m").collect()][:3] == [300000, 299999, 299998]
    assert [row.n for row in many.limit(10).filter("n < 299995").collect()] == [299994, 299993, 299992, 299991]
    assert spark.sql("SELECT value FROM generate_series(1, 300000) ORDER BY value DESC").first() == (300000,)
    assert frame.head().k == 0 and len(frame.head(2)) == 2 and frame.limit(0).first() is None
    assert frame.select("k").distinct().count() == 3
    assert frame.union(frame).count() == 12
    with pytest.raises(windlass.InvalidError, match="union"):
        frame.union(frame.drop("k"))


def test_groups(frame):
    counts = frame.groupBy("k").count()
    assert counts.columns == ["k", "count"] and counts.orderBy("k").collect() == [(0, 2), (1, 2), (2, 2)]
    sums = frame.groupBy("k").agg({"v": "sum", "*": "count", "Name": "max"}).orderBy("k")
    assert sums.columns == ["k", "sum(v)", "count(1)", "max(Name)"]
    assert sums.collect() == [(0, 1.5, 2, "n3"), (1, 0.5, 2, "n4"), (2, 2.5, 2, "n5")]
    assert frame.groupBy().agg({"v": "avg"}).first() == (1.5,)
    with pytest.raises(windlass.InvalidError, match="median"):
        frame.groupBy("k").agg({"v": "median"})


def test_joins(spark):
    left = spark.createDataFrame([(1, "a"), (2, "b"), (None, "c")], ["k", "l"])
    right = spark.createDataFrame([(2, "x"), (3, "y"), (None, "z")], ["k", "r"])
    found = lambda how: sorted(left.join(right, on="k", how=how).collect(), key=str)  # noqa: E731
    assert left.join(right, "k").columns == ["k", "l", "r"]
    assert found("inner") == [(2, "b", "x")]
    assert found("left") == [(1, "a", None), (2, "b", "x"), (None, "c", None)]
    assert found("right_outer") == [(2, "b", "x"), (3, None, "y"), (None, None, "z")]
    assert len(found("outer")) == 5 and (3, None, "y") in found("full")
    assert found("left_semi") == [(2, "b")] and found("anti") == [(1, "a"), (None, "c")]
    both = left.join(left, "k")
    assert both.columns == ["k", "l", "l"] and sorted(both.collect()) == [(1, "a", "a"), (2, "b", "b")]
    with pytest.raises(windlass.InvalidError, match="'l' is ambiguous"):
        both.select("l")
    with pytest.raises(windlass.InvalidError, match="two columns are named 'l'"):
        both.createTempView("both")
    with pytest.raises(windlass.InvalidError, match="on"):
        left.join(right)


def test_what_is_printed(spark, capsys):
    values = "(1, 'a text that is longer than twenty', true), (NULL, 'ä', false)"
    frame = spark.sql(f"SELECT * FROM (VALUES {values}) AS t(n, t, b) ORDER BY n NULLS LAST")
    frame.show()
    assert capsys.readouterr().out == (
        "+----+--------------------+-----+\n"
        "|   n|                   t|    b|\n"
        "+----+--------------------+-----+\n"
        "|   1|a text that is lo...| true|\n"
        "|NULL|                   ä|false|\n"
        "+----+--------------------+-----+\n\n"
    )
    frame.show(1, truncate=False)
    assert capsys.readouterr().out == (
        "+---+---------------------------------+----+\n"
        "|n  |t                                |b   |\n"
        "+---+---------------------------------+----+\n"
        "|1  |a text that is longer than twenty|true|\n"
        "+---+---------------------------------+----+\n"
        "only showing top 1 row\n\n"
    )
    frame.show(1, 5, vertical=True)
    assert capsys.readouterr().out == "-RECORD 0----\n n   | 1     \n t   | a ... \n b   | true  \nonly showing top 1 row\n\n"
    frame.select("n", "b").show(vertical=True)
    assert capsys.readouterr().out == "-RECORD 0----\n n   | 1     \n b   | true  \n-RECORD 1----\n n   | NULL  \n b   | false \n\n"
    frame.filter("n > 5").show(vertical=True)
    assert capsys.readouterr().out == "(0 rows)\n\n"
    frame.printSchema()
    printed = capsys.readouterr().out
    assert printed.startswith("root\n |-- n: long (nullable = true)\n |-- t: string (nullable = ") and printed.endswith(")\n\n")
    frame.explain()
    assert "plan" in capsys.readouterr().out


def test_json(spark):
    query = "SELECT 1.50 AS d, CAST('NaN' AS double) AS n, date '2020-02-29' AS f, X'00ff' AS b, NULL AS z, [1, NULL] AS l, 'ä\"' AS t"
    (line,) = spark.sql(query).toJSON(use_unicode=True).take(1)
    assert line == '{"d":1.50,"n":"NaN","f":"2020-02-29","b":"AP8=","l":[1,null],"t":"ä\\""}'
    numbers = spark.range(1000).toJSON()
    assert numbers.sample(False, 0.0).collect() == [] and len(numbers.sample(False, 1.0).take(5)) == 5
    assert 0 < len(numbers.sample(False, 0.5).collect()) < 1000
    # The code of sparkmagic that sends a data frame.
    rdd = spark.sparkContext.parallelize([{"b": 1, "a": "x"}, {"a": "y"}])
    frame = spark.read.json(rdd)
    assert frame.columns == ["a", "b"] and frame.collect() == [("x", 1), ("y", None)]
    assert spark.read.json(spark.sparkContext.parallelize(['{"n": 1}'])).first().n == 1


def test_files(spark, tmp_path):
    frame = spark.createDataFrame([(1, "007", None), (2, "b", 1.5)], ["n", "t", "v"])
    for kind in ("parquet", "json"):
        at = str(tmp_path / kind)
        # The modes of Spark that COPY cannot do are refused, and leave nothing.
        for mode in ("error", "overwrite", "ignore"):
            with pytest.raises(windlass.InvalidError, match="append"):
                getattr(frame.write.mode(mode), kind)(at)
        assert not (tmp_path / kind).exists()
        getattr(frame.write.mode("append"), kind)(at)
        assert sorted(getattr(spark.read, kind)(at).collect()) == [(1, "007", None), (2, "b", 1.5)], kind
        assert spark.read.format(kind).load(at).count() == 2
    at = str(tmp_path / "csv")
    frame.write.mode("append").csv(at, header=True)
    texts = spark.read.option("header", True).csv(at)
    assert texts.dtypes == [("n", "string"), ("t", "string"), ("v", "string")]
    assert sorted(texts.select("t").collect()) == [("007",), ("b",)]
    typed = spark.read.csv(at, header="true", inferSchema=True)
    assert typed.dtypes[0] == ("n", "bigint") and typed.dtypes[2] == ("v", "double")
    plain = tmp_path / "plain.csv"
    plain.write_text("1;a\n2;b\n")
    assert sorted(spark.read.csv(str(plain), sep=";").collect()) == [Row(_c0="1", _c1="a"), Row(_c0="2", _c1="b")]
    assert spark.read.csv(str(plain), sep=";", inferSchema=True).dtypes == [("_c0", "bigint"), ("_c1", "string")]
    with pytest.raises(windlass.InvalidError, match="multiline"):
        spark.read.option("multiLine", True).csv(at)
    with pytest.raises(windlass.InvalidError, match="avro"):
        spark.read.format("avro").load(at)


def test_views_and_tables(spark):
    frame = spark.createDataFrame([(1, "a")], ["n", "T"])
    frame.createTempView("Seen")
    assert spark.sql('SELECT "T" FROM seen').first() == ("a",) and spark.table("SEEN").count() == 1
    with pytest.raises(windlass.AlreadyExistsError):
        frame.createTempView("seen")
    frame.union(frame).createOrReplaceTempView("seen")
    assert spark.table("seen").count() == 2 and spark.catalog.tableExists("seen") and not spark.catalog.tableExists("unseen")
    for mode, count in [("error", 1), ("append", 2), ("ignore", 2), ("overwrite", 1)]:
        frame.write.mode(mode).saveAsTable("of_spark")
        assert spark.table("of_spark").count() == count, mode
    with pytest.raises(windlass.AlreadyExistsError):
        frame.write.saveAsTable("of_spark")
    # By name, and by place.
    frame.select("T", "n").write.mode("append").saveAsTable("of_spark")
    frame.write.insertInto("of_spark")
    assert spark.table("of_spark").select("n").distinct().collect() == [(1,)]
    frame.write.insertInto("of_spark", overwrite=True)
    assert spark.table("of_spark").collect() == [(1, "a")]
    assert "of_spark" in [table.name for table in spark.catalog.listTables()]
    assert spark.catalog.tableExists("of_spark", "public")
    spark.sql("DROP TABLE of_spark")
    for name in ("a..b", "", "a b", "a; drop"):
        with pytest.raises(windlass.InvalidError, match="not the name of a table"):
            spark.table(name)


def test_options_and_what_is_missing(spark):
    spark.conf.set("spark.sql.session.timeZone", "+03:00")
    assert spark.conf.get("datafusion.execution.time_zone") == "+03:00"
    spark.conf.set("spark.sql.shuffle.partitions", 5)
    assert spark.conf.get("spark.sql.shuffle.partitions") == "5" and spark.conf.get("spark.x", "d") == "d"
    with pytest.raises(windlass.NotFoundError):
        spark.conf.get("spark.nothing")
    with pytest.raises(windlass.NotFoundError):
        spark.conf.set("windlass.nothing", 1)
    assert spark.version == windlass.__version__
    for part in (spark, spark.range(1), spark.range(1).groupBy("id"), spark.read, spark.range(1).write, spark.sparkContext):
        with pytest.raises(AttributeError, match=r"spark.sql\(\)"):
            part.nothing


def test_a_session_that_is_not_there_is_not_joined(cluster, monkeypatch):
    # tests/src/livy/python.rs joins sessions that are there.
    with pytest.raises(windlass.NotFoundError, match="there is no session nothing"):
        windlass.connect(cluster.url, session="nothing")
    monkeypatch.setenv("WINDLASS_SESSION", "of the environment")
    with windlass.connect(cluster.url) as session:
        assert session.sql("SELECT 1").scalar() == 1
    monkeypatch.setenv("WINDLASS_URL", cluster.url)
    with pytest.raises(windlass.NotFoundError, match="there is no session of the environment"):
        windlass.connect()
    monkeypatch.delenv("WINDLASS_URL")
    with pytest.raises(windlass.InvalidError, match="WINDLASS_URL"):
        windlass.connect(session="x")


def test_times_are_shown_and_written(spark, capsys):
    frame = spark.sql("SELECT timestamp '2020-02-29 12:00:00.5' AS t, timestamptz '2020-02-29T12:00:00Z' AS z")
    assert frame.dtypes == [("t", "timestamp_ntz"), ("z", "timestamp")]
    assert frame.first().t == datetime.datetime(2020, 2, 29, 12, 0, 0, 500000)
    (line,) = frame.toJSON().collect()
    assert line == '{"t":"2020-02-29T12:00:00.5","z":"2020-02-29T12:00:00Z"}'

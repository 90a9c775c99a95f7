"""Columns, functions and data frames in the style of Spark's."""

import datetime
import decimal
import math

import pandas
import pyarrow
import pytest
import windlass
from windlass.spark import Row, SparkSession, Window
from windlass.spark import functions as F
from windlass.spark.types import DecimalType, IntegerType, StringType, StructField, StructType


@pytest.fixture
def spark(session):
    return SparkSession(session)


@pytest.fixture
def frame(spark):
    return spark.createDataFrame([(1, "a", 0.5), (2, "b", None), (3, "it's", 2.5)], ["Id", "name", "v"])


def one(frame, *columns):
    """The values of columns in the first row."""
    row = frame.orderBy("id").select(*columns).first()
    return row[0] if len(columns) == 1 else tuple(row)


def test_columns_of_a_data_frame(frame):
    assert frame.select(frame.Id, frame["NAME"], F.col("v")).columns == ["Id", "name", "v"]
    assert [row.name for row in frame.filter(frame.id > 1).orderBy(frame.id.desc()).collect()] == ["it's", "b"]
    assert frame[frame["name"] == "it's"].count() == 1 and frame[["v", "Id"]].columns == ["v", "Id"]
    assert frame.select(F.col("*")).columns == frame.columns and frame[0]._label == "Id"
    assert frame.select((frame.id * 2 + 1).alias("x"), frame.id + 1).columns == ["x", "(Id + 1)"]
    with pytest.raises(AttributeError, match=r"no 'nothing' here: .*spark.sql"):
        frame.nothing
    with pytest.raises(windlass.NotFoundError, match="no column 'nothing': Id, name, v"):
        frame["nothing"]
    with pytest.raises(windlass.InvalidError, match="combine conditions with &"):
        frame.filter(frame.id > 1 and frame.id < 3)
    with pytest.raises(AttributeError, match="toLocalIterator"):
        frame.foreach(print)


def test_operators(frame):
    id, name = frame.id, frame.name
    assert one(frame, id + 1, 10 - id, id * 3, -id, id % 2, id / 2, id**2) == (2, 9, 3, -1, 1, 0.5, 1.0)
    assert one(frame, id / 0, id % 0) == (None, None)
    assert one(frame, id == 1, id != 1, id < 2, id <= 1, id > 1, id >= 1) == (True, False, True, True, False, True)
    assert one(frame, (id == 1) & ~(id == 2), (id == 2) | (id == 3), id.between(0, 1)) == (True, False, True)
    assert one(frame, id.isin(1, 2), id.isin([3]), id.isin([]), name.isin("a")) == (True, False, False, True)
    assert one(frame, name.like("A%"), name.ilike("A%"), name.rlike("^[a-c]$"), name.contains("a")) == (False, True, True, True)
    assert one(frame, name.startswith("a"), name.endswith("b"), name.substr(1, 1), name.isNull(), name.isNotNull()) == (True, False, "a", False, True)
    assert one(frame, id.cast("string"), id.cast(DecimalType(5, 2)), F.lit("7").cast("int")) == ("1", decimal.Decimal("1.00"), 7)
    assert frame.filter(frame.v.isNull()).collect() == [(2, "b", None)]
    assert frame.filter(frame.v.eqNullSafe(None)).count() == 1 and frame.filter(frame.v == None).count() == 0  # noqa: E711
    with pytest.raises(windlass.InvalidError, match="'float64x' is no type"):
        id.cast("float64x")
    with pytest.raises(windlass.InvalidError, match="cast"):
        frame.select(name.cast("int")).collect()


@pytest.mark.parametrize("dialect", ["generic", "spark"])
def test_values_are_no_sql(spark, dialect):
    texts = ["it's", "'; DROP TABLE x; --", "\\", "\\' OR true --", "a\\b\\", '"', "`", "ä\n%_", "", "$1"]
    frame = spark.createDataFrame([(text, at) for at, text in enumerate(texts)], ["t", "Odd `name"])
    frame.createTempView("texts")
    spark.conf.set("datafusion.sql_parser.dialect", dialect)
    for at, text in enumerate(texts):
        assert frame.filter(frame.t == text).collect() == [(text, at)], text
        assert frame.select(F.lit(text).alias(text or "empty")).first() == (text,)
        assert frame.filter(frame.t.isin(text)).select("Odd `name").collect() == [(at,)]
    values = [
        1, -5, 2**62, -(2**63), 2**64, 1.5, -0.1, 1e300, float("inf"), True, None, b"\x00\xff", decimal.Decimal("-1.50"), decimal.Decimal("1E+3"),
        datetime.date(2020, 2, 29), datetime.datetime(2020, 2, 29, 1, 2, 3, 4), datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), [1, 2],
    ]  # fmt: skip
    row = spark.range(1).select(*(F.lit(value).alias(f"c{at}") for at, value in enumerate(values))).first()
    assert list(row) == values and math.isnan(spark.range(1).select(F.lit(float("nan"))).first()[0])
    with pytest.raises(windlass.InvalidError, match="no value of SQL"):
        F.lit(object())


def test_functions(spark):
    frame = spark.createDataFrame([(1, "Ab,c", "2020-02-29", 2.5, [3, 1], " x ")], ["id", "t", "d", "v", "l", "s"])
    when = F.to_timestamp("d") + F.expr("INTERVAL '3723' SECOND")
    cases = [
        (F.upper("t"), "AB,C"), (F.lower(frame.t), "ab,c"), (F.length("t"), 4), (F.trim("s"), "x"), (F.ltrim("s"), "x "), (F.rtrim("s"), " x"),
        (F.concat("t", F.lit("-"), "id"), "Ab,c-1"), (F.concat("t", F.lit(None)), None), (F.concat_ws("/", "t", F.lit(None), "s"), "Ab,c/ x "),
        (F.substring("t", 2, 2), "b,"), (F.substring("t", 0, 2), "Ab"), (F.substring("t", -2, 2), ",c"), (F.substring("t", F.col("id"), 1), "A"),
        (F.split("t", ","), ["Ab", "c"]), (F.split(F.lit("a|b"), "\\|"), ["a", "b"]), (F.split("t", ",")[0], "Ab"),
        (F.regexp_extract("t", "([A-Z])(\\w)", 2), "b"), (F.regexp_extract("t", "(\\d)", 1), ""), (F.regexp_replace("t", "([a-c])", "<$1>"), "A<b>,<c>"),
        (F.initcap(F.lit("ab cd")), "Ab Cd"), (F.lpad(F.lit("1"), 3, "0"), "001"), (F.rpad(F.lit("1"), 3, "0"), "100"), (F.instr("t", "b"), 2),
        (F.locate("c", "t"), 4), (F.repeat("s", 2), " x  x "), (F.reverse("t"), "c,bA"), (F.translate("t", "A", "a"), "ab,c"),
        (F.round("v"), 3.0), (F.round(F.lit(2.675), 2), 2.68), (F.round(F.lit(-2.5)), -3.0), (F.round(F.lit(1e300)), 1e300), (F.floor("v"), 2),
        (F.ceil("v"), 3), (F.abs(F.lit(-2)), 2), (F.sqrt(F.lit(4)), 2.0), (F.pow("id", 2), 1.0), (F.log(F.lit(math.e)), 1.0), (F.greatest("id", F.lit(5)), 5),
        (F.coalesce(F.lit(None), "id"), 1), (F.isnull("id"), False), (F.nvl(F.lit(None), "t"), "Ab,c"), (F.nullif("id", F.lit(1)), None),
        (F.when(F.col("id") > 1, "big").when(F.col("id") == 1, "one").otherwise("none"), "one"), (F.when(F.col("id") > 1, 1), None),
        (F.to_date("d"), datetime.date(2020, 2, 29)), (F.to_date(F.lit("31/12/2020"), "dd/MM/yyyy"), datetime.date(2020, 12, 31)),
        (F.to_timestamp(F.lit("2020-01-02 03:04"), "yyyy-MM-dd HH:mm"), datetime.datetime(2020, 1, 2, 3, 4)), (when, datetime.datetime(2020, 2, 29, 1, 2, 3)),
        (F.date_format(when, "d.M.yy 'at' HH:mm:ss EEE MMM"), "29.2.20 at 01:02:03 Sat Feb"), (F.year(F.to_date("d")), 2020), (F.month(F.to_date("d")), 2),
        (F.dayofmonth(F.to_date("d")), 29), (F.dayofweek(F.to_date("d")), 7), (F.dayofyear(F.to_date("d")), 60), (F.quarter(F.to_date("d")), 1),
        (F.hour(when), 1), (F.minute(when), 2), (F.second(when), 3), (F.date_add("d", 1), datetime.date(2020, 3, 1)), (F.date_sub("d", 29), datetime.date(2020, 1, 31)),
        (F.datediff(F.lit("2020-03-01"), "d"), 1), (F.add_months("d", 12), datetime.date(2021, 2, 28)), (F.last_day(F.to_date("d")), datetime.date(2020, 2, 29)),
        (F.trunc(F.to_date("d"), "MM"), datetime.date(2020, 2, 1)), (F.date_trunc("year", F.to_date("d")), datetime.datetime(2020, 1, 1)),
        (F.unix_timestamp("d"), 1582934400), (F.from_unixtime(F.lit(0)), "1970-01-01 00:00:00"), (F.year(F.current_date()) >= 2024, True),
        (F.size("l"), 2), (F.array_contains("l", 3), True), (F.array_sort("l"), [1, 3]), (F.array("id", F.lit(2)), [1, 2]), (F.col("l")[0], 3),
        (F.struct("id", F.col("t").alias("x")), Row(id=1, x="Ab,c")), (F.md5(F.lit("a")), "0cc175b9c0f1b6a831c399e269772661"),
        (F.expr("id + 41"), 42), (F.expr("upper(t) AS u"), "AB,C"),
    ]  # fmt: skip
    row = frame.select(*(column.alias(f"c{at}") for at, (column, _) in enumerate(cases))).first()
    for at, (column, expected) in enumerate(cases):
        assert row[at] == (pytest.approx(expected) if isinstance(expected, float) else expected), column
    assert sorted(frame.select("id", F.explode("l")).collect()) == [Row(id=1, col=1), Row(id=1, col=3)]
    assert frame.select(F.upper("t"), F.year("d"), F.expr("upper(t) AS U")).columns == ["upper(t)", "year(d)", "U"]
    for wrong, words in [
        (lambda: F.split("t", "[ab]+"), "plain separator"),
        (lambda: F.date_format("d", "QQ"), "'QQ' of the pattern"),
        (lambda: F.rand(5), "cannot be repeated"),
        (lambda: F.upper(5), "F.lit"),
        (lambda: F.trunc("d", "eon"), "no part of a date"),
    ]:
        with pytest.raises(windlass.InvalidError, match=words):
            wrong()
    with pytest.raises(AttributeError, match="no function of Python runs on executors"):
        F.udf
    with pytest.raises(ImportError):
        from windlass.spark.functions import nothing  # noqa: F401


def test_columns_are_added_replaced_and_renamed(frame):
    more = frame.withColumn("z", F.col("v") + 1).withColumn("NAME", F.upper("name"))
    assert more.columns == ["Id", "NAME", "v", "z"] and one(more, "name", "z") == ("A", 1.5)
    assert frame.withColumns({"a": F.lit(1), "v": F.lit("x")}).columns == ["Id", "name", "v", "a"]
    assert frame.withColumnsRenamed({"ID": "k", "v": "w"}).columns == ["k", "name", "w"]
    assert frame.drop(frame.v, "Name").columns == ["Id"] and frame.drop("absent", F.col("other")).columns == frame.columns
    assert frame.selectExpr("(v) w", "CASE WHEN (v > 1) THEN (v) END").columns == ["w", "CASE WHEN (v > 1) THEN (v) END"]
    assert frame.selectExpr("*", "Id * 2 AS Twice", "count(*) OVER () n").columns == ["Id", "name", "v", "Twice", "n"]
    with pytest.raises(windlass.InvalidError, match="no column is left"):
        frame.drop(*frame.columns)
    with pytest.raises(windlass.InvalidError, match="F.lit"):
        frame.withColumn("x", 1)


def test_names_are_found_whatever_their_case_is(spark, frame):
    assert frame.filter("Id = 1").count() == frame.filter("ID = 1").count() == frame.filter('"Id" = 1').count() == 1
    assert frame.selectExpr("iD", "iD + 1 AS Next").columns == ["Id", "Next"] and frame.select("ID", F.col("id")).columns == ["Id", "Id"]
    assert frame.groupBy("ID").agg(F.max("V").alias("Most")).orderBy("most", "id").columns == ["Id", "Most"]
    assert frame.withColumn("End", F.lit(1)).filter("CASE WHEN id = 1 THEN true END AND \"End\" = 1").count() == 1
    assert frame.select(F.expr("ID + id")).first() is not None and frame.orderBy("ID").first().Id == 1
    twice = spark.createDataFrame([(1, 2)], ["Id", "ID"])
    assert twice.columns == ["Id", "ID"] and twice.collect() == [(1, 2)] and twice.selectExpr("'id' AS t").first() == ("id",)
    for ambiguous in (lambda: twice.select("id"), lambda: twice.filter("id = 1"), lambda: twice.id, lambda: twice.select(F.expr("Id + 1"))):
        with pytest.raises(windlass.InvalidError, match="ambiguous"):
            ambiguous()
    with pytest.raises(windlass.NotFoundError, match="'nothing' not found") as raised:
        frame.filter("nothing = 1")
    assert "line" not in str(raised.value) and "SELECT" not in str(raised.value)


def test_groups_and_aggregates(frame, spark):
    rows = spark.createDataFrame([("a", 1, 0.5), ("a", 2, None), ("b", 2, 4.0)], ["k", "n", "v"])
    sums = rows.groupBy("k").agg(F.sum("n"), F.avg("v").alias("mean"), F.count("*"), F.count("v"), F.countDistinct("n")).orderBy("k")
    assert sums.columns == ["k", "sum(n)", "mean", "count(1)", "count(v)", "count(n)"]
    assert sums.collect() == [("a", 3, 0.5, 2, 1, 2), ("b", 2, 4.0, 1, 1, 1)]
    assert rows.agg(F.min("n"), F.max("n"), F.first("k").isNotNull()).first()[:2] == (1, 2)
    assert sorted(rows.groupBy((F.col("n") % 2).alias("odd")).count().collect()) == [Row(odd=0, count=2), Row(odd=1, count=1)]
    assert rows.groupBy("k").sum().columns == ["k", "sum(n)", "sum(v)"] and rows.groupBy("k").max("n").orderBy("k").collect() == [("a", 2), ("b", 2)]
    assert rows.select(F.sum("n"), F.max(F.col("n") + 1)).first() == (5, 3)
    assert rows.agg(F.collect_list("v")).first()[0] in ([0.5, 4.0], [4.0, 0.5])
    assert set(rows.agg(F.collect_set("n")).first()[0]) == {1, 2}
    assert rows.groupBy("k").agg({"n": "sum"}).orderBy("k").collect() == [("a", 3), ("b", 2)]
    with pytest.raises(AttributeError, match="F.when"):
        rows.groupBy("k").pivot("n")


def test_windows(spark):
    rows = spark.createDataFrame([("a", 1), ("a", 2), ("b", 5), ("a", 2)], ["k", "N"])
    by_k = Window.partitionBy("k").orderBy(F.desc("n"))
    ranked = rows.select(
        "k", "N", F.row_number().over(by_k).alias("r"), F.rank().over(by_k), F.dense_rank().over(by_k), F.lag("n").over(by_k), F.lead("n", 1, 0).over(by_k),
        F.sum("n").over(Window.partitionBy("k")).alias("s"),
        F.sum("n").over(by_k.rowsBetween(Window.unboundedPreceding, Window.currentRow)).alias("c"),
        F.sum("n").over(Window.orderBy("n").rowsBetween(-1, 1)).alias("m"),
    ).orderBy("k", "r")  # fmt: skip
    assert [row[:9] for row in ranked.collect()] == [
        ("a", 2, 1, 1, 1, None, 2, 5, 2), ("a", 2, 2, 1, 1, 2, 1, 5, 4), ("a", 1, 3, 3, 2, 2, 0, 5, 5), ("b", 5, 1, 1, 1, None, 0, 5, 5)
    ]  # fmt: skip
    assert rows.withColumn("r", F.row_number().over(by_k)).filter("r = 1").count() == 2


def test_joins_on_conditions(spark):
    people = spark.createDataFrame([(1, "a", 1), (2, "b", 1)], ["Id", "name", "boss"])
    pay = spark.createDataFrame([(1, 10), (3, 30)], ["id", "pay"])
    both = people.join(pay, people.id == pay.id, "left")
    assert both.columns == ["Id", "name", "boss", "id", "pay"]
    assert sorted(both.select(people.id, pay.pay).collect(), key=str) == [(1, 10), (2, None)]
    assert both.drop(pay.id).columns == ["Id", "name", "boss", "pay"] and both.drop(pay.id).filter("id = 1").count() == 1
    assert both.filter(pay.id.isNull()).select("name").collect() == [("b",)]
    assert both.toPandas().shape == (2, 5) and both.collect()[0].asDict()["name"] in "ab"
    with pytest.raises(windlass.InvalidError, match="'id' is ambiguous"):
        both.select("id")
    with pytest.raises(windlass.InvalidError, match="'id' in 'id > 1' is ambiguous"):
        both.filter("id > 1")
    assert people.join(pay, (people.id == pay.id) & (pay.pay > 10)).count() == 0
    assert people.join(pay, [people.id == pay.id, pay.pay == 10], "semi").columns == people.columns
    assert people.join(pay, people.id == pay.id, "left_anti").collect() == [(2, "b", 1)]
    assert people.join(pay, people.id < pay.id, "full").count() == 3 and people.crossJoin(pay).count() == 4
    # With itself, under names.
    a, b = people.alias("A"), people.alias("b")
    bosses = a.join(b, F.col("a.boss") == F.col("b.id")).select("a.name", F.col("b.name").alias("boss"))
    assert sorted(bosses.collect()) == [("a", "a"), ("b", "a")]
    assert a.join(b, F.expr("a.Boss = b.Id AND a.id <> b.id")).select("a.*").columns == ["Id", "name", "boss"]
    assert a.join(b, a.boss == b.id).select(a.name, b.name).columns == ["name", "name"]
    later = people.filter("id = 1")
    assert people.join(later, people.boss == later.id).count() == 2
    with pytest.raises(windlass.InvalidError, match="how is one of"):
        people.join(pay, "id", "sideways")


def test_sets_of_rows(spark, frame):
    other = spark.createDataFrame([(9.5, 4, "d")], ["V", "id", "name"])
    assert frame.unionByName(other).filter("id = 4").collect() == [(4, "d", 9.5)]
    less = other.drop("v")
    with pytest.raises(windlass.InvalidError, match="allowMissingColumns"):
        frame.unionByName(less)
    assert frame.unionByName(less, allowMissingColumns=True).filter("id = 4").collect() == [(4, "d", None)]
    assert less.unionByName(frame, allowMissingColumns=True).columns == ["id", "name", "v"]
    assert frame.intersect(frame.filter("id = 1")).collect() == [(1, "a", 0.5)] and frame.subtract(frame.filter("id > 1")).count() == 1
    assert frame.union(frame).dropDuplicates(["NAME"]).count() == frame.union(frame).dropDuplicates().count() == 3
    assert frame.sample(1.0).count() == 3 and frame.sample(False, 0.0).count() == 0
    with pytest.raises(windlass.InvalidError, match="seed"):
        frame.sample(0.5, seed=1)
    for same in (frame.cache(), frame.persist(), frame.unpersist(), frame.coalesce(1), frame.repartition(2, "id")):
        assert same is frame


def test_missing_values(spark):
    frame = spark.createDataFrame(pyarrow.table({"i": [1, None, 3], "F": [float("nan"), None, 1.5], "t": ["a", None, None]}))
    assert frame.dropna().count() == 0 and frame.dropna("all").count() == 2 and frame.na.drop(subset="I").count() == 2
    assert frame.dropna(thresh=2).count() == 2 and frame.dropna(subset=["f"]).collect() == [(3, 1.5, None)]
    assert frame.fillna(0).orderBy("i").collect() == [(0, 0.0, None), (1, 0.0, "a"), (3, 1.5, None)]
    assert frame.fillna("x").filter("t = 'x'").count() == 2 and frame.na.fill({"T": "y", "i": 7}).filter("i = 7 AND t = 'y'").count() == 1
    assert frame.fillna(0, "F").filter("i IS NULL").count() == 1 and frame.fillna(0).dtypes == frame.dtypes
    found = {row.summary: (row.i, row.t) for row in frame.describe().collect()}
    assert found["count"] == ("2", "1") and found["mean"] == ("2.0", None) and found["min"] == ("1", "a") and found["max"][0] == "3"
    assert frame.describe("i").columns == ["summary", "i"]


def test_schemas(spark):
    frame = spark.createDataFrame([(1, "x")], "a int, `B c` string")
    assert frame.dtypes == [("a", "int"), ("B c", "string")] and frame.schema["a"].dataType == IntegerType()
    schema = StructType([StructField("n", IntegerType()), StructField("t", StringType(), True)]).add("d", DecimalType(5, 1))
    typed = spark.createDataFrame([(1, None, decimal.Decimal("1.5"))], schema)
    assert typed.dtypes == [("n", "int"), ("t", "string"), ("d", "decimal(5,1)")] and typed.filter("d > 1").count() == 1
    empty = spark.createDataFrame([], "a bigint, l array<string>, s struct<x:int,y:double>, m map<string,int>")
    assert empty.count() == 0 and empty.dtypes[1:3] == [("l", "array<string>"), ("s", "struct<x:int,y:double>")]
    assert spark.createDataFrame([1, 2], "int").columns == ["value"]
    assert spark.createDataFrame(pandas.DataFrame({"x": [1]}), "y string").collect() == [("1",)]
    person = Row("name", "age")
    assert person("Ann", 5) == Row(name="Ann", age=5) and spark.createDataFrame([person("Ann", 5)]).columns == ["name", "age"]
    nested = spark.createDataFrame([{"s": {"x": 1}}])
    assert nested.select("s.x").collect() == [(1,)] and nested.select(F.col("s")["x"]).first() == (1,)


def test_files_with_formats_options_and_folders(spark, frame, tmp_path):
    at = str(tmp_path / "parts")
    frame.write.format("parquet").partitionBy("NAME").mode("append").save(at)
    assert (tmp_path / "parts" / "name=a").is_dir()
    at = str(tmp_path / "csv")
    frame.write.option("header", True).option("sep", ";").format("csv").save(at, mode="append")
    read = spark.read.format("csv").option("header", True).option("sep", ";").schema("i int, n string, v double").load(at)
    assert read.dtypes == [("i", "int"), ("n", "string"), ("v", "double")] and read.filter("i = 3").collect() == [(3, "it's", 2.5)]
    with pytest.raises(windlass.InvalidError, match="orc"):
        frame.write.format("orc")
    with pytest.raises(AttributeError, match="separator that no line has"):
        spark.read.text(at)
    with pytest.raises(windlass.InvalidError, match="the option quoteall"):
        frame.write.option("quoteAll", True).mode("append").csv(at)


def test_a_catalog(spark, frame):
    frame.createOrReplaceTempView("Seen")
    assert spark.catalog.currentDatabase() == "public" and spark.catalog.databaseExists("public")
    assert [column.name for column in spark.catalog.listColumns("seen")] == ["Id", "name", "v"]
    frame.write.saveAsTable("of_catalog")
    assert not spark.catalog.dropTempView("of_catalog") and spark.catalog.tableExists("of_catalog")
    assert spark.catalog.dropTempView("SEEN") and not spark.catalog.dropTempView("seen") and not spark.catalog.tableExists("seen")
    spark.sql("DROP TABLE of_catalog")


def test_a_builder_returns_the_session_that_is_open(cluster, monkeypatch):
    monkeypatch.setattr(SparkSession, "_active", None)
    monkeypatch.setenv("WINDLASS_URL", cluster.url)
    spark = SparkSession.builder.appName("x").master("local[2]").config("spark.sql.shuffle.partitions", 4).enableHiveSupport().getOrCreate()
    assert spark.conf.get("spark.app.name") == "x" and spark.conf.get("spark.sql.shuffle.partitions") == "4"
    assert SparkSession.builder.getOrCreate() is spark and SparkSession.builder.master(cluster.url).getOrCreate() is spark
    spark.stop()
    with pytest.raises(windlass.InvalidError, match="closed"):
        spark.range(1).count()
    again = SparkSession.builder.getOrCreate()
    assert again is not spark and again.range(2).count() == 2
    with again, SparkSession(cluster.url) as other:
        assert other.sql("SELECT 1").first() == (1,)
    with pytest.raises(windlass.InvalidError, match="none of Windlass"):
        SparkSession.builder.master("yarn")
    with pytest.raises(windlass.InvalidError, match="neither a session"):
        SparkSession(5)


def test_errors_speak_of_what_the_user_wrote(spark):
    with pytest.raises(windlass.NotFoundError) as raised:
        spark.table("nosuch")
    assert str(raised.value) == "table 'nosuch' not found"
    with pytest.raises(windlass.NotFoundError) as raised:
        spark.sql("SELECT 1,\n  nosuch")
    assert "(line 2, column 3)" in str(raised.value) and "2 |   nosuch" in str(raised.value)
    with pytest.raises(windlass.InvalidError) as raised:
        spark.range(1).filter("id >")
    assert "line" not in str(raised.value)

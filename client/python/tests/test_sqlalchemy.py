import warnings

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from windlass import dbapi

registry.register("windlass", "windlass.sqlalchemy", "WindlassDialect")


@pytest.fixture
def engine(cluster):
    engine = sa.create_engine(cluster.url.replace("grpc://", "windlass://") + "/windlass?schema=of_alchemy&windlass.pool=etl")
    with dbapi.connect(cluster.url) as connection:
        connection.cursor().execute("CREATE SCHEMA IF NOT EXISTS of_alchemy")
        yield engine
        engine.dispose()
        connection.cursor().execute("DROP SCHEMA of_alchemy CASCADE")


class Base(DeclarativeBase):
    pass


class Sensor(Base):
    __tablename__ = "sensors"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(sa.String(20), unique=True, index=True)
    value: Mapped[float | None]


def test_objects_are_kept_and_found(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Sensor(id=1, name="a", value=0.5), Sensor(id=2, name="b"), Sensor(id=3, name="c", value=2.5)])
        session.commit()
        found = session.scalars(sa.select(Sensor).where(Sensor.value > 0.1).order_by(Sensor.id.desc()).limit(1)).one()
        assert (found.id, found.name, found.value) == (3, "c", 2.5)
        found.name = "d"
        with pytest.raises(sa.exc.NotSupportedError, match="UPDATE is not supported"):
            session.commit()


def test_frames_of_pandas_come_and_go(engine, cluster):
    frame = pd.DataFrame({"id": range(25_000), "word": [f"w{at}" for at in range(25_000)]})
    assert frame.to_sql("frames", engine, index=False, if_exists="replace") == 25_000
    assert frame.to_sql("frames", engine, index=False, if_exists="append") == 25_000
    read = pd.read_sql(sa.text("SELECT count(*) AS n, max(word) AS last FROM frames WHERE id < :top"), engine, params={"top": 10})
    assert read.to_dict("records") == [{"n": 20, "last": "w9"}]
    # Rows are inserted many at a time: 3 statements for each frame.
    assert len([job for job in cluster.jobs() if job["statement"].startswith("INSERT INTO frames")]) == 6


def test_tables_are_reflected(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kinds (id BIGINT NOT NULL, price DECIMAL(8, 2), \"Odd one\" TIMESTAMP WITH TIME ZONE)"))
        connection.execute(sa.text("CREATE VIEW cheap AS SELECT id FROM kinds WHERE price < 1"))
    inspector = sa.inspect(engine)
    assert "of_alchemy" in inspector.get_schema_names() and inspector.default_schema_name == "of_alchemy"
    assert (inspector.get_table_names(), inspector.get_view_names()) == (["kinds"], ["cheap"])
    assert "price < 1" in inspector.get_view_definition("cheap")
    columns = {column["name"]: (str(column["type"]), column["nullable"]) for column in inspector.get_columns("kinds")}
    assert columns == {"id": ("BIGINT", False), "price": ("NUMERIC(8, 2)", True), "Odd one": ("TIMESTAMP", True)}
    with pytest.raises(sa.exc.NoSuchTableError):
        sa.Table("nosuch", sa.MetaData(), autoload_with=engine)


@pytest.mark.parametrize("url", ["windlass://user:password@localhost/", "windlass://localhost/?nosuch=1"])
def test_parts_of_urls_that_mean_nothing_are_refused(url):
    with pytest.raises(sa.exc.ArgumentError, match="unknown parts of the URL"):
        sa.create_engine(url).connect()


def test_an_engine_starts_one_cluster(tmp_path, monkeypatch):
    monkeypatch.delenv("WINDLASS_URL", raising=False)
    engine = sa.create_engine(f"windlass:///?folder={tmp_path}/cluster")
    with engine.connect() as one, engine.connect() as other:
        one.execute(sa.text("CREATE TABLE shared AS SELECT 7 AS n"))
        assert other.execute(sa.text("SELECT n FROM shared")).scalar() == 7


@pytest.mark.parametrize("word", ["index", "key", "fulltext", "spatial", "unique", "end", "values", "struct", "current_user", "interval", "trim"])
def test_names_that_are_words_of_sql_are_quoted(engine, word):
    assert pd.DataFrame({word: [7], "a": [1]}).to_sql("words", engine, index=False, if_exists="replace") == 1
    table = sa.Table("words", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(table.c.a, table.c[word]).where(table.c[word] > 6).order_by(table.c[word])).all() == [(1, 7)]


def test_an_index_of_pandas_is_a_column(engine):
    assert pd.DataFrame({"a": [5]}).to_sql("indexed", engine, if_exists="replace") == 1
    assert pd.read_sql_table("indexed", engine).to_dict("records") == [{"index": 0, "a": 5}]


def test_a_rollback_that_undoes_nothing_says_so_once(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept (id BIGINT)"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            connection.rollback()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("INSERT INTO kept VALUES (1)"))
        assert caught == []
        for id in (2, 3):
            with pytest.raises(ZeroDivisionError), engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO kept VALUES (:id)"), {"id": id})
                1 / 0
    assert [str(one.message)[:27] for one in caught] == ["a rollback undoes nothing: "]
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM kept")).scalar() == 3


def test_what_is_not_supported_has_one_class(engine):
    table = sa.Table("returned", sa.MetaData(), sa.Column("id", sa.BigInteger))
    table.create(engine)
    with engine.connect() as connection:
        for statement in (sa.insert(table).values(id=1).returning(table.c.id), sa.update(table).values(id=2), sa.delete(table)):
            with pytest.raises(sa.exc.NotSupportedError, match="not supported"):
                connection.execute(statement)

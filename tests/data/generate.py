#!/usr/bin/env python3
"""Writes what the query suites read: TPC-H and TPC-DS tables as Parquet with their queries, Avro fixtures, and the awkward
files of `right/`, where each script writes a folder of its own: `write(folder)`, a pathlib.Path.

    generate.py FOLDER

The tables come from dbgen and dsdgen and the query texts from the same place, DuckDB's tpch and tpcds extensions, which are
ordinary PyPI packages (requirements.txt). A folder that this very script completed before is left alone.
"""

import datetime
import hashlib
import importlib.util
import math
import shutil
import sys
from pathlib import Path

TPCH_SCALE = 0.05
TPCDS_SCALE = 0.1

# Scans should split: a table is cut into files of about this many rows, in the generator's order.
ROWS_PER_FILE = 20_000
MAX_FILES = 6
ROWS_PER_ROW_GROUP = 10_240

# At scale 0.1 there are one store, three return reasons and few items, and with the parameters of scale 1 these queries return no row:
# a comparison that proves little. Other parameters, same shape. (query, old text, new text, why)
TPCDS_PARAMETERS = [
    (4, "2001", "2000", "the one year in which a customer's catalog purchases outgrew the other channels"),
    (8, "HAVING count(*) > 10", "HAVING count(*) > 0", "no zip code has more than ten preferred customers"),
    (24, "s_market_id=8", "s_market_id=2", "the one store is in market 2"),
    (24, "s_zip = ca_zip", "SUBSTRING(s_zip, 1, 1) = SUBSTRING(ca_zip, 1, 1)", "nobody lives in the store's zip code"),
    (25, "d1.d_moy = 4", "d1.d_moy BETWEEN 1 AND 12", "too few sales that were returned and bought again in one month"),
    (25, "BETWEEN 4 AND 10", "BETWEEN 1 AND 12", "the same"),
    (29, "d1.d_moy = 9", "d1.d_moy BETWEEN 1 AND 12", "too few sales that were returned and bought again in one quarter"),
    (29, "BETWEEN 9 AND 9 + 3", "BETWEEN 1 AND 12", "the same"),
    (37, "677,", "70, 73, 95, 119, 150, 158, 159, 160, 168, 360, 537, 647, 842,", "the manufacturers in stock differ"),
    (41, "BETWEEN 738 AND 738+40", "BETWEEN 1 AND 1000", "1,800 items, not 18,000"),
    (44, "ss_store_sk = 4", "ss_store_sk = 1", "there is no store 4"),
    (54, "i_class = 'maternity'", "i_class IS NOT NULL", "two customers live in the store's county"),
    (54, "ca_county = s_county", "ca_state = s_state", "the same"),
    (58, "0.9 *", "0.2 *", "no item earned the same in all three channels that week"),
    (58, "1.1 *", "5 *", "the same"),
    (64, "i_current_price BETWEEN 64 AND 64 + 10", "i_current_price BETWEEN 1 AND 64 + 10", "1,800 items, not 18,000"),
    (64, "i_current_price BETWEEN 64 + 1 AND 64 + 15", "i_current_price BETWEEN 1 AND 64 + 15", "the same"),
    (65, "0.1 * sb.ave", "0.9 * sb.ave", "no item of the one store sells that badly"),
    (73, "BETWEEN 1 AND 5", "BETWEEN 1 AND 15", "the one store sells large tickets only"),
    (82, "129,", "73, 95, 119, 150, 158, 168, 303, 360, 373, 380, 383, 647, 842,", "the manufacturers in stock differ"),
    (83, "'2000-06-30',", "'2000-06-30', '2000-09-13', '2000-10-11', '2000-11-24', '2000-12-01', '2000-12-08',", "few returns a week"),
    (85, "AND ws_net_profit BETWEEN 100 AND 200", "", "7,000 web returns, not 70,000"),
    (85, "AND ws_net_profit BETWEEN 150 AND 300", "", "the same"),
    (85, "AND ws_net_profit BETWEEN 50 AND 250", "", "the same"),
    (91, "AND d_moy = 11", "", "few returns a month"),
    (91, "ca_gmt_offset = -7", "ca_gmt_offset = -5", "most customers live there"),
    (93, "'reason 28'", "'Stopped working'", "the reasons have other names"),
]

# What DataFusion spells differently: (suite, query, old text, new text, why). Empty: it runs every text as the generators print it.
DIALECT = []


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = Path(sys.argv[1])
    produce(root / f"tpch-sf{TPCH_SCALE}", lambda d: tpc(d, "tpch", f"CALL dbgen(sf = {TPCH_SCALE})", []))
    produce(root / f"tpcds-sf{TPCDS_SCALE}", lambda d: tpc(d, "tpcds", f"CALL dsdgen(sf = {TPCDS_SCALE})", TPCDS_PARAMETERS))
    produce(root / "fixtures", avro)
    for script in sorted(Path(__file__).with_name("right").glob("*.py")):
        specification = importlib.util.spec_from_file_location(script.stem, script)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        produce(root / "right" / script.stem, module.write, script)


def produce(folder, write, *scripts):
    """Writes under a temporary name and renames, so that a folder with its final name is complete."""
    made_by = [Path(__file__), Path(__file__).with_name("requirements.txt"), *scripts]
    version = hashlib.sha256(b"".join(path.read_bytes() for path in made_by)).hexdigest()
    stamp = folder / ".version"
    if stamp.is_file() and stamp.read_text() == version:
        return
    print(f"generating {folder}", flush=True)
    staging = folder.with_name(folder.name + ".staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write(staging)
    (staging / ".version").write_text(version)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)


def tpc(folder, suite, generate, parameters):
    import duckdb

    package = Path(importlib.util.find_spec(f"duckdb_extension_{suite}").origin).parent
    extension = package / "extensions" / f"v{duckdb.__version__}" / f"{suite}.duckdb_extension"
    db = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    db.execute(f"LOAD '{extension}'")
    db.execute(generate)
    for (table,) in db.execute("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall():
        write_table(db, table, folder / "tables" / table)
    queries = folder / "queries"
    queries.mkdir()
    for number, text in db.execute(f"SELECT query_nr, query FROM {suite}_queries() ORDER BY 1").fetchall():
        text = rewrite(number, text, parameters)
        text = rewrite(number, text, [row[1:] for row in DIALECT if row[0] == suite])
        (queries / f"q{number:02}.sql").write_text(text.strip().rstrip(";").rstrip() + "\n")


def write_table(db, table, folder):
    folder.mkdir(parents=True)
    (rows,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    files = max(1, min(MAX_FILES, math.ceil(rows / ROWS_PER_FILE)))
    step = math.ceil(rows / files) or 1
    for part in range(files):
        db.execute(
            f"COPY (SELECT * FROM {table} WHERE rowid >= {part * step} AND rowid < {(part + 1) * step}) TO '{folder}/part-{part}.parquet' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS_PER_ROW_GROUP})"
        )


def rewrite(number, text, edits):
    for query, old, new, why in edits:
        if query == number:
            if old not in text:
                sys.exit(f"query {number} does not contain `{old}` ({why}): the list in {__file__} is out of date")
            text = text.replace(old, new)
    return text


def avro(folder):
    """Nobody but a real Avro writer should say what an Avro file looks like; the engine only reads them."""
    import fastavro

    schema = fastavro.parse_schema(
        {
            "type": "record",
            "name": "Reading",
            "fields": [
                {"name": "id", "type": "long"},
                {"name": "station", "type": ["null", "string"]},
                {"name": "celsius", "type": "double"},
                {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
                {"name": "valid", "type": "boolean"},
                {"name": "flags", "type": {"type": "array", "items": "string"}},
            ],
        }
    )
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)

    def reading(i):
        return {
            "id": i,
            "station": None if i % 10 == 0 else f"Zürich {i % 7}",
            "celsius": (i % 400) / 8 - 20,
            "at": start + datetime.timedelta(minutes=10 * i),
            "valid": i % 3 != 0,
            "flags": ["a", "b", "c"][: i % 4],
        }

    readings = folder / "readings"
    readings.mkdir(parents=True)
    for part, codec in enumerate(["null", "deflate"]):
        with open(readings / f"{part}.avro", "wb") as out:
            fastavro.writer(out, schema, [reading(i) for i in range(part * 1500, (part + 1) * 1500)], codec=codec, sync_interval=8192)


if __name__ == "__main__":
    main()

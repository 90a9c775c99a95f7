"""The same rows in files of many kinds, each of which some reader of its format has got wrong: no statistics, statistics without NaN,
columns in another order, line ends inside quotes, partition values spelled otherwise, files that are none of the table's.

`truth.parquet` has the rows as they are; each other folder is a table that must read like it. Numbers with fractions are multiples of a
quarter, so that sums are exact in any order.
"""

import datetime
import decimal
import json
import math
import random
import urllib.parse

import pyarrow
import pyarrow.parquet

TEXTS = ["", "c", "e4", "70", "a87f", "NULL", " ", "two\nlines", 'a "quoted", text', "é", "x\r\ny", "7,8\n9", "\\N", "nan"]
DAYS = ["0001-01-01", "1582-10-15", "1969-12-31", "1970-01-01", "2013-02-28", "2013-06-05", "2013-06-06", "2024-02-29", "9999-12-31"]
SCHEMA = pyarrow.schema(
    [
        ("k", pyarrow.int32()),
        ("n", pyarrow.int64()),
        ("s", pyarrow.string()),
        ("d", pyarrow.date32()),
        ("m", pyarrow.decimal128(12, 2)),
        ("f", pyarrow.float64()),
        ("b", pyarrow.bool_()),
    ]
)


def rows():
    chance = random.Random(7)

    def some(value, nulls=8):
        return None if chance.randrange(100) < nulls else value

    for number in range(230):
        quarter = chance.randrange(-40, 400)
        yield {
            "k": some(chance.choice([-3, 0, 1, 2, 3, 5, 7, 11, 13, 20])),
            "n": some(chance.choice([number, 0, -1, 2**53 + 1, -(2**53) - 1, chance.randrange(-300, 700)])),
            "s": some(chance.choice(TEXTS)),
            "d": some(datetime.date.fromisoformat(chance.choice(DAYS))),
            "m": some(quarter),
            "f": some(chance.choice([math.nan, 0.0, -0.0, quarter / 4, chance.randrange(64) / 4, 1.0])),
            "b": some(chance.random() < 0.5, 20),
        }


def table(of):
    columns = {name: [row[name] for row in of] for name in SCHEMA.names}
    columns["m"] = [None if value is None else decimal.Decimal(value) / 4 for value in columns["m"]]
    return pyarrow.table(columns, schema=SCHEMA)


def text(name, value):
    if value is None:
        return ""
    if name == "m":
        return f"{value / 4:.2f}"
    if name == "b":
        return "true" if value else "false"
    if name == "f" and math.isnan(value):
        return "NaN"
    return str(value)


def quoted(value):
    """As PostgreSQL and Spark write it: an empty text has quotes, NULL has none."""
    return '"' + value.replace('"', '""') + '"'


def write_csv(path, names, of, always):
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(",".join(names) + "\n")
        for row in of:
            cells = []
            for name in names:
                cell = text(name, row[name])
                plain = name != "s" and not always or row[name] is None
                cells.append(cell if plain else quoted(cell))
            file.write(",".join(cells) + "\n")


def thirds(of):
    return of[:90], of[90:150], of[150:]


def write(folder):
    of = list(rows())
    pyarrow.parquet.write_table(table(of), folder / "truth.parquet")

    def new(name):
        (folder / name).mkdir()
        return folder / name

    for name, options in [
        ("bare", {"write_statistics": False}),
        ("bounds", {"row_group_size": 16}),
        ("pages", {"write_page_index": True, "data_page_size": 64, "write_batch_size": 8}),
    ]:
        at = new(name)
        for part, some in enumerate(thirds(of)):
            pyarrow.parquet.write_table(table(some), at / f"{part}.parquet", **options)
    # One file with bounds, one without, one with its columns in another order and another width; sorted by what filters ask for.
    at = new("drifted")
    first, second, third = thirds(of)
    pyarrow.parquet.write_table(table(sorted(first, key=lambda row: (row["n"] is None, row["n"]))), at / "0.parquet", row_group_size=8)
    pyarrow.parquet.write_table(table(second), at / "1.parquet", write_statistics=False)
    narrow = table(third).select(["b", "f", "m", "d", "s", "n", "k"])
    narrow = narrow.set_column(2, "m", narrow["m"].cast(pyarrow.decimal128(20, 4)))
    narrow = narrow.set_column(6, "k", narrow["k"].cast(pyarrow.int64()))
    pyarrow.parquet.write_table(narrow, at / "2.parquet", row_group_size=8)

    at = new("lines")
    write_csv(at / "0.csv", SCHEMA.names, first, always=False)
    write_csv(at / "1.csv", ["s", "k", "d", "f", "m", "b", "n"], second, always=False)
    write_csv(at / "2.csv", SCHEMA.names[::-1], third, always=True)

    # Files that are none of the table's lie in its folders.
    at = new("folders")
    for key in {row["k"] for row in of}:
        # One is spelled with a leading zero.
        spelled = "__HIVE_DEFAULT_PARTITION__" if key is None else {7: "07"}.get(key, str(key))
        part = at / f"k={spelled}"
        part.mkdir()
        pyarrow.parquet.write_table(table([row for row in of if row["k"] == key]).drop(["k"]), part / "a.parquet", row_group_size=5)
        (part / "_SUCCESS").write_text("")
        (part / ".a.parquet.crc").write_text("not a table")
    (at / "_temporary" / "0").mkdir(parents=True)
    (at / "_temporary" / "0" / "b.parquet").write_text("half")
    (at / ".b.parquet").write_text("half")

    at = new("named")
    for key in {row["s"] for row in of if row["s"] != ""}:
        part = at / ("s=" + ("__HIVE_DEFAULT_PARTITION__" if key is None else urllib.parse.quote(key, safe=" ")))
        part.mkdir()
        pyarrow.parquet.write_table(table([row for row in of if row["s"] == key]).drop(["s"]), part / "a.parquet")

    at = new("objects")
    for part, some in enumerate(thirds(of)):
        with open(at / f"{part}.json", "w", encoding="utf-8") as file:
            for row in some:
                if row["f"] is not None and math.isnan(row["f"]):
                    continue
                plain = {name: row[name] for name in (SCHEMA.names if part else SCHEMA.names[::-1]) if row[name] is not None or part}
                if plain.get("d"):
                    plain["d"] = str(row["d"])
                if plain.get("m") is not None:
                    plain["m"] = row["m"] / 4
                file.write(json.dumps(plain) + "\n")

"""Folders with values in their names, as other programs write them and spell them."""

import pyarrow as pa
import pyarrow.parquet as pq


def write(folder):
    def parquet(name, columns):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    # NULL, of whatever type the column is said to be.
    for name, number in [("k=__HIVE_DEFAULT_PARTITION__", 1), ("k=5", 2), ("k=0", 3)]:
        parquet(f"null/{name}/a.parquet", {"id": [number]})
    # The same numbers, truths and decimals, spelt in other ways; the key too.
    for number, name in enumerate(["k=07", "k=7", "K=8", "k=+7"]):
        parquet(f"spelt/int/{name}/a.parquet", {"id": [number]})
    for number, name in enumerate(["b=True", "b=true", "b=FALSE", "b=0"]):
        parquet(f"spelt/bool/{name}/a.parquet", {"id": [number]})
    for number, name in enumerate(["d=1.5", "d=1.50", "d=01.5", "d=2"]):
        parquet(f"spelt/decimal/{name}/a.parquet", {"id": [number]})
    # Two levels, of which a filter may know either.
    for year in ["2023", "2024"]:
        for month in ["1", "01", "12"]:
            parquet(f"months/year={year}/month={month}/a.parquet", {"id": [int(year) * 100 + int(month)]})
    # What is no number, what lies in no folder, and what nobody is meant to read.
    parquet("odd/text/k=five/a.parquet", {"id": [1]})
    parquet("odd/text/k=5/a.parquet", {"id": [2]})
    parquet("odd/beside/k=5/a.parquet", {"id": [1]})
    parquet("odd/beside/a.parquet", {"id": [2]})
    parquet("odd/hidden/k=5/a.parquet", {"id": [1]})
    parquet("odd/hidden/k=5/_b.parquet", {"id": [2]})
    parquet("odd/hidden/_temporary/0/k=5/a.parquet", {"id": [3]})
    parquet("odd/hidden/.staging/a.parquet", {"id": [4]})
    # As Spark encodes and does not encode.
    for number, name in enumerate(["k=a%3Ab", "k=a b", "k=a%20b", "k=100%25", "k=a%2Fb", "k=caf%C3%A9"]):
        parquet(f"encoded/{name}/a.parquet", {"id": [number]})
    # The column is in the file as well, with other values.
    parquet("both/y=2001/a.parquet", {"id": [1], "y": [9999]})
    parquet("both/y=2002/a.parquet", {"y": [1, 1], "id": [2, 3]})
    # A folder without a row.
    parquet("empty/k=9/a.parquet", {"id": pa.array([], pa.int64())})
    parquet("empty/k=5/a.parquet", {"id": [1]})

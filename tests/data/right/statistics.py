"""Parquet files whose statistics do not tell all: NaN that bounds leave out, no bounds at all, files of one table with other types."""

import datetime as dt
import decimal
import struct

import pyarrow as pa
import pyarrow.parquet as pq

NAN = float("nan")
# As 0.0 / 0.0 gives it: with the sign set.
NEGATIVE_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000000))[0]


def write(folder):
    def parquet(name, columns, **options):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, path, **options)

    # Row 2 is NaN.
    parquet("nan/three/a.parquet", {"id": [1, 2, 3], "x": [1.0, NAN, 2.0]})
    parquet("nan/two/a.parquet", {"id": [1, 2], "x": [1.0, NAN]})
    # In each file and row group numbers of their own, and one NaN (or two) in the second and the last file.
    for file in range(4):
        ids = list(range(file * 100, file * 100 + 100))
        xs = [NAN if id in (150, 310, 399) else float(id) for id in ids]
        columns = {
            "id": ids,
            "x": xs,
            "f": pa.array(xs, pa.float32()),
            "s": pa.array([{"x": x} for x in xs]),
            "l": pa.array([[x] for x in xs]),
        }
        parquet(f"nan/files/{file}.parquet", columns, row_group_size=20, write_page_index=True, data_page_size=64)
    # Both zeros, and what a division of zeros gives.
    parquet("nan/zeros/a.parquet", {"id": [1, 2, 3], "x": [0.0, -0.0, 5.0]})
    parquet("nan/zeros/b.parquet", {"id": [4, 5], "x": [0.0, 0.0]})
    parquet("nan/only/a.parquet", {"id": [1, 2], "x": [NAN, NAN]})
    parquet("nan/only/b.parquet", {"id": [3, 4], "x": [None, NAN]})

    # One file without bounds, beside others that have some.
    parquet("bounds/1.parquet", {"id": [1, 2], "k": [10, 20], "s": ["a", "b"]})
    parquet("bounds/2.parquet", {"id": [3, 4], "k": [5, None], "s": ["z", None]}, write_statistics=False)
    parquet("bounds/3.parquet", {"id": [5], "k": [30], "s": ["c"]})
    # Text that is longer than the bounds of it may be.
    long = ["m" * 300 + end for end in ("a", "b", "z")]
    parquet("long/a.parquet", {"id": [1, 2, 3], "s": long}, write_page_index=True)
    # All of a column is one value, which looks like a constant.
    parquet("constant/a.parquet", {"id": [1, 2], "x": [1.5, 1.5], "n": pa.array([None, None], pa.int64()), "k": [7, 7]})
    parquet("constant/b.parquet", {"id": [3, 4], "x": [1.5, NAN], "n": pa.array([None, 3], pa.int64()), "k": [7, 8]})

    # Said to be sorted, row group by row group, which the whole is not; and NULL at the end of the first of two files.
    by_id = [pq.SortingColumn(0)]
    parquet("sorted/groups/a.parquet", {"id": [5, 6, 1, 2, 3, 4]}, row_group_size=2, sorting_columns=by_id)
    parquet("sorted/nulls/1.parquet", {"id": pa.array([1, 2, None], pa.int64())}, sorting_columns=by_id)
    parquet("sorted/nulls/2.parquet", {"id": pa.array([3, 4], pa.int64())}, sorting_columns=by_id)
    parquet("sorted/nan/1.parquet", {"x": [2.0, 1.0, NAN]}, sorting_columns=[pq.SortingColumn(0, descending=True)])

    # The files of one table, whose types drifted.
    parquet("drifted/nested/1.parquet", {"id": [1], "s": pa.array([[{"a": 1}]])})
    parquet("drifted/nested/2.parquet", {"s": pa.array([[{"b": "x", "a": 2}, None], None]), "id": [2, 3]})
    d = decimal.Decimal
    parquet(
        "drifted/width/1.parquet",
        {"id": pa.array([1], pa.int32()), "d": pa.array([d("1.25")], pa.decimal128(10, 2))},
    )
    parquet(
        "drifted/width/2.parquet",
        {"id": pa.array([2**40], pa.int64()), "d": pa.array([d("2.5000")], pa.decimal128(12, 4)), "w": ["a"]},
    )
    # As text the largest number is 9, and as days the last one is not the largest number of seconds.
    day = dt.datetime(2024, 1, 31)
    parquet("drifted/text/1.parquet", {"n": ["9", "10"], "t": pa.array([day, day], pa.timestamp("s"))})
    parquet("drifted/text/2.parquet", {"n": pa.array([100, None], pa.int64()), "t": pa.array([day, None], pa.timestamp("us"))})
    parquet("drifted/none/1.parquet", {"id": [1], "s": ["a"]})
    pq.ParquetWriter(folder / "drifted/none/2.parquet", pa.schema([("id", pa.int64()), ("s", pa.string())])).close()
    parquet("drifted/case/1.parquet", {"Id": [1]})
    parquet("drifted/case/2.parquet", {"id": [2]})

    # A list with a NULL, one without, and who looks for what is not in them.
    parquet("not_in/o/1.parquet", {"id": [1, 2]})
    parquet("not_in/o/2.parquet", {"id": [3, None]})
    parquet("not_in/i/1.parquet", {"e": [2]})
    parquet("not_in/i/2.parquet", {"e": pa.array([None], pa.int64())})
    parquet("not_in/j/1.parquet", {"e": [12, 13]})
    for file in range(5):
        values = [v * 10 for v in range(file * 100_000, file * 100_000 + 100_000)]
        parquet(f"not_in/many/{file}.parquet", {"e": pa.array(values + ([None] if file == 4 else []), pa.int64())})

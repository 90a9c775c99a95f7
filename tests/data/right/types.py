"""Files of awkward times and types: years 1 and 9999, INT96, instants with a zone, small dictionaries, more folders than keys of 16 bits."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq


def write(folder):
    def parquet(name, columns, **options):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path, **options)

    ends = [dt.datetime(9999, 12, 31), dt.datetime(2024, 5, 1), dt.datetime(1, 1, 1)]
    for unit in ["s", "ms", "us"]:
        parquet(f"ends_{unit}/a.parquet", {"id": [1, 2, 3], "until": pa.array(ends, pa.timestamp(unit))})
    parquet(
        "validity/a.parquet",
        {
            "id": [1, 2],
            "first": pa.array([dt.date(1, 1, 1), dt.date(2024, 1, 2)], pa.date32()),
            "last": pa.array([dt.date(2024, 1, 1), dt.date(9999, 12, 31)], pa.date32()),
            "until": pa.array([dt.datetime(2024, 1, 1), dt.datetime(9999, 12, 31)], pa.timestamp("us")),
        },
    )
    int96 = [dt.datetime(1969, 12, 31, 23, 59, 59, 999999), dt.datetime(2024, 5, 1), dt.datetime(9999, 12, 31)]
    parquet("int96/a.parquet", {"id": [1, 2], "at": pa.array(int96[:2], pa.timestamp("us"))}, use_deprecated_int96_timestamps=True)
    # pyarrow has INT96 of nanoseconds only, so the last one is put into the page by hand: Julian day 5373484, no nanoseconds.
    far = folder / "int96_far/a.parquet"
    parquet("int96_far/a.parquet", {"id": [1], "at": pa.array(int96[1:2], pa.timestamp("us"))}, use_deprecated_int96_timestamps=True,
            use_dictionary=False, compression="none", write_statistics=False)
    bytes_of = far.read_bytes()
    julian = (2_440_588 + (dt.date(2024, 5, 1) - dt.date(1970, 1, 1)).days).to_bytes(4, "little")
    assert bytes_of.count(bytes(8) + julian) == 1
    far.write_bytes(bytes_of.replace(bytes(8) + julian, bytes(8) + (5_373_484).to_bytes(4, "little")))

    zoned = [dt.datetime(2024, 1, 16, 4, 30), dt.datetime(2024, 7, 16, 3, 30)]
    parquet("zoned/a.parquet", {"id": [1, 2], "at": pa.array(zoned, pa.timestamp("us", "UTC"))})
    small = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array(["a", "b"]))
    for part in range(3):
        words = pa.array([f"k{part * 100 + n}" for n in range(100)])
        keys = pa.array(range(100), pa.int8())
        parquet(f"dictionary/{part}.parquet", {"id": list(range(100)), "k": pa.DictionaryArray.from_arrays(keys, words)})
    parquet("nested_dictionary/a.parquet", {"id": [1, 2, 3], "s": pa.StructArray.from_arrays([small], ["d"])})

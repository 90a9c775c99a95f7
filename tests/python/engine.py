"""Another engine behind a pipe: engine.py duckdb [FOLDER] | postgres DSN | adbc URL

Reads statements, each behind its length (4 bytes, big endian), and answers each with a letter, a length and as many bytes: `R` and an
Arrow stream with the rows, or `E` and the text of the error. FOLDER holds the package of another version of DuckDB than the
environment's. Numbers of PostgreSQL come as text where Arrow has no type for them; the caller compares values, not types.
"""

import io
import struct
import sys


def duckdb(folder=None):
    if folder:
        sys.path.insert(0, folder)
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    # As PostgreSQL and the SQL of Windlass have it.
    connection.execute("set default_null_order = 'nulls_last_on_asc_first_on_desc'")
    connection.execute("set threads = 2")

    def run(sql):
        return connection.execute(sql).to_arrow_table()

    return run


def postgres(dsn):
    import psycopg
    import pyarrow

    connection = psycopg.connect(dsn, autocommit=True)
    kinds = {16: pyarrow.bool_(), 20: pyarrow.int64(), 21: pyarrow.int64(), 23: pyarrow.int64()}
    kinds |= {700: pyarrow.float64(), 701: pyarrow.float64(), 1082: pyarrow.date32(), 1114: pyarrow.timestamp("us")}

    def run(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            if cursor.description is None:
                return pyarrow.table({})
            rows = cursor.fetchall()
            columns = []
            for at, column in enumerate(cursor.description):
                values = [row[at] for row in rows]
                if kind := kinds.get(column.type_code):
                    columns.append(pyarrow.array(values, kind))
                elif column.type_code == 1700:
                    columns.append(numbers(pyarrow, values))
                else:
                    columns.append(pyarrow.array([None if value is None else str(value) for value in values], pyarrow.string()))
            names = [column.name for column in cursor.description]
            return pyarrow.Table.from_arrays(columns, names=[f"{name}#{at}" for at, name in enumerate(names)])

    return run


def numbers(pyarrow, values):
    try:
        return pyarrow.array(values, pyarrow.decimal256(76, 38))
    except (pyarrow.ArrowInvalid, ValueError, TypeError):
        # NaN, infinities, and what has more digits.
        return pyarrow.array([None if value is None else str(value) for value in values], pyarrow.string())


def adbc(url):
    from adbc_driver_flightsql import dbapi

    connection = dbapi.connect(url, autocommit=True)

    def run(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    return run


def main():
    kind, *arguments = sys.argv[1:]
    run = {"duckdb": duckdb, "postgres": postgres, "adbc": adbc}[kind](*arguments)
    import pyarrow

    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while head := requests.read(4):
        sql = requests.read(struct.unpack(">I", head)[0]).decode()
        try:
            table = run(sql)
            sink = io.BytesIO()
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            letter, body = b"R", sink.getvalue()
        except Exception as error:  # Whatever the engine says is its answer.
            letter, body = b"E", f"{type(error).__name__}: {error}".encode()
        answers.write(letter + struct.pack(">I", len(body)) + body)
        answers.flush()


main()

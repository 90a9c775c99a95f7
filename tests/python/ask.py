"""Asks one question as a stock client: ask.py URL SQL. Prints the rows, or fails with what the server said."""

import sys

import adbc_driver_flightsql.dbapi as flightsql

url, sql = sys.argv[1:]
with flightsql.connect(url) as connection, connection.cursor() as cursor:
    cursor.execute(sql)
    print(cursor.fetchall())

"""Statements that must fail, over stock ADBC: errors.py URL CASES

CASES is JSON: a list of [statements, words]; the last of the statements fails and its error has the words.
"""

import json
import sys

from adbc_driver_flightsql import dbapi

url, cases = sys.argv[1:]
with open(cases) as file:
    cases = json.load(file)
for statements, words in cases:
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements[:-1]:
            cursor.execute(statement)
        try:
            cursor.execute(statements[-1])
            cursor.fetchall()
        except dbapi.Error as error:
            missing = [word for word in words if word not in str(error)]
            assert not missing, f"{statements}: {missing} missing in: {error}"
        else:
            raise AssertionError(f"{statements} worked")
        cursor.execute("select 1")
        assert cursor.fetchall() == [(1,)]

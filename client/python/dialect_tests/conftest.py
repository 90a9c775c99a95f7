import re

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.testing import provision

for name in ("windlass", "windlass.windlass"):
    registry.register(name, "windlass.sqlalchemy", "WindlassDialect")
pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403


@provision.temp_table_keyword_args.for_db("windlass")
def _temporary(cfg, eng):
    return {"prefixes": ["TEMPORARY"]}


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def _emptied(connection, cursor, statement, parameters, context, executemany):
    """The tests empty their tables with DELETE, which Windlass does not have."""
    if table := re.fullmatch(r"DELETE FROM ((?:(?! WHERE ).)+)", statement):
        statement = f"INSERT OVERWRITE {table[1]} SELECT * FROM {table[1]} WHERE false"
    return statement, parameters

"""dbt's own tests of snapshots.

Without BaseSnapshotDbtValidToCurrent, which reads rows in the order in which they were written: TestNewRecordDbtValidToCurrent and TestValidToCurrent are
about the same option.
"""

import datetime

import pytest
from dbt.tests.adapter.simple_snapshot import new_record_dbt_valid_to_current
from dbt.tests.adapter.simple_snapshot.new_record_check_mode import BaseSnapshotNewRecordCheckMode
from dbt.tests.adapter.simple_snapshot.new_record_dbt_valid_to_current import BaseSnapshotNewRecordDbtValidToCurrent
from dbt.tests.adapter.simple_snapshot.new_record_timestamp_mode import BaseSnapshotNewRecordTimestampMode
from dbt.tests.adapter.simple_snapshot.test_ephemeral_snapshot_hard_deletes import BaseSnapshotEphemeralHardDeletes
from dbt.tests.adapter.simple_snapshot.test_snapshot import BaseSimpleSnapshot, BaseSnapshotCheck
from dbt.tests.adapter.simple_snapshot.test_various_configs import (
    BaseSnapshotColumnNames,
    BaseSnapshotColumnNamesFromDbtProject,
    BaseSnapshotInvalidColumnNames,
    BaseSnapshotMultiUniqueKey,
)
from dbt.tests.util import run_dbt


class TestSnapshot(BaseSimpleSnapshot):
    pass


class TestSnapshotCheck(BaseSnapshotCheck):
    pass


class TestNewRecordCheckMode(BaseSnapshotNewRecordCheckMode):
    pass


class TestNewRecordTimestampMode(BaseSnapshotNewRecordTimestampMode):
    pass


class TestNewRecordDbtValidToCurrent(BaseSnapshotNewRecordDbtValidToCurrent):
    @pytest.fixture(scope="class")
    def models(self):
        # There is no function date(), and timestamps with nanoseconds end in 2262.
        config = new_record_dbt_valid_to_current._snapshots_yml
        return {"snapshots.yml": config.replace("date('9999-12-31')", "cast('2200-01-01' as timestamp)")}


class TestEphemeralHardDeletes(BaseSnapshotEphemeralHardDeletes):
    pass


class TestColumnNames(BaseSnapshotColumnNames):
    pass


class TestColumnNamesFromDbtProject(BaseSnapshotColumnNamesFromDbtProject):
    pass


class TestInvalidColumnNames(BaseSnapshotInvalidColumnNames):
    pass


class TestMultiUniqueKey(BaseSnapshotMultiUniqueKey):
    pass


SNAPSHOT = """
snapshots:
  - name: words_over_time
    relation: ref('words')
    config:
      unique_key: id
      strategy: check
      check_cols: all
      hard_deletes: "{{ 'invalidate' if var('deletes') else 'ignore' }}"
      dbt_valid_to_current: "cast('2200-01-01' as timestamp)"
"""
WORDS = """
{{ config(materialized='table') }}
select * from (values {{ var('rows') }}) as t(id, word)
"""


class TestValidToCurrent:
    @pytest.fixture(scope="class")
    def models(self):
        return {"words.sql": WORDS}

    @pytest.fixture(scope="class")
    def snapshots(self):
        return {"snapshots.yml": SNAPSHOT}

    def test_rows_that_are_valid_have_the_given_end(self, project):
        for rows in ["(1, 'a'), (2, 'b')", "(1, 'a'), (2, 'c'), (3, 'd')", "(2, 'c'), (3, 'd')"]:
            run_dbt(["build", "--vars", f'{{rows: "{rows}", deletes: true}}'])
        rows = project.run_sql(
            "select id, word, dbt_valid_to from {schema}.words_over_time order by id, dbt_valid_from", fetch="all"
        )
        forever = datetime.datetime(2200, 1, 1)
        assert [(id, word, end == forever) for id, word, end in rows] == [
            (1, "a", False),
            (2, "b", False),
            (2, "c", True),
            (3, "d", True),
        ]

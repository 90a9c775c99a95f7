"""dbt's own tests of incremental models, for each strategy."""

import pytest
from dbt.tests.adapter.incremental.test_incremental_merge_exclude_columns import BaseMergeExcludeColumns
from dbt.tests.adapter.incremental.test_incremental_microbatch import BaseMicrobatch
from dbt.tests.adapter.incremental.test_incremental_on_schema_change import BaseIncrementalOnSchemaChange
from dbt.tests.adapter.incremental.test_incremental_predicates import BaseIncrementalPredicates
from dbt.tests.adapter.incremental.test_incremental_unique_id import BaseIncrementalUniqueKey
from dbt.tests.util import run_dbt


class TestUniqueKey(BaseIncrementalUniqueKey):
    pass


class TestUniqueKeyMerge(BaseIncrementalUniqueKey):
    @pytest.fixture(scope="class")
    def project_config_update(self):
        return {"models": {"+incremental_strategy": "merge"}}


class TestPredicates(BaseIncrementalPredicates):
    pass


class TestPredicatesMerge(BaseIncrementalPredicates):
    @pytest.fixture(scope="class")
    def project_config_update(self):
        return {"models": {"+incremental_predicates": ["dbt_internal_dest.id != 2"], "+incremental_strategy": "merge"}}


class TestMergeExcludeColumns(BaseMergeExcludeColumns):
    @pytest.fixture(scope="class")
    def project_config_update(self):
        return {"models": {"+incremental_strategy": "merge"}}


class TestMicrobatch(BaseMicrobatch):
    pass


class TestOnSchemaChange(BaseIncrementalOnSchemaChange):
    pass


OLD_AND_NEW = """
{{ config(materialized='incremental', unique_key='id', incremental_strategy=var('strategy')) }}
{% if is_incremental() %}
select * from (values (1, 'new'), (1, 'newer'), (3, 'new')) as t(id, word)
{% else %}
select * from (values (1, 'old'), (2, repeat('long ', 100))) as t(id, word)
{% endif %}
"""


class TestSeveralRowsWithOneKey:
    """MERGE is an error where it has two new rows for an old one. Then the table stays as it was."""

    @pytest.fixture(scope="class")
    def models(self):
        return {"words.sql": OLD_AND_NEW}

    def run(self, strategy, expect_pass=True):
        return run_dbt(["run", "--vars", f"strategy: {strategy}"], expect_pass=expect_pass)

    def rows(self, project):
        return project.run_sql("select id, word from {schema}.words order by id, word", fetch="all")

    def test_merge_refuses_them(self, project):
        self.run("merge")
        results = self.run("merge", expect_pass=False)
        assert "several rows with the key (id) = (1)" in results[0].message
        assert self.rows(project) == [(1, "old"), (2, "long " * 100)]
        self.run("delete+insert")
        assert self.rows(project) == [(1, "new"), (1, "newer"), (2, "long " * 100), (3, "new")]

"""dbt's own tests of models, seeds, contracts and commands.

Without those that compare with the text of PostgreSQL's statements (BaseEphemeralMulti, BaseEphemeralNested, BaseConstraintsRuntimeDdlEnforcement), need a
connection with PostgreSQL (BaseSimpleCopyUppercase), read a file that does not come with the tests (BaseSimpleSeedWithBOM), or write into a log table with
UPDATE in hooks (test_model_hooks, test_run_hooks); and without what Windlass does not have: grants, comments (persist_docs), materialized views, clones
of tables, functions in SQL (test_udfs), models in Python, constraints besides NOT NULL.
"""

import pytest
from dbt.tests.adapter.aliases.test_aliases import BaseAliases, BaseAliasErrors, BaseSameAliasDifferentSchemas
from dbt.tests.adapter.caching.test_caching import (
    BaseCachingLowercaseModel,
    BaseCachingSelectedSchemaOnly,
    BaseCachingUppercaseModel,
    BaseNoPopulateCache,
)
from dbt.tests.adapter.concurrency.test_concurrency import BaseConcurrency
from dbt.tests.adapter.constraints.test_constraints import (
    BaseIncrementalConstraintsColumnsEqual,
    BaseTableConstraintsColumnsEqual,
    BaseViewConstraintsColumnsEqual,
)
from dbt.tests.adapter.dbt_show.test_dbt_show import BaseShowDoesNotHandleDoubleLimit, BaseShowLimit, BaseShowSqlHeader
from dbt.tests.adapter.empty.test_empty import BaseTestEmpty, BaseTestEmptyInlineSourceRef
from dbt.tests.adapter.ephemeral.test_ephemeral import BaseEphemeralErrorHandling
from dbt.tests.adapter.query_comment.test_query_comment import BaseEmptyQueryComments, BaseMacroQueryComments, BaseQueryComments
from dbt.tests.adapter.relations.test_changing_relation_type import BaseChangeRelationTypeValidator
from dbt.tests.adapter.relations.test_dropping_schema_named import BaseDropSchemaNamed
from dbt.tests.adapter.simple_seed.test_seed import (
    BaseBasicSeedTests,
    BaseSeedConfigFullRefreshOff,
    BaseSeedConfigFullRefreshOn,
    BaseSeedCustomSchema,
    BaseSeedParsing,
    BaseSeedSpecificFormats,
    BaseSeedWithUniqueDelimiter,
    BaseSimpleSeedEnabledViaConfig,
    BaseTestEmptySeed,
)
from dbt.tests.adapter.store_test_failures_tests.basic import StoreTestFailuresAsInteractions
from dbt.tests.adapter.unit_testing.test_case_insensitivity import BaseUnitTestCaseInsensivity
from dbt.tests.adapter.unit_testing.test_invalid_input import BaseUnitTestInvalidInput
from dbt.tests.adapter.unit_testing.test_types import BaseUnitTestingTypes
from dbt.tests.util import run_dbt


class TestContractOfWords:
    """Columns whose names are words of SQL. Those of the model itself are quoted where the parser wants it."""

    @pytest.fixture(scope="class")
    def models(self):
        columns = "".join(f"      - {{name: {name}, data_type: bigint, constraints: [{{type: not_null}}]}}\n" for name in ("key", "index", "end"))
        return {
            "words.sql": "select 1 as a, 2 as key, 3 as index, 4 as end",
            "words.yml": "models:\n  - name: words\n    config: {materialized: table, contract: {enforced: true}}\n    columns:\n"
            "      - {name: a, data_type: bigint}\n" + columns,
        }

    def test_words(self, project):
        assert [result.status for result in run_dbt(["run"])] == ["success"]
        assert project.run_sql(f'select a, "key", "index", "end" from {project.test_schema}.words', fetch="one") == (1, 2, 3, 4)


class TestAliases(BaseAliases):
    pass


class TestAliasErrors(BaseAliasErrors):
    pass


class TestSameAliasDifferentSchemas(BaseSameAliasDifferentSchemas):
    pass


class TestCachingLowercaseModel(BaseCachingLowercaseModel):
    pass


class TestCachingUppercaseModel(BaseCachingUppercaseModel):
    pass


class TestCachingSelectedSchemaOnly(BaseCachingSelectedSchemaOnly):
    pass


class TestNoPopulateCache(BaseNoPopulateCache):
    pass


class TestConcurrency(BaseConcurrency):
    pass


class Types:
    @pytest.fixture
    def string_type(self):
        return "varchar"

    @pytest.fixture
    def int_type(self):
        return "int"

    @pytest.fixture
    def data_types(self):
        return [
            ["cast(1 as int)", "int", "int"],
            ["1", "bigint", "bigint"],
            ["'1'", "varchar", "varchar"],
            ["true", "boolean", "boolean"],
            ["'2013-11-03 00:00:00-07'::timestamptz", "timestamptz", "timestamptz"],
            ["'2013-11-03 00:00:00'::timestamp", "timestamp", "timestamp"],
            ["ARRAY['a','b','c']", "varchar[]", "varchar[]"],
            ["ARRAY[1,2,3]", "bigint[]", "bigint[]"],
            ["'1'::decimal(10,2)", "decimal(10,2)", "decimal(10,2)"],
        ]


class TestTableConstraintsColumnsEqual(Types, BaseTableConstraintsColumnsEqual):
    pass


class TestViewConstraintsColumnsEqual(Types, BaseViewConstraintsColumnsEqual):
    pass


class TestIncrementalConstraintsColumnsEqual(Types, BaseIncrementalConstraintsColumnsEqual):
    pass


class TestShowLimit(BaseShowLimit):
    pass


class TestShowSqlHeader(BaseShowSqlHeader):
    pass


class TestShowDoesNotHandleDoubleLimit(BaseShowDoesNotHandleDoubleLimit):
    DATABASE_ERROR_MESSAGE = "expected: end of statement, found: limit"


class TestEmptyFlag(BaseTestEmpty):
    pass


class TestEmptyInlineSourceRef(BaseTestEmptyInlineSourceRef):
    pass


class TestEphemeralErrorHandling(BaseEphemeralErrorHandling):
    pass


class TestQueryComments(BaseQueryComments):
    pass


class TestMacroQueryComments(BaseMacroQueryComments):
    pass


class TestEmptyQueryComments(BaseEmptyQueryComments):
    pass


class TestChangeRelationType(BaseChangeRelationTypeValidator):
    pass


class TestDropSchemaNamed(BaseDropSchemaNamed):
    pass


class ViewsStay:
    """A table that is dropped leaves the views that read it, and they read the next one."""

    def _check_relation_end_state(self, run_result, project, exists):
        super()._check_relation_end_state(run_result, project, exists=True)


class TestBasicSeeds(ViewsStay, BaseBasicSeedTests):
    pass


class TestSeedConfigFullRefreshOn(ViewsStay, BaseSeedConfigFullRefreshOn):
    pass


class TestSeedConfigFullRefreshOff(BaseSeedConfigFullRefreshOff):
    pass


class TestSeedCustomSchema(BaseSeedCustomSchema):
    pass


class TestSeedParsing(BaseSeedParsing):
    pass


class TestSeedSpecificFormats(BaseSeedSpecificFormats):
    pass


class TestSeedWithUniqueDelimiter(BaseSeedWithUniqueDelimiter):
    pass


class TestSeedEnabledViaConfig(BaseSimpleSeedEnabledViaConfig):
    pass


class TestEmptySeed(BaseTestEmptySeed):
    pass


class TestStoreTestFailures(StoreTestFailuresAsInteractions):
    pass


class TestUnitTestCaseInsensitivity(BaseUnitTestCaseInsensivity):
    pass


class TestUnitTestInvalidInput(BaseUnitTestInvalidInput):
    pass


class TestUnitTestingTypes(BaseUnitTestingTypes):
    @pytest.fixture
    def data_types(self):
        return [
            ["1", "1"],
            ["2.0", "2.0"],
            ["'12345'", "12345"],
            ["'string'", "string"],
            ["true", "true"],
            ["DATE '2020-01-02'", "2020-01-02"],
            ["TIMESTAMP '2013-11-03 00:00:00-0'", "2013-11-03 00:00:00-0"],
            ["'2013-11-03 00:00:00'::timestamp with time zone", "2013-11-03 00:00:00+00"],
            ["'3'::numeric(10, 2)", "3"],
        ]

"""What the dialect has of what SQLAlchemy's tests of dialects ask for."""

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements


def _each(names, requirement):
    return {name: property(lambda self: requirement()) for name in names.split()}


class Requirements(SuiteRequirements):
    # Keys and other constraints besides NOT NULL are left out of CREATE TABLE. There are no indexes.
    locals().update(
        _each(
            """index_reflection reflect_indexes_with_expressions indexes_with_expressions index_ddl_if_exists primary_key_constraint_reflection
            foreign_key_constraint_reflection unique_constraint_reflection
            reflects_pk_names implicitly_named_constraints foreign_key_constraint_name_reflection temp_table_reflect_indexes
            unique_index_reflect_as_unique_constraints""",
            exclusions.closed,
        )
    )
    # Values of keys are given.
    locals().update(
        _each(
            """autoincrement_insert autoincrement_without_sequence implements_get_lastrowid dbapi_lastrowid identity_columns
            insert_executemany_returning insert_returning empty_inserts""",
            exclusions.closed,
        )
    )
    # There are no UPDATE and DELETE, and no COLLATE. LIKE knows the backslash alone.
    locals().update(
        _each("update_nowait delete_from update_from order_by_collation sane_rowcount like_escapes", exclusions.closed)
    )
    locals().update(
        _each(
            """schemas schema_reflection views view_reflection view_column_reflection temporary_tables temp_table_reflection temp_table_names table_reflection
            intersect except_ window_functions ctes regexp_match datetime_microseconds timestamp_microseconds time_microseconds
            precision_numerics_general unicode_data unicode_ddl bound_limit_offset
            offset sql_expression_limit_offset nullable_booleans boolean_col_expressions""",
            exclusions.open,
        )
    )

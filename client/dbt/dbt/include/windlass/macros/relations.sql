{# Schemas, tables and views. A statement is committed by itself, so what must not be seen half done is one statement. #}

{% macro windlass__list_schemas(database) -%}
  {{ return(run_query("select schema_name from information_schema.schemata where catalog_name = '" ~ escape_single_quotes(database) ~ "'")) }}
{%- endmacro %}

{% macro windlass__check_schema_exists(information_schema, schema) -%}
  {% set sql -%}
    select count(*) from information_schema.schemata
    where catalog_name = '{{ escape_single_quotes(information_schema.database) }}' and schema_name = '{{ escape_single_quotes(schema) }}'
  {%- endset %}
  {{ return(run_query(sql)) }}
{%- endmacro %}

{% macro windlass__get_columns_in_relation(relation) -%}
  {{ return(adapter.get_columns_in_relation(relation)) }}
{%- endmacro %}

{% macro windlass__create_table_as(temporary, relation, sql) -%}
  {% do windlass__run_header() %}
  create or replace {% if temporary %}temporary {% endif %}table {{ relation.include(database=not temporary, schema=not temporary) }}
  {%- if config.get('contract').enforced and not temporary %}
    {{ get_assert_columns_equivalent(sql) }}
    {{ get_table_columns_and_constraints() }}
    {%- set sql = get_select_subquery(sql) %}
  {%- endif %}
  as (
    {{ sql }}
  )
{%- endmacro %}

{# The columns of a contract, which the query of a model is read for. #}
{% macro windlass__get_column_names() -%}
  {% for name in model['columns'] -%}
    {{ adapter.column_name(model['columns'][name]) }}{{ ', ' if not loop.last }}
  {%- endfor %}
{%- endmacro %}

{% macro windlass__create_view_as(relation, sql) -%}
  {% do windlass__run_header() %}
  create or replace view {{ relation }}
  {%- if config.get('contract').enforced %}
    {{ get_assert_columns_equivalent(sql) }}
  {%- endif %}
  as (
    {{ sql }}
  )
{%- endmacro %}

{# Runs the statement before a model, such as SET. A text has one statement. #}
{% macro windlass__run_header() -%}
  {% set header = config.get('sql_header') %}
  {% if header %}
    {% do run_query(header) %}
  {% endif %}
{%- endmacro %}

{% macro windlass__drop_table(relation) -%}
  drop table if exists {{ relation }}
{%- endmacro %}

{% macro windlass__drop_view(relation) -%}
  drop view if exists {{ relation }}
{%- endmacro %}

{% macro windlass__rename_relation(from_relation, to_relation) -%}
  {% call statement('rename_relation') -%}
    alter table {{ from_relation }} rename to {{ to_relation }}
  {%- endcall %}
{%- endmacro %}

{% macro windlass__truncate_relation(relation) -%}
  {% call statement('truncate_relation') -%}
    insert overwrite {{ relation }} select * from {{ relation }} where false
  {%- endcall %}
{%- endmacro %}

{% macro windlass__make_temp_relation(base_relation, suffix) -%}
  {% set temp = default__make_temp_relation(base_relation, suffix) %}
  {{ return(temp.include(database=false, schema=false)) }}
{%- endmacro %}

{# There is no ALTER TABLE of columns: the table is written anew. #}
{% macro windlass__alter_relation_add_remove_columns(relation, add_columns, remove_columns) -%}
  {% set removed = (remove_columns or []) | map(attribute='name') | list %}
  {% set kept = adapter.get_columns_in_relation(relation) | rejectattr('name', 'in', removed) | list %}
  {% set columns = kept | map(attribute='quoted') | list %}
  {% for column in add_columns or [] %}
    {% do columns.append('cast(null as ' ~ column.data_type ~ ') as ' ~ column.quoted) %}
  {% endfor %}
  {% do run_query('create or replace table ' ~ relation ~ ' as select ' ~ columns | join(', ') ~ ' from ' ~ relation) %}
{%- endmacro %}

{% macro windlass__create_columns(relation, columns) -%}
  {% if columns %}
    {% do windlass__alter_relation_add_remove_columns(relation, columns, []) %}
  {% endif %}
{%- endmacro %}

{% macro windlass__alter_column_type(relation, column_name, new_column_type) -%}
  {% set columns = [] %}
  {% for column in adapter.get_columns_in_relation(relation) %}
    {% if column.name == column_name %}
      {% do columns.append('cast(' ~ column.quoted ~ ' as ' ~ new_column_type ~ ') as ' ~ column.quoted) %}
    {% else %}
      {% do columns.append(column.quoted) %}
    {% endif %}
  {% endfor %}
  {% do run_query('create or replace table ' ~ relation ~ ' as select ' ~ columns | join(', ') ~ ' from ' ~ relation) %}
{%- endmacro %}

{% macro windlass__apply_grants(relation, grant_config, should_revoke=True) -%}
  {% if grant_config %}
    {{ exceptions.raise_compiler_error("Windlass has no users and rights, so 'grants' of " ~ relation ~ " cannot be set: remove them") }}
  {% endif %}
{%- endmacro %}

{% macro windlass__alter_relation_comment(relation, comment) -%}
  {{ exceptions.raise_compiler_error("Windlass keeps no comments: remove 'persist_docs' of " ~ relation ~ "; the pages of 'dbt docs' have the descriptions") }}
{%- endmacro %}

{% macro windlass__alter_column_comment(relation, column_dict) -%}
  {{ windlass__alter_relation_comment(relation, none) }}
{%- endmacro %}

{% macro windlass__current_timestamp() -%}
  now()
{%- endmacro %}

{% macro windlass__snapshot_string_as_time(timestamp) -%}
  {{ return("cast('" ~ timestamp ~ "' as timestamp)") }}
{%- endmacro %}

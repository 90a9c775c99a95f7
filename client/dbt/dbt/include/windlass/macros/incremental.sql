{# Strategies of incremental models. Tables have no UPDATE, DELETE or MERGE: all but `append` write the table anew, in one statement, from its old rows
   and the new ones. Readers see the one or the other. #}

{% macro windlass__get_incremental_default_sql(arg_dict) -%}
  {% if arg_dict['unique_key'] %}
    {{ return(get_incremental_delete_insert_sql(arg_dict)) }}
  {% else %}
    {{ return(get_incremental_append_sql(arg_dict)) }}
  {% endif %}
{%- endmacro %}

{% macro windlass__get_delete_insert_merge_sql(target, source, unique_key, dest_columns, incremental_predicates) -%}
  {% set columns = adapter.get_columns_in_relation(target) %}
  insert overwrite {{ target }}
  {%- if unique_key %}
    select {{ get_quoted_csv(columns | map(attribute='name')) }} from {{ target }} as DBT_INTERNAL_DEST
    where not coalesce(
      exists (select 1 from {{ source }} as DBT_INTERNAL_SOURCE where {{ windlass__keys_match(unique_key) }})
      {%- for predicate in incremental_predicates or [] %} and ({{ predicate }}){% endfor %}, false)
  {%- else %}
    select {{ get_quoted_csv(columns | map(attribute='name')) }} from {{ target }}
  {%- endif %}
    union all
    select {{ windlass__new_values(columns, dest_columns) }} from {{ source }}
{%- endmacro %}

{% macro windlass__get_merge_sql(target, source, unique_key, dest_columns, incremental_predicates=none) -%}
  {% set columns = adapter.get_columns_in_relation(target) %}
  {% set new = windlass__new_values(columns, dest_columns) %}
  insert overwrite {{ target }}
  {%- if unique_key %}
    {%- set condition = ([windlass__keys_match(unique_key)] + (incremental_predicates or [])) | join(') and (') %}
    {%- do windlass__check_merged_once(target, source, unique_key, condition) %}
    {%- set updated = [] %}
    {%- for name in get_merge_update_columns(config.get('merge_update_columns'), config.get('merge_exclude_columns'), dest_columns) %}
      {%- do updated.append(name | replace('"', '') | lower) %}
    {%- endfor %}
    select
    {%- for column in columns %}
      {% if column.name | lower in updated -%}
        case when DBT_INTERNAL_SOURCE.__dbt_matched then cast(DBT_INTERNAL_SOURCE.{{ column.quoted }} as {{ column.data_type }}) else DBT_INTERNAL_DEST.{{ column.quoted }} end
      {%- else -%}
        DBT_INTERNAL_DEST.{{ column.quoted }}
      {%- endif %} as {{ column.quoted }}{{ ',' if not loop.last }}
    {%- endfor %}
    from {{ target }} as DBT_INTERNAL_DEST
    left join (select *, true as __dbt_matched from {{ source }}) as DBT_INTERNAL_SOURCE on ({{ condition }})
    union all
    select {{ new }} from {{ source }} as DBT_INTERNAL_SOURCE
    where not exists (select 1 from {{ target }} as DBT_INTERNAL_DEST where ({{ condition }}))
  {%- else %}
    select {{ get_quoted_csv(columns | map(attribute='name')) }} from {{ target }}
    union all
    select {{ new }} from {{ source }}
  {%- endif %}
{%- endmacro %}

{% macro windlass__get_incremental_microbatch_sql(arg_dict) -%}
  {% set target, source = arg_dict['target_relation'], arg_dict['temp_relation'] %}
  {% set columns = adapter.get_columns_in_relation(target) %}
  {% set conditions = [] + (arg_dict['incremental_predicates'] or []) %}
  {% set time = 'DBT_INTERNAL_DEST.' ~ config.get('event_time') %}
  {% set start = model.config.get('__dbt_internal_microbatch_event_time_start') %}
  {% set end = model.config.get('__dbt_internal_microbatch_event_time_end') %}
  {% if start %}{% do conditions.append(time ~ " >= cast('" ~ start ~ "' as timestamp)") %}{% endif %}
  {% if end %}{% do conditions.append(time ~ " < cast('" ~ end ~ "' as timestamp)") %}{% endif %}
  {% set sql -%}
    insert overwrite {{ target }}
    select {{ get_quoted_csv(columns | map(attribute='name')) }} from {{ target }} as DBT_INTERNAL_DEST
    where not coalesce(({{ conditions | join(') and (') }}), false)
    union all
    select {{ windlass__new_values(columns, arg_dict['dest_columns']) }} from {{ source }}
  {%- endset %}
  {{ return(sql) }}
{%- endmacro %}

{# The condition that a new row has the key of an old one. NULL is no key. #}
{% macro windlass__keys_match(unique_key) -%}
  {% set keys = [unique_key] if unique_key is string else unique_key %}
  {% set conditions = [] %}
  {% for key in keys %}
    {% do conditions.append('DBT_INTERNAL_SOURCE.' ~ key ~ ' = DBT_INTERNAL_DEST.' ~ key) %}
  {% endfor %}
  {{ return(conditions | join(' and ')) }}
{%- endmacro %}

{# Values of the new rows for all columns of the table, in their types: UNION ALL would choose others. #}
{% macro windlass__new_values(columns, dest_columns) -%}
  {% set given = dest_columns | map(attribute='name') | list %}
  {% set values = [] %}
  {% for column in columns %}
    {% do values.append('cast(' ~ (column.quoted if column.name in given else 'null') ~ ' as ' ~ column.data_type ~ ')') %}
  {% endfor %}
  {{ return(values | join(', ')) }}
{%- endmacro %}

{# MERGE is an error where an old row has several new ones. #}
{% macro windlass__check_merged_once(target, source, unique_key, condition) -%}
  {% if execute %}
    {% set keys = ([unique_key] if unique_key is string else unique_key) | join(', ') %}
    {% set twice %}
      select {{ keys }} from {{ source }} as DBT_INTERNAL_SOURCE
      where exists (select 1 from {{ target }} as DBT_INTERNAL_DEST where ({{ condition }}))
      group by {{ keys }} having count(*) > 1 limit 1
    {% endset %}
    {% set found = run_query(twice) %}
    {% if found.rows | length > 0 %}
      {{ exceptions.raise_compiler_error(
        "the model has several rows with the key (" ~ keys ~ ") = (" ~ found.rows[0].values() | join(', ') ~ "), and " ~ target
        ~ " has a row with it: select one row a key, or use incremental_strategy='delete+insert'"
      ) }}
    {% endif %}
  {% endif %}
{%- endmacro %}

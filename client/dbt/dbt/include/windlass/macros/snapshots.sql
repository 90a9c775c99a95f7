{# Old rows whose validity ends, and new ones, in one statement. #}
{% macro windlass__snapshot_merge_sql(target, source, insert_cols) -%}
  {%- set names = config.get('snapshot_table_column_names') or get_snapshot_table_column_names() -%}
  {%- set columns = adapter.get_columns_in_relation(target) -%}
  {%- set inserted = [] -%}
  {%- for name in insert_cols -%}{%- do inserted.append(name | replace('"', '') | lower) -%}{%- endfor -%}
  {%- set current = config.get('dbt_valid_to_current') -%}
  insert overwrite {{ target.render() }}
  select
  {%- for column in columns %}
    {% if column.name | lower == names.dbt_valid_to | lower -%}
      case when DBT_INTERNAL_SOURCE.__dbt_ended then cast(DBT_INTERNAL_SOURCE.__dbt_end as {{ column.data_type }})
        else DBT_INTERNAL_DEST.{{ column.quoted }} end as {{ column.quoted }}
    {%- else -%}
      DBT_INTERNAL_DEST.{{ column.quoted }}
    {%- endif %}{{ ',' if not loop.last }}
  {%- endfor %}
  from {{ target.render() }} as DBT_INTERNAL_DEST
  left join (
    select {{ names.dbt_scd_id }} as __dbt_id, max({{ names.dbt_valid_to }}) as __dbt_end, true as __dbt_ended
    from {{ source }} where dbt_change_type in ('update', 'delete') group by 1
  ) as DBT_INTERNAL_SOURCE
    on DBT_INTERNAL_SOURCE.__dbt_id = DBT_INTERNAL_DEST.{{ names.dbt_scd_id }}
    and (DBT_INTERNAL_DEST.{{ names.dbt_valid_to }} is null{% if current %} or DBT_INTERNAL_DEST.{{ names.dbt_valid_to }} = {{ current }}{% endif %})
  union all
  select
  {%- for column in columns %}
    cast({{ column.quoted if column.name | lower in inserted else 'null' }} as {{ column.data_type }}){{ ',' if not loop.last }}
  {%- endfor %}
  from {{ source }} as DBT_INTERNAL_SOURCE
  where dbt_change_type = 'insert' and not exists (
    select 1 from {{ target.render() }} as DBT_INTERNAL_DEST
    where DBT_INTERNAL_DEST.{{ names.dbt_scd_id }} = DBT_INTERNAL_SOURCE.{{ names.dbt_scd_id }}
  )
{%- endmacro %}

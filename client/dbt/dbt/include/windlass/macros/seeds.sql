{# The rows of a seed come as texts in a temporary table, and replace those of the table in one statement. #}

{% macro windlass__reset_csv_table(model, full_refresh, old_relation, agate_table) -%}
  {% if full_refresh %}
    {% do adapter.drop_relation(old_relation) %}
    {{ return(create_csv_table(model, agate_table)) }}
  {% endif %}
  {{ return('') }}
{%- endmacro %}

{% macro windlass__load_csv_rows(model, agate_table) -%}
  {% set types = model['config'].get('column_types', {}) %}
  {% set sent = make_temp_relation(this) %}
  {% do adapter.load_seed(sent, agate_table) %}
  {% set sql -%}
    insert overwrite {{ this.render() }}
    select
    {%- for name in agate_table.column_names %}
      cast({{ adapter.quote(name) }} as {{ types.get(name, adapter.convert_type(agate_table, loop.index0)) }}){{ ',' if not loop.last }}
    {%- endfor %}
    from {{ sent }}
  {%- endset %}
  {% do run_query(sql) %}
  {% do run_query('drop table ' ~ sent) %}
  {{ return(sql) }}
{%- endmacro %}

{% materialization view, adapter='windlass' -%}
  {% set built = create_or_replace_view() %}
  {% do persist_docs(this.incorporate(type='view'), model) %}
  {{ return(built) }}
{%- endmaterialization %}

{% materialization table, adapter='windlass' -%}
  {% set target = this.incorporate(type='table') %}
  {% set existing = load_cached_relation(this) %}

  {{ run_hooks(pre_hooks) }}
  {% do windlass__build_table(target, existing, sql) %}
  {% do apply_grants(target, config.get('grants')) %}
  {% do persist_docs(target, model) %}
  {{ run_hooks(post_hooks) }}

  {{ return({'relations': [target]}) }}
{%- endmaterialization %}

{# Makes a table of a query, in one statement, in place of a table that is there. A view gives way when the new table is complete. #}
{% macro windlass__build_table(target, existing, sql) -%}
  {% if existing is none or existing.is_table %}
    {% call statement('main') -%}
      {{ get_create_table_as_sql(False, target, sql) }}
    {%- endcall %}
  {% else %}
    {% set intermediate = make_intermediate_relation(target) %}
    {% call statement('main') -%}
      {{ get_create_table_as_sql(False, intermediate, sql) }}
    {%- endcall %}
    {% do adapter.drop_relation(existing) %}
    {% do adapter.rename_relation(intermediate, target) %}
  {% endif %}
{%- endmacro %}

{% materialization incremental, adapter='windlass' -%}
  {% set target = this.incorporate(type='table') %}
  {% set existing = load_cached_relation(this) %}
  {% set on_schema_change = incremental_validate_on_schema_change(config.get('on_schema_change'), default='ignore') %}
  {% set strategy = adapter.get_incremental_strategy_macro(context, config.get('incremental_strategy') or 'default') %}

  {{ run_hooks(pre_hooks) }}

  {% if existing is none or existing.is_view or should_full_refresh() %}
    {% do windlass__build_table(target, existing, sql) %}
  {% else %}
    {% set temp = make_temp_relation(target) %}
    {% do run_query(get_create_table_as_sql(True, temp, sql)) %}
    {% set columns = process_schema_changes(on_schema_change, temp, existing) or adapter.get_columns_in_relation(existing) %}
    {% set predicates = config.get('predicates') or config.get('incremental_predicates') %}
    {% set build = strategy({
        'target_relation': target, 'temp_relation': temp, 'unique_key': config.get('unique_key'), 'dest_columns': columns,
        'incremental_predicates': predicates
    }) %}
    {% call statement('main') -%}
      {{ build }}
    {%- endcall %}
    {% do run_query('drop table ' ~ temp) %}
  {% endif %}

  {% do apply_grants(target, config.get('grants')) %}
  {% do persist_docs(target, model) %}
  {{ run_hooks(post_hooks) }}

  {{ return({'relations': [target]}) }}
{%- endmaterialization %}

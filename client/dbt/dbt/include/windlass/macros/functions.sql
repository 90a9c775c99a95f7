{# Functions that dbt writes for models, where Windlass has other words. #}

{% macro windlass__dateadd(datepart, interval, from_date_or_timestamp) -%}
  (cast({{ from_date_or_timestamp }} as timestamp) + interval '{{ '3 month' if datepart | lower == 'quarter' else '1 ' ~ datepart }}' * ({{ interval }}))
{%- endmacro %}

{# Counts how often a part begins between two times. Weeks begin on Sunday. #}
{% macro windlass__datediff(first_date, second_date, datepart) -%}
  {%- set part = datepart | lower -%}
  {%- set first, second = 'cast(' ~ first_date ~ ' as timestamp)', 'cast(' ~ second_date ~ ' as timestamp)' -%}
  {%- set seconds = {'week': 604800, 'day': 86400, 'hour': 3600, 'minute': 60, 'second': 1, 'millisecond': 0.001, 'microsecond': 0.000001} -%}
  {%- set months = {'year': 12, 'quarter': 3, 'month': 1} -%}
  {%- if part in months -%}
    ({{ windlass__months(second) }} / {{ months[part] }} - {{ windlass__months(first) }} / {{ months[part] }})
  {%- elif part in seconds -%}
    {#- The first of January 1970 was a Thursday. -#}
    {%- set shift = 345600 if part == 'week' else 0 -%}
    cast(floor((date_part('epoch', {{ second }}) + {{ shift }}) / {{ seconds[part] }})
      - floor((date_part('epoch', {{ first }}) + {{ shift }}) / {{ seconds[part] }}) as bigint)
  {%- else -%}
    {{ exceptions.raise_compiler_error("datediff does not know the part '" ~ datepart ~ "': use one of " ~ ((months.keys() | list) + (seconds.keys() | list)) | join(', ')) }}
  {%- endif -%}
{%- endmacro %}

{# Months since the beginning of year 0. #}
{% macro windlass__months(time) -%}
  (cast(date_part('year', {{ time }}) as bigint) * 12 + cast(date_part('month', {{ time }}) as bigint) - 1)
{%- endmacro %}

{% macro windlass__date(year, month, day) -%}
  {{ "cast('%04d-%02d-%02d' as date)" | format(year, month, day) }}
{%- endmacro %}

{% macro windlass__listagg(measure, delimiter_text, order_by_clause, limit_num) -%}
  {% if limit_num -%}
    array_to_string(array_slice(array_agg({{ measure }} {{ order_by_clause or '' }}), 1, {{ limit_num }}), {{ delimiter_text }})
  {%- else -%}
    string_agg({{ measure }}, {{ delimiter_text }} {{ order_by_clause or '' }})
  {%- endif %}
{%- endmacro %}

{% macro windlass__safe_cast(field, type) -%}
  try_cast({{ field }} as {{ type }})
{%- endmacro %}

{{ config(enabled=target.type == 'windlass', materialized='incremental', unique_key='day', incremental_strategy='merge') }}
select day, sum(amount) as amount from {{ ref('orders') }}
{% if is_incremental() %}
where day >= (select max(day) from {{ this }})
{% endif %}
group by day

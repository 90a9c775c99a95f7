{{ config(materialized='table') }}
select name, count(*) as orders, sum(amount) as amount from {{ ref('paid') }} group by name

{{ config(materialized='view') }}
select o.id, c.name, o.day, o.amount from {{ ref('orders') }} as o join {{ ref('customers') }} as c on c.id = o.customer

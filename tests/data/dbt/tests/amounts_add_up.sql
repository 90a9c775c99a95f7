select a.amount, b.amount as of_customers
from (select sum(amount) as amount from {{ ref('orders') }}) as a cross join (select sum(amount) as amount from {{ ref('by_customer') }}) as b
where a.amount <> b.amount

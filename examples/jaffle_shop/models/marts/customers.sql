select
    c.customer_id,
    c.customer_name,
    c.joined_on,
    min(o.ordered_at) as first_order_at,
    count(o.order_id) as orders,
    coalesce(sum(o.amount), 0) as lifetime_value
from {{ ref('stg_customers') }} as c
left join {{ ref('orders') }} as o on o.customer_id = c.customer_id and o.status <> 'cancelled'
group by c.customer_id, c.customer_name, c.joined_on

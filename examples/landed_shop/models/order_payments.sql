select orders.order_id, paid.amount
from {{ ref('orders') }} as orders
join {{ ref('paid') }} as paid using (order_id)

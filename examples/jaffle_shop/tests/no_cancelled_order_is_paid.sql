select order_id, amount
from {{ ref('orders') }}
where status = 'cancelled' and amount > 0

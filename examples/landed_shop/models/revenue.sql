select amount from {{ ref('order_payments') }}

{{ config(materialized='incremental', unique_key='order_id') }}

with paid as (
    select order_id, sum(amount) as amount
    from {{ ref('stg_payments') }}
    group by order_id
)

select
    o.order_id,
    o.customer_id,
    o.ordered_at,
    o.status,
    coalesce(paid.amount, 0) as amount,
    '{{ var("batch") }}' as batch
from {{ ref('stg_orders') }} as o
left join paid on paid.order_id = o.order_id
{% if is_incremental() %}
-- Orders change for some days after they were placed; older ones are left alone.
where o.ordered_at >= (select max(ordered_at) - interval 7 day from {{ this }})
{% endif %}

select schema_name as order_id from {{ source('landing', 'orders') }}

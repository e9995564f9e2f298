select schema_name as customer_id from {{ source('landing', 'customers') }}
